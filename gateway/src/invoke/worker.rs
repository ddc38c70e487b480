//! One worker as this gateway sees it: its tables, the frames on their way to it and the invocations in flight on its
//! stream. The task that keeps the stream up is in `stream`; which worker is taken is decided in `line`.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use hearth_core::ids::{Incarnation, MonotonicMs, NodeId, VersionKey};
use hearth_core::limits::{FRAME_BYTES, LOG_TAIL_BYTES, SYNC_RESPONSE_MAX_BYTES};
use hearth_core::retry::AttemptFailure;
use hearth_core::standing::Answers;
use hearth_core::versions::Pools;
use hearth_proto::internal::v1 as pb;
use pb::gateway_frame::Frame;
use tokio::sync::oneshot;

use super::line::{Free, Line};
use super::outbox::{NotTaken, Outbox, Withdrawn};
use super::parts::Sink;
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

/// What an invocation that is sent belongs to.
#[derive(Debug)]
pub(super) struct Sending<'a> {
    pub(super) line: &'a Arc<Line>,
    /// The row of the line that counts it.
    pub(super) row: u64,
    pub(super) pools: &'a Pools,
    pub(super) parts: Option<Sink>,
}

/// An invocation in flight.
#[derive(Debug)]
struct Pending {
    line: Arc<Line>,
    /// The row of the line that counts it as sent.
    row: u64,
    pool: Option<Arc<PoolSlot>>,
    reply: oneshot::Sender<Result<Reply, AttemptFailure>>,
    head: Option<pb::Response>,
    /// Pieces of the response that came so far.
    body: BytesMut,
    /// Where the parts of a streamed one go.
    parts: Option<Sink>,
    sent_at: MonotonicMs,
    /// It travels in one frame, so that its way tells of the worker and not of the network's width.
    is_small: bool,
    /// The worker has begun it.
    taken: bool,
}

impl Pending {
    fn answer(self, result: Result<Reply, AttemptFailure>) {
        // A caller that is gone needs no answer.
        let _ = self.reply.send(result);
    }
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
    answers: Mutex<Answers>,
    /// It has said its last word on this stream.
    is_closing: AtomicBool,
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
            answers: Mutex::new(Answers::new(MonotonicMs(0))),
            is_closing: AtomicBool::new(false),
        }
    }

    /// What is noted of the worker's answers on its stream.
    pub(super) fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
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
        to: Sending<'_>,
        mut invoke: pb::Invoke,
        now: MonotonicMs,
    ) -> Result<InFlight, NotTaken> {
        let id = self.next_id.fetch_add(1, Relaxed);
        invoke.id = id;
        let (sender, reply) = oneshot::channel();
        let pool = self.tables.drawn_from(to.pools);
        if let Some(pool) = &pool {
            pool.on_sent();
        }
        self.tables.on_sent();
        let pending = Pending {
            line: Arc::clone(to.line),
            row: to.row,
            pool,
            reply: sender,
            head: None,
            body: BytesMut::new(),
            parts: to.parts,
            sent_at: now,
            is_small: invoke.payload.len() <= FRAME_BYTES,
            taken: false,
        };
        self.in_flight().insert(id, pending);
        if let Err(not_taken) = self.outbox.push(Frame::Invoke(invoke)) {
            if let Some(pool) = self.take(id).and_then(|pending| pending.pool) {
                pool.on_not_admitted();
            }
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
    pub(super) fn on_refused(self: &Arc<Self>, refused: &pb::Refused, now: MonotonicMs) {
        let failure = refusal(refused.reason());
        let Some(pending) = self.take(refused.id) else {
            return;
        };
        if let Some(pool) = &pending.pool {
            pool.on_not_admitted();
            if failure == AttemptFailure::NoPermit {
                pool.on_exhausted();
            }
        }
        let free = Free {
            idle: refused.idle,
            received: refused.received,
        };
        pending.line.on_ended(self, free, now);
        pending.answer(Err(failure));
    }

    /// The outcome of an invocation, whole or its first part.
    pub(super) fn on_response(self: &Arc<Self>, mut response: pb::Response, now: MonotonicMs) {
        let id = response.id;
        if response.last {
            let Some(pending) = self.take(id) else { return };
            pending.line.on_ended(self, free(&response), now);
            let payload = std::mem::take(&mut response.payload);
            pending.answer(Ok(reply(response, payload)));
            return;
        }
        if let Some(pending) = self.in_flight().get_mut(&id) {
            pending.body.extend_from_slice(&response.payload);
            response.payload = Bytes::new();
            pending.head = Some(response);
        }
    }

    /// A further part of a response.
    pub(super) fn on_chunk(self: &Arc<Self>, chunk: &pb::Chunk, now: MonotonicMs) {
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
        let Some(mut pending) = self.take(chunk.id) else {
            return;
        };
        let Some(head) = pending.head.take() else {
            self.outbox.cancel(chunk.id);
            pending.answer(Err(AttemptFailure::LostAfterTaken));
            return;
        };
        pending.line.on_ended(self, free(&head), now);
        let body = std::mem::take(&mut pending.body).freeze();
        pending.answer(Ok(reply(head, body)));
    }

    /// A part of a response that is streamed.
    pub(super) fn on_part(&self, part: pb::Part) {
        let id = part.id;
        let keeps_to_protocol = match self.in_flight().get(&id) {
            None => true,
            Some(pending) => pending
                .parts
                .as_ref()
                .is_some_and(|parts| parts.push(part, &self.outbox)),
        };
        if !keeps_to_protocol {
            self.outbox.cancel(id);
            self.fail(id, AttemptFailure::LostAfterTaken);
        }
    }

    /// The worker has begun these.
    pub(super) fn on_taken(&self, ids: &[u64], now: MonotonicMs) {
        let mut longest = None;
        let mut in_flight = self.in_flight();
        for id in ids {
            if let Some(pending) = in_flight.get_mut(id) {
                pending.taken = true;
                if pending.is_small {
                    longest = longest.max(Some(now.since(pending.sent_at)));
                }
            }
        }
        drop(in_flight);
        if let Some(longest) = longest {
            self.answers().on_taken(longest);
        }
    }

    /// How far the worker lags behind what is expected of it. Milliseconds.
    pub(super) fn lag_ms(&self, now: MonotonicMs) -> u64 {
        let oldest = self
            .in_flight()
            .values()
            .filter(|pending| !pending.taken && pending.is_small)
            .map(|pending| now.since(pending.sent_at))
            .max();
        self.answers().lag_ms(oldest.unwrap_or(0), now)
    }

    /// What was not handed over to a worker whose lease is over goes elsewhere. What was handed over does not, since its
    /// acknowledgement may be on the way: the worker refuses it when it goes on, or its stream ends. Returns how many.
    pub(super) fn recall(&self, now: MonotonicMs) -> usize {
        if !self.answers().is_lease_over(now) {
            return 0;
        }
        let withdrawn = self.untaken().into_iter().filter_map(|id| {
            let pending = self.withdraw(id)?;
            pending.answer(Err(AttemptFailure::LostBeforeTaken));
            Some(())
        });
        withdrawn.count()
    }

    /// Takes an invocation out of the table if a part of it at least was not handed over.
    fn withdraw(&self, id: u64) -> Option<Pending> {
        let withdrawn = self.outbox.withdraw(id);
        if withdrawn == Withdrawn::Nothing {
            return None;
        }
        if withdrawn == Withdrawn::Rest {
            self.outbox.cancel(id);
        }
        let pending = self.take(id)?;
        if withdrawn == Withdrawn::Whole {
            pending.line.take_back(pending.row);
        }
        Some(pending)
    }

    fn untaken(&self) -> Vec<u64> {
        let in_flight = self.in_flight();
        let untaken = in_flight.iter().filter(|(_, pending)| !pending.taken);
        untaken.map(|(id, _)| *id).collect()
    }

    fn fail(&self, id: u64, failure: AttemptFailure) {
        if let Some(pending) = self.take(id) {
            pending.answer(Err(failure));
        }
    }

    /// The worker reads no more: what it has not said to have begun, it never will.
    pub(super) fn on_closing(&self) {
        self.is_closing.store(true, Release);
    }

    /// The stream is lost: what was not handed over goes elsewhere. The rest may have been begun, whether or not that was
    /// acknowledged, unless the worker has ended the stream in order.
    pub(super) fn on_lost(&self) {
        let unsent = self.outbox.close();
        let not_begun: HashSet<u64> = if self.is_closing.swap(false, AcqRel) {
            self.untaken().into_iter().collect()
        } else {
            HashSet::new()
        };
        let lost: Vec<u64> = self.in_flight().keys().copied().collect();
        for id in lost {
            let failure = if unsent.contains(&id) || not_begun.contains(&id) {
                AttemptFailure::LostBeforeTaken
            } else {
                AttemptFailure::LostAfterTaken
            };
            self.fail(id, failure);
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
        Reason::SandboxDied | Reason::Late => AttemptFailure::LostBeforeTaken,
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
        let (worker, id) = (&self.worker, self.id);
        // Most have been answered.
        if !worker.in_flight().contains_key(&id) {
            return;
        }
        if worker.withdraw(id).is_none() && worker.take(id).is_some() {
            worker.outbox.cancel(id);
        }
    }
}
