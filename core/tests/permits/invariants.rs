//! What must hold after every step, each as one function named by its sentence.

use hearth_core::ids::PoolKey;

use crate::parts::pools;
use crate::world::World;

type Check = Result<(), String>;

/// All of them.
pub(crate) fn check(world: &World) -> Check {
    in_flight_is_within_the_committed_grant(world)?;
    table_is_consistent(world)?;
    granted_is_within_the_limit_or_falling(world)?;
    a_pool_and_its_part_are_within_their_limits_together_or_falling(world)
}

/// I2: on each worker, what a reserved pool has in flight is covered by the committed grant of this very
/// life; hence the sum over all workers never exceeds the sum of grants. I3 and I4 are why it holds.
/// The unreserved pool may exceed it once a silent worker's share has been reclaimed.
fn in_flight_is_within_the_committed_grant(world: &World) -> Check {
    for node in &world.nodes {
        for pool in pools() {
            let granted = world.table.granted(node.id, &pool);
            let n = granted
                .filter(|g| g.incarnation == node.incarnation)
                .map_or(0, |g| g.n);
            let in_flight = node.in_flight(&pool);
            let is_excused = pool.function.is_none() && world.was_reclaimed(node, &pool);
            if in_flight > n && !is_excused {
                return Err(format!(
                    "{pool}: {} runs {in_flight} with a grant of {n} at {}",
                    node.id, world.now
                ));
            }
        }
    }
    Ok(())
}

fn table_is_consistent(world: &World) -> Check {
    world.table.check();
    Ok(())
}

/// I1: the sum of grants never rises above the limit; above a lowered limit it only falls.
fn granted_is_within_the_limit_or_falling(world: &World) -> Check {
    for (pool, before) in &world.sums {
        let (sum, limit) = (
            world.table.granted_sum(pool),
            u64::from(world.table.limit(pool).unwrap_or(0)),
        );
        if sum > limit && sum > *before {
            return Err(format!("{pool}: granted {sum} of {limit}, was {before}"));
        }
    }
    Ok(())
}

/// I7: what was one pool before a part was carved out of it never lets in more for that.
fn a_pool_and_its_part_are_within_their_limits_together_or_falling(world: &World) -> Check {
    let [_, whole, _, part] = pools();
    let both = |of: &dyn Fn(&PoolKey) -> u64| of(&whole) + of(&part);
    let sum = both(&|pool| world.table.granted_sum(pool));
    let limit = both(&|pool| u64::from(world.table.limit(pool).unwrap_or(0)));
    let before = both(&|pool| world.sums.get(pool).copied().unwrap_or(0));
    if sum > limit && sum > before {
        return Err(format!(
            "{whole} with its part: granted {sum} of {limit}, was {before}"
        ));
    }
    Ok(())
}

/// I5: after the faults end, every permit is either free or in the hands of a live worker that may use it.
pub(crate) fn nothing_is_stranded(world: &mut World) -> Check {
    let now = world.now;
    for pool in pools() {
        let limit = u64::from(world.table.limit(&pool).unwrap_or(0));
        let mut usable = 0;
        for node in &mut world.nodes {
            let local = node.clock(now);
            usable += u64::from(node.permits.report(&pool, local).ceiling);
        }
        let free = u64::from(world.table.free(&pool));
        if free + usable != limit {
            return Err(format!(
                "{pool}: {free} free and {usable} usable of {limit}; granted {}",
                world.table.granted_sum(&pool)
            ));
        }
    }
    Ok(())
}

/// I6, in the large: with everyone well and demand for it, a pool that has permits lets invocations in.
pub(crate) fn every_pool_with_a_limit_serves(world: &World) -> Check {
    for (pool, limit) in world.table.pools() {
        if limit > 0 && !world.accepted.contains_key(pool) {
            return Err(format!("{pool}: limit {limit} and nothing was let in"));
        }
    }
    Ok(())
}
