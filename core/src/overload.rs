//! When a waiting line is too long: what cannot be served in time is refused when it comes, not after it has waited.
//! The line itself is in `queue`; how fast sandboxes are added in `rate`.

use crate::ids::MonotonicMs;

/// Longest time that one who comes may expect to wait for sandboxes that are all at work. Ours: long enough that none of them
/// is ever without work, and what is left of it when a burst ends is gone within two seconds at 80 % of the capacity.
pub const WAIT_MAX_MS: u64 = 500;

/// Span over which the speed of service is measured, milliseconds.
const WINDOW_MS: u64 = 500;

/// How many were served lately: two windows, the one that runs and the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceRate {
    /// Number of the window that runs.
    window: u64,
    current: u64,
    previous: u64,
}

impl ServiceRate {
    fn turn(&mut self, now: MonotonicMs) {
        let window = now.0 / WINDOW_MS;
        if window != self.window {
            self.previous = if window == self.window + 1 {
                self.current
            } else {
                0
            };
            self.current = 0;
            self.window = window;
        }
    }

    /// One was served.
    pub fn on_served(&mut self, now: MonotonicMs) {
        self.turn(now);
        self.current += 1;
    }

    /// Served a second: the window before weighs as much as of it lies within the last `WINDOW_MS`.
    pub fn per_second(&mut self, now: MonotonicMs) -> u64 {
        self.turn(now);
        let into = now.0 % WINDOW_MS;
        let weighted = self.current * WINDOW_MS + self.previous * (WINDOW_MS - into);
        weighted * 1_000 / (WINDOW_MS * WINDOW_MS)
    }
}

/// How many may wait while no sandbox can be added: what is served within `wait_ms` at the measured speed, and at least
/// one for each sandbox at work or on its way, so that a slow function's next ones may wait for the ones before.
/// Never none: where the last sandbox was just lost, one must be able to ask for another.
pub fn may_wait(under_way: u32, served_per_second: u64, wait_ms: u64) -> usize {
    let in_time = served_per_second.saturating_mul(wait_ms) / 1_000;
    let most = in_time.max(u64::from(under_way)).max(1);
    usize::try_from(most).unwrap_or(usize::MAX)
}

/// How many may wait to be served within `left_ms`. Without a measured speed all may: nothing says that it is too late.
pub fn in_time(served_per_second: u64, left_ms: u64) -> usize {
    let most = match served_per_second {
        0 => u64::MAX,
        rate => rate.saturating_mul(left_ms) / 1_000,
    };
    usize::try_from(most).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_may_wait_table() {
        let table = [
            ("nothing known", 0, 0, 1),
            ("slow function: one behind each", 8, 0, 8),
            ("fast function: half a second of it", 8, 640, 320),
            ("more sandboxes than that", 400, 640, 400),
        ];
        for (name, under_way, rate, expected) in table {
            assert_eq!(may_wait(under_way, rate, WAIT_MAX_MS), expected, "{name}");
        }
    }

    #[test]
    fn what_is_too_late_does_not_wait() {
        assert_eq!(in_time(100, 50), 5);
        assert_eq!(in_time(100, 0), 0);
        assert_eq!(in_time(0, 0), usize::MAX, "nothing is known");
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let mut rate = ServiceRate::default();
        for _ in 0..100 {
            rate.on_served(MonotonicMs(10_100));
        }
        assert!(rate.per_second(MonotonicMs(10_400)) >= 200);
        assert_eq!(rate.per_second(MonotonicMs(10_750)), 100);
        assert_eq!(rate.per_second(MonotonicMs(11_000)), 0);
        assert_eq!(rate.per_second(MonotonicMs(99_000)), 0);
    }

    proptest! {
        #[test]
        fn a_steady_stream_is_measured_as_what_it_is(every in 1_u64..100, for_ms in 1_000_u64..3_000) {
            let mut rate = ServiceRate::default();
            let mut at = 5_000;
            while at < 5_000 + for_ms {
                rate.on_served(MonotonicMs(at));
                at += every;
            }
            let measured = rate.per_second(MonotonicMs(5_000 + for_ms));
            let exact = 1_000 / every;
            // One window holds one more or less.
            let off = exact / 5 + 1_000 / WINDOW_MS + 2;
            prop_assert!(measured.abs_diff(exact) <= off, "{} for {}", measured, exact);
        }
    }
}
