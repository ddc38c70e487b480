//! Provisioned concurrency: spreads what is wanted over workers and says how it stands. A worker's grant of a version's
//! pool is its order to keep as many sandboxes; where the grants go is `hearth_core::permits`' to decide.

use std::collections::BTreeMap;

use hearth_core::function::Function;
use hearth_core::ids::{AccountId, MonotonicMs, NodeId, PoolKey, Version};
use hearth_core::name::FunctionName;
use hearth_core::permits::{GrantChange, GrantTable, Host};
use hearth_core::versions::ProvisionedStatus;

use super::observed::Observed;
use crate::leader::Term;
use crate::state::State;

/// What a version of a provisioned pool needs of a worker.
#[derive(Clone, Debug)]
struct Needs {
    runtime: Option<String>,
    memory_mib: u32,
}

fn needs(state: &State, pool: &PoolKey) -> Option<Needs> {
    let function = state
        .functions
        .function(&pool.account, pool.function.as_ref()?)?;
    let version = function.version(Version::Number(pool.provisioned?))?;
    Some(Needs {
        runtime: version.config.runtime.clone(),
        memory_mib: version.config.memory_mib,
    })
}

/// Memory of a worker that nothing has been promised of, MB.
#[derive(Clone, Copy, Debug, Default)]
struct Room {
    /// Not even to an idle sandbox.
    free_mib: u64,
    /// To nothing but idle and running sandboxes of other kinds, which make room.
    whole_mib: u64,
}

/// The rooms of all workers, less what provisioned shares take or are about to take of them.
fn rooms(state: &State, observed: &Observed, since: MonotonicMs) -> BTreeMap<NodeId, Room> {
    let mut rooms: BTreeMap<NodeId, Room> = observed
        .available(since)
        .map(|(id, worker)| {
            let room = Room {
                free_mib: worker.free_memory_mib,
                whole_mib: worker.memory_mib,
            };
            (id, room)
        })
        .collect();
    let table = state.grants.table();
    for pool in table.provisioned() {
        let Some(needs) = needs(state, pool) else {
            continue;
        };
        let memory_mib = u64::from(needs.memory_mib);
        for (worker, granted) in table.shares(pool) {
            let kept = observed.worker(worker).and_then(|w| w.kept.get(pool));
            let there = kept.map_or(0, |kept| kept.ready + kept.starting);
            let coming = u64::from(granted.n.saturating_sub(there)) * memory_mib;
            if let Some(room) = rooms.get_mut(&worker) {
                room.free_mib = room.free_mib.saturating_sub(coming);
                let all = u64::from(granted.n) * memory_mib;
                room.whole_mib = room.whole_mib.saturating_sub(all);
            }
        }
    }
    rooms
}

/// Workers for a version: by free memory, and if that does for nobody, by what others could make room for.
fn hosts(observed: &Observed, rooms: &BTreeMap<NodeId, Room>, needs: &Needs) -> Vec<Host> {
    let runtime = needs.runtime.as_ref();
    let suitable = || {
        let known = rooms.iter();
        known.filter_map(|(id, room)| {
            let worker = observed.worker(*id)?;
            let suits = runtime.is_none_or(|runtime| worker.runtimes.contains(runtime));
            suits.then_some((*id, worker.incarnation, *room))
        })
    };
    let needed = u64::from(needs.memory_mib);
    let anyone_free = suitable().any(|(_, _, room)| room.free_mib >= needed);
    suitable()
        .map(|(worker, incarnation, room)| Host {
            worker,
            incarnation,
            room_mib: if anyone_free {
                room.free_mib
            } else {
                room.whole_mib
            },
        })
        .collect()
}

/// Why nothing of a pool could be placed although workers are there.
fn lacking(needs: &Needs, hosts: &[Host]) -> String {
    if hosts.is_empty() {
        let runtime = needs.runtime.as_deref().unwrap_or_default();
        return format!("No worker has the runtime {runtime}.");
    }
    format!(
        "No worker has {} MB of memory for another sandbox.",
        needs.memory_mib
    )
}

/// How a version's provisioned concurrency stands.
fn status(
    table: &GrantTable,
    observed: &Observed,
    pool: &PoolKey,
    since: MonotonicMs,
) -> ProvisionedStatus {
    let mut status = ProvisionedStatus {
        allocated: 0,
        available: 0,
        failure: None,
    };
    for (id, granted) in table.shares(pool) {
        let heard = observed.worker(id).filter(|w| w.last_heard >= since);
        let Some(worker) = heard else {
            continue;
        };
        status.allocated = status.allocated.saturating_add(granted.n);
        if let Some(kept) = worker.kept.get(pool) {
            let ready = kept.ready.min(granted.n);
            status.available = status.available.saturating_add(ready);
            status.failure = status.failure.or_else(|| kept.failure.clone());
        }
    }
    status
}

impl Term {
    /// Gives what is free of provisioned pools to workers.
    pub(super) fn provision(&mut self) {
        let now = self.now();
        let since = self.heard_since(now);
        let (permits, observed) = (&mut self.permits, &self.observed);
        let mut unplaced = BTreeMap::new();
        let changes = self.deps.consensus.read(|m| {
            let state = m.state();
            let table = state.grants.table();
            let mut free = table.unprovisioned().peekable();
            if free.peek().is_none() {
                return Vec::new();
            }
            let mut rooms = rooms(state, observed, since);
            let mut all = Vec::new();
            for pool in free {
                let Some(needs) = needs(state, pool) else {
                    continue;
                };
                let mut hosts = hosts(observed, &rooms, &needs);
                let before = hosts.clone();
                let changes =
                    permits.plan_provision(table, pool, needs.memory_mib, &mut hosts, now);
                for was in &before {
                    let Some(host) = hosts.iter().find(|h| h.worker == was.worker) else {
                        continue;
                    };
                    let taken = was.room_mib - host.room_mib;
                    if let Some(room) = rooms.get_mut(&host.worker) {
                        room.free_mib = room.free_mib.saturating_sub(taken);
                        room.whole_mib = room.whole_mib.saturating_sub(taken);
                    }
                }
                let has_room = |host: &Host| host.room_mib >= u64::from(needs.memory_mib);
                if changes.is_empty() && !rooms.is_empty() && !before.iter().any(has_room) {
                    unplaced.insert(pool.clone(), lacking(&needs, &before));
                }
                all.extend(changes);
            }
            all
        });
        self.unplaced = unplaced;
        if !changes.is_empty() {
            let shares: Vec<String> = changes.iter().map(shown).collect();
            tracing::info!(?shares, "provisioned concurrency is given to workers");
        }
        self.push_commits(changes);
    }

    /// Has provisioned concurrency moved that lies unevenly. Its shrinks are planned with all others.
    pub(crate) fn even_out(&mut self) {
        let now = self.now();
        let since = self.heard_since(now);
        let (permits, observed) = (&mut self.permits, &self.observed);
        self.deps.consensus.read(|m| {
            let state = m.state();
            let table = state.grants.table();
            let rooms = rooms(state, observed, since);
            for pool in table.provisioned() {
                if let Some(needs) = needs(state, pool) {
                    let hosts = hosts(observed, &rooms, &needs);
                    permits.plan_even(table, pool, needs.memory_mib, &hosts, now);
                }
            }
        });
    }

    /// How a function's provisioned concurrency stands, by version.
    pub(crate) fn provisioned_status(
        &self,
        account: &AccountId,
        name: &FunctionName,
    ) -> BTreeMap<u64, ProvisionedStatus> {
        let since = self.heard_since(self.now());
        self.deps.consensus.read(|m| {
            let state = m.state();
            let function = state.functions.function(account, name);
            let wanted = function.map_or_else(BTreeMap::new, Function::provisioned_by_version);
            let of = |version: u64| {
                let pool = PoolKey::provisioned(account, name, version);
                let mut status = status(state.grants.table(), &self.observed, &pool, since);
                if status.failure.is_none() {
                    status.failure = self.unplaced.get(&pool).cloned();
                }
                (version, status)
            };
            wanted.into_keys().map(of).collect()
        })
    }
}

fn shown(change: &GrantChange) -> String {
    let (worker, pool) = change.key();
    match change {
        GrantChange::Grow { n, .. } => format!("{pool}: {n} on {worker}"),
        GrantChange::Shrink { .. } | GrantChange::Reclaim { .. } => format!("{pool} on {worker}"),
    }
}
