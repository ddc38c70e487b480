//! Puts a worker together, starts it and stops it. What its parts do is in their own files.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::Duration;

use hearth_core::function::Function;
use hearth_core::ids::{Incarnation, NodeId, VersionKey};
use hearth_node::Seams;
use hearth_node::admin::Admin;
use hearth_node::data_dir::{DataDir, DataDirError, Identity};
use hearth_node::grpc::{self, ClusterIdError, ClusterIdentity};
use hearth_node::health::Health;
use hearth_node::listen::{ListenError, parse_addr};
use hearth_node::metrics::Metrics;
use hearth_node::net::{NetListener, SharedNet};
use hearth_node::shutdown::Shutdown;
use hearth_node::tls::{NodeRole, Tls, TlsError};
use hearth_registry::Registry;
use tokio::sync::{Semaphore, broadcast};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::catalog::{self, Catalog};
use crate::code::fetch::FromControllers;
use crate::code::{CodeError, CodeStore, PackageSource};
use crate::controllers::Controllers;
use crate::invoke::InvocationService;
use crate::metrics::WorkerMetrics;
use crate::options::{Options, OptionsError, host_memory_mib};
use crate::pool::Engine;
use crate::pool::changes::Changes;
use crate::pool::compile::Compiling;
use crate::pool::gates::Gates;
use crate::pool::memory::Memory;
use crate::pool::stock::Stock;
use crate::runtimes::Runtimes;
use crate::sandbox::driver::Driver;
use crate::session::{self, incarnation};

/// Time between looks at what is idle or deleted.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Time between looks at what is kept for provisioned concurrency.
const PROVISION_EVERY: Duration = Duration::from_millis(100);

/// Refused starts not yet told to a gateway; more are dropped and come again.
const REFUSALS: usize = 64;

/// How long tasks may take to end once nothing runs any more.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// Time for the last answers to leave.
const LAST_ANSWERS: Duration = Duration::from_millis(100);

/// Why a worker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An option cannot be.
    #[error("the worker's options are wrong")]
    Options(#[source] OptionsError),
    /// The cluster id cannot be.
    #[error("the cluster id is wrong")]
    ClusterId(#[source] ClusterIdError),
    /// The data directory is another node's, in use, or cannot be written.
    #[error("the worker's data directory cannot be used")]
    DataDir(#[source] DataDirError),
    /// A port.
    #[error("the worker cannot listen")]
    Listen(#[source] ListenError),
    /// TLS between nodes.
    #[error("TLS between nodes cannot be set up")]
    Tls(#[source] TlsError),
    /// The code cache.
    #[error("the worker's code cache cannot be opened")]
    Code(#[source] CodeError),
    /// The incarnation could not be kept.
    #[error("the worker's incarnation cannot be written")]
    Incarnation(#[source] std::io::Error),
    /// The driver cannot make sandboxes here; one line for each reason.
    #[error("this host cannot run sandboxes: {0}")]
    Host(String),
}

/// A running worker. Dropping it without [`Worker::shutdown`] leaves its tasks running.
#[derive(Debug)]
pub struct Worker {
    /// Where gateways reach it.
    pub addr: SocketAddr,
    /// Where metrics and probes are.
    pub admin_addr: SocketAddr,
    /// This life of it.
    pub incarnation: Incarnation,
    pub(crate) engine: Arc<Engine>,
    shutdown: Shutdown,
    /// Ends the gateways' streams, once drained.
    streams: CancellationToken,
    drain_timeout: Duration,
    _data_dir: DataDir,
}

/// Starts a worker; it listens when this returns.
///
/// # Errors
/// Why it does not; nothing is left running.
pub async fn start(
    options: Options,
    mut seams: Seams,
    driver: Arc<dyn Driver>,
) -> Result<Worker, StartError> {
    let tls = open_tls(&options, &seams)?;
    let plain = seams.net.clone();
    seams.net = tls.net(&plain, NodeRole::Controller);
    let identity = ClusterIdentity::known(&options.cluster_id).map_err(StartError::ClusterId)?;
    let controllers = Controllers::new(
        options.controllers.clone(),
        seams.clone(),
        options.channel.clone(),
        identity,
    );
    let source = FromControllers {
        controllers: controllers.clone(),
        cluster_id: options.cluster_id.clone(),
        seams: seams.clone(),
        registry: Registry::new(options.registries.clone()),
    };
    let parts = Parts {
        driver,
        controllers,
        source: Arc::new(source),
        tls,
        plain,
    };
    start_with(options, seams, parts).await
}

fn open_tls(options: &Options, seams: &Seams) -> Result<Tls, StartError> {
    let me = (
        options.cluster_id.as_str(),
        NodeRole::Worker,
        options.node_id,
    );
    Tls::open(&options.tls, Some(&options.data_dir), me, &seams.clock).map_err(StartError::Tls)
}

/// What a worker is put together from.
pub(crate) struct Parts {
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) controllers: Controllers,
    pub(crate) source: Arc<dyn PackageSource>,
    pub(crate) tls: Tls,
    /// For the admin port; the network of the seams is between nodes.
    pub(crate) plain: SharedNet,
}

/// As [`start`], with packages from elsewhere.
pub(crate) async fn start_with(
    options: Options,
    seams: Seams,
    parts: Parts,
) -> Result<Worker, StartError> {
    let Parts {
        driver,
        controllers,
        source,
        tls,
        plain,
    } = parts;
    options.validate().map_err(StartError::Options)?;
    check_host(&*driver)?;
    let data_dir = open_data_dir(&options)?;
    let listener = listen(&seams.net, &options.listen).await?;
    let admin_listener = listen(&plain, &options.admin_listen).await?;
    let (addr, admin_addr) = (listener.local_addr(), admin_listener.local_addr());
    let incarnation = incarnation::next(data_dir.path(), seams.clock.unix_ms())
        .map_err(StartError::Incarnation)?;
    let metrics = Metrics::new("worker");
    let engine = engine(&options, &seams, driver, source, incarnation, &metrics)?;
    let health = Health::new(Arc::clone(&seams.clock));
    let shutdown = Shutdown::new(health.clone());
    tls.register(&metrics);
    shutdown.spawn("tls", tls.watch(shutdown.token()));
    let worker = Worker {
        addr,
        admin_addr,
        incarnation,
        engine,
        shutdown,
        streams: CancellationToken::new(),
        drain_timeout: options.drain_timeout.0,
        _data_dir: data_dir,
    };
    Admin {
        health: health.clone(),
        metrics,
    }
    .spawn(admin_listener, &worker.shutdown);
    worker.serve(listener, &options);
    worker.follow(&options, &seams, controllers, health);
    info!(%addr, %admin_addr, %incarnation, node = options.node_id, "worker started");
    Ok(worker)
}

/// Whether `allow_no_cgroups` covers what is missing is the driver's to say: it is made with the same option.
fn check_host(driver: &dyn Driver) -> Result<(), StartError> {
    let mut fatal = Vec::new();
    for diagnosis in driver.diagnose() {
        if diagnosis.fatal {
            fatal.push(diagnosis.message);
        } else {
            warn!(lacks = diagnosis.message, "this host lacks something");
        }
    }
    if fatal.is_empty() {
        Ok(())
    } else {
        Err(StartError::Host(fatal.join("; ")))
    }
}

fn open_data_dir(options: &Options) -> Result<DataDir, StartError> {
    let dir = DataDir::open(&options.data_dir).map_err(StartError::DataDir)?;
    let identity = Identity {
        cluster_id: options.cluster_id.clone(),
        role: "worker".into(),
        node: options.node_id.to_string(),
    };
    dir.claim(&identity).map_err(StartError::DataDir)?;
    Ok(dir)
}

async fn listen(net: &SharedNet, addr: &str) -> Result<Box<dyn NetListener>, StartError> {
    let addr = parse_addr(addr).map_err(StartError::Listen)?;
    net.listen(addr).await.map_err(StartError::Listen)
}

fn engine(
    options: &Options,
    seams: &Seams,
    driver: Arc<dyn Driver>,
    source: Arc<dyn PackageSource>,
    incarnation: Incarnation,
    metrics: &Metrics,
) -> Result<Arc<Engine>, StartError> {
    let metrics = WorkerMetrics::new(metrics);
    let code = CodeStore::open(
        options.data_dir.join("code"),
        options.code_cache.0,
        source,
        metrics.clone(),
    )
    .map_err(StartError::Code)?;
    let changes = Arc::new(Changes::default());
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let slots = match options.max_cold_starts {
        Some(slots) => usize::try_from(slots).unwrap_or(Semaphore::MAX_PERMITS),
        None => cpus * 2,
    };
    let offered_mib = options.offered_mib(host_memory_mib());
    let gates = Gates::new(
        NodeId(options.node_id),
        incarnation,
        options.lease.as_millis(),
        Arc::clone(&seams.clock),
        Arc::clone(&changes),
    );
    Ok(Arc::new(Engine {
        seams: seams.clone(),
        incarnation: incarnation.0,
        region: options.region.clone(),
        idle_timeout_ms: options.idle_timeout.as_millis(),
        init_timeout_us: options.init_timeout.as_millis() * 1_000,
        freeze_after_us: options.freeze_after.as_millis() * 1_000,
        driver,
        code,
        runtimes: Runtimes::new(options.runtimes_dir.clone()),
        catalog: Catalog::new(Arc::clone(&seams.clock)),
        gates,
        changes,
        memory: Memory::new(offered_mib),
        freezer: Arc::default(),
        start_slots: Arc::new(Semaphore::new(slots)),
        start_slots_total: slots,
        stock: Stock::new(&options.pools, offered_mib),
        compiling: Compiling::default(),
        metrics,
        draining: AtomicBool::new(false),
        drain_ordered: AtomicBool::new(false),
        tasks: TaskTracker::new(),
        kept_alive: TaskTracker::new(),
        refusals: broadcast::Sender::new(REFUSALS),
        next_sandbox: AtomicU64::new(1),
        pools: RwLock::new(HashMap::new()),
        kept: Mutex::default(),
    }))
}

impl Worker {
    fn serve(&self, listener: Box<dyn NetListener>, options: &Options) {
        let identity = ClusterIdentity::known(&options.cluster_id)
            .expect("the options were checked with the same rule");
        let service = InvocationService::server(
            Arc::clone(&self.engine),
            &options.server,
            self.engine.tasks.clone(),
            self.streams.clone(),
        );
        let router = grpc::server(&options.server, &identity).add_service(service);
        let (server, token) = (options.server.clone(), self.streams.clone());
        self.shutdown.spawn("invocations", async move {
            if let Err(error) = grpc::serve(router, listener, &server, token).await {
                error!(%error, "the worker serves no more");
            }
        });
    }

    fn follow(&self, options: &Options, seams: &Seams, controllers: Controllers, health: Health) {
        let engine = Arc::clone(&self.engine);
        let token = self.streams.clone();
        self.shutdown.spawn("sweep", async move {
            loop {
                tokio::select! {
                    () = token.cancelled() => return,
                    () = tokio::time::sleep(SWEEP_EVERY) => engine.sweep(),
                }
            }
        });
        let (engine, token) = (Arc::clone(&self.engine), self.shutdown.token());
        self.shutdown.spawn("stock", engine.keep_stock(token));
        let (engine, token) = (Arc::clone(&self.engine), self.streams.clone());
        self.shutdown.spawn("freezer", async move {
            tokio::select! {
                () = token.cancelled() => {}
                () = engine.freezer.run(&engine.seams.clock) => {}
            }
        });
        let (engine, token) = (Arc::clone(&self.engine), self.streams.clone());
        self.shutdown.spawn("provisioned concurrency", async move {
            loop {
                tokio::select! {
                    () = token.cancelled() => return,
                    () = tokio::time::sleep(PROVISION_EVERY) => engine.tend_provisioned(),
                }
            }
        });
        let following = catalog::follow(
            self.engine.catalog.clone(),
            controllers.clone(),
            options.node_id,
            seams.clone(),
            self.streams.clone(),
        );
        self.shutdown.spawn("catalog", following);
        let facts = session::Facts {
            node_id: options.node_id,
            addr: options
                .advertise
                .clone()
                .unwrap_or_else(|| self.addr.to_string()),
            memory_mib: options.offered_mib(host_memory_mib()),
            labels: options.labels.clone(),
            lease_ms: options.lease.as_millis(),
        };
        let registering = session::run(
            Arc::clone(&self.engine),
            controllers,
            facts,
            health,
            self.streams.clone(),
        );
        self.shutdown.spawn("session", registering);
    }

    /// Makes a function known as the controllers' catalog would: for tests and the simulation.
    pub fn inject_function(&self, function: &Function) {
        self.engine.catalog.put(function);
    }

    /// The last log lines of a version on this worker.
    #[must_use]
    pub fn function_log(&self, key: &VersionKey) -> Vec<u8> {
        let pools = self.engine.all_pools();
        let pool = pools.iter().find(|pool| pool.key == *key);
        pool.map(|pool| pool.log.read()).unwrap_or_default()
    }

    /// Takes no more invocations, lets those running end within the drain timeout, then stops everything.
    pub async fn shutdown(self) {
        self.engine.draining.store(true, Ordering::Release);
        self.engine.changes.next();
        if tokio::time::timeout(self.drain_timeout, self.drained())
            .await
            .is_err()
        {
            warn!("invocations still running at the drain deadline are ended");
        }
        // Answers of what is ended now still leave, as the streams live on.
        let engine = Arc::clone(&self.engine);
        let stopping = tokio::spawn(async move { engine.stop().await });
        tokio::time::sleep(LAST_ANSWERS).await;
        self.streams.cancel();
        self.shutdown.start();
        if let Err(error) = stopping.await {
            error!(%error, "stopping failed");
        }
        if let Err(error) = self.shutdown.wait_with_deadline(STOP_LIMIT).await {
            warn!(%error, "worker stopped late");
        }
    }

    async fn drained(&self) {
        let mut changes = self.engine.changes.reader();
        changes.turn();
        while !self.engine.is_calm() {
            // Every end of an invocation changes its gate.
            changes.changed().await;
            changes.turn();
        }
    }
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod cluster_tests;

#[cfg(test)]
#[path = "worker_tests.rs"]
pub(crate) mod tests;
