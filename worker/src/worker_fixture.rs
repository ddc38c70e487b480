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

use super::super::*;
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

pub(super) struct Fixture {
    pub(super) worker: Worker,
    pub(super) key: VersionKey,
    pub(super) say: mpsc::Sender<pb::GatewayFrame>,
    pub(super) hear: tonic::Streaming<pb::WorkerFrame>,
    /// Chunks of responses that are coming in.
    pub(super) parts: BTreeMap<u64, (pb::Response, Vec<u8>)>,
    _dir: tempfile::TempDir,
}

impl Fixture {
    pub(super) async fn new(handler: &str, permits: u32, memory_mib: u64) -> Self {
        let driver = Arc::new(FakeDriver::new(script));
        Self::with_driver(driver, handler, permits, memory_mib).await
    }

    pub(super) async fn with_driver(
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

    pub(super) async fn tell(&self, frame: Tell) {
        self.say
            .send(pb::GatewayFrame { frame: Some(frame) })
            .await
            .unwrap();
    }

    pub(super) async fn start(&self, count: u32) {
        let version = Some((&self.key).into());
        self.tell(Tell::Start(pb::StartSandboxes {
            version,
            count,
            ..pb::StartSandboxes::default()
        }))
        .await;
    }

    pub(super) async fn next_frame(&mut self) -> Hear {
        let next = tokio::time::timeout(Duration::from_secs(20), self.hear.message());
        let frame = next.await.expect("a frame in time").unwrap();
        frame.expect("the stream lives").frame.unwrap()
    }

    /// Waits for a report of as many free sandboxes.
    pub(super) async fn idle(&mut self, idle: u32) {
        loop {
            if let Hear::Load(load) = self.next_frame().await
                && load.versions.iter().any(|v| v.idle == idle)
            {
                return;
            }
        }
    }

    pub(super) async fn invoke(&self, id: u64, event: &[u8]) {
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
    pub(super) async fn answer_pulse(&mut self) {
        loop {
            if let Hear::Pulse(pulse) = self.next_frame().await {
                let sent_at_ms = pulse.sent_at_ms;
                return self
                    .tell(Tell::PulseAnswer(pb::PulseAnswer {
                        sent_at_ms,
                        pulse_ms: 0,
                    }))
                    .await;
            }
        }
    }

    /// The next answer: whole, or a refusal.
    pub(super) async fn answer(&mut self) -> Result<(pb::Response, Vec<u8>), pb::refused::Reason> {
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

    pub(super) async fn call(&mut self, id: u64, event: &[u8]) -> (pb::Response, String) {
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
