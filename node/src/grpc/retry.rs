//! Bounded retry: a pure schedule, and a loop that follows it.
//!
//! Not here: whether a call may be repeated, which its owner knows.

use std::future::Future;
use std::time::Duration;

use crate::random::Random;

/// Exponential growth from `first` up to `limit`, at most `attempts` calls in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Longest pause after the first failure.
    pub first: Duration,
    /// Longest pause ever.
    pub limit: Duration,
    /// Calls in all, the first included.
    pub attempts: u32,
}

impl Backoff {
    /// The pause after the `failed`-th failure (counted from 1), none when it was the last attempt. `jitter` is any
    /// random number and picks from the upper half of the interval, so that clients do not return in step.
    pub fn delay(&self, failed: u32, jitter: u64) -> Option<Duration> {
        if failed >= self.attempts {
            return None;
        }
        let doublings = failed.saturating_sub(1).min(31);
        let longest = self.first.saturating_mul(1 << doublings).min(self.limit);
        let half = longest / 2;
        let half_us = u64::try_from(half.as_micros()).unwrap_or(u64::MAX - 1);
        Some(longest - half + Duration::from_micros(jitter % (half_us + 1)))
    }
}

/// Repeats `call` as long as it fails with an error `may_retry` admits and the schedule has attempts left.
pub async fn retry<T, E, F>(
    backoff: &Backoff,
    random: &dyn Random,
    may_retry: impl Fn(&E) -> bool,
    mut call: impl FnMut() -> F,
) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let mut failed = 0;
    loop {
        let error = match call().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        failed += 1;
        match backoff.delay(failed, random.u64()) {
            Some(delay) if may_retry(&error) => tokio::time::sleep(delay).await,
            _ => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SeededRandom;

    const BACKOFF: Backoff = Backoff {
        first: Duration::from_millis(100),
        limit: Duration::from_secs(1),
        attempts: 8,
    };

    #[test]
    fn delays_double_to_the_limit_and_end() {
        let longest: Vec<_> = (1..8)
            .map(|failed| BACKOFF.delay(failed, 0).unwrap().as_millis())
            .collect();
        assert_eq!(longest, [50, 100, 200, 400, 500, 500, 500]);
        assert_eq!(BACKOFF.delay(8, 0), None);
    }

    #[test]
    fn jitter_stays_in_the_upper_half() {
        for jitter in [0, 1, 49_999, 50_000, 50_001, u64::MAX] {
            let delay = BACKOFF.delay(1, jitter).unwrap();
            assert!((50..=100).contains(&delay.as_millis()), "{delay:?}");
        }
        let huge = Backoff {
            first: Duration::MAX,
            limit: Duration::MAX,
            attempts: u32::MAX,
        };
        assert!(huge.delay(u32::MAX - 1, u64::MAX).is_some());
    }

    #[tokio::test]
    async fn retry_ends_at_success_at_the_limit_and_at_a_final_error() {
        let backoff = Backoff {
            first: Duration::ZERO,
            limit: Duration::ZERO,
            attempts: 3,
        };
        let random = SeededRandom::new(1);
        for (answers, wanted, calls) in [
            (vec![Err("again"), Ok(1)], Ok(1), 2),
            (vec![Err("again"); 5], Err("again"), 3),
            (vec![Err("final"), Ok(1)], Err("final"), 1),
        ] {
            let mut made = 0;
            let answer = retry(
                &backoff,
                &random,
                |error| *error == "again",
                || {
                    made += 1;
                    let answer: Result<i32, &str> = answers[made - 1];
                    async move { answer }
                },
            )
            .await;
            assert_eq!((answer, made), (wanted, calls));
        }
    }
}
