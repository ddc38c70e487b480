//! Calls of a controller to the leader, for what only the leader's soft state can answer. Commands and reads
//! travel inside `raft`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use hearth_node::grpc::{self, ChannelOptions, ClusterChannel, ClusterIdentity};
use hearth_node::net::SharedNet;
use tonic::{Request, Status};

use crate::machine::ReplicatedState;
use crate::raft::Consensus;

/// Marks a call that was forwarded once; it is not forwarded again.
const FORWARDED: &str = "hearth-forwarded";
/// Channels kept; a cluster has at most five controllers, and addresses change rarely.
const CHANNELS_MAX: usize = 16;

/// Channels to other controllers. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Controllers {
    consensus: Consensus<ReplicatedState>,
    net: SharedNet,
    identity: ClusterIdentity,
    options: ChannelOptions,
    channels: Arc<Mutex<BTreeMap<String, ClusterChannel>>>,
}

impl Controllers {
    pub(crate) fn new(
        consensus: Consensus<ReplicatedState>,
        net: SharedNet,
        identity: ClusterIdentity,
        options: ChannelOptions,
    ) -> Self {
        Self {
            consensus,
            net,
            identity,
            options,
            channels: Arc::default(),
        }
    }

    /// A channel to a controller; it connects when it is first used.
    pub(crate) fn channel(&self, addr: &str) -> Result<ClusterChannel, Status> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(addr) {
            return Ok(channel.clone());
        }
        let channel = grpc::channel(&self.net, addr, &self.options, &self.identity)
            .map_err(|error| Status::unavailable(error.to_string()))?;
        if channels.len() >= CHANNELS_MAX {
            channels.clear();
        }
        channels.insert(addr.to_owned(), channel.clone());
        Ok(channel)
    }

    /// A channel to the leader, unless this is the leader or there is none.
    pub(crate) fn to_leader(&self) -> Result<ClusterChannel, Status> {
        match self.consensus.leader() {
            Some((id, addr)) if id != self.consensus.node_id() => self.channel(&addr),
            Some(_) => Err(Status::unavailable("the leader has just changed")),
            None => Err(Status::unavailable("no leader is known")),
        }
    }

    /// As [`Controllers::to_leader`], unless the request has been forwarded already.
    pub(crate) fn to_leader_once<T>(&self, request: &Request<T>) -> Result<ClusterChannel, Status> {
        if is_forwarded(request) {
            return Err(Status::unavailable("the leader has just changed"));
        }
        self.to_leader()
    }
}

/// Whether another controller sent the request on.
pub(crate) fn is_forwarded<T>(request: &Request<T>) -> bool {
    request.metadata().contains_key(FORWARDED)
}

/// The request to be sent on.
pub(crate) fn forwarded<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value = tonic::metadata::MetadataValue::from_static("1");
    request.metadata_mut().insert(FORWARDED, value);
    request
}
