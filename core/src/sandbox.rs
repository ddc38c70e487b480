//! The life of one sandbox as a table of states and events. Pure: the owner kills, delivers and removes as
//! the [`Outcome`] says. Which sandbox serves what is in `pool`; how one is made is the driver's.
//!
//! ```text
//!  Launching --Spawned--> Starting --NextCalled--> Idle --Bind--> Bound --Taken--> Busy
//!                          |    |                   ^                               |  |
//!               InitError, |    | Deadline          | NextCalled   Response, Error  |  | Deadline
//!               Exited     v    v                   |                               v  v
//!                InitFailed    TimedOut         Finishing <-------------------------+  TimedOut
//!                     |            | Exited         | Exited                              | Exited
//!                     | Bind       v                v                                     v
//!                     |          Reset --Spawned--> Starting                            Reset
//!                     v
//!                 Stopping --Exited--> Gone          (Kill: from anywhere to Stopping)
//! ```
//!
//! After a timeout or an exit the sandbox is *reset*: its processes are gone, its place and its /tmp stay,
//! and the runtime is started in it again. "When a timeout occurs [...] Lambda does a reset": module
//! globals are lost, /tmp survives.

/// Names a sandbox on its worker; never reused within the worker's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SandboxId(pub u64);

/// Where a sandbox stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// The driver makes it; nothing of the user's runs.
    Launching,
    /// Init phase: the runtime loads the user's code.
    Starting,
    /// The runtime waits in `GET /next`.
    Idle,
    /// An invocation has it, and the event has not left yet.
    Bound,
    /// The runtime has the event.
    Busy,
    /// The response is in; the runtime has not asked for the next event yet.
    Finishing,
    /// The init phase failed. Its error serves one invocation.
    InitFailed,
    /// Out of time, in the init phase or an invocation; its processes are being killed for a reset.
    TimedOut,
    /// No process runs in it; to be started again.
    Reset,
    /// Its processes are being killed for good.
    Stopping,
    /// Nothing is left of it.
    Gone,
}

/// What happens to a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Event {
    /// The driver has started the runtime in it.
    Spawned,
    /// The runtime asked for an event: `GET /next`.
    NextCalled,
    /// The runtime posted `/init/error`.
    InitError,
    /// The pool gave it to an invocation.
    Bind,
    /// The event was written to the runtime.
    Taken,
    /// The runtime posted `/invocation/{id}/response` for the id it has.
    Response,
    /// The runtime posted `/invocation/{id}/error` for the id it has.
    Error,
    /// Its last process is gone, or it could not be started.
    Exited,
    /// The time of the present phase is over.
    Deadline,
    /// Its memory is wanted, or it was idle for too long.
    Evict,
    /// It must go whatever it does: the version was deleted, the worker stops, memory ran out.
    Kill,
}

/// What the owner has to do after a transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// Nothing.
    Nothing,
    /// Offer it to the pool as idle.
    Ready,
    /// Write the event to the waiting `GET /next`.
    Deliver,
    /// Pass the response on.
    Respond,
    /// Pass the function's error on.
    RespondError,
    /// It could not be started: a fault of the platform. Remove it.
    StartFailed,
    /// Keep the init error (`Runtime.ExitError` if it exited) and offer it to the pool.
    KeepInitError,
    /// The init phase took too long: kill the processes and wait for `Exited`.
    InitTimedOut,
    /// Answer the invocation with the init error, kill what runs, and report `Exited` when nothing does.
    ServeInitError,
    /// Answer that the task timed out, kill the processes and wait for `Exited`.
    AnswerTimedOut,
    /// Answer `Runtime.ExitError`, then start the runtime again or remove the sandbox.
    AnswerExited,
    /// The response is out and the runtime did not come back in time: kill it and wait for `Exited`.
    KillForReset,
    /// Start the runtime again, or remove the sandbox.
    Relaunch,
    /// The event never left: the invocation may go elsewhere. The processes are gone; remove the sandbox.
    LostBeforeTaken,
    /// As before, and the processes have to be killed; report `Exited` when nothing runs.
    KillBeforeTaken,
    /// The function had the event: answer that it was lost. Kill the processes, report `Exited`.
    KillAfterTaken,
    /// Kill the processes; report `Exited` when nothing runs.
    Kill,
    /// Free what it used.
    Remove,
}

/// The next state and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The state now.
    pub next: State,
    /// What the owner does.
    pub outcome: Outcome,
}

/// An event that cannot happen in this state. From the runtime it is its mistake, and the Runtime API
/// answers `InvalidStateTransition`; from the owner it is ours. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} cannot happen to a sandbox that is {state:?}")]
pub struct IllegalTransition {
    /// The state, unchanged.
    pub state: State,
    /// The event.
    pub event: Event,
}

impl State {
    /// The table.
    pub fn on(self, event: Event) -> Result<Transition, IllegalTransition> {
        let cell = match self {
            Self::Launching => on_launching(event),
            Self::Starting => on_starting(event),
            Self::Idle => on_idle(event),
            Self::Bound => on_bound(event),
            Self::Busy => on_busy(event),
            Self::Finishing => on_finishing(event),
            Self::InitFailed => on_init_failed(event),
            Self::TimedOut => on_timed_out(event),
            Self::Reset => on_reset(event),
            Self::Stopping => on_stopping(event),
            Self::Gone => None,
        };
        cell.map(|(next, outcome)| Transition { next, outcome })
            .ok_or(IllegalTransition { state: self, event })
    }
}

type Cell = Option<(State, Outcome)>;

fn on_launching(event: Event) -> Cell {
    match event {
        Event::Spawned => Some((State::Starting, Outcome::Nothing)),
        Event::Exited => Some((State::Gone, Outcome::StartFailed)),
        Event::Deadline | Event::Evict | Event::Kill => Some((State::Stopping, Outcome::Kill)),
        Event::NextCalled
        | Event::InitError
        | Event::Bind
        | Event::Taken
        | Event::Response
        | Event::Error => None,
    }
}

fn on_starting(event: Event) -> Cell {
    match event {
        Event::NextCalled => Some((State::Idle, Outcome::Ready)),
        Event::InitError | Event::Exited => Some((State::InitFailed, Outcome::KeepInitError)),
        Event::Deadline => Some((State::TimedOut, Outcome::InitTimedOut)),
        Event::Evict | Event::Kill => Some((State::Stopping, Outcome::Kill)),
        Event::Spawned | Event::Bind | Event::Taken | Event::Response | Event::Error => None,
    }
}

fn on_idle(event: Event) -> Cell {
    match event {
        Event::Bind => Some((State::Bound, Outcome::Deliver)),
        Event::Exited => Some((State::Gone, Outcome::Remove)),
        Event::Evict | Event::Kill => Some((State::Stopping, Outcome::Kill)),
        // A second poll on another connection; the first one's answer may have been cut off.
        Event::NextCalled => Some((State::Idle, Outcome::Nothing)),
        // A timer that fired as the response came in.
        Event::Deadline => Some((State::Idle, Outcome::Nothing)),
        Event::Spawned | Event::InitError | Event::Taken | Event::Response | Event::Error => None,
    }
}

fn on_bound(event: Event) -> Cell {
    match event {
        Event::Taken => Some((State::Busy, Outcome::Nothing)),
        Event::Exited => Some((State::Gone, Outcome::LostBeforeTaken)),
        Event::Deadline | Event::Kill => Some((State::Stopping, Outcome::KillBeforeTaken)),
        Event::Spawned
        | Event::NextCalled
        | Event::InitError
        | Event::Bind
        | Event::Response
        | Event::Error
        | Event::Evict => None,
    }
}

fn on_busy(event: Event) -> Cell {
    match event {
        Event::Response => Some((State::Finishing, Outcome::Respond)),
        Event::Error => Some((State::Finishing, Outcome::RespondError)),
        Event::Exited => Some((State::Reset, Outcome::AnswerExited)),
        Event::Deadline => Some((State::TimedOut, Outcome::AnswerTimedOut)),
        Event::Kill => Some((State::Stopping, Outcome::KillAfterTaken)),
        Event::Spawned
        | Event::NextCalled
        | Event::InitError
        | Event::Bind
        | Event::Taken
        | Event::Evict => None,
    }
}

fn on_finishing(event: Event) -> Cell {
    match event {
        Event::NextCalled => Some((State::Idle, Outcome::Ready)),
        Event::Exited => Some((State::Reset, Outcome::Relaunch)),
        Event::Deadline => Some((State::TimedOut, Outcome::KillForReset)),
        Event::Kill => Some((State::Stopping, Outcome::Kill)),
        Event::Spawned
        | Event::InitError
        | Event::Bind
        | Event::Taken
        | Event::Response
        | Event::Error
        | Event::Evict => None,
    }
}

fn on_init_failed(event: Event) -> Cell {
    match event {
        Event::Bind => Some((State::Stopping, Outcome::ServeInitError)),
        Event::Evict | Event::Kill => Some((State::Stopping, Outcome::Kill)),
        // The runtime exits after it has posted its error; the phase's timer may still fire.
        Event::Exited | Event::Deadline => Some((State::InitFailed, Outcome::Nothing)),
        Event::Spawned
        | Event::NextCalled
        | Event::InitError
        | Event::Taken
        | Event::Response
        | Event::Error => None,
    }
}

fn on_timed_out(event: Event) -> Cell {
    match event {
        Event::Exited => Some((State::Reset, Outcome::Relaunch)),
        Event::Evict | Event::Kill => Some((State::Stopping, Outcome::Kill)),
        // The last words of a process that is being killed.
        Event::NextCalled | Event::InitError | Event::Response | Event::Error | Event::Deadline => {
            Some((State::TimedOut, Outcome::Nothing))
        }
        Event::Spawned | Event::Bind | Event::Taken => None,
    }
}

fn on_reset(event: Event) -> Cell {
    match event {
        Event::Spawned => Some((State::Starting, Outcome::Nothing)),
        // It could not be started again.
        Event::Exited => Some((State::Gone, Outcome::StartFailed)),
        Event::Evict | Event::Kill => Some((State::Stopping, Outcome::Kill)),
        // A timer of the phase that ended with the exit.
        Event::Deadline => Some((State::Reset, Outcome::Nothing)),
        Event::NextCalled
        | Event::InitError
        | Event::Bind
        | Event::Taken
        | Event::Response
        | Event::Error => None,
    }
}

fn on_stopping(event: Event) -> Cell {
    match event {
        Event::Exited => Some((State::Gone, Outcome::Remove)),
        // Whatever was under way when it was told to stop; a launch that ends now is killed like the rest.
        Event::Spawned => Some((State::Stopping, Outcome::Kill)),
        Event::NextCalled
        | Event::InitError
        | Event::Taken
        | Event::Response
        | Event::Error
        | Event::Deadline
        | Event::Evict
        | Event::Kill => Some((State::Stopping, Outcome::Nothing)),
        Event::Bind => None,
    }
}

#[cfg(test)]
#[path = "sandbox_tests.rs"]
mod tests;
