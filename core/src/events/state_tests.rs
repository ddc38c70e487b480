//! What commands do, one after the other.

use std::collections::BTreeSet;

use super::command::*;
use super::entry::*;
use super::retry::{Condition, Decision};
use super::state::{EventGroup, EventLimits};
use crate::error::ErrorCode;
use crate::ids::{NodeId, UnixMs};

/// Of accounts and functions as short names: `1/f`.
pub(super) fn key(name: &str) -> FunctionKey {
    let (account, function) = name.split_once('/').expect("account/function");
    FunctionKey {
        account: format!("{account:0>12}").parse().expect("digits"),
        function: function.parse().expect("a name"),
    }
}

pub(super) fn append(request_id: &str, function: &str, now: u64) -> EventCommand {
    EventCommand::Append {
        request_id: request_id.to_owned(),
        function: key(function),
        qualifier: None,
        payload: PayloadRef {
            index: now,
            bytes: 100,
        },
        now: UnixMs(now),
    }
}

/// For 30 ms.
pub(super) fn lease(holder: u64, count: u32, now: u64) -> EventCommand {
    EventCommand::Lease {
        holder: NodeId(holder),
        count,
        until: UnixMs(now + 30),
        skip: BTreeSet::new(),
        now: UnixMs(now),
    }
}

pub(super) fn id(request_id: &str, epoch: u64) -> LeaseId {
    LeaseId {
        request_id: request_id.to_owned(),
        epoch,
    }
}

pub(super) fn settle(lease: LeaseId, decision: Decision, now: u64) -> EventCommand {
    EventCommand::Settle {
        settlements: vec![Settlement { lease, decision }],
        now: UnixMs(now),
    }
}

pub(super) fn sweep(keep_done_ms: u64, keep_failed_ms: u64, now: u64) -> EventCommand {
    EventCommand::Sweep {
        keep_done_ms,
        keep_failed_ms,
        most: 1_000,
        now: UnixMs(now),
    }
}

pub(super) fn retry(at: u64, burns_attempt: bool) -> Decision {
    Decision::RetryAt {
        at: UnixMs(at),
        burns_attempt,
    }
}

pub(super) fn deliver(condition: Condition) -> Decision {
    Decision::Deliver {
        condition,
        burns_attempt: true,
    }
}

fn redrive(request_id: &str, now: u64) -> EventCommand {
    EventCommand::Redrive {
        request_ids: vec![request_id.to_owned()],
        now: UnixMs(now),
    }
}

/// Request ids of the leased.
pub(super) fn leased(group: &mut EventGroup, count: u32, now: u64) -> Vec<String> {
    match group.apply(&lease(1, count, now)) {
        EventReply::Leased(entries) => entries.into_iter().map(|e| e.request_id).collect(),
        reply => panic!("{reply:?}"),
    }
}

const DONE: LeaseOutcome = LeaseOutcome::Done;
const STALE: LeaseOutcome = LeaseOutcome::Stale;

fn outcome(group: &mut EventGroup, command: &EventCommand) -> LeaseOutcome {
    match group.apply(command) {
        EventReply::Outcomes(outcomes) => *outcomes.first().expect("one"),
        reply => panic!("{reply:?}"),
    }
}

#[test]
fn the_same_event_is_appended_once_and_another_one_of_its_id_is_refused() {
    let mut group = EventGroup::default();
    assert_eq!(group.apply(&append("a", "1/f", 5)), EventReply::Appended);
    let before = group.clone();
    let again = append("a", "1/f", 9);
    assert_eq!(group.apply(&again), EventReply::AlreadyAppended);
    let EventReply::Refused(refusal) = group.apply(&append("a", "2/f", 9)) else {
        panic!("taken")
    };
    assert_eq!(refusal.to_string(), "another event has the request id a");
    for id in ["", &"x".repeat(65)] {
        let reply = group.apply(&append(id, "1/f", 9));
        let limit = 64;
        assert_eq!(
            reply,
            EventReply::Refused(EventRefusal::RequestIdInvalid { limit })
        );
    }
    assert_eq!(group, before);
}

#[test]
fn an_event_is_leased_retried_and_settled() {
    let mut group = EventGroup::default();
    group.apply(&append("a", "1/f", 5));
    assert_eq!((group.due_at(), group.needs(5)), (Some(UnixMs(5)), true));
    assert!(leased(&mut group, 9, 4).is_empty(), "it is not due");
    assert_eq!(leased(&mut group, 9, 5), ["a"]);
    assert!(leased(&mut group, 9, 34).is_empty(), "somebody has it");
    let entry = group.entry("a").expect("kept");
    assert_eq!((entry.epoch, entry.progress.attempts), (1, 1));
    assert_eq!(group.due_at(), Some(UnixMs(35)));

    let throttled = settle(id("a", 1), retry(50, false), 10);
    assert_eq!(outcome(&mut group, &throttled), DONE);
    assert_eq!(outcome(&mut group, &throttled), STALE, "said twice");
    let entry = group.entry("a").expect("kept");
    assert_eq!((entry.progress.attempts, entry.progress.setbacks), (0, 1));

    assert_eq!(leased(&mut group, 9, 50), ["a"]);
    let failed = settle(id("a", 2), retry(90, true), 60);
    assert_eq!(outcome(&mut group, &failed), DONE);
    let entry = group.entry("a").expect("kept");
    assert_eq!((entry.progress.attempts, entry.progress.setbacks), (1, 0));

    assert_eq!(leased(&mut group, 9, 90), ["a"]);
    let success = settle(id("a", 3), deliver(Condition::Success), 95);
    assert_eq!(outcome(&mut group, &success), DONE);
    assert_eq!((group.due_at(), group.needs(5)), (None, false));
    assert_eq!(
        group.apply(&append("a", "1/f", 96)),
        EventReply::AlreadyAppended
    );
    assert_eq!(group.functions().count(), 0);
}

#[test]
fn a_lease_that_is_over_is_given_away_and_what_is_said_under_it_is_stale() {
    let mut group = EventGroup::default();
    group.apply(&append("a", "1/f", 0));
    leased(&mut group, 1, 0);
    assert_eq!(leased(&mut group, 1, 30), ["a"]);
    let before = group.clone();
    let late = settle(id("a", 1), deliver(Condition::Success), 31);
    assert_eq!(outcome(&mut group, &late), STALE);
    let renew = |epoch, until| EventCommand::Renew {
        leases: vec![id("a", epoch)],
        until: UnixMs(until),
    };
    assert_eq!(outcome(&mut group, &renew(1, 99)), STALE);
    assert_eq!(outcome(&mut group, &renew(2, 40)), DONE);
    assert_eq!(group, before, "never shorter");
    assert_eq!(outcome(&mut group, &renew(2, 99)), DONE);
    assert_eq!(group.due_at(), Some(UnixMs(99)));
    assert_eq!(group.entry("a").expect("kept").progress.attempts, 2);
}

#[test]
fn a_lease_that_is_over_counts_until_somebody_else_could_have_it() {
    let mut group = EventGroup::default();
    group.apply(&append("a", "1/f", 0));
    group.apply(&append("b", "1/f", 0));
    leased(&mut group, 2, 0);
    let late = |name| settle(id(name, 1), deliver(Condition::Success), 70);
    assert_eq!(outcome(&mut group, &late("a")), DONE);
    let lapsed = 1;
    let forgotten = 0;
    let swept = group.apply(&sweep(100, 100, 70));
    assert_eq!(swept, EventReply::Swept { lapsed, forgotten });
    assert_eq!(outcome(&mut group, &late("b")), STALE);
}

#[test]
fn what_failed_is_kept_longer_and_can_be_taken_up_again() {
    let mut group = EventGroup::default();
    for (name, decision) in [
        ("done", deliver(Condition::Success)),
        ("dropped", Decision::Drop),
        ("failed", deliver(Condition::RetriesExhausted)),
    ] {
        group.apply(&append(name, "1/f", 0));
        leased(&mut group, 1, 0);
        let epoch = group.entry(name).expect("kept").epoch;
        assert_eq!(
            outcome(&mut group, &settle(id(name, epoch), decision, 10)),
            DONE
        );
    }
    assert_eq!(group.bytes(), 3 * 512 + 100);
    let counts = group.counts(&key("1/f"));
    assert_eq!((counts.queued, counts.leased, counts.failed), (0, 0, 1));
    assert_eq!(group.failed(&key("1/f")).count(), 1);

    let swept = |group: &mut EventGroup, now| match group.apply(&sweep(10, 100, now)) {
        EventReply::Swept { forgotten, .. } => forgotten,
        reply => panic!("{reply:?}"),
    };
    assert_eq!(swept(&mut group, 19), 0);
    assert_eq!(swept(&mut group, 20), 2);
    for (name, is_redriven) in [("done", false), ("failed", true), ("failed", false)] {
        let redriven = Vec::from_iter(is_redriven.then(|| name.to_owned()));
        assert_eq!(
            group.apply(&redrive(name, 50)),
            EventReply::Redriven(redriven)
        );
    }
    let entry = group.entry("failed").expect("kept");
    assert_eq!((entry.progress.attempts, entry.accepted), (0, UnixMs(0)));
    assert_eq!(entry.progress.counted_from, UnixMs(50));
    let stale = settle(id("failed", 3), deliver(Condition::Success), 51);
    assert_eq!(outcome(&mut group, &stale), STALE);

    assert_eq!(leased(&mut group, 1, 50), ["failed"]);
    outcome(&mut group, &settle(id("failed", 4), Decision::Drop, 60));
    assert_eq!(swept(&mut group, 70), 1);
    assert_eq!((group.entries().count(), group.bytes()), (0, 0));
}

#[test]
fn an_id_that_is_forgotten_and_comes_again_is_not_settled_by_its_old_lease() {
    let mut group = EventGroup::default();
    for now in [0, 100] {
        group.apply(&append("a", "1/f", now));
        leased(&mut group, 1, now);
        let lease = id("a", 1);
        let wanted = if now == 0 { DONE } else { STALE };
        assert_eq!(
            outcome(&mut group, &settle(lease, Decision::Drop, now)),
            wanted
        );
        group.apply(&sweep(0, 0, now));
    }
}

#[test]
fn lines_and_groups_are_bounded_and_say_so() {
    let mut group = EventGroup::default();
    let limits = EventLimits {
        events_per_function: 2,
        bytes: 4 * 612,
    };
    group.apply(&EventCommand::Configure { limits });
    for (name, function) in [("a", "1/f"), ("b", "1/f"), ("c", "1/g")] {
        assert_eq!(
            group.apply(&append(name, function, 0)),
            EventReply::Appended
        );
    }
    let before = group.clone();
    let EventReply::Refused(full) = group.apply(&append("d", "1/f", 0)) else {
        panic!("two are enough")
    };
    assert_eq!(full, EventRefusal::FunctionFull { limit: 2 });
    assert_eq!(full.to_error().code, ErrorCode::Throttled);
    assert_eq!(group, before);
    group.apply(&append("d", "2/f", 0));
    let EventReply::Refused(full) = group.apply(&append("e", "2/f", 0)) else {
        panic!("four are enough")
    };
    assert_eq!(full, EventRefusal::GroupFull { limit: 2_448 });
    assert_eq!(full.to_error().code, ErrorCode::Throttled);
    // One under way counts, one that failed does not, and is not taken up again into a full line.
    leased(&mut group, 1, 0);
    let failed = settle(id("a", 1), deliver(Condition::RetriesExhausted), 5);
    assert_eq!(outcome(&mut group, &failed), DONE);
    let limits = EventLimits {
        bytes: 9_999,
        ..limits
    };
    group.apply(&EventCommand::Configure { limits });
    assert_eq!(group.apply(&append("e", "1/f", 6)), EventReply::Appended);
    assert_eq!(
        group.apply(&redrive("a", 7)),
        EventReply::Redriven(Vec::new())
    );
}

#[test]
fn a_lease_without_time_is_refused() {
    let mut group = EventGroup::default();
    group.apply(&append("a", "1/f", 0));
    let command = EventCommand::Lease {
        holder: NodeId(1),
        count: 1,
        until: UnixMs(5),
        skip: BTreeSet::new(),
        now: UnixMs(5),
    };
    let refused = EventReply::Refused(EventRefusal::LeaseOver);
    assert_eq!(group.apply(&command), refused);
}

#[test]
fn counts_and_ages_are_those_of_a_function() {
    let mut group = EventGroup::default();
    for (name, now) in [("a", 10), ("b", 20), ("c", 30)] {
        group.apply(&append(name, "1/f", now));
    }
    group.apply(&append("d", "1/g", 5));
    leased(&mut group, 2, 30);
    let counts = group.counts(&key("1/f"));
    assert_eq!((counts.queued, counts.leased), (2, 1));
    assert_eq!(counts.oldest_age_ms(UnixMs(100)), 90);
    let none = group.counts(&key("2/f"));
    assert_eq!(none.oldest_age_ms(UnixMs(100)), 0);
    assert!(group.needs(5) && !group.needs(4));
}

/// The order of one function is that of time, of several that of turns.
#[test]
fn accounts_and_their_functions_take_turns() {
    let mut group = EventGroup::default();
    for n in 0..4 {
        for function in ["1/f", "1/g", "2/h"] {
            group.apply(&append(&format!("{function}{n}"), function, n));
        }
    }
    group.apply(&append("3/i0", "3/i", 3));
    let order = [
        "1/f0", "2/h0", "3/i0", "1/g0", "2/h1", "1/f1", "2/h2", "1/g1", "2/h3", "1/f2", "1/g2",
        "1/f3", "1/g3",
    ];
    let mut at_once = group.clone();
    assert_eq!(leased(&mut at_once, 99, 9), order);
    let mut one_by_one = Vec::new();
    for _ in order {
        one_by_one.extend(leased(&mut group, 1, 9));
    }
    assert_eq!(one_by_one, order, "the turn is kept between leases");
    assert!(leased(&mut group, 1, 9).is_empty());
}

#[test]
fn what_is_skipped_waits_and_others_do_not() {
    let mut group = EventGroup::default();
    for function in ["1/f", "1/g", "2/f"] {
        group.apply(&append(function, function, 0));
    }
    let command = EventCommand::Lease {
        holder: NodeId(1),
        count: 9,
        until: UnixMs(5),
        skip: BTreeSet::from([key("1/f"), key("2/f")]),
        now: UnixMs(0),
    };
    let EventReply::Leased(entries) = group.apply(&command) else {
        panic!("there is one")
    };
    let names: Vec<_> = entries.iter().map(|e| e.request_id.as_str()).collect();
    assert_eq!(names, ["1/g"]);
}

/// Ten thousand events of one function, then one of its neighbour and one of another account.
#[test]
fn a_long_line_delays_others_by_a_round_at_most() {
    let mut group = EventGroup::default();
    for n in 0..10_000 {
        group.apply(&append(&format!("f{n}"), "1/f", 0));
    }
    for count in [1, 7, 100] {
        let mut group = group.clone();
        leased(&mut group, 5, 0);
        group.apply(&append("neighbour", "1/g", 1));
        group.apply(&append("stranger", "2/f", 1));
        let mut order = Vec::new();
        while order.len() < 4 {
            order.extend(leased(&mut group, count, 1));
        }
        let place = |name: &str| order.iter().position(|id| id == name).expect("leased");
        // Two accounts make a round of two; the neighbour has every other turn of its account.
        assert!(place("stranger") < 2, "{count}: {order:?}");
        assert!(place("neighbour") < 4, "{count}: {order:?}");
    }
}

/// Written and read, a group is the same, whatever follows from its entries included.
#[test]
fn a_group_and_its_commands_are_the_same_after_json() {
    let mut group = EventGroup::default();
    let skip = BTreeSet::from([key("9/z")]);
    let commands = [
        append("a", "1/f", 0),
        append("b", "2/g", 1),
        EventCommand::Lease {
            holder: NodeId(1),
            count: 1,
            until: UnixMs(30),
            skip,
            now: UnixMs(2),
        },
        settle(id("a", 1), retry(50, false), 3),
        redrive("b", 4),
        sweep(1, 2, 5),
    ];
    for command in &commands {
        let json = serde_json::to_string(command).expect("JSON");
        assert_eq!(
            serde_json::from_str::<EventCommand>(&json).expect(&json),
            *command
        );
        let reply = group.apply(command);
        let json = serde_json::to_string(&reply).expect("JSON");
        assert_eq!(
            serde_json::from_str::<EventReply>(&json).expect(&json),
            reply
        );
        let json = serde_json::to_string(&group).expect("JSON");
        assert_eq!(
            serde_json::from_str::<EventGroup>(&json).expect(&json),
            group
        );
    }
}

#[test]
fn records_name_what_was_asked_for() {
    let mut group = EventGroup::default();
    group.apply(&append("a", "1/f", 0));
    let mut entry = group.entry("a").expect("kept").clone();
    let arn = "arn:aws:lambda:eu-west-1:000000000001:function:f";
    assert_eq!(entry.arn("eu-west-1"), format!("{arn}:$LATEST"));
    entry.qualifier = "live".parse().ok();
    assert_eq!(entry.arn("eu-west-1"), format!("{arn}:live"));
}
