//! Who prepares what, and how it ends, as tables.

use super::*;
use hearth_core::ids::Version;

fn wanted(name: &str) -> Wanted {
    Wanted {
        key: VersionKey {
            account: "123456789012".parse().unwrap(),
            function: name.parse().unwrap(),
            version: Version::Latest,
            generation: 1,
        },
        runtime: Some("python3.11".into()),
        memory_mib: 128,
    }
}

fn host(id: u64) -> Host {
    Host {
        worker: NodeId(id),
        free_memory_mib: 10_000 - id,
        memory_mib: 10_000,
        runtimes: vec!["python3.11".into()],
    }
}

fn at(ms: u64) -> MonotonicMs {
    MonotonicMs(ms)
}

fn asked(actions: &[Action]) -> Vec<u64> {
    actions
        .iter()
        .filter_map(|a| match a {
            Action::Prepare { worker, .. } => Some(worker.0),
            Action::Settle { .. } => None,
        })
        .collect()
}

fn settled(actions: &[Action]) -> Option<&Settled> {
    actions.iter().find_map(|a| match a {
        Action::Settle { outcome, .. } => Some(outcome),
        Action::Prepare { .. } => None,
    })
}

fn reason() -> StateReason {
    StateReason {
        code: "InvalidZipFileException".into(),
        message: "broken".into(),
    }
}

#[test]
fn first_success_settles_but_not_before_a_quarter_of_a_second() {
    let mut plan = Preparations::default();
    let (f, hosts) = (wanted("f"), [host(1), host(2), host(3)]);
    let wanted = [f.clone()];
    assert_eq!(asked(&plan.plan(&wanted, &hosts, at(0))), [1, 2]);
    plan.on_prepared(NodeId(2), &f.key, Ok(()));
    assert_eq!(plan.plan(&wanted, &hosts, at(249)), []);
    let actions = plan.plan(&wanted, &hosts, at(250));
    assert_eq!(settled(&actions), Some(&Settled::Successful));
    assert_eq!(plan.plan(&wanted, &hosts, at(1_249)), []);
    assert_eq!(
        plan.plan(&wanted, &hosts, at(1_250)).len(),
        1,
        "proposed again"
    );
    assert_eq!(plan.plan(&[], &hosts, at(1_300)), []);
    assert!(plan.under_way.is_empty());
}

fn failure(actions: &[Action]) -> Option<(&str, &str)> {
    match settled(actions)? {
        Settled::Failed(reason) => Some((&reason.code, &reason.message)),
        Settled::Successful => None,
    }
}

#[test]
fn without_a_worker_in_session_it_waits() {
    let mut plan = Preparations::default();
    let (f, mut other) = ([wanted("f")], host(1));
    other.runtimes.clear();
    for now in [0, 10_000, 100_000] {
        assert_eq!(plan.plan(&f, &[], at(now)), []);
        // Seen shortly, and gone again: the wait begins anew.
        let shortly = plan.plan(&f, std::slice::from_ref(&other), at(now + 1));
        assert_eq!(shortly, []);
    }
    assert_eq!(asked(&plan.plan(&f, &[host(3)], at(100_002))), [3]);
}

#[test]
fn a_runtime_that_no_worker_has_fails_and_says_what_to_do() {
    let mut plan = Preparations::default();
    let (f, mut other) = ([wanted("f")], host(1));
    other.runtimes = vec!["nodejs22.x".into()];
    let hosts = [other, host(2)];
    assert_eq!(plan.plan(&f, &hosts[..1], at(0)), []);
    assert_eq!(plan.plan(&f, &hosts[..1], at(2_999)), []);
    let actions = plan.plan(&f, &hosts[..1], at(3_000));
    let text = "No worker has the runtime python3.11. Run `hearth runtime install python3.11` on the workers.";
    assert_eq!(failure(&actions), Some(("InvalidRuntime", text)));
    assert_eq!(plan.plan(&f, &hosts[..1], at(3_999)), []);
    assert_eq!(plan.plan(&f, &hosts[..1], at(4_000)).len(), 1, "again");
    assert_eq!(asked(&plan.plan(&f, &hosts, at(4_001))), [2]);
    assert!(plan.unsuited.is_empty());
}

#[test]
fn memory_that_no_worker_has_fails_and_says_so() {
    let mut plan = Preparations::default();
    let (f, mut small, mut other) = ([wanted("f")], host(1), host(2));
    small.memory_mib = 127;
    other.runtimes.clear();
    let hosts = [small, other];
    assert_eq!(plan.plan(&f, &hosts, at(0)), []);
    let actions = plan.plan(&f, &hosts, at(3_000));
    let (code, message) = failure(&actions).unwrap();
    assert_eq!(code, "InsufficientCapacity");
    assert!(message.contains("128 MB"), "{message}");
}

#[test]
fn silence_is_asked_again_elsewhere_first() {
    let mut plan = Preparations::default();
    let (f, hosts) = ([wanted("f")], [host(1), host(2), host(3)]);
    assert_eq!(asked(&plan.plan(&f, &hosts, at(0))), [1, 2]);
    assert_eq!(plan.plan(&f, &hosts, at(4_999)), []);
    assert_eq!(asked(&plan.plan(&f, &hosts, at(5_000))), [3, 1]);
    assert_eq!(asked(&plan.plan(&f, &hosts, at(10_000))), [2, 3]);
}

#[test]
fn a_worker_that_left_is_replaced_at_once() {
    let mut plan = Preparations::default();
    let f = [wanted("f")];
    assert_eq!(asked(&plan.plan(&f, &[host(1), host(2)], at(0))), [1, 2]);
    assert_eq!(asked(&plan.plan(&f, &[host(2), host(3)], at(1))), [3]);
}

#[test]
fn failure_needs_a_second_opinion_when_there_is_one() {
    let mut plan = Preparations::default();
    let f = wanted("f");
    let (wanted, both) = ([f.clone()], [host(1), host(2)]);
    assert_eq!(asked(&plan.plan(&wanted, &both, at(0))), [1, 2]);
    plan.on_prepared(NodeId(1), &f.key, Err(reason()));
    assert_eq!(plan.plan(&wanted, &both, at(300)), []);
    plan.on_prepared(NodeId(2), &f.key, Err(reason()));
    let actions = plan.plan(&wanted, &both, at(301));
    assert_eq!(settled(&actions), Some(&Settled::Failed(reason())));
}

#[test]
fn success_anywhere_outweighs_a_failure() {
    let mut plan = Preparations::default();
    let f = wanted("f");
    let (wanted, both) = ([f.clone()], [host(1), host(2)]);
    plan.plan(&wanted, &both, at(0));
    plan.on_prepared(NodeId(1), &f.key, Err(reason()));
    plan.on_prepared(NodeId(2), &f.key, Ok(()));
    let actions = plan.plan(&wanted, &both, at(300));
    assert_eq!(settled(&actions), Some(&Settled::Successful));
}

#[test]
fn the_only_worker_decides_a_failure() {
    let mut plan = Preparations::default();
    let f = wanted("f");
    let wanted = [f.clone()];
    plan.plan(&wanted, &[host(1)], at(0));
    plan.on_prepared(NodeId(1), &f.key, Err(reason()));
    let actions = plan.plan(&wanted, &[host(1)], at(250));
    assert_eq!(settled(&actions), Some(&Settled::Failed(reason())));
}

#[test]
fn preparations_are_spread_over_the_workers() {
    let mut plan = Preparations::default();
    let many: Vec<Wanted> = (0..6).map(|i| wanted(&format!("f{i}"))).collect();
    let hosts: Vec<Host> = (1..=4).map(host).collect();
    let mut asked = asked(&plan.plan(&many, &hosts, at(0)));
    asked.sort_unstable();
    assert_eq!(asked, [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]);
}

#[test]
fn preparations_at_a_time_are_bounded() {
    let mut plan = Preparations::default();
    let many: Vec<Wanted> = (0..PREPARING_MAX + 10)
        .map(|i| wanted(&format!("f{i}")))
        .collect();
    let actions = plan.plan(&many, &[host(1)], at(0));
    assert_eq!(actions.len(), PREPARING_MAX);
}

#[test]
fn what_nobody_can_prepare_does_not_hold_up_the_rest() {
    let mut plan = Preparations::default();
    let mut many: Vec<Wanted> = (0..PREPARING_MAX + 10)
        .map(|i| wanted(&format!("f{i}")))
        .collect();
    for wanted in &mut many {
        wanted.runtime = Some("cobol".into());
    }
    many.push(wanted("z"));
    assert_eq!(asked(&plan.plan(&many, &[host(1)], at(0))), [1]);
}
