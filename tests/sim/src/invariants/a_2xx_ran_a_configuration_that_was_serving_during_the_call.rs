//! An answer of 2xx comes from a configuration that the function had at some time during the call; if an alias was called,
//! from a version that the alias pointed to. A gateway or worker
//! that is cut off goes on with what it knows, so a cut, and the time to catch up after it, extends the call backwards.

use crate::ledger::{Ending, Invocation, Seen, Written};

/// How long a change may take to reach every gateway and worker that is not cut off, its preparation (Pending to
/// Active) included, milliseconds.
pub const SPREAD_MS: u64 = 6_000;

/// A write of unknown outcome may be carried out for so long after it was sent, milliseconds: a client's patience and a
/// controller's.
const OPEN_MS: u64 = 30_000;

/// Times in which some node may not be told of changes: faults, and what follows one until everyone has caught up. Faults
/// that follow each other sooner are one such time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disturbed {
    began_ms: u64,
    last_ms: Option<u64>,
}

impl Disturbed {
    /// A fault is under way, or has just ended.
    pub fn note(&mut self, now_ms: u64) {
        if !self.lasts(now_ms) {
            self.began_ms = now_ms;
        }
        self.last_ms = Some(now_ms);
    }

    fn lasts(&self, now_ms: u64) -> bool {
        self.last_ms.is_some_and(|last| last + SPREAD_MS >= now_ms)
    }

    /// When everyone was last surely told of everything.
    #[must_use]
    pub fn known_since(&self, now_ms: u64) -> u64 {
        if self.lasts(now_ms) {
            self.began_ms
        } else {
            now_ms
        }
    }
}

/// Whether a value may have been serving between two moments: by any write that gave it.
fn may_serve(values: &[Written], value: u64, from_ms: u64, to_ms: u64) -> bool {
    let mut giving = values
        .iter()
        .filter(|written| written.value == value || written.also == Some(value));
    giving.any(|written| may_count(values, written, from_ms, to_ms))
}

/// Whether a write may have been in effect between two moments.
fn may_count(values: &[Written], written: &Written, from_ms: u64, to_ms: u64) -> bool {
    // Surely replaced: a later write was known to be done before the call, and this one was sent before that.
    let known_ms = written.acked_ms.unwrap_or(written.began_ms + OPEN_MS);
    let replaced = values
        .iter()
        .any(|later| later.began_ms > known_ms && later.acked_ms.is_some_and(|at| at < from_ms));
    written.began_ms <= to_ms && !replaced
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
    let values = seen.values.get(&invocation.target);
    if values.is_some_and(|values| !may_serve(values, value, from, at_ms)) {
        let detail = format!("value {value}, written {values:?}, {invocation:?}");
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
            also: None,
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
        let late = [
            written(1, 0, None),
            written(2, OPEN_MS + 1, Some(OPEN_MS + 2)),
        ];
        assert!(!may_serve(&late, 1, OPEN_MS + 3, OPEN_MS + 4));
    }

    #[test]
    fn of_an_alias_with_weights_both_values_serve() {
        let written = |value, also, began_ms| Written {
            value,
            also,
            began_ms,
            acked_ms: Some(began_ms + 10),
        };
        let values = [
            written(1, None, 0),
            written(2, Some(1), 100),
            written(3, None, 200),
        ];
        assert!(may_serve(&values, 1, 150, 160) && may_serve(&values, 2, 150, 160));
        assert!(!may_serve(&values, 1, 250, 260) && !may_serve(&values, 2, 250, 260));
    }

    #[test]
    fn who_was_cut_off_needs_time_to_catch_up() {
        let mut disturbed = Disturbed::default();
        assert_eq!(disturbed.known_since(50), 50);
        for now in [100, 5_000, 5_000 + SPREAD_MS] {
            disturbed.note(now);
            assert_eq!(disturbed.known_since(now), 100);
        }
        assert_eq!(disturbed.known_since(5_000 + 2 * SPREAD_MS), 100);
        let calm = 5_001 + 2 * SPREAD_MS;
        assert_eq!(disturbed.known_since(calm), calm);
        disturbed.note(calm);
        assert_eq!(disturbed.known_since(calm + 1), calm);
    }
}
