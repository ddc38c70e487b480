//! How a sandbox with extensions ends: the runtime is asked to, then the extensions, each for its time, then all is killed.
//! Pure: the owner does what a [`Step`] says and tells what happened.
//!
//! "Duration: The maximum duration of the Shutdown phase depends on the configuration of registered extensions: 0 ms - A
//! function with no registered extensions; 500 ms - A function with a registered internal extension; 2000 ms - A function
//! with one or more registered external extensions." (AWS Lambda developer guide, Extensions API)

/// Who is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// No extension.
    Nobody,
    /// Internal ones only.
    Internal,
    /// At least one external one.
    External,
}

impl Presence {
    /// Length of the shutdown phase, microseconds.
    pub fn budget_us(self) -> u64 {
        match self {
            Self::Nobody => 0,
            Self::Internal => 500_000,
            Self::External => 2_000_000,
        }
    }

    /// How much of it the runtime has, microseconds: AWS's share of three tenths, or all where nobody comes after it.
    fn runtime_us(self) -> u64 {
        match self {
            Self::Nobody | Self::Internal => self.budget_us(),
            Self::External => self.budget_us() * 3 / 10,
        }
    }
}

/// Why it ends, as the event says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its time is over: idle for long, replaced, or the worker stops.
    Spindown,
    /// An invocation or the init phase took too long.
    Timeout,
    /// The runtime or an extension failed.
    Failure,
}

impl Reason {
    /// AWS's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Spindown => "spindown",
            Self::Timeout => "timeout",
            Self::Failure => "failure",
        }
    }
}

/// What the owner does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// SIGTERM to the runtime.
    TerminateRuntime,
    /// SIGKILL to the runtime if it still runs, and SHUTDOWN to the extensions.
    TellExtensions,
    /// SIGKILL to everything.
    KillAll,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Runtime,
    Extensions,
    Over,
}

/// A shutdown phase under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shutdown {
    reason: Reason,
    stage: Stage,
    runtime_until_us: u64,
    until_us: u64,
}

impl Shutdown {
    /// Begins. `is_runtime_alive`: there is a runtime to be asked.
    pub fn begin(
        reason: Reason,
        presence: Presence,
        is_runtime_alive: bool,
        now_us: u64,
    ) -> (Self, Step) {
        let mut shutdown = Self {
            reason,
            stage: Stage::Runtime,
            runtime_until_us: now_us.saturating_add(presence.runtime_us()),
            until_us: now_us.saturating_add(presence.budget_us()),
        };
        let step = if presence == Presence::Nobody {
            shutdown.end()
        } else if is_runtime_alive {
            Step::TerminateRuntime
        } else {
            shutdown.after_runtime(presence)
        };
        (shutdown, step)
    }

    /// Why.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Whether extensions are told now, or were.
    pub fn is_extensions_turn(&self) -> bool {
        self.stage != Stage::Runtime
    }

    /// When everything is killed.
    pub fn until_us(&self) -> u64 {
        self.until_us
    }

    /// When to call [`Shutdown::on_time`] next.
    pub fn at_us(&self) -> Option<u64> {
        match self.stage {
            Stage::Runtime => Some(self.runtime_until_us),
            Stage::Extensions => Some(self.until_us),
            Stage::Over => None,
        }
    }

    /// The runtime is gone.
    pub fn on_runtime_exit(&mut self, presence: Presence) -> Option<Step> {
        (self.stage == Stage::Runtime).then(|| self.after_runtime(presence))
    }

    /// Nobody is left to be waited for.
    pub fn on_extensions_over(&mut self) -> Option<Step> {
        (self.stage == Stage::Extensions).then(|| self.end())
    }

    /// The time of the stage is over.
    pub fn on_time(&mut self, presence: Presence, now_us: u64) -> Option<Step> {
        if self.at_us().is_none_or(|at_us| now_us < at_us) {
            return None;
        }
        match self.stage {
            Stage::Runtime => Some(self.after_runtime(presence)),
            Stage::Extensions => Some(self.end()),
            Stage::Over => None,
        }
    }

    fn after_runtime(&mut self, presence: Presence) -> Step {
        match presence {
            Presence::External => {
                self.stage = Stage::Extensions;
                Step::TellExtensions
            }
            Presence::Nobody | Presence::Internal => self.end(),
        }
    }

    fn end(&mut self) -> Step {
        self.stage = Stage::Over;
        Step::KillAll
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000;

    fn begin(presence: Presence, is_runtime_alive: bool) -> (Shutdown, Step) {
        Shutdown::begin(Reason::Spindown, presence, is_runtime_alive, 0)
    }

    #[test]
    fn nobody_has_no_time_an_internal_one_500_ms_an_external_one_2_s() {
        let (over, step) = begin(Presence::Nobody, true);
        assert_eq!((over.at_us(), step), (None, Step::KillAll));
        let (mut internal, step) = begin(Presence::Internal, true);
        assert_eq!(
            (internal.at_us(), step),
            (Some(500 * MS), Step::TerminateRuntime)
        );
        assert_eq!(internal.on_time(Presence::Internal, 499 * MS), None);
        assert_eq!(
            internal.on_time(Presence::Internal, 500 * MS),
            Some(Step::KillAll)
        );
        let (external, _) = begin(Presence::External, true);
        assert_eq!(external.until_us(), 2_000 * MS);
    }

    #[test]
    fn extensions_are_told_when_the_runtime_is_gone_or_its_share_is_over() {
        let (mut gone, _) = begin(Presence::External, true);
        assert!(!gone.is_extensions_turn());
        assert_eq!(
            gone.on_runtime_exit(Presence::External),
            Some(Step::TellExtensions)
        );
        assert_eq!(gone.on_runtime_exit(Presence::External), None, "told once");
        let (mut deaf, _) = begin(Presence::External, true);
        assert_eq!(deaf.on_time(Presence::External, 599 * MS), None);
        assert_eq!(
            deaf.on_time(Presence::External, 600 * MS),
            Some(Step::TellExtensions)
        );
        let (_, step) = begin(Presence::External, false);
        assert_eq!(step, Step::TellExtensions, "no runtime to wait for");
    }

    #[test]
    fn it_ends_with_the_last_extension_or_at_the_deadline() {
        let (mut quick, _) = begin(Presence::External, false);
        assert_eq!(quick.on_extensions_over(), Some(Step::KillAll));
        assert_eq!(
            quick.on_time(Presence::External, u64::MAX),
            None,
            "said once"
        );
        let (mut slow, _) = begin(Presence::External, false);
        assert_eq!(slow.on_time(Presence::External, 1_999 * MS), None);
        assert_eq!(
            slow.on_time(Presence::External, 2_000 * MS),
            Some(Step::KillAll)
        );
        let (mut early, _) = begin(Presence::External, true);
        assert_eq!(early.on_extensions_over(), None, "the runtime has its time");
    }
}
