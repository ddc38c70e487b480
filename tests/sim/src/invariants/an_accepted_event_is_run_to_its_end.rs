//! An event invocation that was answered 202 is run to its end, whatever was lost after the answer; one whose client heard
//! nothing may be.

use crate::ledger::Seen;

/// Whether all of them have been.
pub fn holds(seen: &Seen) -> bool {
    let mut accepted = seen.events.values().filter(|e| e.accepted_ms.is_some());
    accepted.all(|event| event.done > 0)
}

/// Looks when they have had their time.
pub fn check(seen: &mut Seen, at_ms: u64) {
    let accepted = seen.events.iter().filter(|(_, e)| e.accepted_ms.is_some());
    let lost: Vec<_> = accepted.filter(|(_, event)| event.done == 0).collect();
    if let Some((nonce, event)) = lost.first() {
        let detail = format!("event {nonce} {event:?} and {} more", lost.len() - 1);
        seen.violate("an accepted event is run to its end", at_ms, &detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::EventSent;

    #[test]
    fn only_what_was_accepted_is_owed() {
        let with = |accepted_ms, done| {
            let mut seen = Seen::default();
            let function = ("a".into(), "f".into());
            let event = EventSent {
                function,
                accepted_ms,
                runs: 1,
                done,
            };
            seen.events.insert(1, event);
            let holds = holds(&seen);
            check(&mut seen, 1_000);
            assert_eq!(holds, seen.violations.is_empty());
            holds
        };
        assert!(with(Some(5), 1) && with(Some(5), 2) && with(None, 0));
        assert!(!with(Some(5), 0));
    }
}
