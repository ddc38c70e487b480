//! Looks at every controller's copy of the state whenever it has applied more.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use hearth_controller::state::State;

use super::hosts::Slot;
use crate::invariants::{
    grants_never_exceed_limits_in_any_replica, replicas_of_the_same_log_are_equal,
};
use crate::ledger::Seen;

#[derive(Debug, Default)]
struct Replica {
    slot: Slot,
    life: u64,
    applied: u64,
    hash: u64,
    last: grants_never_exceed_limits_in_any_replica::Last,
}

/// All controllers.
#[derive(Debug, Default)]
pub(crate) struct Replicas {
    by_name: BTreeMap<String, Replica>,
    limits: grants_never_exceed_limits_in_any_replica::Limits,
    known: replicas_of_the_same_log_are_equal::ByIndex,
}

fn hash_of(state: &State) -> u64 {
    // With fixed keys: the same in every process.
    let mut hasher = DefaultHasher::new();
    serde_json::to_string(state)
        .unwrap_or_default()
        .hash(&mut hasher);
    hasher.finish()
}

fn pools_of(state: &State) -> Vec<grants_never_exceed_limits_in_any_replica::Pool> {
    let table = state.grants.table();
    let single = table
        .pools()
        .map(|(pool, limit)| (pool.to_string(), table.granted_sum(pool), u64::from(limit)));
    let together = table
        .families()
        .into_iter()
        .map(|(pool, sum, limit)| (format!("{pool} with its parts"), sum, limit));
    single.chain(together).collect()
}

impl Replicas {
    pub(crate) fn add(&mut self, name: &str, slot: Slot) {
        let replica = Replica {
            slot,
            ..Replica::default()
        };
        self.by_name.insert(name.to_owned(), replica);
    }

    /// After a step.
    pub(crate) fn look(&mut self, seen: &mut Seen, now: u64) {
        for (name, replica) in &mut self.by_name {
            let inside = replica.slot.inside();
            if inside.lives != replica.life {
                // It may have crashed and started since the last look, with less applied than before.
                replica.life = inside.lives;
                replica.applied = 0;
                replica.last = Default::default();
            }
            let Some(controller) = &inside.controller else {
                continue;
            };
            let applied = controller.inspect(|applied, _| applied);
            if applied == replica.applied {
                continue;
            }
            let (hash, pools) = controller.inspect(|_, state| (hash_of(state), pools_of(state)));
            replica.applied = applied;
            replica.hash = hash;
            replicas_of_the_same_log_are_equal::on_applied(
                seen,
                name,
                applied,
                hash,
                &mut self.known,
                now,
            );
            grants_never_exceed_limits_in_any_replica::on_applied(
                seen,
                name,
                applied,
                &pools,
                &mut replica.last,
                &mut self.limits,
                now,
            );
        }
    }

    /// Whether all have applied the same.
    pub(crate) fn are_equal(&self) -> bool {
        let mut states = self.by_name.values().map(|r| (r.applied, r.hash));
        let first = states.next();
        states.all(|state| Some(state) == first)
    }

    pub(crate) fn describe(&self) -> String {
        let each = self.by_name.iter();
        let each: Vec<_> = each
            .map(|(name, r)| format!("{name} at {}", r.applied))
            .collect();
        each.join(", ")
    }
}
