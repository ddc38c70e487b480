//! One role in this process, from its TOML file, until SIGTERM, Ctrl-C or the end of its supervisor.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use hearth_node::Seams;
use hearth_node::config::{self, DocumentedOptions};
use hearth_node::telemetry::{self, TelemetryGuard, TelemetryOptions};
use hearth_node::tls::NodeRole;
use hearth_worker::sandbox::choice::Choice;
use hearth_worker::sandbox::native::{NativeConfig, NativeDriver, SpawnerCommand};
use hearth_worker::sandbox::oci::OciDriver;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use crate::cli::RoleArgs;
use crate::credentials;
use crate::trust::{self, Keeper, Me};

/// Host uids between the ranges of two workers on one machine.
const UID_STRIDE: u32 = 134_217_728;
/// Sandboxes of one worker, so that 30 workers' uid ranges fit below 2^32.
const SANDBOXES_MAX: u32 = 2_048;

pub(crate) async fn controller(args: RoleArgs) -> anyhow::Result<()> {
    let Some(mut options) = load::<hearth_controller::Options>(&args)? else {
        return Ok(());
    };
    credentials::fill_session_key(&mut options.iam.session_key);
    let telemetry = begin("controller", options.node_id, &mut options.telemetry)?;
    let keeper = keep_controller(&options, &Seams::system()).await?;
    let controller = hearth_controller::start(options, Seams::system()).await?;
    info!(addr = %controller.addr, "controller started");
    let outcome = tokio::select! {
        () = told_to_end(args.tied) => Ok(()),
        () = keep(keeper) => Ok(()),
        reason = controller.fatal() => Err(anyhow::anyhow!("the controller cannot go on: {reason}")),
    };
    if outcome.is_ok()
        && let Err(error) = controller.shutdown().await
    {
        warn!("the controller did not end cleanly: {error}");
    }
    telemetry.shutdown().await;
    outcome
}

pub(crate) async fn worker(args: RoleArgs) -> anyhow::Result<()> {
    let Some(mut options) = load::<hearth_worker::Options>(&args)? else {
        return Ok(());
    };
    let telemetry = begin("worker", options.node_id, &mut options.telemetry)?;
    let keeper = keep_worker(&options, &Seams::system()).await?;
    let worker = start_worker(options, &Seams::system()).await?;
    info!(addr = %worker.addr, "worker started");
    tokio::select! {
        () = told_to_end(args.tied) => {}
        () = keep(keeper) => {}
    }
    worker.shutdown().await;
    telemetry.shutdown().await;
    Ok(())
}

pub(crate) async fn gateway(args: RoleArgs) -> anyhow::Result<()> {
    let Some(mut options) = load::<hearth_gateway::Options>(&args)? else {
        return Ok(());
    };
    if let Some(root) = credentials::from_env()? {
        options.access_key_id = root.access_key_id;
        options.secret_access_key = hearth_gateway::Secret(root.secret_access_key);
    }
    credentials::fill_session_key(&mut options.iam.session_key);
    let telemetry = begin("gateway", options.node_id, &mut options.telemetry)?;
    let keeper = keep_gateway(&options, &Seams::system()).await?;
    let gateway = hearth_gateway::start(options, Seams::system()).await?;
    info!(addr = %gateway.addr, "gateway started");
    tokio::select! {
        () = told_to_end(args.tied) => {}
        () = keep(keeper) => {}
    }
    gateway.shutdown().await;
    telemetry.shutdown().await;
    Ok(())
}

/// Keeps a node's certificate good; without one there is nothing to do, for ever.
pub(crate) async fn keep(keeper: Option<Keeper>) {
    match keeper {
        Some(keeper) => keeper.run().await,
        None => std::future::pending().await,
    }
}

/// What keeps the certificate of a controller good. It joins first if that is what it needs.
pub(crate) async fn keep_controller(
    options: &hearth_controller::Options,
    seams: &Seams,
) -> anyhow::Result<Option<Keeper>> {
    let peers: Vec<String> = options.peers.values().cloned().collect();
    let own = [options.listen.clone(), options.advertise.clone()];
    // One that is added to a running cluster knows the others by the addresses it is told to join at.
    let controllers = if options.tls.join_at.is_empty() {
        peers.clone()
    } else {
        options.tls.join_at.clone()
    };
    let me = Me {
        cluster: &options.cluster_id,
        role: NodeRole::Controller,
        id: options.node_id,
        data_dir: Some(&options.data_dir),
        controllers,
        addresses: own.into_iter().chain(peers).collect(),
    };
    trust::prepare(&options.tls, me, seams).await
}

/// As [`keep_controller`], for a worker.
pub(crate) async fn keep_worker(
    options: &hearth_worker::Options,
    seams: &Seams,
) -> anyhow::Result<Option<Keeper>> {
    let own = [
        options.listen.clone(),
        options.advertise.clone().unwrap_or_default(),
    ];
    let me = Me {
        cluster: &options.cluster_id,
        role: NodeRole::Worker,
        id: options.node_id,
        data_dir: Some(&options.data_dir),
        controllers: options.controllers.clone(),
        addresses: own.into_iter().chain(options.controllers.clone()).collect(),
    };
    trust::prepare(&options.tls, me, seams).await
}

/// As [`keep_controller`], for a gateway; its clients' port is not between nodes.
pub(crate) async fn keep_gateway(
    options: &hearth_gateway::Options,
    seams: &Seams,
) -> anyhow::Result<Option<Keeper>> {
    let me = Me {
        cluster: &options.cluster_id,
        role: NodeRole::Gateway,
        id: options.node_id,
        data_dir: None,
        controllers: options.controllers.clone(),
        addresses: options.controllers.clone(),
    };
    trust::prepare(&options.tls, me, seams).await
}

/// A worker on the native driver.
pub(crate) async fn start_worker(
    options: hearth_worker::Options,
    seams: &Seams,
) -> anyhow::Result<hearth_worker::Worker> {
    let executable = std::env::current_exe().context("finding the hearth executable")?;
    let spawner = SpawnerCommand {
        program: executable.clone(),
        args: vec![OsString::from("__spawner")],
    };
    let name = format!("{}-{}", options.cluster_id, options.node_id);
    let mut native = NativeConfig::new(spawner, &name);
    // A worker's number on this machine is not known to it; its id spreads workers of one cluster apart.
    native.uid_base += u32::try_from(options.node_id % 30).unwrap_or(0) * UID_STRIDE;
    native.sandboxes_max = SANDBOXES_MAX;
    native.scratch_dir = Some(options.data_dir.join("scratch"));
    native.allow_no_cgroups = options.allow_no_cgroups;
    native.network = options.network.native();
    let state_dir = native.state_dir.join("oci");
    let driver = NativeDriver::open(native)
        .await
        .context("this machine cannot make sandboxes")?;
    let driver = makers(&options, Arc::new(driver), &executable, &state_dir)?;
    for diagnosis in hearth_worker::sandbox::driver::Driver::diagnose(&driver) {
        warn!("{}", diagnosis.message);
    }
    hearth_worker::start(options, seams.clone(), Arc::new(driver))
        .await
        .context("starting the worker")
}

/// The native driver, and beside it the OCI runtimes of the options.
fn makers(
    options: &hearth_worker::Options,
    native: Arc<NativeDriver>,
    executable: &Path,
    state_dir: &Path,
) -> anyhow::Result<Choice> {
    let shim = SpawnerCommand {
        program: executable.to_owned(),
        args: vec![OsString::from("__oci-shim")],
    };
    let mut others = BTreeMap::new();
    for (name, runtime) in &options.oci {
        let place = state_dir.join(name);
        let driver = OciDriver::open(runtime.clone(), shim.clone(), place, Arc::clone(&native))
            .with_context(|| format!("option oci.{name}"))?;
        others.insert(name.clone(), driver);
    }
    Choice::new(native, others, options.sandbox.clone()).context("option sandbox")
}

/// The options of a role; `None` when only the sample was asked for.
fn load<T: DocumentedOptions>(args: &RoleArgs) -> anyhow::Result<Option<T>> {
    if args.sample {
        print!("{}", T::SAMPLE);
        return Ok(None);
    }
    let Some(path) = &args.config else {
        bail!("--config FILE is needed; --sample prints one")
    };
    Ok(Some(config::load(Path::new(path))?))
}

fn begin(role: &str, id: u64, options: &mut TelemetryOptions) -> anyhow::Result<TelemetryGuard> {
    options
        .service_instance
        .get_or_insert_with(|| format!("{role}-{id}"));
    let telemetry = telemetry::init(role, options)?;
    raise_open_files();
    Ok(telemetry)
}

/// A controller of a large cluster has thousands of connections, and what a process may open at first is often 1,024.
fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        warn!(%error, "the limit of open files stays as it is");
    }
}

/// SIGTERM or Ctrl-C. When the supervisor is gone, the process ends on the spot: it counts as a crash.
async fn told_to_end(tied: bool) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        error!("cannot listen for signals, ending");
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = supervisor_gone(), if tied => {
            error!("the supervisor is gone, ending");
            std::process::exit(1);
        }
    }
    info!("told to end");
}

/// Standard input is a pipe that nobody writes to; it ends with the process that holds the other end.
async fn supervisor_gone() {
    let mut input = tokio::io::stdin();
    let mut byte = [0u8; 1];
    while !matches!(input.read(&mut byte).await, Ok(0) | Err(_)) {}
}
