//! The extensions of a sandbox: asks `hearth_core::extensions` what their calls and ends mean, hands events to those who
//! wait. How the sandbox ends is in [`super::shutdown`]; the HTTP side in [`crate::runtime_api`].

use hearth_core::extensions::shutdown::{Reason, Shutdown};
use hearth_core::extensions::{Extensions, Failure, PermitBack, Refusal, permit_back};
use hearth_core::report::{EndStatus, InitPhase};
use hearth_core::sandbox::{Event, State};
use hearth_core::telemetry::subscription::Subscription;
use serde::Serialize;
use tokio::sync::oneshot;

use super::{Current, Delivery, Ending, Fault, Life, Posted, Sandbox, Todo};
use crate::pool::gates::HeldPermit;
use crate::runtime_api::fault::{errno_text, signal_text};
use crate::sandbox::driver::{ExitStatus, Process, ProcessEvent};
use crate::telemetry::Hub;

/// What an extension gets from `GET /event/next`: JSON.
#[derive(Debug)]
pub(crate) struct Told(pub(crate) Vec<u8>);

/// What a sandbox with extensions has besides.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) rules: Extensions,
    /// The `GET /event/next` that wait, by the extension's place.
    waiting: Vec<Option<oneshot::Sender<Told>>>,
    pub(super) shutdown: Option<Shutdown>,
    pub(super) is_runtime_alive: bool,
    /// The runtime has asked for its first event, and telemetry was told.
    is_runtime_done: bool,
    /// An invocation that is answered and not over.
    pub(super) post: Option<Box<Post>>,
}

/// An invocation between the runtime's answer and the last extension's next request.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) request_id: String,
    pub(crate) trace_id: String,
    pub(crate) taken_us: u64,
    pub(crate) answered_us: u64,
    /// When the runtime asked for its next event.
    pub(crate) runtime_done_us: Option<u64>,
    pub(crate) produced_bytes: u64,
    pub(crate) status: EndStatus,
    /// The answer, where the caller wants the log: that ends with the REPORT line, which comes last.
    pub(in crate::pool) held: Option<(Current, Posted)>,
    /// What the invocation counts as, for as long as this is there.
    pub(in crate::pool) permit: Option<HeldPermit>,
}

/// A request to register.
#[derive(Debug)]
pub(crate) struct Registering<'a> {
    pub(crate) name: &'a str,
    pub(crate) events: &'a [String],
    /// For one that is internal and new.
    pub(crate) identifier: String,
}

/// Why a subscription is not taken.
#[derive(Debug)]
pub(crate) enum NotTaken {
    Unknown,
    /// The init phase is over.
    Closed,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InvokeEvent<'a> {
    event_type: &'static str,
    deadline_ms: u64,
    request_id: &'a str,
    invoked_function_arn: &'a str,
    tracing: Tracing<'a>,
}

#[derive(Serialize)]
struct Tracing<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    value: &'a str,
}

pub(super) fn told(event: &impl Serialize) -> Told {
    Told(serde_json::to_vec(event).expect("plain structs serialise"))
}

/// What is over without its extensions' consent.
pub(super) fn take_post(
    life: &mut Life,
    status: EndStatus,
) -> Option<(Box<Post>, Option<EndStatus>)> {
    let post = life.ext.as_mut().and_then(|ext| ext.post.take());
    post.map(|post| (post, Some(status)))
}

impl Attached {
    fn new(rules: Extensions, is_runtime_alive: bool) -> Self {
        Self {
            waiting: rules.list().iter().map(|_| None).collect(),
            rules,
            shutdown: None,
            is_runtime_alive,
            is_runtime_done: false,
            post: None,
        }
    }

    pub(super) fn shutdown_at_us(&self) -> Option<u64> {
        self.shutdown.as_ref().and_then(Shutdown::at_us)
    }

    pub(super) fn send(&mut self, place: usize, event: Told) {
        if let Some(waiting) = self.waiting.get_mut(place).and_then(Option::take) {
            // One whose connection is gone is waited for until the deadline.
            let _ = waiting.send(event);
        }
    }
}

impl Sandbox {
    /// Their processes run: names and identifiers, in the order they were started in.
    pub(crate) fn on_extensions_started(&self, names: impl IntoIterator<Item = (String, String)>) {
        let mut life = self.life();
        life.ext = Some(Box::new(Attached::new(Extensions::external(names), false)));
        self.open_hub(&life);
    }

    /// Telemetry is kept from the beginning for those who subscribe in time.
    fn open_hub(&self, life: &Life) {
        let hub = Hub::new(self.clock.clone());
        let ago_ms = self.clock.monotonic_us().saturating_sub(life.started_us) / 1_000;
        hub.init_started(&self.init_facts(life), &self.pool.key, ago_ms);
        self.log.attach(hub);
    }

    /// `POST /extension/register`. Returns its identifier.
    pub(crate) fn register(&self, wanted: Registering<'_>) -> Result<String, Refusal> {
        let mut life = self.life();
        if life.ext.is_none() {
            if life.state != State::Starting {
                return Err(Refusal::RegistrationClosed);
            }
            let mut rules = Extensions::default();
            rules.register(wanted.name, wanted.events, wanted.identifier.clone())?;
            life.ext = Some(Box::new(Attached::new(rules, true)));
            self.open_hub(&life);
            return Ok(wanted.identifier);
        }
        let Some(ext) = &mut life.ext else {
            return Err(Refusal::RegistrationClosed);
        };
        let place = ext
            .rules
            .register(wanted.name, wanted.events, wanted.identifier)?;
        ext.waiting.resize_with(ext.rules.list().len(), || None);
        if !ext.is_runtime_alive && ext.shutdown.is_none() && ext.rules.is_registered() {
            let started = self
                .processes
                .get()
                .map(|processes| processes.start_runtime());
            ext.is_runtime_alive = matches!(started, Some(Ok(())));
        }
        Ok(ext.rules.list()[place].identifier.clone())
    }

    /// `GET /extension/event/next`. The receiver gets the event, whenever it comes.
    pub(crate) fn on_extension_next(
        &self,
        identifier: &str,
    ) -> Result<oneshot::Receiver<Told>, Refusal> {
        let now = self.clock.monotonic_us();
        let unknown = || Refusal::Unknown(identifier.to_owned());
        let mut todo = Todo::default();
        let mut life = self.life();
        let ext = life.ext.as_mut().ok_or_else(unknown)?;
        let place = ext.rules.next(identifier)?;
        let (waiting, receiver) = oneshot::channel();
        ext.waiting[place] = Some(waiting);
        if let Some(shutdown) = &ext.shutdown {
            if shutdown.is_extensions_turn() && ext.rules.is_told_of_end(place) {
                let event = self.shutdown_event(shutdown);
                ext.send(place, event);
            }
            return Ok(receiver);
        }
        let is_ready = ext.rules.is_ready();
        if is_ready
            && matches!(life.state, State::Starting | State::Finishing)
            && life.waiting.is_some()
        {
            self.on_ready(&mut life, now, &mut todo);
        }
        drop(life);
        self.perform(todo);
        Ok(receiver)
    }

    /// `POST /extension/init/error`, or `exit/error`. The sandbox fails when the extension exits, as it is to.
    pub(crate) fn on_extension_error(
        &self,
        identifier: &str,
        error_type: &str,
        is_init: bool,
    ) -> Result<(), Refusal> {
        let mut life = self.life();
        let unknown = || Refusal::Unknown(identifier.to_owned());
        let rules = &mut life.ext.as_mut().ok_or_else(unknown)?.rules;
        if is_init {
            rules.init_error(identifier, error_type)
        } else {
            rules.exit_error(identifier, error_type)
        }
    }

    /// Who subscribes to telemetry, while that is possible.
    pub(crate) fn may_subscribe(&self, identifier: &str) -> Result<String, NotTaken> {
        let life = self.life();
        let rules = &life.ext.as_ref().ok_or(NotTaken::Unknown)?.rules;
        let place = rules.find(identifier).map_err(|_| NotTaken::Unknown)?;
        if life.state == State::Starting {
            Ok(rules.list()[place].name.clone())
        } else {
            Err(NotTaken::Closed)
        }
    }

    /// A subscription that may be taken: [`Sandbox::may_subscribe`].
    pub(crate) fn subscribe(&self, name: &str, subscription: Subscription) {
        let types: Vec<_> = subscription
            .categories
            .iter()
            .map(|category| category.title())
            .collect();
        let is_taken = self
            .log
            .hub()
            .is_some_and(|hub| hub.subscribe(name, subscription));
        if is_taken {
            let types = types.join(", ");
            let line = format!("TELEMETRY\tName: {name}\tState: Subscribed\tTypes: [{types}]\n");
            self.log.push(line.as_bytes());
            // The keeper begins to deliver.
            self.wake.notify_one();
        }
    }

    /// The runtime waits for an event. Whether all extensions do.
    pub(super) fn on_runtime_ready(&self, life: &mut Life, now: u64) -> bool {
        let facts = self.init_facts(life);
        let is_init = life.state == State::Starting;
        let Some(ext) = &mut life.ext else {
            return true;
        };
        ext.rules.on_runtime_next();
        if let Some(hub) = self.log.hub() {
            if is_init && !std::mem::replace(&mut ext.is_runtime_done, true) {
                hub.init_runtime_done(&facts, &EndStatus::Success);
            } else if let Some(post) = ext
                .post
                .as_mut()
                .filter(|post| post.runtime_done_us.is_none())
            {
                post.runtime_done_us = Some(now);
                hub.runtime_done(post, now);
            }
        }
        ext.rules.is_ready()
    }

    /// The event goes to the extensions too.
    pub(super) fn tell_invoke(&self, life: &mut Life, delivery: &Delivery, version: &str) {
        if let Some(hub) = self.log.hub() {
            hub.started(&delivery.request_id, version, &delivery.trace_id);
        }
        let Some(ext) = &mut life.ext else { return };
        for place in ext.rules.on_invoke() {
            let event = InvokeEvent {
                event_type: "INVOKE",
                deadline_ms: delivery.deadline_unix_ms,
                request_id: &delivery.request_id,
                invoked_function_arn: &delivery.invoked_arn,
                tracing: Tracing {
                    kind: "X-Amzn-Trace-Id",
                    value: &delivery.trace_id,
                },
            };
            ext.send(place, told(&event));
        }
    }

    /// The runtime has answered; the invocation is over when its extensions are done.
    pub(super) fn on_answered(
        life: &mut Life,
        mut current: Current,
        posted: Posted,
        now: u64,
        todo: &mut Todo,
    ) {
        let Some(ext) = &mut life.ext else { return };
        let permit = match permit_back(Some(&ext.rules)) {
            PermitBack::WithAnswer => None,
            PermitBack::WhenReady => current.invocation.permit.take(),
        };
        let mut post = Box::new(Post {
            request_id: current.invocation.request_id.clone(),
            trace_id: current.invocation.trace_id.clone(),
            taken_us: current.taken_us,
            answered_us: now,
            runtime_done_us: None,
            produced_bytes: match &posted {
                Posted::Response(payload) | Posted::Error(payload) => payload.len() as u64,
                Posted::Streamed(bytes) => *bytes as u64,
                Posted::TooLarge(_) => 0,
            },
            status: EndStatus::Success,
            held: None,
            permit,
        });
        if current.invocation.log_tail {
            post.held = Some((current, posted));
        } else {
            todo.answered = Some((current, Ending::Posted(posted)));
        }
        ext.post = Some(post);
    }

    /// Where the init phase runs.
    pub(super) fn init_phase(&self, life: &Life) -> InitPhase {
        if life.pending.is_some() {
            InitPhase::Invoke
        } else {
            InitPhase::Init
        }
    }

    /// What became of the init phase, for the log and for telemetry. Nobody subscribes from now on.
    pub(super) fn tell_init_over(
        &self,
        life: &mut Life,
        init_us: u64,
        phase: InitPhase,
        status: &EndStatus,
    ) {
        let facts = crate::telemetry::init_facts(self.is_provisioned, phase);
        let Some(ext) = &mut life.ext else { return };
        for extension in ext.rules.list() {
            let (name, state) = (&extension.name, extension.state);
            let events = extension.events().join(", ");
            let line = format!("EXTENSION\tName: {name}\tState: {state}\tEvents: [{events}]\n");
            self.log.push(line.as_bytes());
        }
        if let Some(hub) = self.log.hub() {
            if !std::mem::replace(&mut ext.is_runtime_done, true) {
                hub.init_runtime_done(&facts, status);
            }
            hub.init_over(&facts, ext.rules.list(), status, init_us);
        }
    }

    fn init_facts(&self, life: &Life) -> hearth_core::telemetry::event::InitFacts {
        crate::telemetry::init_facts(self.is_provisioned, self.init_phase(life))
    }

    /// Something happened to a process.
    pub(crate) fn on_process(&self, event: ProcessEvent) {
        let now = self.clock.monotonic_us();
        match event {
            ProcessEvent::ExecFailed(Process::Runtime, errno) => {
                let program = "fork/exec of the runtime: ".to_owned() + &errno_text(errno);
                let _ = self.on_init_fault(Fault::InvalidEntrypoint(program));
            }
            ProcessEvent::Ended(Process::Runtime, status) => self.on_runtime_ended(status, now),
            ProcessEvent::ExecFailed(Process::Extension(place), errno) => {
                let mut life = self.life();
                let Some(ext) = &mut life.ext else { return };
                ext.rules.on_launch_error(place);
                let name = ext
                    .rules
                    .list()
                    .get(place)
                    .map(|e| e.name.clone())
                    .unwrap_or_default();
                let text = format!("fork/exec /opt/extensions/{name}: {}", errno_text(errno));
                let todo = self.fail(&mut life, Failure::LaunchError, text, now);
                drop(life);
                self.perform(todo);
            }
            ProcessEvent::Ended(Process::Extension(place), status) => {
                self.on_extension_ended(place, status, now);
            }
        }
    }

    fn on_runtime_ended(&self, status: ExitStatus, now: u64) {
        let mut life = self.life();
        let Some(ext) = &mut life.ext else { return };
        ext.is_runtime_alive = false;
        let presence = ext.rules.presence();
        if let Some(shutdown) = &mut ext.shutdown {
            if let Some(step) = shutdown.on_runtime_exit(presence) {
                self.take_step(&mut life, step);
            }
            return;
        }
        let is_killed = status == ExitStatus::Signaled(libc::SIGKILL);
        let was_oom = || {
            self.control
                .get()
                .is_some_and(|control| control.was_out_of_memory())
        };
        let status = if is_killed && was_oom() {
            ExitStatus::OutOfMemory
        } else {
            status
        };
        let mut todo = self.exited(&mut life, status, now);
        todo.kill = Some(Reason::Failure);
        drop(life);
        self.perform(todo);
    }

    fn on_extension_ended(&self, place: usize, status: ExitStatus, now: u64) {
        let mut life = self.life();
        let Some(ext) = &mut life.ext else { return };
        let failure = ext.rules.on_exit(place);
        if let Some(waiting) = ext.waiting.get_mut(place) {
            *waiting = None;
        }
        let is_over = ext.rules.is_over();
        if let Some(shutdown) = &mut ext.shutdown {
            if let Some(step) = is_over.then(|| shutdown.on_extensions_over()).flatten() {
                self.take_step(&mut life, step);
            }
            return;
        }
        let text = match status {
            ExitStatus::Exited(0) => "exit code 0".to_owned(),
            ExitStatus::Exited(code) => format!("exit status {code}"),
            ExitStatus::Signaled(signal) => signal_text(signal),
            ExitStatus::OutOfMemory => signal_text(libc::SIGKILL),
        };
        let todo = self.fail(&mut life, failure, text, now);
        drop(life);
        self.perform(todo);
    }

    /// An extension takes its sandbox down.
    fn fail(&self, life: &mut Life, failure: Failure, text: String, now: u64) -> Todo {
        let fault = Fault::Extension { failure, text };
        let mut todo = Todo::default();
        match life.state {
            State::Starting => {
                life.state = State::InitFailed;
                life.deadline_us = None;
                todo = Self::init_failed(life, fault, now, self);
            }
            State::Idle | State::Bound | State::Busy | State::Finishing => {
                if let Ok(transition) = life.state.on(Event::Kill) {
                    life.state = transition.next;
                }
                todo.lost = life.pending.take();
                todo.over = take_post(life, fault.end_status());
                todo.ended = life.current.take().map(|c| (c, Ending::Fault(fault)));
                todo.remove = true;
            }
            // It ends already.
            State::Launching
            | State::InitFailed
            | State::TimedOut
            | State::Reset
            | State::Stopping
            | State::Gone => {}
        }
        todo.kill = Some(Reason::Failure);
        todo
    }
}
