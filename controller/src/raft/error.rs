//! What consensus tells its callers when it cannot do what they ask, and whether anything happened.

use std::path::PathBuf;

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The options contradict each other or a limit.
    #[error("invalid consensus options: {0}")]
    Options(String),
    /// The log store could not be opened.
    #[error("cannot open the raft log in {path}")]
    Log {
        /// Data directory of this node.
        path: PathBuf,
        #[source]
        source: crate::raft::store::OpenError,
    },
    /// No readable snapshot, though the log needs one.
    #[error("cannot load the snapshot in {path}")]
    Snapshot {
        /// Directory of the snapshots.
        path: PathBuf,
        #[source]
        source: crate::raft::snapshot::SnapshotError,
    },
    /// Raft itself refused to start.
    #[error("raft did not start: {0}")]
    Raft(String),
}

/// Why a command was not applied, or is not known to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// No leader took the command before the deadline. Nothing happened.
    #[error("no leader took the command (last known: {leader:?})")]
    NotLeader {
        /// Last known leader: id and address.
        leader: Option<(u64, String)>,
    },
    /// The command is larger than [`crate::raft::Options::max_command_bytes`]. Nothing happened.
    #[error("command of {bytes} bytes is larger than the limit of {limit}")]
    TooLarge {
        /// Size of the command.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Some controller could not read the command. Nothing happened.
    #[error(
        "this needs all controllers of a release with level {needed}, and they agree on level {agreed}: one is of an earlier \
         release, or was not heard yet; finish the upgrade first"
    )]
    Level {
        /// Level of the command.
        needed: u32,
        /// What all members can read.
        agreed: u32,
    },
    /// This node is stopping, or its peers cannot be reached. Nothing happened.
    #[error("consensus is unavailable: {0}")]
    Unavailable(String),
    /// The deadline passed, or the leader was lost, after the command was handed over: it may or may not be
    /// applied, now or later. Callers make their commands idempotent or read before they retry.
    #[error("outcome of the command is unknown: {0}")]
    OutcomeUnknown(String),
}

/// Why a linearizable read could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No leader with a quorum answered before the deadline.
    #[error("no leader with a quorum (last known: {leader:?})")]
    NoLeader {
        /// Last known leader: id and address.
        leader: Option<(u64, String)>,
    },
    /// The leader answered, but this node did not catch up before the deadline.
    #[error("this node has applied {applied}, the read needs {needed}")]
    Behind {
        /// Index the read needs.
        needed: u64,
        /// Index applied so far.
        applied: u64,
    },
    /// This node is stopping.
    #[error("consensus has stopped: {0}")]
    Stopped(String),
}

/// Why a change of membership was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// Only the leader changes membership.
    #[error("this node does not lead (leader: {leader:?})")]
    NotLeader {
        /// Last known leader: id and address.
        leader: Option<(u64, String)>,
    },
    /// The controller does not answer. Nothing happened.
    #[error("controller {node} does not answer")]
    Silent {
        /// Which.
        node: u64,
    },
    /// Consensus refused the change; it says why.
    #[error("membership change refused: {0}")]
    Refused(String),
    /// The change did not finish in time; it may still.
    #[error("membership change did not finish within {after_ms} ms")]
    Timeout {
        /// How long was waited.
        after_ms: u64,
    },
    /// This node is stopping.
    #[error("consensus has stopped: {0}")]
    Stopped(String),
}
