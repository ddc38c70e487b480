//! The sandboxes of this worker: admission of invocations, cold starts within memory and start budget, and their end.
//! Decisions are `hearth_core::{pool, sandbox, permits}`; gateways' frames are in [`crate::invoke`].

pub(crate) mod changes;
pub(crate) mod compile;
mod extensions;
mod finish;
pub(crate) mod freezer;
pub(crate) mod gates;
mod history;
pub(crate) mod invocation;
mod launch;
pub(crate) mod memory;
pub(crate) mod package;
pub(crate) mod provisioned;
mod recent;
pub(crate) mod sandbox;
pub(crate) mod stock;
pub(crate) mod version;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use hearth_core::ids::{AccountId, MonotonicMs, PoolKey, VersionKey};
use hearth_core::name::FunctionName;
use hearth_core::planted::{self, Bug};
use hearth_core::pool::{Evictable, plan_eviction};
use hearth_core::sandbox::SandboxId;
use hearth_node::Seams;
use hearth_node::telemetry::traceparent;
use hearth_proto::internal::v1 as pb;
use pb::refused::Reason;
use tokio::sync::{Semaphore, broadcast};
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::catalog::{Catalog, Runnable, function_of};
use crate::code::CodeStore;
use crate::metrics::{Ended, WorkerMetrics};
use crate::runtimes::Runtimes;
use crate::sandbox::driver::Driver;
use changes::Changes;
use compile::Compiling;
use freezer::Freezer;
use gates::{Gates, HeldPermit, NoPermit};
use invocation::Invocation;
use memory::{Memory, MemoryHold};
use sandbox::Sandbox;
use stock::Stock;
use version::{Taken, VersionPool};

/// Sandboxes one frame may ask for. Ours: AWS's scale-out of 1,000 per 10 s and function.
const START_MAX: u32 = 1_000;

/// Everything the invoke path needs, shared by all streams.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) seams: Seams,
    pub(crate) incarnation: u64,
    pub(crate) region: String,
    pub(crate) idle_timeout_ms: u64,
    pub(crate) init_timeout_us: u64,
    pub(crate) freeze_after_us: u64,
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) code: Arc<CodeStore>,
    pub(crate) runtimes: Runtimes,
    pub(crate) catalog: Catalog,
    pub(crate) gates: Gates,
    pub(crate) changes: Arc<Changes>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) freezer: Arc<Freezer>,
    pub(crate) start_slots: Arc<Semaphore>,
    pub(crate) start_slots_total: usize,
    pub(crate) stock: Stock,
    pub(crate) compiling: Compiling,
    pub(crate) metrics: WorkerMetrics,
    /// This process is told to end.
    pub(crate) draining: AtomicBool,
    /// The operator wants the worker to drain.
    pub(crate) drain_ordered: AtomicBool,
    /// Launches and keepers.
    pub(crate) tasks: TaskTracker,
    /// Sandboxes with processes in them.
    pub(crate) kept_alive: TaskTracker,
    /// Starts that came to nothing, for all gateways.
    pub(crate) refusals: broadcast::Sender<pb::StartRefused>,
    pub(crate) next_sandbox: AtomicU64,
    pub(crate) pools: RwLock<HashMap<VersionKey, Arc<VersionPool>>>,
    /// Where sandboxes are kept for provisioned concurrency.
    pub(crate) kept: Mutex<HashMap<PoolKey, Arc<VersionPool>>>,
}

/// A permit and a sandbox, taken in one step.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) permit: HeldPermit,
    pub(crate) pool: Arc<VersionPool>,
    taken: Taken,
}

/// Why an invocation is not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotAdmitted {
    pub(crate) reason: Reason,
    pub(crate) idle: u32,
}

/// Why no sandbox is begun.
#[derive(Debug)]
pub(crate) struct StartRefusal {
    pub(crate) reason: pb::start_refused::Reason,
    pub(crate) detail: String,
}

impl Engine {
    fn find_pool(&self, key: &VersionKey) -> Option<Arc<VersionPool>> {
        let pools = self.pools.read().unwrap_or_else(PoisonError::into_inner);
        if planted::is(Bug::SandboxAcrossAccounts) {
            let named = pools.iter().find(|(k, _)| k.function == key.function);
            return named.map(|(_, pool)| Arc::clone(pool));
        }
        if planted::is(Bug::OldVersionServed) {
            let of_function =
                |k: &VersionKey| (&k.account, &k.function) == (&key.account, &key.function);
            let old = pools
                .iter()
                .find(|(k, pool)| of_function(k) && pool.free() > 0);
            return old.map(|(_, pool)| Arc::clone(pool));
        }
        pools.get(key).cloned()
    }

    pub(crate) fn all_pools(&self) -> Vec<Arc<VersionPool>> {
        let pools = self.pools.read().unwrap_or_else(PoisonError::into_inner);
        pools.values().cloned().collect()
    }

    fn find_or_make_pool(&self, key: &VersionKey, runnable: &Runnable) -> Arc<VersionPool> {
        let mut pools = self.pools.write().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            VersionPool::new(
                key.clone(),
                Arc::clone(&runnable.version),
                Arc::clone(&self.seams.clock),
                Arc::clone(&self.changes),
                Arc::clone(&self.memory),
                Arc::clone(&self.freezer),
            )
        };
        Arc::clone(pools.entry(key.clone()).or_insert_with(make))
    }

    /// It finishes and takes no more.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire) || self.drain_ordered.load(Ordering::Acquire)
    }

    /// The operator's wish; gateways and the leader are told soon.
    pub(crate) fn order_drain(&self, drain: bool) {
        self.drain_ordered.store(drain, Ordering::Release);
        self.changes.next();
    }

    /// A permit and a free sandbox, now or not at all.
    pub(crate) fn admit(&self, key: &VersionKey) -> Result<Admitted, NotAdmitted> {
        let refuse = |reason, idle| NotAdmitted { reason, idle };
        if self.is_draining() {
            return Err(refuse(Reason::Draining, 0));
        }
        let Some(runnable) = self.catalog.find(key) else {
            return Err(refuse(Reason::UnknownVersion, 0));
        };
        let pool = self.find_pool(key);
        let acquired = self.gates.try_acquire_any(&runnable.pools);
        let (permit, is_provisioned) = acquired.map_err(|no| {
            let idle = pool.as_ref().map_or(0, |pool| pool.free());
            match no {
                NoPermit::Full => refuse(Reason::NoPermit, idle),
                NoPermit::Fenced => refuse(Reason::Fenced, idle),
            }
        })?;
        let pool = pool.ok_or_else(|| refuse(Reason::NoSandbox, 0))?;
        match pool.take(is_provisioned) {
            Taken::Nothing => Err(refuse(Reason::NoSandbox, 0)),
            taken => {
                permit.on_admitted();
                Ok(Admitted {
                    permit,
                    pool,
                    taken,
                })
            }
        }
    }

    /// Free sandboxes of a version.
    pub(crate) fn free(&self, key: &VersionKey) -> u32 {
        self.find_pool(key).map_or(0, |pool| pool.free())
    }

    /// Runs an admitted invocation whose event is complete.
    pub(crate) fn run(
        self: &Arc<Self>,
        pool: &Arc<VersionPool>,
        taken: Taken,
        invocation: Invocation,
    ) {
        self.metrics.in_flight.inc();
        match taken {
            Taken::Warm(sandbox) => {
                if let Err(invocation) = sandbox.bind(invocation) {
                    self.refuse(*invocation, || pool.free());
                }
            }
            Taken::InitError(sandbox) => match sandbox.take_fault() {
                Some(fault) => sandbox.serve_fault(invocation, fault),
                None => self.init_again(pool, invocation),
            },
            Taken::Nothing => self.refuse(invocation, || 0),
        }
    }

    fn refuse(&self, invocation: Invocation, idle: impl FnOnce() -> u32) {
        self.metrics.in_flight.dec();
        self.metrics.ended(Ended::Refused);
        invocation.refuse(Reason::SandboxDied, idle);
    }

    /// "If the Init phase times out, Lambda runs it again at the time of the first invocation, within the function's
    /// timeout."
    fn init_again(self: &Arc<Self>, pool: &Arc<VersionPool>, invocation: Invocation) {
        let Some(memory) = self.reserve(pool) else {
            return self.refuse(invocation, || pool.free());
        };
        let traceparent = traceparent(&invocation.span).unwrap_or_default();
        self.begin(pool, memory, Some(invocation), traceparent, false);
    }

    /// Begins cold starts, up to `count`; at least one, or the reason why none.
    pub(crate) fn start(
        self: &Arc<Self>,
        key: &VersionKey,
        count: u32,
        traceparent: &str,
    ) -> Result<u32, StartRefusal> {
        use pb::start_refused::Reason as No;
        let refuse = |reason, detail: String| StartRefusal { reason, detail };
        if self.is_draining() {
            return Err(refuse(No::Draining, String::new()));
        }
        let Some(runnable) = self.catalog.find(key) else {
            return Err(refuse(No::UnknownVersion, String::new()));
        };
        if let Err(error) = package::check_runtime(&self.runtimes, &runnable.version.config) {
            return Err(refuse(No::NotRunnable, error.to_string()));
        }
        let pool = self.find_or_make_pool(key, &runnable);
        for begun in 0..count.min(START_MAX) {
            match self.reserve(&pool) {
                Some(memory) => {
                    self.begin(&pool, memory, None, traceparent.to_owned(), false);
                }
                None if begun > 0 => return Ok(begun),
                None => {
                    let free = self.memory.free_mib();
                    let detail = format!("{free} MB free of {} wanted", pool.memory_mib());
                    return Err(refuse(No::NoMemory, detail));
                }
            }
        }
        Ok(count.min(START_MAX))
    }

    fn begin(
        self: &Arc<Self>,
        pool: &Arc<VersionPool>,
        memory: MemoryHold,
        pending: Option<Invocation>,
        traceparent: String,
        is_provisioned: bool,
    ) {
        let id = SandboxId(self.next_sandbox.fetch_add(1, Ordering::Relaxed));
        let sandbox = Sandbox::new(
            id,
            Arc::clone(pool),
            Arc::clone(&self.seams.clock),
            self.metrics.clone(),
            memory,
            pending,
            is_provisioned,
        );
        pool.add(Arc::clone(&sandbox));
        self.metrics.cold_starts.inc();
        self.tasks
            .spawn(launch::launch(Arc::clone(self), sandbox, traceparent));
    }

    /// Memory for a sandbox; idle ones of other versions give theirs up for it. Never one of its own: that would have
    /// served whoever waits, and a version that uses all memory would stop its sandboxes between two invocations.
    fn reserve(&self, wanted_by: &Arc<VersionPool>) -> Option<MemoryHold> {
        let hold = self.reserve_or_evict(wanted_by)?;
        // What is prepared has only what is left over.
        let now = MonotonicMs(self.seams.clock.monotonic_ms());
        self.stock.yield_to(self.memory.free_mib(), now);
        Some(hold)
    }

    fn reserve_or_evict(&self, wanted_by: &Arc<VersionPool>) -> Option<MemoryHold> {
        let needed = u64::from(wanted_by.memory_mib());
        if let Some(hold) = self.memory.reserve(needed) {
            return Some(hold);
        }
        let mut owners = HashMap::new();
        let mut candidates: Vec<Evictable> = Vec::new();
        let others = self.all_pools().into_iter();
        for pool in others.filter(|pool| !Arc::ptr_eq(pool, wanted_by)) {
            for candidate in pool.evictable() {
                owners.insert(candidate.id, Arc::clone(&pool));
                candidates.push(candidate);
            }
        }
        let evicted = plan_eviction(&candidates, self.memory.free_mib(), needed)?;
        for id in evicted {
            if let Some(pool) = owners.get(&id) {
                debug!(sandbox = id.0, version = %pool.key, "idle sandbox gives way");
                pool.evict(id);
            }
        }
        self.memory.reserve(needed)
    }

    /// Once a second: what is not worth keeping, what is expected, what the catalog has no more.
    pub(crate) fn sweep(self: &Arc<Self>) {
        let mut unused = Vec::new();
        self.catalog.trim(|| self.running());
        for pool in self.all_pools() {
            let is_wanted = self.catalog.contains(&pool.key) || planted::is(Bug::OldVersionServed);
            let is_kept = is_wanted && !self.is_draining();
            let is_expected = pool.tidy(if is_kept { self.idle_timeout_ms } else { 0 });
            if is_expected && is_kept {
                self.prewarm(&pool);
            }
            if !is_wanted && pool.is_empty() {
                unused.push(pool.key.clone());
            }
        }
        let mut pools = self.pools.write().unwrap_or_else(PoisonError::into_inner);
        for key in unused {
            // A start may have come between; it holds the pool and is in it.
            if pools.get(&key).is_some_and(|pool| pool.is_empty()) {
                pools.remove(&key);
            }
        }
    }

    /// Functions of which something runs or is kept here.
    fn running(&self) -> HashSet<(AccountId, FunctionName)> {
        let pools = self.all_pools();
        let full = pools.iter().filter(|pool| !pool.is_empty());
        let mut running: HashSet<_> = full.map(|pool| function_of(&pool.key)).collect();
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        running.extend(kept.values().map(|pool| function_of(&pool.key)));
        running
    }

    /// Makes a sandbox that nobody waits for. Only from memory that is free, and not on the way out.
    fn prewarm(self: &Arc<Self>, pool: &Arc<VersionPool>) {
        if self.draining.load(Ordering::Acquire) {
            return;
        }
        if let Some(memory) = self.memory.reserve(u64::from(pool.memory_mib())) {
            debug!(version = %pool.key, "warmed for an invocation that is expected");
            self.begin(pool, memory, None, String::new(), false);
        }
    }

    /// Sandboxes of all versions.
    pub(crate) fn sandbox_count(&self) -> u32 {
        u32::try_from(self.metrics.sandboxes.get()).unwrap_or(0)
    }

    /// Invocations that hold a permit and were delivered or wait for their sandbox.
    pub(crate) fn is_calm(&self) -> bool {
        self.metrics.in_flight.get() == 0
    }

    /// Kills everything.
    pub(crate) async fn stop(&self) {
        for pool in self.all_pools() {
            for sandbox in pool.sandboxes() {
                sandbox.stop();
            }
        }
        self.stock.clear();
        // Those with extensions have a shutdown phase; what is left after it is killed with the driver.
        self.kept_alive.close();
        let _ = tokio::time::timeout(launch::END_LIMIT, self.kept_alive.wait()).await;
        self.driver.shutdown().await;
        self.tasks.close();
        if tokio::time::timeout(launch::STOP_LIMIT, self.tasks.wait())
            .await
            .is_err()
        {
            warn!("sandboxes did not end in time");
        }
    }
}

impl Admitted {
    /// Takes the parts apart: what is held, and what is run on.
    pub(crate) fn into_parts(self) -> (HeldPermit, Arc<VersionPool>, Taken) {
        (self.permit, self.pool, self.taken)
    }
}

/// Gives a taken sandbox back unused: its event never came.
pub(crate) fn give_back(pool: &VersionPool, taken: Taken) {
    match taken {
        Taken::Warm(sandbox) => pool.on_idle(sandbox.id),
        // Out of the pool for good; its error is lost with the invocation that would have had it.
        Taken::InitError(sandbox) => sandbox.stop(),
        Taken::Nothing => {}
    }
}
