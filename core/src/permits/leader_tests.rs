//! The leader's timers and questions, rule by rule. The whole protocol is in `tests/permits_simulation.rs`.

use super::*;
use crate::permits::WorkerPermits;

const TIMING: PermitTiming = PermitTiming {
    worker_ttl_ms: 10_000,
    margin_ms: 500,
    resend_ms: 1_000,
    settle_ms: 3_000,
};
const TIMEOUT_MS: u64 = 3_000;
const LIFE: Incarnation = Incarnation(1);

fn pool() -> PoolKey {
    PoolKey {
        account: "123456789012".parse().unwrap(),
        function: "f".parse().ok(),
        provisioned: None,
    }
}

fn ms(at: u64) -> MonotonicMs {
    MonotonicMs(at)
}

/// Workers 1 and 2; worker 1 holds 4 of 8 as of index 10. Elected at 0.
fn setup() -> (GrantTable, LeaderPermits) {
    let mut table = GrantTable::default();
    table.set_limit(&pool(), 8, GrantSequence(1));
    for id in [1, 2] {
        table
            .register_worker(NodeId(id), LIFE, GrantSequence(2))
            .unwrap();
    }
    table.apply(&grow(4), GrantSequence(10)).unwrap();
    let leader = LeaderPermits::elected(TIMING, &table, ms(0));
    (table, leader)
}

fn grow(n: u32) -> GrantChange {
    GrantChange::Grow {
        worker: NodeId(1),
        pool: pool(),
        n,
        incarnation: LIFE,
    }
}

fn renewal(worker: u64, session: u64, report: Option<PoolReport>) -> Renewal {
    Renewal {
        worker: NodeId(worker),
        incarnation: LIFE,
        session,
        sent_at: ms(session),
        pools: report.map(|r| (pool(), r)).into_iter().collect(),
    }
}

fn report(ceiling: u32, in_flight: u32, sequence: u64) -> Option<PoolReport> {
    Some(PoolReport {
        ceiling,
        in_flight,
        sequence: GrantSequence(sequence),
    })
}

#[test]
fn silence_is_measured_from_the_election_or_the_last_renewal() {
    let (table, mut leader) = setup();
    let wait = TIMING.reclaim_after_ms(TIMEOUT_MS);
    assert!(
        leader
            .plan_reclaims(&table, ms(wait - 1), |_| TIMEOUT_MS)
            .is_empty()
    );
    leader.on_renewal(&table, &renewal(1, 1, None), ms(wait - 1));
    assert!(
        leader
            .plan_reclaims(&table, ms(2 * wait - 2), |_| TIMEOUT_MS)
            .is_empty()
    );
    let changes = leader.plan_reclaims(&table, ms(2 * wait - 1), |_| TIMEOUT_MS);
    let expected = GrantChange::Reclaim {
        worker: NodeId(1),
        pool: pool(),
        base: GrantSequence(10),
    };
    assert_eq!(changes, [expected]);
    assert!(
        leader
            .plan_reclaims(&table, ms(2 * wait), |_| TIMEOUT_MS)
            .is_empty(),
        "not again at once"
    );
}

#[test]
fn grant_committed_before_a_reclaim_is_not_sent_to_a_worker_that_returned() {
    let (table, mut leader) = setup();
    let now = ms(TIMING.reclaim_after_ms(TIMEOUT_MS));
    assert_eq!(leader.plan_reclaims(&table, now, |_| TIMEOUT_MS).len(), 1);
    leader.on_renewal(&table, &renewal(1, 2, None), now);
    let outcome = |sequence| GrantOutcome {
        worker: NodeId(1),
        pool: pool(),
        n: 4,
        sequence: GrantSequence(sequence),
        incarnation: LIFE,
    };
    assert_eq!(leader.on_committed(&[outcome(10)], now), []);
    assert_eq!(leader.on_committed(&[outcome(12)], now).len(), 1);
}

#[test]
fn lives_that_are_over_are_told_and_unknown_ones_are_not_answered() {
    let (mut table, mut leader) = setup();
    let from = |life| Renewal {
        incarnation: Incarnation(life),
        ..renewal(1, 1, None)
    };
    assert!(matches!(
        leader.on_renewal(&table, &from(1), ms(1)),
        Some(RenewalReply::Renewed { .. })
    ));
    assert_eq!(leader.on_renewal(&table, &from(2), ms(1)), None);
    table
        .register_worker(NodeId(1), Incarnation(2), GrantSequence(20))
        .unwrap();
    assert_eq!(
        leader.on_renewal(&table, &from(1), ms(2)),
        Some(RenewalReply::Superseded)
    );
    assert!(leader.on_renewal(&table, &from(2), ms(2)).is_some());
}

#[test]
fn share_the_worker_does_not_have_is_committed_anew_and_not_merely_repeated() {
    let cases = [
        (report(4, 0, 10), None),
        (report(0, 0, 10), Some(grow(4))),
        (report(2, 0, 9), Some(grow(4))),
        (None, Some(grow(4))),
    ];
    for (known, expected) in cases {
        let (table, mut leader) = setup();
        leader.on_renewal(&table, &renewal(1, 1, known), ms(1));
        let expected: Vec<_> = expected
            .map(|change| PermitAction::Commit(vec![change]))
            .into_iter()
            .collect();
        assert_eq!(leader.plan_repairs(&table, ms(2)), expected, "{known:?}");
        assert_eq!(leader.plan_repairs(&table, ms(3)), [], "{known:?}");
    }
}

#[test]
fn ceiling_without_a_share_is_brought_down() {
    let (table, mut leader) = setup();
    leader.on_renewal(&table, &renewal(2, 1, report(3, 0, 7)), ms(1));
    let grant = Grant {
        pool: pool(),
        n: 0,
        sequence: table.last_sequence(),
        incarnation: LIFE,
        session: 1,
    };
    let expected = PermitAction::SendGrant {
        worker: NodeId(2),
        grant,
    };
    assert_eq!(leader.plan_repairs(&table, ms(2)), [expected]);
}

#[test]
fn new_leader_takes_nothing_away_before_it_has_heard_everyone_or_waited() {
    let (mut table, mut leader) = setup();
    table.set_limit(&pool(), 2, GrantSequence(11));
    leader.on_renewal(&table, &renewal(1, 1, report(4, 0, 10)), ms(1));
    assert_eq!(leader.plan_shrinks(&table, ms(2)), []);
    let mut waited = leader.clone();
    assert_eq!(waited.plan_shrinks(&table, ms(3_000)).len(), 1);
    leader.on_renewal(&table, &renewal(2, 1, None), ms(2));
    assert_eq!(leader.plan_shrinks(&table, ms(2)).len(), 1);
    assert_eq!(
        leader.plan_shrinks(&table, ms(3)),
        [],
        "the answer is awaited"
    );
    assert_eq!(
        leader.plan_repairs(&table, ms(1_500)),
        [],
        "not raised while being lowered"
    );
    assert_eq!(
        leader.plan_shrinks(&table, ms(1_002)).len(),
        1,
        "asked again"
    );
}

#[test]
fn draining_and_a_whole_pool_in_one_hand_are_reasons_to_shrink() {
    let heard = |table: &GrantTable, leader: &mut LeaderPermits, n| {
        leader.on_renewal(table, &renewal(1, 1, report(n, 0, 10)), ms(1));
        leader.on_renewal(table, &renewal(2, 1, None), ms(1));
    };
    let size = |actions: Vec<PermitAction>| match actions.as_slice() {
        [PermitAction::SendShrink { shrink, .. }] => Some(shrink.n),
        _ => None,
    };
    let (table, mut leader) = setup();
    heard(&table, &mut leader, 4);
    assert_eq!(size(leader.plan_shrinks(&table, ms(2))), None);
    leader.set_draining(NodeId(1), true);
    assert_eq!(size(leader.plan_shrinks(&table, ms(2))), Some(0));

    let (mut table, mut leader) = setup();
    table.apply(&grow(8), GrantSequence(11)).unwrap();
    heard(&table, &mut leader, 8);
    assert_eq!(size(leader.plan_shrinks(&table, ms(2))), Some(7));
}

#[test]
fn idle_permit_moves_to_where_it_is_needed() {
    let (mut table, mut leader) = setup();
    table.set_limit(&pool(), 4, GrantSequence(11));
    leader.on_renewal(&table, &renewal(1, 1, report(4, 1, 10)), ms(1));
    leader.on_renewal(&table, &renewal(2, 1, None), ms(1));
    let candidate = |id, has_room| Candidate {
        worker: NodeId(id),
        incarnation: LIFE,
        load: 0,
        idle_permits: 0,
        has_room,
        can_make_room: false,
    };
    let candidates = [candidate(1, false), candidate(2, true)];
    let need = Need {
        pool: pool(),
        count: 1,
    };
    let plan = leader.plan_grow(&table, &need, &candidates, ms(2));
    assert_eq!(plan, GrowPlan::Move(vec![(NodeId(1), 2)]));

    let mut worker = WorkerPermits::new(NodeId(1), LIFE, 10_000, ms(0));
    let grant = |n, sequence| Grant {
        pool: pool(),
        n,
        sequence: GrantSequence(sequence),
        incarnation: LIFE,
        session: 1,
    };
    assert!(worker.on_grant(&grant(4, 10), ms(1)));
    let shrink = match leader.plan_shrinks(&table, ms(3)).as_slice() {
        [PermitAction::SendShrink { shrink, .. }] => shrink.clone(),
        other => panic!("{other:?}"),
    };
    let answer = worker.on_shrink(&shrink, ms(2)).unwrap();
    let change = leader.on_shrink_answer(&table, &answer).unwrap();
    let outcome = table.apply(&change, GrantSequence(12)).unwrap();
    assert_eq!(leader.on_shrink_answer(&table, &answer), None, "spent");
    leader.on_committed(&[outcome], ms(4));
    let plan = leader.plan_grow(&table, &need, &candidates, ms(5));
    assert!(matches!(plan, GrowPlan::Commit(_)), "{plan:?}");
    assert_eq!(
        leader.plan_grow(&table, &need, &candidates, ms(6)),
        GrowPlan::Wait
    );
}

#[test]
fn a_lowered_limit_lets_nothing_in_while_what_was_in_flight_ends() {
    // Worker 1 holds all 8 of 8 and runs 5; then the limit falls to 2.
    let (mut table, _) = setup();
    let outcome = table.apply(&grow(8), GrantSequence(11)).unwrap();
    let mut leader = LeaderPermits::elected(TIMING, &table, ms(0));
    let mut worker = WorkerPermits::new(NodeId(1), LIFE, TIMING.worker_ttl_ms, ms(0));
    let renewal = worker.renewal(ms(1));
    let reply = leader.on_renewal(&table, &renewal, ms(1)).unwrap();
    worker.on_reply(&reply, ms(1));
    leader.on_renewal(&table, &self::renewal(2, 1, None), ms(1));
    for action in leader.on_committed(&[outcome], ms(1)) {
        let PermitAction::SendGrant { grant, .. } = action else {
            panic!("{action:?}");
        };
        assert!(worker.on_grant(&grant, ms(1)));
    }
    let mut permits = Vec::new();
    for _ in 0..5 {
        match worker.try_acquire(&pool(), ms(2)) {
            crate::permits::Acquire::Permit(permit) => permits.push(permit),
            other => panic!("{other:?}"),
        }
    }
    table.set_limit(&pool(), 2, GrantSequence(12));
    assert!(
        leader.on_limit_changed(&table, &pool()),
        "nothing to wait for"
    );
    let mut actions = leader.plan_shrinks(&table, ms(3));
    for sequence in 13..30 {
        let Some(PermitAction::SendShrink { shrink, .. }) = actions.pop() else {
            break;
        };
        let answer = worker.on_shrink(&shrink, ms(3)).unwrap();
        let refused = worker.try_acquire(&pool(), ms(3));
        assert_eq!(refused, crate::permits::Acquire::NoPermit);
        if let Some(permit) = permits.pop() {
            worker.release(&pool(), permit);
        }
        let Some(change) = leader.on_shrink_answer(&table, &answer) else {
            break;
        };
        let outcome = table.apply(&change, GrantSequence(sequence)).unwrap();
        actions = leader.on_committed(&[outcome], ms(3));
    }
    assert!(worker.report(&pool(), ms(4)).ceiling <= 2);
    let granted = table.granted(NodeId(1), &pool()).unwrap().n;
    assert!(granted < 5, "{granted} committed");
}
