//! A host's clocks: simulated time, at a rate of the host's own, and a wall clock that is off and may be set.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use hearth_node::clock::Clock;

/// The wall clock at the begin of a run: some day in 2030.
const BEGIN_UNIX_MS: i64 = 1_900_000_000_000;
/// What a monotonic clock says at the begin; not 0, so that subtraction is tested.
const BEGIN_MONOTONIC_US: u64 = 1_000_000_000;

/// The clocks of one host; they go on while its process is down.
#[derive(Debug)]
pub(crate) struct SimClock {
    /// How much faster the host's clock runs, parts per thousand; negative for slower.
    drift_per_mille: i64,
    /// How far the wall clock is off.
    skew_ms: AtomicI64,
}

impl SimClock {
    pub(crate) fn new(drift_per_mille: i64, skew_ms: i64) -> Arc<Self> {
        Arc::new(Self {
            drift_per_mille,
            skew_ms: AtomicI64::new(skew_ms),
        })
    }

    /// Sets the wall clock, as an operator or NTP would.
    pub(crate) fn step_ms(&self, by: i64) {
        self.skew_ms.fetch_add(by, Ordering::Relaxed);
    }

    fn elapsed_us(&self) -> u64 {
        let elapsed = turmoil::sim_elapsed().unwrap_or_default();
        let us = i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX);
        u64::try_from(us + us / 1_000 * self.drift_per_mille).unwrap_or(0)
    }
}

impl Clock for SimClock {
    fn unix_ms(&self) -> u64 {
        let elapsed = i64::try_from(self.elapsed_us() / 1_000).unwrap_or(i64::MAX);
        let now = BEGIN_UNIX_MS + elapsed + self.skew_ms.load(Ordering::Relaxed);
        u64::try_from(now).unwrap_or(0)
    }

    fn monotonic_ms(&self) -> u64 {
        self.monotonic_us() / 1_000
    }

    fn monotonic_us(&self) -> u64 {
        BEGIN_MONOTONIC_US + self.elapsed_us()
    }
}
