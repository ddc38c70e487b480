//! When the faults are over, a leader is found, metadata can be written and every function can be invoked through every
//! gateway.

use crate::ledger::Seen;

/// Tells what still did not work when it had to.
pub fn check(seen: &mut Seen, still_failing: &[String], at_ms: u64) {
    if let Some(first) = still_failing.first() {
        let detail = format!("{first} and {} more", still_failing.len() - 1);
        seen.violate("the healed cluster serves", at_ms, &detail);
    }
}
