//! What a controller must say to start consensus, and the seam through which peers are dialled.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hearth_node::clock::{SharedClock, SystemClock};
use hearth_node::random::{SharedRandom, SystemRandom};
use tonic::transport::{Channel, Endpoint};

use super::storage::{MachineStorage, Storage};

/// How to start this node.
#[derive(Debug, Clone)]
pub struct Options {
    /// This node's id, unique for ever: a node that lost its data comes back under a new one. Not 0.
    pub node_id: u64,
    /// Name of the cluster; data and peers of another are refused. Not empty.
    pub cluster_id: String,
    /// Directory of this node's log and snapshots; made if absent.
    pub data_dir: PathBuf,
    /// Path under which peers of this group are reached, where a controller is a node of several groups; empty for the first
    /// one. Such as `/events`: see [`super::Consensus::peer_service_under`].
    pub path: &'static str,
    /// Largest command that is proposed. Default [`super::MAX_COMMAND_BYTES`], at most [`super::MAX_LARGE_COMMAND_BYTES`].
    pub max_command_bytes: usize,
    /// Where peers listen (`host:port` or a URI), by id. Overrides the addresses recorded in the membership.
    pub peers: BTreeMap<u64, String>,
    /// How connections to peers are made.
    pub dialer: Arc<dyn Dialer>,
    /// Where the log and the snapshots are. Default the machine's disk.
    pub storage: Arc<dyn Storage>,
    /// What flushes and heartbeats are timed with. Default the machine's clock.
    pub clock: SharedClock,
    /// Where the id of a new disk comes from. Default the system's randomness.
    pub random: SharedRandom,
    /// How long `propose` and `read_index` try before they give up. Default 5 s.
    pub request_timeout: Duration,
    /// How long `propose` waits for a leader before it says that nothing happened, so that the caller may ask another node,
    /// which may know one: this node may be cut off. Default 5 s.
    pub patience: Duration,
    /// Commands between two snapshots. Default 5,000.
    pub snapshot_every: u64,
    /// Applied commands kept in the log behind the newest snapshot, so that a node that was away for a
    /// moment needs no snapshot, and so that an older snapshot can stand in for a damaged one. Default 6,000.
    pub keep_applied: u64,
}

impl Options {
    /// Options with the defaults of every tunable.
    pub fn new(
        node_id: u64,
        cluster_id: impl Into<String>,
        data_dir: impl Into<PathBuf>,
        peers: BTreeMap<u64, String>,
    ) -> Self {
        Self {
            node_id,
            cluster_id: cluster_id.into(),
            data_dir: data_dir.into(),
            path: "",
            max_command_bytes: super::MAX_COMMAND_BYTES,
            peers,
            dialer: Arc::new(PlainDialer),
            storage: Arc::new(MachineStorage),
            clock: SystemClock::shared(),
            random: SystemRandom::shared(),
            request_timeout: Duration::from_secs(5),
            patience: Duration::from_secs(5),
            snapshot_every: 5_000,
            keep_applied: 6_000,
        }
    }

    pub(super) fn validate(&self) -> Result<(), String> {
        if self.node_id == 0 {
            return Err("node id 0 is reserved".to_owned());
        }
        if self.cluster_id.is_empty() || self.cluster_id.len() > 128 {
            return Err("cluster id must have 1 to 128 bytes".to_owned());
        }
        if self.max_command_bytes > super::MAX_LARGE_COMMAND_BYTES {
            return Err("max_command_bytes is more than a log takes".to_owned());
        }
        if self.snapshot_every == 0 {
            return Err("snapshot_every must be positive".to_owned());
        }
        if self.request_timeout.is_zero() {
            return Err("request_timeout must be positive".to_owned());
        }
        Ok(())
    }
}

/// Makes the channel to a peer. Channels connect lazily and are kept; TLS and the simulation's network
/// come in here.
pub trait Dialer: Send + Sync + fmt::Debug + 'static {
    /// A lazily connecting channel to `address`.
    fn dial(&self, address: &str) -> Result<Channel, String>;
}

/// TCP without TLS.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlainDialer;

impl Dialer for PlainDialer {
    fn dial(&self, address: &str) -> Result<Channel, String> {
        let uri = if address.contains("://") {
            address.to_owned()
        } else {
            format!("http://{address}")
        };
        let endpoint = Endpoint::from_shared(uri).map_err(|error| format!("{address}: {error}"))?;
        Ok(tune(endpoint).connect_lazy())
    }
}

/// Settings every peer channel has: a partition leaves TCP connections open, so keep-alive finds out.
fn tune(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(Duration::from_secs(1))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(2))
        .keep_alive_while_idle(true)
}
