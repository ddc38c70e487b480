//! What this node measures for its elections: how long its log takes to flush, and how regularly it hears its leader; and the
//! task that lets it ask for votes or not. The rules are `hearth_core::election`'s.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hearth_core::election::{self, Measured, Worst};
use hearth_core::ids::MonotonicMs;
use hearth_node::clock::SharedClock;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::types::Vote;

/// A flush that took so long shows in the times of everything that waits for it.
const SLOW_FLUSH_MS: u64 = 50;

/// Shared by the log's writer, the peer service and the task.
#[derive(Debug)]
pub(super) struct Pulse {
    clock: SharedClock,
    state: Mutex<State>,
    /// There is a new reason to wait.
    heard: Notify,
}

#[derive(Debug, Default)]
struct State {
    flush: Worst,
    gap: Worst,
    /// Who was heard last as the leader, and when.
    last: Option<(Vote, MonotonicMs)>,
    /// This node does not ask for votes before.
    hold_until: MonotonicMs,
}

impl Pulse {
    pub(super) fn new(clock: SharedClock) -> Arc<Self> {
        Arc::new(Self {
            clock,
            state: Mutex::default(),
            heard: Notify::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> MonotonicMs {
        MonotonicMs(self.clock.monotonic_ms())
    }

    /// For [`Pulse::flushed`].
    pub(super) fn begin(&self) -> MonotonicMs {
        self.now()
    }

    /// A flush of the log that began then has ended.
    pub(super) fn flushed(&self, begun: MonotonicMs) {
        let now = self.now();
        self.flush_took(now.since(begun));
    }

    /// A flush took so long, milliseconds.
    pub(super) fn flush_took(&self, ms: u64) {
        if ms >= SLOW_FLUSH_MS {
            tracing::debug!(ms, "a flush of the log was slow");
        }
        let now = self.now();
        self.state().flush.add(ms, now);
    }

    /// A message of the leader that has this vote was taken.
    pub(super) fn hear(&self, leader: Vote) {
        let now = self.now();
        let mut state = self.state();
        if let Some((_, at)) = state.last.filter(|(vote, _)| *vote == leader) {
            state.gap.add(now.since(at), now);
        }
        state.last = Some((leader, now));
        drop(state);
        self.heard.notify_one();
    }

    pub(super) fn measured(&self) -> Measured {
        let now = self.now();
        let mut state = self.state();
        Measured {
            flush_ms: state.flush.get(now),
            gap_ms: state.gap.get(now),
        }
    }

    /// The log was written by an earlier run, with others: see [`election::START_PATIENCE_MS`].
    pub(super) fn began_anew(&self) {
        let now = self.now();
        let mut state = self.state();
        state.hold_until = now.plus(election::START_PATIENCE_MS);
    }

    /// This node gave its vote, to itself or another.
    pub(super) fn voted(&self) {
        let hold = election::after_vote_ms(self.measured());
        let until = self.now().plus(hold);
        let mut state = self.state();
        state.hold_until = state.hold_until.max(until);
        drop(state);
        self.heard.notify_one();
    }

    /// How long this node must go on hearing nothing before it may ask for votes.
    fn left(&self) -> Duration {
        let patience = election::patience_ms(self.measured());
        let now = self.now();
        let state = self.state();
        let silent = state.last.map(|(_, at)| now.since(at));
        let left = silent.map_or(0, |silent| patience.saturating_sub(silent));
        Duration::from_millis(left.max(state.hold_until.since(now)))
    }

    /// Tells `may_elect` whenever it changes, until `stop`.
    pub(super) async fn govern(&self, may_elect: impl Fn(bool), stop: CancellationToken) {
        loop {
            let left = self.left();
            may_elect(left.is_zero());
            let wait = async {
                if left.is_zero() {
                    self.heard.notified().await;
                } else {
                    tokio::time::sleep(left).await;
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = wait => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use hearth_node::clock::ManualClock;

    use super::*;

    #[test]
    fn patience_is_counted_from_the_leaders_last_word() {
        let clock = Arc::new(ManualClock::new(0));
        let pulse = Pulse::new(clock.clone());
        assert_eq!(
            pulse.left(),
            Duration::ZERO,
            "who never heard a leader may ask at once"
        );
        let leader = Vote::new_committed(1, 1);
        for _ in 0..3 {
            pulse.hear(leader);
            clock.advance_ms(200);
        }
        pulse.flush_took(50);
        assert_eq!(
            pulse.measured(),
            Measured {
                flush_ms: 50,
                gap_ms: 200
            }
        );
        assert_eq!(pulse.left(), Duration::from_millis(700 - 200));
        clock.advance_ms(500);
        assert_eq!(pulse.left(), Duration::ZERO);
    }

    #[test]
    fn a_node_that_comes_back_lets_the_others_elect_first() {
        let clock = Arc::new(ManualClock::new(0));
        let pulse = Pulse::new(clock.clone());
        pulse.began_anew();
        clock.advance_ms(400);
        let left = election::START_PATIENCE_MS - 400;
        assert_eq!(pulse.left(), Duration::from_millis(left));
    }

    #[test]
    fn the_time_without_any_leader_is_no_pause_of_one() {
        let clock = Arc::new(ManualClock::new(0));
        let pulse = Pulse::new(clock.clone());
        pulse.hear(Vote::new_committed(1, 1));
        clock.advance_ms(5_000);
        pulse.hear(Vote::new_committed(2, 2));
        assert_eq!(pulse.measured().gap_ms, 0);
    }
}
