//! What workers say of themselves: soft, of this leader alone, rebuilt from reports after a fail-over.

use std::collections::BTreeMap;

use hearth_core::ids::{Incarnation, MonotonicMs, NodeId, PoolKey};
use hearth_core::permits::{Candidate, PoolReport};

use super::plan::Host;

/// A worker in session.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    pub(crate) incarnation: Incarnation,
    pub(crate) memory_mib: u64,
    pub(crate) free_memory_mib: u64,
    pub(crate) sandboxes: u32,
    pub(crate) runtimes: Vec<String>,
    /// It says so, or the operator wants it.
    pub(crate) draining: bool,
    /// What it was last told of the operator's wish in this session.
    pub(crate) told_to_drain: Option<bool>,
    /// When the newest report came.
    pub(crate) last_heard: MonotonicMs,
    pub(crate) pools: BTreeMap<PoolKey, PoolReport>,
    pub(crate) kept: BTreeMap<PoolKey, Kept>,
}

impl Worker {
    /// Invocations in flight, of all pools.
    fn in_flight(&self) -> u32 {
        self.pools.values().map(|pool| pool.in_flight).sum()
    }
}

/// Sandboxes a worker keeps for a version's provisioned concurrency.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Their init phase is over.
    pub(crate) ready: u32,
    pub(crate) starting: u32,
    /// Why the last try to make one failed.
    pub(crate) failure: Option<String>,
}

/// All workers in session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    workers: BTreeMap<NodeId, Worker>,
}

impl Observed {
    pub(crate) fn insert(&mut self, id: NodeId, worker: Worker) {
        self.workers.insert(id, worker);
    }

    pub(crate) fn remove(&mut self, id: NodeId) {
        self.workers.remove(&id);
    }

    pub(crate) fn worker(&self, id: NodeId) -> Option<&Worker> {
        self.workers.get(&id)
    }

    pub(crate) fn worker_mut(&mut self, id: NodeId) -> Option<&mut Worker> {
        self.workers.get_mut(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (NodeId, &Worker)> {
        self.workers.iter().map(|(id, worker)| (*id, worker))
    }

    /// Workers that were heard at `since` or later and take work.
    pub(super) fn available(&self, since: MonotonicMs) -> impl Iterator<Item = (NodeId, &Worker)> {
        self.iter()
            .filter(move |(_, w)| !w.draining && w.last_heard >= since)
    }

    /// Workers for `LeaderPermits::plan_grow`. Room is free memory; when nobody has any, everybody large
    /// enough counts, since a worker can end idle sandboxes of other functions to make room.
    pub(crate) fn candidates(&self, memory_mib: u32, since: MonotonicMs) -> Vec<Candidate> {
        let memory_mib = u64::from(memory_mib);
        let anyone_free = self
            .available(since)
            .any(|(_, w)| w.free_memory_mib >= memory_mib);
        let candidate = |(id, worker): (NodeId, &Worker)| Candidate {
            worker: id,
            incarnation: worker.incarnation,
            load: worker.in_flight(),
            can_make_room: worker.memory_mib >= memory_mib && worker.sandboxes > worker.in_flight(),
            // Filled in by `LeaderPermits`.
            idle_permits: 0,
            has_room: if anyone_free {
                worker.free_memory_mib >= memory_mib
            } else {
                worker.memory_mib >= memory_mib
            },
        };
        self.available(since).map(candidate).collect()
    }

    /// Workers that could prepare something.
    pub(crate) fn hosts(&self, since: MonotonicMs) -> Vec<Host> {
        self.available(since)
            .map(|(id, worker)| Host {
                worker: id,
                free_memory_mib: worker.free_memory_mib,
                memory_mib: worker.memory_mib,
                runtimes: worker.runtimes.clone(),
            })
            .collect()
    }
}
