//! What workers say of themselves: soft, of this leader alone, rebuilt from reports after a fail-over.

use std::collections::{BTreeMap, BTreeSet};

use hearth_core::ids::{Incarnation, MonotonicMs, NodeId, PoolKey};
use hearth_core::permits::{Candidate, PoolReport};

use super::plan::Host;

/// "A pool with more than one permit is granted to at least two workers" (`hearth_core::permits`).
const HOLDERS_MIN: usize = 2;

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
    /// As reported; changed by [`Observed::on_pools`] alone.
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

/// All workers in session, in the order in which they are given work.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    workers: BTreeMap<NodeId, Worker>,
    /// Invocations in flight as reported, and what was given since: else all that is decided between two reports would go
    /// to one worker.
    loads: BTreeMap<NodeId, u32>,
    /// Follows from `loads`.
    by_load: BTreeSet<(u32, NodeId)>,
}

impl Observed {
    pub(crate) fn insert(&mut self, id: NodeId, worker: Worker) {
        self.set_load(id, Some(worker.in_flight()));
        self.workers.insert(id, worker);
    }

    pub(crate) fn remove(&mut self, id: NodeId) {
        self.workers.remove(&id);
        self.set_load(id, None);
    }

    fn set_load(&mut self, id: NodeId, load: Option<u32>) {
        let before = match load {
            Some(load) => self.loads.insert(id, load),
            None => self.loads.remove(&id),
        };
        if let Some(before) = before {
            self.by_load.remove(&(before, id));
        }
        if let Some(load) = load {
            self.by_load.insert((load, id));
        }
    }

    /// A worker reported its pools.
    pub(crate) fn on_pools(&mut self, id: NodeId, pools: BTreeMap<PoolKey, PoolReport>) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.pools = pools;
            let load = worker.in_flight();
            self.set_load(id, Some(load));
        }
    }

    /// A worker is about to get so many permits more.
    pub(crate) fn on_given(&mut self, id: NodeId, permits: u32) {
        if let Some(load) = self.loads.get(&id) {
            let load = load.saturating_add(permits);
            self.set_load(id, Some(load));
        }
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
        self.iter().filter(move |(_, w)| is_available(w, since))
    }

    /// Workers for `LeaderPermits::plan_grow`: `holders`, which have permits already, and up to `others` of those with room,
    /// the least loaded first. Room is free memory; when nobody has any, everybody large enough has, since a worker can end
    /// idle sandboxes of other functions to make room.
    pub(crate) fn candidates(
        &self,
        memory_mib: u32,
        since: MonotonicMs,
        holders: impl IntoIterator<Item = NodeId>,
        others: usize,
    ) -> Vec<Candidate> {
        let memory_mib = u64::from(memory_mib);
        let is_free = |w: &Worker| w.free_memory_mib >= memory_mib;
        let is_large = |w: &Worker| w.memory_mib >= memory_mib;
        let mut chosen: BTreeMap<NodeId, &Worker> = self
            .least_loaded(since)
            .filter(|(_, w)| is_free(w))
            .take(others)
            .collect();
        let anyone_free = !chosen.is_empty();
        // One with room and no other: a crowded one may still be the second holder.
        if chosen.len() < HOLDERS_MIN.min(others) {
            let large = self.least_loaded(since).filter(|(_, w)| is_large(w));
            let lacking = if anyone_free { HOLDERS_MIN } else { others };
            chosen.extend(large.take(lacking));
        }
        let held = holders.into_iter().filter_map(|id| {
            let worker = self.workers.get(&id)?;
            is_available(worker, since).then_some((id, worker))
        });
        chosen.extend(held);
        let candidate = |(worker, observed): (NodeId, &Worker)| Candidate {
            worker,
            incarnation: observed.incarnation,
            load: self.loads.get(&worker).copied().unwrap_or(0),
            can_make_room: is_large(observed) && observed.sandboxes > observed.in_flight(),
            // Filled in by `LeaderPermits`.
            idle_permits: 0,
            has_room: if anyone_free {
                is_free(observed)
            } else {
                is_large(observed)
            },
        };
        chosen.into_iter().map(candidate).collect()
    }

    fn least_loaded(&self, since: MonotonicMs) -> impl Iterator<Item = (NodeId, &Worker)> {
        let ordered = self.by_load.iter();
        let known = ordered.filter_map(|(_, id)| Some((*id, self.workers.get(id)?)));
        known.filter(move |(_, worker)| is_available(worker, since))
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

/// Heard at `since` or later, and takes work.
fn is_available(worker: &Worker, since: MonotonicMs) -> bool {
    !worker.draining && worker.last_heard >= since
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_core::ids::GrantSequence;

    const NOW: MonotonicMs = MonotonicMs(1_000);

    fn pool() -> PoolKey {
        PoolKey::unreserved(&"123456789012".parse().unwrap())
    }

    fn pools(in_flight: u32) -> BTreeMap<PoolKey, PoolReport> {
        let report = PoolReport {
            ceiling: 9,
            in_flight,
            sequence: GrantSequence(1),
        };
        BTreeMap::from([(pool(), report)])
    }

    /// Workers 1, 2, ... with so much free of 1,000 MB.
    fn observed(free: &[u64]) -> Observed {
        let mut observed = Observed::default();
        for (id, free_memory_mib) in (1..).zip(free) {
            let worker = Worker {
                incarnation: Incarnation(1),
                memory_mib: 1_000,
                free_memory_mib: *free_memory_mib,
                sandboxes: 0,
                runtimes: Vec::new(),
                draining: false,
                told_to_drain: None,
                last_heard: NOW,
                pools: BTreeMap::new(),
                kept: BTreeMap::new(),
            };
            observed.insert(NodeId(id), worker);
        }
        observed
    }

    fn chosen(observed: &Observed, holders: &[u64], others: usize) -> Vec<(u64, bool)> {
        let holders = holders.iter().map(|id| NodeId(*id));
        let candidates = observed.candidates(128, NOW, holders, others);
        let shown = candidates.iter().map(|c| (c.worker.0, c.has_room));
        shown.collect()
    }

    #[test]
    fn the_least_loaded_with_room_and_all_holders_are_candidates() {
        let mut observed = observed(&[500, 500, 500, 100, 500]);
        observed.on_pools(NodeId(1), pools(7));
        observed.on_pools(NodeId(2), pools(1));
        assert_eq!(chosen(&observed, &[], 2), [(3, true), (5, true)]);
        assert_eq!(chosen(&observed, &[4, 77], 1), [(3, true), (4, false)]);
        observed.remove(NodeId(3));
        observed.worker_mut(NodeId(5)).unwrap().draining = true;
        assert_eq!(chosen(&observed, &[], 9), [(1, true), (2, true)]);
    }

    #[test]
    fn what_is_given_counts_until_the_next_report() {
        let mut observed = observed(&[500, 500, 500]);
        let mut order = Vec::new();
        for _ in 0..6 {
            let (id, _) = chosen(&observed, &[], 1)[0];
            observed.on_given(NodeId(id), 1);
            order.push(id);
        }
        assert_eq!(order, [1, 2, 3, 1, 2, 3]);
        observed.on_pools(NodeId(2), pools(0));
        assert_eq!(chosen(&observed, &[], 1), [(2, true)]);
    }

    #[test]
    fn when_nobody_has_memory_free_all_that_are_large_enough_have_room() {
        let observed = observed(&[100, 0]);
        assert_eq!(chosen(&observed, &[], 9), [(1, true), (2, true)]);
    }
}
