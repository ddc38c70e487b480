//! Calls to the metadata of one function, and what they mean one after the other. The search is in `linear`.

use crate::linear::{self, Model, Timed, Verdict};

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// CreateFunction with this value in its environment.
    Create(u64),
    /// GetFunctionConfiguration.
    Get,
    /// GetFunctionConcurrency.
    GetLimit,
    /// UpdateFunctionConfiguration to this value.
    Update(u64),
    /// PutFunctionConcurrency.
    SetLimit(u64),
    /// DeleteFunction.
    Delete,
}

/// What was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done.
    Done,
    /// The value.
    Value(u64),
    /// The reserved limit.
    Limit(Option<u64>),
    /// There is no such function.
    Missing,
    /// It was refused for what the function was (409): there is one, and nothing happened.
    Conflict,
    /// It was refused for what was asked (400) or how much (429): nothing happened.
    Refused,
}

/// A call; `answer` is none when its outcome is unknown.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// What was asked.
    pub ask: Ask,
    /// What was answered.
    pub answer: Option<Answer>,
    /// When it was sent, milliseconds.
    pub began_ms: u64,
    /// When its answer came.
    pub ended_ms: u64,
}

/// A function: its value and its limit.
type Function = Option<(u64, Option<u64>)>;

struct OneFunction;

/// What a call does when it is carried out, whatever is answered.
fn effect(state: Function, ask: Ask) -> Function {
    match (ask, state) {
        (Ask::Create(value), None) => Some((value, None)),
        (Ask::Update(value), Some((_, limit))) => Some((value, limit)),
        (Ask::SetLimit(limit), Some((value, _))) => Some((value, Some(limit))),
        (Ask::Delete, Some(_)) => None,
        (Ask::Create(_), Some(_))
        | (Ask::Update(_) | Ask::SetLimit(_) | Ask::Delete, None)
        | (Ask::Get | Ask::GetLimit, _) => state,
    }
}

impl Model for OneFunction {
    type State = Function;
    type Call = (Ask, Option<Answer>);

    fn initial(&self) -> Function {
        None
    }

    fn step(&self, state: &Function, (ask, answer): &Self::Call) -> Vec<Function> {
        let state = *state;
        let is_right = match (ask, answer) {
            // Unknown: not carried out is the order without it.
            (_, None) => return vec![effect(state, *ask)],
            (Ask::Create(_), Some(Answer::Done)) => state.is_none(),
            (Ask::Get, Some(Answer::Value(value))) => state.is_some_and(|(v, _)| v == *value),
            (Ask::GetLimit, Some(Answer::Limit(limit))) => state.is_some_and(|(_, l)| l == *limit),
            (Ask::Update(_) | Ask::SetLimit(_) | Ask::Delete, Some(Answer::Done)) => {
                state.is_some()
            }
            (_, Some(Answer::Refused)) => return vec![state],
            (_, Some(Answer::Conflict)) => {
                return state
                    .map(|function| vec![Some(function)])
                    .unwrap_or_default();
            }
            (_, Some(Answer::Missing)) => state.is_none(),
            (_, Some(Answer::Done | Answer::Value(_) | Answer::Limit(_))) => false,
        };
        if is_right {
            vec![effect(state, *ask)]
        } else {
            Vec::new()
        }
    }

    fn only_reads(&self, (ask, answer): &Self::Call) -> bool {
        match answer {
            Some(Answer::Missing | Answer::Conflict | Answer::Refused) => true,
            Some(Answer::Done | Answer::Value(_) | Answer::Limit(_)) | None => {
                matches!(ask, Ask::Get | Ask::GetLimit)
            }
        }
    }
}

/// What the check says of calls that do not break the promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fits {
    /// They can be put in order.
    Yes,
    /// The search was given up.
    Undecided,
}

/// Whether the call says anything: one that did nothing, or that reads and was not answered, fits everywhere, and would
/// double what the search looks at.
fn matters(call: &Call) -> bool {
    match (call.ask, call.answer) {
        (Ask::Get | Ask::GetLimit, None) | (_, Some(Answer::Refused)) => false,
        (
            Ask::Create(_)
            | Ask::Update(_)
            | Ask::SetLimit(_)
            | Ask::Delete
            | Ask::Get
            | Ask::GetLimit,
            _,
        ) => true,
    }
}

/// Whether the calls to one function, which did not exist before, can be put in order.
///
/// # Errors
/// The calls that fit nowhere.
pub fn check_function(calls: &[Call]) -> Result<Fits, String> {
    let calls: Vec<Call> = calls.iter().copied().filter(matters).collect();
    let history: Vec<_> = calls
        .iter()
        .map(|call| Timed {
            began: call.began_ms,
            ended: call.answer.map(|_| call.ended_ms),
            call: (call.ask, call.answer),
        })
        .collect();
    match linear::check(&OneFunction, &history) {
        Verdict::Linearizable => Ok(Fits::Yes),
        Verdict::Undecided => Ok(Fits::Undecided),
        Verdict::Violated { ordered, stuck } => {
            let stuck: Vec<_> = stuck.iter().map(|i| calls[*i]).collect();
            Err(format!(
                "after {ordered} of {} calls none of these fits: {stuck:?}",
                calls.len()
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(ask: Ask, answer: Option<Answer>, began_ms: u64, ended_ms: u64) -> Call {
        Call {
            ask,
            answer,
            began_ms,
            ended_ms,
        }
    }

    #[test]
    fn a_lost_update_is_found() {
        let calls = |seen| {
            [
                call(Ask::Create(1), Some(Answer::Done), 0, 1),
                call(Ask::Update(2), Some(Answer::Done), 2, 3),
                call(Ask::Get, Some(Answer::Value(seen)), 4, 5),
            ]
        };
        assert_eq!(check_function(&calls(2)), Ok(Fits::Yes));
        assert!(check_function(&calls(1)).is_err());
    }

    #[test]
    fn a_delete_that_takes_effect_after_its_answer_is_found() {
        let calls = [
            call(Ask::Create(1), Some(Answer::Done), 0, 1),
            call(Ask::Delete, Some(Answer::Done), 2, 3),
            call(Ask::Create(2), Some(Answer::Done), 4, 5),
            call(Ask::Get, Some(Answer::Missing), 6, 7),
        ];
        assert!(check_function(&calls).is_err());
    }

    #[test]
    fn an_unknown_outcome_may_be_either() {
        for seen in [1, 2] {
            let calls = [
                call(Ask::Create(1), Some(Answer::Done), 0, 1),
                call(Ask::Update(2), None, 2, 3),
                call(Ask::Get, Some(Answer::Value(seen)), 4, 5),
            ];
            assert_eq!(check_function(&calls), Ok(Fits::Yes));
        }
    }

    #[test]
    fn a_conflict_needs_a_function() {
        for (deleted_ms, is_good) in [(10, true), (2, false)] {
            let calls = [
                call(Ask::Create(1), Some(Answer::Done), 0, 1),
                call(Ask::Delete, Some(Answer::Done), deleted_ms, deleted_ms + 1),
                call(Ask::Create(2), Some(Answer::Conflict), 5, 6),
            ];
            assert_eq!(check_function(&calls).is_ok(), is_good);
        }
    }

    /// One deletion that is carried out twice, before and after a creation.
    #[test]
    fn a_deletion_that_is_done_twice_is_found() {
        let calls = [
            call(Ask::Create(1), Some(Answer::Done), 0, 1),
            call(Ask::Delete, Some(Answer::Done), 2, 9),
            call(Ask::Create(2), Some(Answer::Done), 4, 5),
            call(Ask::Get, Some(Answer::Missing), 10, 11),
        ];
        assert!(check_function(&calls).is_err());
    }

    #[test]
    fn limits_are_part_of_the_function_and_end_with_it() {
        let calls = [
            call(Ask::Create(1), Some(Answer::Done), 0, 1),
            call(Ask::SetLimit(5), Some(Answer::Done), 2, 3),
            call(Ask::GetLimit, Some(Answer::Limit(Some(5))), 4, 5),
            call(Ask::Delete, Some(Answer::Done), 6, 7),
            call(Ask::GetLimit, Some(Answer::Missing), 8, 9),
            call(Ask::Create(2), Some(Answer::Done), 10, 11),
            call(Ask::GetLimit, Some(Answer::Limit(None)), 12, 13),
        ];
        assert_eq!(check_function(&calls), Ok(Fits::Yes));
    }
}
