//! How a sandbox ends: by its alarm, by itself, by not starting, by being stopped.

use hearth_core::extensions::shutdown::Reason;
use hearth_core::ids::MonotonicMs;
use hearth_core::report::EndStatus;
use hearth_core::sandbox::{Event, Outcome as Step, State};

use super::extensions::take_post;
use super::{Ending, Fault, Life, Sandbox, Todo, mib};
use crate::sandbox::driver::{ExitReport, ExitStatus};

impl Sandbox {
    /// What it was given at its start ends; it begins nothing after that.
    pub(crate) fn retire_at(&self, at: MonotonicMs) {
        // One sandbox is launched once.
        let _ = self.retires_at.set(at);
    }

    /// Whether it is to begin nothing more.
    pub(crate) fn is_retired(&self, now: MonotonicMs) -> bool {
        self.retires_at.get().is_some_and(|at| *at <= now)
    }

    /// Time of the next deadline; the keeper looks again then.
    pub(crate) fn arm(&self) -> Option<u64> {
        let mut life = self.life();
        let shutdown_us = life.ext.as_ref().and_then(|ext| ext.shutdown_at_us());
        let times = [life.deadline_us, shutdown_us, life.boost_until_us];
        life.armed_us = times.into_iter().flatten().min();
        life.armed_us
    }

    /// The keeper's alarm went off.
    pub(crate) fn on_alarm(&self) {
        let now = self.clock.monotonic_us();
        let mut todo = Todo::default();
        let mut life = self.life();
        if life.ext.is_some() {
            self.shut_down_if_due(&mut life, now);
        }
        let is_due = |at_us: &mut u64| *at_us <= now;
        todo.quota = life.boost_until_us.take_if(is_due).is_some();
        if life.deadline_us.take_if(is_due).is_none() {
            drop(life);
            return self.perform(todo);
        }
        let Ok(transition) = life.state.on(Event::Deadline) else {
            drop(life);
            return self.perform(todo);
        };
        life.state = transition.next;
        match transition.outcome {
            Step::InitTimedOut => {
                todo = Self::init_failed(&mut life, Fault::InitTimedOut, now, self);
                todo.kill = Some(Reason::Timeout);
            }
            Step::AnswerTimedOut => {
                todo.kill = Some(Reason::Timeout);
                todo.ended = life.current.take().map(|c| (c, Ending::TimedOut));
            }
            Step::KillForReset => {
                todo.kill = Some(Reason::Timeout);
                todo.lost = life.pending.take();
                todo.over = take_post(&mut life, EndStatus::Timeout);
            }
            // A runtime that posted its init error and did not exit.
            _ => todo.kill = (life.state == State::InitFailed).then_some(Reason::Failure),
        }
        drop(life);
        self.perform(todo);
    }

    /// Every process is gone. Returns when nothing refers to the sandbox but a kept init error.
    pub(crate) fn on_exited(&self, report: ExitReport) {
        let now = self.clock.monotonic_us();
        let mut life = self.life();
        life.memory = None;
        if let Some(bytes) = report.memory_peak_bytes {
            life.peak_mib = life.peak_mib.max(mib(bytes));
        }
        let todo = self.exited(&mut life, report.status, now);
        drop(life);
        self.perform(todo);
    }

    /// The runtime is gone, and all else or soon so.
    pub(super) fn exited(&self, life: &mut Life, status: ExitStatus, now: u64) -> Todo {
        let mut todo = Todo::default();
        life.start_slot = None;
        life.waiting = None;
        if life.fault.is_some() && life.state != State::Stopping {
            // Kept for one invocation; the pool has it or is about to.
            return todo;
        }
        let outcome = match life.state.on(Event::Exited) {
            Ok(transition) => {
                life.state = transition.next;
                transition.outcome
            }
            Err(_) => Step::Remove,
        };
        match outcome {
            Step::KeepInitError => {
                todo = Self::init_failed(life, Fault::Exited(status), now, self);
            }
            Step::AnswerExited => {
                let ending = Ending::Fault(Fault::Exited(status));
                todo.ended = life.current.take().map(|c| (c, ending));
                todo.remove = true;
            }
            _ => todo.remove = true,
        }
        if todo.remove {
            life.state = State::Gone;
            todo.lost = life.pending.take();
            todo.over = take_post(life, Fault::Exited(status).end_status());
        }
        todo
    }

    /// It could not be made, by the platform's fault.
    pub(crate) fn on_start_failed(&self) {
        let report = ExitReport {
            status: ExitStatus::Signaled(libc::SIGKILL),
            memory_peak_bytes: None,
        };
        self.on_exited(report);
    }

    /// It must go: evicted, deleted, or the worker stops. What it runs is answered.
    pub(crate) fn stop(&self) {
        let mut life = self.life();
        let mut todo = Todo {
            kill: Some(Reason::Spindown),
            remove: true,
            ..Todo::default()
        };
        if let Ok(transition) = life.state.on(Event::Kill) {
            life.state = transition.next;
        }
        todo.lost = life.pending.take();
        todo.ended = life
            .current
            .take()
            .map(|c| (c, Ending::Fault(Fault::Stopped)));
        todo.over = take_post(&mut life, Fault::Stopped.end_status());
        // Given up at once: whoever evicts it wants it now, and the shutdown phase of extensions is short.
        life.memory = None;
        drop(life);
        self.perform(todo);
    }

    /// Memory reserved for it, MB.
    pub(crate) fn held_memory_mib(&self) -> u32 {
        if self.life().memory.is_some() {
            self.pool.memory_mib()
        } else {
            0
        }
    }

    /// Whether the launch is to be given up.
    pub(crate) fn is_stopping(&self) -> bool {
        matches!(self.life().state, State::Stopping | State::Gone)
    }
}
