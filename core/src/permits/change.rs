//! Changes of grants as they travel through the log, and their answers. What they do is in `grants`.

use serde::{Deserialize, Serialize};

use crate::ids::{GrantSequence, Incarnation, NodeId, PoolKey};

/// A change of grants as it is proposed to the log. Many travel in one entry and share its index, so a
/// batch names a (worker, pool) at most once; a second change of it in the same entry is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GrantChange {
    /// The worker's share becomes `n`, which is not less than it was. The same `n` gives the share a new
    /// sequence: that is how a share is handed to a worker that lost it.
    Grow {
        /// To whom.
        worker: NodeId,
        /// Of what.
        pool: PoolKey,
        /// The whole new share.
        n: u32,
        /// The life of the worker the proposer planned for.
        incarnation: Incarnation,
    },
    /// The worker has answered that it can do with `n`.
    Shrink {
        /// Whose share.
        worker: NodeId,
        /// Of what.
        pool: PoolKey,
        /// The whole new share.
        n: u32,
        /// The grant the answer was about.
        base: GrantSequence,
    },
    /// The worker was silent for longer than it can have used its share.
    Reclaim {
        /// Whose share.
        worker: NodeId,
        /// Of what.
        pool: PoolKey,
        /// The grant the silence was measured for.
        base: GrantSequence,
    },
}

impl GrantChange {
    /// The share this is about.
    pub fn key(&self) -> (NodeId, &PoolKey) {
        match self {
            Self::Grow { worker, pool, .. }
            | Self::Shrink { worker, pool, .. }
            | Self::Reclaim { worker, pool, .. } => (*worker, pool),
        }
    }
}

/// Result of a [`GrantChange`] that was applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantOutcome {
    /// Whose share.
    pub worker: NodeId,
    /// Of what.
    pub pool: PoolKey,
    /// The share now; zero means that it is gone.
    pub n: u32,
    /// Log index of the change.
    pub sequence: GrantSequence,
    /// The worker's life.
    pub incarnation: Incarnation,
}

/// Why a change was refused. Nothing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum GrantError {
    /// The pool has no limit set.
    #[error("pool is unknown")]
    UnknownPool,
    /// The worker is not registered.
    #[error("worker is not registered")]
    UnknownWorker,
    /// The worker has another life by now.
    #[error("incarnation is not the registered one")]
    StaleIncarnation,
    /// The grant has changed since the proposer looked.
    #[error("grant has changed since")]
    StaleBase,
    /// A grow that would take permits away; only the worker may agree to that.
    #[error("a grow cannot lower a grant")]
    WouldLower,
    /// A shrink that would give permits.
    #[error("a shrink cannot raise a grant")]
    WouldRaise,
    /// The sum of the pool would exceed its limit.
    #[error("pool has only {free} permits free")]
    OverLimit {
        /// What is free.
        free: u32,
    },
}
