//! Workers as the cluster was told of them. What they hold is in `grants`; what runs on them is soft state.

use std::collections::{BTreeMap, BTreeSet};

use hearth_core::ids::{Incarnation, NodeId};
use serde::{Deserialize, Serialize};

use super::command::{Registration, Role};

/// A worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// As it registered.
    pub registration: Registration,
    /// Whether the leader heard it lately; gateways send it nothing otherwise.
    pub reachable: bool,
    /// It finishes and takes no more.
    pub draining: bool,
}

/// All workers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nodes {
    workers: BTreeMap<NodeId, Worker>,
    /// Nodes that the operator wants to drain; a node that comes back drains still.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    drains: BTreeSet<(Role, NodeId)>,
}

/// Wishes kept: far more nodes than a cluster has.
const DRAINS_MAX: usize = 16_384;

impl Nodes {
    pub(super) fn register(&mut self, id: NodeId, registration: Registration) {
        let worker = Worker {
            registration,
            reachable: true,
            draining: false,
        };
        self.workers.insert(id, worker);
    }

    /// Whether this changed anything.
    pub(super) fn set_health(
        &mut self,
        id: NodeId,
        incarnation: Incarnation,
        reachable: bool,
        draining: bool,
    ) -> bool {
        let Some(worker) = self
            .workers
            .get_mut(&id)
            .filter(|w| w.registration.incarnation == incarnation)
        else {
            return false;
        };
        let changed = (worker.reachable, worker.draining) != (reachable, draining);
        worker.reachable = reachable;
        worker.draining = draining;
        changed
    }

    pub(super) fn forget(&mut self, id: NodeId) -> bool {
        self.drains.remove(&(Role::Worker, id));
        self.workers.remove(&id).is_some()
    }

    /// Whether this changed anything. Beyond the limit on wishes nothing is noted.
    pub(super) fn set_drain(&mut self, role: Role, id: NodeId, drain: bool) -> bool {
        if drain {
            self.drains.len() < DRAINS_MAX && self.drains.insert((role, id))
        } else {
            self.drains.remove(&(role, id))
        }
    }

    /// Whether the operator wants a node to drain.
    pub fn is_drain_wanted(&self, role: Role, id: NodeId) -> bool {
        self.drains.contains(&(role, id))
    }

    /// A worker.
    pub fn worker(&self, id: NodeId) -> Option<&Worker> {
        self.workers.get(&id)
    }

    /// All workers by id.
    pub fn workers(&self) -> impl Iterator<Item = (NodeId, &Worker)> {
        self.workers.iter().map(|(id, worker)| (*id, worker))
    }
}
