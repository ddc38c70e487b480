//! One role in this process, from its TOML file, until SIGTERM, Ctrl-C or the end of its supervisor.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use hearth_node::Seams;
use hearth_node::config::{self, DocumentedOptions};
use hearth_node::telemetry::{self, TelemetryGuard, TelemetryOptions};
use hearth_worker::sandbox::native::{NativeConfig, NativeDriver, SpawnerCommand};
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use crate::cli::RoleArgs;
use crate::credentials;

/// Host uids between the ranges of two workers on one machine.
const UID_STRIDE: u32 = 134_217_728;
/// Sandboxes of one worker, so that 30 workers' uid ranges fit below 2^32.
const SANDBOXES_MAX: u32 = 2_048;

pub(crate) async fn controller(args: RoleArgs) -> anyhow::Result<()> {
    let Some(mut options) = load::<hearth_controller::Options>(&args)? else {
        return Ok(());
    };
    let telemetry = begin("controller", options.node_id, &mut options.telemetry)?;
    let controller = hearth_controller::start(options, Seams::system()).await?;
    info!(addr = %controller.addr, "controller started");
    let outcome = tokio::select! {
        () = told_to_end(args.tied) => Ok(()),
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
    let worker = start_worker(options, &Seams::system()).await?;
    info!(addr = %worker.addr, "worker started");
    told_to_end(args.tied).await;
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
    let telemetry = begin("gateway", options.node_id, &mut options.telemetry)?;
    let gateway = hearth_gateway::start(options, Seams::system()).await?;
    info!(addr = %gateway.addr, "gateway started");
    told_to_end(args.tied).await;
    gateway.shutdown().await;
    telemetry.shutdown().await;
    Ok(())
}

/// A worker on the native driver.
pub(crate) async fn start_worker(
    options: hearth_worker::Options,
    seams: &Seams,
) -> anyhow::Result<hearth_worker::Worker> {
    let executable = std::env::current_exe().context("finding the hearth executable")?;
    let spawner = SpawnerCommand {
        program: executable,
        args: vec![OsString::from("__spawner")],
    };
    let name = format!("{}-{}", options.cluster_id, options.node_id);
    let mut native = NativeConfig::new(spawner, &name);
    // A worker's number on this machine is not known to it; its id spreads workers of one cluster apart.
    native.uid_base += u32::try_from(options.node_id % 30).unwrap_or(0) * UID_STRIDE;
    native.sandboxes_max = SANDBOXES_MAX;
    native.scratch_dir = Some(options.data_dir.join("scratch"));
    native.allow_no_cgroups = options.allow_no_cgroups;
    let driver = NativeDriver::open(native)
        .await
        .context("this machine cannot make sandboxes")?;
    for diagnosis in hearth_worker::sandbox::driver::Driver::diagnose(&driver) {
        warn!("{}", diagnosis.message);
    }
    hearth_worker::start(options, seams.clone(), Arc::new(driver))
        .await
        .context("starting the worker")
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
    Ok(telemetry::init(role, options)?)
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
