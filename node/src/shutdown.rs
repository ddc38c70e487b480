//! Orderly end of a process: one cancellation for all, every task owned by name and joined, with a deadline.
//!
//! Not here: what a component does on its way out (it waits on [`Shutdown::cancelled`] and decides).

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::{error, info, warn};

use crate::health::Health;

/// Exit code of a process ended by a second signal, as shells count SIGINT.
const EXIT_INTERRUPTED: i32 = 130;

/// A clonable handle: asks for the end, waits for it, owns the tasks.
#[derive(Debug, Clone)]
pub struct Shutdown {
    token: CancellationToken,
    tracker: TaskTracker,
    health: Health,
    names: Arc<Mutex<BTreeMap<u64, String>>>,
}

/// Tasks that had not ended at the deadline.
#[derive(Debug, thiserror::Error)]
#[error("tasks still running at the shutdown deadline: {}", tasks.join(", "))]
pub struct ShutdownTimeout {
    /// By name, sorted by start.
    pub tasks: Vec<String>,
}

/// Removes a task's name however the task ends, also when it is aborted.
struct NameGuard {
    names: Arc<Mutex<BTreeMap<u64, String>>>,
    id: u64,
    _token: TaskTrackerToken,
}

impl Drop for NameGuard {
    fn drop(&mut self) {
        self.names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.id);
    }
}

impl Shutdown {
    /// Panicking tasks are reported to `health`.
    pub fn new(health: Health) -> Self {
        Self {
            token: CancellationToken::new(),
            tracker: TaskTracker::new(),
            health,
            names: Arc::default(),
        }
    }

    /// A token that falls when the end is asked for; hand out children to cancel a part alone.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Asks for the end. Returns at once.
    pub fn start(&self) {
        self.token.cancel();
    }

    /// Whether the end was asked for.
    pub fn is_started(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits until the end is asked for.
    pub async fn cancelled(&self) {
        self.token.cancelled().await;
    }

    /// Starts a task owned by this process. A panic is logged, fails health and is contained.
    pub fn spawn<F>(&self, name: &str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let guard = self.named(name);
        let (name, health) = (name.to_owned(), self.health.clone());
        tokio::spawn(async move {
            let _guard = guard;
            if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
                let reason = panic_text(&*panic);
                error!(task = %name, reason, "task panicked");
                health.fail(&name, format!("task panicked: {reason}"));
            }
        });
    }

    fn named(&self, name: &str) -> NameGuard {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let id = names.last_key_value().map_or(0, |(id, _)| id + 1);
        names.insert(id, name.to_owned());
        NameGuard {
            names: Arc::clone(&self.names),
            id,
            _token: self.tracker.token(),
        }
    }

    /// Starts the end on SIGINT or SIGTERM; a second signal ends the process at once.
    pub fn on_signals(&self) -> std::io::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let shutdown = self.clone();
        // Not tracked: it lives as long as the process and holds nothing.
        tokio::spawn(async move {
            for count in 0_u8.. {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if count > 0 {
                    warn!("second signal, ending at once");
                    std::process::exit(EXIT_INTERRUPTED);
                }
                info!("shutting down, a second signal ends at once");
                shutdown.start();
            }
        });
        Ok(())
    }

    /// Waits for every task to end; the end must have been started or it waits for that too, without limit.
    /// The deadline counts from the start of the end.
    pub async fn wait_with_deadline(&self, limit: Duration) -> Result<(), ShutdownTimeout> {
        self.cancelled().await;
        self.tracker.close();
        if tokio::time::timeout(limit, self.tracker.wait())
            .await
            .is_ok()
        {
            return Ok(());
        }
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        Err(ShutdownTimeout {
            tasks: names.values().cloned().collect(),
        })
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    const LONG: Duration = Duration::from_secs(10);

    fn shutdown() -> (Health, Shutdown) {
        let health = Health::new(SystemClock::shared());
        (health.clone(), Shutdown::new(health))
    }

    #[tokio::test]
    async fn tasks_are_told_and_joined() {
        let (_, shutdown) = shutdown();
        let (done, waited) = tokio::sync::oneshot::channel();
        let token = shutdown.token();
        shutdown.spawn("loop", async move {
            token.cancelled().await;
            let _ = done.send(());
        });
        shutdown.start();
        shutdown.wait_with_deadline(LONG).await.unwrap();
        waited.await.unwrap();
    }

    #[tokio::test]
    async fn a_stuck_task_is_named_at_the_deadline() {
        let (_, shutdown) = shutdown();
        shutdown.spawn("stuck", std::future::pending());
        shutdown.start();
        let error = shutdown
            .wait_with_deadline(Duration::ZERO)
            .await
            .expect_err("stuck");
        assert_eq!(error.tasks, ["stuck"]);
    }

    #[tokio::test]
    async fn a_panic_fails_health_and_nothing_else() {
        let (health, shutdown) = shutdown();
        shutdown.spawn("bad", async { panic!("on purpose") });
        shutdown.start();
        shutdown.wait_with_deadline(LONG).await.unwrap();
        let report = health.liveness();
        assert!(!report.ok);
        assert_eq!(report.conditions["bad"].reason, "task panicked: on purpose");
    }

    #[tokio::test]
    async fn sigterm_starts_the_end() {
        let (_, shutdown) = shutdown();
        shutdown.on_signals().unwrap();
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM).unwrap();
        tokio::time::timeout(LONG, shutdown.cancelled())
            .await
            .unwrap();
    }
}
