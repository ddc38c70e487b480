//! HTTP as clients speak it, well and badly.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hearth_node::config::HumanDuration;
use http_body_util::Full;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::cluster::{Answer, Cluster, cluster, cluster_with};
use super::worker::FakeWorker;
use crate::options::Auth;
use crate::testing::zip_with;

async fn plain(functions: &[&str]) -> Cluster {
    cluster(functions, vec![FakeWorker::new(1, 9, &[])], Some(9)).await
}

fn create_body(name: &str, zip: &[u8]) -> String {
    json!({
        "FunctionName": name,
        "Runtime": "python3.11",
        "Handler": "main.handler",
        "Role": "arn:aws:iam::000000000000:role/r",
        "Code": { "ZipFile": STANDARD.encode(zip) },
        "Tags": { "a": "b" },
    })
    .to_string()
}

#[tokio::test]
async fn a_function_is_made_read_listed_and_deleted() {
    let cluster = plain(&["z"]).await;
    let zip = zip_with("main.py", b"x = 1");
    let made = cluster
        .send("POST", "/2015-03-31/functions", create_body("f", &zip))
        .await;
    assert_eq!(
        (made.status, made.json()["FunctionName"].as_str()),
        (201, Some("f"))
    );
    let found = cluster.send("GET", "/2015-03-31/functions/f", "").await;
    let document = found.json();
    assert_eq!(document["Tags"], json!({ "a": "b" }));
    assert_eq!(document["Code"]["RepositoryType"], "S3");
    let link = document["Code"]["Location"].as_str().unwrap();
    let code = cluster
        .request(http::Request::get(link).body(Full::default()).unwrap())
        .await;
    assert_eq!((code.status, code.body), (200, zip));
    let forged = link.replace("signature=", "signature=00");
    let forged = cluster
        .request(http::Request::get(forged).body(Full::default()).unwrap())
        .await;
    assert_eq!(forged.status, 403);
    let page = cluster
        .send("GET", "/2015-03-31/functions/?MaxItems=1", "")
        .await
        .json();
    assert_eq!(page["Functions"][0]["FunctionName"], "f");
    let next = format!(
        "/2015-03-31/functions/?Marker={}",
        page["NextMarker"].as_str().unwrap()
    );
    let page = cluster.send("GET", &next, "").await.json();
    assert_eq!(
        (
            &page["Functions"][0]["FunctionName"],
            page.get("NextMarker")
        ),
        (&json!("z"), None)
    );
    assert_eq!(
        cluster
            .send("DELETE", "/2015-03-31/functions/f", "")
            .await
            .status,
        204
    );
    let gone = cluster.send("GET", "/2015-03-31/functions/f", "").await;
    assert_eq!(
        gone.json(),
        json!({
            "Type": "User",
            "Message": "Function not found: arn:aws:lambda:us-east-1:000000000000:function:f",
        })
    );
    assert_eq!(
        (gone.status, gone.header("x-amzn-errortype")),
        (404, "ResourceNotFoundException")
    );
}

/// The first attempt succeeds and its answer is lost: the repetition carries the same token and gets the same answer.
#[tokio::test]
async fn a_write_whose_answer_was_lost_succeeds() {
    let cluster = plain(&[]).await;
    let body = create_body("f", &zip_with("main.py", b"x = 1"));
    let lose = || cluster.controller.lost_answers.store(1, SeqCst);
    lose();
    let made = cluster
        .send("POST", "/2015-03-31/functions", body.clone())
        .await;
    assert_eq!(made.status, 201);
    let twice = cluster.send("POST", "/2015-03-31/functions", body).await;
    assert_eq!(
        (twice.status, twice.json()["message"].as_str()),
        (409, Some("Function already exist: f"))
    );
    lose();
    assert_eq!(update(&cluster).await.status, 200);
    lose();
    let deleted = cluster.send("DELETE", "/2015-03-31/functions/f", "").await;
    assert_eq!(deleted.status, 204);
}

/// Without tokens no write is sent again that may have happened, not even one that is the same when done twice: the
/// second deletion could be that of a function that was made meanwhile.
#[tokio::test]
async fn without_tokens_a_write_whose_answer_was_lost_is_not_repeated() {
    let cluster = plain(&["f"]).await;
    cluster.controller.takes_once.store(false, SeqCst);
    let lose = || cluster.controller.lost_answers.store(1, SeqCst);
    lose();
    assert_eq!(update(&cluster).await.status, 503);
    lose();
    let body = r#"{"ReservedConcurrentExecutions": 1}"#;
    let path = "/2017-10-31/functions/f/concurrency";
    assert_eq!(cluster.send("PUT", path, body).await.status, 503);
    lose();
    let path = "/2015-03-31/functions/f";
    assert_eq!(cluster.send("DELETE", path, "").await.status, 503);
    // They had happened.
    assert_eq!(cluster.send("DELETE", path, "").await.status, 404);
}

async fn update(cluster: &Cluster) -> Answer {
    let path = "/2015-03-31/functions/f/configuration";
    cluster.send("PUT", path, r#"{"Timeout": 7}"#).await
}

/// A controller is certain that it did not do it.
#[tokio::test]
async fn a_write_that_a_controller_did_not_do_is_asked_again() {
    for takes_once in [true, false] {
        let cluster = plain(&["f"]).await;
        cluster.controller.takes_once.store(takes_once, SeqCst);
        cluster.controller.not_done.store(3, SeqCst);
        let updated = update(&cluster).await;
        assert_eq!(
            (updated.status, updated.json()["Timeout"].as_i64()),
            (200, Some(7))
        );
    }
}

/// A function made at another gateway is found although the push has not come; one that does not exist is asked
/// for once and then remembered as missing.
#[tokio::test]
async fn functions_the_catalog_lacks_are_asked_for_once() {
    let cluster = cluster(&[], vec![FakeWorker::new(1, 9, &[("late", 1)])], Some(9)).await;
    let missing = futures::future::join_all((0..5).map(|_| cluster.invoke("late", "1"))).await;
    assert!(missing.iter().all(|answer| answer.status == 404));
    let asked = cluster.controller.gets.load(SeqCst);
    assert!((1..5).contains(&asked), "{asked}");
    let late = crate::testing::function("late", 1);
    cluster
        .controller
        .functions
        .lock()
        .unwrap()
        .insert("late".into(), late);
    let found = async { while cluster.invoke("late", "1").await.status != 200 {} };
    tokio::time::timeout(Duration::from_secs(5), found)
        .await
        .expect("found in time");
}

#[tokio::test]
async fn reserved_concurrency_and_account_are_shown() {
    let cluster = plain(&["f"]).await;
    let path = "/2017-10-31/functions/f/concurrency";
    let put = cluster
        .send("PUT", path, "{\"ReservedConcurrentExecutions\":5}")
        .await;
    assert_eq!(
        (put.status, put.json()),
        (200, json!({ "ReservedConcurrentExecutions": 5 }))
    );
    let get = cluster
        .send("GET", "/2019-09-30/functions/f/concurrency", "")
        .await;
    assert_eq!(get.json(), json!({ "ReservedConcurrentExecutions": 5 }));
    assert_eq!(cluster.send("DELETE", path, "").await.status, 204);
    let missing = cluster
        .send(
            "PUT",
            &path.replace("/f/", "/g/"),
            "{\"ReservedConcurrentExecutions\":5}",
        )
        .await;
    assert!(
        missing.json()["Message"]
            .as_str()
            .unwrap()
            .ends_with("function:g:$LATEST")
    );
    let account = cluster
        .send("GET", "/2016-08-19/account-settings", "")
        .await
        .json();
    assert_eq!(account["AccountLimit"]["ConcurrentExecutions"], 1_000);
}

#[tokio::test]
async fn bad_requests_are_answered_as_aws_answers_them() {
    let cluster = plain(&["f"]).await;
    let invoke = "/2015-03-31/functions/f/invocations";
    let functions = "/2015-03-31/functions";
    let seven_mb = "x".repeat(7 << 20);
    let broken = create_body("g", b"no zip");
    for (method, path, body, status, code) in [
        (
            "GET",
            "/2015-03-31/nothing",
            "",
            404,
            "UnknownOperationException",
        ),
        (
            "GET",
            "/2025-11-30/capacity-providers",
            "",
            501,
            "NotImplemented",
        ),
        ("POST", invoke, "{", 400, "InvalidRequestContentException"),
        (
            "POST",
            invoke,
            &seven_mb,
            413,
            "RequestEntityTooLargeException",
        ),
        (
            "POST",
            "/2015-03-31/functions/g/invocations",
            "1",
            404,
            "ResourceNotFoundException",
        ),
        (
            "POST",
            functions,
            &broken,
            400,
            "InvalidParameterValueException",
        ),
        ("POST", functions, "{}", 400, "ValidationException"),
    ] {
        let answer = cluster.send(method, path, body.to_owned()).await;
        let got = (answer.status, answer.header("x-amzn-errortype"));
        assert_eq!(got, (status, code), "{method} {path}: {answer:?}");
    }
    let event = [("x-amz-invocation-type", "Event")];
    let event = cluster
        .send_with("POST", invoke, "1", &event, super::cluster::SECRET)
        .await;
    assert_eq!(event.status, 501);
    let dry = [("x-amz-invocation-type", "DryRun")];
    let dry = cluster
        .send_with("POST", invoke, "1", &dry, super::cluster::SECRET)
        .await;
    assert_eq!(
        (
            dry.status,
            dry.header("x-amz-executed-version"),
            dry.body.len()
        ),
        (204, "", 0)
    );
}

#[tokio::test]
async fn strangers_are_refused_before_their_body_is_read() {
    let cluster = plain(&["f"]).await;
    let path = "/2015-03-31/functions/f/invocations";
    let wrong = cluster
        .send_with("POST", path, "1", &[], "not the secret")
        .await;
    assert_eq!(
        (wrong.status, wrong.header("x-amzn-errortype")),
        (403, "InvalidSignatureException")
    );
    let url = format!("http://{}{path}", cluster.gateway.addr);
    let unsigned = cluster
        .request(http::Request::post(url).body(Full::default()).unwrap())
        .await;
    assert_eq!(unsigned.status, 403);
    // A declared body that never comes is not waited for.
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: h\r\ncontent-length: 100000000\r\nconnection: close\r\n\r\n"
    );
    let answer = raw(&cluster, &[head.as_bytes()], false).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
}

/// Sends pieces and reads until the gateway closes; `end` closes this side first.
async fn raw(cluster: &Cluster, pieces: &[&[u8]], end: bool) -> String {
    let mut stream = TcpStream::connect(cluster.gateway.addr).await.unwrap();
    for piece in pieces {
        stream.write_all(piece).await.unwrap();
    }
    if end {
        stream.shutdown().await.unwrap();
    }
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    let read = tokio::time::timeout(Duration::from_secs(20), reading).await;
    let _ = read.expect("the gateway closes in time");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn impatient() -> Cluster {
    cluster_with(
        &["f"],
        vec![FakeWorker::new(1, 9, &[])],
        Some(9),
        |options| {
            options.auth = Auth::Any;
            options.header_timeout = HumanDuration::from_millis(100);
            options.body_idle_timeout = HumanDuration::from_millis(100);
        },
    )
    .await
}

const HEAD: &str =
    "POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nhost: h\r\ncontent-length: 50\r\n\r\n";

#[tokio::test]
async fn slow_clients_are_cut_off() {
    let cluster = impatient().await;
    for head in [&b""[..], b"POST / HT", b"PRI * HT"] {
        let answer = raw(&cluster, &[head], false).await;
        assert!(!answer.contains("200"), "{answer}");
    }
    let answer = raw(&cluster, &[HEAD.as_bytes(), b"{"], false).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn truncated_bodies_are_not_invocations() {
    let cluster = impatient().await;
    let answer = raw(&cluster, &[HEAD.as_bytes(), b"{}"], true).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 400"),
        "{answer}"
    );
    assert_eq!(cluster.worker(0).seen.lock().unwrap().invokes, 0);
}

#[tokio::test]
async fn a_flood_is_refused_at_the_door() {
    let mut worker = FakeWorker::new(1, 9, &[]);
    worker.starts_work = false;
    let cluster = cluster_with(&["f"], vec![worker], Some(9), |options| {
        options.max_requests = 1
    })
    .await;
    let waiting = cluster.invoke("f", "1");
    let other = async {
        // The first holds its place as soon as a sandbox was asked for.
        while cluster.worker(0).seen.lock().unwrap().starts.is_empty() {
            tokio::task::yield_now().await;
        }
        let refused = cluster.invoke("f", "1").await;
        cluster.worker(0).make_idle("f").await;
        refused
    };
    let (first, second) = tokio::join!(waiting, other);
    assert_eq!((first.status, second.status), (200, 503));
    assert_eq!(
        second.header("x-amzn-errortype"),
        "ServiceUnavailableException"
    );
}
