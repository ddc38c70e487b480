//! Sessions, preparation and capacity with scripted workers.

use std::sync::Arc;
use std::time::Duration;

use hearth_core::control::ControlRequest;
use hearth_core::function::{State, UpdateStatus};
use hearth_core::ids::PoolKey;
use hearth_node::clock::{Clock, SystemClock};
use hearth_node::config::HumanDuration;
use hearth_proto::internal::v1 as pb;
use pb::need_capacity_reply::Outcome;

use crate::harness::{Cluster, account, code, create, get, reserve, until, update_code};
use crate::scripted_worker::ScriptedWorker;

pub(crate) fn reserved_pool(name: &str) -> PoolKey {
    PoolKey {
        account: account(),
        function: Some(name.parse().unwrap()),
        provisioned: None,
    }
}

pub(crate) async fn active(cluster: &Cluster, id: u64, name: &str) {
    until("an active function", async || {
        let function = cluster.function(id, &get(name)).await;
        (function.state == State::Active).then_some(())
    })
    .await;
}

pub(crate) async fn need(
    cluster: &Cluster,
    id: u64,
    name: &str,
    wanted: u32,
    refused_by: &[u64],
) -> pb::NeedCapacityReply {
    let request = pb::NeedCapacityRequest {
        gateway_id: 5,
        account: account().as_str().into(),
        function: name.into(),
        wanted,
        refused_by: refused_by.to_vec(),
        ejected: Vec::new(),
        memory_mib: 0,
    };
    ask(cluster, id, request).await
}

async fn ask(
    cluster: &Cluster,
    id: u64,
    request: pb::NeedCapacityRequest,
) -> pb::NeedCapacityReply {
    until("an answer about capacity", async || {
        // The leader may be about to change.
        let answer = cluster.control(id).need_capacity(request.clone()).await;
        answer.ok().map(tonic::Response::into_inner)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prepared_function_becomes_active_and_updates_serve_when_prepared() {
    let cluster = Cluster::start(3).await;
    let follower = cluster.follower().await;
    cluster.function(follower, &create("f")).await;
    let worker = ScriptedWorker::start(&cluster, 11, 1).await;
    active(&cluster, follower, "f").await;
    assert_eq!(worker.known().prepared[0].function, "f");

    let updating = cluster.function(follower, &update_code("f", 2)).await;
    assert_eq!(updating.update, UpdateStatus::InProgress);
    let seen = cluster.function(follower, &get("f")).await;
    assert_eq!(seen.update, UpdateStatus::InProgress, "not settled at once");
    assert_eq!(seen.serving.unwrap().code, code(1));
    let settled = until("the update's end", async || {
        let function = cluster.function(follower, &get("f")).await;
        (function.update == UpdateStatus::Successful).then_some(function)
    })
    .await;
    assert_eq!(settled.serving.unwrap().code, code(2));
    assert_ne!(settled.latest.revision_id, updating.latest.revision_id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_that_cannot_be_prepared_fails_with_the_workers_reason() {
    let cluster = Cluster::start(1).await;
    let worker = ScriptedWorker::start(&cluster, 11, 1).await;
    worker.known().answer = Some(Err("not a zip".into()));
    cluster.function(1, &create("f")).await;
    let reason = until("a failure", async || {
        match cluster.function(1, &get("f")).await.state {
            State::Failed(reason) => Some(reason),
            State::Pending | State::Active => None,
        }
    })
    .await;
    assert_eq!(reason.code, "InvalidZipFileException");
    assert_eq!(reason.message, "not a zip");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn capacity_is_granted_up_to_the_limit_and_not_beyond() {
    let cluster = Cluster::start(3).await;
    let follower = cluster.follower().await;
    let worker = ScriptedWorker::start(&cluster, 11, 1).await;
    cluster.function(follower, &create("f")).await;
    active(&cluster, follower, "f").await;
    cluster.function(follower, &reserve("f", Some(2))).await;
    let pool = reserved_pool("f");

    let answer = until("a live worker", async || {
        let answer = need(&cluster, follower, "f", 2, &[]).await;
        (answer.outcome() != Outcome::NoWorker).then_some(answer)
    })
    .await;
    assert_eq!(answer.outcome(), Outcome::Granted);
    assert_eq!(answer.workers, [11]);
    assert_eq!(
        worker.ceiling(&pool),
        2,
        "granted means that the worker has it"
    );
    assert!(worker.acquire(&pool) && worker.acquire(&pool));
    assert!(!worker.acquire(&pool));

    let answer = need(&cluster, follower, "f", 1, &[11]).await;
    assert_eq!(answer.outcome(), Outcome::AtLimit);
    assert_eq!(
        answer.reason,
        "ReservedFunctionConcurrentInvocationLimitExceeded"
    );
    let answer = need(&cluster, follower, "missing", 1, &[]).await;
    assert_eq!(answer.outcome(), Outcome::NotFound);
}

/// A gateway that does not send to the holder of the only permit, as the holder does not keep up, is not told that the limit
/// is reached: the permit lies idle, and moves to another worker.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_permit_moves_away_from_a_worker_that_does_not_keep_up() {
    let cluster = Cluster::start(1).await;
    let first = ScriptedWorker::start(&cluster, 11, 1).await;
    cluster.function(1, &create("f")).await;
    active(&cluster, 1, "f").await;
    cluster.function(1, &reserve("f", Some(1))).await;
    let pool = reserved_pool("f");
    until("the permit at the first worker", async || {
        need(&cluster, 1, "f", 1, &[]).await;
        (first.ceiling(&pool) == 1).then_some(())
    })
    .await;
    let second = ScriptedWorker::start(&cluster, 12, 1).await;
    let request = pb::NeedCapacityRequest {
        gateway_id: 5,
        account: account().as_str().into(),
        function: "f".into(),
        wanted: 1,
        refused_by: vec![11],
        ejected: vec![11],
        memory_mib: 0,
    };
    let answer = until("a worker with a permit", async || {
        let answer = ask(&cluster, 1, request.clone()).await;
        (answer.outcome() == Outcome::Granted).then_some(answer)
    })
    .await;
    assert_eq!(answer.workers, [12]);
    assert_eq!((first.ceiling(&pool), second.ceiling(&pool)), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_is_spread_over_two_workers() {
    let cluster = Cluster::start(1).await;
    let workers = [
        ScriptedWorker::start(&cluster, 11, 1).await,
        ScriptedWorker::start(&cluster, 12, 1).await,
    ];
    cluster.function(1, &create("f")).await;
    active(&cluster, 1, "f").await;
    cluster.function(1, &reserve("f", Some(10))).await;
    let pool = reserved_pool("f");
    until("both workers with permits", async || {
        let answer = need(&cluster, 1, "f", 4, &[]).await;
        let has_both = workers.iter().all(|w| w.ceiling(&pool) > 0);
        (answer.outcome() == Outcome::Granted && has_both).then_some(())
    })
    .await;
    let sum: u32 = workers.iter().map(|w| w.ceiling(&pool)).sum();
    assert!(sum <= 10, "{sum}");
}

/// Lowering a limit takes effect as permits drain: idle ones at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lowered_limit_is_asked_back_from_the_worker() {
    let cluster = Cluster::start(1).await;
    let worker = ScriptedWorker::start(&cluster, 11, 1).await;
    cluster.function(1, &create("f")).await;
    active(&cluster, 1, "f").await;
    cluster.function(1, &reserve("f", Some(8))).await;
    let pool = reserved_pool("f");
    need(&cluster, 1, "f", 8, &[]).await;
    until("the grant", async || {
        (worker.ceiling(&pool) == 8).then_some(())
    })
    .await;
    assert!(worker.acquire(&pool));
    cluster.function(1, &reserve("f", Some(3))).await;
    until("the lower ceiling", async || {
        (worker.ceiling(&pool) == 3).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_life_of_a_worker_is_sent_away_for_good() {
    let cluster = Cluster::start(1).await;
    let new = ScriptedWorker::start(&cluster, 11, 5).await;
    let old = ScriptedWorker::start(&cluster, 11, 4).await;
    assert!(old.known().is_superseded);
    assert_eq!(new.known().leader, Some(1));
}

/// The operator's word frees what the dead worker held, at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgotten_workers_permits_go_to_another() {
    let cluster = Cluster::start(1).await;
    let dead = ScriptedWorker::start(&cluster, 11, 1).await;
    cluster.function(1, &create("f")).await;
    active(&cluster, 1, "f").await;
    cluster.function(1, &reserve("f", Some(1))).await;
    let pool = reserved_pool("f");
    need(&cluster, 1, "f", 1, &[]).await;
    until("the grant", async || {
        (dead.ceiling(&pool) == 1).then_some(())
    })
    .await;
    drop(dead);
    let living = ScriptedWorker::start(&cluster, 12, 1).await;
    let answer = tokio::time::timeout(Duration::from_secs(10), need(&cluster, 1, "f", 1, &[11]));
    assert_eq!(answer.await.unwrap().outcome(), Outcome::AtLimit);
    let forget = pb::ForgetWorkerRequest {
        id: 11,
        ..pb::ForgetWorkerRequest::default()
    };
    cluster.admin(1).forget_worker(forget).await.unwrap();
    until("the permit at the living worker", async || {
        need(&cluster, 1, "f", 1, &[11]).await;
        (living.ceiling(&pool) == 1).then_some(())
    })
    .await;
}

/// Silence alone frees a share as well, but only when the worker can no longer use it: TTL_w and the longest
/// timeout have passed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_workers_permits_go_to_another_when_it_must_have_stopped() {
    const TTL_MS: u64 = 800;
    let cluster = Cluster::start_with(1, |options| {
        options.workers.silent_after = HumanDuration::from_millis(400);
        options.workers.lease = HumanDuration::from_millis(TTL_MS);
        options.workers.margin = HumanDuration::from_millis(100);
    })
    .await;
    let silent = ScriptedWorker::start_with(&cluster, 11, 1, TTL_MS).await;
    let mut request = create("f");
    if let ControlRequest::CreateFunction { config, .. } = &mut request {
        config.timeout_s = 1;
    }
    cluster.function(1, &request).await;
    active(&cluster, 1, "f").await;
    cluster.function(1, &reserve("f", Some(1))).await;
    let pool = reserved_pool("f");
    need(&cluster, 1, "f", 1, &[]).await;
    until("the grant", async || {
        (silent.ceiling(&pool) == 1).then_some(())
    })
    .await;
    let known = Arc::clone(&silent.known);
    drop(silent);
    let silent_since = SystemClock.monotonic_ms();
    let living = ScriptedWorker::start_with(&cluster, 12, 1, TTL_MS).await;
    until("the permit at the living worker", async || {
        need(&cluster, 1, "f", 1, &[11]).await;
        (living.ceiling(&pool) == 1).then_some(())
    })
    .await;
    let waited = SystemClock.monotonic_ms() - silent_since;
    // Its last heartbeat was at most 50 ms before it fell silent.
    assert!(waited > TTL_MS + 1_000 - 100, "{waited} ms");
    assert!(!ScriptedWorker::acquire_of(&known, &pool), "it is fenced");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_and_metrics_tell_of_consensus() {
    let cluster = Cluster::start(1).await;
    until("readiness", async || {
        let page = cluster.admin_page(1, "/readyz").await;
        page.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
    let page = cluster.admin_page(1, "/metrics").await;
    assert!(page.contains("hearth_raft_is_leader 1"), "{page}");
}
