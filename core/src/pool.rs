//! A worker's warm pool of one function version: which sandbox serves the next invocation, which are given
//! up. What a single sandbox goes through is in `sandbox`; permits, which are another matter, in `permits`.

use std::collections::{BTreeSet, VecDeque};

use crate::ids::MonotonicMs;
use crate::sandbox::SandboxId;
use crate::scaling::Keep;

/// What an invocation gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// A warm sandbox, now busy.
    Warm(SandboxId),
    /// The error of a failed init phase. It is spent on this one invocation and the sandbox is out of the
    /// pool: its owner stops it.
    InitError(SandboxId),
    /// There is none; one has to be started, or waited for.
    Nothing,
}

/// How many sandboxes of a version a worker has, for its reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolCounts {
    /// Waiting for an event.
    pub idle: u32,
    /// Being made or in their init phase.
    pub starting: u32,
    /// With an event.
    pub busy: u32,
}

/// How many sandboxes of a version a worker keeps for its provisioned concurrency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeptCounts {
    /// Their init phase is over.
    pub ready: u32,
    /// Being made or in their init phase.
    pub starting: u32,
}

/// What is given to a sandbox at its start, and ends, has to last for its last invocation: of 15 minutes, and some. Milliseconds.
const LAST_MS: u64 = 20 * 60_000;
/// Sandboxes that were given the same retire over so long, so that not all are made anew at once. Milliseconds.
const RETIRING_MS: u64 = 100 * 60_000;

/// When a sandbox begins its last invocation, if what it was given ends in `left_ms`. `chance` is any number. Where little is left,
/// nobody gives better things (controllers are away for long): it goes on past their end, as one made in its place would have less.
pub fn retirement(now: MonotonicMs, left_ms: u64, chance: u64) -> MonotonicMs {
    if left_ms < 2 * LAST_MS {
        return now.plus(left_ms.saturating_add(LAST_MS));
    }
    let latest = left_ms.saturating_sub(LAST_MS);
    let spread = RETIRING_MS.min(latest / 2);
    now.plus(latest - chance.checked_rem(spread).unwrap_or(0))
}

/// See the module's text. A sandbox is in exactly one of the four sets.
#[derive(Clone, Debug, Default)]
pub struct WarmPool {
    /// With the time each fell idle; the most recently used last.
    idle: VecDeque<(MonotonicMs, SandboxId)>,
    failed: VecDeque<(MonotonicMs, SandboxId)>,
    starting: BTreeSet<SandboxId>,
    busy: BTreeSet<SandboxId>,
    /// Those of the above that are never given up: provisioned concurrency.
    kept: BTreeSet<SandboxId>,
}

impl WarmPool {
    /// A sandbox is being made, or goes through its init phase again after a reset.
    pub fn on_starting(&mut self, id: SandboxId) {
        self.take_out(id);
        self.starting.insert(id);
    }

    /// A sandbox asked for its next event.
    pub fn on_idle(&mut self, id: SandboxId, now: MonotonicMs) {
        self.take_out(id);
        self.idle.push_back((now, id));
    }

    /// Its init phase failed; the error waits for one invocation.
    pub fn on_init_failed(&mut self, id: SandboxId, now: MonotonicMs) {
        self.take_out(id);
        self.failed.push_back((now, id));
    }

    /// One that is in the pool is not to be given up, whatever it costs.
    pub fn keep(&mut self, id: SandboxId) {
        self.kept.insert(id);
    }

    /// Whether it is not to be given up.
    pub fn is_kept(&self, id: SandboxId) -> bool {
        self.kept.contains(&id)
    }

    /// How many are kept.
    pub fn kept(&self) -> KeptCounts {
        let starting = self.kept.intersection(&self.starting).count();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        KeptCounts {
            ready: count(self.kept.len() - starting),
            starting: count(starting),
        }
    }

    /// So many need not be kept any more: those that wait for nothing first, then those being made. Returns those to be
    /// stopped, which are out of the pool; the others may be given up as any.
    pub fn keep_fewer(&mut self, count: usize) -> Vec<SandboxId> {
        let rank = |id: &SandboxId| (self.busy.contains(id), self.starting.contains(id), *id);
        let mut kept: Vec<SandboxId> = self.kept.iter().copied().collect();
        kept.sort_by_key(rank);
        kept.truncate(count);
        for id in &kept {
            self.kept.remove(id);
        }
        kept.retain(|id| !self.busy.contains(id) && self.remove(*id));
        kept
    }

    /// It is stopped or stopping. Returns whether the pool had it.
    pub fn remove(&mut self, id: SandboxId) -> bool {
        let kept = self.kept.remove(&id);
        let removed = self.take_out(id);
        debug_assert!(removed || !kept, "what is kept is in the pool");
        removed
    }

    fn take_out(&mut self, id: SandboxId) -> bool {
        // The common case, and the one on the invoke path.
        if self.busy.remove(&id) || self.starting.remove(&id) {
            return true;
        }
        let before = self.len();
        self.idle.retain(|(_, i)| *i != id);
        self.failed.retain(|(_, i)| *i != id);
        self.len() < before
    }

    fn len(&self) -> usize {
        self.idle.len() + self.failed.len() + self.starting.len() + self.busy.len()
    }

    /// Those that wait for an event.
    pub fn idle(&self) -> impl Iterator<Item = SandboxId> + '_ {
        self.idle.iter().map(|(_, id)| *id)
    }

    /// Whether nothing is left to keep the pool for.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Serves an invocation. The most recently used first: its pages and caches are warm, and the others
    /// grow old enough to be given up. An init error only when nothing is warm, the oldest first. An invocation with a
    /// permit of provisioned concurrency has a kept one if it can, any other leaves those alone if it can.
    pub fn take(&mut self, provisioned: bool) -> Take {
        let preferred = self.idle.iter().rposition(|(_, id)| {
            // Nothing is looked for where nothing is kept.
            self.kept.is_empty() || self.kept.contains(id) == provisioned
        });
        let warm = match preferred {
            Some(index) => self.idle.remove(index),
            None => self.idle.pop_back(),
        };
        if let Some((_, id)) = warm {
            self.busy.insert(id);
            Take::Warm(id)
        } else if let Some((_, id)) = self.failed.pop_front() {
            Take::InitError(id)
        } else {
            Take::Nothing
        }
    }

    /// Takes out those that are not worth keeping any more, oldest first. A kept init error is nobody's wish.
    pub fn expire(&mut self, now: MonotonicMs, keep: Keep) -> Vec<SandboxId> {
        let mut expired = Vec::new();
        let kept = &self.kept;
        let wanted = usize::try_from(keep.wanted_idle).unwrap_or(usize::MAX);
        for (set, wanted) in [(&mut self.idle, wanted), (&mut self.failed, 0)] {
            let mut left = set.iter().filter(|(_, id)| !kept.contains(id)).count();
            set.retain(|(since, id)| {
                if kept.contains(id) {
                    return true;
                }
                let age = now.since(*since);
                let is_over = (left > wanted && age >= keep.idle_ms) || age >= keep.idle_limit_ms;
                if is_over {
                    left -= 1;
                    expired.push(*id);
                }
                !is_over
            });
        }
        expired
    }

    /// Free sandboxes, counting init errors that wait for an invocation.
    pub fn free(&self) -> usize {
        self.idle.len() + self.failed.len()
    }

    /// Sandboxes that could be given up for their memory, and since when they are idle.
    pub fn evictable(&self) -> impl Iterator<Item = (MonotonicMs, SandboxId)> + '_ {
        let all = self.failed.iter().chain(&self.idle).copied();
        all.filter(|(_, id)| !self.kept.contains(id))
    }

    /// For the report.
    pub fn counts(&self) -> PoolCounts {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        PoolCounts {
            idle: count(self.idle.len()),
            starting: count(self.starting.len()),
            busy: count(self.busy.len()),
        }
    }
}

/// An idle sandbox of any version, as a candidate for eviction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evictable {
    /// Which.
    pub id: SandboxId,
    /// Since when it is idle.
    pub idle_since: MonotonicMs,
    /// Memory reserved for it, MB.
    pub memory_mib: u32,
    /// What it saves for each MB: see [`crate::scaling::worth`].
    pub worth: u64,
}

/// Sandboxes to stop so that `needed_mib` fit into memory of which `free_mib` is free: those worth the least
/// first, and of equal ones the longest idle. `None` when all of them together would not do; then nothing is to be stopped in vain.
pub fn plan_eviction(
    candidates: &[Evictable],
    free_mib: u64,
    needed_mib: u64,
) -> Option<Vec<SandboxId>> {
    let mut least_first: Vec<&Evictable> = candidates.iter().collect();
    least_first.sort_by_key(|c| (c.worth, c.idle_since, c.id));
    let mut free = free_mib;
    let mut evicted = Vec::new();
    for candidate in least_first {
        if free >= needed_mib {
            break;
        }
        free += u64::from(candidate.memory_mib);
        evicted.push(candidate.id);
    }
    (free >= needed_mib).then_some(evicted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn id(n: u64) -> SandboxId {
        SandboxId(n)
    }

    const fn keep(wanted_idle: u32, idle_ms: u64) -> Keep {
        Keep {
            wanted_idle,
            idle_ms,
            idle_limit_ms: 1_000,
        }
    }

    #[test]
    fn retirement_leaves_time_for_a_last_invocation_and_is_spread() {
        let at = |hours: u64, chance| retirement(MonotonicMs(5), hours * 3_600_000, chance).0 - 5;
        assert_eq!(at(6, 0), 6 * 3_600_000 - LAST_MS);
        assert_eq!(
            at(6, RETIRING_MS - 1),
            6 * 3_600_000 - LAST_MS - RETIRING_MS + 1
        );
        assert!(at(1, u64::MAX) >= (3_600_000 - LAST_MS) / 2);
        for left_ms in [0, 1, LAST_MS, 2 * LAST_MS - 1] {
            let at = retirement(MonotonicMs(5), left_ms, 7).0 - 5;
            assert_eq!(at, left_ms + LAST_MS, "no sandbox retires before it served");
        }
        assert!(retirement(MonotonicMs(5), 2 * LAST_MS, u64::MAX).0 >= 5 + LAST_MS / 2);
    }

    #[test]
    fn most_recently_used_first_and_an_init_error_serves_one_invocation() {
        let mut pool = WarmPool::default();
        for n in 1..=4 {
            pool.on_starting(id(n));
        }
        pool.on_idle(id(1), MonotonicMs(10));
        pool.on_idle(id(2), MonotonicMs(20));
        pool.on_init_failed(id(3), MonotonicMs(30));
        let counts = PoolCounts {
            idle: 2,
            starting: 1,
            busy: 0,
        };
        assert_eq!(pool.counts(), counts);
        assert_eq!(pool.take(false), Take::Warm(id(2)));
        pool.on_idle(id(2), MonotonicMs(40));
        assert_eq!(pool.take(false), Take::Warm(id(2)));
        assert_eq!(pool.take(false), Take::Warm(id(1)));
        assert_eq!(pool.take(false), Take::InitError(id(3)));
        assert_eq!(pool.take(false), Take::Nothing);
        let counts = PoolCounts {
            idle: 0,
            starting: 1,
            busy: 2,
        };
        assert_eq!(pool.counts(), counts);
        assert!(pool.remove(id(1)) && !pool.remove(id(1)));
        assert!(!pool.remove(id(3)), "a spent init error is out of the pool");
    }

    #[test]
    fn idle_ones_expire_oldest_first_and_busy_ones_never() {
        let mut pool = WarmPool::default();
        pool.on_idle(id(1), MonotonicMs(10));
        pool.on_idle(id(2), MonotonicMs(20));
        pool.on_init_failed(id(3), MonotonicMs(5));
        assert_eq!(pool.expire(MonotonicMs(109), keep(0, 100)), [id(3)]);
        assert_eq!(pool.take(false), Take::Warm(id(2)));
        assert_eq!(pool.expire(MonotonicMs(1_000), keep(0, 100)), [id(1)]);
        assert_eq!(pool.expire(MonotonicMs(1_000), keep(0, 100)), []);
        assert_eq!(pool.counts().busy, 1);
    }

    #[test]
    fn kept_ones_are_never_given_up_and_serve_provisioned_permits_first() {
        let mut pool = WarmPool::default();
        for n in 1..=4 {
            pool.on_starting(id(n));
        }
        pool.keep(id(1));
        pool.keep(id(4));
        for n in 1..=3 {
            pool.on_idle(id(n), MonotonicMs(n));
        }
        let (ready, starting) = (1, 1);
        assert_eq!(pool.kept(), KeptCounts { ready, starting });
        assert_eq!(pool.take(true), Take::Warm(id(1)));
        assert_eq!(pool.take(true), Take::Warm(id(3)), "better than none");
        pool.on_idle(id(3), MonotonicMs(4));
        pool.on_idle(id(1), MonotonicMs(5));
        assert_eq!(pool.take(false), Take::Warm(id(3)));
        assert_eq!(
            pool.evictable().collect::<Vec<_>>(),
            [(MonotonicMs(2), id(2))]
        );
        assert_eq!(pool.expire(MonotonicMs(1_000), keep(0, 0)), [id(2)]);
        assert_eq!(pool.free(), 1);
        assert_eq!(pool.take(false), Take::Warm(id(1)), "the last one");
        assert_eq!(pool.keep_fewer(2), [id(4)], "a busy one ends its work");
        pool.on_idle(id(1), MonotonicMs(6));
        assert_eq!(pool.expire(MonotonicMs(1_000), keep(0, 0)), [id(1)]);
        assert_eq!(pool.kept(), KeptCounts::default());
    }

    #[test]
    fn wanted_ones_stay_until_the_operators_limit() {
        let mut pool = WarmPool::default();
        for n in 1..=4 {
            pool.on_idle(id(n), MonotonicMs(n));
        }
        pool.on_init_failed(id(5), MonotonicMs(5));
        let expired = pool.expire(MonotonicMs(500), keep(2, 100));
        assert_eq!(expired, [id(1), id(2), id(5)]);
        assert_eq!(pool.expire(MonotonicMs(1_002), keep(2, 100)), []);
        assert_eq!(pool.expire(MonotonicMs(1_003), keep(2, 100)), [id(3)]);
    }

    #[test]
    fn eviction_table() {
        let candidate = |n, since, memory_mib| Evictable {
            id: id(n),
            idle_since: MonotonicMs(since),
            memory_mib,
            worth: 7,
        };
        let all = [
            candidate(1, 30, 128),
            candidate(2, 10, 128),
            candidate(3, 20, 512),
        ];
        let table = [
            (128, 128, Some(vec![])),
            (0, 128, Some(vec![id(2)])),
            (0, 129, Some(vec![id(2), id(3)])),
            (0, 768, Some(vec![id(2), id(3), id(1)])),
            (0, 769, None),
            (1, 769, Some(vec![id(2), id(3), id(1)])),
        ];
        for (free, needed, expected) in table {
            assert_eq!(
                plan_eviction(&all, free, needed),
                expected,
                "{free} {needed}"
            );
        }
        let dear = Evictable { worth: 8, ..all[1] };
        assert_eq!(
            plan_eviction(&[dear, all[0]], 0, 128),
            Some(vec![id(1)]),
            "the cheaper one, though used later"
        );
    }

    proptest! {
        #[test]
        fn eviction_stops_as_soon_as_there_is_room(
            sizes in prop::collection::vec((0_u64..50, 1_u32..1_000), 0..12),
            free in 0_u64..500, needed in 0_u64..4_000,
        ) {
            let all: Vec<Evictable> = (0..)
                .zip(&sizes)
                .map(|(n, (since, memory_mib))| Evictable {
                    id: id(n), idle_since: MonotonicMs(*since), memory_mib: *memory_mib, worth: *since % 7,
                })
                .collect();
            let memory = |ids: &[SandboxId]| -> u64 {
                all.iter().filter(|e| ids.contains(&e.id)).map(|e| u64::from(e.memory_mib)).sum()
            };
            match plan_eviction(&all, free, needed) {
                Some(evicted) => {
                    prop_assert!(free + memory(&evicted) >= needed);
                    if let [rest @ .., _] = evicted.as_slice() {
                        prop_assert!(free + memory(rest) < needed, "one too many");
                    }
                }
                None => {
                    let every: Vec<SandboxId> = all.iter().map(|e| e.id).collect();
                    prop_assert!(free + memory(&every) < needed);
                }
            }
        }
    }
}
