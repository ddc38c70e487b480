//! An account's unreserved events in sandboxes of workers that are heard are never more than its unreserved limit. A
//! worker that is cut off goes on with its share (static stability), which the others may be given meanwhile; so a worker
//! that was cut off lately is left out of the count.

use std::collections::BTreeSet;

use crate::ledger::{Key, Seen};

/// Counts one account. `reserved` are its functions with a pool of their own; `silent` are workers cut off lately.
pub fn check(
    seen: &mut Seen,
    account: &str,
    reserved: &BTreeSet<Key>,
    silent: &BTreeSet<String>,
    unreserved_limit: usize,
    at_ms: u64,
) {
    let count = seen
        .running
        .values()
        .filter(|r| r.function.0 == account)
        .filter(|r| !reserved.contains(&r.function) && !silent.contains(&r.worker))
        .count();
    if count > unreserved_limit {
        let detail = format!("{account} has {count} of {unreserved_limit}, silent: {silent:?}");
        let promise =
            "in flight is never above the account limit by more than silent workers' share";
        seen.violate(promise, at_ms, &detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Running;

    #[test]
    fn only_workers_that_are_heard_count() {
        let mut seen = Seen::default();
        for (worker, n) in [("w1", 3), ("w2", 2)] {
            for i in 0..n {
                seen.enter(Running {
                    worker: worker.into(),
                    sandbox: format!("{worker}/{i}"),
                    function: ("a".into(), "u".into()),
                    since_ms: 0,
                });
            }
        }
        let silent = BTreeSet::from(["w2".to_owned()]);
        check(&mut seen, "a", &BTreeSet::new(), &silent, 3, 0);
        assert!(seen.violations.is_empty());
        check(&mut seen, "a", &BTreeSet::new(), &BTreeSet::new(), 4, 0);
        assert_eq!(seen.violations.len(), 1);
    }
}
