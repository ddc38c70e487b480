//! The end of a sandbox that runs: at once, or in the steps of the shutdown phase of its extensions, which
//! `hearth_core::extensions::shutdown` decides.

use hearth_core::extensions::shutdown::{Reason, Shutdown, Step};
use serde::Serialize;

use super::extensions::{Told, told};
use super::{Life, Sandbox};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShutdownEvent {
    event_type: &'static str,
    shutdown_reason: &'static str,
    deadline_ms: u64,
}

impl Sandbox {
    /// Ends it: at once, or where there are extensions with their shutdown phase.
    pub(super) fn end(&self, reason: Reason) {
        let Some(control) = self.control.get() else {
            return;
        };
        let mut life = self.life();
        let is_thawed = life.ext.is_none() || self.thaw(&mut life);
        let Some(ext) = life.ext.as_mut().filter(|_| is_thawed) else {
            drop(life);
            return control.kill();
        };
        if ext.shutdown.is_some() {
            return;
        }
        let now = self.clock.monotonic_us();
        let presence = ext.rules.presence();
        let (shutdown, step) = Shutdown::begin(reason, presence, ext.is_runtime_alive, now);
        ext.shutdown = Some(shutdown);
        if let Some(hub) = self.log.hub() {
            hub.flush();
        }
        self.take_step(&mut life, step);
    }

    /// The keeper's alarm went off.
    pub(super) fn shut_down_if_due(&self, life: &mut Life, now: u64) {
        let Some(ext) = &mut life.ext else { return };
        let presence = ext.rules.presence();
        let step = ext
            .shutdown
            .as_mut()
            .and_then(|shutdown| shutdown.on_time(presence, now));
        if let Some(step) = step {
            self.take_step(life, step);
        }
    }

    pub(super) fn take_step(&self, life: &mut Life, step: Step) {
        let (Some(control), Some(ext)) = (self.control.get(), life.ext.as_mut()) else {
            return;
        };
        match step {
            Step::TerminateRuntime => {
                if control.terminate().is_err() {
                    control.kill();
                }
            }
            Step::TellExtensions => {
                if let Some(processes) = self.processes.get() {
                    // A sandbox that is gone needs no kill.
                    let _ = processes.kill_runtime();
                }
                for place in ext.rules.on_shutdown() {
                    let event = ext
                        .shutdown
                        .as_ref()
                        .map(|shutdown| self.shutdown_event(shutdown));
                    if let Some(event) = event {
                        ext.send(place, event);
                    }
                }
                let is_over = ext.rules.is_over();
                let over = ext.shutdown.as_mut().filter(|_| is_over);
                if over.and_then(Shutdown::on_extensions_over).is_some() {
                    control.kill();
                }
            }
            Step::KillAll => control.kill(),
        }
        // The next step has a time of its own.
        self.wake.notify_one();
    }

    pub(super) fn shutdown_event(&self, shutdown: &Shutdown) -> Told {
        let left_us = shutdown
            .until_us()
            .saturating_sub(self.clock.monotonic_us());
        told(&ShutdownEvent {
            event_type: "SHUTDOWN",
            shutdown_reason: shutdown.reason().as_str(),
            deadline_ms: self.clock.unix_ms() + left_us / 1_000,
        })
    }
}
