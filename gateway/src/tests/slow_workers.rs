//! Workers that stop answering: they are sent nothing more, and what they have is not repeated.

use std::time::{Duration, Instant};

use super::cluster::{Cluster, cluster};
use super::worker::FakeWorker;

/// Longer than the platform needs to notice, by far.
const LONG: Duration = Duration::from_secs(10);

fn worker(id: u64, warm: &[(&'static str, u32)]) -> FakeWorker {
    let mut worker = FakeWorker::new(id, 9, warm);
    worker.pulses = true;
    worker
}

async fn pair(function: &'static str) -> Cluster {
    let workers = vec![worker(1, &[(function, 4)]), worker(2, &[(function, 4)])];
    let cluster = cluster(&[function], workers, Some(9)).await;
    // Both streams are up and have shown their pulses.
    for index in [0, 1] {
        while cluster.worker(index).seen.lock().unwrap().invokes == 0 {
            // More than one of them has sandboxes for: of two that are alike `pick_warm` takes the one of the lower id, so that
            // invocations that come one after the other never have to reach the second.
            let several = (0..8).map(|_| cluster.invoke(function, "1"));
            for answer in futures::future::join_all(several).await {
                assert_eq!(answer.status, 200);
            }
        }
    }
    cluster
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test measures what a client sees"
)]
fn clock() -> Instant {
    Instant::now()
}

/// What was handed over waits for the worker's word, as it may have been begun; whoever comes later does not wait for it.
#[tokio::test]
async fn a_stopped_worker_is_sent_nothing_more_and_what_it_has_is_not_repeated() {
    let cluster = pair("echo").await;
    cluster.worker(0).frozen.send_replace(true);
    let handed_over = futures::future::join_all((0..4).map(|_| cluster.invoke("echo", "1")));
    let later = async {
        let mut quick = 0;
        while quick < 20 {
            let begun = clock();
            let answer =
                tokio::time::timeout(Duration::from_millis(300), cluster.invoke("echo", "1"));
            quick = match answer.await {
                Ok(answer) if answer.status == 200 => quick + 1,
                _ => 0,
            };
            assert!(begun.elapsed() < LONG);
        }
        cluster.worker(0).frozen.send_replace(false);
    };
    let (answers, ()) = tokio::time::timeout(LONG, async { tokio::join!(handed_over, later) })
        .await
        .expect("the stopped worker is left alone");
    assert!(answers.iter().all(|answer| answer.status == 200));
}

#[tokio::test]
async fn a_worker_that_goes_on_gets_invocations_again() {
    let cluster = pair("echo").await;
    cluster.worker(0).frozen.send_replace(true);
    let handed_over = futures::future::join_all((0..4).map(|_| cluster.invoke("echo", "1")));
    let thaw = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        cluster.worker(0).frozen.send_replace(false);
    };
    let (answers, ()) = tokio::join!(handed_over, thaw);
    assert!(answers.iter().all(|answer| answer.status == 200));
    let back = async {
        loop {
            let before = cluster.worker(0).seen.lock().unwrap().invokes;
            for _ in 0..8 {
                assert_eq!(cluster.invoke("echo", "1").await.status, 200);
            }
            if cluster.worker(0).seen.lock().unwrap().invokes > before + 1 {
                return;
            }
        }
    };
    tokio::time::timeout(LONG, back)
        .await
        .expect("it is sent to again");
}

#[tokio::test]
async fn what_a_stopped_worker_has_taken_is_not_repeated() {
    let workers = vec![worker(1, &[("stops-at-work", 1)]), worker(2, &[])];
    let cluster = cluster(&["stops-at-work"], workers, Some(9)).await;
    let waiting = tokio::time::timeout(
        Duration::from_millis(1_500),
        cluster.invoke("stops-at-work", "1"),
    );
    assert!(
        waiting.await.is_err(),
        "its outcome is the first worker's to tell"
    );
    assert_eq!(cluster.worker(1).seen.lock().unwrap().invokes, 0);
}

#[tokio::test]
async fn the_only_worker_is_sent_to_however_slow_it_was() {
    let cluster = cluster(&["echo"], vec![worker(1, &[("echo", 4)])], Some(9)).await;
    assert_eq!(cluster.invoke("echo", "1").await.status, 200);
    cluster.worker(0).frozen.send_replace(true);
    let thaw = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        cluster.worker(0).frozen.send_replace(false);
    };
    let (answer, ()) = tokio::join!(cluster.invoke("echo", "1"), thaw);
    assert_eq!(answer.status, 200);
}
