//! When an idle sandbox is frozen. AWS freezes it as soon as the runtime asks for the next event, so that nothing runs
//! between invocations; here a moment later, as one that is busy all the time would pay twice for each event.
//!
//! Pure but for the last part: the owner holds the sandbox's lock around all of it, so that a thaw never overtakes a
//! freeze.

use hearth_core::sandbox::State;
use tracing::warn;

use super::{Life, Sandbox};

/// Whether a sandbox is frozen, or when it is to be.
#[derive(Debug, Default)]
pub(super) struct Frost {
    /// Time from asking for the next event to the freeze, microseconds; set when the sandbox runs.
    after_us: u64,
    /// When it is to be frozen.
    at_us: Option<u64>,
    is_frozen: bool,
}

impl Frost {
    pub(super) fn new(after_us: u64) -> Self {
        Self {
            after_us,
            ..Self::default()
        }
    }

    /// It has nothing to do; when it is to be frozen.
    fn on_idle(&mut self, now_us: u64) -> u64 {
        let at_us = now_us.saturating_add(self.after_us);
        self.at_us = Some(at_us);
        at_us
    }

    /// It gets an event, or ends; whether it must be thawed.
    fn on_busy(&mut self) -> bool {
        self.at_us = None;
        std::mem::take(&mut self.is_frozen)
    }

    /// When to look next.
    pub(super) fn at_us(&self) -> Option<u64> {
        self.at_us
    }

    /// Whether it is to be frozen now; said once.
    fn take_due(&mut self, now_us: u64) -> bool {
        self.at_us.take_if(|at_us| *at_us <= now_us).is_some()
    }
}

impl Sandbox {
    /// The runtime waits for an event that has not come yet.
    pub(super) fn freeze_soon(&self, life: &mut Life, now_us: u64) {
        let at_us = life.frost.on_idle(now_us);
        if life.armed_us.is_none_or(|armed_us| armed_us > at_us) {
            self.wake.notify_one();
        }
    }

    /// The keeper's alarm went off. A sandbox that cannot be frozen goes on running, as all did before.
    pub(super) fn freeze_if_due(&self, life: &mut Life, now_us: u64) {
        if !life.frost.take_due(now_us) || life.state != State::Idle {
            return;
        }
        let Some(control) = self.control.get() else {
            return;
        };
        match control.freeze() {
            Ok(()) => {
                life.frost.is_frozen = true;
                if let Some(hub) = self.log.hub() {
                    hub.set_frozen(true);
                }
            }
            Err(error) => warn!(sandbox = self.id.0, %error, "idle sandbox not frozen"),
        }
    }

    /// Before an event is given to it. False when it stays frozen: it is of no use any more.
    pub(super) fn thaw(&self, life: &mut Life) -> bool {
        if !life.frost.on_busy() {
            return true;
        }
        let thawed = self.control.get().map_or(Ok(()), |control| control.thaw());
        if let Err(error) = &thawed {
            warn!(sandbox = self.id.0, %error, "sandbox not thawed");
        }
        if let Some(hub) = self.log.hub() {
            hub.set_frozen(false);
        }
        thawed.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_sandbox_is_frozen_once_after_its_time() {
        let mut frost = Frost::new(10);
        assert!(!frost.take_due(u64::MAX), "it never was idle");
        assert_eq!(frost.on_idle(100), 110);
        assert!(!frost.take_due(109));
        assert!(frost.take_due(110));
        assert!(!frost.take_due(111), "said once");
    }

    #[test]
    fn one_that_gets_an_event_in_time_is_not_frozen() {
        let mut frost = Frost::new(10);
        frost.on_idle(100);
        assert!(!frost.on_busy(), "nothing to thaw");
        assert!(!frost.take_due(200));
        frost.on_idle(300);
        frost.is_frozen = frost.take_due(310);
        assert!(frost.on_busy());
        assert!(!frost.on_busy(), "thawed once");
    }
}
