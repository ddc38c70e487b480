//! Rates: how many of something in how much time. One number of state and no clock, so that whoever enforces a rate
//! can keep it in an atomic and needs no lock. What is limited to which rate is in `limits` and in the users.
//!
//! The rule is the generic cell rate algorithm (ITU-T I.371), which is a token bucket turned around: instead of the
//! tokens left it keeps the *moment at which the bucket will be full again*. Taking one moves that moment on by one
//! interval; one may be taken as long as the moment stays within `burst` intervals from now.

/// Nanoseconds on some monotonic clock.
pub type Nanos = u64;

/// A rate with its burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Time after which one more may be taken, nanoseconds.
    interval: Nanos,
    /// How many may be taken at once after a pause.
    burst: u64,
}

/// Too fast; nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("over the rate; the next may be taken in {wait} ns")]
pub struct TooFast {
    /// Nanoseconds until as many as were asked for may be taken, if nobody takes any before.
    pub wait: Nanos,
}

impl Rate {
    /// `count` in `span_ms` milliseconds, all of which may be taken at once after a pause of that span.
    /// `None` when the count is 0: then there is no rate, and nothing may be taken.
    pub fn new(count: u64, span_ms: u64) -> Option<Self> {
        let span = span_ms.saturating_mul(1_000_000);
        (count > 0).then(|| Self {
            // A rate of more than one a nanosecond is as good as none.
            interval: (span / count).max(1),
            burst: count,
        })
    }

    fn span(&self) -> Nanos {
        self.interval.saturating_mul(self.burst)
    }

    /// Takes `n` at `now`; `full_at` is the state, 0 at first. The answer is the state after it.
    pub fn take(&self, full_at: Nanos, now: Nanos, n: u64) -> Result<Nanos, TooFast> {
        let after = self.charge_unbounded(full_at, now, n);
        let ahead = after.saturating_sub(now);
        if ahead <= self.span() {
            Ok(after)
        } else {
            let wait = ahead - self.span();
            Err(TooFast { wait })
        }
    }

    /// How many may be taken at `now`.
    pub fn available(&self, full_at: Nanos, now: Nanos) -> u64 {
        self.span().saturating_sub(full_at.saturating_sub(now)) / self.interval
    }

    /// Counts `n` that others took already. The debt is bounded by one burst: a wrong count is forgotten after two.
    pub fn charge(&self, full_at: Nanos, now: Nanos, n: u64) -> Nanos {
        let most = now.saturating_add(self.span().saturating_mul(2));
        // What is owed already stays owed.
        self.charge_unbounded(full_at, now, n)
            .min(most.max(full_at))
    }

    /// Gives back `n` that were taken and not used.
    pub fn refund(&self, full_at: Nanos, n: u64) -> Nanos {
        full_at.saturating_sub(self.interval.saturating_mul(n))
    }

    fn charge_unbounded(&self, full_at: Nanos, now: Nanos, n: u64) -> Nanos {
        full_at
            .max(now)
            .saturating_add(self.interval.saturating_mul(n))
    }
}

/// How many of an ever growing count are somebody else's. The whole is told now and then and a little late, the own
/// part is known at once, so the difference may seem to shrink: it never does, and what was counted is not counted again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// The count of others that was accounted for; `None` before the first report.
    counted: Option<u64>,
    /// The whole at the last report.
    whole: u64,
}

impl Others {
    /// A report came: `whole` of all, of which `own` are the reader's as far as it knows. Returns how many of others
    /// are new. The first report, and one of a count that began anew, only say where counting begins.
    pub fn on_report(&mut self, whole: u64, own: u64) -> u64 {
        let others = whole.saturating_sub(own);
        let began_anew = whole < self.whole;
        self.whole = whole;
        match self.counted {
            Some(counted) if !began_anew => {
                self.counted = Some(counted.max(others));
                others.saturating_sub(counted)
            }
            _ => {
                self.counted = Some(others);
                0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Nanos = 1_000_000_000;

    #[test]
    fn a_burst_then_the_rate() {
        let rate = Rate::new(10, 1_000).unwrap();
        let mut full_at = 0;
        for _ in 0..10 {
            full_at = rate.take(full_at, SECOND, 1).unwrap();
        }
        let refused = rate.take(full_at, SECOND, 1).unwrap_err();
        assert_eq!(refused.wait, SECOND / 10);
        assert_eq!(rate.available(full_at, SECOND), 0);
        let later = SECOND + refused.wait;
        assert_eq!(rate.available(full_at, later), 1);
        full_at = rate.take(full_at, later, 1).unwrap();
        assert!(rate.take(full_at, later, 1).is_err());
        full_at = rate.refund(full_at, 1);
        assert!(rate.take(full_at, later, 1).is_ok());
        assert_eq!(Rate::new(0, 1_000), None);
    }

    #[test]
    fn a_debt_is_bounded_by_one_burst() {
        let rate = Rate::new(10, 1_000).unwrap();
        let owed = rate.charge(0, SECOND, 1_000_000);
        assert!(rate.take(owed, 2 * SECOND, 1).is_err());
        assert!(rate.take(owed, 2 * SECOND + SECOND / 10, 1).is_ok());
    }

    #[test]
    fn a_count_that_lags_is_not_counted_twice() {
        let mut others = Others::default();
        assert_eq!(others.on_report(100, 0), 0, "what was before is not new");
        assert_eq!(others.on_report(110, 4), 6);
        assert_eq!(others.on_report(110, 9), 0, "own ones on their way");
        assert_eq!(others.on_report(121, 14), 1);
        assert_eq!(others.on_report(3, 20), 0, "the worker began anew");
        assert_eq!(others.on_report(25, 20), 5);
    }

    proptest! {
        /// Whatever the times: in no span is more taken than the burst and the rate times the span, and what is
        /// refused would have been too much.
        #[test]
        fn no_span_holds_more_than_burst_and_rate(
            count in 1_u64..50, span_ms in 1_u64..2_000,
            steps in prop::collection::vec((0_u64..200_000_000, 1_u64..4), 1..200),
        ) {
            let rate = Rate::new(count, span_ms).unwrap();
            let (mut full_at, mut now) = (0, SECOND);
            let mut taken: Vec<(Nanos, u64)> = Vec::new();
            for (pause, n) in steps {
                now += pause;
                let fits = rate.available(full_at, now) >= n;
                match rate.take(full_at, now, n) {
                    Ok(after) => {
                        prop_assert!(fits);
                        full_at = after;
                        taken.push((now, n));
                    }
                    Err(refused) => {
                        prop_assert!(!fits);
                        let later = now + refused.wait;
                        prop_assert!(n > count || rate.take(full_at, later, n).is_ok());
                    }
                }
            }
            for (i, (begin, _)) in taken.iter().enumerate() {
                let mut sum = 0;
                for (at, n) in &taken[i..] {
                    sum += n;
                    let allowed = count + (at - begin) / rate.interval + 1;
                    prop_assert!(sum <= allowed, "{sum} > {allowed}");
                }
            }
        }

        /// Several that share a rate by telling each other late: over a long time the rate holds.
        #[test]
        fn sharing_by_late_reports_keeps_the_rate_in_the_long_run(
            gateways in 2_usize..5, lag in 1_usize..40,
        ) {
            let rate = Rate::new(100, 1_000).unwrap();
            let step = 1_000_000;
            let seconds = 20;
            let mut full_at = vec![0; gateways];
            let mut own = vec![0_u64; gateways];
            let mut others = vec![Others::default(); gateways];
            let mut history: Vec<u64> = vec![0];
            for other in &mut others {
                other.on_report(0, 0);
            }
            for tick in 0..seconds * 1_000_usize {
                let now = SECOND + tick as u64 * step;
                for g in 0..gateways {
                    if let Ok(after) = rate.take(full_at[g], now, 1) {
                        full_at[g] = after;
                        own[g] += 1;
                    }
                }
                let whole = own.iter().sum::<u64>();
                history.push(whole);
                if tick % lag == 0 {
                    for g in 0..gateways {
                        let n = others[g].on_report(whole, own[g]);
                        full_at[g] = rate.charge(full_at[g], now, n);
                    }
                }
            }
            let whole = own.iter().sum::<u64>();
            let exact = 100 * seconds as u64;
            let burst = 100 * gateways as u64;
            prop_assert!(whole <= exact + burst, "{whole} of {exact}");
            prop_assert!(whole >= exact * 9 / 10, "{whole} of {exact}");
        }
    }
}
