//! What a gateway knows of one worker: soft facts from its load reports, moved on by what this gateway has sent and
//! got since. Absolute values of a report always win. Nothing is decided here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use hearth_core::ids::{NodeId, PoolKey};
use hearth_core::placement::Room;
use hearth_core::rate::Others;
use hearth_core::standing::Standing;
use hearth_core::versions::Pools;

/// A worker's share of a pool.
#[derive(Debug, Default)]
pub(crate) struct PoolSlot {
    ceiling: AtomicU32,
    in_flight: AtomicU32,
    /// The worker itself said that it has no permit left, and has not reported since.
    exhausted: AtomicBool,
    /// Invocations of this gateway that the worker took or may have taken.
    own: AtomicU64,
    others: Mutex<Others>,
}

/// Takes one off, not below zero.
fn decrement(counter: &AtomicU32) {
    let _ = counter.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1));
}

impl PoolSlot {
    /// Permits not in use, as far as known.
    pub(crate) fn free(&self) -> u32 {
        self.ceiling
            .load(Relaxed)
            .saturating_sub(self.in_flight.load(Relaxed))
    }

    /// Whether a permit may be free although the tables say no: they may be a report behind, and the worker has the
    /// last word. It has said it when it refused; until its next report it is not asked again.
    pub(crate) fn may_be_free(&self) -> bool {
        self.ceiling.load(Relaxed) > 0 && !self.exhausted.load(Relaxed)
    }

    /// Whether the worker refused for want of a permit since its last report.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.exhausted.load(Relaxed)
    }

    /// An invocation was sent.
    pub(crate) fn on_sent(&self) {
        self.in_flight.fetch_add(1, Relaxed);
        self.own.fetch_add(1, Relaxed);
    }

    /// The invocation that was sent was not admitted.
    pub(crate) fn on_not_admitted(&self) {
        let _ = self
            .own
            .fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1));
    }

    /// The worker has admitted so many in all: how many of other gateways are new.
    pub(crate) fn on_admitted(&self, admitted: u64) -> u64 {
        let own = self.own.load(Relaxed);
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.on_report(admitted, own)
    }

    /// An invocation ended or was refused.
    pub(crate) fn on_ended(&self) {
        decrement(&self.in_flight);
    }

    /// The worker says that it has no permit left.
    pub(crate) fn on_exhausted(&self) {
        self.exhausted.store(true, Relaxed);
        self.in_flight
            .fetch_max(self.ceiling.load(Relaxed), Relaxed);
    }
}

/// The tables of one worker. Counters are read and written by many tasks without a lock: each is a hint.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    connected: AtomicBool,
    /// The worker says that it drains.
    draining: AtomicBool,
    /// The catalog says so.
    draining_by_word: AtomicBool,
    /// The catalog names it no more.
    unlisted: AtomicBool,
    /// See [`Tables::standing`].
    standing: AtomicU8,
    free_memory_mib: AtomicU64,
    /// Of idle sandboxes, which give way.
    idle_memory_mib: AtomicU64,
    start_budget: AtomicU32,
    /// Invocations in flight there: as reported, and what this gateway sent and got since.
    load: AtomicU32,
    /// Invocations of this gateway in flight there.
    own_in_flight: AtomicU32,
    pools: ArcSwap<HashMap<PoolKey, Arc<PoolSlot>>>,
}

/// Pools whose permits a worker has come to hold, or holds no more.
#[derive(Clone, Debug, Default)]
pub(crate) struct Moved {
    pub(crate) gained: Vec<PoolKey>,
    pub(crate) lost: Vec<PoolKey>,
}

/// A load report's facts about the worker as a whole.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) free_memory_mib: u64,
    pub(crate) idle_memory_mib: u64,
    pub(crate) start_budget: u32,
    pub(crate) draining: bool,
    /// Pool, ceiling, in flight.
    pub(crate) pools: Vec<(PoolKey, u32, u32)>,
    pub(crate) complete: bool,
}

impl Tables {
    /// Takes a report over. Returns pools of which the worker now holds permits and did not, and the other way round.
    pub(crate) fn on_report(&self, report: Report) -> Moved {
        self.free_memory_mib.store(report.free_memory_mib, Relaxed);
        self.idle_memory_mib.store(report.idle_memory_mib, Relaxed);
        self.start_budget.store(report.start_budget, Relaxed);
        self.draining.store(report.draining, Relaxed);
        let mut moved = Moved::default();
        let known = self.pools.load();
        let is_new = |key: &PoolKey| !known.contains_key(key);
        if report.complete || report.pools.iter().any(|(key, ..)| is_new(key)) {
            let mut pools = if report.complete {
                HashMap::new()
            } else {
                HashMap::clone(&known)
            };
            for (key, ..) in &report.pools {
                let slot = known.get(key).cloned().unwrap_or_default();
                pools.insert(key.clone(), slot);
            }
            if report.complete {
                let left = known.iter().filter(|(key, _)| !pools.contains_key(*key));
                let held = left.filter(|(_, slot)| slot.ceiling.load(Relaxed) > 0);
                moved.lost.extend(held.map(|(key, _)| key.clone()));
            }
            self.pools.store(Arc::new(pools));
        }
        let pools = self.pools.load();
        for (key, ceiling, in_flight) in report.pools {
            if let Some(slot) = pools.get(&key) {
                match (slot.ceiling.swap(ceiling, Relaxed), ceiling) {
                    (0, 1..) => moved.gained.push(key),
                    (1.., 0) => moved.lost.push(key),
                    _ => {}
                }
                slot.in_flight.store(in_flight, Relaxed);
                slot.exhausted.store(false, Relaxed);
            }
        }
        if report.complete {
            let in_flight = pools
                .values()
                .map(|slot| slot.in_flight.load(Relaxed))
                .sum();
            self.load.store(in_flight, Relaxed);
        }
        moved
    }

    /// The worker is reachable or not. What was known of one that is not is void; returns the pools this was of.
    pub(crate) fn set_connected(&self, connected: bool) -> Vec<PoolKey> {
        self.connected.store(connected, Relaxed);
        let mut lost = Vec::new();
        if !connected {
            lost.extend(self.pools.load().keys().cloned());
            self.free_memory_mib.store(0, Relaxed);
            self.idle_memory_mib.store(0, Relaxed);
            self.start_budget.store(0, Relaxed);
            self.load.store(0, Relaxed);
            self.pools.store(Arc::default());
        }
        lost
    }

    /// The catalog says that the worker drains.
    pub(crate) fn set_draining(&self, draining: bool) {
        self.draining_by_word.store(draining, Relaxed);
    }

    /// The catalog names the worker, or does not.
    pub(crate) fn set_listed(&self, listed: bool) {
        self.unlisted.store(!listed, Relaxed);
    }

    /// Whether the catalog names the worker.
    pub(crate) fn is_listed(&self) -> bool {
        !self.unlisted.load(Relaxed)
    }

    /// How the worker keeps up has changed.
    pub(crate) fn set_standing(&self, standing: Standing) {
        let number = match standing {
            Standing::Well => 0,
            Standing::Probing => 1,
            Standing::Ejected => 2,
        };
        self.standing.store(number, Relaxed);
    }

    /// How the worker keeps up.
    pub(crate) fn standing(&self) -> Standing {
        match self.standing.load(Relaxed) {
            0 => Standing::Well,
            1 => Standing::Probing,
            _ => Standing::Ejected,
        }
    }

    /// Connected, and not ejected.
    pub(crate) fn is_trusted(&self) -> bool {
        self.is_connected() && self.standing() != Standing::Ejected
    }

    /// An invocation was sent.
    pub(crate) fn on_sent(&self) {
        self.load.fetch_add(1, Relaxed);
        self.own_in_flight.fetch_add(1, Relaxed);
    }

    /// An invocation ended, was refused or given up.
    pub(crate) fn on_ended(&self) {
        decrement(&self.load);
        decrement(&self.own_in_flight);
    }

    /// Sandboxes were asked for: they are no longer room for others.
    pub(crate) fn on_start_asked(&self, memory_mib: u32) {
        decrement(&self.start_budget);
        let needed = u64::from(memory_mib);
        let take = |counter: &AtomicU64, mib: u64| {
            let less = |free: u64| Some(free.saturating_sub(mib));
            let before = counter.fetch_update(Relaxed, Relaxed, less);
            mib.saturating_sub(before.unwrap_or(0))
        };
        // Idle sandboxes give way for what is not free.
        let lacking = take(&self.free_memory_mib, needed);
        take(&self.idle_memory_mib, lacking);
    }

    /// The leader says that the worker holds permits of the pool now; its own report follows.
    pub(crate) fn on_granted(&self, pool: &PoolKey) {
        let slot = self.pool(pool).unwrap_or_else(|| {
            let slot = Arc::new(PoolSlot::default());
            let mut pools = HashMap::clone(&self.pools.load());
            pools.insert(pool.clone(), Arc::clone(&slot));
            self.pools.store(Arc::new(pools));
            slot
        });
        slot.exhausted.store(false, Relaxed);
        if slot.free() == 0 {
            slot.ceiling
                .store(slot.in_flight.load(Relaxed) + 1, Relaxed);
        }
    }

    /// The worker's share of a pool.
    pub(crate) fn pool(&self, pool: &PoolKey) -> Option<Arc<PoolSlot>> {
        self.pools.load().get(pool).cloned()
    }

    /// The pool that an invocation sent now will probably draw from: the worker takes the first with a permit.
    pub(crate) fn drawn_from(&self, pools: &Pools) -> Option<Arc<PoolSlot>> {
        let slots = || pools.iter().filter_map(|pool| self.pool(pool));
        slots()
            .find(|slot| slot.free() > 0)
            .or_else(|| slots().last())
    }

    /// Free permits of pools, together.
    pub(crate) fn permits_free(&self, pools: &Pools) -> u32 {
        let known = self.pools.load();
        let slots = pools.iter().filter_map(|pool| known.get(pool));
        slots.map(|slot| slot.free()).fold(0, u32::saturating_add)
    }

    /// See [`PoolSlot::may_be_free`].
    pub(crate) fn may_be_free(&self, pools: &Pools) -> bool {
        let known = self.pools.load();
        let mut slots = pools.iter().filter_map(|pool| known.get(pool));
        slots.any(|slot| slot.may_be_free())
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connected.load(Relaxed)
    }

    /// Whether it has said how it stands.
    pub(crate) fn is_reported(&self) -> bool {
        self.free_memory_mib.load(Relaxed) > 0 || !self.pools.load().is_empty()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed) || self.draining_by_word.load(Relaxed)
    }

    pub(crate) fn load(&self) -> u32 {
        self.load.load(Relaxed)
    }

    pub(crate) fn own_in_flight(&self) -> u32 {
        self.own_in_flight.load(Relaxed)
    }

    /// Room for cold starts.
    pub(crate) fn room(&self, worker: NodeId, code_cached: bool) -> Room {
        Room {
            worker,
            free_memory_mib: self.free_memory_mib.load(Relaxed),
            idle_memory_mib: self.idle_memory_mib.load(Relaxed),
            start_budget: self.start_budget.load(Relaxed),
            code_cached,
            draining: self.is_draining(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> PoolKey {
        PoolKey {
            account: "000000000000".parse().unwrap(),
            function: None,
            provisioned: None,
        }
    }

    fn pools() -> Pools {
        Pools {
            provisioned: None,
            on_demand: pool(),
        }
    }

    #[test]
    fn provisioned_permits_count_and_are_drawn_first() {
        let tables = Tables::default();
        let provisioned = PoolKey::provisioned(&pool().account, &"f".parse().unwrap(), 1);
        let mut both = report(1, 0, true);
        both.pools.push((provisioned.clone(), 2, 1));
        tables.on_report(both);
        let pools = Pools {
            provisioned: Some(provisioned.clone()),
            ..pools()
        };
        assert_eq!(tables.permits_free(&pools), 2);
        for (key, left) in [(&provisioned, 1), (&pool(), 0)] {
            let drawn = tables.drawn_from(&pools).unwrap();
            assert!(Arc::ptr_eq(&drawn, &tables.pool(key).unwrap()));
            drawn.on_sent();
            assert_eq!(tables.permits_free(&pools), left);
        }
        assert!(
            tables.drawn_from(&pools).is_some(),
            "the worker has the last word"
        );
    }

    fn report(ceiling: u32, in_flight: u32, complete: bool) -> Report {
        Report {
            free_memory_mib: 1_000,
            idle_memory_mib: 300,
            start_budget: 2,
            draining: false,
            pools: vec![(pool(), ceiling, in_flight)],
            complete,
        }
    }

    #[test]
    fn reports_are_absolute_and_own_sends_move_them_on() {
        let tables = Tables::default();
        assert_eq!(tables.permits_free(&pools()), 0);
        tables.on_report(report(2, 0, true));
        let slot = tables.pool(&pool()).unwrap();
        slot.on_sent();
        assert_eq!(tables.permits_free(&pools()), 1);
        slot.on_exhausted();
        assert_eq!(tables.permits_free(&pools()), 0);
        tables.on_report(report(3, 1, false));
        assert_eq!(tables.permits_free(&pools()), 2);
        slot.on_ended();
        slot.on_ended();
        assert_eq!(
            tables.permits_free(&pools()),
            3,
            "never below zero in flight"
        );
    }

    #[test]
    fn the_leaders_word_makes_one_permit_until_the_worker_reports() {
        let tables = Tables::default();
        tables.on_granted(&pool());
        assert_eq!(tables.permits_free(&pools()), 1);
        tables.set_connected(false);
        assert_eq!(tables.permits_free(&pools()), 0);
    }

    #[test]
    fn asked_starts_are_no_room_for_others() {
        let tables = Tables::default();
        tables.on_report(report(1, 0, true));
        tables.on_start_asked(600);
        tables.on_start_asked(600);
        let room = tables.room(NodeId(1), false);
        assert_eq!((room.free_memory_mib, room.start_budget), (0, 0));
        assert_eq!(room.idle_memory_mib, 100, "idle ones give way for 200");
    }
}
