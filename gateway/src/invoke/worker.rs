//! One worker as this gateway sees it: its tables, the frames on their way to it and the invocations in flight on its
//! stream. The task that keeps the stream up is in `stream`; which worker is taken is decided in `line`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use hearth_core::ids::{Incarnation, NodeId, PoolKey, VersionKey};
use hearth_core::limits::{LOG_TAIL_BYTES, SYNC_RESPONSE_MAX_BYTES};
use hearth_core::retry::AttemptFailure;
use hearth_proto::internal::v1 as pb;
use pb::gateway_frame::Frame;
use tokio::sync::oneshot;

use super::line::{Free, Line};
use super::outbox::{NotTaken, Outbox};
use super::tables::{PoolSlot, Tables};

/// A response with room for its frame; a worker that sends more breaks the protocol.
const RESPONSE_MAX_BYTES: usize = SYNC_RESPONSE_MAX_BYTES + LOG_TAIL_BYTES;

/// What a worker answered to an invocation it began.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) payload: Bytes,
    pub(crate) function_error: String,
    pub(crate) log_tail: Bytes,
}

/// An invocation in flight.
#[derive(Debug)]
struct Pending {
    line: Arc<Line>,
    pool: Option<Arc<PoolSlot>>,
    /// Gone when the caller is.
    reply: oneshot::Sender<Result<Reply, AttemptFailure>>,
    head: Option<pb::Response>,
    /// Pieces of the response that came so far.
    body: BytesMut,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) id: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) addr: String,
    pub(crate) tables: Tables,
    pub(crate) outbox: Arc<Outbox>,
    in_flight: Mutex<HashMap<u64, Pending>>,
    next_id: AtomicU64,
}

impl Worker {
    pub(crate) fn new(id: NodeId, incarnation: Incarnation, addr: String) -> Self {
        Self {
            id,
            incarnation,
            addr,
            tables: Tables::default(),
            outbox: Arc::default(),
            in_flight: Mutex::default(),
            next_id: AtomicU64::new(1),
        }
    }

    fn in_flight(&self) -> MutexGuard<'_, HashMap<u64, Pending>> {
        self.in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends an invocation; `invoke.id` is chosen here. The reply comes through what is returned; dropping that
    /// before the reply cancels the invocation.
    pub(crate) fn send(
        self: &Arc<Self>,
        line: &Arc<Line>,
        pool: &PoolKey,
        mut invoke: pb::Invoke,
    ) -> Result<InFlight, NotTaken> {
        let id = self.next_id.fetch_add(1, Relaxed);
        invoke.id = id;
        let (sender, reply) = oneshot::channel();
        let pool = self.tables.pool(pool);
        if let Some(pool) = &pool {
            pool.on_sent();
        }
        self.tables.on_sent();
        let pending = Pending {
            line: Arc::clone(line),
            pool,
            reply: sender,
            head: None,
            body: BytesMut::new(),
        };
        self.in_flight().insert(id, pending);
        if let Err(not_taken) = self.outbox.push(Frame::Invoke(invoke)) {
            self.take(id);
            return Err(not_taken);
        }
        Ok(InFlight {
            worker: Arc::clone(self),
            id,
            reply,
        })
    }

    /// Asks for sandboxes; lost if the worker is not connected, and asked again later then.
    pub(crate) fn start_sandboxes(&self, version: &VersionKey, count: u32, traceparent: &str) {
        let version = Some(version.into());
        let _ = self.outbox.push(Frame::Start(pb::StartSandboxes {
            version,
            count,
            traceparent: traceparent.to_owned(),
        }));
    }

    /// Takes an invocation out of the table; its place in the tables is free again.
    fn take(&self, id: u64) -> Option<Pending> {
        let pending = self.in_flight().remove(&id)?;
        self.tables.on_ended();
        if let Some(pool) = &pending.pool {
            pool.on_ended();
        }
        Some(pending)
    }

    /// The invocation was not begun.
    pub(super) fn on_refused(
        self: &Arc<Self>,
        refused: &pb::Refused,
        now: hearth_core::ids::MonotonicMs,
    ) {
        let failure = refusal(refused.reason());
        let Some(pending) = self.take(refused.id) else {
            return;
        };
        if failure == AttemptFailure::NoPermit
            && let Some(pool) = &pending.pool
        {
            pool.on_exhausted();
        }
        let free = Free {
            idle: refused.idle,
            received: refused.received,
        };
        pending.line.on_ended(self, free, now);
        // A caller that is gone needs no answer.
        let _ = pending.reply.send(Err(failure));
    }

    /// The outcome of an invocation, whole or its first part.
    pub(super) fn on_response(
        self: &Arc<Self>,
        mut response: pb::Response,
        now: hearth_core::ids::MonotonicMs,
    ) {
        let id = response.id;
        if response.last {
            let Some(pending) = self.take(id) else { return };
            pending.line.on_ended(self, free(&response), now);
            let payload = std::mem::take(&mut response.payload);
            let _ = pending.reply.send(Ok(reply(response, payload)));
            return;
        }
        if let Some(pending) = self.in_flight().get_mut(&id) {
            pending.body.extend_from_slice(&response.payload);
            response.payload = Bytes::new();
            pending.head = Some(response);
        }
    }

    /// A further part of a response.
    pub(super) fn on_chunk(
        self: &Arc<Self>,
        chunk: &pb::Chunk,
        now: hearth_core::ids::MonotonicMs,
    ) {
        {
            let mut in_flight = self.in_flight();
            let Some(pending) = in_flight.get_mut(&chunk.id) else {
                return;
            };
            if pending.body.len() + chunk.payload.len() <= RESPONSE_MAX_BYTES
                && pending.head.is_some()
            {
                pending.body.extend_from_slice(&chunk.payload);
                if !chunk.last {
                    return;
                }
            } else {
                // Breaks the protocol: the rest is not kept, the outcome is unknown.
                pending.head = None;
            }
        }
        let Some(pending) = self.take(chunk.id) else {
            return;
        };
        let Some(head) = pending.head else {
            self.outbox.cancel(chunk.id);
            let _ = pending.reply.send(Err(AttemptFailure::LostAfterTaken));
            return;
        };
        pending.line.on_ended(self, free(&head), now);
        let _ = pending.reply.send(Ok(reply(head, pending.body.freeze())));
    }

    /// The stream is lost: what was surely not handed over may go elsewhere.
    pub(super) fn on_lost(&self) {
        let unsent = self.outbox.close();
        let lost: Vec<u64> = self.in_flight().keys().copied().collect();
        for id in lost {
            let Some(pending) = self.take(id) else {
                continue;
            };
            let failure = if unsent.contains(&id) {
                AttemptFailure::LostBeforeTaken
            } else {
                AttemptFailure::LostAfterTaken
            };
            let _ = pending.reply.send(Err(failure));
        }
    }
}

fn free(head: &pb::Response) -> Free {
    Free {
        idle: head.idle,
        received: head.received,
    }
}

fn reply(head: pb::Response, payload: Bytes) -> Reply {
    Reply {
        payload,
        function_error: head.function_error,
        log_tail: head.log_tail,
    }
}

fn refusal(reason: pb::refused::Reason) -> AttemptFailure {
    use pb::refused::Reason;
    match reason {
        Reason::NoPermit => AttemptFailure::NoPermit,
        Reason::Draining => AttemptFailure::Draining,
        Reason::SandboxDied => AttemptFailure::LostBeforeTaken,
        Reason::Fenced => AttemptFailure::Fenced,
        // A worker that does not know the version has no sandbox of it; the catalog reaches it soon.
        Reason::NoSandbox | Reason::UnknownVersion | Reason::Unspecified => {
            AttemptFailure::NoSandbox
        }
    }
}

/// An invocation that was sent.
#[derive(Debug)]
pub(crate) struct InFlight {
    worker: Arc<Worker>,
    id: u64,
    reply: oneshot::Receiver<Result<Reply, AttemptFailure>>,
}

impl InFlight {
    /// The outcome.
    pub(crate) async fn reply(mut self) -> Result<Reply, AttemptFailure> {
        // The sender is dropped unused only with the whole table, when the gateway ends.
        (&mut self.reply)
            .await
            .unwrap_or(Err(AttemptFailure::LostAfterTaken))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(pending) = self.worker.take(self.id) {
            drop(pending);
            self.worker.outbox.cancel(self.id);
        }
    }
}
