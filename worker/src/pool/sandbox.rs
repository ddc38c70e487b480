//! One sandbox as the worker sees it: drives `hearth_core::sandbox` with what the runtime, the driver and the clock
//! report, and does what the table says. Starting one is in [`super::launch`]; the HTTP side in [`crate::runtime_api`].

mod end;
mod extensions;
mod frost;
mod init;
mod shutdown;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use bytes::Bytes;
use hearth_core::extensions::shutdown::Reason as EndReason;
use hearth_core::ids::MonotonicMs;
use hearth_core::report::{EndStatus, start_line};
use hearth_core::sandbox::{Event, Outcome as Step, SandboxId, State};
use hearth_node::clock::SharedClock;
use hearth_proto::internal::v1::refused::Reason;
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{Span, warn};

use crate::invoke::parts::Parts;
use crate::logs::SandboxLog;
use crate::metrics::{Ended, WorkerMetrics, seconds};
use crate::pool::invocation::Invocation;
use crate::pool::memory::MemoryHold;
use crate::pool::version::VersionPool;
use crate::runtime_api::fault::Fault;
use crate::sandbox::driver::{Processes, SandboxControl};
use extensions::Attached;
pub(crate) use extensions::Post;
pub(crate) use extensions::{NotTaken, Registering};
use frost::Frost;

/// After its response a runtime has at least this long to ask for the next event. Ours: covers a pause of the host.
const FINISH_GRACE_US: u64 = 2_000_000;

/// A sandbox that has just got ready has its share of the CPU, and no more, once it gave its first answer, or after so long. Ours:
/// one period of the quota, so that a start is not throttled in its very end, and the kernel's work for the quota delays
/// nobody.
const BOOST_US: u64 = 100_000;

/// A runtime that posted an init error has this long to exit by itself.
const INIT_ERROR_GRACE_US: u64 = 500_000;

/// What the runtime gets from `GET /next`.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) request_id: String,
    pub(crate) deadline_unix_ms: u64,
    pub(crate) invoked_arn: String,
    pub(crate) trace_id: String,
    pub(crate) client_context: String,
    pub(crate) payload: Bytes,
}

/// Why the Runtime API refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The table does not have it.
    InvalidState,
    /// Not the id of the event in hand.
    InvalidRequestId,
}

/// How the runtime ended an invocation.
#[derive(Debug)]
pub(crate) enum Posted {
    /// To `/response`.
    Response(Bytes),
    /// To `/response`, so many bytes that were passed on as they came.
    Streamed(usize),
    /// To `/error`; the payload is the function's error document.
    Error(Bytes),
    /// To `/response`, more than so many bytes.
    TooLarge(usize),
}

/// One sandbox.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub(crate) id: SandboxId,
    pub(crate) pool: Arc<VersionPool>,
    /// Made for provisioned concurrency, before anybody asked.
    pub(crate) is_provisioned: bool,
    /// It begins nothing after this time, if it was given what ends.
    retires_at: OnceLock<MonotonicMs>,
    pub(crate) log: SandboxLog,
    pub(crate) clock: SharedClock,
    pub(crate) metrics: WorkerMetrics,
    pub(crate) control: OnceLock<Box<dyn SandboxControl>>,
    /// Where it has extensions with processes of their own.
    pub(crate) processes: OnceLock<Box<dyn Processes>>,
    /// Tells the keeper that there is an earlier deadline, or that the launch is to be given up.
    pub(crate) wake: Notify,
    this: WeakSandbox,
    life: Mutex<Life>,
}

#[derive(Debug)]
pub(super) struct Life {
    state: State,
    /// The `GET /next` that waits.
    waiting: Option<oneshot::Sender<Delivery>>,
    /// Gets the first event asked for.
    pending: Option<Invocation>,
    current: Option<Current>,
    fault: Option<Fault>,
    deadline_us: Option<u64>,
    /// Until when a sandbox that got ready has more than its share of the CPU.
    boost_until_us: Option<u64>,
    frost: Frost,
    /// When the keeper looks at the deadline next.
    armed_us: Option<u64>,
    started_us: u64,
    /// Length of the init phase until the first REPORT has told it.
    pub(super) init_us: Option<u64>,
    pub(super) peak_mib: u32,
    pub(super) peak_read_us: u64,
    memory: Option<MemoryHold>,
    start_slot: Option<OwnedSemaphorePermit>,
    /// Most sandboxes have none.
    ext: Option<Box<Attached>>,
    /// Of the last response that came in streaming mode.
    stream: Option<CancellationToken>,
    /// Lasts as long as the init phase; nothing enters it.
    init_span: Span,
}

#[derive(Debug)]
pub(super) struct Current {
    pub(super) invocation: Invocation,
    pub(super) taken_us: u64,
}

/// What is done once the lock is free: nothing slow or foreign runs under it.
#[derive(Debug, Default)]
#[must_use]
struct Todo {
    kill: Option<EndReason>,
    idle: bool,
    init_failed: bool,
    remove: bool,
    quota: bool,
    cold_start_us: Option<u64>,
    lost: Option<Invocation>,
    ended: Option<(Current, Ending)>,
    /// Answered now, and over when its extensions are done.
    answered: Option<(Current, Ending)>,
    /// Over, after its answer; how, unless as the answer said.
    over: Option<(Box<Post>, Option<EndStatus>)>,
}

/// Why an invocation is over.
#[derive(Debug)]
pub(super) enum Ending {
    Posted(Posted),
    Fault(Fault),
    TimedOut,
}

impl Sandbox {
    pub(crate) fn new(
        id: SandboxId,
        pool: Arc<VersionPool>,
        clock: SharedClock,
        metrics: WorkerMetrics,
        memory: MemoryHold,
        pending: Option<Invocation>,
        is_provisioned: bool,
    ) -> Arc<Self> {
        let log = SandboxLog::new(Arc::clone(&pool.log));
        let life = Life {
            state: State::Launching,
            waiting: None,
            pending,
            current: None,
            fault: None,
            deadline_us: None,
            boost_until_us: None,
            frost: Frost::default(),
            armed_us: None,
            started_us: 0,
            init_us: None,
            peak_mib: 0,
            peak_read_us: 0,
            memory: Some(memory),
            start_slot: None,
            ext: None,
            stream: None,
            init_span: Span::none(),
        };
        metrics.sandboxes.inc();
        Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            id,
            pool,
            is_provisioned,
            retires_at: OnceLock::new(),
            log,
            clock,
            metrics,
            control: OnceLock::new(),
            processes: OnceLock::new(),
            wake: Notify::new(),
            life: Mutex::new(life),
        })
    }

    pub(super) fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The span of the init phase that is about to begin.
    pub(super) fn on_init_span(&self, span: Span) {
        self.life().init_span = span;
    }

    /// The runtime was started. False when the sandbox was given up meanwhile: the caller drops it.
    pub(crate) fn on_spawned(
        &self,
        slot: OwnedSemaphorePermit,
        init_timeout_us: u64,
        freeze_after_us: u64,
    ) -> bool {
        let now = self.clock.monotonic_us();
        let mut life = self.life();
        let Ok(step) = life.state.on(Event::Spawned) else {
            return false;
        };
        life.state = step.next;
        life.start_slot = Some(slot);
        life.started_us = now;
        life.deadline_us = Some(now + init_timeout_us);
        life.frost = Frost::new(freeze_after_us);
        step.outcome == Step::Nothing
    }

    /// How long its init phase may take: the usual, or the function's timeout when an invocation waits for it.
    pub(crate) fn init_timeout_us(&self, usual_us: u64) -> u64 {
        if self.life().pending.is_some() {
            self.pool.timeout_us()
        } else {
            usual_us
        }
    }

    /// `GET /next`. The receiver gets the event, whenever it comes.
    pub(crate) fn on_next(&self) -> Result<oneshot::Receiver<Delivery>, Refusal> {
        let now = self.clock.monotonic_us();
        let mut todo = Todo::default();
        let mut life = self.life();
        let step = life
            .state
            .on(Event::NextCalled)
            .map_err(|_| Refusal::InvalidState)?;
        let (waiting, receiver) = oneshot::channel();
        life.waiting = Some(waiting);
        if step.outcome != Step::Ready {
            life.state = step.next;
        } else if life.ext.is_none() || self.on_runtime_ready(&mut life, now) {
            self.on_ready(&mut life, now, &mut todo);
        }
        drop(life);
        self.perform(todo);
        Ok(receiver)
    }

    /// Starting or Finishing to Idle: the runtime waits for an event, and so does whoever else there is.
    fn on_ready(&self, life: &mut Life, now: u64, todo: &mut Todo) {
        let before = life.state;
        life.state = step(before, Event::NextCalled);
        life.deadline_us = None;
        if before == State::Starting {
            let init_us = now.saturating_sub(life.started_us);
            // "Init Duration" is told by the invocation that waited for it; nobody did.
            life.init_us = (!self.is_provisioned).then_some(init_us);
            life.start_slot = None;
            life.init_span = Span::none();
            self.metrics.init.observe(seconds(init_us));
            todo.cold_start_us = Some(init_us);
            life.boost_until_us = Some(now + BOOST_US);
            self.wake.notify_one();
            todo.idle = true;
            if life.ext.is_some() {
                let phase = self.init_phase(life);
                self.tell_init_over(life, init_us, phase, &EndStatus::Success);
            }
        } else if let Some(ext) = &mut life.ext {
            todo.over = ext.post.take().map(|post| (post, None));
            todo.idle = true;
        }
        if let Some(invocation) = life.pending.take() {
            todo.idle = false;
            self.deliver(life, invocation, now, todo);
        } else {
            self.freeze_soon(life, now);
        }
    }

    /// Gives the sandbox to an invocation. Back comes one whose sandbox is no more.
    pub(crate) fn bind(&self, invocation: Invocation) -> Result<(), Box<Invocation>> {
        let mut todo = Todo::default();
        let mut life = self.life();
        match life.state {
            State::Idle => {
                let now = self.clock.monotonic_us();
                self.deliver(&mut life, invocation, now, &mut todo);
            }
            // The runtime is on its way back to `GET /next`.
            State::Finishing if life.pending.is_none() => life.pending = Some(invocation),
            _ => return Err(Box::new(invocation)),
        }
        drop(life);
        self.perform(todo);
        Ok(())
    }

    /// Idle to Busy. `Bound` lasts for as long as this function.
    fn deliver(&self, life: &mut Life, invocation: Invocation, now: u64, todo: &mut Todo) {
        let timeout_us = self.pool.timeout_us();
        let is_thawed = self.thaw(life);
        let delivery = Delivery {
            request_id: invocation.request_id.clone(),
            deadline_unix_ms: self.clock.unix_ms() + timeout_us / 1_000,
            invoked_arn: invocation.invoked_arn.clone(),
            trace_id: invocation.trace_id.clone(),
            client_context: invocation.client_context.clone(),
            payload: invocation.payload.clone(),
        };
        if life.init_us.is_none() {
            self.log.begin_tail();
        }
        let version = invocation.version.version.to_string();
        self.log
            .push(start_line(&invocation.request_id, &version).as_bytes());
        if life.ext.is_some() {
            self.tell_invoke(life, &delivery, &version);
        }
        life.state = step(life.state, Event::Bind);
        let sent = life
            .waiting
            .take()
            .is_some_and(|w| is_thawed && w.send(delivery).is_ok());
        if !sent {
            // The connection that waited is gone, and with it the runtime's thread.
            life.state = step(life.state, Event::Kill);
            todo.kill = Some(EndReason::Failure);
            todo.lost = Some(invocation);
            return;
        }
        life.state = step(life.state, Event::Taken);
        let deadline = now + timeout_us;
        life.deadline_us = Some(deadline);
        if life.armed_us.is_none_or(|armed| armed > deadline) {
            self.wake.notify_one();
        }
        life.current = Some(Current {
            invocation,
            taken_us: now,
        });
    }

    /// Whether the invocation in hand is this one, and whether its caller wants the log.
    pub(crate) fn check_current(&self, request_id: &str) -> Result<bool, Refusal> {
        match &self.life().current {
            Some(current) if current.invocation.request_id == request_id => {
                Ok(current.invocation.log_tail)
            }
            _ => Err(Refusal::InvalidRequestId),
        }
    }

    /// The response of the invocation in hand begins to come in streaming mode. It is over when the guard is dropped.
    /// With it, where its parts go, if the caller takes them.
    pub(crate) fn begin_stream(
        &self,
        request_id: &str,
    ) -> Result<(DropGuard, Option<Parts>), Refusal> {
        let mut life = self.life();
        let parts = match &life.current {
            Some(current) if current.invocation.request_id == request_id => {
                current.invocation.reply.parts()
            }
            _ => return Err(Refusal::InvalidRequestId),
        };
        let stream = CancellationToken::new();
        life.stream = Some(stream.clone());
        Ok((stream.drop_guard(), parts))
    }

    /// Falls when the response that is being streamed is over. AWS's client for Node.js asks for the next event once it
    /// has written the last of a response, which may not have been read by then.
    pub(crate) fn stream(&self) -> Option<CancellationToken> {
        self.life().stream.clone()
    }

    /// `POST /invocation/{id}/response` or `/error`.
    pub(crate) fn on_posted(&self, request_id: &str, posted: Posted) -> Result<(), Refusal> {
        let now = self.clock.monotonic_us();
        let mut todo = Todo::default();
        let mut life = self.life();
        let event = match posted {
            Posted::Response(_) | Posted::Streamed(_) | Posted::TooLarge(_) => Event::Response,
            Posted::Error(_) => Event::Error,
        };
        let is_current = |current: &mut Current| current.invocation.request_id == request_id;
        let Some(current) = life.current.take_if(is_current) else {
            return Err(Refusal::InvalidRequestId);
        };
        let Ok(transition) = life.state.on(event) else {
            life.current = Some(current);
            return Err(Refusal::InvalidState);
        };
        life.state = transition.next;
        todo.quota = life.boost_until_us.take().is_some();
        let deadline = life.deadline_us.unwrap_or(now).max(now + FINISH_GRACE_US);
        life.deadline_us = Some(deadline);
        if life.armed_us.is_none_or(|armed| armed > deadline) {
            self.wake.notify_one();
        }
        if life.ext.is_some() {
            Self::on_answered(&mut life, current, posted, now, &mut todo);
        } else {
            todo.idle = true;
            todo.ended = Some((current, Ending::Posted(posted)));
        }
        drop(life);
        self.perform(todo);
        Ok(())
    }

    /// Its init takes so long that it is waiting rather than computing: others may start meanwhile.
    pub(crate) fn release_start_slot(&self) {
        if self.life().start_slot.take().is_some() {
            self.pool.on_start_slot_free();
        }
    }

    fn perform(&self, todo: Todo) {
        // Before the sandbox can get its next invocation, whose lines come after.
        if let Some((post, status)) = todo.over {
            self.finish_post(*post, status);
        }
        if let Some(reason) = todo.kill {
            self.end(reason);
            self.wake.notify_one();
        }
        if let Some(took_us) = todo.cold_start_us {
            self.pool.on_cold_start(took_us);
        }
        if todo.remove {
            self.pool.remove(self.id);
        } else if todo.init_failed {
            self.pool.on_init_failed(self.id);
        } else if todo.idle {
            self.pool.on_idle(self.id);
        }
        if let Some(invocation) = todo.lost {
            self.metrics.in_flight.dec();
            self.metrics.ended(Ended::Refused);
            invocation.refuse(Reason::SandboxDied, || self.pool.free());
        }
        if let Some((current, ending)) = todo.ended {
            self.finish(current, ending);
        }
        if let Some((current, ending)) = todo.answered {
            self.answer_early(current, ending);
        }
        // Last, as nobody waits for it.
        if todo.quota
            && let Some(control) = self.control.get()
            && let Err(error) = control.set_cpu(self.pool.cpu_millis())
        {
            warn!(sandbox = self.id.0, %error, "cpu quota not set");
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.metrics.sandboxes.dec();
    }
}

/// The state after an event that the table allows here.
fn step(state: State, event: Event) -> State {
    match state.on(event) {
        Ok(transition) => transition.next,
        Err(error) => unreachable!("{error}: the caller has matched the state"),
    }
}

pub(super) fn mib(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1 << 20)).unwrap_or(u32::MAX)
}

/// How tasks of a sandbox refer to it without keeping it.
pub(crate) type WeakSandbox = Weak<Sandbox>;
