//! The workers of the catalog and the life of their streams; lines that serve no one are swept here too.

use std::sync::{Arc, PoisonError};

use hearth_core::ids::{Incarnation, NodeId};
use hearth_core::standing::Standing;

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
            worker.tables.set_listed(true);
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

    /// The catalog names a worker no more: it was forgotten, or the leader does not hear it. If this gateway does hear
    /// it, what it has begun may come to its end; it is sent nothing more, and gone when its stream is.
    pub(crate) fn unlist_worker(&self, id: NodeId) {
        let workers = self.workers.load();
        let Some(worker) = workers.iter().find(|w| w.id == id) else {
            return;
        };
        let is_heard =
            worker.tables.is_connected() && worker.tables.standing() != Standing::Ejected;
        if is_heard && worker.tables.own_in_flight() > 0 {
            worker.tables.set_draining(true);
            worker.tables.set_listed(false);
        } else {
            self.remove_worker(id);
        }
    }

    /// A worker that the catalog names no more has nothing left to do for this gateway.
    pub(super) fn drop_unlisted(&self) {
        for worker in self.workers.load().iter() {
            if !worker.tables.is_listed() && worker.tables.own_in_flight() == 0 {
                self.remove_worker(worker.id);
            }
        }
    }

    /// A worker is out: its stream ends.
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
        gone.into_iter().for_each(|id| self.unlist_worker(id));
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
        self.catalog.quotas.sweep();
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
