//! Which workers hold permits of which pool, so that a line need not look at all workers to find them. Soft, from the
//! workers' reports and the leader's word; what each holds is in `tables`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hearth_core::ids::{NodeId, PoolKey};
use hearth_core::versions::Pools;

use super::worker::Worker;

/// Holders of a pool, and workers of any kind, that a line looks at in one turn. Far more than a cold start needs to find
/// a good place; each turn looks at others.
const HOLDERS_LOOKED_AT: usize = 48;
const OTHERS_LOOKED_AT: usize = 24;

type ById = BTreeMap<NodeId, Arc<Worker>>;

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    pools: Mutex<HashMap<PoolKey, ById>>,
}

impl Holders {
    fn pools(&self) -> MutexGuard<'_, HashMap<PoolKey, ById>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker has come to hold permits of a pool.
    pub(crate) fn on_gained(&self, pool: &PoolKey, worker: &Arc<Worker>) {
        let mut pools = self.pools();
        let holders = pools.entry(pool.clone()).or_default();
        holders.insert(worker.id, Arc::clone(worker));
    }

    /// A worker holds none of these any more.
    pub(crate) fn on_lost(&self, lost: impl IntoIterator<Item = PoolKey>, worker: &Worker) {
        let mut pools = self.pools();
        for pool in lost {
            let Some(holders) = pools.get_mut(&pool) else {
                continue;
            };
            // Another life of the worker may hold some.
            if holders
                .get(&worker.id)
                .is_some_and(|w| std::ptr::eq(&**w, worker))
            {
                holders.remove(&worker.id);
            }
            if holders.is_empty() {
                pools.remove(&pool);
            }
        }
    }

    /// All that hold permits of these.
    pub(crate) fn of(&self, pools: &Pools) -> Vec<Arc<Worker>> {
        let known = self.pools();
        let holders = pools.iter().filter_map(|pool| known.get(pool));
        let all: ById = holders
            .flatten()
            .map(|(id, w)| (*id, Arc::clone(w)))
            .collect();
        all.into_values().collect()
    }

    /// Workers to look at for an invocation that draws from `pools`: those that hold permits, and some of all. `turn` says
    /// where to begin.
    pub(crate) fn nearby(&self, pools: &Pools, all: &[Arc<Worker>], turn: u64) -> Vec<Arc<Worker>> {
        let mut nearby = Vec::new();
        if all.len() > HOLDERS_LOOKED_AT + OTHERS_LOOKED_AT {
            let known = self.pools();
            for holders in pools.iter().filter_map(|pool| known.get(pool)) {
                let first = at(turn, holders.len());
                let around = holders.values().cycle().skip(first);
                let looked_at = holders.len().min(HOLDERS_LOOKED_AT);
                nearby.extend(around.take(looked_at).cloned());
            }
            drop(known);
            let around = all.iter().cycle().skip(at(turn, all.len()));
            nearby.extend(around.take(OTHERS_LOOKED_AT).cloned());
        } else {
            nearby.extend_from_slice(all);
        }
        nearby
    }
}

/// A place among so many, uniform enough.
fn at(turn: u64, count: usize) -> usize {
    usize::try_from(turn % (count.max(1) as u64)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_core::ids::Incarnation;

    fn workers(count: u64) -> Vec<Arc<Worker>> {
        let worker = |id| Arc::new(Worker::new(NodeId(id), Incarnation(1), String::new()));
        (1..=count).map(worker).collect()
    }

    fn pools() -> Pools {
        let account = "000000000000".parse().unwrap();
        Pools {
            provisioned: None,
            on_demand: PoolKey::reserved(&account, &"f".parse().unwrap()),
        }
    }

    fn ids(workers: &[Arc<Worker>]) -> Vec<u64> {
        workers.iter().map(|worker| worker.id.0).collect()
    }

    #[test]
    fn of_few_workers_all_are_looked_at() {
        let all = workers(72);
        assert_eq!(
            ids(&Holders::default().nearby(&pools(), &all, 7)),
            ids(&all)
        );
    }

    #[test]
    fn of_many_workers_the_holders_and_some_others_in_turn_are_looked_at() {
        let (holders, all, pool) = (Holders::default(), workers(1_000), pools().on_demand);
        holders.on_gained(&pool, &all[899]);
        let nearby = holders.nearby(&pools(), &all, 7);
        assert_eq!((nearby.len(), nearby[0].id.0), (1 + OTHERS_LOOKED_AT, 900));
        assert_eq!(nearby[1].id.0, 8);
        assert_eq!(ids(&holders.of(&pools())), [900]);
        holders.on_lost([pool.clone()], &workers(900)[899]);
        assert_eq!(
            holders.nearby(&pools(), &all, 7).len(),
            nearby.len(),
            "another life"
        );
        holders.on_lost([pool.clone()], &all[899]);
        assert_eq!(holders.nearby(&pools(), &all, 7).len(), OTHERS_LOOKED_AT);
        for worker in &all {
            holders.on_gained(&pool, worker);
        }
        let nearby = holders.nearby(&pools(), &all, 999);
        assert_eq!(nearby.len(), HOLDERS_LOOKED_AT + OTHERS_LOOKED_AT);
        assert_eq!(ids(&nearby)[..2], [1_000, 1]);
    }
}
