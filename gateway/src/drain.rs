//! A gateway that finishes: it is not ready any more, so that load balancers send elsewhere, and goes on answering
//! whoever comes. Each HTTP/1.1 answer closes its connection and HTTP/2 connections are told to go away, so that
//! clients move without a request lost. At the end of the process this lasts for the options' `drain_grace`; on the
//! operator's wish, until that is undone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use hearth_node::health::Health;
use tokio::sync::watch;

/// A gateway without connections waits no longer than this for its absence to be noticed.
const UNUSED_AFTER: Duration = Duration::from_millis(500);
/// How often it looks whether connections are left.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A clonable handle.
#[derive(Clone, Debug)]
pub(crate) struct Drain {
    health: Health,
    state: Arc<watch::Sender<bool>>,
    is_ending: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
}

/// A connection, while it is open.
#[derive(Debug)]
pub(crate) struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Drain {
    pub(crate) fn new(health: Health) -> Self {
        Self {
            health,
            state: Arc::new(watch::Sender::new(false)),
            is_ending: Arc::default(),
            connections: Arc::default(),
        }
    }

    /// Whether it drains.
    pub(crate) fn is_on(&self) -> bool {
        *self.state.borrow()
    }

    /// Returns when it drains.
    pub(crate) async fn begun(&self) {
        let mut state = self.state.subscribe();
        if state.wait_for(|is_on| *is_on).await.is_err() {
            // The sender lives in this handle.
            std::future::pending().await
        }
    }

    /// A connection was accepted.
    pub(crate) fn open(&self) -> Open {
        self.connections.fetch_add(1, Relaxed);
        Open(Arc::clone(&self.connections))
    }

    /// The operator's wish.
    pub(crate) fn wish(&self, drain: bool) {
        let is_on = drain || self.is_ending.load(Relaxed);
        if self.state.send_replace(is_on) != is_on {
            tracing::info!(drain = is_on, "the operator's wish");
        }
        if !self.is_ending.load(Relaxed) {
            let reason = if drain {
                "the operator wants it to drain"
            } else {
                "takes requests"
            };
            self.health.set_ready("drain", !drain, reason);
        }
    }

    /// The process ends: returns when clients had time to go elsewhere.
    pub(crate) async fn end(&self, grace: Duration) {
        self.is_ending.store(true, Relaxed);
        self.health.set_ready("drain", false, "shutting down");
        self.state.send_replace(true);
        let unused = async {
            tokio::time::sleep(UNUSED_AFTER).await;
            while self.connections.load(Relaxed) > 0 {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        // Whoever is connected still at the end of the grace is told by its connection's end.
        drop(tokio::time::timeout(grace, unused).await);
    }
}
