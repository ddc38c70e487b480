//! Two controllers that have applied the log up to the same entry hold the same state.

use std::collections::BTreeMap;

use crate::ledger::Seen;

/// What a state was when the log had been applied up to an index: its hash, and who said so first.
pub type ByIndex = BTreeMap<u64, (u64, String)>;

/// Looks at a replica that has applied more.
pub fn on_applied(
    seen: &mut Seen,
    replica: &str,
    applied: u64,
    hash: u64,
    known: &mut ByIndex,
    at_ms: u64,
) {
    let (first, by) = known
        .entry(applied)
        .or_insert_with(|| (hash, replica.to_owned()));
    if *first != hash {
        let detail = format!("{replica} and {by} differ at entry {applied}");
        seen.violate("replicas of the same log are equal", at_ms, &detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_told() {
        let mut seen = Seen::default();
        let mut known = ByIndex::new();
        on_applied(&mut seen, "c1", 5, 1, &mut known, 0);
        on_applied(&mut seen, "c2", 5, 1, &mut known, 0);
        on_applied(&mut seen, "c2", 6, 2, &mut known, 0);
        assert!(seen.violations.is_empty());
        on_applied(&mut seen, "c1", 6, 3, &mut known, 0);
        assert_eq!(seen.violations.len(), 1);
    }
}
