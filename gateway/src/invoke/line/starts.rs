//! What a line asks for while invocations wait in it: sandboxes where permits and memory are, permits where sandboxes
//! could be. The rules are `core::{queue, placement}`.

use std::sync::Arc;

use hearth_core::ids::MonotonicMs;
use hearth_core::placement::place;
use hearth_core::queue::Demand;
use hearth_core::versions::Pools;

use super::super::worker::Worker;
use super::{Need, Plan, Row, START_ASK_TTL_MS, StartRefusal, State};

impl State {
    /// What a worker said, when every worker that could run the version cannot.
    pub(super) fn not_runnable(&self, workers: &[Arc<Worker>], now: MonotonicMs) -> Option<String> {
        let mut detail = None;
        for worker in workers {
            if !worker.tables.is_connected() || worker.tables.is_draining() {
                continue;
            }
            let row = self.rows.get(&worker.id)?;
            if !Arc::ptr_eq(&row.worker, worker) {
                return None;
            }
            match &row.refused {
                Some((StartRefusal::NotRunnable(text), until))
                    if now < *until && row.idle() + row.starting == 0 =>
                {
                    detail = Some(text.clone());
                }
                Some(_) | None => return None,
            }
        }
        detail
    }

    /// What to ask of workers and leader for those who wait.
    pub(super) fn plan_starts(&mut self, now: MonotonicMs) -> Plan {
        let memory_mib = self.terms.memory_mib;
        let pools = Arc::clone(&self.terms.pools);
        for row in self.rows.values_mut() {
            if now.since(row.asked_at) >= START_ASK_TTL_MS {
                row.forget_asked();
            }
        }
        let mut wanted = self.demand().starts_wanted();
        let mut starts: Vec<(Arc<Worker>, u32)> = Vec::new();
        while wanted > 0
            && self.terms.scale_out.is_open(now)
            && let Some(worker) = self.place_one(&pools, memory_mib, now)
        {
            wanted -= 1;
            match starts.iter_mut().find(|(w, _)| w.id == worker.id) {
                Some((_, count)) => *count += 1,
                None => starts.push((worker, 1)),
            }
        }
        self.note_saturation(wanted, memory_mib, now);
        let need = self.need(&pools, memory_mib, wanted);
        Plan { starts, need }
    }

    fn demand(&self) -> Demand {
        let sum = |of: fn(&Row) -> u32| self.rows.values().map(of).fold(0, u32::saturating_add);
        Demand {
            queued: u32::try_from(self.queue.len()).unwrap_or(u32::MAX),
            starting: sum(|row| row.starting + row.asked),
            busy: sum(|row| row.busy),
            // Permits bound it, worker by worker, when a place is looked for.
            limit: u32::MAX,
        }
    }

    /// A worker with room and a permit for one more; what it was asked for is noted.
    fn place_one(
        &mut self,
        pools: &Pools,
        memory_mib: u32,
        now: MonotonicMs,
    ) -> Option<Arc<Worker>> {
        let rooms: Vec<_> = self
            .rows
            .values()
            .filter(|row| row.worker.tables.is_trusted() && row.may_start(now))
            .filter(|row| row.worker.tables.permits_free(pools) > row.starting + row.asked)
            .map(|row| row.room(memory_mib))
            .collect();
        let id = place(&rooms, memory_mib)?;
        let row = self.rows.get_mut(&id)?;
        row.asked += 1;
        row.asked_at = now;
        row.own_begun += 1;
        self.terms.scale_out.on_asked(now);
        row.worker.tables.on_start_asked(memory_mib);
        Some(Arc::clone(&row.worker))
    }

    /// Permits to ask the leader for, of the pool on demand (provisioned ones come by themselves): sandboxes could be had,
    /// or are idle, where permits are lacking.
    fn need(&self, pools: &Pools, memory_mib: u32, unplaced: u32) -> Option<Need> {
        let lacks = |row: &&Row| row.worker.tables.permits_free(pools) <= row.starting + row.asked;
        let could =
            |row: &&Row| row.idle() > 0 || place(&[row.room(memory_mib)], memory_mib).is_some();
        let reachable = || {
            self.rows
                .values()
                .filter(|row| row.worker.tables.is_connected())
        };
        let idle_without_permit = reachable().any(|row| row.idle() > 0 && lacks(&row));
        if unplaced == 0 && !idle_without_permit {
            return None;
        }
        if !reachable().filter(lacks).any(|row| could(&row)) {
            return None;
        }
        // Permits of a worker that does not keep up are of no use here, though it did not refuse.
        let ejected = |row: &&Row| !row.worker.tables.is_trusted();
        let refused = |row: &&Row| {
            let slot = row.worker.tables.pool(&pools.on_demand);
            ejected(row) || slot.is_some_and(|slot| slot.is_exhausted())
        };
        let ids = |of: &dyn Fn(&&Row) -> bool| {
            let rows = reachable().filter(of);
            rows.map(|row| row.worker.id).collect()
        };
        Some(Need {
            pool: Arc::new(pools.on_demand.clone()),
            wanted: unplaced.max(1),
            memory_mib,
            refused_by: ids(&refused),
            ejected: ids(&ejected),
        })
    }
}
