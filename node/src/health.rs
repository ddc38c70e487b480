//! What the node says of itself: `/readyz` (should work be sent here?) and `/healthz` (should it be restarted?).
//!
//! Not here: the HTTP server (`admin.rs`), and the checks themselves, which belong to the components.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::clock::SharedClock;

/// A clonable handle to the node's conditions.
#[derive(Debug, Clone)]
pub struct Health {
    clock: SharedClock,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    conditions: BTreeMap<String, Condition>,
    watchdogs: BTreeMap<String, WatchdogState>,
    failures: BTreeMap<String, String>,
}

/// One named condition of readiness.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// Whether it holds.
    pub ready: bool,
    /// Why, for the operator.
    pub reason: String,
}

#[derive(Debug)]
struct WatchdogState {
    last_beat_ms: u64,
    limit_ms: u64,
}

/// What a probe answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthReport {
    /// True gives 200, false 503.
    pub ok: bool,
    /// Every condition, or every failure.
    pub conditions: BTreeMap<String, Condition>,
}

/// Proof of life of one critical task. Dropping it ends the watch: a task that ends on purpose is not dead.
#[derive(Debug)]
pub struct Watchdog {
    health: Health,
    name: String,
}

impl Health {
    /// No conditions: ready and alive.
    pub fn new(clock: SharedClock) -> Self {
        Self {
            clock,
            state: Arc::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each method leaves the maps whole, so a panic elsewhere cannot have broken them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers or changes a condition of readiness.
    pub fn set_ready(&self, name: &str, ready: bool, reason: impl Into<String>) {
        let reason = reason.into();
        self.state()
            .conditions
            .insert(name.to_owned(), Condition { ready, reason });
    }

    /// Marks the process as beyond repair; there is no way back but a restart.
    pub fn fail(&self, name: &str, reason: impl Into<String>) {
        self.state().failures.insert(name.to_owned(), reason.into());
    }

    /// Watches a task that promises to call [`Watchdog::beat`] at least every `limit_ms`.
    pub fn watchdog(&self, name: &str, limit_ms: u64) -> Watchdog {
        let last_beat_ms = self.clock.monotonic_ms();
        self.state().watchdogs.insert(
            name.to_owned(),
            WatchdogState {
                last_beat_ms,
                limit_ms,
            },
        );
        Watchdog {
            health: self.clone(),
            name: name.to_owned(),
        }
    }

    /// `/readyz`: every condition holds and the process is alive.
    pub fn readiness(&self) -> HealthReport {
        let mut report = self.liveness();
        report.conditions.extend(self.state().conditions.clone());
        report.ok = report.conditions.values().all(|condition| condition.ready);
        report
    }

    /// `/healthz`: no failure and no late watchdog.
    pub fn liveness(&self) -> HealthReport {
        let now_ms = self.clock.monotonic_ms();
        let state = self.state();
        let mut conditions = BTreeMap::new();
        for (name, watchdog) in &state.watchdogs {
            let age_ms = now_ms.saturating_sub(watchdog.last_beat_ms);
            let ready = age_ms <= watchdog.limit_ms;
            let reason = if ready {
                "alive".to_owned()
            } else {
                format!(
                    "no sign of life for {age_ms} ms, limit {} ms",
                    watchdog.limit_ms
                )
            };
            conditions.insert(name.clone(), Condition { ready, reason });
        }
        for (name, reason) in &state.failures {
            let reason = reason.clone();
            let ready = false;
            conditions.insert(name.clone(), Condition { ready, reason });
        }
        HealthReport {
            ok: conditions.values().all(|condition| condition.ready),
            conditions,
        }
    }
}

impl Watchdog {
    /// Says that the task lives.
    pub fn beat(&self) {
        let now_ms = self.health.clock.monotonic_ms();
        if let Some(watchdog) = self.health.state().watchdogs.get_mut(&self.name) {
            watchdog.last_beat_ms = now_ms;
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.health.state().watchdogs.remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn health() -> (Arc<ManualClock>, Health) {
        let clock = Arc::new(ManualClock::new(0));
        (clock.clone(), Health::new(clock))
    }

    #[test]
    fn ready_only_when_every_condition_holds() {
        let (_, health) = health();
        assert!(health.readiness().ok);
        health.set_ready("catalog", false, "not yet received");
        health.set_ready("listener", true, "bound");
        let report = health.readiness();
        assert!(!report.ok);
        assert_eq!(report.conditions["catalog"].reason, "not yet received");
        assert!(health.liveness().ok, "not being ready is not being dead");
        health.set_ready("catalog", true, "current");
        assert!(health.readiness().ok);
    }

    #[test]
    fn a_task_that_does_not_beat_is_dead_until_it_does() {
        let (clock, health) = health();
        let watchdog = health.watchdog("raft", 100);
        clock.advance_ms(100);
        assert!(health.liveness().ok);
        clock.advance_ms(1);
        assert!(!health.liveness().ok);
        assert!(!health.readiness().ok);
        watchdog.beat();
        assert!(health.liveness().ok);
        clock.advance_ms(1000);
        drop(watchdog);
        assert!(health.liveness().ok);
    }

    #[test]
    fn a_failure_stays() {
        let (_, health) = health();
        health.fail("task", "panicked");
        assert_eq!(health.liveness().conditions["task"].reason, "panicked");
        assert!(!health.liveness().ok);
    }
}
