//! Who gets permits, as a table.

use super::*;
use crate::ids::GrantSequence;
use proptest::prelude::*;

const LIFE: Incarnation = Incarnation(1);

fn pool() -> PoolKey {
    PoolKey {
        account: "123456789012".parse().unwrap(),
        function: "f".parse().ok(),
        provisioned: None,
    }
}

fn table(limit: u32, shares: &[(u64, u32)]) -> GrantTable {
    let mut table = GrantTable::default();
    table.set_limit(&pool(), limit, GrantSequence(1));
    for id in 1..=9 {
        let registered = table.register_worker(NodeId(id), LIFE, GrantSequence(1));
        registered.unwrap();
    }
    for (id, n) in shares {
        let change = grow(*id, *n);
        table.apply(&change, GrantSequence(2)).unwrap();
    }
    table
}

fn grow(id: u64, n: u32) -> GrantChange {
    GrantChange::Grow {
        worker: NodeId(id),
        pool: pool(),
        n,
        incarnation: LIFE,
    }
}

fn candidate(id: u64, load: u32, idle_permits: u32) -> Candidate {
    Candidate {
        worker: NodeId(id),
        incarnation: LIFE,
        load,
        idle_permits,
        has_room: true,
        can_make_room: false,
    }
}

fn full(id: u64, idle_permits: u32) -> Candidate {
    Candidate {
        has_room: false,
        ..candidate(id, 0, idle_permits)
    }
}

fn plan(table: &GrantTable, count: u32, candidates: &[Candidate]) -> GrowPlan {
    let need = Need {
        pool: pool(),
        count,
    };
    plan_grow(table, &need, candidates)
}

#[test]
fn free_permits_go_out_in_chunks_to_the_least_loaded_and_to_two() {
    let two = [candidate(1, 5, 0), candidate(2, 0, 0)];
    for (name, table, count, candidates, expected) in [
        (
            "one holder for a limit of one",
            table(1, &[]),
            3,
            &two[..],
            vec![grow(2, 1)],
        ),
        (
            "two holders for a limit of two",
            table(2, &[]),
            5,
            &two,
            vec![grow(2, 1), grow(1, 1)],
        ),
        (
            "an eighth each",
            table(80, &[]),
            1,
            &two,
            vec![grow(2, 10), grow(1, 10)],
        ),
        (
            "what is needed if that is more",
            table(80, &[]),
            30,
            &two,
            vec![grow(2, 30), grow(1, 10)],
        ),
        (
            "never all to one of two",
            table(8, &[]),
            8,
            &two,
            vec![grow(2, 7), grow(1, 1)],
        ),
        (
            "all to the only one",
            table(8, &[]),
            8,
            &two[..1],
            vec![grow(1, 8)],
        ),
        (
            "on top of what it has",
            table(80, &[(1, 5), (2, 5)]),
            1,
            &two,
            vec![grow(2, 15)],
        ),
        (
            "the last permit",
            table(8, &[(1, 4), (2, 3)]),
            5,
            &two,
            vec![grow(2, 4)],
        ),
    ] {
        assert_eq!(
            plan(&table, count, candidates),
            GrowPlan::Commit(expected),
            "{name}"
        );
    }
}

#[test]
fn with_nothing_free_idle_ones_are_used_then_moved_then_it_throttles() {
    let table = table(8, &[(1, 4), (2, 4)]);
    let cases = [
        (
            vec![candidate(1, 4, 0), candidate(2, 1, 3)],
            GrowPlan::UseIdle(vec![NodeId(2)]),
        ),
        (
            vec![candidate(1, 4, 0), full(2, 3)],
            GrowPlan::Move(vec![(NodeId(2), 2)]),
        ),
        (
            vec![candidate(1, 4, 0), candidate(2, 4, 0)],
            GrowPlan::Throttle,
        ),
        (vec![full(1, 0), full(2, 3)], GrowPlan::NoRoom),
        (vec![full(1, 0), full(2, 0)], GrowPlan::Throttle),
        (vec![], GrowPlan::Throttle),
    ];
    for (candidates, expected) in cases {
        assert_eq!(plan(&table, 1, &candidates), expected, "{candidates:?}");
    }
}

#[test]
fn free_permits_and_no_room_is_not_a_throttle() {
    assert_eq!(plan(&table(8, &[]), 1, &[full(1, 0)]), GrowPlan::NoRoom);
    assert_eq!(
        plan(&table(0, &[]), 1, &[candidate(1, 0, 0)]),
        GrowPlan::Throttle
    );
}

proptest! {
    /// I1 and I6: a plan is always accepted by the table, and with free permits and room there is one.
    #[test]
    fn plans_fit_the_table(
        limit in 1_u32..40, count in 1_u32..40,
        workers in prop::collection::vec((0_u32..10, 0_u32..12), 1..8),
    ) {
        let mut table = table(limit, &[]);
        let mut candidates = Vec::new();
        for (id, (load, wanted)) in (1_u64..).zip(&workers) {
            let n = (*wanted).min(table.free(&pool()));
            table.apply(&grow(id, n), GrantSequence(2)).unwrap();
            candidates.push(candidate(id, *load, 0));
        }
        let free = table.free(&pool());
        match plan(&table, count, &candidates) {
            GrowPlan::Commit(changes) => {
                for change in &changes {
                    prop_assert!(table.apply(change, GrantSequence(3)).is_ok(), "{change:?}");
                }
                prop_assert!(table.free(&pool()) < free);
                if limit > 1 && candidates.len() > 1 && free == limit {
                    prop_assert!(table.shares(&pool()).count() > 1, "spread over two");
                }
            }
            GrowPlan::Throttle => prop_assert_eq!(free, 0),
            other @ (GrowPlan::UseIdle(_) | GrowPlan::Move(_) | GrowPlan::Wait | GrowPlan::NoRoom) => {
                prop_assert!(false, "{other:?}");
            }
        }
    }
}

/// A worker whose memory is full of idle sandboxes gets the last permit when there is no other second holder: or else a function
/// that one host serves alone is silent for as long as that host's share is waited for after its loss.
#[test]
fn a_crowded_worker_is_the_second_holder_for_want_of_a_better_one() {
    let crowded = |id| Candidate {
        can_make_room: true,
        ..full(id, 0)
    };
    let two = [candidate(1, 0, 0), crowded(2)];
    let all = table(4, &[(1, 3)]);
    assert_eq!(plan(&all, 3, &two), GrowPlan::Commit(vec![grow(2, 1)]));
    assert_eq!(
        plan(&table(4, &[]), 9, &two),
        GrowPlan::Commit(vec![grow(1, 3), grow(2, 1)])
    );
    // One that has no room at all does not cost the function a permit.
    let only = [candidate(1, 0, 0), full(2, 0)];
    assert_eq!(plan(&all, 3, &only), GrowPlan::Commit(vec![grow(1, 4)]));
    assert_eq!(
        plan(&table(1, &[]), 3, &two),
        GrowPlan::Commit(vec![grow(1, 1)])
    );
}
