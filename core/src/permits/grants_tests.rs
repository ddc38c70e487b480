//! The replicated table: each refusal once, then anything at all against its invariants.

use super::*;
use proptest::prelude::*;

const WORKER: NodeId = NodeId(1);
const OTHER: NodeId = NodeId(2);
const LIFE: Incarnation = Incarnation(1);

fn pool(name: &str) -> PoolKey {
    PoolKey {
        account: "123456789012".parse().unwrap(),
        function: name.parse().ok(),
        provisioned: None,
    }
}

fn at(index: u64) -> GrantSequence {
    GrantSequence(index)
}

fn grow(worker: NodeId, n: u32) -> GrantChange {
    GrantChange::Grow {
        worker,
        pool: pool("f"),
        n,
        incarnation: LIFE,
    }
}

fn shrink(n: u32, base: u64) -> GrantChange {
    GrantChange::Shrink {
        worker: WORKER,
        pool: pool("f"),
        n,
        base: at(base),
    }
}

/// Pool `f` of 10; worker 1 has 6 as of index 10, worker 2 has 2 as of index 11.
fn table() -> GrantTable {
    let mut table = GrantTable::default();
    table.register_worker(WORKER, LIFE, at(1)).unwrap();
    table.register_worker(OTHER, LIFE, at(2)).unwrap();
    table.set_limit(&pool("f"), 10, at(3));
    table.apply(&grow(WORKER, 6), at(10)).unwrap();
    table.apply(&grow(OTHER, 2), at(11)).unwrap();
    table
}

#[test]
fn changes_are_applied_or_refused_as_in_this_table() {
    let reclaim = |base| GrantChange::Reclaim {
        worker: WORKER,
        pool: pool("f"),
        base: at(base),
    };
    let elsewhere = |n| GrantChange::Grow {
        worker: WORKER,
        pool: pool("unknown"),
        n,
        incarnation: LIFE,
    };
    let other_life = GrantChange::Grow {
        worker: WORKER,
        pool: pool("f"),
        n: 7,
        incarnation: Incarnation(2),
    };
    let cases = [
        (grow(WORKER, 8), Ok(8)),
        (grow(WORKER, 6), Ok(6)),
        (grow(WORKER, 9), Err(GrantError::OverLimit { free: 2 })),
        (grow(WORKER, 5), Err(GrantError::WouldLower)),
        (grow(NodeId(3), 1), Err(GrantError::UnknownWorker)),
        (other_life, Err(GrantError::StaleIncarnation)),
        (elsewhere(1), Err(GrantError::UnknownPool)),
        (shrink(4, 10), Ok(4)),
        (shrink(0, 10), Ok(0)),
        (shrink(4, 9), Err(GrantError::StaleBase)),
        (shrink(7, 10), Err(GrantError::WouldRaise)),
        (reclaim(10), Ok(0)),
        (reclaim(9), Err(GrantError::StaleBase)),
    ];
    for (change, expected) in cases {
        let mut table = table();
        let before = table.granted_sum(&pool("f"));
        let result = table.apply(&change, at(20));
        assert_eq!(result.clone().map(|o| o.n), expected, "{change:?}");
        table.check();
        match result {
            Ok(outcome) => {
                let granted = table.granted(outcome.worker, &pool("f"));
                assert_eq!(granted.map_or(0, |g| g.n), outcome.n);
                assert!(granted.is_none_or(|g| g.sequence == at(20)));
            }
            Err(_) => assert_eq!(table.granted_sum(&pool("f")), before),
        }
    }
}

#[test]
fn second_change_of_a_share_in_one_entry_is_refused() {
    let mut table = table();
    assert!(table.apply(&shrink(4, 10), at(20)).is_ok());
    assert_eq!(
        table.apply(&grow(WORKER, 5), at(20)),
        Err(GrantError::StaleBase)
    );
}

#[test]
fn new_life_frees_what_the_old_one_held_and_old_lives_stay_out() {
    let mut table = table();
    table.register_worker(WORKER, LIFE, at(20)).unwrap();
    assert_eq!(
        table.free(&pool("f")),
        2,
        "the same life again changes nothing"
    );
    table
        .register_worker(WORKER, Incarnation(2), at(21))
        .unwrap();
    assert_eq!(table.free(&pool("f")), 8);
    let stale = table.register_worker(WORKER, LIFE, at(22));
    assert_eq!(stale, Err(GrantError::StaleIncarnation));
    assert!(table.is_superseded(WORKER, LIFE));
    assert!(
        !table.is_superseded(WORKER, Incarnation(3)),
        "not heard of yet"
    );
}

#[test]
fn forgotten_worker_comes_back_only_in_a_new_life() {
    let mut table = table();
    table.forget_worker(WORKER, at(20)).unwrap();
    assert_eq!(table.free(&pool("f")), 8);
    assert_eq!(table.incarnation(WORKER), None);
    assert!(table.is_superseded(WORKER, LIFE));
    assert_eq!(
        table.apply(&grow(WORKER, 1), at(21)),
        Err(GrantError::UnknownWorker)
    );
    let again = table.register_worker(WORKER, LIFE, at(22));
    assert_eq!(again, Err(GrantError::StaleIncarnation));
    assert!(
        table
            .register_worker(WORKER, Incarnation(2), at(23))
            .is_ok()
    );
    assert_eq!(
        table.forget_worker(NodeId(9), at(24)),
        Err(GrantError::UnknownWorker)
    );
}

#[test]
fn lowered_limit_asks_the_largest_shares_to_fall() {
    for (limit, expected) in [
        (10, vec![]),
        (8, vec![]),
        (7, vec![(1, 5)]),
        (4, vec![(1, 2)]),
        (3, vec![(1, 1)]),
        (2, vec![(1, 1), (2, 1)]),
        (1, vec![(1, 0), (2, 1)]),
        (0, vec![(1, 0), (2, 0)]),
    ] {
        let mut table = table();
        let wanted = table.set_limit(&pool("f"), limit, at(20));
        let wanted: Vec<_> = wanted.iter().map(|w| (w.worker.0, w.n)).collect();
        assert_eq!(wanted, expected, "limit {limit}");
        assert_eq!(table.free(&pool("f")), limit.saturating_sub(8));
    }
}

#[test]
fn removed_pool_is_kept_until_nobody_can_use_it() {
    let mut table = table();
    assert_eq!(table.remove_pool(&pool("f"), at(20)).len(), 2);
    assert_eq!(
        table.apply(&grow(WORKER, 7), at(21)),
        Err(GrantError::OverLimit { free: 0 })
    );
    // Made again meanwhile: what is still out counts against the new limit.
    table.set_limit(&pool("f"), 9, at(22));
    assert_eq!(table.free(&pool("f")), 1);
    table.remove_pool(&pool("f"), at(23));
    table.apply(&shrink(0, 10), at(24)).unwrap();
    assert_eq!(table.limit(&pool("f")), Some(0));
    table
        .register_worker(OTHER, Incarnation(9), at(25))
        .unwrap();
    assert_eq!(table.limit(&pool("f")), None);
    assert!(table.remove_pool(&pool("f"), at(26)).is_empty());
}

#[test]
fn table_survives_json() {
    let table = table();
    let text = serde_json::to_string(&table).unwrap();
    assert_eq!(serde_json::from_str::<GrantTable>(&text).unwrap(), table);
}

#[derive(Clone, Debug)]
enum Op {
    Register(u64, u64),
    Forget(u64),
    Limit(u8, u32),
    Remove(u8),
    Grow(u64, u8, u32, u64),
    Lower(u64, u8, u32, u64),
}

fn op() -> impl Strategy<Value = Op> {
    let (worker, name, n, life) = (1_u64..4, 0_u8..3, 0_u32..12, 1_u64..4);
    prop_oneof![
        1 => (worker.clone(), life.clone()).prop_map(|(w, i)| Op::Register(w, i)),
        1 => worker.clone().prop_map(Op::Forget),
        2 => (name.clone(), n.clone()).prop_map(|(p, n)| Op::Limit(p, n)),
        1 => name.clone().prop_map(Op::Remove),
        8 => (worker.clone(), name.clone(), n.clone(), life).prop_map(|(w, p, n, i)| Op::Grow(w, p, n, i)),
        // How many entries ago the base was.
        4 => (worker, name, n, 0_u64..6).prop_map(|(w, p, n, back)| Op::Lower(w, p, n, back)),
    ]
}

proptest! {
    /// I1, and the table's own invariants, whatever is proposed in whatever order.
    #[test]
    fn no_order_of_proposals_breaks_the_table(ops in prop::collection::vec(op(), 0..150)) {
        let mut table = GrantTable::default();
        let names = [pool("a"), pool("b"), pool("")];
        for (index, op) in (1_u64..).zip(ops) {
            let before: Vec<u64> = names.iter().map(|p| table.granted_sum(p)).collect();
            match op {
                Op::Register(w, i) => drop(table.register_worker(NodeId(w), Incarnation(i), at(index))),
                Op::Forget(w) => drop(table.forget_worker(NodeId(w), at(index))),
                Op::Limit(p, n) => drop(table.set_limit(&names[usize::from(p)], n, at(index))),
                Op::Remove(p) => drop(table.remove_pool(&names[usize::from(p)], at(index))),
                Op::Grow(w, p, n, i) => {
                    let change = GrantChange::Grow {
                        worker: NodeId(w), pool: names[usize::from(p)].clone(), n, incarnation: Incarnation(i),
                    };
                    drop(table.apply(&change, at(index)));
                }
                Op::Lower(w, p, n, back) => {
                    let pool = names[usize::from(p)].clone();
                    let base = table.granted(NodeId(w), &pool)
                        .map_or(GrantSequence(0), |g| at(g.sequence.0.saturating_sub(back / 4)));
                    let change = GrantChange::Shrink { worker: NodeId(w), pool, n, base };
                    drop(table.apply(&change, at(index)));
                }
            }
            table.check();
            for (pool, before) in names.iter().zip(before) {
                let (sum, limit) = (table.granted_sum(pool), u64::from(table.limit(pool).unwrap_or(0)));
                prop_assert!(sum <= limit.max(before));
                prop_assert_eq!(u64::from(table.free(pool)), limit.saturating_sub(sum));
                let cut: u64 = table.excess(pool).iter()
                    .map(|w| u64::from(table.granted(w.worker, pool).unwrap().n - w.n))
                    .sum();
                prop_assert_eq!(cut, sum.saturating_sub(limit), "exactly the excess is asked back");
            }
        }
    }
}
