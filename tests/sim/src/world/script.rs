//! What runs inside the fake sandboxes: a runtime client that does what each event says, and tells the ledger.

use bytes::Bytes;
use hearth_worker::sandbox::driver::ExitStatus;
use hearth_worker::sandbox::fake::FakeSandbox;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use std::time::Duration;

use crate::invariants;
use crate::ledger::{Ledger, Running};
use crate::world::now_ms;

/// What an event asks of the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Then {
    /// Answers.
    Answer,
    /// Posts an error.
    Fail,
    /// Ends its process.
    Crash,
    /// Runs into its timeout.
    Hang,
}

/// An event.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) nonce: u64,
    pub(crate) account: String,
    pub(crate) function: String,
    pub(crate) work_ms: u64,
    pub(crate) then: Then,
}

/// An answer of the function.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) nonce: u64,
    pub(crate) value: u64,
}

/// Takes an event out of the ledger however the sandbox ends.
struct Inside {
    ledger: Ledger,
    number: u64,
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.ledger.seen().leave(self.number);
    }
}

struct Runtime {
    worker: String,
    sandbox: String,
    account: String,
    function: String,
    value: u64,
    init_ms: u64,
    ledger: Ledger,
    sender: SendRequest<Full<Bytes>>,
}

/// The script of every sandbox of a worker.
pub(crate) async fn run(inside: FakeSandbox, worker: String, ledger: Ledger) -> ExitStatus {
    match play(inside, worker, ledger).await {
        Some(status) => status,
        // The Runtime API is gone: the worker ends the sandbox.
        None => ExitStatus::Exited(1),
    }
}

async fn play(inside: FakeSandbox, worker: String, ledger: Ledger) -> Option<ExitStatus> {
    let variable = |name: &str| {
        let found = inside.spec.env.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let stream = inside.runtime_api.connect().await.ok()?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (sender, connection) = handshake.await.ok()?;
    tokio::spawn(async move { drop(connection.await) });
    let mut runtime = Runtime {
        sandbox: format!("{worker}/{}", inside.spec.id),
        worker,
        account: variable("ACCOUNT"),
        function: variable("NAME"),
        value: variable("VALUE").parse().unwrap_or(0),
        init_ms: variable("INIT_MS").parse().unwrap_or(10),
        ledger,
        sender,
    };
    tokio::time::sleep(Duration::from_millis(runtime.init_ms)).await;
    loop {
        if let Some(status) = runtime.turn().await? {
            return Some(status);
        }
    }
}

impl Runtime {
    /// One event. `None`: the Runtime API is gone.
    async fn turn(&mut self) -> Option<Option<ExitStatus>> {
        let (request_id, body) = self.call("GET", "invocation/next", Bytes::new()).await?;
        let event: Event = serde_json::from_slice(&body).ok()?;
        let inside = self.enter(&event);
        tokio::time::sleep(Duration::from_millis(event.work_ms)).await;
        match event.then {
            Then::Answer => {
                drop(inside);
                if let Some(sent) = self.ledger.seen().events.get_mut(&event.nonce) {
                    sent.done += 1;
                }
                let answer = Answer {
                    nonce: event.nonce,
                    value: self.value,
                };
                let body = serde_json::to_vec(&answer).ok()?.into();
                let path = format!("invocation/{request_id}/response");
                self.call("POST", &path, body).await?;
                Some(None)
            }
            Then::Fail => {
                drop(inside);
                let body =
                    Bytes::from_static(b"{\"errorType\":\"E\",\"errorMessage\":\"asked to\"}");
                let path = format!("invocation/{request_id}/error");
                self.call("POST", &path, body).await?;
                Some(None)
            }
            Then::Crash => Some(Some(ExitStatus::Exited(3))),
            Then::Hang => std::future::pending().await,
        }
    }

    fn enter(&self, event: &Event) -> Inside {
        let at = now_ms();
        let mut seen = self.ledger.seen();
        let line = format!(
            "enter {} {}/{} nonce {}",
            self.sandbox, self.account, self.function, event.nonce
        );
        seen.trace(at, &line);
        invariants::a_sandbox_never_has_two_events::on_enter(&mut seen, &self.sandbox, at);
        let own = (self.account.clone(), self.function.clone());
        let meant = (event.account.clone(), event.function.clone());
        invariants::no_event_enters_a_sandbox_of_another_function::on_enter(
            &mut seen, &own, &meant, at,
        );
        if let Some(invocation) = seen.invocations.get_mut(&event.nonce) {
            invocation.runs += 1;
        }
        if let Some(sent) = seen.events.get_mut(&event.nonce) {
            sent.runs += 1;
        }
        let number = seen.enter(Running {
            worker: self.worker.clone(),
            sandbox: self.sandbox.clone(),
            function: own.clone(),
            since_ms: at,
        });
        invariants::in_flight_is_never_above_a_reserved_limit::on_enter(&mut seen, &own, at);
        Inside {
            ledger: self.ledger.clone(),
            number,
        }
    }

    /// Request id and body of an answer.
    async fn call(&mut self, method: &str, path: &str, body: Bytes) -> Option<(String, Bytes)> {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("/2018-06-01/runtime/{path}"))
            .header("host", "127.0.0.1:9001")
            .body(Full::new(body))
            .ok()?;
        self.sender.ready().await.ok()?;
        let (head, body) = self.sender.send_request(request).await.ok()?.into_parts();
        let id = head.headers.get("lambda-runtime-aws-request-id");
        let id = id.and_then(|value| value.to_str().ok()).unwrap_or_default();
        Some((id.to_owned(), body.collect().await.ok()?.to_bytes()))
    }
}
