//! The types openraft is instantiated with. Nothing outside `raft/` sees them.

use std::fmt;

use bytes::Bytes;
use openraft::{BasicNode, EntryPayload};

openraft::declare_raft_types!(
    /// Commands and replies are bytes; nodes are known by id and address.
    pub(crate) TypeConfig:
        D = Command,
        R = Vec<u8>,
        NodeId = u64,
        Node = BasicNode,
);

/// A command of the state machine, opaque here. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Command(pub(crate) Bytes);

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({} bytes)", self.0.len())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

pub(crate) type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, u64>;
pub(crate) type LogId = openraft::LogId<LeaderId>;
pub(crate) type Vote = openraft::Vote<LeaderId>;
pub(crate) type Payload = EntryPayload<Command, u64, BasicNode>;
pub(crate) type Entry = openraft::Entry<LeaderId, Payload>;
pub(crate) type Membership = openraft::Membership<u64, BasicNode>;
pub(crate) type StoredMembership = openraft::StoredMembership<LeaderId, u64, BasicNode>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<LeaderId, u64, BasicNode>;
/// The state machine's bytes, in memory: metadata is small, and sending and installing both need it whole.
pub(crate) type SnapshotData = Bytes;
pub(crate) type Snapshot = openraft::Snapshot<LeaderId, u64, BasicNode, SnapshotData>;
