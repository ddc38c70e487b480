//! An answer of 2xx comes from a configuration that the function had at some time during the call. A gateway or worker
//! that is cut off goes on with what it knows, so a cut, and the time to catch up after it, extends the call backwards.

use crate::ledger::{Ending, Invocation, Seen, Written};

/// How long a change may take to reach every gateway and worker that is not cut off, its preparation (Pending to
/// Active) included, milliseconds.
pub const SPREAD_MS: u64 = 6_000;

/// Whether a value may have been serving between two moments.
fn may_serve(values: &[Written], value: u64, from_ms: u64, to_ms: u64) -> bool {
    let Some(index) = values.iter().position(|w| w.value == value) else {
        return false;
    };
    let began = values[index].began_ms <= to_ms;
    // Surely replaced: a later write was known to be done before the call, and this one was sent before that.
    let replaced = values.iter().any(|later| {
        later.began_ms > values[index].acked_ms.unwrap_or(u64::MAX)
            && later.acked_ms.is_some_and(|at| at < from_ms)
    });
    began && !replaced
}

/// Looks at an invocation that has ended. `known_since_ms`: when the nodes it went through were last surely told of
/// everything.
pub fn on_end(seen: &mut Seen, invocation: &Invocation, known_since_ms: u64, at_ms: u64) {
    let Some(Ending::Ran { value }) = invocation.ending else {
        return;
    };
    let from = invocation
        .began_ms
        .min(known_since_ms)
        .saturating_sub(SPREAD_MS);
    let values = seen.values.get(&invocation.function);
    if values.is_some_and(|values| !may_serve(values, value, from, at_ms)) {
        let detail = format!("value {value} of {:?}, {invocation:?}", invocation.function);
        let promise = "a 2xx ran a configuration that was serving during the call";
        seen.violate(promise, at_ms, &detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_serves_from_its_sending_until_a_later_one_is_known_to_be_done() {
        let written = |value, began_ms, acked_ms| Written {
            value,
            began_ms,
            acked_ms,
        };
        let values = [
            written(1, 0, Some(10)),
            written(2, 100, Some(200)),
            written(3, 300, None),
        ];
        assert!(may_serve(&values, 1, 150, 160));
        assert!(!may_serve(&values, 1, 201, 210), "replaced by 2");
        assert!(may_serve(&values, 2, 9_000, 9_001), "3 may have failed");
        assert!(may_serve(&values, 3, 9_000, 9_001));
        assert!(!may_serve(&values, 3, 250, 260), "not sent yet");
        assert!(!may_serve(&values, 4, 0, 9_000), "never sent");
    }
}
