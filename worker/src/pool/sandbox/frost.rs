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
    /// It is on the worker's list of those that are looked at.
    is_listed: bool,
    is_frozen: bool,
}

/// What comes of a look at a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Freeze,
    /// It served meanwhile: to be looked at again then.
    Again(u64),
    /// It is at work, or over.
    Nothing,
}

impl Frost {
    pub(super) fn new(after_us: u64) -> Self {
        Self {
            after_us,
            ..Self::default()
        }
    }

    /// It has nothing to do; when it is to be looked at, if it does not stand on the list yet.
    fn on_idle(&mut self, now_us: u64) -> Option<u64> {
        let at_us = now_us.saturating_add(self.after_us);
        self.at_us = Some(at_us);
        let is_listed = std::mem::replace(&mut self.is_listed, true);
        (!is_listed).then_some(at_us)
    }

    /// It gets an event, or ends; whether it must be thawed.
    fn on_busy(&mut self) -> bool {
        self.at_us = None;
        std::mem::take(&mut self.is_frozen)
    }

    /// Its turn on the list has come.
    fn on_look(&mut self, now_us: u64) -> Look {
        match self.at_us {
            Some(at_us) if at_us > now_us => Look::Again(at_us),
            due => {
                (self.is_listed, self.at_us) = (false, None);
                due.map_or(Look::Nothing, |_| Look::Freeze)
            }
        }
    }
}

impl Sandbox {
    /// The runtime waits for an event that has not come yet.
    pub(super) fn freeze_soon(&self, life: &mut Life, now_us: u64) {
        if let Some(at_us) = life.frost.on_idle(now_us) {
            self.pool.freezer.push(at_us, self.this.clone());
        }
    }

    /// Its turn on the list has come: freezes it, or says when to look again. A sandbox that cannot be frozen goes on
    /// running, as all did before.
    pub(in crate::pool) fn freeze_or_wait(&self) -> Option<u64> {
        let now_us = self.clock.monotonic_us();
        let mut life = self.life();
        match life.frost.on_look(now_us) {
            Look::Again(at_us) => return Some(at_us),
            Look::Freeze if life.state == State::Idle => {}
            Look::Freeze | Look::Nothing => return None,
        }
        let control = self.control.get()?;
        match control.freeze() {
            Ok(()) => {
                life.frost.is_frozen = true;
                if let Some(hub) = self.log.hub() {
                    hub.set_frozen(true);
                }
            }
            Err(error) => warn!(sandbox = self.id.0, %error, "idle sandbox not frozen"),
        }
        None
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
    fn an_idle_sandbox_is_listed_once_and_frozen_once_after_its_time() {
        let mut frost = Frost::new(10);
        assert_eq!(frost.on_look(u64::MAX), Look::Nothing, "it never was idle");
        assert_eq!(frost.on_idle(100), Some(110));
        assert_eq!(frost.on_look(109), Look::Again(110));
        assert_eq!(frost.on_look(110), Look::Freeze);
        assert_eq!(frost.on_look(111), Look::Nothing, "said once");
        assert_eq!(frost.on_idle(200), Some(210), "listed anew");
    }

    #[test]
    fn one_that_gets_an_event_in_time_is_not_frozen_and_stays_on_the_list() {
        let mut frost = Frost::new(10);
        assert_eq!(frost.on_idle(100), Some(110));
        assert!(!frost.on_busy(), "nothing to thaw");
        assert_eq!(frost.on_idle(105), None, "listed still");
        assert_eq!(frost.on_look(110), Look::Again(115));
        assert!(!frost.on_busy());
        assert_eq!(frost.on_look(115), Look::Nothing, "at work");
        assert_eq!(frost.on_idle(300), Some(310));
        assert_eq!(frost.on_look(310), Look::Freeze);
        frost.is_frozen = true;
        assert!(frost.on_busy());
        assert!(!frost.on_busy(), "thawed once");
    }
}
