//! Reads one gateway's frames: assembles events, admits invocations, passes on cancellations and wishes for sandboxes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hearth_core::ids::VersionKey;
use hearth_core::limits::SYNC_REQUEST_MAX_BYTES;
use hearth_node::grpc;
use hearth_node::telemetry::set_parent;
use hearth_node::tls::NodeRole;
use hearth_proto::convert::required_version;
use hearth_proto::internal::v1 as pb;
use pb::gateway_frame::Frame;
use pb::refused::Reason;
use pb::worker_frame::Frame as Say;
use tokio::sync::Semaphore;
use tonic::{Extensions, Streaming};
use tracing::{debug, debug_span, warn};

use super::outbox::{Free, Outbox, Received};
use super::pulse::Terms;
use crate::catalog::function_of;
use crate::pool::gates::HeldPermit;
use crate::pool::invocation::{Invocation, Reply};
use crate::pool::version::{Taken, VersionPool};
use crate::pool::{Engine, give_back};

/// Starts of one gateway that wait at a time for the document of their function.
const LEARNING_MAX: usize = 1_024;

/// How long a start waits for the document: the gateway takes it as lost after a second, and asks again.
const DOCUMENT_LIMIT: Duration = Duration::from_millis(900);

/// An admitted invocation whose event is still coming in. It has its permit and its sandbox, so their number bounds it.
#[derive(Debug)]
struct Assembling {
    invoke: pb::Invoke,
    key: VersionKey,
    event: BytesMut,
    permit: HeldPermit,
    pool: Arc<VersionPool>,
    taken: Taken,
    received: Received,
}

/// The reader of one stream.
struct Reader {
    engine: Arc<Engine>,
    outbox: Arc<Outbox>,
    terms: Arc<Terms>,
    assembling: HashMap<u64, Assembling>,
    /// Places for starts that wait for what is to be started.
    learning: Arc<Semaphore>,
}

/// Reads until the gateway ends the stream.
pub(super) async fn run(
    engine: Arc<Engine>,
    caller: &Extensions,
    mut frames: Streaming<pb::GatewayFrame>,
    outbox: Arc<Outbox>,
    terms: Arc<Terms>,
) {
    let mut reader = Reader {
        engine,
        outbox,
        terms,
        assembling: HashMap::new(),
        learning: Arc::new(Semaphore::new(LEARNING_MAX)),
    };
    loop {
        reader.outbox.room().await;
        match frames.message().await {
            Ok(Some(frame)) if is_of(caller, &frame) => reader.on_frame(frame),
            Ok(Some(_)) => return,
            Ok(None) => return,
            Err(status) => {
                debug!(status = status.message(), "a gateway's stream ended");
                return;
            }
        }
    }
}

/// Whether a gateway that says who it is says what its certificate says.
fn is_of(caller: &Extensions, frame: &pb::GatewayFrame) -> bool {
    let Some(Frame::Hello(hello)) = &frame.frame else {
        return true;
    };
    grpc::check_claim(caller, NodeRole::Gateway, hello.gateway_id).is_ok()
}

impl Drop for Reader {
    fn drop(&mut self) {
        for (_, assembling) in self.assembling.drain() {
            give_back(&assembling.pool, assembling.taken);
        }
    }
}

impl Reader {
    fn on_frame(&mut self, frame: pb::GatewayFrame) {
        match frame.frame {
            Some(Frame::Invoke(invoke)) => self.on_invoke(invoke),
            Some(Frame::Chunk(chunk)) => self.on_chunk(chunk),
            Some(Frame::Cancel(cancel)) => self.on_cancel(cancel.id),
            Some(Frame::Credit(credit)) => self.outbox.credit(credit.id, credit.bytes),
            Some(Frame::Start(start)) => self.on_start(start),
            Some(Frame::Hello(hello)) => {
                debug!(gateway = hello.gateway_id, "gateway connected");
                self.terms.on_hello(hello.answers_pulses);
            }
            Some(Frame::PulseAnswer(answer)) => self.terms.on_answer(&answer),
            // A frame of a newer gateway.
            None => {}
        }
    }

    fn on_invoke(&mut self, mut invoke: pb::Invoke) {
        let id = invoke.id;
        if !self.outbox.expect(id) {
            warn!(id, "a gateway used the id of a running invocation again");
            return;
        }
        let key = match required_version(invoke.version.as_ref()) {
            Ok(key) => key,
            Err(error) => {
                warn!(%error, "invocation refused");
                return self
                    .outbox
                    .refuse(id, Reason::UnknownVersion, Free::default());
            }
        };
        let received = self
            .outbox
            .on_received(&key, |key| self.engine.catalog.find(key).is_some());
        if !self.has_lease() {
            return self
                .outbox
                .refuse(id, Reason::Late, received.with(|| self.engine.free(&key)));
        }
        let admitted = match self.engine.admit(&key) {
            Ok(admitted) => admitted,
            Err(no) => {
                let free = received.with(|| no.idle);
                return self.outbox.refuse(id, no.reason, free);
            }
        };
        let (permit, pool, taken) = admitted.into_parts();
        let event = std::mem::take(&mut invoke.payload);
        let last = invoke.last;
        let assembling = Assembling {
            invoke,
            key,
            event: BytesMut::new(),
            permit,
            pool,
            taken,
            received,
        };
        if last {
            self.begin(assembling, event);
        } else {
            let mut assembling = assembling;
            assembling.event.extend_from_slice(&event);
            self.assembling.insert(id, assembling);
        }
    }

    fn on_chunk(&mut self, chunk: pb::Chunk) {
        let is_late = chunk.last && !self.has_lease();
        // Chunks of a refused or cancelled invocation may still come.
        let Some(assembling) = self.assembling.get_mut(&chunk.id) else {
            return;
        };
        if assembling.event.len() + chunk.payload.len() > SYNC_REQUEST_MAX_BYTES {
            warn!(id = chunk.id, "a gateway sent an event over the limit");
            let free = assembling.received.with(|| assembling.pool.free());
            self.abandon(chunk.id);
            return self.outbox.refuse(chunk.id, Reason::Unspecified, free);
        }
        assembling.event.extend_from_slice(&chunk.payload);
        if is_late {
            let free = assembling.received.with(|| assembling.pool.free());
            self.abandon(chunk.id);
            return self.outbox.refuse(chunk.id, Reason::Late, free);
        }
        if chunk.last
            && let Some(mut assembling) = self.assembling.remove(&chunk.id)
        {
            let event = std::mem::take(&mut assembling.event).freeze();
            self.begin(assembling, event);
        }
    }

    fn begin(&self, assembling: Assembling, payload: Bytes) {
        let Assembling {
            invoke,
            key,
            permit,
            pool,
            taken,
            received,
            ..
        } = assembling;
        let span = debug_span!("invoke", request_id = invoke.request_id, version = %key);
        if !invoke.traceparent.is_empty() {
            set_parent(&span, &invoke.traceparent);
        }
        let window = (invoke.stream_window > 0)
            .then(|| self.outbox.open_window(invoke.id, invoke.stream_window));
        let invocation = Invocation {
            span,
            request_id: invoke.request_id,
            version: key,
            invoked_arn: invoke.invoked_arn,
            trace_id: invoke.trace_id,
            client_context: invoke.client_context,
            payload,
            log_tail: invoke.log_tail,
            permit: Some(permit),
            reply: Reply {
                outbox: Arc::clone(&self.outbox),
                id: invoke.id,
                received,
                window,
            },
        };
        // Said before the event is out of hand.
        self.outbox.taken(invoke.id);
        self.engine.run(&pool, taken, invocation);
    }

    fn has_lease(&self) -> bool {
        self.terms.allow(self.engine.seams.clock.monotonic_ms())
    }

    fn abandon(&mut self, id: u64) {
        if let Some(assembling) = self.assembling.remove(&id) {
            give_back(&assembling.pool, assembling.taken);
        }
    }

    fn on_cancel(&mut self, id: u64) {
        self.abandon(id);
        if !self.outbox.cancel(id) {
            // Its answer and this have crossed: how things stand is told again.
            self.engine.changes.next();
        }
    }

    /// What a worker that has not run the function yet needs to know of it is asked of a controller first.
    fn on_start(&self, start: pb::StartSandboxes) {
        use pb::start_refused::Reason as No;
        let key = match required_version(start.version.as_ref()) {
            Ok(key) => key,
            Err(error) => {
                return refuse_start(&self.outbox, start, No::UnknownVersion, error.to_string());
            }
        };
        self.engine.catalog.want(function_of(&key));
        if self.engine.catalog.contains(&key) {
            return begin_start(&self.engine, &self.outbox, &key, start);
        }
        let Ok(place) = Arc::clone(&self.learning).try_acquire_owned() else {
            return refuse_start(&self.outbox, start, No::UnknownVersion, String::new());
        };
        let (engine, outbox) = (Arc::clone(&self.engine), Arc::clone(&self.outbox));
        self.engine.tasks.spawn(async move {
            let _place = place;
            // Refused below if it does not come.
            let _ = engine.catalog.wait_for(&key, DOCUMENT_LIMIT).await;
            begin_start(&engine, &outbox, &key, start);
        });
    }
}

fn begin_start(engine: &Arc<Engine>, outbox: &Outbox, key: &VersionKey, start: pb::StartSandboxes) {
    if let Err(no) = engine.start(key, start.count, &start.traceparent) {
        refuse_start(outbox, start, no.reason, no.detail);
    }
}

fn refuse_start(
    outbox: &Outbox,
    start: pb::StartSandboxes,
    reason: pb::start_refused::Reason,
    detail: String,
) {
    outbox.say(Say::StartRefused(pb::StartRefused {
        version: start.version,
        reason: reason.into(),
        detail,
    }));
}
