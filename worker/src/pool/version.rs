//! The sandboxes of one function version on this worker. Which of them serves is decided by
//! `hearth_core::pool::WarmPool`; this adds the sandboxes themselves and the lock.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use hearth_core::function::FunctionVersion;
use hearth_core::ids::{MonotonicMs, VersionKey};
use hearth_core::limits::MEMORY_PER_VCPU_MIB;
use hearth_core::pool::{Evictable, KeptCounts, PoolCounts, Take, WarmPool};
use hearth_core::sandbox::SandboxId;
use hearth_node::clock::SharedClock;

use crate::logs::VersionLog;
use crate::pool::changes::Changes;
use crate::pool::freezer::Freezer;
use crate::pool::history::History;
use crate::pool::memory::Memory;
use crate::pool::provisioned::{INIT_FAILURE, Keeping, NOT_STARTED};
use crate::pool::recent::Named;
use crate::pool::sandbox::Sandbox;

/// A sandbox that is idle for less than this is between two invocations.
const BETWEEN_MS: u64 = 250;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct VersionPool {
    pub(crate) key: VersionKey,
    pub(crate) version: Arc<FunctionVersion>,
    pub(crate) log: Arc<VersionLog>,
    clock: SharedClock,
    changes: Arc<Changes>,
    pub(super) memory: Arc<Memory>,
    pub(super) freezer: Arc<Freezer>,
    named: Named,
    this: Weak<Self>,
    /// What it counts for in [`Memory`]'s sum of what gives way, MB.
    counted_mib: AtomicU64,
    /// Sandboxes begun so far, for load reports.
    begun: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    warm: WarmPool,
    keeping: Keeping,
    history: History,
    sandboxes: HashMap<SandboxId, Arc<Sandbox>>,
}

/// What an invocation gets from the pool.
#[derive(Debug)]
pub(crate) enum Taken {
    /// A sandbox to bind to.
    Warm(Arc<Sandbox>),
    /// One whose init failed; it is out of the pool.
    InitError(Arc<Sandbox>),
    /// None is free.
    Nothing,
}

impl VersionPool {
    pub(crate) fn new(
        key: VersionKey,
        version: Arc<FunctionVersion>,
        clock: SharedClock,
        changes: Arc<Changes>,
        memory: Arc<Memory>,
        freezer: Arc<Freezer>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            log: Arc::new(VersionLog::new(key.to_string())),
            key,
            version,
            clock,
            changes,
            memory,
            freezer,
            named: Named::default(),
            this: Weak::clone(this),
            counted_mib: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            inner: Mutex::default(),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a change, under the lock that it was made under.
    fn touch(&self, _inner: &Inner) {
        self.changes.versions.note(&self.named, &self.this);
        self.changes.next();
    }

    fn now(&self) -> MonotonicMs {
        MonotonicMs(self.clock.monotonic_ms())
    }

    /// The function's timeout.
    pub(crate) fn timeout_us(&self) -> u64 {
        u64::from(self.version.config.timeout_s) * 1_000_000
    }

    /// The function's memory.
    pub(crate) fn memory_mib(&self) -> u32 {
        self.version.config.memory_mib
    }

    /// "At 1,769 MB, a function has the equivalent of one vCPU."
    pub(crate) fn cpu_millis(&self) -> u32 {
        (self.memory_mib() * 1_000).div_ceil(MEMORY_PER_VCPU_MIB)
    }

    pub(crate) fn add(&self, sandbox: Arc<Sandbox>) {
        let mut inner = self.inner();
        inner.warm.on_starting(sandbox.id);
        if sandbox.is_provisioned {
            inner.warm.keep(sandbox.id);
        }
        inner.sandboxes.insert(sandbox.id, sandbox);
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.touch(&inner);
    }

    /// Sandboxes begun so far.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// How long a cold start took.
    pub(crate) fn on_cold_start(&self, took_us: u64) {
        self.inner().history.on_cold_start(took_us);
    }

    pub(crate) fn on_idle(&self, id: SandboxId) {
        let now = self.now();
        let mut inner = self.inner();
        let starting = inner.warm.counts().starting;
        // One that was removed meanwhile stays removed.
        let is_over = inner.sandboxes.get(&id).map(|s| s.is_retired(now));
        let retired = match is_over {
            Some(false) => {
                inner.warm.on_idle(id, now);
                None
            }
            Some(true) => {
                inner.warm.remove(id);
                inner.sandboxes.remove(&id)
            }
            None => None,
        };
        self.touch(&inner);
        let is_new = inner.warm.counts().starting < starting;
        drop(inner);
        if is_new {
            self.changes.hurry();
        }
        if let Some(retired) = retired {
            retired.stop();
        }
    }

    /// There is room for another start on this worker.
    pub(crate) fn on_start_slot_free(&self) {
        self.touch(&self.inner());
        self.changes.hurry();
    }

    pub(crate) fn on_init_failed(&self, id: SandboxId) {
        let now = self.now();
        let mut inner = self.inner();
        if inner.warm.is_kept(id) {
            // Nobody waits for it: it is not kept for an invocation but made again after a while.
            inner.warm.remove(id);
            let failed = inner.sandboxes.remove(&id);
            inner.keeping.on_failed(INIT_FAILURE, now);
            self.touch(&inner);
            drop(inner);
            if let Some(failed) = failed {
                failed.stop();
            }
            return;
        }
        if inner.sandboxes.contains_key(&id) {
            inner.warm.on_init_failed(id, now);
        }
        self.touch(&inner);
        drop(inner);
        self.changes.hurry();
    }

    pub(crate) fn remove(&self, id: SandboxId) {
        let now = self.now();
        let mut inner = self.inner();
        let starting = inner.warm.kept().starting;
        inner.warm.remove(id);
        if inner.warm.kept().starting < starting {
            inner.keeping.on_failed(NOT_STARTED, now);
        }
        let removed = inner.sandboxes.remove(&id);
        self.touch(&inner);
        drop(inner);
        // Its drop may do things of its own, so not under the lock.
        drop(removed);
    }

    /// A free sandbox, for an invocation with a permit of provisioned concurrency or without.
    pub(crate) fn take(&self, provisioned: bool) -> Taken {
        let now = self.now();
        let mut inner = self.inner();
        let taken = match inner.warm.take(provisioned) {
            Take::Warm(id) => inner.sandboxes.get(&id).cloned().map(Taken::Warm),
            Take::InitError(id) => inner.sandboxes.remove(&id).map(Taken::InitError),
            Take::Nothing => None,
        };
        if taken.is_some() {
            let busy = inner.warm.counts().busy;
            inner.history.on_arrival(now);
            inner.history.on_busy(busy, now);
            self.touch(&inner);
        }
        drop(inner);
        taken.unwrap_or(Taken::Nothing)
    }

    /// Free sandboxes, counting kept init errors.
    pub(crate) fn free(&self) -> u32 {
        free(&self.inner().warm)
    }

    /// For load reports, `idle` being what [`VersionPool::free`] says.
    pub(crate) fn counts(&self) -> PoolCounts {
        let inner = self.inner();
        PoolCounts {
            idle: free(&inner.warm),
            ..inner.warm.counts()
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.inner().sandboxes.is_empty()
    }

    /// Those that may be stopped for their memory: not one that has only just come free and is likely to be taken again at
    /// once. A kept init error holds none once its process is gone.
    pub(crate) fn evictable(&self) -> Vec<Evictable> {
        let now = self.now();
        let inner = self.inner();
        let wanted = inner.history.wanted_idle(inner.warm.counts().busy);
        let reuse = inner.history.reuse_per_mille(now);
        let idle = inner.warm.evictable().count();
        let mut candidates = Vec::new();
        // Oldest first; those behind the first few are beyond what is wanted.
        for (place, (idle_since, id)) in inner.warm.evictable().enumerate() {
            let memory_mib = inner.sandboxes.get(&id).map_or(0, |s| s.held_memory_mib());
            let age = now.since(idle_since);
            if memory_mib == 0 || age < BETWEEN_MS {
                continue;
            }
            let is_beyond = idle - place > wanted;
            let worth = inner.history.worth(reuse, is_beyond, age, memory_mib);
            candidates.push(Evictable {
                id,
                idle_since,
                memory_mib,
                worth,
            });
        }
        candidates
    }

    /// Counts the memory of its idle ones that give way to others.
    pub(crate) fn count_idle_memory(&self) {
        let inner = self.inner();
        let idle = inner.warm.counts().idle;
        let idle = if inner.warm.kept() == KeptCounts::default() {
            idle
        } else {
            u32::try_from(inner.warm.evictable().count()).map_or(idle, |n| n.min(idle))
        };
        let mib = u64::from(idle) * u64::from(self.memory_mib());
        let before = self.counted_mib.swap(mib, Ordering::Relaxed);
        self.memory.on_idle_counted(before, mib);
    }

    /// What is kept here for provisioned concurrency, and how that goes.
    pub(super) fn with_keeping<T>(
        &self,
        f: impl FnOnce(KeptCounts, &mut Keeping, MonotonicMs) -> T,
    ) -> T {
        let now = self.now();
        let mut inner = self.inner();
        let kept = inner.warm.kept();
        f(kept, &mut inner.keeping, now)
    }

    /// Keeps so many fewer; those that do nothing are stopped.
    pub(super) fn keep_fewer(&self, count: u32) {
        let mut inner = self.inner();
        let ids = inner
            .warm
            .keep_fewer(usize::try_from(count).unwrap_or(usize::MAX));
        let stopped: Vec<_> = ids
            .iter()
            .filter_map(|id| inner.sandboxes.remove(id))
            .collect();
        self.touch(&inner);
        drop(inner);
        for sandbox in stopped {
            sandbox.stop();
        }
    }

    /// Once a second: stops what is not worth keeping; nothing is idle for longer than `idle_limit_ms`. True when a
    /// sandbox is to be made for an invocation that is expected.
    pub(crate) fn tidy(&self, idle_limit_ms: u64) -> bool {
        let now = self.now();
        let mut inner = self.inner();
        let counts = inner.warm.counts();
        let keep = inner.history.keep(counts, idle_limit_ms, now);
        let mut ids = inner.warm.expire(now, keep);
        let retired = inner.warm.idle().filter(|id| {
            let sandbox = inner.sandboxes.get(id);
            sandbox.is_some_and(|sandbox| sandbox.is_retired(now))
        });
        let retired: Vec<SandboxId> = retired.collect();
        for id in &retired {
            inner.warm.remove(*id);
        }
        ids.extend(retired);
        if !ids.is_empty() {
            self.touch(&inner);
        }
        let expired: Vec<_> = ids
            .iter()
            .filter_map(|id| inner.sandboxes.remove(id))
            .collect();
        let is_expected = inner.sandboxes.is_empty() && inner.history.prewarm(idle_limit_ms, now);
        drop(inner);
        for sandbox in &expired {
            sandbox.stop();
        }
        is_expected
    }

    /// Stops one, if it is still idle.
    pub(crate) fn evict(&self, id: SandboxId) {
        let sandbox = {
            let mut inner = self.inner();
            let is_idle = inner.warm.evictable().any(|(_, i)| i == id);
            if is_idle {
                inner.warm.remove(id);
                self.touch(&inner);
                inner.sandboxes.remove(&id)
            } else {
                None
            }
        };
        if let Some(sandbox) = sandbox {
            sandbox.stop();
        }
    }

    /// All sandboxes.
    pub(crate) fn sandboxes(&self) -> Vec<Arc<Sandbox>> {
        self.inner().sandboxes.values().cloned().collect()
    }
}

impl Drop for VersionPool {
    fn drop(&mut self) {
        let counted = self.counted_mib.load(Ordering::Relaxed);
        self.memory.on_idle_counted(counted, 0);
    }
}

fn free(warm: &WarmPool) -> u32 {
    u32::try_from(warm.free()).unwrap_or(u32::MAX)
}
