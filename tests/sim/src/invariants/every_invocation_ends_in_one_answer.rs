//! Every invocation that was sent has ended, with an answer unless something failed on its way; none was run more often
//! than it may be: an event whose sandbox was lost is not run again, as its function may have done its work.

use crate::ledger::{Ending, Seen};

/// Looks at all invocations when nothing runs any more. `healed_ms`: what was sent later must have an answer.
pub fn check(seen: &mut Seen, healed_ms: u64, at_ms: u64) {
    let mut broken = Vec::new();
    for (nonce, invocation) in &seen.invocations {
        let problem = match &invocation.ending {
            None => Some("has not ended"),
            Some(Ending::NoAnswer) if invocation.began_ms >= healed_ms => Some("had no answer"),
            Some(Ending::Ran { .. }) if invocation.runs == 0 => Some("was answered and never run"),
            Some(_) if invocation.runs > 1 => Some("was run more than once"),
            Some(_) => None,
        };
        if let Some(problem) = problem {
            broken.push(format!("invocation {nonce} {problem}: {invocation:?}"));
        }
    }
    if let Some(first) = broken.first() {
        let detail = format!("{first} and {} more", broken.len() - 1);
        seen.violate("every invocation ends in one answer", at_ms, &detail);
    }
    let running = seen.running.len();
    if running > 0 {
        let detail = format!(
            "{running} events are in sandboxes: {:?}",
            seen.running.values().next()
        );
        seen.violate("nothing runs when nothing was asked for", at_ms, &detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Invocation;

    fn with(runs: u32, ending: Option<Ending>) -> usize {
        let mut seen = Seen::default();
        let invocation = Invocation {
            gateway: "g1".into(),
            function: ("a".into(), "f".into()),
            target: ("a".into(), "f".into()),
            began_ms: 100,
            ended_ms: None,
            runs,
            ending,
        };
        seen.invocations.insert(1, invocation);
        check(&mut seen, 50, 1_000);
        seen.violations.len()
    }

    #[test]
    fn one_run_and_one_answer_is_what_is_wanted() {
        assert_eq!(with(1, Some(Ending::Ran { value: 1 })), 0);
        assert_eq!(with(0, Some(Ending::Refused(429))), 0);
        assert_eq!(with(1, None), 1);
        assert_eq!(with(1, Some(Ending::NoAnswer)), 1, "sent after healing");
        assert_eq!(with(0, Some(Ending::Ran { value: 1 })), 1);
        assert_eq!(with(2, Some(Ending::Failed)), 1);
    }
}
