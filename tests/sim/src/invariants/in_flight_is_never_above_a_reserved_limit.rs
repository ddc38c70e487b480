//! The events of a function with reserved concurrency that are in sandboxes, counted at each that enters, are never more
//! than its limit, whatever fails. A limit that was lowered counts once the permits above it can have drained: permits
//! that a silent worker holds are taken back only after its lease, the margin and the function's timeout.

use crate::ledger::{Key, Seen, Written};

/// How long permits above a lowered limit may go on being used, milliseconds: lease, margin, timeout, an election, and
/// time for the messages, with the clocks' drift.
pub const DRAIN_MS: u64 = 15_000;

/// The highest limit that may be in force.
fn highest(limits: &[Written], now_ms: u64) -> Option<u64> {
    // All that was written after the last limit that surely was in force long enough, and that one.
    let drained = |w: &Written| w.acked_ms.is_some_and(|at| at + DRAIN_MS < now_ms);
    let from = limits.iter().rposition(drained).unwrap_or(0);
    // One sent before it and never answered may have been carried out after it.
    let open = limits[..from].iter().filter(|w| w.acked_ms.is_none());
    let possible = limits[from..].iter().chain(open);
    possible.map(|w| w.value).max()
}

/// An event of the function has entered a sandbox.
pub fn on_enter(seen: &mut Seen, key: &Key, at_ms: u64) {
    let limits = seen.limits.get(key).map_or(&[][..], Vec::as_slice);
    let Some(limit) = highest(limits, at_ms) else {
        return;
    };
    let count = seen.count(key);
    if u64::try_from(count).unwrap_or(u64::MAX) > limit {
        let where_ = seen.running.values().filter(|r| r.function == *key);
        let where_: Vec<_> = where_
            .map(|r| format!("{}@{}", r.sandbox, r.since_ms))
            .collect();
        let detail = format!("{key:?} has {count} of {limit}: {}", where_.join(" "));
        seen.violate("in flight is never above a reserved limit", at_ms, &detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: u64, began_ms: u64, acked_ms: Option<u64>) -> Written {
        Written {
            value,
            also: None,
            began_ms,
            acked_ms,
        }
    }

    #[test]
    fn a_lowered_limit_counts_when_permits_have_drained() {
        let limits = [written(5, 0, Some(0)), written(2, 1_000, Some(1_100))];
        assert_eq!(highest(&limits, 1_200), Some(5));
        assert_eq!(highest(&limits, 1_101 + DRAIN_MS), Some(2));
        assert_eq!(highest(&[], 5), None);
    }

    #[test]
    fn a_write_of_unknown_outcome_may_be_in_force() {
        let limits = [
            written(1, 0, Some(0)),
            written(9, 10, None),
            written(2, 20, Some(30)),
        ];
        assert_eq!(highest(&limits, 100 * DRAIN_MS), Some(9));
    }
}
