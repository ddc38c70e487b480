//! A whole worker over a real gRPC loopback, with the fake driver in the place of processes and grants given by hand in
//! the place of controllers. Functions are played by what their event says.

use std::collections::BTreeMap;

use bytes::Bytes;
use hearth_core::ids::{GrantSequence, PoolKey};
use hearth_core::permits::Grant;
use hearth_proto::internal::v1 as pb;
use pb::gateway_frame::Frame as Tell;
use pb::invocations_client::InvocationsClient;
use pb::worker_frame::Frame as Hear;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::*;
use crate::sandbox::driver::ExitStatus;
use crate::sandbox::fake::{FakeDriver, FakeSandbox};
use crate::test_support::{Client, Packages, code_of, fake_runtimes, function, version, zip_of};

/// The runtime and the function: the handler says what init does, the event what the invocation does.
async fn script(mut inside: FakeSandbox) -> ExitStatus {
    let mut client = Client::connect(&inside.runtime_api).await;
    match inside.spec.argv[1].as_str() {
        "init-error" => {
            let document = br#"{"errorMessage":"no module","errorType":"Runtime.ImportModuleError","requestId":"","stackTrace":[]}"#;
            let answer = client.send("POST", "init/error", document.to_vec()).await;
            assert_eq!(answer.status, 202);
            return ExitStatus::Exited(1);
        }
        "init-exit" => return ExitStatus::Exited(7),
        "init-hang" => std::future::pending().await,
        // Slow at first only, as a function whose init fetches something.
        "init-slow" if inside.spec.id.ends_with("-1") => std::future::pending().await,
        _ => {}
    }
    loop {
        let event = client.next().await;
        let id = event.header("lambda-runtime-aws-request-id").to_owned();
        let respond = format!("invocation/{id}/response");
        match &event.body[..] {
            b"exit" => return ExitStatus::Exited(0),
            b"hang" => std::future::pending().await,
            b"error" => {
                let document = br#"{"errorMessage":"boom"}"#.to_vec();
                client
                    .send("POST", &format!("invocation/{id}/error"), document)
                    .await;
            }
            b"huge" => {
                let answer = client.send("POST", &respond, vec![b'x'; 6_291_557]).await;
                assert_eq!(answer.status, 413);
            }
            b"print" => {
                inside
                    .output
                    .write_all(b"hello from inside\n")
                    .await
                    .unwrap();
                client.send("POST", &respond, b"null".to_vec()).await;
            }
            event => {
                let answer = client.send("POST", &respond, event.to_vec()).await;
                assert_eq!(
                    (answer.status, &answer.body[..]),
                    (202, &b"{\"status\":\"OK\"}\n"[..])
                );
            }
        }
    }
}

struct Fixture {
    worker: Worker,
    key: VersionKey,
    say: mpsc::Sender<pb::GatewayFrame>,
    hear: tonic::Streaming<pb::WorkerFrame>,
    /// Chunks of responses that are coming in.
    parts: BTreeMap<u64, (pb::Response, Vec<u8>)>,
    _dir: tempfile::TempDir,
}

impl Fixture {
    async fn new(handler: &str, permits: u32, memory_mib: u64) -> Self {
        let driver = Arc::new(FakeDriver::new(script));
        Self::with_driver(driver, handler, permits, memory_mib).await
    }

    async fn with_driver(
        driver: Arc<FakeDriver>,
        handler: &str,
        permits: u32,
        memory_mib: u64,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fake_runtimes(&dir.path().join("runtimes"));
        let options = Options {
            cluster_id: "c".into(),
            listen: "127.0.0.1:0".into(),
            admin_listen: "127.0.0.1:0".into(),
            data_dir: dir.path().join("data"),
            runtimes_dir: dir.path().join("runtimes"),
            memory_mib: Some(memory_mib),
            init_timeout: hearth_node::config::HumanDuration::from_millis(200),
            ..Options::default()
        };
        let seams = Seams::system();
        let identity = ClusterIdentity::known("c").unwrap();
        let controllers =
            Controllers::new(Vec::new(), seams.clone(), options.channel.clone(), identity);
        let package = zip_of(&[("app.py", b"x")]);
        let (code, source) = (code_of(&package), Arc::new(Packages::of(&[package])));
        let parts = Parts {
            driver,
            controllers,
            source,
            tls: Tls::off(),
            plain: seams.net.clone(),
        };
        let worker = start_with(options, seams, parts).await.unwrap();
        let (key, mut version) = version("f", 1);
        version.code = code;
        version.config.timeout_s = 1;
        version.config.handler = Some(handler.into());
        worker.inject_function(&function("f", version));
        worker.engine.gates.on_grant(&Grant {
            pool: PoolKey {
                account: key.account.clone(),
                function: None,
                provisioned: None,
            },
            n: permits,
            sequence: GrantSequence(1),
            incarnation: worker.incarnation,
            session: 1,
        });
        let mut client = InvocationsClient::connect(format!("http://{}", worker.addr))
            .await
            .unwrap();
        let (say, frames) = mpsc::channel(64);
        let hear = client
            .exchange(ReceiverStream::new(frames))
            .await
            .unwrap()
            .into_inner();
        Self {
            worker,
            key,
            say,
            hear,
            parts: BTreeMap::new(),
            _dir: dir,
        }
    }

    async fn tell(&self, frame: Tell) {
        self.say
            .send(pb::GatewayFrame { frame: Some(frame) })
            .await
            .unwrap();
    }

    async fn start(&self, count: u32) {
        let version = Some((&self.key).into());
        self.tell(Tell::Start(pb::StartSandboxes {
            version,
            count,
            ..pb::StartSandboxes::default()
        }))
        .await;
    }

    async fn next_frame(&mut self) -> Hear {
        let next = tokio::time::timeout(Duration::from_secs(20), self.hear.message());
        let frame = next.await.expect("a frame in time").unwrap();
        frame.expect("the stream lives").frame.unwrap()
    }

    /// Waits for a report of as many free sandboxes.
    async fn idle(&mut self, idle: u32) {
        loop {
            if let Hear::Load(load) = self.next_frame().await
                && load.versions.iter().any(|v| v.idle == idle)
            {
                return;
            }
        }
    }

    async fn invoke(&self, id: u64, event: &[u8]) {
        let mut chunks: Vec<&[u8]> = event.chunks(60_000).collect();
        if chunks.is_empty() {
            chunks.push(b"");
        }
        let last = chunks.len() - 1;
        for (n, chunk) in chunks.into_iter().enumerate() {
            let payload = Bytes::copy_from_slice(chunk);
            let last = n == last;
            let frame = if n == 0 {
                Tell::Invoke(pb::Invoke {
                    id,
                    version: Some((&self.key).into()),
                    request_id: format!("r{id}"),
                    deadline_ms: 10_000,
                    log_tail: true,
                    invoked_arn: "arn".into(),
                    trace_id: "Root=1".into(),
                    client_context: "eyJjdXN0b20iOnt9fQ==".into(),
                    payload,
                    last,
                    ..Default::default()
                })
            } else {
                Tell::Chunk(pb::Chunk { id, payload, last })
            };
            self.tell(frame).await;
        }
    }

    /// The next pulse, answered.
    async fn answer_pulse(&mut self) {
        loop {
            if let Hear::Pulse(pulse) = self.next_frame().await {
                let sent_at_ms = pulse.sent_at_ms;
                return self
                    .tell(Tell::PulseAnswer(pb::PulseAnswer { sent_at_ms }))
                    .await;
            }
        }
    }

    /// The next answer: whole, or a refusal.
    async fn answer(&mut self) -> Result<(pb::Response, Vec<u8>), pb::refused::Reason> {
        loop {
            match self.next_frame().await {
                Hear::Refused(refused) => return Err(refused.reason()),
                Hear::Response(response) if response.last => {
                    let payload = response.payload.to_vec();
                    return Ok((response, payload));
                }
                Hear::Response(response) => {
                    let payload = response.payload.to_vec();
                    self.parts.insert(response.id, (response, payload));
                }
                Hear::Chunk(chunk) => {
                    let (response, mut payload) = self.parts.remove(&chunk.id).unwrap();
                    payload.extend_from_slice(&chunk.payload);
                    if chunk.last {
                        return Ok((response, payload));
                    }
                    self.parts.insert(chunk.id, (response, payload));
                }
                Hear::Load(_)
                | Hear::StartRefused(_)
                | Hear::Taken(_)
                | Hear::Part(_)
                | Hear::Pulse(_)
                | Hear::Closing(_) => {}
            }
        }
    }

    async fn call(&mut self, id: u64, event: &[u8]) -> (pb::Response, String) {
        self.invoke(id, event).await;
        let (response, payload) = self.answer().await.expect("not refused");
        (response, String::from_utf8(payload).unwrap())
    }
}

/// Runs one invocation on a sandbox that is played by `script`.
pub(crate) async fn run_function<S, F>(script: S, event: &[u8]) -> Vec<u8>
where
    S: Fn(FakeSandbox) -> F + Send + Sync + 'static,
    F: Future<Output = ExitStatus> + Send + 'static,
{
    let driver = Arc::new(FakeDriver::new(script));
    let mut f = Fixture::with_driver(driver, "app.handler", 1, 1_000).await;
    f.start(1).await;
    f.idle(1).await;
    f.invoke(1, event).await;
    let (_, payload) = f.answer().await.unwrap();
    f.worker.shutdown().await;
    payload
}

#[tokio::test]
async fn cold_then_warm_with_log_tail_and_lines_as_on_aws() {
    let mut f = Fixture::new("app.handler", 1, 1_000).await;
    f.invoke(1, b"{}").await;
    assert_eq!(
        f.answer().await.unwrap_err(),
        pb::refused::Reason::NoSandbox
    );
    f.start(1).await;
    f.idle(1).await;
    let (response, payload) = f.call(2, b"print").await;
    assert_eq!(
        (
            payload.as_str(),
            response.function_error.as_str(),
            response.idle
        ),
        ("null", "", 1)
    );
    let log = String::from_utf8(response.log_tail.to_vec()).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(
        lines[..3],
        [
            "START RequestId: r2 Version: $LATEST",
            "hello from inside",
            "END RequestId: r2"
        ]
    );
    assert!(
        lines[3].starts_with("REPORT RequestId: r2\tDuration: ")
            && lines[3].contains("Init Duration"),
        "{log}"
    );
    let (response, payload) = f.call(3, br#"{"a":1}"#).await;
    assert_eq!(payload, r#"{"a":1}"#);
    assert!(!String::from_utf8_lossy(&response.log_tail).contains("Init Duration"));
    let log = f.worker.function_log(&f.key);
    assert!(String::from_utf8_lossy(&log).contains("hello from inside"));
    f.worker.shutdown().await;
}

#[tokio::test]
async fn a_large_event_and_response_travel_in_chunks_and_small_ones_pass_them() {
    let mut f = Fixture::new("app.handler", 2, 1_000).await;
    f.start(2).await;
    f.idle(2).await;
    let large = vec![b'7'; 6_000_000];
    f.invoke(1, &large).await;
    f.invoke(2, b"small").await;
    let mut answers = BTreeMap::new();
    for _ in 0..2 {
        let (response, payload) = f.answer().await.unwrap();
        answers.insert(response.id, payload);
    }
    assert_eq!(answers[&2], b"small");
    assert!(answers[&1] == large);
    f.worker.shutdown().await;
}

#[tokio::test]
async fn errors_of_the_function_are_its_answer_and_the_sandbox_stays() {
    let mut f = Fixture::new("app.handler", 1, 1_000).await;
    f.start(1).await;
    f.idle(1).await;
    let (response, payload) = f.call(1, b"error").await;
    assert_eq!(
        (payload.as_str(), response.function_error.as_str()),
        (r#"{"errorMessage":"boom"}"#, "Unhandled")
    );
    let (response, payload) = f.call(2, b"huge").await;
    assert_eq!(response.function_error, "Unhandled");
    assert!(
        payload.contains("Function.ResponseSizeTooLarge"),
        "{payload}"
    );
    let (_, payload) = f.call(3, b"ok").await;
    assert_eq!(payload, "ok");
    assert_eq!(f.worker.engine.metrics.cold_starts.get(), 1);
    f.worker.shutdown().await;
}

#[tokio::test]
async fn a_timeout_and_an_exit_end_the_sandbox_with_awss_words() {
    let mut f = Fixture::new("app.handler", 1, 1_000).await;
    f.start(1).await;
    f.idle(1).await;
    let (response, payload) = f.call(1, b"hang").await;
    assert!(
        payload.ends_with(r#"Z r1 Task timed out after 1.00 seconds"}"#),
        "{payload}"
    );
    assert_eq!(
        (response.function_error.as_str(), response.billed_ms / 100),
        ("Unhandled", 10)
    );
    f.idle(0).await;
    f.start(1).await;
    f.idle(1).await;
    let (_, payload) = f.call(2, b"exit").await;
    assert_eq!(
        payload,
        r#"{"errorType":"Runtime.ExitError","errorMessage":"RequestId: r2 Error: Runtime exited without providing a reason"}"#
    );
    f.worker.shutdown().await;
}

#[tokio::test]
async fn an_init_error_serves_exactly_one_invocation() {
    for (handler, expected) in [
        ("init-error", r#""errorType":"Runtime.ImportModuleError""#),
        (
            "init-exit",
            r#"Error: Runtime exited with error: exit status 7"#,
        ),
    ] {
        let mut f = Fixture::new(handler, 2, 1_000).await;
        f.start(1).await;
        f.idle(1).await;
        let (response, payload) = f.call(1, b"{}").await;
        assert_eq!(response.function_error, "Unhandled");
        assert!(payload.contains(expected), "{payload}");
        f.invoke(2, b"{}").await;
        assert_eq!(
            f.answer().await.unwrap_err(),
            pb::refused::Reason::NoSandbox
        );
        f.worker.shutdown().await;
    }
}

#[tokio::test]
async fn an_init_that_takes_too_long_is_run_again_within_the_invocation() {
    let mut f = Fixture::new("init-slow", 1, 1_000).await;
    f.start(1).await;
    f.idle(1).await;
    assert_eq!(f.call(1, b"late").await.1, "late");
    assert_eq!(f.call(2, b"warm").await.1, "warm");
    f.worker.shutdown().await;
    let mut f = Fixture::new("init-hang", 1, 1_000).await;
    f.start(1).await;
    f.idle(1).await;
    let (_, payload) = f.call(1, b"{}").await;
    assert!(
        payload.contains("Task timed out after 1.00 seconds"),
        "{payload}"
    );
    f.worker.shutdown().await;
}

#[tokio::test]
async fn permits_and_memory_bound_what_runs() {
    let mut f = Fixture::new("app.handler", 1, 300).await;
    f.start(3).await;
    f.idle(2).await;
    f.invoke(1, b"hang").await;
    f.invoke(2, b"{}").await;
    assert_eq!(f.answer().await.unwrap_err(), pb::refused::Reason::NoPermit);
    f.tell(Tell::Cancel(pb::Cancel { id: 1 })).await;
    // The cancelled invocation runs on to its timeout, and its permit comes back then.
    f.idle(1).await;
    while f.worker.engine.metrics.in_flight.get() > 0 {
        f.next_frame().await;
    }
    assert_eq!(f.call(3, b"x").await.1, "x");
    f.worker.shutdown().await;
}

#[tokio::test]
async fn an_unknown_generation_and_a_worker_that_drains_are_told() {
    let mut f = Fixture::new("app.handler", 1, 1_000).await;
    f.start(1).await;
    f.idle(1).await;
    f.key.generation = 9;
    f.invoke(1, b"{}").await;
    assert_eq!(
        f.answer().await.unwrap_err(),
        pb::refused::Reason::UnknownVersion
    );
    f.worker.engine.draining.store(true, Ordering::Release);
    f.invoke(2, b"{}").await;
    assert_eq!(f.answer().await.unwrap_err(), pb::refused::Reason::Draining);
    f.worker.shutdown().await;
    let mut last = None;
    while let Some(frame) = f.hear.message().await.unwrap() {
        last = frame.frame;
    }
    assert!(
        matches!(last, Some(Hear::Closing(_))),
        "its last word: {last:?}"
    );
}

/// What a worker reads after it was stopped may have been given to another one.
#[tokio::test]
async fn nothing_is_begun_without_a_lease_where_pulses_are_answered() {
    let mut f = Fixture::new("app.handler", 2, 1_000).await;
    f.start(1).await;
    f.idle(1).await;
    f.tell(Tell::Hello(pb::GatewayHello {
        gateway_id: 1,
        answers_pulses: true,
    }))
    .await;
    f.invoke(1, b"{}").await;
    assert_eq!(f.answer().await.unwrap_err(), pb::refused::Reason::Late);
    f.answer_pulse().await;
    let (_, payload) = f.call(2, b"{}").await;
    assert_eq!(payload, "{}");
    // Pulses go on and are not answered until the lease is over.
    for _ in 0..=hearth_core::standing::LEASE_MS / hearth_core::standing::PULSE_MS + 1 {
        while !matches!(f.next_frame().await, Hear::Pulse(_)) {}
    }
    f.invoke(3, b"{}").await;
    assert_eq!(f.answer().await.unwrap_err(), pb::refused::Reason::Late);
    f.worker.shutdown().await;
}

#[tokio::test]
async fn what_is_begun_is_told_before_its_answer() {
    let mut f = Fixture::new("app.handler", 1, 1_000).await;
    f.start(1).await;
    f.idle(1).await;
    f.invoke(7, b"{}").await;
    let is_told = loop {
        match f.next_frame().await {
            Hear::Taken(taken) => break taken.ids == [7],
            Hear::Response(_) => break false,
            _ => {}
        }
    };
    assert!(is_told);
    f.worker.shutdown().await;
}
