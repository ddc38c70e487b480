//! How an init phase fails, and how its error reaches an invocation.

use hearth_core::extensions::shutdown::Reason;
use hearth_core::report::{InitPhase, init_report_line, start_line};
use hearth_core::sandbox::{Event, State};
use tracing::Span;

use super::{
    Current, Ending, Fault, INIT_ERROR_GRACE_US, Invocation, Life, Refusal, Sandbox, Todo,
};

impl Sandbox {
    /// `POST /init/error`, or a program that cannot be executed.
    pub(crate) fn on_init_fault(&self, fault: Fault) -> Result<(), Refusal> {
        let now = self.clock.monotonic_us();
        let mut life = self.life();
        let step = life
            .state
            .on(Event::InitError)
            .map_err(|_| Refusal::InvalidState)?;
        life.state = step.next;
        life.deadline_us = Some(now + INIT_ERROR_GRACE_US);
        let todo = Self::init_failed(&mut life, fault, now, self);
        drop(life);
        self.wake.notify_one();
        self.perform(todo);
        Ok(())
    }

    /// The init phase is over, badly: the one invocation that waits gets the error, or the next one will.
    pub(super) fn init_failed(life: &mut Life, fault: Fault, now: u64, sandbox: &Self) -> Todo {
        life.start_slot = None;
        life.init_span = Span::none();
        let mut todo = Todo::default();
        let init_us = now.saturating_sub(life.started_us);
        let phase = if life.pending.is_some() {
            InitPhase::Invoke
        } else {
            InitPhase::Init
        };
        let line = init_report_line(init_us, phase, &fault.end_status());
        sandbox.log.push(line.as_bytes());
        if life.ext.is_some() {
            sandbox.tell_init_over(life, init_us, phase, &fault.end_status());
        }
        if let Some(invocation) = life.pending.take() {
            let version = invocation.version.version.to_string();
            sandbox
                .log
                .push(start_line(&invocation.request_id, &version).as_bytes());
            let ending = match fault {
                Fault::InitTimedOut => Ending::TimedOut,
                fault => Ending::Fault(fault),
            };
            let taken_us = life.started_us;
            let current = Current {
                invocation,
                taken_us,
            };
            todo.ended = Some((current, ending));
            todo.kill = Some(Reason::Failure);
            todo.remove = true;
        } else {
            life.fault = Some(fault);
            todo.init_failed = true;
        }
        todo
    }

    /// The pool took this sandbox out to serve its init error: here it is. `None`: the invocation runs the init again.
    pub(crate) fn take_fault(&self) -> Option<Fault> {
        let mut life = self.life();
        life.state = State::Stopping;
        life.fault.take().filter(|f| *f != Fault::InitTimedOut)
    }

    /// Answers with an init error kept from before.
    pub(crate) fn serve_fault(&self, invocation: Invocation, fault: Fault) {
        let now = self.clock.monotonic_us();
        let version = invocation.version.version.to_string();
        self.log
            .push(start_line(&invocation.request_id, &version).as_bytes());
        let current = Current {
            invocation,
            taken_us: now,
        };
        let todo = Todo {
            kill: Some(Reason::Failure),
            remove: true,
            ended: Some((current, Ending::Fault(fault))),
            ..Todo::default()
        };
        self.perform(todo);
    }
}
