//! `hearth up`: a whole cluster on this machine. One of each role: all in this process. More: one process per node,
//! supervised, so that killing one is a real crash.

mod configs;
mod plan;
mod ready;
mod single;
mod supervise;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hearth_node::Seams;
use hearth_node::data_dir::{DataDir, write_atomic};
use hearth_node::telemetry::{self, TelemetryOptions};
use hearth_node::tls::NodeName;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use self::plan::{Cluster, Wanted};
use self::ready::Announcement;
use self::supervise::{Supervised, Supervisor};
use crate::cli::{AuthMode, UpArgs, UpTls};
use crate::credentials::{self, Credentials};
use crate::trust::ca::{CaDir, ensure_issued};

pub(crate) use self::plan::{Cluster as ClusterFile, Role};

/// Runs until Ctrl-C or SIGTERM.
pub(crate) async fn run(mut args: UpArgs) -> anyhow::Result<()> {
    args.data_dir = std::path::absolute(&args.data_dir).context("finding the data dir")?;
    args.runtimes_dir =
        std::path::absolute(&args.runtimes_dir).context("finding the runtimes directory")?;
    if args.auth == AuthMode::Any && !args.listen.ip().is_loopback() {
        bail!(
            "--auth any lets everybody in, so it is for a loopback address only, not for {}",
            args.listen
        );
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("sandboxes need root: run this as root or with sudo");
    }
    let seams = Seams::system();
    let data_dir = DataDir::open(&args.data_dir)?;
    let telemetry = telemetry::init("up", &telemetry_options(&args))?;
    let known = args.data_dir.join("cluster.json").exists();
    let cluster = plan_cluster(&args, &seams)?;
    check_free(&cluster, known, &seams).await?;
    certify(&args, &cluster, &seams)?;
    let credentials = credentials::load_or_create(&args.data_dir.join("credentials.json"), &seams)?;
    if let Some(file) = &args.ready_file {
        // What an earlier run wrote is not true any more.
        let _ = std::fs::remove_file(file);
    }
    let outcome = if cluster.nodes.len() == 3 {
        Box::pin(single::run(&args, &cluster, &credentials, &seams)).await
    } else {
        supervised(&args, &cluster, &credentials, &seams).await
    };
    telemetry.shutdown().await;
    drop(data_dir);
    outcome
}

/// Logging and tracing as the command line asks.
fn telemetry_options(args: &UpArgs) -> TelemetryOptions {
    let mut options = TelemetryOptions {
        otlp_endpoint: args.otlp_endpoint.clone(),
        ..TelemetryOptions::default()
    };
    options.log_filter.clone_from(&args.log);
    options
}

/// The cluster of the data dir, made there first if it is new.
fn plan_cluster(args: &UpArgs, seams: &Seams) -> anyhow::Result<Cluster> {
    let file = args.data_dir.join("cluster.json");
    let existing = read_cluster(&file)?;
    let wanted = Wanted {
        listen: args.listen,
        controllers: args.controllers,
        workers: args.workers,
        gateways: args.gateways,
        region: args.region.clone(),
        account_id: args.account_id.clone(),
    };
    let cluster = plan::plan(
        &wanted,
        existing.clone(),
        |addr| is_free(addr).is_ok(),
        || seams.random.u64(),
    )?;
    if existing.as_ref() != Some(&cluster) {
        let bytes = serde_json::to_vec_pretty(&cluster).context("encoding cluster.json")?;
        write_atomic(&file, &bytes, 0o644)
            .with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(cluster)
}

/// The nodes of a new cluster that a restored controller will be part of.
pub(crate) fn plan_restored(listen: SocketAddr, seams: &Seams) -> anyhow::Result<Cluster> {
    let wanted = Wanted {
        listen,
        controllers: None,
        workers: None,
        gateways: None,
        region: None,
        account_id: None,
    };
    let free = |addr| is_free(addr).is_ok();
    Ok(plan::plan(&wanted, None, free, || seams.random.u64())?)
}

/// Makes the cluster's CA at the first start, and sees that each node has a certificate of it.
fn certify(args: &UpArgs, cluster: &Cluster, seams: &Seams) -> anyhow::Result<()> {
    if args.tls == UpTls::Off {
        if !args.listen.ip().is_loopback() {
            warn!(
                "TLS BETWEEN NODES IS OFF (--tls off): whoever reaches {} can act as a node",
                args.listen.ip()
            );
        }
        return Ok(());
    }
    let now_ms = seams.clock.unix_ms();
    let ca = CaDir::new(&args.data_dir.join("ca"));
    let ca = ca
        .ensure(&cluster.cluster_id, now_ms)
        .context("the cluster's CA")?;
    for node in &cluster.nodes {
        let name = NodeName::new(&cluster.cluster_id, node.role.in_certificates(), node.id)?;
        let dir = configs::tls_dir(args, node);
        ensure_issued(&ca, &name, &dir, args.certificate_life.0, now_ms)
            .with_context(|| format!("the certificate of {name}"))?;
    }
    Ok(())
}

/// `cluster.json` of a data dir, if there is one.
pub(crate) fn read_cluster(file: &Path) -> anyhow::Result<Option<Cluster>> {
    match std::fs::read(file) {
        Ok(bytes) => Ok(Some(
            serde_json::from_slice(&bytes)
                .with_context(|| format!("reading {}", file.display()))?,
        )),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", file.display())),
    }
}

fn is_free(addr: SocketAddr) -> Result<(), hearth_node::listen::ListenError> {
    hearth_node::listen::bind(addr).map(drop)
}

/// How long an address of a known cluster may still be held by a process of it that was just killed: its threads end one by
/// one, and the last holds the socket.
const STILL_HELD_MS: u64 = 3_000;

/// Every address is tried before anything starts, so that the diagnosis is one line and not a restart loop.
async fn check_free(cluster: &Cluster, known: bool, seams: &Seams) -> anyhow::Result<()> {
    let begun = seams.clock.monotonic_ms();
    for addr in cluster
        .nodes
        .iter()
        .flat_map(|node| [node.addr, node.admin_addr])
    {
        while let Err(error) = is_free(addr) {
            if !known || seams.clock.monotonic_ms().saturating_sub(begun) > STILL_HELD_MS {
                return Err(error.into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

async fn supervised(
    args: &UpArgs,
    cluster: &Cluster,
    credentials: &Credentials,
    seams: &Seams,
) -> anyhow::Result<()> {
    let logs = args.data_dir.join("logs");
    std::fs::create_dir_all(&logs).with_context(|| format!("making {}", logs.display()))?;
    let mut nodes = Vec::new();
    for node in &cluster.nodes {
        let name = format!("{}-{}", node.role.as_str(), node.id);
        let config = args.data_dir.join(format!("{name}.toml"));
        configs::write(&config, &configs::toml(args, cluster, node)?)?;
        nodes.push(Supervised {
            node: node.clone(),
            config,
            log: logs.join(format!("{name}.log")),
        });
    }
    let supervisor = Supervisor::start(nodes, credentials, seams)?;
    let announcement = Announcement {
        args,
        cluster,
        credentials,
    };
    let outcome = tokio::select! {
        outcome = announcement.when_ready(&supervisor.pids, seams) => outcome,
        outcome = interrupted() => outcome,
    };
    info!("stopping the cluster");
    supervisor.stop().await;
    outcome
}

/// Ctrl-C or SIGTERM.
async fn interrupted() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for Ctrl-C")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Addresses of all nodes of a role.
pub(crate) fn addresses(cluster: &Cluster, role: Role) -> impl Iterator<Item = SocketAddr> + '_ {
    cluster
        .nodes
        .iter()
        .filter(move |n| n.role == role)
        .map(|n| n.addr)
}
