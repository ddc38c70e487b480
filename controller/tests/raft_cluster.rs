//! Three nodes in one process on real sockets and real disks: replication, fail-over, forwarding, membership,
//! snapshots, restarts. The machine is a trivial one.
#![expect(
    clippy::unwrap_used,
    clippy::tests_outside_test_module,
    reason = "this whole file is a test"
)]

mod raft_support;

use std::collections::BTreeSet;
use std::time::Duration;

use hearth_controller::raft::{
    Consensus, MAX_COMMAND_BYTES, Machine, MembershipError, Options, ProposeError, RestoreError,
};
use raft_support::journal::{Journal, until};
use raft_support::{Cluster, insist, started};

/// A fail-over takes about 1.5 election timeouts; this is the promise.
const FAIL_OVER: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_reach_every_node_from_any_node() {
    let cluster = Cluster::start(3).await;
    for (id, node) in cluster.nodes() {
        let proposed = node.propose(format!("from-{id}")).await.unwrap();
        assert_eq!(
            proposed.reply,
            format!("ok {}", proposed.index).into_bytes()
        );
    }
    for (_, node) in cluster.nodes() {
        let index = node.read_index().await.unwrap();
        assert!(node.applied_index() >= index);
        let commands = node.read(Journal::commands);
        assert_eq!(commands, ["from-1", "from-2", "from-3"]);
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_at_the_limit_pass_and_larger_ones_are_refused() {
    let cluster = Cluster::start(3).await;
    for (_, node) in cluster.nodes() {
        node.propose(vec![b'x'; MAX_COMMAND_BYTES]).await.unwrap();
        let error = node.propose(vec![b'x'; MAX_COMMAND_BYTES + 1]).await;
        assert!(matches!(error, Err(ProposeError::TooLarge { .. })));
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_leads_within_two_seconds_after_the_leader_died() {
    let mut cluster = Cluster::start(3).await;
    let mut slowest = Duration::ZERO;
    for round in 0..3 {
        let (leader, node) = cluster.leader().await;
        node.propose(format!("before-{round}")).await.unwrap();
        drop(node);
        cluster.kill(leader).await;
        let clock = started();
        let survivor = cluster.any();
        insist(survivor, &format!("after-{round}")).await;
        slowest = slowest.max(clock.elapsed());
        cluster.restart(leader).await;
        let returned = cluster.node(leader).clone();
        returned.read_index().await.unwrap();
        let mut commands = returned.read(Journal::commands);
        commands.dedup();
        assert_eq!(commands.len(), 2 * (round + 1));
    }
    println!("slowest fail-over of 3: {slowest:?}");
    assert!(slowest < FAIL_OVER, "{slowest:?}");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_nothing_is_promised() {
    let mut cluster = Cluster::start(3).await;
    cluster.any().propose("kept").await.unwrap();
    cluster.node(3).read_index().await.unwrap();
    cluster.kill(1).await;
    cluster.kill(2).await;
    let alone = cluster.node(3).clone();
    let error = alone.propose("lost?").await.unwrap_err();
    assert!(
        matches!(
            error,
            ProposeError::NotLeader { .. }
                | ProposeError::Unavailable(_)
                | ProposeError::OutcomeUnknown(_)
        ),
        "{error}"
    );
    alone.read_index().await.unwrap_err();
    // What it has it still shows.
    assert_eq!(alone.read(Journal::commands)[0], "kept");
    cluster.shutdown().await;
}

/// A gateway whose controller leads only in its own belief must be free to ask another one, soon and without doubt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_a_majority_soon_takes_nothing_and_says_so() {
    let mut cluster = Cluster::start(3).await;
    let (leader, node) = cluster.leader().await;
    for other in (1..=3).filter(|id| *id != leader) {
        cluster.kill(other).await;
    }
    // It may have taken this one before it noticed.
    node.propose("perhaps").await.unwrap_err();
    let clock = started();
    let error = node.propose("never").await.unwrap_err();
    let is_certain = matches!(
        error,
        ProposeError::NotLeader { .. } | ProposeError::Unavailable(_)
    );
    assert!(is_certain, "{error}");
    assert!(clock.elapsed() < FAIL_OVER, "{:?}", clock.elapsed());
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_all_keeps_everything_and_initialize_is_idempotent() {
    let mut cluster = Cluster::start(3).await;
    for i in 0..20 {
        cluster.any().propose(format!("{i}")).await.unwrap();
    }
    for id in 1..=3 {
        cluster.kill(id).await;
    }
    for id in 1..=3 {
        cluster.restart(id).await;
    }
    for (_, node) in cluster.nodes() {
        assert!(!node.initialize(&cluster.members()).await.unwrap());
        node.read_index().await.unwrap();
        assert_eq!(node.read(Journal::len), 20);
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_join_and_leave() {
    let mut cluster = Cluster::start(3).await;
    cluster.any().propose("old").await.unwrap();
    let address = cluster.spawn(4).await;
    let (leader, node) = cluster.leader().await;
    let follower = cluster.nodes().find(|(id, _)| **id != leader && **id != 4);
    let refused = follower.unwrap().1.add_learner(4, &address).await;
    assert!(matches!(refused, Err(MembershipError::NotLeader { .. })));

    node.add_learner(4, &address).await.unwrap();
    assert!(node.members().learners.contains_key(&4));
    node.change_membership(BTreeSet::from([1, 2, 3, 4]))
        .await
        .unwrap();
    let gone = (1..=3).find(|id| *id != leader).unwrap();
    node.remove(gone).await.unwrap();
    let members = node.members();
    assert!(members.voters.contains_key(&4) && !members.voters.contains_key(&gone));
    assert!(!members.changing && members.learners.is_empty());

    let joined = cluster.node(4);
    joined.propose("new").await.unwrap();
    joined.read_index().await.unwrap();
    assert_eq!(joined.read(Journal::commands), ["old", "new"]);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_too_long_gets_a_snapshot() {
    let mut cluster = Cluster::with_snapshots_every(3, 50).await;
    let (leader, _) = cluster.leader().await;
    let away = (1..=3).find(|id| *id != leader).unwrap();
    cluster.kill(away).await;
    let node = cluster.node(leader).clone();
    // Large enough that the snapshot travels in several pieces.
    for i in 0..200 {
        node.propose(format!("{i}-{}", "x".repeat(4_000)))
            .await
            .unwrap();
    }
    until("the log is purged", || node.purged_index() > 50).await;
    cluster.restart(away).await;
    let back = cluster.node(away);
    back.read_index().await.unwrap();
    assert_eq!(back.read(Journal::len), 200);
    // It restored a state rather than applying 200 commands.
    assert!(back.read(Journal::restored) > 0);
    assert!(back.read(Journal::applied) < 200);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over_on_request() {
    let cluster = Cluster::start(3).await;
    let (leader, node) = cluster.leader().await;
    let to = (1..=3).find(|id| *id != leader).unwrap();
    let clock = started();
    node.transfer_leader(to).await.unwrap();
    let mut leadership = cluster.node(to).watch_leadership();
    tokio::time::timeout(FAIL_OVER, leadership.wait_for(|now| now.is_leader))
        .await
        .unwrap()
        .unwrap();
    println!("leadership moved after {:?}", clock.elapsed());
    cluster.node(leader).propose("after").await.unwrap();
    cluster.shutdown().await;
}

/// A rolling restart must not cost an election each time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_stops_in_order_hands_over_first() {
    let mut cluster = Cluster::start(3).await;
    let (leader, node) = cluster.leader().await;
    node.propose("before").await.unwrap();
    let mut handed_over = node.watch_leadership();
    drop(node);
    let clock = started();
    cluster.stop(leader).await;
    let after = handed_over.borrow_and_update().clone();
    assert!(!after.is_leader, "{after:?}");
    let successor = cluster.any();
    let mut leadership = successor.watch_leadership();
    let elected =
        leadership.wait_for(|now| now.leader.as_ref().is_some_and(|(id, _)| *id != leader));
    tokio::time::timeout(FAIL_OVER, elected)
        .await
        .unwrap()
        .unwrap();
    insist(successor, "after").await;
    println!("stop and next command took {:?}", clock.elapsed());
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_of_another_cluster_are_refused() {
    let cluster = Cluster::start(3).await;
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new(9, "other", dir.path(), cluster.members());
    let stranger = Consensus::start(options, Journal::default()).await.unwrap();
    let mut members = cluster.members();
    members.insert(9, "127.0.0.1:1".to_owned());
    // The cluster does not answer the stranger's question, so it forms none.
    let error = stranger.initialize(&members).await.unwrap_err();
    assert!(matches!(error, MembershipError::Silent { .. }), "{error}");
    let before = cluster.any().leadership().term;
    stranger.propose("hello").await.unwrap_err();
    assert_eq!(cluster.any().leadership().term, before);
    assert_eq!(cluster.any().read(Journal::len), 0);
    stranger.shutdown().await;
    cluster.shutdown().await;
}

/// It may have acknowledged what it has forgotten: with an empty log it would elect who has not got it either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_its_disk_takes_no_part_and_says_what_to_do() {
    let mut cluster = Cluster::start(3).await;
    let (leader, node) = cluster.leader().await;
    let lost = (1..=3).find(|id| *id != leader).unwrap();
    node.propose("kept").await.unwrap();
    cluster.kill(lost).await;
    cluster.lose_disk(lost);
    cluster.restart(lost).await;
    let mut fatal = cluster.node(lost).watch_fatal();
    let reason = tokio::time::timeout(FAIL_OVER, fatal.wait_for(Option::is_some));
    let reason = reason.await.unwrap().unwrap().clone().unwrap();
    let advice = format!("controller {lost} has lost its data");
    assert!(reason.starts_with(&advice), "{reason}");
    assert!(reason.contains("hearth controllers remove"), "{reason}");
    assert_eq!(cluster.node(lost).read(Journal::len), 0);
    // The others go on.
    insist(&node, "after").await;
    assert!(node.watch_fatal().borrow().is_none());
    // One of three with its log, and one without: nobody can be elected.
    drop(node);
    cluster.kill(leader).await;
    let other = (1..=3).find(|id| ![leader, lost].contains(id)).unwrap();
    let alone = cluster.node(other).clone();
    alone.propose("lost?").await.unwrap_err();
    assert!(!alone.leadership().is_leader);
    // It is let in again under another name.
    cluster.restart(leader).await;
    cluster.kill(lost).await;
    let address = cluster.spawn(4).await;
    insist(&alone, "back").await;
    let (_, node) = cluster.leader().await;
    node.remove(lost).await.unwrap();
    node.add_learner(4, &address).await.unwrap();
    let voters = node.members().voters.keys().copied().chain([4]).collect();
    node.change_membership(voters).await.unwrap();
    let joined = cluster.node(4);
    joined.read_index().await.unwrap();
    assert_eq!(joined.read(Journal::commands)[0], "kept");
    cluster.shutdown().await;
}

#[derive(Debug)]
struct Broken;

impl Machine for Broken {
    fn apply(&mut self, _index: u64, _command: &[u8]) -> Vec<u8> {
        panic!("a machine must not panic; this one does")
    }
    fn snapshot(&self) -> Vec<u8> {
        Vec::new()
    }
    fn restore(&mut self, _bytes: &[u8]) -> Result<(), RestoreError> {
        Ok(())
    }
}

/// A Raft core that stopped by itself does not end the process; whoever runs it must hear of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_the_machine_is_fatal() {
    let dir = tempfile::tempdir().unwrap();
    let members = std::collections::BTreeMap::from([(1, "127.0.0.1:1".to_owned())]);
    let options = Options::new(1, "broken", dir.path(), members.clone());
    let node = Consensus::start(options, Broken).await.unwrap();
    node.initialize(&members).await.unwrap();
    let mut fatal = node.watch_fatal();
    node.propose("boom").await.unwrap_err();
    let reason = tokio::time::timeout(FAIL_OVER, fatal.wait_for(Option::is_some)).await;
    println!("{:?}", *reason.unwrap().unwrap());
    node.shutdown().await;
}
