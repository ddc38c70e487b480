//! Where provisioned concurrency goes: the share of a version's pool that a worker is granted is the number of
//! sandboxes it keeps initialised. A pure function of table and rooms; what is granted too much is taken back by the
//! rules that hold for every pool, and so is what lies unevenly once another worker has room for it.

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

/// Shares that differ by two or more for so long are evened out: a worker that was silent or away while they were
/// given has a turn to come back first. Milliseconds.
const UNEVEN_FOR_MS: u64 = 5_000;

/// The largest share of a pool and what it comes down to, when a host with room has at least two less. An eighth of
/// the difference at a time: what moves is not there until it is made elsewhere.
fn plan_even(
    table: &GrantTable,
    pool: &PoolKey,
    memory_mib: u32,
    hosts: &[Host],
) -> Option<(NodeId, u32)> {
    let share = |host: &Host| table.granted(host.worker, pool).map_or(0, |g| g.n);
    let needed = u64::from(memory_mib.max(1));
    let roomy = hosts.iter().filter(|host| host.room_mib >= needed);
    let least = roomy.map(share).min()?;
    let most = hosts.iter().max_by_key(|host| (share(host), host.worker))?;
    let difference = share(most).saturating_sub(least);
    (difference >= 2).then(|| (most.worker, share(most) - (difference / 8).max(1)))
}

impl LeaderPermits {
    /// Moves a version's provisioned concurrency from whom has most of it to whom has least, when it has lain unevenly
    /// for five seconds. The shrink frees it; [`Self::plan_provision`] gives it anew.
    pub fn plan_even(
        &mut self,
        table: &GrantTable,
        pool: &PoolKey,
        memory_mib: u32,
        hosts: &[Host],
        now: MonotonicMs,
    ) {
        let hosts: Vec<Host> = hosts
            .iter()
            .filter(|h| self.is_live(h.worker, now) && !self.draining.contains(&h.worker))
            .copied()
            .collect();
        let step = (table.free(pool) == 0)
            .then(|| plan_even(table, pool, memory_mib, &hosts))
            .flatten();
        let Some((worker, n)) = step else {
            self.uneven.remove(pool);
            return;
        };
        let since = *self.uneven.entry(pool.clone()).or_insert(now);
        if now.since(since) >= UNEVEN_FOR_MS {
            let until = now.plus(3 * self.timing.resend_ms);
            self.moves.insert((worker, pool.clone()), (n, until));
        }
    }

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
        if self.is_anyone_coming(now) {
            return Vec::new();
        }
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
    use crate::permits::{PermitAction, PermitTiming, Renewal};
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
    fn what_lies_unevenly_moves_in_steps_to_a_host_with_room() {
        for (shares, rooms, expected) in [
            ([4, 0], [1_000, 1_000], Some((1, 3))),
            ([3, 1], [0, 128], Some((1, 2))),
            ([2, 1], [1_000, 1_000], None),
            ([0, 4], [127, 1_000], None),
            ([40, 0], [0, 9_000], Some((1, 35))),
        ] {
            let mut table = table(2, 60);
            for (id, n) in (1..).zip(shares) {
                table.apply(&grow(id, n), GrantSequence(60)).unwrap();
            }
            let hosts = [host(1, rooms[0]), host(2, rooms[1])];
            let step = plan_even(&table, &pool(), 128, &hosts);
            assert_eq!(step.map(|(id, n)| (id.0, n)), expected, "{shares:?}");
        }
    }

    /// The leader's whole way: it waits, shrinks one share, and gives what that frees to the other worker.
    #[test]
    fn uneven_shares_are_evened_out_after_a_while() {
        let mut table = table(2, 4);
        table.apply(&grow(1, 4), GrantSequence(60)).unwrap();
        let timing = PermitTiming::default();
        let mut leader = LeaderPermits::elected(timing, &table, MonotonicMs(0));
        let (hosts, mut now) = ([host(1, 1_000), host(2, 1_000)], MonotonicMs(0));
        let shares = |t: &GrantTable| t.shares(&pool()).map(|(_, g)| g.n).collect::<Vec<_>>();
        for step in 0..20 {
            now = MonotonicMs(1_000 * step);
            for id in [1, 2] {
                renew(&mut leader, &table, id, now);
            }
            leader.plan_even(&table, &pool(), 128, &hosts, now);
            for action in leader.plan_shrinks(&table, now) {
                let PermitAction::SendShrink { worker, shrink } = action else {
                    unreachable!("only shrinks")
                };
                assert!(now.0 >= UNEVEN_FOR_MS, "too early: {now:?}");
                let change = GrantChange::Shrink {
                    worker,
                    pool: shrink.pool,
                    n: shrink.n,
                    base: shrink.base,
                };
                table.apply(&change, GrantSequence(100 + step)).unwrap();
            }
            let mut hosts = hosts.to_vec();
            for change in leader.plan_provision(&table, &pool(), 128, &mut hosts, now) {
                table.apply(&change, GrantSequence(200 + step)).unwrap();
                leader.on_commit_failed(&pool());
            }
        }
        assert_eq!(shares(&table), [2, 2], "at {now:?}");
    }

    #[test]
    fn a_worker_that_has_just_come_back_is_waited_for() {
        let mut table = table(2, 4);
        let timing = PermitTiming::default();
        let mut leader = LeaderPermits::elected(timing, &table, MonotonicMs(0));
        let hosts = [host(1, 1_000), host(2, 1_000)];
        let plan = |leader: &mut LeaderPermits, table: &GrantTable, ms| {
            let mut hosts = hosts.to_vec();
            leader
                .plan_provision(table, &pool(), 128, &mut hosts, MonotonicMs(ms))
                .len()
        };
        renew(&mut leader, &table, 1, MonotonicMs(1));
        assert_eq!(plan(&mut leader, &table, 2), 0, "the other is awaited");
        assert_eq!(plan(&mut leader.clone(), &table, 1_000), 1, "not for ever");
        renew(&mut leader, &table, 2, MonotonicMs(3));
        assert_eq!(plan(&mut leader, &table, 4), 2);
        leader.on_commit_failed(&pool());
        let (id, life) = (NodeId(2), Incarnation(2));
        table.register_worker(id, life, GrantSequence(90)).unwrap();
        leader.on_registered(id, life, MonotonicMs(500));
        assert_eq!(plan(&mut leader, &table, 510), 0, "its new life is awaited");
    }

    fn renew(leader: &mut LeaderPermits, table: &GrantTable, id: u64, now: MonotonicMs) {
        let renewal = Renewal {
            worker: NodeId(id),
            incarnation: Incarnation(1),
            session: 1,
            sent_at: now,
            pools: Vec::new(),
        };
        leader.on_renewal(table, &renewal, now);
    }

    fn grow(id: u64, n: u32) -> GrantChange {
        GrantChange::Grow {
            worker: NodeId(id),
            pool: pool(),
            n,
            incarnation: Incarnation(1),
        }
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
