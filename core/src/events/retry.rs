//! What becomes of an event before and after an attempt. Decided by whoever dispatches it; the log only keeps the decision.
//! The retries of the synchronous path are `crate::retry`'s.
//!
//! Function errors are the function's own and are counted: 1 + `retries_max` attempts, a minute and two minutes apart.
//! Throttles and system errors are setbacks: the function had no say, so they are not counted, and end by age alone.

use serde::{Deserialize, Serialize};

use crate::attached::EventInvokeMembers;
use crate::ids::UnixMs;
use crate::limits::{
    EVENT_AGE_MAX_S, EVENT_AGE_MIN_S, EVENT_BACKOFF_MAX_MS, EVENT_BACKOFF_MIN_MS, EVENT_RETRIES_MAX,
};

/// How an attempt ended, or why there was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    /// The function answered.
    Succeeded,
    /// "errors returned by the function's code and errors returned by the function's runtime, such as timeouts".
    FunctionError,
    /// "throttling errors (429)".
    Throttled,
    /// "system errors (500-series)": ours, whether or not the function had begun.
    SystemError,
    /// The function may not run at all. "When you set reserved concurrency to zero for an asynchronously invoked function,
    /// Lambda begins sending new events to the configured dead-letter queue or the on-failure event destination, without any
    /// retries."
    ZeroConcurrency,
    /// The function, version or alias is not there any more.
    FunctionGone,
}

/// Why an event has come to its end: `condition` of an invocation record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Condition {
    /// The function answered.
    Success,
    /// The function failed as often as it may.
    RetriesExhausted,
    /// It was too old, or would have been before its next attempt.
    EventAgeExceeded,
    /// The function's reserved concurrency is zero.
    ZeroReservedConcurrency,
}

impl Condition {
    /// As records name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "Success",
            Self::RetriesExhausted => "RetriesExhausted",
            Self::EventAgeExceeded => "EventAgeExceeded",
            Self::ZeroReservedConcurrency => "ZeroReservedConcurrency",
        }
    }

    /// Whether it goes to the failure destination and the dead-letter queue.
    pub fn is_failure(self) -> bool {
        self != Self::Success
    }
}

/// What is to be done with an event. Stands in the log as it is: variants and fields are only ever added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decision {
    /// It goes back and is due again.
    RetryAt {
        /// When.
        at: UnixMs,
        /// Whether the attempt counts; the log counted it when it leased the event.
        burns_attempt: bool,
    },
    /// It ends, and those are told that the function names for this end.
    Deliver {
        /// Why it ends.
        condition: Condition,
        /// As in `RetryAt`; what records show as `approximateInvokeCount` follows from it.
        burns_attempt: bool,
    },
    /// It ends and nobody is told.
    Drop,
}

/// How far an event has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Since when its age counts: when it was accepted, or last taken up again by an operator.
    pub counted_from: UnixMs,
    /// Attempts that count, the one under way included: counted before dispatch, so that an event which takes its dispatcher
    /// down comes to an end too.
    pub attempts: u32,
    /// Throttles and system errors since the last attempt that counted.
    pub setbacks: u32,
}

impl Progress {
    /// As it is after a decision: every lease counts an attempt, and one that is not to count is taken back.
    #[must_use]
    pub fn after(self, decision: &Decision) -> Self {
        let burns_attempt = match decision {
            Decision::RetryAt { burns_attempt, .. } | Decision::Deliver { burns_attempt, .. } => {
                *burns_attempt
            }
            Decision::Drop => false,
        };
        if burns_attempt {
            Self {
                setbacks: 0,
                ..self
            }
        } else {
            Self {
                attempts: self.attempts.saturating_sub(1),
                setbacks: self.setbacks.saturating_add(1),
                ..self
            }
        }
    }
}

/// How a function wants its events to be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryRules {
    /// Attempts after the first, of those that count.
    pub retries_max: u32,
    /// An event is given up when it is this old, milliseconds.
    pub age_max_ms: u64,
    /// Wait before the first retry after a function error, milliseconds.
    pub base_delay_ms: u64,
}

impl RetryRules {
    /// What a version's or alias's configuration says, AWS's defaults where it says nothing.
    pub fn of(members: Option<&EventInvokeMembers>, base_delay_ms: u64) -> Self {
        let retries = members.and_then(|m| m.retries).unwrap_or(EVENT_RETRIES_MAX);
        let age_s = members
            .and_then(|m| m.max_age_s)
            .unwrap_or(EVENT_AGE_MAX_S)
            .clamp(EVENT_AGE_MIN_S, EVENT_AGE_MAX_S);
        Self {
            retries_max: retries.min(EVENT_RETRIES_MAX),
            age_max_ms: u64::from(age_s) * 1_000,
            base_delay_ms,
        }
    }

    /// From when on the event is too old.
    fn deadline(&self, progress: &Progress) -> UnixMs {
        UnixMs(progress.counted_from.0.saturating_add(self.age_max_ms))
    }
}

/// Decides about an event that was leased, before it is dispatched: `None` means that it is to be tried. Its attempts are
/// used up when earlier dispatchers were lost and nobody knows how their attempts ended.
pub fn before_attempt(progress: &Progress, rules: &RetryRules, now: UnixMs) -> Option<Decision> {
    let condition = if progress.attempts > rules.retries_max.saturating_add(1) {
        Condition::RetriesExhausted
    } else if now >= rules.deadline(progress) {
        Condition::EventAgeExceeded
    } else {
        return None;
    };
    Some(deliver(condition, false))
}

/// Decides after an attempt. `jitter` is drawn evenly from all its values.
pub fn after_attempt(
    end: AttemptEnd,
    progress: &Progress,
    rules: &RetryRules,
    now: UnixMs,
    jitter: u16,
) -> Decision {
    match end {
        AttemptEnd::Succeeded => deliver(Condition::Success, true),
        AttemptEnd::FunctionError => after_function_error(progress, rules, now),
        AttemptEnd::Throttled | AttemptEnd::SystemError => {
            after_setback(progress, rules, now, jitter)
        }
        AttemptEnd::ZeroConcurrency => deliver(Condition::ZeroReservedConcurrency, false),
        AttemptEnd::FunctionGone => Decision::Drop,
    }
}

/// A retry that would come too late is not waited for: recorded from AWS, which sends `EventAgeExceeded` with the answer of
/// the last attempt as soon as that has failed.
fn after_function_error(progress: &Progress, rules: &RetryRules, now: UnixMs) -> Decision {
    if progress.attempts > rules.retries_max {
        return deliver(Condition::RetriesExhausted, true);
    }
    let delay_ms = rules
        .base_delay_ms
        .saturating_mul(u64::from(progress.attempts.max(1)));
    let at = UnixMs(now.0.saturating_add(delay_ms));
    if at >= rules.deadline(progress) {
        return deliver(Condition::EventAgeExceeded, true);
    }
    Decision::RetryAt {
        at,
        burns_attempt: true,
    }
}

/// Here the wait is cut at the deadline rather than the event: it was not the function that failed, and it may yet be free.
fn after_setback(progress: &Progress, rules: &RetryRules, now: UnixMs, jitter: u16) -> Decision {
    let deadline = rules.deadline(progress);
    if now >= deadline {
        return deliver(Condition::EventAgeExceeded, false);
    }
    let at = now.0.saturating_add(backoff_ms(progress.setbacks, jitter));
    Decision::RetryAt {
        at: UnixMs(at).min(deadline),
        burns_attempt: false,
    }
}

/// Wait after a setback when there were `setbacks` before it, milliseconds: from 1 s, doubled each time, spread evenly up to
/// its double, which is 5 min at most. Spread, so that what was refused together does not come again together.
fn backoff_ms(setbacks: u32, jitter: u16) -> u64 {
    let doubled = EVENT_BACKOFF_MIN_MS << setbacks.min(20);
    let least = doubled.min(EVENT_BACKOFF_MAX_MS / 2);
    least + least * u64::from(jitter) / u64::from(u16::MAX)
}

fn deliver(condition: Condition, burns_attempt: bool) -> Decision {
    Decision::Deliver {
        condition,
        burns_attempt,
    }
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;
