//! "No event of one account enters another's sandbox", nor one of another function of the same account.

use crate::ledger::{Key, Seen};

/// An event meant for one function is about to enter a sandbox made for another, or the same.
pub fn on_enter(seen: &mut Seen, sandbox_of: &Key, meant_for: &Key, at_ms: u64) {
    if sandbox_of != meant_for {
        let detail = format!("an event for {meant_for:?} in a sandbox of {sandbox_of:?}");
        seen.violate(
            "no event enters a sandbox of another account or function",
            at_ms,
            &detail,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_account_is_told() {
        let mut seen = Seen::default();
        let key = |account: &str| (account.to_owned(), "f".to_owned());
        on_enter(&mut seen, &key("a"), &key("a"), 1);
        assert!(seen.violations.is_empty());
        on_enter(&mut seen, &key("a"), &key("b"), 1);
        assert_eq!(seen.violations.len(), 1);
    }
}
