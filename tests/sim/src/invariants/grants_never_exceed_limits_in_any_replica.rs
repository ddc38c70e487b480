//! In every controller's copy of the state, the grants of a pool sum to at most its limit; above a limit that was lowered
//! they only fall.

use std::collections::BTreeMap;

use crate::ledger::Seen;

/// One replica at its last look: what it had applied, and of each pool the sum and the limit. Empty after its restart.
#[derive(Clone, Debug, Default)]
pub struct Last {
    applied: u64,
    pools: BTreeMap<String, (u64, u64)>,
}

/// A pool in a replica: its name, the sum of its grants, its limit.
pub type Pool = (String, u64, u64);

/// Looks at a replica that has applied more.
pub fn on_applied(
    seen: &mut Seen,
    replica: &str,
    applied: u64,
    pools: &[Pool],
    last: &mut Last,
    at_ms: u64,
) {
    let is_next = last.applied + 1 == applied;
    last.applied = applied;
    for (name, sum, limit) in pools {
        let before = last.pools.insert(name.clone(), (*sum, *limit));
        // Of many entries at once, a limit may have been raised, used and lowered.
        let rose = before.is_some_and(|(s, l)| *sum > s && (is_next || l == *limit));
        if sum > limit && rose {
            let detail = format!("{name} in {replica}: {sum} granted of {limit}, was {before:?}");
            seen.violate("grants never exceed limits in any replica", at_ms, &detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_above_a_lowered_limit_may_only_fall() {
        let mut seen = Seen::default();
        let mut last = Last::default();
        let pool = |sum, limit| [("p".to_owned(), sum, limit)];
        for (index, (sum, limit)) in (1..).zip([(5, 5), (5, 2), (3, 2)]) {
            on_applied(&mut seen, "c1", index, &pool(sum, limit), &mut last, 0);
        }
        assert!(seen.violations.is_empty());
        on_applied(&mut seen, "c1", 4, &pool(4, 2), &mut last, 0);
        assert_eq!(seen.violations.len(), 1);
    }
}
