//! The options of each node of a cluster on one machine, as values and as the TOML files of the children.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use hearth_node::config::HumanDuration;
use hearth_node::data_dir::write_atomic;
use hearth_node::telemetry::TelemetryOptions;
use hearth_node::tls::{TlsMode, TlsOptions};
use serde::Serialize;

use super::plan::{Cluster, Node, Role};
use crate::cli::{AuthMode, UpArgs, UpTls};
use crate::credentials::Credentials;
use crate::trust::ca::CaDir;

/// Share of the machine's memory for all workers together, percent.
const MEMORY_SHARE_PERCENT: u64 = 80;

fn telemetry(args: &UpArgs, node: &Node) -> TelemetryOptions {
    TelemetryOptions {
        service_instance: Some(format!("{}-{}", node.role.as_str(), node.id)),
        ..super::telemetry_options(args)
    }
}

/// How often a node of a cluster on one machine looks for replaced files and CAs: both are a step away.
const CHECK_EVERY: HumanDuration = HumanDuration::from_secs(2);

/// Where a node's certificate is.
pub(crate) fn tls_dir(args: &UpArgs, node: &Node) -> PathBuf {
    let name = format!("{}-{}", node.role.as_str(), node.id);
    args.data_dir.join(name).join("tls")
}

/// Controllers sign, and trust what the CA's directory says; the others follow them.
fn tls(args: &UpArgs, node: &Node) -> TlsOptions {
    if args.tls == UpTls::Off {
        return TlsOptions::off();
    }
    let mut options = TlsOptions {
        mode: TlsMode::On,
        dir: tls_dir(args, node),
        certificate_life: args.certificate_life,
        check_every: CHECK_EVERY,
        ..TlsOptions::default()
    };
    if node.role == Role::Controller {
        let ca = CaDir::new(&args.data_dir.join("ca"));
        options.ca = ca.bundle;
        options.ca_key = ca.key;
    }
    options
}

fn controllers(cluster: &Cluster) -> Vec<String> {
    super::addresses(cluster, Role::Controller)
        .map(|addr| addr.to_string())
        .collect()
}

pub(crate) fn controller(
    args: &UpArgs,
    cluster: &Cluster,
    node: &Node,
) -> hearth_controller::Options {
    let peers: BTreeMap<u64, String> = cluster
        .nodes
        .iter()
        .filter(|node| node.role == Role::Controller)
        .map(|node| (node.id, node.addr.to_string()))
        .collect();
    hearth_controller::Options {
        node_id: node.id,
        cluster_id: cluster.cluster_id.clone(),
        listen: node.addr.to_string(),
        admin_listen: node.admin_addr.to_string(),
        data_dir: args.data_dir.join(format!("controller-{}", node.id)),
        region: cluster.region.clone(),
        peers,
        tls: tls(args, node),
        telemetry: telemetry(args, node),
        ..hearth_controller::Options::default()
    }
}

pub(crate) fn worker(
    args: &UpArgs,
    cluster: &Cluster,
    node: &Node,
) -> anyhow::Result<hearth_worker::Options> {
    let workers = u64::try_from(super::addresses(cluster, Role::Worker).count())
        .unwrap_or(1)
        .max(1);
    let memory = match args.memory_mib {
        Some(mib) => mib,
        None => machine_memory_mib()? * MEMORY_SHARE_PERCENT / 100,
    };
    Ok(hearth_worker::Options {
        node_id: node.id,
        cluster_id: cluster.cluster_id.clone(),
        listen: node.addr.to_string(),
        admin_listen: node.admin_addr.to_string(),
        data_dir: args.data_dir.join(format!("worker-{}", node.id)),
        controllers: controllers(cluster),
        runtimes_dir: args.runtimes_dir.clone(),
        memory_mib: Some(memory / workers),
        allow_no_cgroups: args.allow_no_cgroups,
        region: cluster.region.clone(),
        tls: tls(args, node),
        telemetry: telemetry(args, node),
        ..hearth_worker::Options::default()
    })
}

/// Without credentials where a child takes them from its environment.
pub(crate) fn gateway(
    args: &UpArgs,
    cluster: &Cluster,
    node: &Node,
    credentials: Option<&Credentials>,
) -> hearth_gateway::Options {
    let mut options = hearth_gateway::Options {
        node_id: node.id,
        cluster_id: cluster.cluster_id.clone(),
        listen: node.addr,
        admin_listen: node.admin_addr,
        controllers: controllers(cluster),
        region: cluster.region.clone(),
        account_id: cluster.account_id.clone(),
        auth: match args.auth {
            AuthMode::Sigv4 => hearth_gateway::Auth::Sigv4,
            AuthMode::Any => hearth_gateway::Auth::Any,
        },
        // On one machine nobody needs longer to notice.
        drain_grace: HumanDuration::from_secs(1),
        tls: tls(args, node),
        telemetry: telemetry(args, node),
        ..hearth_gateway::Options::default()
    };
    if let Some(credentials) = credentials {
        options.access_key_id.clone_from(&credentials.access_key_id);
        options.secret_access_key = hearth_gateway::Secret(credentials.secret_access_key.clone());
    }
    options
}

/// The TOML file of a child.
pub(crate) fn toml(args: &UpArgs, cluster: &Cluster, node: &Node) -> anyhow::Result<String> {
    fn text<T: Serialize>(options: &T) -> anyhow::Result<String> {
        toml::to_string(options).context("encoding a node's options")
    }
    match node.role {
        Role::Controller => text(&controller(args, cluster, node)),
        Role::Worker => text(&worker(args, cluster, node)?),
        Role::Gateway => text(&gateway(args, cluster, node, None)),
    }
}

/// Replaces a child's file; it is made anew at each start, so editing it has no effect, and the file says so.
pub(crate) fn write(path: &Path, toml: &str) -> anyhow::Result<()> {
    let text = format!("# Written by `hearth up` at each start.\n{toml}");
    write_atomic(path, text.as_bytes(), 0o644)
        .with_context(|| format!("writing {}", path.display()))
}

fn machine_memory_mib() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("reading the machine's memory")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: Option<u64> =
        line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse().ok());
    match kib {
        Some(kib) => Ok(kib / 1024),
        None => bail!("/proc/meminfo has no MemTotal"),
    }
}
