//! Which controller a gateway asks, and when it asks another besides. A controller that was stopped or cut off answers
//! nothing, and nothing says so at once: the next is asked after a moment, and the silent one last from then on.

use crate::ids::MonotonicMs;

/// A controller that has not answered for so long is joined by the next. Several times what a commit takes on a slow disk.
pub const HEDGE_AFTER_MS: u64 = 300;

/// Controllers asked at a time, so that slow ones are not flooded.
pub const ASKED_MAX: usize = 3;

/// A controller that did not answer is asked last for so long.
const AVOIDED_MS: u64 = 5_000;

/// What is known of one controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// It did not answer then, and has not answered since.
    pub failed_at: Option<MonotonicMs>,
}

/// The order in which controllers are asked: the preferred first, those that lately did not answer last.
pub fn order(known: &[Known], preferred: usize, now: MonotonicMs) -> Vec<usize> {
    let count = known.len();
    let mut order: Vec<usize> = (0..count).map(|turn| (preferred + turn) % count).collect();
    order.sort_by_key(|index| {
        known[*index]
            .failed_at
            .is_some_and(|at| now.since(at) < AVOIDED_MS)
    });
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_ones_are_asked_last_for_a_while() {
        let failed = |at| Known {
            failed_at: Some(MonotonicMs(at)),
        };
        let known = [Known::default(), failed(1_000), Known::default()];
        let at = |now| order(&known, 1, MonotonicMs(now));
        assert_eq!(at(1_001), [2, 0, 1]);
        assert_eq!(at(1_000 + AVOIDED_MS), [1, 2, 0]);
        assert_eq!(order(&[failed(5), failed(5)], 1, MonotonicMs(6)), [1, 0]);
        assert_eq!(order(&[], 0, MonotonicMs(0)), [0_usize; 0]);
    }
}
