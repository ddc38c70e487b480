//! A sandbox runs one event at a time.

use crate::ledger::Seen;

/// An event is about to enter a sandbox.
pub fn on_enter(seen: &mut Seen, sandbox: &str, at_ms: u64) {
    if seen.running.values().any(|r| r.sandbox == sandbox) {
        seen.violate("a sandbox never has two events", at_ms, sandbox);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Running;

    #[test]
    fn a_second_event_is_told_and_one_after_the_other_is_not() {
        let mut seen = Seen::default();
        let running = Running {
            worker: "w".into(),
            sandbox: "w/1".into(),
            function: ("a".into(), "f".into()),
            since_ms: 0,
        };
        on_enter(&mut seen, "w/1", 1);
        let number = seen.enter(running.clone());
        seen.leave(number);
        on_enter(&mut seen, "w/1", 2);
        assert!(seen.violations.is_empty());
        seen.enter(running);
        on_enter(&mut seen, "w/1", 3);
        assert_eq!(seen.violations.len(), 1);
    }
}
