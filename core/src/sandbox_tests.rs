//! The whole table of `sandbox`, and what must hold for any walk through it.

use super::*;
use proptest::prelude::*;

const STATES: [State; 11] = [
    State::Launching,
    State::Starting,
    State::Idle,
    State::Bound,
    State::Busy,
    State::Finishing,
    State::InitFailed,
    State::TimedOut,
    State::Reset,
    State::Stopping,
    State::Gone,
];

const EVENTS: [Event; 11] = [
    Event::Spawned,
    Event::NextCalled,
    Event::InitError,
    Event::Bind,
    Event::Taken,
    Event::Response,
    Event::Error,
    Event::Exited,
    Event::Deadline,
    Event::Evict,
    Event::Kill,
];

fn table() -> String {
    let mut text = String::new();
    for state in STATES {
        for event in EVENTS {
            if let Ok(Transition { next, outcome }) = state.on(event) {
                text.push_str(&format!("{state:?} {event:?} -> {next:?} {outcome:?}\n"));
            }
        }
    }
    text
}

/// Every legal transition; whatever is not here is refused. To change it, change `sandbox_table.txt` by hand.
#[test]
fn whole_table_is_as_written() {
    let expected = include_str!("sandbox_table.txt");
    for (expected, actual) in expected.lines().zip(table().lines()) {
        assert_eq!(expected, actual);
    }
    assert_eq!(expected, table());
}

#[test]
fn illegal_transition_is_an_error_that_names_both() {
    let error = State::Idle.on(Event::Response).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Response cannot happen to a sandbox that is Idle"
    );
}

#[test]
fn kill_is_accepted_everywhere_but_beyond_the_end() {
    for state in STATES {
        let next = state.on(Event::Kill).map(|t| t.next);
        match state {
            State::Gone => assert!(next.is_err()),
            State::Launching
            | State::Starting
            | State::Idle
            | State::Bound
            | State::Busy
            | State::Finishing
            | State::InitFailed
            | State::TimedOut
            | State::Reset
            | State::Stopping => assert_eq!(next, Ok(State::Stopping), "{state:?}"),
        }
    }
}

fn answers(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Respond
        | Outcome::RespondError
        | Outcome::ServeInitError
        | Outcome::AnswerTimedOut
        | Outcome::AnswerExited
        | Outcome::LostBeforeTaken
        | Outcome::KillBeforeTaken
        | Outcome::KillAfterTaken => true,
        Outcome::Nothing
        | Outcome::Ready
        | Outcome::Deliver
        | Outcome::StartFailed
        | Outcome::KeepInitError
        | Outcome::InitTimedOut
        | Outcome::KillForReset
        | Outcome::Relaunch
        | Outcome::Kill
        | Outcome::Remove => false,
    }
}

proptest! {
    /// On any walk each bound invocation is answered exactly once, and a sandbox told to stop ends.
    #[test]
    fn every_invocation_is_answered_exactly_once(
        events in prop::collection::vec(prop::sample::select(EVENTS.to_vec()), 0..200),
    ) {
        let (mut state, mut open) = (State::Launching, 0_u32);
        for event in events.into_iter().chain([Event::Kill, Event::Exited]) {
            let Ok(transition) = state.on(event) else { continue };
            if event == Event::Bind {
                open += 1;
            }
            if answers(transition.outcome) {
                prop_assert_eq!(open, 1, "{:?} {:?}", state, event);
                open = 0;
            }
            state = transition.next;
            let is_held = matches!(state, State::Bound | State::Busy);
            prop_assert_eq!(open, u32::from(is_held));
        }
        prop_assert_eq!(state, State::Gone);
    }
}
