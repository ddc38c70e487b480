//! Sandboxes that are prepared before anybody asks for them: built up to the code, empty or with a stem cell of the runtime.
//! How many of which kind is `hearth_core::stock`'s to say; what one is, the driver's ([`Prepared`]).

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hearth_core::ids::MonotonicMs;
use hearth_core::limits::SANDBOX_PIDS;
use hearth_core::stock::{Bounds, Demand, Kind, give_way, may_become, plan};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::Engine;
use crate::metrics::Start;
use crate::options::PoolsOptions;
use crate::runtimes::Pack;
use crate::runtimes::environment::pack_environment;
use crate::sandbox::choice::NATIVE;
use crate::sandbox::driver::{DriverError, Prepared, SandboxSpec, StartedSandbox};

/// Memory of an empty sandbox, rounded up.
const EMPTY_MIB: u64 = 1;

/// Size of `/tmp`, AWS's default; functions with another have nothing prepared.
const TMP_MIB: u32 = 512;

/// What a stem may use; its owner's limit takes the place of this.
const STEM_LIMIT_MIB: u32 = 512;

/// A function's memory that stems are made for before any has been asked for; AWS's default. Of importance where a program
/// is started with it.
const FIRST_MEMORY_MIB: u32 = 128;

/// Time between two looks while nothing changes.
const EVERY: Duration = Duration::from_secs(1);

/// Time between two looks while sandboxes are starting, which go first.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// Pause after a failure, doubling up to 64 of it.
const PAUSE_MS: u64 = 1_000;

/// Kinds that are remembered; the least wanted one is forgotten for another.
const KINDS_MAX: usize = 64;

/// The name of a kind: a runtime, and the program that waits, none if it is empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Id {
    runtime: String,
    argv: Vec<String>,
}

/// What a sandbox of a function may be made from.
#[derive(Debug, Clone)]
pub(crate) struct Base {
    pub(crate) runtime: String,
    pub(crate) pack: Arc<Pack>,
}

#[derive(Debug)]
struct Shelf {
    pack: Arc<Pack>,
    memory_mib: u64,
    demand: Demand,
    is_standing: bool,
    ready: VecDeque<Box<dyn Prepared>>,
    failures: u32,
    not_before: MonotonicMs,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Stock {
    bounds: Bounds,
    shelves: Mutex<BTreeMap<Id, Shelf>>,
    /// Memory of all that is ready.
    used_mib: AtomicU64,
    serial: AtomicU64,
    /// Something was taken, or is to be compiled.
    taken: Notify,
}

impl Stock {
    pub(crate) fn new(options: &PoolsOptions, offered_mib: u64) -> Self {
        Self {
            bounds: Bounds {
                each: options.each,
                memory_mib: options.memory_mib(offered_mib),
            },
            shelves: Mutex::default(),
            used_mib: AtomicU64::new(0),
            serial: AtomicU64::new(0),
            taken: Notify::new(),
        }
    }

    fn shelves(&self) -> MutexGuard<'_, BTreeMap<Id, Shelf>> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how much is used, under the lock.
    fn count(&self, shelves: &BTreeMap<Id, Shelf>) {
        let used = shelves.values().map(Shelf::used_mib).sum();
        self.used_mib.store(used, Ordering::Relaxed);
    }

    /// One of a kind, whose demand is noted.
    fn take(
        &self,
        base: &Base,
        id: Id,
        memory_mib: u64,
        now: MonotonicMs,
    ) -> Option<Box<dyn Prepared>> {
        let mut shelves = self.shelves();
        if !shelves.contains_key(&id) && shelves.len() >= KINDS_MAX {
            let least = shelves
                .iter()
                .min_by_key(|(_, shelf)| shelf.demand.recent(now));
            let least = least.map(|(id, _)| id.clone())?;
            shelves.remove(&least);
        }
        let shelf = shelves
            .entry(id)
            .or_insert_with(|| Shelf::new(Arc::clone(&base.pack), memory_mib));
        shelf.demand.on_start(now);
        shelf.keep_of(&base.pack);
        let taken = shelf.take();
        self.count(&shelves);
        drop(shelves);
        self.wake();
        taken
    }

    /// There may be something to do.
    pub(crate) fn wake(&self) {
        self.taken.notify_one();
    }

    /// Ends what has no room beside `free_mib` that nothing else has.
    pub(super) fn yield_to(&self, free_mib: u64, now: MonotonicMs) {
        let excess = self
            .used_mib
            .load(Ordering::Relaxed)
            .saturating_sub(free_mib);
        if excess == 0 {
            return;
        }
        let mut shelves = self.shelves();
        let kinds = kinds(&shelves, now);
        let ended = give_way(&kinds, excess)
            .unwrap_or_else(|| kinds.keys().flat_map(|id| vec![id.clone(); 64]).collect());
        let ended: Vec<_> = ended
            .iter()
            .filter_map(|id| shelves.get_mut(id)?.ready.pop_front())
            .collect();
        self.count(&shelves);
        drop(shelves);
        drop(ended);
    }

    /// Ends all.
    pub(super) fn clear(&self) {
        let all = std::mem::take(&mut *self.shelves());
        self.used_mib.store(0, Ordering::Relaxed);
        drop(all);
    }
}

impl Shelf {
    fn new(pack: Arc<Pack>, memory_mib: u64) -> Self {
        Self {
            pack,
            memory_mib,
            demand: Demand::default(),
            is_standing: false,
            ready: VecDeque::new(),
            failures: 0,
            not_before: MonotonicMs(0),
        }
    }

    fn used_mib(&self) -> u64 {
        self.memory_mib * u64::try_from(self.ready.len()).unwrap_or(u64::MAX)
    }

    /// What was made of a pack that was replaced is of no use.
    fn keep_of(&mut self, pack: &Arc<Pack>) {
        if !Arc::ptr_eq(&self.pack, pack) {
            self.pack = Arc::clone(pack);
            self.ready.clear();
        }
    }

    fn take(&mut self) -> Option<Box<dyn Prepared>> {
        while let Some(prepared) = self.ready.pop_front() {
            if prepared.is_alive() {
                return Some(prepared);
            }
        }
        None
    }
}

fn kinds(shelves: &BTreeMap<Id, Shelf>, now: MonotonicMs) -> BTreeMap<Id, Kind> {
    let kind = |shelf: &Shelf| Kind {
        recent: shelf.demand.recent(now),
        is_standing: shelf.is_standing,
        memory_mib: shelf.memory_mib,
        held: u32::try_from(shelf.ready.len()).unwrap_or(u32::MAX),
    };
    let kinds = shelves.iter().map(|(id, shelf)| (id.clone(), kind(shelf)));
    kinds.collect()
}

/// Whether something prepared can become it at all.
fn is_usual(spec: &SandboxSpec) -> bool {
    spec.tmp_mib == TMP_MIB
        && !spec.isolated
        && spec.extensions.programs.is_empty()
        && spec.maker.as_deref().is_none_or(|maker| maker == NATIVE)
}

impl Engine {
    /// A sandbox: from a stem, else from an empty prepared one, else made now.
    pub(super) async fn start_sandbox(
        &self,
        spec: SandboxSpec,
        base: Option<&Base>,
    ) -> Result<StartedSandbox, DriverError> {
        if let Some(base) = base.filter(|_| self.driver.can_prepare() && is_usual(&spec))
            && let Some((kind, prepared)) = self.prepared_for(&spec, base)
        {
            match prepared.start(spec.clone()).await {
                Ok(started) => {
                    self.metrics.started_from(kind);
                    return Ok(started);
                }
                Err(error @ (DriverError::Exec { .. } | DriverError::InvalidSpec(_))) => {
                    return Err(error);
                }
                Err(error) => debug!(%error, "a prepared sandbox was of no use"),
            }
        }
        self.metrics.started_from(Start::Nothing);
        self.driver.start(spec).await
    }

    /// The best that is there.
    fn prepared_for(&self, spec: &SandboxSpec, base: &Base) -> Option<(Start, Box<dyn Prepared>)> {
        let now = MonotonicMs(self.seams.clock.monotonic_ms());
        let id = |argv| Id {
            runtime: base.runtime.clone(),
            argv,
        };
        let manifest = &base.pack.manifest;
        let stem = manifest
            .stem
            .as_ref()
            .filter(|stem| may_become(&stem.early, &pack_environment(manifest), &spec.env));
        let taken = stem.and_then(|stem| {
            let id = id(stem.argv(spec.memory_mib));
            let taken = self.stock.take(base, id, stem.memory_mib, now)?;
            Some((Start::Stem, taken))
        });
        taken.or_else(|| {
            let taken = self.stock.take(base, id(Vec::new()), EMPTY_MIB, now)?;
            Some((Start::Empty, taken))
        })
    }

    /// Keeps the stock, and compiles what waits for it, for as long as the worker lives.
    pub(crate) async fn keep_stock(self: Arc<Self>, token: CancellationToken) {
        if !self.driver.can_prepare() {
            return;
        }
        loop {
            let pause = if self.is_starting() {
                BUSY_PAUSE
            } else {
                match self.next_to_make() {
                    _ if self.is_draining() => EVERY,
                    Some((id, pack)) => {
                        self.make_one(id, pack).await;
                        Duration::ZERO
                    }
                    None if self.compile_one().await => Duration::ZERO,
                    None => EVERY,
                }
            };
            tokio::select! {
                () = token.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
                () = self.stock.taken.notified() => {}
            }
        }
        self.stock.clear();
    }

    /// Whether sandboxes are being made or in their init phase.
    fn is_starting(&self) -> bool {
        self.start_slots.available_permits() < self.start_slots_total
    }

    /// Looks at what there is; ends what is not wanted any more.
    fn next_to_make(&self) -> Option<(Id, Arc<Pack>)> {
        let now = MonotonicMs(self.seams.clock.monotonic_ms());
        let mut packs = BTreeMap::new();
        for name in self.runtimes.installed() {
            match self.runtimes.pack(&name) {
                Ok(pack) => drop(packs.insert(name, pack)),
                Err(error) => debug!(%error, "nothing is prepared of a runtime"),
            }
        }
        let free_mib = self.memory.free_mib();
        let stock = &self.stock;
        let mut shelves = stock.shelves();
        shelves.retain(|id, _| packs.contains_key(&id.runtime));
        for (name, pack) in &packs {
            stand(&mut shelves, name, pack);
        }
        for (id, shelf) in shelves.iter_mut() {
            shelf.keep_of(&packs[&id.runtime]);
            shelf.ready.retain(|prepared| prepared.is_alive());
        }
        let mut kinds = kinds(&shelves, now);
        kinds.retain(|id, kind| kind.held > 0 || shelves[id].not_before <= now);
        let bounds = Bounds {
            memory_mib: stock.bounds.memory_mib.min(free_mib),
            ..stock.bounds
        };
        let plan = plan(&kinds, bounds);
        let ended: Vec<_> = plan
            .end
            .iter()
            .filter_map(|id| shelves.get_mut(id)?.ready.pop_back())
            .collect();
        stock.count(&shelves);
        let make = plan.make.filter(|id| shelves[id].not_before <= now);
        let make = make.map(|id| (id.clone(), Arc::clone(&shelves[&id].pack)));
        drop(shelves);
        drop(ended);
        make
    }

    async fn make_one(&self, id: Id, pack: Arc<Pack>) {
        let serial = self.stock.serial.fetch_add(1, Ordering::Relaxed);
        let env = if id.argv.is_empty() {
            Vec::new()
        } else {
            pack_environment(&pack.manifest)
        };
        let spec = SandboxSpec {
            id: format!("{}-stock-{serial}", self.incarnation),
            root: pack.root.clone(),
            mounts: Vec::new(),
            argv: id.argv.clone(),
            env,
            cwd: PathBuf::from("/"),
            memory_mib: STEM_LIMIT_MIB,
            pids_max: SANDBOX_PIDS,
            tmp_mib: TMP_MIB,
            hostname: super::launch::HOST_NAME.into(),
            isolated: false,
            maker: None,
            extensions: Default::default(),
        };
        let made = self.driver.prepare(spec).await;
        let now = MonotonicMs(self.seams.clock.monotonic_ms());
        let mut shelves = self.stock.shelves();
        let Some(shelf) = shelves.get_mut(&id) else {
            return;
        };
        match made {
            Ok(prepared) if Arc::ptr_eq(&shelf.pack, &pack) => {
                shelf.failures = 0;
                shelf.ready.push_back(prepared);
            }
            Ok(_) => {}
            Err(error) => {
                if shelf.failures == 0 {
                    warn!(runtime = id.runtime, %error, "no sandbox could be prepared");
                }
                shelf.not_before = now.plus(PAUSE_MS << shelf.failures.min(6));
                shelf.failures = shelf.failures.saturating_add(1);
            }
        }
        self.stock.count(&shelves);
    }
}

/// Of every runtime there is an empty one, and a stem if it has any.
fn stand(shelves: &mut BTreeMap<Id, Shelf>, name: &str, pack: &Arc<Pack>) {
    let stem = pack.manifest.stem.as_ref();
    let stem = stem.map(|stem| (stem.argv(FIRST_MEMORY_MIB), stem.memory_mib));
    for (argv, memory_mib) in stem.into_iter().chain([(Vec::new(), EMPTY_MIB)]) {
        let id = Id {
            runtime: name.to_owned(),
            argv,
        };
        let shelf = shelves
            .entry(id)
            .or_insert_with(|| Shelf::new(Arc::clone(pack), memory_mib));
        shelf.is_standing = true;
    }
}
