//! Every call to the metadata of a function has the answer it would have had if the calls had been made one after the
//! other, in an order that agrees with their times: so an acknowledged write is seen by every later read, and no read
//! sees less than an earlier one.

use crate::history::{Fits, check_function};
use crate::ledger::Seen;

/// Looks at the calls of the whole run.
pub fn check(seen: &mut Seen, at_ms: u64) {
    let calls = std::mem::take(&mut seen.calls);
    for (key, calls) in &calls {
        match check_function(calls) {
            Ok(Fits::Yes) => {}
            Ok(Fits::Undecided) => seen.undecided += 1,
            Err(why) => {
                let promise = "acknowledged writes are never lost and reads never go back";
                seen.violate(promise, at_ms, &format!("{key:?}: {why}"));
            }
        }
    }
    seen.calls = calls;
}
