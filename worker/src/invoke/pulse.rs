//! Shows one gateway that this worker keeps up, and holds the lease that its answers give: without one nothing of that
//! gateway is begun, since it may have been given to another worker. The rule is `hearth_core::standing`.

use std::time::Duration;

use hearth_core::ids::MonotonicMs;
use hearth_core::standing::{PULSE_MS, may_begin};
use hearth_proto::internal::v1 as pb;
use pb::worker_frame::Frame;
use tokio::time::MissedTickBehavior;

use super::outbox::Outbox;
use crate::pool::Engine;

/// One pulse.
pub(super) fn say(engine: &Engine, outbox: &Outbox) {
    let sent_at_ms = engine.seams.clock.monotonic_ms();
    outbox.say(Frame::Pulse(pb::Pulse { sent_at_ms }));
}

/// Pulses for as long as the stream lives.
pub(super) async fn send(engine: &Engine, outbox: &Outbox) {
    let mut tick = tokio::time::interval(Duration::from_millis(PULSE_MS));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        // To a gateway that does not read they would only add up.
        if outbox.has_room() {
            say(engine, outbox);
        }
    }
}

/// What the answers of one gateway allow.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lease {
    /// The gateway answers pulses; one of an earlier release does not, and gives nothing away either.
    pub(super) is_needed: bool,
    answered: Option<MonotonicMs>,
}

impl Lease {
    /// The gateway got the pulse that was sent then.
    pub(super) fn on_answer(&mut self, sent_at_ms: u64) {
        self.answered = self.answered.max(Some(MonotonicMs(sent_at_ms)));
    }

    /// Whether an invocation may be begun.
    pub(super) fn holds(&self, now_ms: u64) -> bool {
        !self.is_needed || may_begin(self.answered, MonotonicMs(now_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_core::standing::LEASE_MS;

    #[test]
    fn a_lease_is_needed_where_pulses_are_answered_and_lasts_from_the_newest_answer() {
        let mut lease = Lease::default();
        assert!(lease.holds(9_999), "a gateway of an earlier release");
        lease.is_needed = true;
        assert!(!lease.holds(0), "no answer yet");
        lease.on_answer(1_000);
        lease.on_answer(900);
        assert!(lease.holds(1_000 + LEASE_MS - 1));
        assert!(!lease.holds(1_000 + LEASE_MS));
    }
}
