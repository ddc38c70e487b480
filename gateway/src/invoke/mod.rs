//! The one way by which an invocation runs: AWS's API, gRPC and everything that is added later enter
//! [`Invoker::invoke`]. It touches neither Raft nor disk, asks no controller while permits and sandboxes are at hand,
//! and takes no lock that all functions share.
//!
//! - `line`: the waiting line of one version, and what is known of its sandboxes;
//! - `worker`, `outbox`, `stream`, `tables`: one worker, and the stream to it;
//! - `parts`: a streamed response between that stream and the client;
//! - `standing`: notices workers that do not keep up;
//! - `holders`: who has permits of what;
//! - `capacity`: asks the leader for permits;
//! - `quota`: rates of requests and of new sandboxes;
//! - `tend`: looks after a line while invocations wait in it.

mod capacity;
mod holders;
mod line;
mod outbox;
pub(crate) mod parts;
mod quota;
mod standing;
mod stream;
mod tables;
mod tend;
mod worker;
mod workers;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use hearth_core::ids::{MonotonicMs, NodeId, Version, VersionKey};
use hearth_core::limits::INIT_TIMEOUT_MS;
use hearth_core::retry::{AttemptFailure, Attempts, Decision, after_failure};
use hearth_node::Seams;
use hearth_node::health::Health;
use hearth_node::shutdown::Shutdown;
use hearth_proto::internal::v1 as pb;
use tracing::{Instrument, debug, debug_span};

use crate::catalog::{Catalog, Entry};
use crate::channel::Dialer;
use crate::metrics::Metrics;
use crate::sharded::Sharded;
pub(crate) use capacity::Capacity;
use holders::Holders;
pub(crate) use line::Terms;
use line::{Grab, Line, Slot};
pub(crate) use quota::Quotas;
use worker::{Reply, Sending, Worker};
pub(crate) use workers::WorkerAddress;

/// A worker whose reports are older than this is not sent to. Connected workers are fresh by their keep-alive.
const STALE_AFTER_MS: u64 = 30_000;

/// What the platform may add to a function's own timeout before an invocation is given up: the init phase, which
/// may run inside of the invocation after a reset, and the way there and back.
const ALLOWANCE_MS: u64 = INIT_TIMEOUT_MS + 5_000;

/// Times an invocation that waits follows its function to a newer version. Ours: ends a loop, not an honest wait.
const MOVES_MAX: u32 = 100;

/// One invocation.
#[derive(Clone, Debug)]
pub(crate) struct InvokeCall {
    pub(crate) entry: Arc<Entry>,
    pub(crate) request_id: String,
    pub(crate) payload: Bytes,
    /// Base64 as sent, or empty.
    pub(crate) client_context: String,
    pub(crate) log_tail: bool,
    /// With the qualifier asked for.
    pub(crate) invoked_arn: String,
    pub(crate) trace_id: String,
    pub(crate) traceparent: String,
    /// Where the parts of a streamed response go; without it the response comes whole.
    pub(crate) parts: Option<parts::Sink>,
}

/// An invocation that ran.
#[derive(Clone, Debug)]
pub(crate) struct InvokeOutcome {
    pub(crate) payload: Bytes,
    /// `Unhandled`, or empty when the function succeeded.
    pub(crate) function_error: String,
    pub(crate) log_tail: Bytes,
    pub(crate) executed_version: Version,
}

/// Why an invocation gave no outcome. Unless said otherwise the function did not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvokeError {
    /// The leader's word, with AWS's reason.
    #[error("throttled: {reason}")]
    Throttled { reason: String },
    /// Over a rate, or too many wait already; AWS's reason, and when to try again.
    #[error("limited: {reason}")]
    Limited {
        reason: &'static str,
        retry_after_s: u32,
    },
    /// No sandbox could be had in time.
    #[error("no sandbox could be had in time")]
    WaitedTooLong,
    /// Workers that could take it all refused.
    #[error("no worker could take the invocation")]
    NoWorker,
    /// No worker can run the version; the text says what to do.
    #[error("no worker can run the function: {0}")]
    NotRunnable(String),
    /// The function is gone.
    #[error("the function does not exist any more")]
    Gone,
    /// The version waited for does not serve any more; the invoker goes on with the one that does.
    #[error("the function was changed meanwhile")]
    Superseded,
    /// The worker or its connection was lost; the function may have run.
    #[error("the worker was lost")]
    Lost,
    /// No answer within the function's timeout and the platform's allowance; the function may have run.
    #[error("no answer in time")]
    NoAnswer,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Invoker {
    pub(crate) node_id: NodeId,
    seams: Seams,
    dialer: Dialer,
    shutdown: Shutdown,
    health: Health,
    metrics: Metrics,
    queue_timeout: Duration,
    capacity: Capacity,
    catalog: Arc<Catalog>,
    lines: Sharded<VersionKey, Arc<Line>>,
    workers: ArcSwap<Vec<Arc<Worker>>>,
    holders: Holders,
    /// Ends the stream task of each worker.
    streams: Mutex<HashMap<NodeId, tokio_util::sync::CancellationToken>>,
    /// Lines in which someone waits. Not touched by an invocation that finds a sandbox.
    tended: Mutex<HashMap<VersionKey, Arc<Line>>>,
}

/// What an invoker is made of.
#[derive(Debug)]
pub(crate) struct InvokerParts {
    pub(crate) node_id: NodeId,
    pub(crate) seams: Seams,
    pub(crate) dialer: Dialer,
    pub(crate) shutdown: Shutdown,
    pub(crate) health: Health,
    pub(crate) metrics: Metrics,
    pub(crate) queue_timeout: Duration,
    pub(crate) capacity: Capacity,
    pub(crate) catalog: Arc<Catalog>,
}

impl Invoker {
    pub(crate) fn new(parts: InvokerParts) -> Self {
        Self {
            node_id: parts.node_id,
            seams: parts.seams,
            dialer: parts.dialer,
            shutdown: parts.shutdown,
            health: parts.health,
            metrics: parts.metrics,
            queue_timeout: parts.queue_timeout,
            capacity: parts.capacity,
            catalog: parts.catalog,
            lines: Sharded::default(),
            workers: ArcSwap::default(),
            holders: Holders::default(),
            streams: Mutex::default(),
            tended: Mutex::default(),
        }
    }

    fn now(&self) -> MonotonicMs {
        MonotonicMs(self.seams.clock.monotonic_ms())
    }

    fn draws(&self) -> [u64; 2] {
        [self.seams.random.u64(), self.seams.random.u64()]
    }

    fn line(&self, key: &VersionKey) -> Arc<Line> {
        self.lines
            .get_or_insert_with(key, || Arc::new(Line::new(key.clone())))
    }

    /// Runs an invocation. Dropping the future cancels it.
    pub(crate) async fn invoke(
        self: &Arc<Self>,
        mut call: InvokeCall,
    ) -> Result<InvokeOutcome, InvokeError> {
        let deadline = self
            .now()
            .plus(u64::try_from(self.queue_timeout.as_millis()).unwrap_or(u64::MAX));
        let quota = Arc::clone(&call.entry.terms.quota);
        quota.admit(self.now())?;
        for _ in 0..MOVES_MAX {
            match self.invoke_version(&call, deadline).await {
                Err(InvokeError::Superseded) => {
                    let serving = self.catalog.serving(&call.entry.key);
                    call.entry = serving.ok_or(InvokeError::Gone)?;
                }
                outcome => {
                    use InvokeError::{Limited, Throttled};
                    if matches!(outcome, Err(Throttled { .. } | Limited { .. })) {
                        quota.refund();
                    }
                    return outcome;
                }
            }
        }
        Err(InvokeError::WaitedTooLong)
    }

    /// Runs an invocation on the version that its entry names.
    async fn invoke_version(
        self: &Arc<Self>,
        call: &InvokeCall,
        deadline: MonotonicMs,
    ) -> Result<InvokeOutcome, InvokeError> {
        let line = self.line(&call.entry.key);
        let mut attempts = Attempts::default();
        let mut tried = Vec::new();
        let mut slot = self.acquire(&line, call, false, deadline).await?;
        loop {
            let worker = slot.worker.id;
            let failure = match self.attempt(&line, slot, call).await? {
                Ok(reply) => return Ok(outcome(reply, call)),
                Err(failure) => failure,
            };
            debug!(%worker, ?failure, request_id = call.request_id, "attempt failed");
            attempts.workers_tried += 1;
            tried.push(worker);
            let other = line.grab_other(&tried, self.now(), self.draws());
            match after_failure(failure, attempts, other.is_some()) {
                Decision::NextCandidate => match other {
                    Some(next) => slot = next,
                    None => return Err(InvokeError::NoWorker),
                },
                Decision::WaitAgain => {
                    attempts = Attempts {
                        workers_tried: 0,
                        waits: attempts.waits + 1,
                        ..attempts
                    };
                    tried.clear();
                    drop(other);
                    slot = self.acquire(&line, call, true, deadline).await?;
                }
                Decision::NeedCapacity => {
                    attempts = Attempts {
                        workers_tried: 0,
                        leader_asked: attempts.leader_asked + 1,
                        ..attempts
                    };
                    tried.clear();
                    slot = match other {
                        Some(next) => next,
                        None => self.acquire(&line, call, true, deadline).await?,
                    };
                }
                Decision::GiveUp { throttled: true } => {
                    return Err(InvokeError::Throttled {
                        reason: call.entry.throttle_reason().to_owned(),
                    });
                }
                Decision::GiveUp { throttled: false } => return Err(InvokeError::NoWorker),
                Decision::Report => return Err(InvokeError::Lost),
            }
        }
    }

    /// A sandbox: a free one at once, or the first that becomes free.
    async fn acquire(
        self: &Arc<Self>,
        line: &Arc<Line>,
        call: &InvokeCall,
        again: bool,
        deadline: MonotonicMs,
    ) -> Result<Slot, InvokeError> {
        let now = self.now();
        let terms = &call.entry.terms;
        match line.grab(terms, again, deadline, now, self.draws()) {
            Grab::Slot(slot) => Ok(slot),
            Grab::Refused(error) => Err(error),
            Grab::Waiting { ticket, slot, tend } => {
                if tend {
                    self.tend(Arc::clone(line), call.traceparent.clone());
                }
                let _leave = OnDrop(|| line.leave(ticket));
                let bound = slot.instrument(debug_span!("queue")).await;
                self.metrics.queued_ms(self.now().since(now));
                bound.unwrap_or(Err(InvokeError::NoWorker))
            }
        }
    }

    /// Sends to the sandbox's worker and waits for the reply.
    async fn attempt(
        &self,
        line: &Arc<Line>,
        slot: Slot,
        call: &InvokeCall,
    ) -> Result<Result<Reply, AttemptFailure>, InvokeError> {
        let budget_ms = u64::from(call.entry.timeout_s) * 1_000 + ALLOWANCE_MS;
        let frame = pb::Invoke {
            id: 0,
            version: Some((&call.entry.key).into()),
            request_id: call.request_id.clone(),
            deadline_ms: budget_ms,
            trace_id: call.trace_id.clone(),
            traceparent: call.traceparent.clone(),
            client_context: call.client_context.clone(),
            log_tail: call.log_tail,
            invoked_arn: call.invoked_arn.clone(),
            payload: call.payload.clone(),
            last: false,
            stream_window: call.parts.as_ref().map_or(0, |_| parts::WINDOW_BYTES),
        };
        let now = self.now();
        let to = Sending {
            line,
            row: slot.row(),
            pools: &call.entry.terms.pools,
            parts: call.parts.clone(),
        };
        let sending = debug_span!("send").in_scope(|| slot.worker.send(to, frame, now));
        let Ok(sent) = sending else {
            return Ok(Err(AttemptFailure::LostBeforeTaken));
        };
        let worker = slot.worker.id.0;
        slot.used();
        let reply = sent.reply().instrument(debug_span!("function", worker));
        match tokio::time::timeout(Duration::from_millis(budget_ms), reply).await {
            Ok(result) => Ok(result),
            Err(_) => Err(InvokeError::NoAnswer),
        }
    }
}

fn outcome(reply: Reply, call: &InvokeCall) -> InvokeOutcome {
    InvokeOutcome {
        payload: reply.payload,
        function_error: reply.function_error,
        log_tail: reply.log_tail,
        executed_version: call.entry.key.version,
    }
}

/// Runs when it goes out of scope, also when the caller's future is dropped.
struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
