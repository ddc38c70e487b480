//! When everything has healed and nothing runs, the whole of every reserved limit can be used at once: no permit is lost
//! in a crash, with a worker that left, or between two messages.

use crate::ledger::{Key, Seen};

/// Looks at the peak that was reached while more was offered than the limit.
pub fn check(seen: &mut Seen, key: &Key, limit: u64, at_ms: u64) {
    let peak = seen.peaks.get(key).copied().unwrap_or(0);
    if u64::try_from(peak).unwrap_or(u64::MAX) < limit {
        let detail = format!("{key:?} used {peak} of {limit}");
        seen.violate("no permit is leaked", at_ms, &detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_than_the_limit_is_told() {
        let mut seen = Seen::default();
        let key = ("a".to_owned(), "f".to_owned());
        seen.peaks.insert(key.clone(), 3);
        check(&mut seen, &key, 3, 0);
        assert!(seen.violations.is_empty());
        check(&mut seen, &key, 4, 0);
        assert_eq!(seen.violations.len(), 1);
    }
}
