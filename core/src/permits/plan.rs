//! Who gets permits: the answer to a gateway that found none. A pure function of the table, the reports and
//! the candidates. Timers, sessions and messages are in `leader`.

use super::{GrantChange, GrantTable};
use crate::ids::{Incarnation, NodeId, PoolKey};

/// A growing function takes an eighth of its limit at a time, so that it does not commit per sandbox.
const CHUNKS_PER_LIMIT: u32 = 8;

/// A gateway's `NeedCapacity`, coalesced per pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// The pool the waiting invocations draw from.
    pub pool: PoolKey,
    /// How many wait.
    pub count: u32,
}

/// A live worker that is not draining and could run the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub worker: NodeId,
    /// Its life, as it reported last.
    pub incarnation: Incarnation,
    /// Invocations in flight and sandboxes starting; fewer is better.
    pub load: u32,
    /// Permits of the pool it holds and did not use when it reported last.
    pub idle_permits: u32,
    /// Whether it has a warm sandbox of the function, or memory for one.
    pub has_room: bool,
    /// It has no room, but idle sandboxes of other functions that would give way. Asked for the sake of the spread alone.
    pub can_make_room: bool,
}

/// What to do about a [`Need`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrowPlan {
    /// Commit these; the workers are told when it is done.
    Commit(Vec<GrantChange>),
    /// These workers have permits and room already, best first: the gateway's tables are behind.
    UseIdle(Vec<NodeId>),
    /// Permits lie idle where they are of no use: ask these holders to come down to the given number.
    Move(Vec<(NodeId, u32)>),
    /// A commit for this pool is under way; ask again after it.
    Wait,
    /// Permits are free, and no worker has room for a sandbox.
    NoRoom,
    /// Every permit is in use: the 429, and the only place where it is decided.
    Throttle,
}

/// Decides a need. Free permits go out first, since they cost one commit; then idle ones where they lie;
/// then idle ones are moved; and only when all are in use is the pool throttled.
pub(super) fn plan_grow(table: &GrantTable, need: &Need, candidates: &[Candidate]) -> GrowPlan {
    let usable = by_load(candidates.iter().filter(|c| c.has_room));
    let crowded = by_load(candidates.iter().filter(|c| !c.has_room && c.can_make_room));
    let free = table.free(&need.pool);
    if free > 0 {
        if usable.is_empty() {
            return GrowPlan::NoRoom;
        }
        let changes = share_out(table, need, &usable, &crowded, free);
        if !changes.is_empty() {
            return GrowPlan::Commit(changes);
        }
    }
    let idle: Vec<NodeId> = usable
        .iter()
        .filter(|c| c.idle_permits > 0)
        .map(|c| c.worker)
        .collect();
    if !idle.is_empty() {
        return GrowPlan::UseIdle(idle);
    }
    let moves: Vec<(NodeId, u32)> = candidates
        .iter()
        .filter(|c| c.idle_permits > 0)
        .filter_map(|c| move_from(table, need, c))
        .collect();
    match (moves.is_empty(), usable.is_empty()) {
        (true, _) => GrowPlan::Throttle,
        (false, true) => GrowPlan::NoRoom,
        (false, false) => GrowPlan::Move(moves),
    }
}

/// Half of what lies idle, so that a holder whose load comes and goes is not emptied by one burst elsewhere.
fn move_from(table: &GrantTable, need: &Need, holder: &Candidate) -> Option<(NodeId, u32)> {
    let n = table.granted(holder.worker, &need.pool)?.n;
    let taken = holder.idle_permits.div_ceil(2).min(n);
    Some((holder.worker, n - taken))
}

fn by_load<'a>(candidates: impl Iterator<Item = &'a Candidate>) -> Vec<&'a Candidate> {
    let mut sorted: Vec<&Candidate> = candidates.collect();
    sorted.sort_by_key(|c| (c.load, c.worker));
    sorted.dedup_by_key(|c| c.worker);
    sorted
}

fn share_out(
    table: &GrantTable,
    need: &Need,
    usable: &[&Candidate],
    crowded: &[&Candidate],
    mut free: u32,
) -> Vec<GrantChange> {
    let limit = table.limit(&need.pool).unwrap_or(0);
    let chunk = (limit / CHUNKS_PER_LIMIT).max(1);
    // "A pool with more than one permit is granted to at least two workers, so that a lost host never
    // silences a function; a limit of 1 has one holder." A permit that nobody holds does as well: the next
    // need hands it to a living worker. So nobody holds all of a pool while there is a second worker that could use some of it,
    // and one that would have to end idle sandboxes gets the last permit when there is nobody else.
    let most = if limit > 1 && usable.len() + crowded.len() > 1 {
        limit - 1
    } else {
        limit
    };
    let mut holders = table.shares(&need.pool).count();
    let mut waiting = need.count.max(1);
    let mut changes = Vec::new();
    for candidate in usable {
        let is_spread = limit < 2 || holders >= 2;
        if free == 0 || (waiting == 0 && is_spread) {
            break;
        }
        let has = table
            .granted(candidate.worker, &need.pool)
            .map_or(0, |g| g.n);
        let kept_for_second = u32::from(!is_spread && has == 0 && holders == 0 && most < limit);
        // Doubled each time: at the limit gateways refuse at once, so that few are seen to wait.
        let give = chunk
            .max(waiting)
            .max(has)
            .min(free.saturating_sub(kept_for_second).max(1))
            .min(most.saturating_sub(has));
        if give == 0 {
            continue;
        }
        changes.push(GrantChange::Grow {
            worker: candidate.worker,
            pool: need.pool.clone(),
            n: has + give,
            incarnation: candidate.incarnation,
        });
        holders += usize::from(has == 0);
        free -= give;
        waiting = waiting.saturating_sub(give);
    }
    let is_held = |candidate: &&&Candidate| table.granted(candidate.worker, &need.pool).is_some();
    if limit > 1
        && holders < 2
        && free > 0
        && let Some(second) = crowded.iter().find(|candidate| !is_held(candidate))
    {
        changes.push(GrantChange::Grow {
            worker: second.worker,
            pool: need.pool.clone(),
            n: 1,
            incarnation: second.incarnation,
        });
    }
    changes
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
