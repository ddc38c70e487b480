//! The one place where Hearth reads a clock. Rules take times as arguments; IO code asks a [`Clock`].
//!
//! Not here: timers (tokio's), and formatting of dates.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// A source of time, shared by everything of one node.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Wall clock: milliseconds since 1970-01-01T00:00:00Z. May jump either way.
    fn unix_ms(&self) -> u64;

    /// Milliseconds since some fixed moment; never goes back and goes on while the machine sleeps
    /// (CLOCK_BOOTTIME), so that a lease cannot outlive a suspended laptop.
    fn monotonic_ms(&self) -> u64;

    /// The same in microseconds, for durations that are reported to users.
    fn monotonic_us(&self) -> u64 {
        self.monotonic_ms() * 1000
    }
}

/// How a clock is passed around.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl SystemClock {
    /// A clock ready to be shared.
    pub fn shared() -> SharedClock {
        Arc::new(Self)
    }
}

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock the others are told to use"
    )]
    fn unix_ms(&self) -> u64 {
        // A machine set to before 1970 reads as 1970.
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn monotonic_ms(&self) -> u64 {
        self.monotonic_us() / 1000
    }

    fn monotonic_us(&self) -> u64 {
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME)
            .expect("CLOCK_BOOTTIME exists since Linux 2.6.39");
        let seconds = u64::try_from(now.tv_sec()).unwrap_or(0);
        let nanoseconds = u64::try_from(now.tv_nsec()).unwrap_or(0);
        seconds * 1_000_000 + nanoseconds / 1000
    }
}

/// A clock that moves only when told: for tests.
#[derive(Debug)]
pub struct ManualClock {
    unix_ms: AtomicU64,
    monotonic_ms: AtomicU64,
}

impl ManualClock {
    /// Starts at the given wall time, with the monotonic clock at 0.
    pub fn new(unix_ms: u64) -> Self {
        Self {
            unix_ms: AtomicU64::new(unix_ms),
            monotonic_ms: AtomicU64::new(0),
        }
    }

    /// Moves both clocks forward.
    pub fn advance_ms(&self, ms: u64) {
        self.unix_ms.fetch_add(ms, Ordering::SeqCst);
        self.monotonic_ms.fetch_add(ms, Ordering::SeqCst);
    }

    /// Sets the wall clock alone, as an operator or NTP would.
    pub fn set_unix_ms(&self, unix_ms: u64) {
        self.unix_ms.store(unix_ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn unix_ms(&self) -> u64 {
        self.unix_ms.load(Ordering::SeqCst)
    }

    fn monotonic_ms(&self) -> u64 {
        self.monotonic_ms.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_clock_is_after_2020_and_never_goes_back() {
        let clock = SystemClock;
        assert!(clock.unix_ms() > 1_577_836_800_000);
        let first = clock.monotonic_ms();
        assert!(clock.monotonic_ms() >= first);
    }

    #[test]
    fn manual_clock_moves_only_when_told() {
        let clock = ManualClock::new(1000);
        clock.advance_ms(5);
        assert_eq!((clock.unix_ms(), clock.monotonic_ms()), (1005, 5));
        clock.set_unix_ms(1);
        assert_eq!((clock.unix_ms(), clock.monotonic_ms()), (1, 5));
    }
}
