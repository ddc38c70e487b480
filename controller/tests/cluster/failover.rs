//! Leaders that die or leave.

use hearth_core::control::{ControlReply, ControlRequest};
use hearth_proto::internal::v1::need_capacity_reply::Outcome;

use crate::harness::{Cluster, create, get, reserve, until};
use crate::scripted_worker::ScriptedWorker;
use crate::workers::{active, need, reserved_pool};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_sessions_move_when_the_leader_dies() {
    let mut cluster = Cluster::start(3).await;
    let dead = cluster.leader().await;
    let worker = ScriptedWorker::start(&cluster, 11, 1).await;
    assert_eq!(worker.known().leader, Some(dead));
    let names: Vec<String> = (0..20).map(|i| format!("f{i}")).collect();
    for name in &names {
        cluster.function(dead, &create(name)).await;
    }
    active(&cluster, dead, "f0").await;
    cluster.function(dead, &reserve("f0", Some(3))).await;
    let pool = reserved_pool("f0");
    need(&cluster, dead, "f0", 1, &[]).await;
    until("a permit", async || {
        (worker.ceiling(&pool) > 0).then_some(())
    })
    .await;

    cluster.kill(dead);
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    for name in &names {
        cluster.function(follower, &get(name)).await;
    }
    assert!(worker.acquire(&pool), "permits outlive the leader");
    until("a session with the new leader", async || {
        (worker.known().leader == Some(leader)).then_some(())
    })
    .await;
    for name in &names {
        active(&cluster, follower, name).await;
    }
    // The new leader neither forgot what is granted nor grants more than the limit.
    until("every permit", async || {
        let answer = need(&cluster, follower, "f0", 3, &[]).await;
        let has_all = answer.outcome() == Outcome::Granted && worker.ceiling(&pool) == 3;
        has_all.then_some(())
    })
    .await;
    assert!(worker.acquire(&pool) && worker.acquire(&pool));
    assert!(!worker.acquire(&pool));

    cluster.start_node(dead, true).await;
    for name in &names {
        cluster.function(dead, &get(name)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_stops_in_order_hands_over_and_comes_back_with_its_data() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    cluster.function(leader, &create("f")).await;
    cluster.stop(leader).await;
    let next = cluster.leader().await;
    assert_ne!(next, leader);
    cluster.function(next, &get("f")).await;
    cluster.start_node(leader, true).await;
    cluster.function(leader, &get("f")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_controller_alone_keeps_what_it_was_told() {
    let mut cluster = Cluster::start(1).await;
    cluster.function(1, &create("f")).await;
    cluster
        .admin(1)
        .snapshot(hearth_proto::internal::v1::SnapshotRequest {})
        .await
        .unwrap();
    cluster.function(1, &create("g")).await;
    cluster.stop(1).await;
    cluster.start_node(1, true).await;
    cluster.leader().await;
    for name in ["f", "g"] {
        cluster.function(1, &get(name)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_names_every_node_and_who_is_there() {
    let mut cluster = Cluster::start(3).await;
    let _worker = ScriptedWorker::start(&cluster, 11, 1).await;
    let leader = cluster.leader().await;
    let followers: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    cluster.kill(followers[0]);
    let summary = until("the workers' memory", async || {
        let reply = cluster
            .ask(followers[1], &ControlRequest::ClusterStatus)
            .await;
        match reply {
            Ok(ControlReply::Cluster(summary)) => Some(summary),
            other => panic!("{other:?}"),
        }
        .filter(|s| {
            s.nodes
                .iter()
                .any(|n| n.role == "worker" && n.free_memory_mib == 4_096)
        })
    })
    .await;
    assert_eq!(summary.leader, Some(leader));
    let alive = |id: u64| summary.nodes.iter().find(|n| n.id == id).unwrap().alive;
    assert!(alive(leader) && alive(followers[1]) && alive(11));
    assert!(!alive(followers[0]));
}
