//! Shows one gateway that this worker keeps up, and holds the lease that its answers give: without one nothing of that
//! gateway is begun, since it may have been given to another worker. The rule is `hearth_core::standing`.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hearth_core::ids::MonotonicMs;
use hearth_core::standing::{Lease, Pace};
use hearth_proto::internal::v1 as pb;
use pb::worker_frame::Frame;

use super::outbox::Outbox;
use crate::pool::Engine;

/// One pulse.
pub(super) fn say(engine: &Engine, outbox: &Outbox) {
    let sent_at_ms = engine.seams.clock.monotonic_ms();
    outbox.say(Frame::Pulse(pb::Pulse { sent_at_ms }));
}

/// Pulses for as long as the stream lives, as often as the gateway wishes.
pub(super) async fn send(engine: &Engine, outbox: &Outbox, terms: &Terms) {
    loop {
        tokio::time::sleep(terms.until_next()).await;
        // To a gateway that does not read they would only add up.
        if outbox.has_room() {
            say(engine, outbox);
        }
    }
}

/// What one gateway wishes and its answers allow.
#[derive(Debug, Default)]
pub(super) struct Terms(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The gateway answers pulses; one of an earlier release does not, and gives nothing away either.
    is_lease_needed: bool,
    lease: Lease,
    pace: Pace,
}

impl Terms {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn until_next(&self) -> Duration {
        Duration::from_millis(self.lock().pace.pulse_ms)
    }

    /// The gateway said who it is.
    pub(super) fn on_hello(&self, answers_pulses: bool) {
        self.lock().is_lease_needed = answers_pulses;
    }

    /// The gateway got a pulse.
    pub(super) fn on_answer(&self, answer: &pb::PulseAnswer) {
        let mut state = self.lock();
        state.pace = Pace::told(answer.pulse_ms);
        let pace = state.pace;
        state.lease.on_answer(MonotonicMs(answer.sent_at_ms), pace);
    }

    /// Whether an invocation may be begun.
    pub(super) fn allow(&self, now_ms: u64) -> bool {
        let state = self.lock();
        !state.is_lease_needed || state.lease.holds(MonotonicMs(now_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_core::standing::LEASE_MS;

    fn answer(sent_at_ms: u64, pulse_ms: u64) -> pb::PulseAnswer {
        pb::PulseAnswer {
            sent_at_ms,
            pulse_ms,
        }
    }

    #[test]
    fn a_lease_is_needed_where_pulses_are_answered_and_lasts_from_the_newest_answer() {
        let terms = Terms::default();
        assert!(terms.allow(9_999), "a gateway of an earlier release");
        terms.on_hello(true);
        assert!(!terms.allow(0), "no answer yet");
        terms.on_answer(&answer(1_000, 0));
        terms.on_answer(&answer(900, 0));
        assert!(terms.allow(1_000 + LEASE_MS - 1));
        assert!(!terms.allow(1_000 + LEASE_MS));
    }

    #[test]
    fn a_gateway_of_many_workers_wishes_for_fewer_pulses_and_gives_longer_leases() {
        let terms = Terms::default();
        terms.on_hello(true);
        terms.on_answer(&answer(0, 500));
        assert_eq!(terms.lock().pace.pulse_ms, 500);
        assert!(terms.allow(1_999) && !terms.allow(2_000));
    }
}
