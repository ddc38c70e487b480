//! A data directory that begins in the middle: a snapshot made elsewhere and the vote that goes with it. The node that
//! opens it is alone, elects itself in a later term, and goes on from the snapshot's index.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use bytes::Bytes;
use hearth_node::random::{Random as _, SystemRandom};
use openraft::vote::RaftVote as _;

use super::snapshot::{SnapshotError, Snapshots};
use super::storage::{MachineStorage, Storage as _};
use super::store::{self, OpenError, Owner};
use super::types::{LeaderId, LogId, Member, Membership, SnapshotMeta, StoredMembership, Vote};

/// Where a new cluster of one node begins.
#[derive(Clone, Debug)]
pub struct Seed {
    /// The node.
    pub node_id: u64,
    /// Its cluster.
    pub cluster_id: String,
    /// Where others will reach it, `host:port`.
    pub addr: String,
    /// The term before its first.
    pub term: u64,
    /// Index the state is as of.
    pub index: u64,
    /// What the machine's snapshot holds.
    pub state: Bytes,
}

/// Why a data directory could not be seeded.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// The membership is impossible.
    #[error("the membership is refused: {0}")]
    Membership(String),
    /// The snapshot directory cannot be made.
    #[error("cannot make the snapshot directory")]
    Snapshots(#[source] SnapshotError),
    /// The snapshot cannot be written.
    #[error("cannot write the snapshot")]
    Snapshot(#[source] io::Error),
    /// The log cannot be made.
    #[error("cannot make the log")]
    Log(#[source] OpenError),
}

/// Writes `seed` into the empty directory `dir`; durable when this returns. Blocks.
pub fn seed(dir: &Path, seed: &Seed) -> Result<(), SeedError> {
    let leader_id = LeaderId {
        term: seed.term,
        node_id: seed.node_id,
    };
    let log_id = LogId {
        leader_id,
        index: seed.index,
    };
    let disk = SystemRandom.uuid();
    let member = Member {
        addr: seed.addr.clone(),
        disk: disk.clone(),
    };
    let nodes = BTreeMap::from([(seed.node_id, member)]);
    let membership = Membership::new(vec![BTreeSet::from([seed.node_id])], nodes)
        .map_err(|error| SeedError::Membership(error.to_string()))?;
    let meta = SnapshotMeta {
        last_log_id: Some(log_id),
        last_membership: StoredMembership::new(Some(log_id), membership),
    };
    let storage = MachineStorage;
    let snapshots =
        Snapshots::open(storage.files(), &dir.join("snapshots")).map_err(SeedError::Snapshots)?;
    snapshots
        .save(&meta, &seed.state)
        .map_err(SeedError::Snapshot)?;
    let vote = Vote::from_leader_id(leader_id, false);
    let log = dir.join("log");
    let owner = Owner {
        node_id: seed.node_id,
        cluster_id: seed.cluster_id.clone(),
        new_disk: disk,
    };
    store::seed(&storage, &log, &owner, &vote).map_err(SeedError::Log)
}
