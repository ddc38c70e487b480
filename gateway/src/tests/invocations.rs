//! The invoke path through real connections.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use super::cluster::{cluster, cluster_with};
use super::worker::FakeWorker;

fn worker(permits: u32, warm: &[(&'static str, u32)]) -> FakeWorker {
    FakeWorker::new(1, permits, warm)
}

#[tokio::test]
async fn warm_invocation_asks_no_controller() {
    let cluster = cluster(&["echo"], vec![worker(9, &[("echo", 1)])], Some(9)).await;
    for _ in 0..3 {
        let answer = cluster.invoke("echo", "{\"a\":1}").await;
        assert_eq!((answer.status, &answer.body[..]), (200, &b"{\"a\":1}"[..]));
        assert_eq!(answer.header("x-amz-executed-version"), "$LATEST");
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("x-amzn-requestid").len(), 36);
        assert_eq!(answer.headers.get_all("date").iter().count(), 1);
    }
    let controller = &cluster.controller;
    assert_eq!(
        (controller.asked.load(SeqCst), controller.gets.load(SeqCst)),
        (0, 0)
    );
    cluster.gateway.shutdown().await;
}

#[tokio::test]
async fn cold_start_gets_permits_then_a_sandbox_and_binds_late() {
    let cluster = cluster(&["echo"], vec![worker(0, &[])], Some(5)).await;
    let answers = futures::future::join_all((0..4).map(|_| cluster.invoke("echo", "1"))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert!(cluster.controller.asked.load(SeqCst) >= 1);
    let seen = cluster.worker(0).seen.lock().unwrap();
    let started: u32 = seen.starts.iter().sum();
    assert!((1..=4).contains(&started), "{seen:?}");
}

#[tokio::test]
async fn refusal_goes_to_the_next_candidate() {
    let workers = vec![
        FakeWorker::new(1, 9, &[("picky", 5)]),
        FakeWorker::new(2, 9, &[("picky", 1)]),
    ];
    let cluster = cluster(&["picky"], workers, Some(9)).await;
    for _ in 0..4 {
        assert_eq!(cluster.invoke("picky", "1").await.status, 200);
    }
}

#[tokio::test]
async fn at_the_limit_the_answer_is_awss_throttle_and_is_remembered() {
    let cluster = cluster(&["no-permit"], vec![worker(1, &[("no-permit", 1)])], None).await;
    for _ in 0..3 {
        let answer = cluster.invoke("no-permit", "1").await;
        assert_eq!(
            (answer.status, answer.header("x-amzn-errortype")),
            (429, "TooManyRequestsException")
        );
        assert_eq!(
            answer.json(),
            serde_json::json!({
                "Reason": "ConcurrentInvocationLimitExceeded",
                "Type": "User",
                "message": "Rate Exceeded.",
            })
        );
    }
    assert!(cluster.controller.asked.load(SeqCst) <= 3);
}

#[tokio::test]
async fn an_invocation_that_was_taken_by_a_worker_that_died_is_not_repeated() {
    let cluster = cluster(&["dies"], vec![worker(9, &[("dies", 1)])], Some(9)).await;
    let answer = cluster.invoke("dies", "1").await;
    assert_eq!(
        (answer.status, answer.header("x-amzn-errortype")),
        (500, "ServiceException")
    );
    assert_eq!(cluster.worker(0).seen.lock().unwrap().invokes, 1);
}

#[tokio::test]
async fn what_a_worker_that_leaves_in_order_has_not_begun_goes_elsewhere() {
    let workers = vec![
        FakeWorker::new(1, 9, &[("leaves", 5)]),
        FakeWorker::new(2, 9, &[("leaves", 1)]),
    ];
    let cluster = cluster(&["leaves"], workers, Some(9)).await;
    for _ in 0..4 {
        assert_eq!(cluster.invoke("leaves", "1").await.status, 200);
    }
    assert!(cluster.worker(0).seen.lock().unwrap().invokes >= 1);
}

#[tokio::test]
async fn large_payloads_go_in_pieces_both_ways() {
    let cluster = cluster(&["echo"], vec![worker(9, &[("echo", 9)])], Some(9)).await;
    let payload = format!("\"{}\"", "x".repeat(6_000_000));
    let (large, small) = tokio::join!(
        cluster.invoke("echo", payload.clone()),
        cluster.invoke("echo", "1")
    );
    assert_eq!((large.status, large.body.len()), (200, payload.len()));
    assert_eq!(small.status, 200);
    assert_eq!(cluster.worker(0).seen.lock().unwrap().largest_piece, 65_536);
}

#[tokio::test]
async fn a_caller_that_goes_away_cancels_its_invocation() {
    let cluster = cluster(&["holds"], vec![worker(9, &[("holds", 1)])], Some(9)).await;
    let gone = tokio::time::timeout(Duration::from_millis(200), cluster.invoke("holds", "1")).await;
    assert!(gone.is_err(), "it never answers");
    let cancelled = async {
        while cluster.worker(0).seen.lock().unwrap().cancels == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), cancelled)
        .await
        .expect("cancelled in time");
}

#[tokio::test]
async fn waiting_without_a_sandbox_ends() {
    let mut worker = worker(9, &[]);
    worker.starts_work = false;
    let cluster = cluster_with(&["echo"], vec![worker], Some(9), |options| {
        options.queue_timeout = hearth_node::config::HumanDuration::from_millis(100);
    })
    .await;
    let answer = cluster.invoke("echo", "1").await;
    assert_eq!(
        (answer.status, answer.header("x-amzn-errortype")),
        (503, "ServiceUnavailableException")
    );
    assert_eq!(answer.header("retry-after"), "1");
}

#[tokio::test]
async fn errors_of_the_function_are_a_success_with_a_header() {
    let cluster = cluster(&["fails"], vec![worker(9, &[("fails", 1)])], Some(9)).await;
    let path = "/2015-03-31/functions/fails/invocations";
    let headers = [("x-amz-log-type", "Tail")];
    let answer = cluster
        .send_with("POST", path, "1", &headers, super::cluster::SECRET)
        .await;
    assert_eq!(
        (answer.status, answer.header("x-amz-function-error")),
        (200, "Unhandled")
    );
    assert_eq!(answer.header("x-amz-log-result"), "U1RBUlQK");
}

#[tokio::test]
async fn requests_in_flight_end_before_the_gateway_does() {
    let mut worker = worker(9, &[]);
    worker.starts_work = false;
    let cluster = cluster(&["echo"], vec![worker], Some(9)).await;
    let controller = std::sync::Arc::clone(&cluster.controller);
    let addr = cluster.gateway.addr;
    let invoked = async {
        let answer = cluster.invoke("echo", "1").await;
        (answer, cluster)
    };
    // The invocation waits for a sandbox; it comes when the gateway has been told to end.
    let waiting = async {
        while controller.workers[0]
            .0
            .seen
            .lock()
            .unwrap()
            .starts
            .is_empty()
        {
            tokio::task::yield_now().await;
        }
        controller.workers[0].0.make_idle("echo").await;
    };
    let ((answer, cluster), ()) = tokio::join!(invoked, waiting);
    assert_eq!(answer.status, 200);
    cluster.gateway.shutdown().await;
    assert!(
        tokio::net::TcpStream::connect(addr).await.is_err(),
        "the port is closed"
    );
}
