//! How many sandboxes are wanted, from how many were at work at once lately.

use crate::ids::MonotonicMs;

/// Span over which concurrency is averaged in calm times, seconds (Knative's stable window).
const STABLE_S: u64 = 60;
/// Span over which a rush shows, seconds (a tenth of the stable window).
const PANIC_S: u64 = 6;
/// A rush: so many times as many are wanted as there are (Knative's 200 %).
const PANIC_FACTOR: u32 = 2;

/// One number a second for a minute: the most that were at work at once in that second.
///
/// ```text
///   stable = average of the last 60 s          panic = average of the last 6 s
///   a rush begins when panic >= 2 x sandboxes, and ends 60 s after the last moment at which that held
///   wanted = stable; in a rush the most that was wanted since it began, so that it never shrinks
/// ```
#[derive(Clone, Debug)]
pub struct Concurrency {
    /// The second that runs, and since which one there are numbers.
    second: u64,
    since: Option<u64>,
    peaks: [u32; 60],
    /// The second in which the rush held last, and the most wanted in it.
    rush: Option<(u64, u32)>,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self {
            second: 0,
            since: None,
            peaks: [0; 60],
            rush: None,
        }
    }
}

impl Concurrency {
    fn slot(second: u64) -> usize {
        usize::try_from(second % STABLE_S).expect("less than 60")
    }

    /// So many are at work now. Call it when the number grows, and once a second.
    pub fn on_busy(&mut self, busy: u32, now: MonotonicMs) {
        let second = now.0 / 1_000;
        if self.since.is_none() {
            self.since = Some(second);
            self.second = second;
        }
        // At most a whole turn: what is older is overwritten anyway.
        let first = (self.second + 1).max(second.saturating_sub(STABLE_S - 1));
        for passed in first..=second {
            self.peaks[Self::slot(passed)] = 0;
        }
        self.second = self.second.max(second);
        let peak = &mut self.peaks[Self::slot(second)];
        *peak = (*peak).max(busy);
    }

    /// Average of the last `span` seconds, rounded up.
    fn average(&self, span: u64) -> u32 {
        let Some(since) = self.since else { return 0 };
        let first = (self.second + 1).saturating_sub(span).max(since);
        let seconds = self.second + 1 - first;
        let sum: u64 = (first..=self.second)
            .map(|s| u64::from(self.peaks[Self::slot(s)]))
            .sum();
        u32::try_from(sum.div_ceil(seconds.max(1))).unwrap_or(u32::MAX)
    }

    /// Sandboxes wanted, there being `have`. Call it once a second, after [`Self::on_busy`].
    pub fn wanted(&mut self, have: u32) -> u32 {
        let (stable, panic) = (self.average(STABLE_S), self.average(PANIC_S));
        let most = stable.max(panic);
        let is_rush = panic > 0 && panic >= have.saturating_mul(PANIC_FACTOR);
        match &mut self.rush {
            Some((since, high)) => {
                *high = (*high).max(most);
                if is_rush {
                    *since = self.second;
                }
                let (since, high) = (*since, *high);
                if self.second.saturating_sub(since) < STABLE_S {
                    return high;
                }
                self.rush = None;
                stable
            }
            None if is_rush => {
                self.rush = Some((self.second, most));
                most
            }
            None => stable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: u64) -> MonotonicMs {
        MonotonicMs(second * 1_000)
    }

    /// Feeds one second's peak and asks.
    fn tick(windows: &mut Concurrency, second: u64, busy: u32, have: u32) -> u32 {
        windows.on_busy(busy, at(second));
        windows.wanted(have)
    }

    #[test]
    fn calm_load_wants_its_average_and_silence_nothing() {
        let mut windows = Concurrency::default();
        assert_eq!(windows.wanted(0), 0);
        for second in 100..200 {
            assert_eq!(tick(&mut windows, second, 4, 8), 4);
        }
        assert_eq!(tick(&mut windows, 229, 0, 8), 2, "half of the minute");
        assert_eq!(tick(&mut windows, 300, 0, 8), 0);
    }

    #[test]
    fn a_rush_is_seen_in_seconds_and_not_forgotten_for_a_minute() {
        let mut windows = Concurrency::default();
        for second in 0..60 {
            tick(&mut windows, second, 1, 2);
        }
        for second in 60..66 {
            tick(&mut windows, second, 40, 2);
        }
        assert_eq!(windows.wanted(40), 40, "six seconds are enough");
        for second in 66..125 {
            assert_eq!(tick(&mut windows, second, 1, 40), 40, "second {second}");
        }
        assert!(tick(&mut windows, 130, 1, 40) < 10, "calm again");
    }

    proptest! {
        /// Never more than the highest peak of the last two minutes, never less than the average of the last minute.
        #[test]
        fn wanted_is_between_the_average_and_the_peak(
            peaks in prop::collection::vec(0_u32..200, 1..300), have in 0_u32..100,
        ) {
            let mut windows = Concurrency::default();
            for (second, peak) in (1_000_u64..).zip(&peaks) {
                let wanted = tick(&mut windows, second, *peak, have);
                let n = usize::try_from(second - 1_000).unwrap() + 1;
                let last = &peaks[n.saturating_sub(60)..n];
                let average = last.iter().sum::<u32>() / u32::try_from(last.len()).unwrap();
                let peak = *peaks[..n].iter().max().unwrap();
                prop_assert!(wanted >= average && wanted <= peak, "{wanted} of {last:?}");
            }
        }

        /// Within a rush it never shrinks.
        #[test]
        fn a_rush_never_shrinks(peaks in prop::collection::vec(0_u32..200, 1..58)) {
            let mut windows = Concurrency::default();
            let mut before = tick(&mut windows, 0, 500, 1);
            for (second, peak) in (1_u64..).zip(peaks) {
                let wanted = tick(&mut windows, second, peak, 1_000);
                prop_assert!(wanted >= before);
                before = wanted;
            }
        }
    }
}
