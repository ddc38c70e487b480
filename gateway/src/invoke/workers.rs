//! The workers of the catalog and the life of their streams; lines that serve no one are swept here too.

use std::sync::{Arc, PoisonError};

use hearth_core::ids::{Incarnation, NodeId};

use super::Invoker;
use super::stream;
use super::worker::Worker;

/// A worker as the catalog names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WorkerAddress {
    pub(crate) id: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) addr: String,
    pub(crate) draining: bool,
}

impl Invoker {
    /// A worker joined, came back, moved or drains.
    pub(crate) fn set_worker(self: &Arc<Self>, address: WorkerAddress) {
        let workers = self.workers.load();
        let known = workers.iter().find(|w| w.id == address.id);
        if let Some(worker) = known
            && worker.incarnation == address.incarnation
            && worker.addr == address.addr
        {
            worker.tables.set_draining(address.draining);
            return;
        }
        self.remove_worker(address.id);
        let worker = Arc::new(Worker::new(address.id, address.incarnation, address.addr));
        worker.tables.set_draining(address.draining);
        self.workers.rcu(|workers| {
            let mut workers = Vec::clone(workers);
            workers.push(Arc::clone(&worker));
            workers
        });
        let token = self.shutdown.token().child_token();
        self.streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(worker.id, token.clone());
        stream::spawn(self, &worker, &self.shutdown, token);
    }

    /// A worker is no member any more.
    pub(crate) fn remove_worker(&self, id: NodeId) {
        let token = self
            .streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id);
        if let Some(token) = token {
            token.cancel();
        }
        self.workers.rcu(|workers| {
            workers
                .iter()
                .filter(|w| w.id != id)
                .cloned()
                .collect::<Vec<_>>()
        });
        self.on_connections_changed();
    }

    /// Forgets workers that a full picture of the catalog does not name.
    pub(crate) fn retain_workers(&self, named: impl Fn(NodeId) -> bool) {
        let gone: Vec<NodeId> = self
            .workers
            .load()
            .iter()
            .map(|w| w.id)
            .filter(|id| !named(*id))
            .collect();
        gone.into_iter().for_each(|id| self.remove_worker(id));
    }

    /// Tells health how many streams are up.
    pub(super) fn on_connections_changed(&self) {
        let workers = self.workers.load();
        let up = workers.iter().filter(|w| w.tables.is_connected()).count();
        let reason = format!("{up} of {} workers connected", workers.len());
        self.health.set_ready("workers", up > 0, reason);
        self.metrics
            .worker_streams
            .set(i64::try_from(up).unwrap_or(i64::MAX));
        self.wake_waiting();
    }

    /// A worker's sandboxes are out of reach.
    pub(super) fn forget_worker(&self, id: NodeId) {
        self.lines.retain(|_, line| {
            line.forget(id);
            true
        });
    }

    /// Drops lines that nobody waits in and that no worker has sandboxes of.
    pub(crate) fn sweep(&self) {
        self.lines.retain(|_, line| !line.is_unused());
        self.metrics
            .lines
            .set(i64::try_from(self.lines.len()).unwrap_or(i64::MAX));
        let tended = self.tended.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting: usize = tended.values().map(|line| line.waiting()).sum();
        self.metrics
            .waiting
            .set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }
}
