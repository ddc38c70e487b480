//! The options of each node of a cluster on one machine, as values and as the TOML files of the children.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use hearth_node::config::HumanDuration;
use hearth_node::data_dir::write_atomic;
use hearth_node::telemetry::TelemetryOptions;
use hearth_node::tls::{TlsMode, TlsOptions};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::plan::{Cluster, Node, Role};
use crate::cli::{AuthMode, UpArgs, UpNetwork, UpTls};
use crate::credentials::Credentials;
use crate::trust::ca::CaDir;
use hearth_worker::{NetworkMode, NetworkOptions};

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
) -> anyhow::Result<hearth_controller::Options> {
    let peers: BTreeMap<u64, String> = cluster
        .nodes
        .iter()
        .filter(|node| node.role == Role::Controller)
        .map(|node| (node.id, node.addr.to_string()))
        .collect();
    let options = hearth_controller::Options {
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
    };
    overlaid(args, node.role, options)
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
    let options = hearth_worker::Options {
        node_id: node.id,
        cluster_id: cluster.cluster_id.clone(),
        listen: node.addr.to_string(),
        admin_listen: node.admin_addr.to_string(),
        data_dir: args.data_dir.join(format!("worker-{}", node.id)),
        controllers: controllers(cluster),
        runtimes_dir: args.runtimes_dir.clone(),
        memory_mib: Some(memory / workers),
        allow_no_cgroups: args.allow_no_cgroups,
        network: NetworkOptions {
            mode: match args.network {
                UpNetwork::Auto => NetworkMode::Auto,
                UpNetwork::Egress => NetworkMode::Egress,
                UpNetwork::Isolated => NetworkMode::Isolated,
            },
            ..NetworkOptions::default()
        },
        region: cluster.region.clone(),
        tls: tls(args, node),
        telemetry: telemetry(args, node),
        ..hearth_worker::Options::default()
    };
    overlaid(args, node.role, options)
}

/// Without credentials where a child takes them from its environment.
pub(crate) fn gateway(
    args: &UpArgs,
    cluster: &Cluster,
    node: &Node,
    credentials: Option<&Credentials>,
) -> anyhow::Result<hearth_gateway::Options> {
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
    options.events.retry_base_delay = args.event_retry_base_delay;
    for (service, url) in &args.endpoint_for {
        let endpoint = match service.as_str() {
            "sqs" => &mut options.endpoints.sqs,
            "sns" => &mut options.endpoints.sns,
            "s3" => &mut options.endpoints.s3,
            _ => &mut options.endpoints.events,
        };
        endpoint.url.clone_from(url);
    }
    if let Some(credentials) = credentials {
        options.access_key_id.clone_from(&credentials.access_key_id);
        options.secret_access_key = hearth_gateway::Secret(credentials.secret_access_key.clone());
    }
    overlaid(args, node.role, options)
}

/// With the table of the role in the operator's file of options on top. Unknown names are refused.
fn overlaid<T: Serialize + DeserializeOwned>(
    args: &UpArgs,
    role: Role,
    options: T,
) -> anyhow::Result<T> {
    let Some(file) = &args.options else {
        return Ok(options);
    };
    let text =
        std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    overlay(&text, role, options).with_context(|| format!("options in {}", file.display()))
}

fn overlay<T: Serialize + DeserializeOwned>(
    text: &str,
    role: Role,
    options: T,
) -> anyhow::Result<T> {
    let mut tables: toml::Table = toml::from_str(text).context("reading TOML")?;
    let roles = [Role::Controller, Role::Worker, Role::Gateway].map(Role::as_str);
    if let Some(unknown) = tables.keys().find(|key| !roles.contains(&key.as_str())) {
        bail!("there is no role {unknown:?}: controller, worker and gateway may be tables");
    }
    let Some(wanted) = tables.remove(role.as_str()) else {
        return Ok(options);
    };
    let mut merged = toml::Value::try_from(options).context("encoding a node's options")?;
    merge(&mut merged, wanted);
    merged
        .try_into()
        .with_context(|| format!("table {}", role.as_str()))
}

fn merge(base: &mut toml::Value, over: toml::Value) {
    match (base, over) {
        (toml::Value::Table(base), toml::Value::Table(over)) => {
            for (key, value) in over {
                match base.get_mut(&key) {
                    Some(there) => merge(there, value),
                    None => drop(base.insert(key, value)),
                }
            }
        }
        (base, over) => *base = over,
    }
}

/// The TOML file of a child.
pub(crate) fn toml(args: &UpArgs, cluster: &Cluster, node: &Node) -> anyhow::Result<String> {
    fn text<T: Serialize>(options: &T) -> anyhow::Result<String> {
        toml::to_string(options).context("encoding a node's options")
    }
    match node.role {
        Role::Controller => text(&controller(args, cluster, node)?),
        Role::Worker => text(&worker(args, cluster, node)?),
        Role::Gateway => text(&gateway(args, cluster, node, None)?),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_options_lie_on_top_and_unknown_ones_are_refused() {
        let text = "[controller.accounts]\nscale_out = 7\n[worker]\nidle_timeout = \"1s\"\n";
        let controller = hearth_controller::Options::default();
        let options = overlay(text, Role::Controller, controller.clone()).unwrap();
        assert_eq!(options.accounts.scale_out, 7);
        assert_eq!(
            options.accounts.concurrency,
            controller.accounts.concurrency
        );
        let gateway = hearth_gateway::Options::default();
        assert_eq!(
            overlay(text, Role::Gateway, gateway.clone()).unwrap(),
            gateway
        );
        for wrong in [
            "[controller]\nno_such = 1",
            "[kitchen]\na = 1",
            "=",
            "[controller]\nnode_id = \"x\"",
        ] {
            assert!(
                overlay(wrong, Role::Controller, controller.clone()).is_err(),
                "{wrong}"
            );
        }
    }
}
