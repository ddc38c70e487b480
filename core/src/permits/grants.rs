//! The replicated half: limits of pools and committed grants. Pure data; every operation is one effect of a
//! Raft entry and the same on every controller. When to propose what is in `leader` and `plan`.
//!
//! Invariants (checked by [`GrantTable::check`]): the sum of a pool's grants never rises above its limit;
//! it is above only right after the limit was lowered, and then can only fall. A grant belongs to the
//! registered incarnation of a worker. No grant is of size zero. Sequences only rise. The same holds of a pool and
//! the parts carved out of it taken together.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::as_pairs;
use super::carved::Carved;
use super::change::{GrantChange, GrantError, GrantOutcome};
use crate::ids::{AccountId, GrantSequence, Incarnation, NodeId, PoolKey};
use crate::name::FunctionName;
use crate::planted::{self, Bug};

/// A committed share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// Invocations the worker may have in flight; at least 1.
    pub n: u32,
    /// Log index of the entry that set it.
    pub sequence: GrantSequence,
    /// The life of the worker it was given to.
    pub incarnation: Incarnation,
}

/// A share that has to fall because a limit did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShrinkWanted {
    /// Whose share.
    pub worker: NodeId,
    /// Of what.
    pub pool: PoolKey,
    /// The size to fall to.
    pub n: u32,
    /// The grant as committed.
    pub base: GrantSequence,
}

/// A worker as the log knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Registration {
    incarnation: Incarnation,
    /// Declared dead by the operator. The record stays (24 bytes a dead worker, and node ids are not
    /// reused) so that a late message of the dead incarnation cannot register it again.
    forgotten: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Pool {
    limit: u32,
    /// Gone for the user; kept while a worker may still have a ceiling of it, so that a pool of the same
    /// name made meanwhile starts from what is really out there.
    retired: bool,
    grants: BTreeMap<NodeId, Granted>,
}

impl Pool {
    fn sum(&self) -> u64 {
        self.grants.values().map(|g| u64::from(g.n)).sum()
    }
    fn free(&self) -> u32 {
        let beyond = u64::from(self.limit) * u64::from(planted::is(Bug::GrantsAboveLimit));
        let free = (u64::from(self.limit) + beyond).saturating_sub(self.sum());
        u32::try_from(free).unwrap_or(u32::MAX)
    }
}

/// Limits and grants of all pools.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantTable {
    workers: BTreeMap<NodeId, Registration>,
    #[serde(with = "as_pairs")]
    pools: BTreeMap<PoolKey, Pool>,
    #[serde(default, skip_serializing_if = "Carved::is_empty")]
    carved: Carved,
    last_sequence: GrantSequence,
    /// Pools that disappeared since [`Self::take_gone`].
    #[serde(skip)]
    gone: Vec<PoolKey>,
}

impl GrantTable {
    /// Begins a worker's life: what earlier lives held is free at once, since the worker ended everything
    /// it ran before it registered. The same incarnation again changes nothing.
    pub fn register_worker(
        &mut self,
        worker: NodeId,
        incarnation: Incarnation,
        sequence: GrantSequence,
    ) -> Result<(), GrantError> {
        if let Some(known) = self.workers.get(&worker) {
            if known.incarnation == incarnation && !known.forgotten {
                return Ok(());
            }
            if known.incarnation >= incarnation {
                return Err(GrantError::StaleIncarnation);
            }
        }
        let registration = Registration {
            incarnation,
            forgotten: false,
        };
        self.workers.insert(worker, registration);
        self.drop_grants(worker, sequence);
        Ok(())
    }

    /// The operator's word that the worker is dead: its grants are free and it cannot come back in this life.
    pub fn forget_worker(
        &mut self,
        worker: NodeId,
        sequence: GrantSequence,
    ) -> Result<(), GrantError> {
        let known = self
            .workers
            .get_mut(&worker)
            .ok_or(GrantError::UnknownWorker)?;
        known.forgotten = true;
        self.drop_grants(worker, sequence);
        Ok(())
    }

    /// Makes a pool or changes its limit. A lower limit than what is granted takes effect as permits
    /// drain: the answer lists the shares that must fall, for the leader to ask the workers.
    pub fn set_limit(
        &mut self,
        pool: &PoolKey,
        limit: u32,
        sequence: GrantSequence,
    ) -> Vec<ShrinkWanted> {
        self.last_sequence = self.last_sequence.max(sequence);
        let entry = self.pools.entry(pool.clone()).or_default();
        entry.limit = limit;
        entry.retired = false;
        self.excess(pool)
    }

    /// As [`Self::set_limit`], of a pool carved out of another, whose limit the caller lowers by as much. Saying the
    /// same again changes nothing.
    pub fn set_part(
        &mut self,
        part: &PoolKey,
        whole: &PoolKey,
        limit: u32,
        sequence: GrantSequence,
    ) {
        self.carved.set(part, whole);
        let known = self.pools.get(part);
        if known.is_none_or(|pool| pool.retired || pool.limit != limit) {
            self.set_limit(part, limit, sequence);
        }
    }

    /// Takes a pool away. It disappears when its last grant does; the answer is as of [`Self::set_limit`].
    pub fn remove_pool(&mut self, pool: &PoolKey, sequence: GrantSequence) -> Vec<ShrinkWanted> {
        self.last_sequence = self.last_sequence.max(sequence);
        if let Some(entry) = self.pools.get_mut(pool) {
            entry.limit = 0;
            entry.retired = true;
        }
        let wanted = self.excess(pool);
        self.drop_if_done(pool);
        wanted
    }

    /// Applies one change of the entry at log index `sequence`.
    pub fn apply(
        &mut self,
        change: &GrantChange,
        sequence: GrantSequence,
    ) -> Result<GrantOutcome, GrantError> {
        self.last_sequence = self.last_sequence.max(sequence);
        match change {
            GrantChange::Grow {
                worker,
                pool,
                n,
                incarnation,
            } => self.grow(*worker, pool, *n, *incarnation, sequence),
            GrantChange::Shrink {
                worker,
                pool,
                n,
                base,
            } => self.lower(*worker, pool, *n, *base, sequence),
            GrantChange::Reclaim { worker, pool, base } => {
                self.lower(*worker, pool, 0, *base, sequence)
            }
        }
    }

    fn grow(
        &mut self,
        worker: NodeId,
        pool: &PoolKey,
        n: u32,
        incarnation: Incarnation,
        sequence: GrantSequence,
    ) -> Result<GrantOutcome, GrantError> {
        if self.incarnation(worker).ok_or(GrantError::UnknownWorker)? != incarnation {
            return Err(GrantError::StaleIncarnation);
        }
        let free = self.free(pool);
        let entry = self.pools.get_mut(pool).ok_or(GrantError::UnknownPool)?;
        let before = entry.grants.get(&worker);
        if before.is_some_and(|g| g.sequence >= sequence) {
            return Err(GrantError::StaleBase);
        }
        let has = before.map_or(0, |g| g.n);
        let more = n.checked_sub(has).ok_or(GrantError::WouldLower)?;
        if more > free {
            return Err(GrantError::OverLimit { free });
        }
        if n > 0 {
            let granted = Granted {
                n,
                sequence,
                incarnation,
            };
            entry.grants.insert(worker, granted);
        }
        Ok(GrantOutcome {
            worker,
            pool: pool.clone(),
            n,
            sequence,
            incarnation,
        })
    }

    fn lower(
        &mut self,
        worker: NodeId,
        pool: &PoolKey,
        n: u32,
        base: GrantSequence,
        sequence: GrantSequence,
    ) -> Result<GrantOutcome, GrantError> {
        let entry = self.pools.get_mut(pool).ok_or(GrantError::UnknownPool)?;
        let granted = entry.grants.get_mut(&worker).ok_or(GrantError::StaleBase)?;
        let is_of_base = granted.sequence == base || planted::is(Bug::ShrinkBaseIgnored);
        if !is_of_base || granted.sequence >= sequence {
            return Err(GrantError::StaleBase);
        }
        if n > granted.n {
            return Err(GrantError::WouldRaise);
        }
        granted.n = n;
        granted.sequence = sequence;
        let incarnation = granted.incarnation;
        if n == 0 {
            entry.grants.remove(&worker);
            self.drop_if_done(pool);
        }
        Ok(GrantOutcome {
            worker,
            pool: pool.clone(),
            n,
            sequence,
            incarnation,
        })
    }

    fn drop_grants(&mut self, worker: NodeId, sequence: GrantSequence) {
        self.last_sequence = self.last_sequence.max(sequence);
        let gone = &mut self.gone;
        self.pools.retain(|key, pool| {
            pool.grants.remove(&worker);
            let is_done = pool.retired && pool.grants.is_empty();
            if is_done {
                gone.push(key.clone());
            }
            !is_done
        });
        let pools = &self.pools;
        self.carved.retain(|part| pools.contains_key(part));
    }

    fn drop_if_done(&mut self, pool: &PoolKey) {
        if self
            .pools
            .get(pool)
            .is_some_and(|p| p.retired && p.grants.is_empty())
        {
            self.pools.remove(pool);
            self.carved.remove(pool);
            self.gone.push(pool.clone());
        }
    }

    /// Shares that must fall for the pool to meet its limit: units are taken from the largest share each
    /// time, of equal ones from the lowest node id, so that what is left stays spread.
    pub fn excess(&self, pool: &PoolKey) -> Vec<ShrinkWanted> {
        let Some(entry) = self.pools.get(pool) else {
            return Vec::new();
        };
        if entry.sum() <= u64::from(entry.limit) {
            return Vec::new();
        }
        let level = level(entry);
        let mut spare = u64::from(entry.limit).saturating_sub(
            entry
                .grants
                .values()
                .map(|g| u64::from(g.n.min(level)))
                .sum(),
        );
        let mut wanted = Vec::new();
        for (worker, granted) in entry.grants.iter().rev() {
            let mut n = granted.n.min(level);
            if granted.n > level && spare > 0 {
                n += 1;
                spare -= 1;
            }
            if n < granted.n {
                wanted.push(ShrinkWanted {
                    worker: *worker,
                    pool: pool.clone(),
                    n,
                    base: granted.sequence,
                });
            }
        }
        wanted.reverse();
        wanted
    }

    /// Pools that disappeared with their last grant since this was called before. Soft: not part of what is stored.
    pub fn take_gone(&mut self) -> Vec<PoolKey> {
        std::mem::take(&mut self.gone)
    }

    /// The registered life of a worker; `None` when it is unknown or forgotten.
    pub fn incarnation(&self, worker: NodeId) -> Option<Incarnation> {
        self.workers
            .get(&worker)
            .filter(|r| !r.forgotten)
            .map(|r| r.incarnation)
    }

    /// Whether a worker's life is known to be over: a newer one registered, or it was declared dead. `false`
    /// for a life that this table has not heard of yet.
    pub fn is_superseded(&self, worker: NodeId, incarnation: Incarnation) -> bool {
        self.workers.get(&worker).is_some_and(|known| {
            incarnation < known.incarnation || (known.forgotten && incarnation == known.incarnation)
        })
    }

    /// Every registered worker that is not forgotten.
    pub fn workers(&self) -> impl Iterator<Item = (NodeId, Incarnation)> + '_ {
        self.workers
            .iter()
            .filter(|(_, r)| !r.forgotten)
            .map(|(id, r)| (*id, r.incarnation))
    }

    /// A committed share.
    pub fn granted(&self, worker: NodeId, pool: &PoolKey) -> Option<Granted> {
        self.pools.get(pool)?.grants.get(&worker).copied()
    }

    /// Every share of a pool, by worker.
    pub fn shares(&self, pool: &PoolKey) -> impl Iterator<Item = (NodeId, Granted)> + '_ {
        let grants = self.pools.get(pool).map(|p| &p.grants);
        grants.into_iter().flatten().map(|(id, g)| (*id, *g))
    }

    /// Every pool with its limit, those being removed included.
    pub fn pools(&self) -> impl Iterator<Item = (&PoolKey, u32)> + '_ {
        self.pools.iter().map(|(key, pool)| (key, pool.limit))
    }

    /// Pools of provisioned concurrency of which something is free.
    pub fn unprovisioned(&self) -> impl Iterator<Item = &PoolKey> {
        self.carved.parts().filter(|pool| self.free(pool) > 0)
    }

    /// Every pool of provisioned concurrency.
    pub fn provisioned(&self) -> impl Iterator<Item = &PoolKey> {
        self.carved.parts()
    }

    /// Every pool that others are carved out of: what is granted of it and its parts together, and their limits.
    pub fn families(&self) -> Vec<(&PoolKey, u64, u64)> {
        let of = |whole: &'_ PoolKey| {
            let family = self.carved.family(whole)?;
            let members = || family.iter().filter_map(|key| self.pools.get(*key));
            let granted = members().map(Pool::sum).sum();
            let limits = members().map(|p| u64::from(p.limit)).sum();
            Some((granted, limits))
        };
        let wholes = self.carved.wholes();
        wholes
            .filter_map(|whole| of(whole).map(|(granted, limits)| (whole, granted, limits)))
            .collect()
    }

    /// The pools that are one function's own.
    pub fn pools_of(&self, account: &AccountId, function: &FunctionName) -> Vec<PoolKey> {
        let first = PoolKey::reserved(account, function);
        let pools = self.pools.range(&first..).map(|(key, _)| key);
        let is_own = |key: &&PoolKey| {
            key.account == first.account && key.function.as_ref() == first.function.as_ref()
        };
        pools.take_while(is_own).cloned().collect()
    }

    /// A pool's limit; `None` for an unknown pool.
    pub fn limit(&self, pool: &PoolKey) -> Option<u32> {
        self.pools.get(pool).map(|p| p.limit)
    }

    /// Permits of a pool that no worker holds, and that no worker holds of a pool it shares with.
    pub fn free(&self, pool: &PoolKey) -> u32 {
        let own = self.pools.get(pool).map_or(0, Pool::free);
        let Some(family) = self.carved.family(pool) else {
            return own;
        };
        let members = || family.iter().filter_map(|key| self.pools.get(*key));
        let limits: u64 = members().map(|p| u64::from(p.limit)).sum();
        let granted: u64 = members().map(Pool::sum).sum();
        let left = limits.saturating_sub(granted);
        own.min(u32::try_from(left).unwrap_or(u32::MAX))
    }

    /// Permits of a pool that workers hold.
    pub fn granted_sum(&self, pool: &PoolKey) -> u64 {
        self.pools.get(pool).map_or(0, Pool::sum)
    }

    /// Index of the newest entry that touched the table. A share that is absent is absent as of this index,
    /// and any later one has a higher sequence.
    pub fn last_sequence(&self) -> GrantSequence {
        self.last_sequence
    }

    /// Panics unless the table's own invariants hold; for tests and for a snapshot just read.
    pub fn check(&self) {
        for (key, pool) in &self.pools {
            assert!(
                !(pool.retired && pool.grants.is_empty()),
                "{key}: retired pool without grants"
            );
            for (worker, granted) in &pool.grants {
                assert!(granted.n > 0, "{key}: empty grant of {worker}");
                assert_eq!(
                    self.incarnation(*worker),
                    Some(granted.incarnation),
                    "{key}: grant of another life of {worker}"
                );
                assert!(
                    granted.sequence <= self.last_sequence,
                    "{key}: future grant"
                );
            }
        }
        for part in self.carved.parts() {
            assert!(self.pools.contains_key(part), "{part}: part without a pool");
        }
    }
}

/// The largest size such that shares cut to it fit the limit.
fn level(pool: &Pool) -> u32 {
    let fits = |level: u32| {
        pool.grants
            .values()
            .map(|g| u64::from(g.n.min(level)))
            .sum::<u64>()
            <= u64::from(pool.limit)
    };
    let (mut low, mut high) = (0, pool.limit);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if fits(middle) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    low
}

#[cfg(test)]
#[path = "grants_tests.rs"]
mod tests;
