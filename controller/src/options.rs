//! What an operator says to a controller.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use hearth_core::events::EventLimits;
use hearth_core::limits;
use hearth_node::config::{DocumentedOptions, HumanDuration, HumanSize, Secret};
use hearth_node::grpc::{ChannelOptions, ServerOptions};
use hearth_node::listen;
use hearth_node::telemetry::TelemetryOptions;
use hearth_node::tls::TlsOptions;
use serde::{Deserialize, Serialize};

use crate::blobs::S3Options;

/// Settings of a controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// This node's id, unique in the cluster for ever. Not 0. Default 1.
    pub node_id: u64,
    /// Name of the cluster. Default `hearth`.
    pub cluster_id: String,
    /// Where gRPC is served. Default `127.0.0.1:7400`.
    pub listen: String,
    /// Where other nodes reach this one, `host:port`. Default empty: the address listened on.
    pub advertise: String,
    /// Where `/metrics`, `/healthz` and `/readyz` are served. Default `127.0.0.1:7480`.
    pub admin_listen: String,
    /// Directory of the log, snapshots and blobs. Default `data/controller`.
    pub data_dir: PathBuf,
    /// The first controllers of the cluster, this one among them: id -> `host:port`. The same on each of
    /// them; 1, 3 or 5. Empty for one that is added to a running cluster. Default this one alone.
    #[serde(with = "text_keys")]
    pub peers: BTreeMap<u64, String>,
    /// What ARNs carry; set once, by the first leader. Default `us-east-1`.
    pub region: String,
    /// What each account may use.
    pub accounts: AccountOptions,
    /// Code blobs.
    pub blobs: BlobOptions,
    /// Times of workers.
    pub workers: WorkerOptions,
    /// The Raft log.
    pub raft: RaftOptions,
    /// IAM.
    pub iam: IamOptions,
    /// Event invocations.
    pub events: EventOptions,
    /// Who this node proves to be, and whom it believes.
    pub tls: TlsOptions,
    /// How this node is called.
    pub server: ServerOptions,
    /// How this node calls other controllers.
    pub channel: ChannelOptions,
    /// Logs and traces; set up by the executable.
    pub telemetry: TelemetryOptions,
}

/// What each account may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccountOptions {
    /// Concurrent executions. Default 1000 executions.
    pub concurrency: u32,
    /// Requests a second for each unit of concurrency, reserved or the account's. Default 10 requests, as AWS.
    pub requests_per_unit: u32,
    /// Sandboxes a function may add in 10 s. Default 1000 sandboxes, as AWS.
    pub scale_out: u32,
    /// Code storage. Default 75GiB.
    pub code_storage: HumanSize,
}

/// Where code blobs are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlobStoreKind {
    /// On a majority of the controllers.
    #[default]
    Local,
    /// In an S3-compatible store.
    S3,
}

/// Code blobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BlobOptions {
    /// `local` or `s3`. Default `local`.
    pub store: BlobStoreKind,
    /// A blob nothing names is kept for so long, more than a deployment takes. Default 1h.
    pub grace: HumanDuration,
    /// How often blobs nothing names are looked for. Default 10m.
    pub collect_every: HumanDuration,
    /// The S3-compatible store, when it is used.
    pub s3: S3,
}

/// An S3-compatible store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3 {
    /// `https://host[:port]`. Default empty: AWS.
    pub endpoint: String,
    /// Region of the bucket. Default empty.
    pub region: String,
    /// Bucket, which must exist. Default empty.
    pub bucket: String,
    /// Put before every key. Default empty.
    pub prefix: String,
    /// Access key id. Default empty: the credentials of the instance.
    pub access_key_id: String,
    /// File with the secret access key. Default empty.
    pub secret_access_key_file: PathBuf,
    /// Whether plain HTTP is allowed. Default false.
    pub allow_http: bool,
}

/// Times of workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkerOptions {
    /// A worker that is cut off serves reserved concurrency for so long (TTL_w). Longer survives longer
    /// outages of the controllers, shorter reuses a lost host's share sooner. Default 30s.
    pub lease: HumanDuration,
    /// Added to the wait before a silent worker's share is reused. Default 2s.
    pub margin: HumanDuration,
    /// A worker not heard for so long is shown to gateways as gone. Default 2s.
    pub silent_after: HumanDuration,
}

/// What a controller does about IAM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IamOptions {
    /// What session tokens are sealed with; the same at all gateways and controllers. Default empty: functions get no credentials of
    /// their roles.
    pub session_key: Secret,
}

/// The log of event invocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventOptions {
    /// Whether there is one. Default true; without it event invocations are refused.
    pub enabled: bool,
    /// Payloads and entries that are kept at once, in memory and in snapshots; more events are refused. Default 256MiB, at most
    /// 512MiB.
    pub bytes: HumanSize,
    /// Events of one function that may wait or be under way; more are refused. Default 100000 events.
    pub per_function: u32,
    /// How long events can be looked up that succeeded. Default 10m; less when room is short.
    pub keep_done: HumanDuration,
    /// How long events can be looked up and taken up again that failed. Default 24h; less when room is short.
    pub keep_failed: HumanDuration,
}

impl Default for EventOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            bytes: HumanSize(limits::EVENT_BYTES_PER_GROUP_DEFAULT),
            per_function: limits::EVENTS_PER_FUNCTION_DEFAULT,
            keep_done: HumanDuration::from_secs(600),
            keep_failed: HumanDuration::from_secs(86_400),
        }
    }
}

impl EventOptions {
    /// What the log's group takes.
    pub(crate) fn limits(&self) -> EventLimits {
        EventLimits {
            events_per_function: self.per_function,
            bytes: self.bytes.0,
        }
    }
}

/// The Raft log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RaftOptions {
    /// How long an operation tries before it gives up. Default 5s.
    pub request_timeout: HumanDuration,
    /// Commands between two snapshots. Default 5000 commands.
    pub snapshot_every: u64,
    /// Commands kept behind the newest snapshot. Default 2000 commands.
    pub keep_applied: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            node_id: 1,
            cluster_id: "hearth".to_owned(),
            listen: "127.0.0.1:7400".to_owned(),
            advertise: String::new(),
            admin_listen: "127.0.0.1:7480".to_owned(),
            data_dir: "data/controller".into(),
            peers: BTreeMap::from([(1, "127.0.0.1:7400".to_owned())]),
            region: "us-east-1".to_owned(),
            accounts: AccountOptions::default(),
            blobs: BlobOptions::default(),
            workers: WorkerOptions::default(),
            raft: RaftOptions::default(),
            iam: IamOptions::default(),
            events: EventOptions::default(),
            tls: TlsOptions::default(),
            server: ServerOptions::default(),
            channel: ChannelOptions::default(),
            telemetry: TelemetryOptions::default(),
        }
    }
}

impl Default for AccountOptions {
    fn default() -> Self {
        Self {
            concurrency: limits::ACCOUNT_CONCURRENCY_DEFAULT,
            requests_per_unit: limits::REQUESTS_PER_UNIT_DEFAULT,
            scale_out: limits::SCALE_OUT_DEFAULT,
            code_storage: HumanSize(limits::CODE_STORAGE_DEFAULT_BYTES),
        }
    }
}

impl Default for BlobOptions {
    fn default() -> Self {
        Self {
            store: BlobStoreKind::Local,
            grace: HumanDuration::from_secs(3_600),
            collect_every: HumanDuration::from_secs(600),
            s3: S3::default(),
        }
    }
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            lease: HumanDuration::from_millis(limits::WORKER_LEASE_MS),
            margin: HumanDuration::from_secs(2),
            silent_after: HumanDuration::from_secs(2),
        }
    }
}

impl Default for RaftOptions {
    fn default() -> Self {
        Self {
            request_timeout: HumanDuration::from_secs(5),
            snapshot_every: 5_000,
            keep_applied: 2_000,
        }
    }
}

/// A setting that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}`: {problem}")]
pub struct OptionsError {
    /// Which.
    pub key: &'static str,
    /// What is wrong with it, and what to write instead.
    pub problem: String,
}

fn wrong<T>(key: &'static str, problem: impl Into<String>) -> Result<T, OptionsError> {
    let problem = problem.into();
    Err(OptionsError { key, problem })
}

impl Options {
    /// Checks what the types cannot.
    pub fn validate(&self) -> Result<(), OptionsError> {
        if self.node_id == 0 {
            return wrong("node_id", "0 is not an id; use 1 or more");
        }
        if self.region.is_empty() {
            return wrong("region", "must not be empty");
        }
        if !self.peers.is_empty() && !self.peers.contains_key(&self.node_id) {
            return wrong(
                "peers",
                "must name this node too, or be empty for one that joins",
            );
        }
        if !matches!(self.peers.len(), 0 | 1 | 3 | 5) {
            return wrong(
                "peers",
                format!(
                    "a cluster begins with 1, 3 or 5 controllers, not {}",
                    self.peers.len()
                ),
            );
        }
        if self.accounts.concurrency < limits::UNRESERVED_MIN {
            return wrong(
                "accounts.concurrency",
                format!("must be at least {}", limits::UNRESERVED_MIN),
            );
        }
        for (key, value) in [
            (
                "accounts.requests_per_unit",
                self.accounts.requests_per_unit,
            ),
            ("accounts.scale_out", self.accounts.scale_out),
        ] {
            if value == 0 {
                return wrong(key, "must be at least 1");
            }
        }
        if self.workers.lease.as_millis() <= self.workers.silent_after.as_millis() {
            return wrong("workers.lease", "must be longer than workers.silent_after");
        }
        if self.blobs.collect_every.0.is_zero() {
            return wrong("blobs.collect_every", "must be positive");
        }
        if self.blobs.store == BlobStoreKind::S3 && self.blobs.s3.bucket.is_empty() {
            return wrong("blobs.s3.bucket", "is needed for the s3 store");
        }
        // A snapshot of 1 GiB is refused.
        if !(1 << 20..=512 << 20).contains(&self.events.bytes.0) {
            return wrong("events.bytes", "must be 1MiB to 512MiB");
        }
        if self.events.per_function == 0 {
            return wrong("events.per_function", "must be at least 1");
        }
        Ok(())
    }

    pub(crate) fn listen_addr(&self) -> Result<SocketAddr, OptionsError> {
        parse_addr("listen", &self.listen)
    }

    pub(crate) fn admin_addr(&self) -> Result<SocketAddr, OptionsError> {
        parse_addr("admin_listen", &self.admin_listen)
    }
}

fn parse_addr(key: &'static str, text: &str) -> Result<SocketAddr, OptionsError> {
    listen::parse_addr(text).or_else(|error| wrong(key, error.to_string()))
}

impl S3 {
    /// For the store, with the secret read from its file.
    pub(crate) fn to_store(&self) -> std::io::Result<S3Options> {
        let non_empty = |text: &String| (!text.is_empty()).then(|| text.clone());
        let secret_access_key = if self.secret_access_key_file.as_os_str().is_empty() {
            None
        } else {
            let secret = std::fs::read_to_string(&self.secret_access_key_file)?;
            Some(secret.trim().to_owned())
        };
        Ok(S3Options {
            endpoint: non_empty(&self.endpoint),
            region: self.region.clone(),
            bucket: self.bucket.clone(),
            prefix: self.prefix.clone(),
            access_key_id: non_empty(&self.access_key_id),
            secret_access_key,
            allow_http: self.allow_http,
        })
    }
}

impl DocumentedOptions for Options {
    const SAMPLE: &'static str = include_str!("options.sample.toml");
}

/// TOML has text keys alone.
mod text_keys {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        map: &BTreeMap<u64, String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(map.iter().map(|(id, addr)| (id.to_string(), addr)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<u64, String>, D::Error> {
        let map = BTreeMap::<String, String>::deserialize(deserializer)?;
        map.into_iter()
            .map(|(id, addr)| {
                let parsed = id
                    .parse()
                    .map_err(|_| serde::de::Error::custom(format!("`{id}` is not a node id")))?;
                Ok((parsed, addr))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_the_default_and_names_every_key() {
        hearth_node::config::assert_documented::<Options>();
    }

    #[test]
    fn defaults_are_valid() {
        assert_eq!(Options::default().validate(), Ok(()));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        type Edit = fn(&mut Options);
        let table: [(&str, Edit); 9] = [
            ("node_id", |o| o.node_id = 0),
            ("region", |o| o.region.clear()),
            ("peers", |o| o.node_id = 7),
            ("peers", |o| {
                o.peers.insert(2, "b:1".into());
            }),
            ("accounts.concurrency", |o| o.accounts.concurrency = 99),
            ("accounts.requests_per_unit", |o| {
                o.accounts.requests_per_unit = 0;
            }),
            ("accounts.scale_out", |o| o.accounts.scale_out = 0),
            ("workers.lease", |o| {
                o.workers.lease = HumanDuration::from_secs(1)
            }),
            ("blobs.s3.bucket", |o| o.blobs.store = BlobStoreKind::S3),
        ];
        for (key, edit) in table {
            let mut options = Options::default();
            edit(&mut options);
            assert_eq!(options.validate().unwrap_err().key, key);
        }
    }
}
