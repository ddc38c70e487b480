//! The Runtime API's contract as a table: state, request, status, body.

use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use crate::sandbox::driver::ExitStatus;
use crate::sandbox::fake::FakeSandbox;
use crate::test_support::Client;
use crate::worker::tests::run_function;

type Step = (&'static str, &'static str, u16, &'static str);

const ACCEPTED: &str = "{\"status\":\"OK\"}\n";
const INVALID_ID: &str = r#"{"errorType":"InvalidRequestID","errorMessage":"Invalid request ID"}"#;
const INVALID_STATE: &str =
    r#"{"errorType":"InvalidStateTransition","errorMessage":"Transition is not allowed"}"#;

const BEFORE_NEXT: &[Step] = &[
    ("POST", "invocation/r1/response", 400, INVALID_ID),
    ("POST", "invocation/r1/error", 400, INVALID_ID),
    ("POST", "invocation/next", 405, ""),
    ("GET", "init/error", 405, ""),
    ("GET", "invocation/r1/response", 405, ""),
    ("GET", "invocation", 404, ""),
    ("GET", "invocation/next/", 404, ""),
    ("GET", "restore/next", 404, ""),
];

const WITH_EVENT: &[Step] = &[
    ("GET", "invocation/next", 403, INVALID_STATE),
    ("POST", "init/error", 403, INVALID_STATE),
    ("POST", "invocation/other/response", 400, INVALID_ID),
    ("POST", "invocation/r1/response", 202, ACCEPTED),
    ("POST", "invocation/r1/response", 400, INVALID_ID),
    ("POST", "invocation/r1/error", 400, INVALID_ID),
    ("POST", "init/error", 403, INVALID_STATE),
];

async fn walk(client: &mut Client, steps: &[Step]) {
    for (method, path, status, body) in steps {
        let answer = client.send(method, path, b"\"x\"".to_vec()).await;
        let got = (
            answer.status,
            String::from_utf8_lossy(&answer.body).into_owned(),
        );
        assert_eq!(got, (*status, (*body).to_owned()), "{method} {path}");
    }
}

#[tokio::test]
async fn every_call_answers_as_aws_documents_it() {
    let (done, checked) = oneshot::channel();
    let done = Arc::new(Mutex::new(Some(done)));
    let script = move |inside: FakeSandbox| {
        let done = done.lock().unwrap().take();
        async move {
            let mut client = Client::connect(&inside.runtime_api).await;
            walk(&mut client, BEFORE_NEXT).await;
            let event = client.next().await;
            assert_eq!(event.status, 200);
            assert_eq!(event.body, "{\"k\":1}");
            for (name, value) in [
                ("content-type", "application/json"),
                ("lambda-runtime-aws-request-id", "r1"),
                ("lambda-runtime-invoked-function-arn", "arn"),
                ("lambda-runtime-trace-id", "Root=1"),
                ("lambda-runtime-client-context", "{\"custom\":{}}"),
            ] {
                assert_eq!(event.header(name), value, "{name}");
            }
            assert!(
                event
                    .header("lambda-runtime-deadline-ms")
                    .parse::<u64>()
                    .is_ok()
            );
            walk(&mut client, WITH_EVENT).await;
            done.expect("one sandbox").send(()).unwrap();
            client.next().await;
            ExitStatus::Exited(0)
        }
    };
    let payload = run_function(script, b"{\"k\":1}").await;
    assert_eq!(payload, b"\"x\"");
    checked.await.expect("the script reached its end");
}

#[tokio::test]
async fn an_internal_extension_is_waited_for_and_gets_the_event() {
    const REGISTER: &str = "/2020-01-01/extension/register";
    const NEXT: &str = "/2020-01-01/extension/event/next";
    let script = |inside: FakeSandbox| async move {
        let mut runtime = Client::connect(&inside.runtime_api).await;
        let mut extension = Client::connect(&inside.runtime_api).await;
        let name = ("lambda-extension-name", "inner");
        let body = br#"{"events": ["INVOKE"]}"#.to_vec();
        let registered = extension.call("POST", REGISTER, name, body.clone()).await;
        let id = registered.header("lambda-extension-identifier").to_owned();
        let told = async {
            let id = ("lambda-extension-identifier", id.as_str());
            extension.call("GET", NEXT, id, Vec::new()).await
        };
        let (event, told) = tokio::join!(runtime.next(), told);
        let late = runtime.call("POST", REGISTER, name, body).await;
        let seen = serde_json::json!({
            "registered": registered.status,
            "event": event.status,
            "told": serde_json::from_slice::<serde_json::Value>(&told.body).unwrap(),
            "late": [late.status.to_string(), String::from_utf8_lossy(&late.body)],
        });
        let posted = seen.to_string().into_bytes();
        runtime.send("POST", "invocation/r1/response", posted).await;
        runtime.next().await;
        ExitStatus::Exited(0)
    };
    let payload = run_function(script, b"{}").await;
    let seen: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(seen["registered"], 200);
    assert_eq!(seen["event"], 200);
    assert_eq!(seen["told"]["eventType"], "INVOKE");
    assert_eq!(seen["told"]["requestId"], "r1");
    assert_eq!(seen["late"][0], "403");
    let text = seen["late"][1].as_str().unwrap();
    assert!(text.contains("Extension.RegistrationClosed"), "{text}");
}
