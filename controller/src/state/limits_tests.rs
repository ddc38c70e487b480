//! Limits, grants and the workers they are given to.

use hearth_core::ids::{GrantSequence, Incarnation, NodeId};

use super::command::{Command, Settled};
use super::reply::{Effect, Reply};
use super::tests::*;

#[test]
fn pools_follow_reservations() {
    let mut state = active();
    assert_eq!(state.grants.table().limit(&pool(None)), Some(1_000));
    function(state.apply(4, &reserve("f", Some(300))));
    assert_eq!(state.grants.table().limit(&pool(None)), Some(700));
    assert_eq!(state.grants.table().limit(&pool(Some("f"))), Some(300));
    assert_eq!(state.account(&account()).unreserved, 700);
    assert_eq!(state.pool_of(&account(), &name("f")), Some(pool(Some("f"))));

    function(state.apply(5, &reserve("f", None)));
    assert_eq!(state.grants.table().limit(&pool(None)), Some(1_000));
    assert_eq!(state.grants.table().limit(&pool(Some("f"))), None);

    function(state.apply(6, &reserve("f", Some(0))));
    assert_eq!(state.grants.table().limit(&pool(Some("f"))), Some(0));
    let delete = Command::DeleteFunction {
        account: account(),
        name: name("f"),
    };
    assert_eq!(state.apply(7, &delete).0, Reply::Done);
    assert_eq!(state.grants.table().limit(&pool(Some("f"))), None);
    assert_eq!(state.account(&account()).code_bytes, 0);
}

#[test]
fn new_limits_reach_every_pool_and_the_region_stays() {
    let mut state = active();
    function(state.apply(4, &reserve("f", Some(300))));
    let command = Command::Configure {
        region: "eu-west-1".into(),
        concurrency_limit: 350,
        code_storage_bytes: 1_000,
    };
    assert_eq!(state.apply(5, &command).0, Reply::Done);
    assert_eq!(state.region, "us-east-1");
    assert_eq!(state.grants.table().limit(&pool(None)), Some(50));
    assert_eq!(state.grants.table().limit(&pool(Some("f"))), Some(300));
    function(state.apply(6, &reserve("f", Some(250))));
    assert_eq!(state.grants.table().limit(&pool(None)), Some(100));
}

#[test]
fn longest_timeout_is_never_forgotten_while_it_may_matter() {
    let mut state = active();
    function(state.apply(4, &update_timeout("f", 60)));
    function(state.apply(5, &settle("f", 4, Settled::Successful)));
    function(state.apply(6, &reserve("f", Some(10))));
    function(state.apply(7, &update_timeout("f", 2)));
    for pool in [pool(None), pool(Some("f"))] {
        assert_eq!(state.grants.longest_timeout_ms(&pool), 60_000, "{pool}");
    }
}

#[test]
fn a_new_life_of_a_worker_frees_what_the_old_one_held() {
    let mut state = active();
    assert_eq!(state.apply(4, &register(1, 7)).0, Reply::Done);
    let (Reply::Grants(outcomes), _) = state.apply(5, &grow(1, 7, None, 10)) else {
        panic!("not grants");
    };
    assert_eq!(outcomes[0].as_ref().unwrap().sequence, GrantSequence(5));
    assert_eq!(state.apply(6, &register(1, 7)).0, Reply::Done);
    assert_eq!(state.grants.table().granted_sum(&pool(None)), 10);
    assert_eq!(state.apply(7, &register(1, 8)).0, Reply::Done);
    assert_eq!(state.grants.table().granted_sum(&pool(None)), 0);
    assert_eq!(state.apply(8, &register(1, 7)), (Reply::Superseded, vec![]));
    assert_eq!(
        state
            .apply(9, &Command::ForgetWorker { worker: NodeId(1) })
            .1,
        vec![Effect::Worker(NodeId(1))]
    );
    assert_eq!(state.apply(10, &register(1, 8)).0, Reply::Superseded);
}

/// A reclaim that a deposed leader hands on to its successor must not hit a worker the successor has heard.
#[test]
fn grants_of_an_older_leader_are_void() {
    let mut state = active();
    state.apply(4, &register(1, 7));
    assert_eq!(
        state.apply(5, &Command::BeginTerm { term: 3 }).0,
        Reply::Done
    );
    assert_eq!(state.apply(6, &grow(1, 7, None, 10)).0, Reply::Superseded);
    assert_eq!(state.grants.table().granted_sum(&pool(None)), 0);
    assert_eq!(
        state.apply(7, &Command::BeginTerm { term: 2 }).0,
        Reply::Superseded
    );
    assert_eq!(state.leader_term, 3);
}

#[test]
fn health_of_an_older_life_is_void() {
    let mut state = configured();
    state.apply(2, &register(1, 2));
    let health = |incarnation, reachable| Command::SetWorkerHealth {
        worker: NodeId(1),
        incarnation: Incarnation(incarnation),
        reachable,
        draining: false,
    };
    assert_eq!(state.apply(3, &health(1, false)).1, vec![]);
    assert_eq!(
        state.apply(4, &health(2, false)).1,
        vec![Effect::Worker(NodeId(1))]
    );
    assert_eq!(state.apply(5, &health(2, false)).1, vec![]);
    assert!(!state.nodes.worker(NodeId(1)).unwrap().reachable);
}
