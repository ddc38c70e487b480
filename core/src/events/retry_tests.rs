//! The rules as tables, and what holds for all of them.

use proptest::prelude::*;

use super::*;
use crate::limits::EVENT_RETRY_DELAY_MS;

const MINUTE_MS: u64 = 60_000;

fn rules(retries_max: u32, age_max_ms: u64) -> RetryRules {
    RetryRules {
        retries_max,
        age_max_ms,
        base_delay_ms: EVENT_RETRY_DELAY_MS,
    }
}

fn progress(attempts: u32, setbacks: u32) -> Progress {
    Progress {
        counted_from: UnixMs(0),
        attempts,
        setbacks,
    }
}

fn retry_at(at: u64, burns_attempt: bool) -> Decision {
    Decision::RetryAt {
        at: UnixMs(at),
        burns_attempt,
    }
}

#[test]
fn table_of_function_errors() {
    let hour = 60 * MINUTE_MS;
    let exhausted = deliver(Condition::RetriesExhausted, true);
    let too_old = deliver(Condition::EventAgeExceeded, true);
    let table = [
        ("first of three", 2, hour, 1, 500, retry_at(60_500, true)),
        (
            "second of three",
            2,
            hour,
            2,
            61_000,
            retry_at(181_000, true),
        ),
        ("third of three", 2, hour, 3, 182_000, exhausted),
        ("first of two", 1, hour, 1, 0, retry_at(60_000, true)),
        ("second of two", 1, hour, 2, 61_000, exhausted),
        ("no retries", 0, hour, 1, 500, exhausted),
        ("the retry would be too late", 2, 90_000, 1, 30_000, too_old),
        ("and just not", 2, 90_000, 1, 29_999, retry_at(89_999, true)),
        ("both: the attempts count", 0, 60_000, 1, 99_000, exhausted),
    ];
    for (name, retries, age_ms, attempts, now, wanted) in table {
        let decision = after_attempt(
            AttemptEnd::FunctionError,
            &progress(attempts, 0),
            &rules(retries, age_ms),
            UnixMs(now),
            9,
        );
        assert_eq!(decision, wanted, "{name}");
    }
}

#[test]
fn table_of_setbacks() {
    let six_hours = 360 * MINUTE_MS;
    let table = [
        ("the first", 0, 0, 0, retry_at(1_000, false)),
        ("the first, spread", 0, 0, u16::MAX, retry_at(2_000, false)),
        ("the fourth", 3, 10, 0, retry_at(8_010, false)),
        ("the tenth", 9, 0, 0, retry_at(150_000, false)),
        ("never above", 4_000, 0, u16::MAX, retry_at(300_000, false)),
        (
            "the last one is at the deadline",
            9,
            six_hours - 5,
            0,
            retry_at(six_hours, false),
        ),
        (
            "too old",
            9,
            six_hours,
            0,
            deliver(Condition::EventAgeExceeded, false),
        ),
    ];
    for (name, setbacks, now, jitter, wanted) in table {
        for end in [AttemptEnd::Throttled, AttemptEnd::SystemError] {
            let decision = after_attempt(
                end,
                &progress(3, setbacks),
                &rules(2, six_hours),
                UnixMs(now),
                jitter,
            );
            assert_eq!(decision, wanted, "{name}");
        }
    }
}

#[test]
fn other_ends_are_ends() {
    let decide = |end| after_attempt(end, &progress(1, 0), &rules(2, 60_000), UnixMs(0), 0);
    let table = [
        (AttemptEnd::Succeeded, deliver(Condition::Success, true)),
        (
            AttemptEnd::ZeroConcurrency,
            deliver(Condition::ZeroReservedConcurrency, false),
        ),
        (AttemptEnd::FunctionGone, Decision::Drop),
    ];
    for (end, wanted) in table {
        assert_eq!(decide(end), wanted);
    }
}

#[test]
fn nothing_is_tried_when_it_is_too_old_or_has_no_attempts_left() {
    let before = |attempts, now| before_attempt(&progress(attempts, 0), &rules(2, 60_000), now);
    assert_eq!(before(1, UnixMs(59_999)), None);
    assert_eq!(before(3, UnixMs(0)), None);
    let exhausted = deliver(Condition::RetriesExhausted, false);
    assert_eq!(before(4, UnixMs(0)), Some(exhausted));
    let too_old = deliver(Condition::EventAgeExceeded, false);
    assert_eq!(before(1, UnixMs(60_000)), Some(too_old));
}

#[test]
fn what_a_configuration_leaves_out_is_as_aws_has_it() {
    let members = |retries, max_age_s| EventInvokeMembers {
        retries,
        max_age_s,
        destinations: None,
    };
    let of = |members: Option<EventInvokeMembers>| {
        let rules = RetryRules::of(members.as_ref(), 7);
        assert_eq!(rules.base_delay_ms, 7);
        (rules.retries_max, rules.age_max_ms)
    };
    assert_eq!(of(None), (2, 21_600_000));
    assert_eq!(of(Some(members(Some(0), None))), (0, 21_600_000));
    assert_eq!(of(Some(members(None, Some(60)))), (2, 60_000));
    assert_eq!(of(Some(members(Some(9), Some(1)))), (2, 60_000));
}

fn any_end() -> impl Strategy<Value = AttemptEnd> {
    prop::sample::select(vec![
        AttemptEnd::Succeeded,
        AttemptEnd::FunctionError,
        AttemptEnd::Throttled,
        AttemptEnd::SystemError,
        AttemptEnd::ZeroConcurrency,
        AttemptEnd::FunctionGone,
    ])
}

proptest! {
    /// Whatever the numbers: nothing overflows, a retry is later than now and never after the deadline.
    #[test]
    fn a_retry_lies_between_now_and_the_deadline(
        end in any_end(),
        numbers in any::<(u64, u64, u64)>(),
        counts in any::<(u32, u32, u32)>(),
        base_delay_ms in 1_u64..1_000_000,
        jitter in any::<u16>(),
    ) {
        let (counted_from, age_max_ms, now) = (numbers.0, numbers.1, UnixMs(numbers.2));
        let progress = Progress { counted_from: UnixMs(counted_from), attempts: counts.0, setbacks: counts.1 };
        let rules = RetryRules { retries_max: counts.2, age_max_ms, base_delay_ms };
        if let Decision::RetryAt { at, .. } = after_attempt(end, &progress, &rules, now, jitter) {
            prop_assert!(at > now && at <= rules.deadline(&progress));
        }
    }

    /// A function that is throttled and fails as it likes is run 1 + retries times at most, and every event ends.
    #[test]
    fn an_event_ends_within_its_age_and_its_attempts(
        ends in prop::collection::vec(any_end(), 1..50),
        retries in 0_u32..3,
        age_s in 60_u64..21_600,
        jitter in any::<u16>(),
    ) {
        let rules = rules(retries, age_s * 1_000);
        let mut progress = progress(0, 0);
        let (mut now, mut errors, mut tries) = (UnixMs(0), 0, 0_usize);
        loop {
            progress.attempts += 1;
            let end = ends.get(tries % ends.len()).copied().unwrap_or(AttemptEnd::Throttled);
            let decision = before_attempt(&progress, &rules, now).unwrap_or_else(|| {
                errors += u32::from(end == AttemptEnd::FunctionError);
                after_attempt(end, &progress, &rules, now, jitter)
            });
            tries += 1;
            prop_assert!(errors <= 1 + retries && tries < 1_000);
            progress = progress.after(&decision);
            prop_assert!(progress.attempts <= 1 + retries);
            let Decision::RetryAt { at, .. } = decision else { break };
            now = at;
        }
        prop_assert!(now.0 <= age_s * 1_000);
    }
}
