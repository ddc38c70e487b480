//! In every controller's copy of the state, the grants of a pool sum to at most its limit; above a limit that was lowered
//! they only fall. The same holds of a pool and those carved out of it (provisioned concurrency) taken together.
//!
//! A controller that catches up applies many entries between two looks, in which a limit may have been raised, used and
//! lowered to what it was. So of many entries the highest limit counts that any controller had on the way.

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

/// Limits of pools as any replica had them, by what it had applied.
#[derive(Clone, Debug, Default)]
pub struct Limits(BTreeMap<String, BTreeMap<u64, u64>>);

impl Limits {
    fn note(&mut self, pool: &str, applied: u64, limit: u64) {
        let of_pool = self.0.entry(pool.to_owned()).or_default();
        of_pool.insert(applied, limit);
    }

    /// The highest from the first entry to the second, both included.
    fn highest(&self, pool: &str, from: u64, to: u64) -> u64 {
        let known = self.0.get(pool).into_iter();
        let limits = known.flat_map(|of_pool| of_pool.range(from..=to));
        limits.map(|(_, limit)| *limit).max().unwrap_or(0)
    }
}

/// Looks at a replica that has applied more.
pub fn on_applied(
    seen: &mut Seen,
    replica: &str,
    applied: u64,
    pools: &[Pool],
    last: &mut Last,
    limits: &mut Limits,
    at_ms: u64,
) {
    let from = last.applied;
    let is_next = from + 1 == applied;
    last.applied = applied;
    for (name, sum, limit) in pools {
        limits.note(name, applied, *limit);
        let Some((before, _)) = last.pools.insert(name.clone(), (*sum, *limit)) else {
            continue;
        };
        let allowed = if is_next {
            *limit
        } else {
            limits.highest(name, from, applied)
        };
        if *sum > before && *sum > allowed {
            let detail = format!(
                "{name} in {replica}: {sum} granted of {allowed}, was {before}, entries {from} to {applied}"
            );
            seen.violate("grants never exceed limits in any replica", at_ms, &detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Looks {
        seen: Seen,
        replicas: BTreeMap<&'static str, Last>,
        limits: Limits,
    }

    impl Looks {
        /// Number of broken promises after this look.
        fn at(&mut self, replica: &'static str, applied: u64, sum: u64, limit: u64) -> usize {
            let pool = [("p".to_owned(), sum, limit)];
            let last = self.replicas.entry(replica).or_default();
            let limits = &mut self.limits;
            on_applied(&mut self.seen, replica, applied, &pool, last, limits, 0);
            self.seen.violations.len()
        }
    }

    #[test]
    fn a_sum_above_a_lowered_limit_may_only_fall() {
        let mut looks = Looks::default();
        for (index, (sum, limit)) in (1..).zip([(5, 5), (5, 2), (3, 2)]) {
            assert_eq!(looks.at("c1", index, sum, limit), 0);
        }
        assert_eq!(looks.at("c1", 4, 4, 2), 1);
    }

    #[test]
    fn of_many_entries_the_highest_limit_on_the_way_counts() {
        let mut looks = Looks::default();
        looks.at("c1", 10, 1, 1);
        for (applied, sum, limit) in [(10, 1, 1), (11, 1, 3), (12, 2, 3), (13, 2, 1)] {
            assert_eq!(looks.at("c2", applied, sum, limit), 0);
        }
        assert_eq!(looks.at("c1", 13, 2, 1), 0, "raised, used and lowered");
        assert_eq!(looks.at("c1", 15, 3, 1), 1, "not raised on the way");
    }
}
