//! For how long an idle sandbox is worth its memory, from the pauses between the function's invocations so far.

use crate::ids::MonotonicMs;

/// Width of a bucket of the histogram: a minute.
const BUCKET_MS: u64 = 60_000;
/// Four hours of them. Longer pauses are counted as out of bounds.
const BUCKETS: usize = 240;
/// Share of pauses that may be shorter than the wait before warming, per cent.
const HEAD_PERCENT: u64 = 5;
/// Share of pauses that are to end while a sandbox is still kept, per cent.
const TAIL_PERCENT: u64 = 99;
/// Both ends are moved outwards by this, per cent.
const MARGIN_PERCENT: u64 = 10;
/// Pauses from which on a histogram may say something. Ours.
const SAMPLES_MIN: u64 = 10;
/// Counts are halved beyond this many, so that a function that changes its ways is believed soon. Ours.
const SAMPLES_MAX: u64 = 4_096;

/// What the pauses so far advise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// A sandbox is to be there so long after the last invocation, and not needed before; 0: at all times. Milliseconds.
    pub prewarm_ms: u64,
    /// How long an idle one is kept, from its last use or from its warming. Milliseconds.
    pub idle_ms: u64,
}

/// The pauses between the invocations of one function version on one worker. Constant in size: about 1 KB.
#[derive(Clone, Debug)]
pub struct Arrivals {
    last: Option<MonotonicMs>,
    buckets: Box<[u32; BUCKETS]>,
    /// Pauses counted in the buckets, and longer ones.
    counted: u64,
    out_of_bounds: u64,
    /// Sum of the squares of the buckets.
    squares: u64,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self {
            last: None,
            buckets: Box::new([0; BUCKETS]),
            counted: 0,
            out_of_bounds: 0,
            squares: 0,
        }
    }
}

impl Arrivals {
    /// An invocation came.
    pub fn on_arrival(&mut self, now: MonotonicMs) {
        let Some(last) = self.last.replace(now) else {
            return;
        };
        match bucket(now.since(last)) {
            Some(index) => {
                let count = &mut self.buckets[index];
                self.squares += 2 * u64::from(*count) + 1;
                *count += 1;
                self.counted += 1;
            }
            None => self.out_of_bounds += 1,
        }
        if self.counted + self.out_of_bounds > SAMPLES_MAX {
            self.halve();
        }
    }

    fn halve(&mut self) {
        (self.counted, self.squares) = (0, 0);
        for count in self.buckets.iter_mut() {
            *count /= 2;
            self.counted += u64::from(*count);
            self.squares += u64::from(*count) * u64::from(*count);
        }
        self.out_of_bounds /= 2;
    }

    /// Since when nothing came; `None` before the first invocation.
    pub fn quiet_ms(&self, now: MonotonicMs) -> Option<u64> {
        self.last.map(|last| now.since(last))
    }

    /// Whether the histogram says more than that pauses are of any length: enough of them, most of them within bounds,
    /// and the coefficient of variation of its buckets at least 2, as in the paper. A flat histogram has 0.
    fn is_representative(&self) -> bool {
        // cv >= 2  <=>  n * sum of squares / (sum)^2 - 1 >= 4
        let n = BUCKETS as u64;
        self.counted >= SAMPLES_MIN
            && self.out_of_bounds <= self.counted
            && n.saturating_mul(self.squares) >= 5 * self.counted.saturating_mul(self.counted)
    }

    /// The bucket in which so many per cent of all pauses have ended.
    fn percentile(&self, percent: u64) -> usize {
        let target = (self.counted * percent).div_ceil(100).max(1);
        let mut sum = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            sum += u64::from(*count);
            if sum >= target {
                return index;
            }
        }
        BUCKETS - 1
    }

    /// What to do with idle sandboxes; `fixed_ms` when the histogram does not say.
    pub fn keep_alive(&self, fixed_ms: u64) -> KeepAlive {
        if !self.is_representative() {
            return KeepAlive {
                prewarm_ms: 0,
                idle_ms: fixed_ms,
            };
        }
        let (head, tail) = (self.percentile(HEAD_PERCENT), self.percentile(TAIL_PERCENT));
        let edge = |index: usize| index as u64 * BUCKET_MS;
        let end = edge(tail + 1) * (100 + MARGIN_PERCENT) / 100;
        let begin = edge(head) * (100 - MARGIN_PERCENT) / 100;
        KeepAlive {
            // Warming again within the first bucket after the last use would stop what is about to be started.
            prewarm_ms: if begin > BUCKET_MS { begin } else { 0 },
            idle_ms: if begin > BUCKET_MS { end - begin } else { end },
        }
    }

    /// How long a sandbox is kept after its last use: to the end of the pauses, or, where the next invocation is far
    /// and one is warmed for it in time, for a bucket only.
    pub fn after_use_ms(&self, keep_alive: KeepAlive) -> u64 {
        if keep_alive.prewarm_ms > 0 {
            BUCKET_MS
        } else {
            keep_alive.idle_ms
        }
    }

    /// Probability that an invocation comes within `within_ms`, none having come for `quiet_ms`; per mille.
    pub fn reuse_per_mille(&self, quiet_ms: u64, within_ms: u64) -> u32 {
        let per_mille = |part: u64, of: u64| {
            u32::try_from((part * 1_000).checked_div(of).unwrap_or(0).min(1_000))
                .expect("at most a thousand")
        };
        // Without knowledge: what came lately comes again.
        let recency = per_mille(within_ms, within_ms.saturating_add(quiet_ms));
        if !self.is_representative() {
            return recency;
        }
        let Some(first) = bucket(quiet_ms) else {
            return per_mille(0, 1);
        };
        let last = bucket(quiet_ms.saturating_add(within_ms)).unwrap_or(BUCKETS - 1);
        let sum = |range: &[u32]| range.iter().map(|c| u64::from(*c)).sum::<u64>();
        let longer = sum(&self.buckets[first..]) + self.out_of_bounds;
        per_mille(sum(&self.buckets[first..=last]), longer)
    }
}

fn bucket(pause_ms: u64) -> Option<usize> {
    let index = usize::try_from(pause_ms / BUCKET_MS).ok()?;
    (index < BUCKETS).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: u64 = BUCKET_MS;
    const FIXED: u64 = 10 * MINUTE;

    fn after(pauses: impl IntoIterator<Item = u64>) -> Arrivals {
        let mut arrivals = Arrivals::default();
        let mut now = 5_000;
        arrivals.on_arrival(MonotonicMs(now));
        for pause in pauses {
            now += pause;
            arrivals.on_arrival(MonotonicMs(now));
        }
        arrivals
    }

    #[test]
    fn a_busy_function_is_kept_for_a_minute_or_so() {
        let arrivals = after(std::iter::repeat_n(100, 1_000));
        let keep_alive = arrivals.keep_alive(FIXED);
        assert_eq!(keep_alive.prewarm_ms, 0);
        assert_eq!(keep_alive.idle_ms, 66_000);
        assert_eq!(arrivals.after_use_ms(keep_alive), 66_000);
        assert_eq!(arrivals.reuse_per_mille(0, 1), 1_000);
        assert_eq!(arrivals.reuse_per_mille(10 * MINUTE, MINUTE), 0);
    }

    #[test]
    fn an_hourly_function_is_stopped_and_warmed_in_time() {
        let arrivals = after(std::iter::repeat_n(60 * MINUTE, 20));
        let keep_alive = arrivals.keep_alive(FIXED);
        assert_eq!(keep_alive.prewarm_ms, 54 * MINUTE);
        assert!(keep_alive.prewarm_ms + keep_alive.idle_ms > 61 * MINUTE);
        assert_eq!(arrivals.after_use_ms(keep_alive), MINUTE);
        assert_eq!(arrivals.reuse_per_mille(MINUTE, 5 * MINUTE), 0);
        assert_eq!(arrivals.reuse_per_mille(58 * MINUTE, 5 * MINUTE), 1_000);
    }

    #[test]
    fn what_says_nothing_falls_back_to_the_fixed_time() {
        let fixed = KeepAlive {
            prewarm_ms: 0,
            idle_ms: FIXED,
        };
        let few = after(std::iter::repeat_n(MINUTE, 5));
        assert_eq!(few.keep_alive(FIXED), fixed);
        let flat = after((0..BUCKETS as u64).map(|n| n * MINUTE));
        assert_eq!(flat.keep_alive(FIXED), fixed);
        let rare = after(std::iter::repeat_n(10 * 60 * MINUTE, 30));
        assert_eq!(rare.keep_alive(FIXED), fixed);
        assert_eq!(rare.reuse_per_mille(0, MINUTE), 1_000);
        assert_eq!(rare.reuse_per_mille(MINUTE, MINUTE), 500);
    }

    #[test]
    fn new_ways_are_believed_after_some_thousand_invocations() {
        let old = std::iter::repeat_n(30 * MINUTE, 4_000);
        let new = std::iter::repeat_n(1_000, 60_000);
        let arrivals = after(old.chain(new));
        assert!(arrivals.keep_alive(FIXED).idle_ms <= 2 * MINUTE);
    }

    proptest! {
        /// When it speaks, a sandbox that follows it serves nearly all the pauses it was learned from.
        #[test]
        fn advice_covers_the_pauses_it_was_learned_from(
            pauses in prop::collection::vec(0_u64..300 * MINUTE, 12..400),
        ) {
            let arrivals = after(pauses.iter().copied());
            prop_assert_eq!(
                arrivals.counted + arrivals.out_of_bounds, pauses.len() as u64
            );
            let squares: u64 = arrivals.buckets.iter().map(|c| u64::from(*c) * u64::from(*c)).sum();
            prop_assert_eq!(arrivals.squares, squares);
            if arrivals.is_representative() {
                let advice = arrivals.keep_alive(FIXED);
                let end = advice.prewarm_ms + advice.idle_ms;
                let within = pauses.iter().filter(|p| **p < BUCKETS as u64 * MINUTE);
                let (mut all, mut served) = (0, 0);
                for pause in within {
                    all += 1;
                    served += u64::from((advice.prewarm_ms..end).contains(pause));
                }
                prop_assert!(served * 100 >= all * (TAIL_PERCENT - HEAD_PERCENT) - 100, "{served} of {all}");
            }
            for quiet in [0, MINUTE, 100 * MINUTE, 1_000 * MINUTE] {
                let near = arrivals.reuse_per_mille(quiet, MINUTE);
                let far = arrivals.reuse_per_mille(quiet, 50 * MINUTE);
                prop_assert!(near <= far && far <= 1_000);
            }
        }
    }
}
