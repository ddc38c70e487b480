//! Options of a worker node, as its TOML file has them.

mod network;
mod pools;

use std::collections::BTreeMap;
use std::path::PathBuf;

use hearth_core::limits::{INIT_TIMEOUT_MS, WORKER_LEASE_MS};
use hearth_node::config::{DocumentedOptions, HumanDuration, HumanSize};
use hearth_node::grpc::{ChannelOptions, ServerOptions};
use hearth_node::telemetry::TelemetryOptions;
use hearth_node::tls::TlsOptions;
use hearth_registry::{RegistryOptions, RegistryOptionsError};
use serde::{Deserialize, Serialize};

use crate::sandbox::choice::NATIVE;
use crate::sandbox::oci::OciConfig;

/// Share of the host's memory offered when the options name none, percent. The rest is for the worker itself and for
/// the page cache that makes starts quick.
const MEMORY_SHARE_PERCENT: u64 = 80;

pub use network::{NetworkMode, NetworkOptions};
pub use pools::PoolsOptions;

/// See [`Options::SAMPLE`] for the same as a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Number of this node, unique in the cluster, never reused for another data directory. Default 1.
    pub node_id: u64,
    /// Id of the cluster. No default.
    pub cluster_id: String,
    /// Where gateways connect to; port 0 picks a free one. Default `127.0.0.1:9120`.
    pub listen: String,
    /// Address told to gateways. Default: the one listened on.
    pub advertise: Option<String>,
    /// Where `/metrics`, `/healthz` and `/readyz` are served. Default `127.0.0.1:9121`.
    pub admin_listen: String,
    /// Unpacked code and what must outlive a restart. Default `/var/lib/hearth/worker`.
    pub data_dir: PathBuf,
    /// Addresses of controllers, any of them. Default none: nothing can be run.
    pub controllers: Vec<String>,
    /// Where runtime packs are. Default `/var/lib/hearth/runtimes`.
    pub runtimes_dir: PathBuf,
    /// Memory offered to sandboxes, MB. Default 80 % of the host's.
    pub memory_mib: Option<u64>,
    /// Unpacked code kept beyond what is in use. Default 10GiB.
    pub code_cache: HumanSize,
    /// A sandbox that was idle for so long is stopped; sooner where the function's past says so. Default 10m.
    pub idle_timeout: HumanDuration,
    /// Sandboxes that may be starting at a time. Default: two for each CPU.
    pub max_cold_starts: Option<u32>,
    /// Longest init phase; one that takes longer is run again within the first invocation. Default 10s, as AWS.
    pub init_timeout: HumanDuration,
    /// A sandbox that has waited for an event for so long is frozen until one comes; AWS does it at once. Default 10ms.
    pub freeze_after: HumanDuration,
    /// Work on a host without cgroups, where limits of memory and CPU are not enforced: for development. Default false.
    pub allow_no_cgroups: bool,
    /// What functions find in `AWS_REGION`. Default `us-east-1`.
    pub region: String,
    /// Without a controller for so long, reserved concurrency is not served; the same on all nodes. Default 30s.
    pub lease: HumanDuration,
    /// How long running invocations may go on when the worker is told to stop. Default 30s.
    pub drain_timeout: HumanDuration,
    /// Labels that placement may ask for. Default none.
    pub labels: BTreeMap<String, String>,
    /// Who makes sandboxes for functions whose tag `hearth:sandbox` names nobody. Default `native`.
    pub sandbox: String,
    /// OCI runtimes that make sandboxes too, by the name that the tag has. Default none.
    pub oci: BTreeMap<String, OciConfig>,
    /// What is prepared for cold starts.
    pub pools: PoolsOptions,
    /// The network of functions.
    pub network: NetworkOptions,
    /// Where container images come from.
    pub registries: RegistryOptions,
    /// Who this node proves to be, and whom it believes.
    pub tls: TlsOptions,
    /// How gateways are served.
    pub server: ServerOptions,
    /// How controllers are called.
    pub channel: ChannelOptions,
    /// Logs and traces.
    pub telemetry: TelemetryOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            node_id: 1,
            cluster_id: String::new(),
            listen: "127.0.0.1:9120".into(),
            advertise: None,
            admin_listen: "127.0.0.1:9121".into(),
            data_dir: "/var/lib/hearth/worker".into(),
            controllers: Vec::new(),
            runtimes_dir: "/var/lib/hearth/runtimes".into(),
            memory_mib: None,
            code_cache: HumanSize::from_mib(10 * 1024),
            idle_timeout: HumanDuration::from_secs(600),
            max_cold_starts: None,
            init_timeout: HumanDuration::from_millis(INIT_TIMEOUT_MS),
            freeze_after: HumanDuration::from_millis(10),
            allow_no_cgroups: false,
            region: "us-east-1".into(),
            lease: HumanDuration::from_millis(WORKER_LEASE_MS),
            drain_timeout: HumanDuration::from_secs(30),
            labels: BTreeMap::new(),
            sandbox: NATIVE.into(),
            oci: BTreeMap::new(),
            pools: PoolsOptions::default(),
            network: NetworkOptions::default(),
            registries: RegistryOptions::default(),
            tls: TlsOptions::default(),
            server: ServerOptions::default(),
            channel: ChannelOptions::default(),
            telemetry: TelemetryOptions::default(),
        }
    }
}

impl DocumentedOptions for Options {
    const SAMPLE: &'static str = concat!(
        r#"# Number of this node, unique in the cluster, never reused for another data directory.
node_id = 1
# Id of the cluster, as `hearth status` shows it.
cluster_id = ""
# Where gateways connect to; port 0 picks a free one.
listen = "127.0.0.1:9120"
# Address told to gateways; by default the one listened on.
# advertise = "worker-1.example.com:9120"
# Where /metrics, /healthz and /readyz are served.
admin_listen = "127.0.0.1:9121"
# Unpacked code and what must outlive a restart.
data_dir = "/var/lib/hearth/worker"
# Addresses of controllers, any of them.
controllers = []
# Where runtime packs are (`hearth runtime install`).
runtimes_dir = "/var/lib/hearth/runtimes"
# Memory offered to sandboxes, MB; by default 80 % of the host's.
# memory_mib = 8192
# Unpacked code kept beyond what is in use.
code_cache = "10GiB"
# A sandbox that was idle for so long is stopped; sooner where the function's past says so.
idle_timeout = "10m"
# Sandboxes that may be starting at a time; by default two for each CPU.
# max_cold_starts = 8
# Longest init phase; one that takes longer is run again within the first invocation.
init_timeout = "10s"
# A sandbox that has waited for an event for so long is frozen until one comes; nothing runs between invocations.
freeze_after = "10ms"
# Work on a host without cgroups, where limits of memory and CPU are not enforced: for development.
allow_no_cgroups = false
# What functions find in AWS_REGION.
region = "us-east-1"
# Without a controller for so long, reserved concurrency is not served; the same on all nodes.
lease = "30s"
# How long running invocations may go on when the worker is told to stop.
drain_timeout = "30s"
# Who makes sandboxes for functions whose tag hearth:sandbox names nobody: native, or a name of the table oci.
sandbox = "native"

# Labels that placement may ask for.
[labels]

# OCI runtimes that make sandboxes too, by the name that a function's tag hearth:sandbox has (see docs/sandboxes.md).
[oci]
# [oci.runc]
# program = "/usr/sbin/runc"
# [oci.gvisor]
# program = "/usr/bin/runsc"
# args = ["--platform=ptrace", "--network=host"]
# user_namespace = false
# exit_status = "run"

# What is prepared for cold starts before anybody asks (docs/adr/0016-sandboxes-are-prepared.md).
[pools]
# Sandboxes of one kind that are ready at most: empty ones of each runtime, and stems, which have loaded its client; 0: none.
each = 4
# Memory that all of them may take, MB, of what no function has; by default 2 % of the memory offered, at most 512.
# memory_mib = 256

# The network of functions.
[network]
"#,
        crate::network_sample!(),
        r#"
# Container registries; the same on gateways, which resolve references.
[registries]
"#,
        hearth_registry::registries_sample!(),
        r#"
# TLS between nodes.
[tls]
"#,
        hearth_node::tls_sample!(),
        r#"
# How gateways are served.
[server]
keep_alive_interval = "1s"
keep_alive_timeout = "2s"
max_connections = 8192
max_streams_per_connection = 1024
stream_window = "4MiB"
connection_window = "16MiB"
max_message_size = "8MiB"

# How controllers are called.
[channel]
connect_timeout = "1s"
keep_alive_interval = "1s"
keep_alive_timeout = "2s"
stream_window = "4MiB"
connection_window = "16MiB"
max_message_size = "8MiB"

# Logs and traces; log_format is auto, json or pretty.
[telemetry]
log_format = "auto"
log_filter = "info"
# Collector of traces, OTLP over gRPC.
# otlp_endpoint = "http://127.0.0.1:4317"
# Name of this node in traces.
# service_instance = "worker-1"
"#
    );
}

/// Why options were refused.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// A value that breaks a rule.
    #[error("option `{option}` {rule}")]
    Value {
        /// Its name.
        option: &'static str,
        /// What must hold.
        rule: &'static str,
    },
    /// A registry that is none.
    #[error(transparent)]
    Registries(RegistryOptionsError),
}

impl Options {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// The first option that cannot be.
    pub fn validate(&self) -> Result<(), OptionsError> {
        let rules = [
            (!self.cluster_id.is_empty(), "cluster_id", "must be set"),
            (!self.region.is_empty(), "region", "must not be empty"),
            (self.memory_mib != Some(0), "memory_mib", "must not be 0"),
            (
                self.max_cold_starts != Some(0),
                "max_cold_starts",
                "must not be 0",
            ),
            (
                self.lease.as_millis() >= 1_000,
                "lease",
                "must be at least 1s",
            ),
        ];
        match rules.into_iter().find(|(holds, _, _)| !holds) {
            None => self.registries.validate().map_err(OptionsError::Registries),
            Some((_, option, rule)) => Err(OptionsError::Value { option, rule }),
        }
    }

    /// Memory offered, the host having `host_mib`.
    pub(crate) fn offered_mib(&self, host_mib: u64) -> u64 {
        self.memory_mib
            .unwrap_or(host_mib * MEMORY_SHARE_PERCENT / 100)
    }
}

/// Memory of this host, MB; 0 when /proc does not say.
pub(crate) fn host_memory_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    parse_meminfo(&text).unwrap_or(0)
}

fn parse_meminfo(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib / 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_is_the_default_and_names_every_option() {
        hearth_node::config::assert_documented::<Options>();
    }

    #[test]
    fn impossible_options_are_named() {
        let mut options = Options::default();
        assert!(
            options
                .validate()
                .unwrap_err()
                .to_string()
                .contains("cluster_id")
        );
        options.cluster_id = "c".into();
        options.validate().unwrap();
        options.memory_mib = Some(0);
        assert!(
            options
                .validate()
                .unwrap_err()
                .to_string()
                .contains("memory_mib")
        );
    }

    #[test]
    fn memory_is_a_share_of_the_hosts_unless_named() {
        let host = parse_meminfo("MemFree: 1 kB\nMemTotal:       10240000 kB\n").unwrap();
        assert_eq!(host, 10_000);
        let mut options = Options::default();
        assert_eq!(options.offered_mib(host), 8_000);
        options.memory_mib = Some(5);
        assert_eq!(options.offered_mib(host), 5);
    }
}
