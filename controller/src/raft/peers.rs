//! Channels to the other controllers: dialled lazily, kept, one per peer and lane. What is sent over them is
//! not decided here.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hearth_core::{Error, ErrorCode};
use hearth_proto::internal::v1 as pb;
use hearth_proto::internal::v1::raft_peer_client::RaftPeerClient;
use hearth_proto::status::to_status;
use tonic::transport::{Channel, Uri};
use tonic::{Request, Status};

use super::options::Dialer;

/// Largest message taken from a peer: one read of the log, or one entry beyond it, with room for headers.
pub(super) const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// Messages that must not wait for each other travel on connections of their own: a snapshot would hold up
/// heartbeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lane {
    /// Elections and heartbeats.
    Control,
    /// Entries.
    Log,
    /// Snapshots.
    Snapshot,
    /// Forwarded commands and reads.
    Forward,
}

/// All peers of this node.
#[derive(Debug)]
pub(super) struct Peers {
    pub(super) node_id: u64,
    pub(super) cluster_id: String,
    /// Path of the group; empty for the first one.
    path: &'static str,
    /// Id of this node's disk.
    pub(super) disk: String,
    /// Ids of the disks the membership knows the nodes by.
    disks: Mutex<BTreeMap<u64, String>>,
    addresses: BTreeMap<u64, String>,
    dialer: Arc<dyn Dialer>,
    channels: Mutex<BTreeMap<(u64, Lane), (String, Channel)>>,
}

impl Peers {
    pub(super) fn new(
        node_id: u64,
        (cluster_id, path): (String, &'static str),
        disk: String,
        addresses: BTreeMap<u64, String>,
        dialer: Arc<dyn Dialer>,
    ) -> Self {
        Self {
            node_id,
            cluster_id,
            path,
            disk,
            disks: Mutex::default(),
            addresses,
            dialer,
            channels: Mutex::new(BTreeMap::new()),
        }
    }

    /// Where `node` listens: what the operator configured, else what the membership recorded.
    pub(super) fn address(&self, node: u64, recorded: &str) -> String {
        self.addresses
            .get(&node)
            .map_or(recorded, String::as_str)
            .to_owned()
    }

    /// As [`Peers::address`], none for a node that was removed.
    pub(super) fn known_address(&self, node: u64, recorded: Option<&str>) -> Option<String> {
        let configured = self.addresses.get(&node).map(String::as_str);
        configured.or(recorded).map(str::to_owned)
    }

    /// A client of `node`; it connects when it is first used.
    pub(super) fn client(
        &self,
        node: u64,
        recorded: &str,
        lane: Lane,
    ) -> Result<RaftPeerClient<Channel>, String> {
        let address = self.address(node, recorded);
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let known = channels
            .get(&(node, lane))
            .filter(|(known, _)| *known == address);
        let channel = match known {
            Some((_, channel)) => channel.clone(),
            None => {
                let channel = self.dialer.dial(&address)?;
                channels.insert((node, lane), (address, channel.clone()));
                channel
            }
        };
        let origin = Uri::from_static(if self.path.is_empty() { "/" } else { self.path });
        Ok(RaftPeerClient::with_origin(channel, origin)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES))
    }

    /// Lets go of connections to nodes that are no longer members.
    pub(super) fn retain(&self, is_member: impl Fn(u64) -> bool) {
        self.channels
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|(node, _), _| is_member(*node));
    }

    /// The membership's word on which node has which disk.
    pub(super) fn know_disks(&self, disks: BTreeMap<u64, String>) {
        *self.disks.lock().unwrap_or_else(PoisonError::into_inner) = disks;
    }

    /// Id of the disk that the membership knows `node` by.
    fn known_disk(&self, node: u64) -> Option<String> {
        let disks = self.disks.lock().unwrap_or_else(PoisonError::into_inner);
        disks.get(&node).filter(|disk| !disk.is_empty()).cloned()
    }

    /// The header of a request to `node`.
    pub(super) fn header(&self, node: u64) -> Option<pb::PeerHeader> {
        Some(pb::PeerHeader {
            cluster_id: self.cluster_id.clone(),
            from_node: self.node_id,
            to_node: node,
            from_disk: self.disk.clone(),
            to_disk: self.known_disk(node).unwrap_or_default(),
        })
    }

    /// Refuses what comes from, or is meant for, a node that has lost the disk it was let in with: it has forgotten what it
    /// promised, so it neither votes nor acknowledges.
    pub(super) fn check_disks(&self, header: &pb::PeerHeader) -> Result<(), DiskLost> {
        let from = header.from_node;
        // A sender of an earlier release says nothing of its disk.
        if let Some(known) = self.known_disk(from)
            && !header.from_disk.is_empty()
            && header.from_disk != known
        {
            return Err(DiskLost::Theirs(disk_lost(from, &known, &header.from_disk)));
        }
        if header.to_disk.is_empty() || header.to_disk == self.disk {
            return Ok(());
        }
        let text = disk_lost(self.node_id, &header.to_disk, &self.disk);
        if self.known_disk(self.node_id).as_ref() == Some(&self.disk) {
            // This node's own log says otherwise: the sender is behind.
            return Err(DiskLost::Theirs(text));
        }
        Err(DiskLost::Ours(text))
    }

    /// Refuses requests of another cluster or meant for another node.
    pub(super) fn check<'a>(
        &self,
        header: Option<&'a pb::PeerHeader>,
    ) -> Result<&'a pb::PeerHeader, Status> {
        let header = header
            .ok_or_else(|| refusal(ErrorCode::InvalidParameterValue, "peer header is missing"))?;
        if header.cluster_id != self.cluster_id {
            return Err(refusal(
                ErrorCode::PreconditionFailed,
                format!(
                    "this is cluster {}, not {}",
                    self.cluster_id, header.cluster_id
                ),
            ));
        }
        if header.to_node != 0 && header.to_node != self.node_id {
            return Err(refusal(
                ErrorCode::PreconditionFailed,
                format!("this is node {}, not {}", self.node_id, header.to_node),
            ));
        }
        Ok(header)
    }
}

/// Why a message is refused whose sender or receiver is not the node it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DiskLost {
    /// Another node's fault.
    Theirs(String),
    /// This node must not go on.
    Ours(String),
}

fn disk_lost(node: u64, known: &str, found: &str) -> String {
    format!(
        "controller {node} has lost its data: the cluster knows it by the disk {known}, and its data directory is that of {found}. \
         It must not vote with an empty log. Remove it (`hearth controllers remove {node}`) and let it join under a new node id"
    )
}

/// A refusal of a peer's request.
pub(super) fn refusal(code: ErrorCode, message: impl Into<String>) -> Status {
    to_status(&Error::new(code, message.into()))
}

/// A request with its deadline on the wire, so that the peer gives up as well.
pub(super) fn request<T>(message: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

/// True if the request never left this node, because no connection could be made.
pub(super) fn never_sent(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}
