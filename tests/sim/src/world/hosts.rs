//! The hosts of a run: real controllers, workers and gateways, each started as its executable would, on simulated seams.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hearth_controller::Controller;
use hearth_node::Seams;
use hearth_node::config::HumanDuration;
use hearth_node::random::SeededRandom;
use hearth_worker::sandbox::driver::ExitStatus;
use hearth_worker::sandbox::fake::{FakeDriver, FakeSandbox};

use super::clock::SimClock;
use super::disk::SimDisk;
use super::net::SimNet;
use super::{now_ms, script};
use crate::ledger::Ledger;
use crate::plan::{ACCOUNTS, Plan};

pub(crate) const CONTROLLER_PORT: u16 = 7400;
pub(crate) const GATEWAY_PORT: u16 = 9100;
const WORKER_PORT: u16 = 9120;
const ADMIN_PORT: u16 = 9200;
/// The runtime that the fake sandboxes say they are.
pub(crate) const RUNTIME: &str = "python3.11";

/// A controller as the world sees it from outside.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot(Arc<Mutex<Inside>>);

#[derive(Debug, Default)]
pub(crate) struct Inside {
    pub(crate) controller: Option<Arc<Controller>>,
    /// How often one has started.
    pub(crate) lives: u64,
    /// Why the process has ended itself.
    pub(crate) fatal: Option<String>,
}

impl Slot {
    pub(crate) fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a host keeps over its restarts.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) clock: Arc<SimClock>,
    seed: u64,
    boots: Arc<AtomicU64>,
    data_dir: PathBuf,
    ledger: Ledger,
}

impl Host {
    pub(crate) fn new(name: &str, plan: &Plan, number: usize, dir: &Path, ledger: &Ledger) -> Self {
        let (drift, skew) = plan.clocks.get(number).copied().unwrap_or_default();
        Self {
            name: name.to_owned(),
            clock: SimClock::new(drift, skew),
            seed: plan.seed.wrapping_mul(1_000_003) ^ u64::try_from(number).unwrap_or(0),
            boots: Arc::default(),
            data_dir: dir.join(name),
            ledger: ledger.clone(),
        }
    }

    /// The seams of one life of the host.
    fn seams(&self) -> Seams {
        let boot = self.boots.fetch_add(1, Ordering::Relaxed);
        Seams {
            clock: Arc::clone(&self.clock) as _,
            random: Arc::new(SeededRandom::new(self.seed ^ boot << 48)),
            net: SimNet::shared(),
        }
    }

    fn node_id(&self, base: u64) -> u64 {
        base + self.name[1..].parse::<u64>().unwrap_or(0)
    }

    fn did_not_start(&self, error: &dyn std::error::Error) {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            text.push_str(&format!(": {error}"));
            source = error.source();
        }
        let detail = format!("{}: {text}", self.name);
        self.ledger
            .seen()
            .violate("a node starts on what it left", now_ms(), &detail);
    }
}

fn ms(ms: u64) -> HumanDuration {
    HumanDuration::from_millis(ms)
}

fn controllers(plan: &Plan) -> Vec<String> {
    Plan::names('c', plan.controllers)
        .iter()
        .map(|name| format!("{name}:{CONTROLLER_PORT}"))
        .collect()
}

/// A controller, until it is crashed or ends itself.
pub(crate) async fn controller(host: Host, plan: Arc<Plan>, disk: SimDisk, slot: Slot) {
    let peers: BTreeMap<u64, String> = (1..).zip(controllers(&plan)).collect();
    let mut options = hearth_controller::Options {
        node_id: host.node_id(0),
        cluster_id: "sim".to_owned(),
        listen: format!("0.0.0.0:{CONTROLLER_PORT}"),
        admin_listen: format!("0.0.0.0:{ADMIN_PORT}"),
        data_dir: host.data_dir.clone(),
        peers,
        ..hearth_controller::Options::default()
    };
    options.accounts.concurrency = u32::try_from(plan.account_limit).unwrap_or(u32::MAX);
    options.workers.lease = ms(plan.lease_ms);
    options.workers.margin = ms(plan.margin_ms);
    options.workers.silent_after = ms(1_000);
    options.events.enabled = plan.has_events;
    options.raft.snapshot_every = plan.snapshot_every;
    options.raft.keep_applied = plan.keep_applied;
    let started = hearth_controller::start_on(options, host.seams(), Arc::new(disk)).await;
    let controller = match started {
        Ok(controller) => Arc::new(controller),
        Err(error) => {
            host.did_not_start(&error);
            return std::future::pending().await;
        }
    };
    {
        let mut inside = slot.inside();
        inside.controller = Some(Arc::clone(&controller));
        inside.lives += 1;
    }
    let reason = controller.fatal().await;
    let detail = format!("{}: {reason}", host.name);
    let promise = "no controller has to end itself";
    host.ledger.seen().violate(promise, now_ms(), &detail);
    slot.inside().fatal = Some(reason);
    std::future::pending().await
}

/// A worker, until it is crashed.
pub(crate) async fn worker(host: Host, plan: Arc<Plan>, runtimes_dir: PathBuf) {
    let options = hearth_worker::Options {
        node_id: host.node_id(100),
        cluster_id: "sim".to_owned(),
        listen: format!("0.0.0.0:{WORKER_PORT}"),
        advertise: Some(format!("{}:{WORKER_PORT}", host.name)),
        admin_listen: format!("0.0.0.0:{ADMIN_PORT}"),
        data_dir: host.data_dir.clone(),
        controllers: controllers(&plan),
        runtimes_dir,
        memory_mib: Some(64 * 1_024),
        idle_timeout: ms(6_000),
        max_cold_starts: Some(16),
        lease: ms(plan.lease_ms),
        ..hearth_worker::Options::default()
    };
    let (name, ledger) = (host.name.clone(), host.ledger.clone());
    let boot = host.boots.load(Ordering::Relaxed);
    let driver = FakeDriver::new(move |inside: FakeSandbox| -> Script {
        Box::pin(script::run(
            inside,
            format!("{name}.{boot}"),
            ledger.clone(),
        ))
    });
    match hearth_worker::start(options, host.seams(), Arc::new(driver)).await {
        Ok(worker) => {
            let _running = worker;
            std::future::pending().await
        }
        Err(error) => {
            host.did_not_start(&error);
            std::future::pending().await
        }
    }
}

type Script = std::pin::Pin<Box<dyn Future<Output = ExitStatus> + Send>>;

/// A gateway, until it is crashed.
pub(crate) async fn gateway(host: Host, plan: Arc<Plan>) {
    let mut options = hearth_gateway::Options {
        node_id: host.node_id(200),
        cluster_id: "sim".to_owned(),
        controllers: controllers(&plan),
        account_id: ACCOUNTS[0].to_owned(),
        auth: hearth_gateway::Auth::Any,
        queue_timeout: ms(5_000),
        ..hearth_gateway::Options::default()
    };
    options.listen.set_port(GATEWAY_PORT);
    options.admin_listen.set_port(ADMIN_PORT);
    match hearth_gateway::start(options, host.seams()).await {
        Ok(gateway) => {
            let _running = gateway;
            std::future::pending().await
        }
        Err(error) => {
            host.did_not_start(&error);
            std::future::pending().await
        }
    }
}

/// The directory of the one runtime pack; its program is whatever the fake driver plays.
pub(crate) fn make_runtimes(dir: &Path) -> std::io::Result<()> {
    let pack = dir.join(RUNTIME);
    std::fs::create_dir_all(pack.join("root/var/task"))?;
    let manifest = format!("name = '{RUNTIME}'\nrecipe = '1'\nargv = ['/fake', '{{handler}}']\n");
    std::fs::write(pack.join("runtime.toml"), manifest)
}
