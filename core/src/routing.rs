//! Which worker a gateway sends an invocation to. Where a new sandbox is started is in `placement`;
//! what follows a refusal is in `retry`.

use crate::ids::{MonotonicMs, NodeId};
use crate::standing::Standing;

/// What a gateway knows of a worker, for one function version. All of it may be a little old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub worker: NodeId,
    /// Warm idle sandboxes of the version, as reported, less those this gateway has sent to since.
    pub idle: u32,
    /// Invocations of any function this gateway has in flight there.
    pub in_flight_own: u32,
    /// Invocations in flight there in all, as reported.
    pub reported_load: u32,
    /// Free permits of the pool, as reported.
    pub permits_free: u32,
    /// It finishes and takes no more.
    pub draining: bool,
    /// How it keeps up.
    pub standing: Standing,
    /// When its last report came.
    pub last_heard: MonotonicMs,
}

impl Candidate {
    /// The report counts what this gateway had in flight when it was made, and not what came since; the
    /// larger of the two is the better guess and neither is counted twice.
    fn load(&self) -> u32 {
        self.reported_load.max(self.in_flight_own)
    }

    fn is_usable(&self, now: MonotonicMs, stale_after_ms: u64) -> bool {
        let is_trusted = match self.standing {
            Standing::Well => true,
            Standing::Probing => self.in_flight_own == 0,
            Standing::Ejected => false,
        };
        is_trusted
            && !self.draining
            && self.idle > 0
            && self.permits_free > 0
            && now.since(self.last_heard) < stale_after_ms
    }
}

/// The worker to send to, or `None` when no warm sandbox is known to be free.
///
/// With one or two candidates the better one. With more, the better of two drawn at random ("the power of
/// two choices", Mitzenmacher 1996): many gateways acting on the same old report then do not all pick the
/// one worker that looked best. `draws` are two uniform random numbers.
pub fn pick_warm(
    candidates: &[Candidate],
    now: MonotonicMs,
    stale_after_ms: u64,
    draws: [u64; 2],
) -> Option<NodeId> {
    let usable: Vec<&Candidate> = candidates
        .iter()
        .filter(|c| c.is_usable(now, stale_after_ms))
        .collect();
    let [first, second] = match usable.len() {
        0 => return None,
        1 => [0, 0],
        2 => [0, 1],
        n => two_of(n, draws),
    };
    let better = std::cmp::min_by_key(usable[first], usable[second], |c| {
        (c.load(), std::cmp::Reverse(c.idle), c.worker)
    });
    Some(better.worker)
}

/// Two different indices below `n`, which is at least 2.
fn two_of(n: usize, [first, second]: [u64; 2]) -> [usize; 2] {
    let index =
        |draw: u64, below: usize| usize::try_from(draw % below as u64).expect("less than a usize");
    let first = index(first, n);
    let second = index(second, n - 1);
    [first, second + usize::from(second >= first)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STALE_AFTER_MS: u64 = 3_000;

    fn candidate(id: u64, load: u32) -> Candidate {
        Candidate {
            worker: NodeId(id),
            idle: 1,
            in_flight_own: 0,
            reported_load: load,
            permits_free: 1,
            draining: false,
            standing: Standing::Well,
            last_heard: MonotonicMs(1_000),
        }
    }

    fn pick(candidates: &[Candidate], draws: [u64; 2]) -> Option<u64> {
        pick_warm(candidates, MonotonicMs(2_000), STALE_AFTER_MS, draws).map(|w| w.0)
    }

    #[test]
    fn unusable_workers_are_never_picked() {
        let good = candidate(9, 50);
        let table = [
            Candidate {
                idle: 0,
                ..candidate(1, 0)
            },
            Candidate {
                permits_free: 0,
                ..candidate(1, 0)
            },
            Candidate {
                draining: true,
                ..candidate(1, 0)
            },
            Candidate {
                standing: Standing::Ejected,
                ..candidate(1, 0)
            },
            Candidate {
                standing: Standing::Probing,
                in_flight_own: 1,
                ..candidate(1, 0)
            },
        ];
        for bad in table {
            assert_eq!(pick(&[bad], [0, 0]), None, "{bad:?}");
            assert_eq!(pick(&[bad, good], [0, 0]), Some(9), "{bad:?}");
        }
        let late = MonotonicMs(1_000 + STALE_AFTER_MS);
        assert_eq!(pick_warm(&[good], late, STALE_AFTER_MS, [0, 0]), None);
    }

    #[test]
    fn of_two_the_less_loaded_is_taken_whatever_the_draws() {
        let mut busy = candidate(1, 3);
        let idle = candidate(2, 1);
        for draws in [[0, 0], [1, 1], [u64::MAX, 5]] {
            assert_eq!(pick(&[busy, idle], draws), Some(2));
        }
        busy.reported_load = 0;
        busy.in_flight_own = 7;
        assert_eq!(pick(&[busy, idle], [0, 0]), Some(2), "own load counts too");
    }

    #[test]
    fn a_worker_that_is_probed_gets_one_at_a_time() {
        let probed = Candidate {
            standing: Standing::Probing,
            ..candidate(1, 0)
        };
        assert_eq!(pick(&[probed], [0, 0]), Some(1));
    }

    proptest! {
        #[test]
        fn two_draws_are_different_and_in_range(n in 2_usize..50, a: u64, b: u64) {
            let [first, second] = two_of(n, [a, b]);
            prop_assert!(first < n && second < n && first != second);
        }

        #[test]
        fn the_most_loaded_of_many_is_never_picked(
            loads in prop::collection::vec(0_u32..10, 3..20), a: u64, b: u64,
        ) {
            let mut candidates: Vec<Candidate> =
                (0..).zip(&loads).map(|(id, load)| candidate(id, *load)).collect();
            candidates.push(candidate(99, 1_000));
            prop_assert_ne!(pick(&candidates, [a, b]), Some(99));
        }
    }
}
