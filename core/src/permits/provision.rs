//! Where provisioned concurrency goes: the share of a version's pool that a worker is granted is the number of
//! sandboxes it keeps initialised. A pure function of table and rooms; what is granted too much is taken back by the
//! rules that hold for every pool.

use super::{GrantChange, GrantTable, LeaderPermits};
use crate::ids::{Incarnation, MonotonicMs, NodeId, PoolKey};

/// A live worker that takes work and could run the version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// Which.
    pub worker: NodeId,
    /// Its life, as it reported last.
    pub incarnation: Incarnation,
    /// Memory that nothing has been promised of, MB. Taken off as shares are given.
    pub room_mib: u64,
}

/// Gives what is free of a pool to hosts with room: each unit to whom has the least of it, so that a lost host costs
/// little. What finds no room stays free.
fn plan_provision(
    table: &GrantTable,
    pool: &PoolKey,
    memory_mib: u32,
    hosts: &mut [Host],
) -> Vec<GrantChange> {
    let has = |worker: NodeId| table.granted(worker, pool).map_or(0, |g| g.n);
    let mut shares: Vec<u32> = hosts.iter().map(|host| has(host.worker)).collect();
    let needed = u64::from(memory_mib.max(1));
    for _ in 0..table.free(pool) {
        let roomy = (0..hosts.len()).filter(|i| hosts[*i].room_mib >= needed);
        let least = roomy.min_by_key(|i| {
            let host = &hosts[*i];
            (shares[*i], std::cmp::Reverse(host.room_mib), host.worker)
        });
        let Some(i) = least else {
            break;
        };
        shares[i] += 1;
        hosts[i].room_mib -= needed;
    }
    let grown = hosts.iter().zip(shares);
    grown
        .filter(|(host, n)| *n > has(host.worker))
        .map(|(host, n)| GrantChange::Grow {
            worker: host.worker,
            pool: pool.clone(),
            n,
            incarnation: host.incarnation,
        })
        .collect()
}

impl LeaderPermits {
    /// Gives out what is free of a version's provisioned concurrency. `hosts` lose the room that it takes.
    pub fn plan_provision(
        &mut self,
        table: &GrantTable,
        pool: &PoolKey,
        memory_mib: u32,
        hosts: &mut Vec<Host>,
        now: MonotonicMs,
    ) -> Vec<GrantChange> {
        hosts.retain(|h| self.is_live(h.worker, now) && !self.draining.contains(&h.worker));
        let under_way = self.committing.get(pool);
        if under_way.is_some_and(|since| now.since(*since) < self.timing.resend_ms) {
            return Vec::new();
        }
        let changes = plan_provision(table, pool, memory_mib, hosts);
        if !changes.is_empty() {
            self.committing.insert(pool.clone(), now);
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::GrantSequence;
    use proptest::prelude::*;

    fn pool() -> PoolKey {
        let (account, name) = ("123456789012".parse().unwrap(), "f".parse().unwrap());
        PoolKey::provisioned(&account, &name, 1)
    }

    fn whole() -> PoolKey {
        PoolKey::unreserved(&pool().account)
    }

    fn table(workers: u64, limit: u32) -> GrantTable {
        let mut table = GrantTable::default();
        for id in 1..=workers {
            let sequence = GrantSequence(id);
            let registered = table.register_worker(NodeId(id), Incarnation(1), sequence);
            registered.unwrap();
        }
        table.set_limit(&whole(), 100 - limit.min(100), GrantSequence(50));
        table.set_part(&pool(), &whole(), limit, GrantSequence(50));
        table
    }

    fn host(id: u64, room_mib: u64) -> Host {
        Host {
            worker: NodeId(id),
            incarnation: Incarnation(1),
            room_mib,
        }
    }

    fn planned(table: &GrantTable, hosts: &mut [Host]) -> Vec<(u64, u32)> {
        let changes = plan_provision(table, &pool(), 128, hosts);
        let shares = changes.iter().map(|change| match change {
            GrantChange::Grow { worker, n, .. } => (worker.0, *n),
            GrantChange::Shrink { .. } | GrantChange::Reclaim { .. } => unreachable!("only grows"),
        });
        shares.collect()
    }

    #[test]
    fn shares_are_even_where_there_is_room() {
        for (limit, rooms, expected) in [
            (4, vec![1_000, 1_000], vec![(1, 2), (2, 2)]),
            (5, vec![2_000, 1_000], vec![(1, 3), (2, 2)]),
            (5, vec![1_000, 128], vec![(1, 4), (2, 1)]),
            (5, vec![1_000, 127], vec![(1, 5)]),
            (5, vec![256, 128], vec![(1, 2), (2, 1)]),
            (5, vec![0, 0], vec![]),
            (1, vec![500, 1_000], vec![(2, 1)]),
        ] {
            let mut hosts: Vec<Host> = (1..).zip(&rooms).map(|(id, r)| host(id, *r)).collect();
            let table = table(2, limit);
            assert_eq!(planned(&table, &mut hosts), expected, "{limit} {rooms:?}");
        }
    }

    #[test]
    fn what_is_granted_stays_and_the_rest_goes_to_the_others() {
        let mut table = table(3, 6);
        let held = GrantChange::Grow {
            worker: NodeId(1),
            pool: pool(),
            n: 3,
            incarnation: Incarnation(1),
        };
        table.apply(&held, GrantSequence(60)).unwrap();
        let mut hosts = [host(1, 9_000), host(2, 900), host(3, 900)];
        assert_eq!(planned(&table, &mut hosts), [(2, 2), (3, 1)]);
    }

    #[test]
    fn a_part_waits_for_what_workers_still_hold_of_the_whole() {
        let mut table = table(2, 0);
        let all = GrantChange::Grow {
            worker: NodeId(1),
            pool: whole(),
            n: 95,
            incarnation: Incarnation(1),
        };
        table.apply(&all, GrantSequence(60)).unwrap();
        table.set_limit(&whole(), 80, GrantSequence(61));
        table.set_part(&pool(), &whole(), 20, GrantSequence(61));
        assert_eq!(table.free(&pool()), 5);
        let shrunk = GrantChange::Shrink {
            worker: NodeId(1),
            pool: whole(),
            n: 80,
            base: GrantSequence(60),
        };
        table.apply(&shrunk, GrantSequence(62)).unwrap();
        assert_eq!(table.free(&pool()), 20);
        assert_eq!(table.free(&whole()), 0);
    }

    proptest! {
        #[test]
        fn every_plan_is_accepted_and_fits_the_rooms(
            limit in 0_u32..60, rooms in prop::collection::vec(0_u64..3_000, 0..5), mib in 1_u32..600,
        ) {
            let mut table = table(5, limit);
            let mut hosts: Vec<Host> = (1..).zip(&rooms).map(|(id, r)| host(id, *r)).collect();
            let changes = plan_provision(&table, &pool(), mib, &mut hosts);
            for change in &changes {
                table.apply(change, GrantSequence(70)).unwrap();
            }
            for (id, room) in (1..).zip(&rooms) {
                let n = table.granted(NodeId(id), &pool()).map_or(0, |g| g.n);
                prop_assert!(u64::from(n) * u64::from(mib) <= *room);
            }
            let slots: u64 = rooms.iter().map(|r| r / u64::from(mib)).sum();
            prop_assert_eq!(table.granted_sum(&pool()), slots.min(u64::from(limit)));
        }
    }
}
