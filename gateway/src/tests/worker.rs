//! A scripted worker: the name of the function says what it does.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use futures::Stream;
use hearth_proto::internal::v1 as pb;
use pb::gateway_frame::Frame as In;
use pb::invocations_server::{Invocations, InvocationsServer};
use pb::worker_frame::Frame as Out;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// What the worker has and has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) starts: Vec<u32>,
    pub(crate) invokes: u32,
    pub(crate) cancels: u32,
    pub(crate) largest_piece: usize,
}

#[derive(Debug)]
pub(crate) struct FakeWorker {
    pub(crate) id: u64,
    pub(crate) permits: Mutex<u32>,
    /// Answers of StartSandboxes take effect.
    pub(crate) starts_work: bool,
    /// Sends pulses and acknowledges what it begins, as workers do since this release.
    pub(crate) pulses: bool,
    /// Says and begins nothing for now, as a process that was stopped.
    pub(crate) frozen: watch::Sender<bool>,
    pub(crate) seen: Mutex<Seen>,
    outs: Mutex<Vec<Sender>>,
    /// Idle sandboxes by function.
    idle: Mutex<HashMap<String, u32>>,
    /// Invokes that came, by function.
    received: Mutex<HashMap<String, u64>>,
}

type Sender = mpsc::Sender<Result<pb::WorkerFrame, Status>>;

impl FakeWorker {
    pub(crate) fn new(id: u64, permits: u32, warm: &[(&'static str, u32)]) -> Self {
        Self {
            id,
            permits: Mutex::new(permits),
            starts_work: true,
            pulses: false,
            frozen: watch::Sender::new(false),
            seen: Mutex::default(),
            received: Mutex::default(),
            outs: Mutex::default(),
            idle: Mutex::new(
                warm.iter()
                    .map(|(name, n)| ((*name).to_owned(), *n))
                    .collect(),
            ),
        }
    }

    pub(crate) async fn serve(self: Arc<Self>) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let service = InvocationsServer::new(Shared(self)).max_decoding_message_size(1 << 20);
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        addr
    }

    pub(crate) fn load(&self) -> pb::Load {
        let idle = self.idle.lock().unwrap();
        pb::Load {
            incarnation: 1,
            free_memory_mib: 8_192,
            idle_memory_mib: 0,
            start_budget: 8,
            draining: false,
            versions: idle
                .iter()
                .map(|(function, idle)| pb::VersionLoad {
                    version: Some(version(function)),
                    idle: *idle,
                    starting: 0,
                    busy: 0,
                    received: self.received(function),
                    begun: 0,
                })
                .collect(),
            pools: vec![pb::PoolUse {
                pool: Some(pb::Pool {
                    account: ACCOUNT.into(),
                    function: String::new(),
                }),
                ceiling: *self.permits.lock().unwrap(),
                in_flight: 0,
                sequence: 1,
                admitted: 0,
            }],
            complete: true,
        }
    }

    /// Grants permits and says so.
    pub(crate) async fn grant(&self, permits: u32) {
        *self.permits.lock().unwrap() = permits;
        let outs = self.outs.lock().unwrap().clone();
        for out in outs {
            send(&out, Out::Load(self.load())).await;
        }
    }

    fn received(&self, function: &str) -> u64 {
        *self.received.lock().unwrap().get(function).unwrap_or(&0)
    }

    async fn on_invoke(&self, out: &Sender, invoke: pb::Invoke, payload: Bytes) -> bool {
        self.seen.lock().unwrap().invokes += 1;
        let id = invoke.id;
        let function = invoke.version.unwrap_or_default().function;
        if self.pulses && function != "leaves" {
            send(out, Out::Taken(pb::Taken { ids: vec![id] })).await;
        }
        *self
            .received
            .lock()
            .unwrap()
            .entry(function.clone())
            .or_default() += 1;
        let received = self.received(&function);
        let idle = *self.idle.lock().unwrap().get(&function).unwrap_or(&0);
        let refuse = |reason: pb::refused::Reason| {
            Out::Refused(pb::Refused {
                id,
                reason: reason.into(),
                idle: 0,
                received,
            })
        };
        let response = |payload: Bytes, last| pb::Response {
            id,
            payload,
            last,
            idle,
            received,
            ..Default::default()
        };
        match function.as_str() {
            "echo" if payload.len() > 65_536 => {
                let mut rest = payload;
                let first = rest.split_to(65_536);
                send(out, Out::Response(response(first, false))).await;
                while !rest.is_empty() {
                    let payload = rest.split_to(rest.len().min(65_536));
                    let last = rest.is_empty();
                    send(out, Out::Chunk(pb::Chunk { id, payload, last })).await;
                }
            }
            "fails" => {
                let failed = pb::Response {
                    function_error: "Unhandled".into(),
                    log_tail: Bytes::from_static(b"START\n"),
                    ..response(Bytes::from_static(b"{\"errorType\":\"E\"}"), true)
                };
                send(out, Out::Response(failed)).await;
            }
            "no-permit" => send(out, refuse(pb::refused::Reason::NoPermit)).await,
            "picky" if self.id == 1 => send(out, refuse(pb::refused::Reason::SandboxDied)).await,
            "dies" => return false,
            "leaves" if self.id == 1 => {
                send(out, Out::Closing(pb::Closing {})).await;
                return false;
            }
            "holds" => {}
            "stops-at-work" => {
                self.frozen.send_replace(true);
            }
            _ => send(out, Out::Response(response(payload, true))).await,
        }
        true
    }
}

pub(crate) const ACCOUNT: &str = "000000000000";

fn version(function: &str) -> pb::Version {
    pb::Version {
        account: ACCOUNT.into(),
        function: function.into(),
        version: "$LATEST".into(),
        generation: 1,
    }
}

async fn send(out: &Sender, frame: Out) {
    let _ = out.send(Ok(pb::WorkerFrame { frame: Some(frame) })).await;
}

struct Shared(Arc<FakeWorker>);

#[tonic::async_trait]
impl Invocations for Shared {
    type ExchangeStream = Pin<Box<dyn Stream<Item = Result<pb::WorkerFrame, Status>> + Send>>;

    async fn exchange(
        &self,
        request: Request<Streaming<pb::GatewayFrame>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let (out, frames) = mpsc::channel(1_024);
        let worker = Arc::clone(&self.0);
        worker.outs.lock().unwrap().push(out.clone());
        tokio::spawn(run(worker, out, request.into_inner()));
        Ok(Response::new(Box::pin(ReceiverStream::new(frames))))
    }
}

async fn pulse(worker: Arc<FakeWorker>, out: Sender) {
    let mut frozen = worker.frozen.subscribe();
    while !out.is_closed() {
        let _ = frozen.wait_for(|frozen| !frozen).await;
        send(&out, Out::Pulse(pb::Pulse { sent_at_ms: 0 })).await;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

async fn run(worker: Arc<FakeWorker>, out: Sender, mut frames: Streaming<pb::GatewayFrame>) {
    if worker.pulses {
        tokio::spawn(pulse(Arc::clone(&worker), out.clone()));
    }
    let mut frozen = worker.frozen.subscribe();
    send(&out, Out::Load(worker.load())).await;
    let mut partial: HashMap<u64, (pb::Invoke, BytesMut)> = HashMap::new();
    while let Some(Ok(frame)) = frames.next().await {
        let _ = frozen.wait_for(|frozen| !frozen).await;
        let whole = match frame.frame.unwrap() {
            In::Hello(_) | In::PulseAnswer(_) | In::Credit(_) => None,
            In::Invoke(mut invoke) => {
                let first = std::mem::take(&mut invoke.payload);
                note_piece(&worker, first.len());
                let (id, last) = (invoke.id, invoke.last);
                partial.insert(id, (invoke, BytesMut::from(&first[..])));
                last.then_some(id)
            }
            In::Chunk(chunk) => {
                note_piece(&worker, chunk.payload.len());
                partial
                    .get_mut(&chunk.id)
                    .unwrap()
                    .1
                    .extend_from_slice(&chunk.payload);
                chunk.last.then_some(chunk.id)
            }
            In::Cancel(_) => {
                worker.seen.lock().unwrap().cancels += 1;
                None
            }
            In::Start(start) => {
                worker.seen.lock().unwrap().starts.push(start.count);
                if worker.starts_work {
                    let name = start.version.unwrap().function;
                    *worker.idle.lock().unwrap().entry(name).or_default() += start.count;
                    send(&out, Out::Load(worker.load())).await;
                }
                None
            }
        };
        if let Some(id) = whole {
            let (invoke, payload) = partial.remove(&id).unwrap();
            if !worker.on_invoke(&out, invoke, payload.freeze()).await {
                let _ = out.send(Err(Status::aborted("the worker died"))).await;
                worker.outs.lock().unwrap().clear();
                return;
            }
        }
    }
}

fn note_piece(worker: &FakeWorker, length: usize) {
    let mut seen = worker.seen.lock().unwrap();
    seen.largest_piece = seen.largest_piece.max(length);
}

impl FakeWorker {
    /// One sandbox of the function is free from now on.
    pub(crate) async fn make_idle(&self, function: &str) {
        self.idle.lock().unwrap().insert(function.to_owned(), 1);
        let outs = self.outs.lock().unwrap().clone();
        for out in outs {
            send(&out, Out::Load(self.load())).await;
        }
    }
}
