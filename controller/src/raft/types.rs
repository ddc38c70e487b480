//! The types openraft is instantiated with. Nothing outside `raft/` sees them.

use std::fmt;

use bytes::Bytes;
use openraft::EntryPayload;

openraft::declare_raft_types!(
    /// Commands and replies are bytes; nodes are known by id and address.
    pub(crate) TypeConfig:
        D = Command,
        R = Vec<u8>,
        NodeId = u64,
        Node = Member,
);

/// What the membership says of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Member {
    /// Where it listens, `host:port` or a URI.
    pub(crate) addr: String,
    /// Id of the disk it was let in with (`store/disk.rs`); empty when it is not known yet.
    pub(crate) disk: String,
}

impl Member {
    /// Of a node whose disk is not known.
    #[cfg(test)]
    pub(crate) fn at(addr: impl Into<String>) -> Self {
        Self {
            addr: addr.into(),
            disk: String::new(),
        }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.addr)
    }
}

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
pub(crate) type Payload = EntryPayload<Command, u64, Member>;
pub(crate) type Entry = openraft::Entry<LeaderId, Payload>;
pub(crate) type Membership = openraft::Membership<u64, Member>;
pub(crate) type StoredMembership = openraft::StoredMembership<LeaderId, u64, Member>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<LeaderId, u64, Member>;
/// The state machine's bytes, in memory: metadata is small, and sending and installing both need it whole.
pub(crate) type SnapshotData = Bytes;
pub(crate) type Snapshot = openraft::Snapshot<LeaderId, u64, Member, SnapshotData>;
