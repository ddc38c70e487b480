//! Exact concurrency quotas off the request path: permits held by the workers that run the work.
//! Here live the rules of all three parties and the messages between them; transport, timers and the
//! Raft log are the callers'. Design and reasons: `architecture.md`, "Admission".
//!
//! ```text
//!   LeaderPermits (soft)            Raft log             GrantTable (replicated)
//!     plan_* -> Commit [GrantChange] ------> apply(index, change) -> GrantOutcome
//!        ^                                                              |
//!        |                 on_committed(outcomes) <---------------------+
//!        |  Renewal, ShrinkAnswer        |  RenewalReply, Grant, Shrink
//!        |                               v
//!   WorkerSession (one a worker) + PoolGate (one a pool)  = WorkerPermits
//! ```
//!
//! **Values are absolute and versioned.** A [`Grant`] says "your share is n as of log index s"; the worker
//! takes it only if s is newer than what it has, so lost, repeated and reordered messages change nothing.
//!
//! **Lowering asks first.** Only the worker knows what runs. It lowers its ceiling at once, answers
//! max(n, in flight), and the commit of that answer holds only while the grant it was about still stands.
//! A heartbeat releases nothing.
//!
//! **Sessions.** A worker numbers the stretches of time in which its renewals are answered without a gap of
//! TTL_w. When a stretch ends, its number is spent: the ceilings of reserved pools given in it count as zero
//! for good, and grants sent in it are ignored however late they arrive. Without this, a grant delayed in
//! the network could revive a share that the leader has meanwhile given to another worker. The leader grants
//! anew (same n, new sequence) in the new session.
//!
//! **Silence.** The leader takes a silent worker's share after
//! 1.05 x (TTL_w + longest timeout of the pool) + margin on its own clock, which is beyond the moment the
//! worker stopped accepting and its last invocation ended, for clocks whose rates differ by up to 4.8 %.
//! A reply to a renewal must leave only after the leader has confirmed, *later than the renewal's arrival*,
//! that it still leads (a linearizable read will do), else a deposed leader could keep a worker alive that
//! the new leader believes silent.
//!
//! **Provisioned concurrency** is a pool of its own, carved out of the function's reserved or the account's unreserved
//! pool. A worker's share of it is also the number of sandboxes it keeps initialised. An invocation takes a permit of
//! the provisioned pool or, if there is none, of the other: of exactly one.

mod as_pairs;
mod carved;
mod change;
mod grants;
mod leader;
mod plan;
mod provision;
mod worker;

use serde::{Deserialize, Serialize};

use crate::ids::{GrantSequence, Incarnation, MonotonicMs, NodeId, PoolKey};
use crate::limits::WORKER_LEASE_MS;

pub use change::{GrantChange, GrantError, GrantOutcome};
pub use grants::{GrantTable, Granted, ShrinkWanted};
pub use leader::{LeaderPermits, PermitAction};
pub use plan::{Candidate, GrowPlan, Need};
pub use provision::Host;
pub use worker::{
    Acquire, Permit, PoolGate, PoolReport, SessionView, WorkerPermits, WorkerSession,
};

/// Leader to worker: the committed share of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// What the share is of.
    pub pool: PoolKey,
    /// Invocations the worker may have in flight.
    pub n: u32,
    /// Log index of the commit.
    pub sequence: GrantSequence,
    /// The life of the worker it was given to.
    pub incarnation: Incarnation,
    /// The worker's session it was given in.
    pub session: u64,
}

/// Leader to worker: use at most `n` from now on, and say what you can do with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shrink {
    /// What the share is of.
    pub pool: PoolKey,
    /// The wanted ceiling.
    pub n: u32,
    /// The committed grant this is about.
    pub base: GrantSequence,
    /// The life of the worker it is sent to.
    pub incarnation: Incarnation,
    /// The worker's session it is sent in.
    pub session: u64,
}

/// Worker to leader: my ceiling is at most `n`, and so is what I have in flight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShrinkAnswer {
    /// Who answers.
    pub worker: NodeId,
    /// What the share is of.
    pub pool: PoolKey,
    /// max(asked, in flight).
    pub n: u32,
    /// The committed grant the answer holds for.
    pub base: GrantSequence,
}

/// Worker to leader: I live; this is how my pools stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewal {
    /// Who renews.
    pub worker: NodeId,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// Which session.
    pub session: u64,
    /// When it was sent, on the worker's clock; comes back unread in the reply.
    pub sent_at: MonotonicMs,
    /// Every pool the worker knows.
    pub pools: Vec<(PoolKey, PoolReport)>,
}

/// Leader to worker: the answer to a [`Renewal`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RenewalReply {
    /// Go on until TTL_w after `sent_at`. Sent only by a confirmed leader (see the module's text).
    Renewed {
        /// The renewal's session.
        session: u64,
        /// The renewal's own send time.
        sent_at: MonotonicMs,
    },
    /// This incarnation is not, or no longer, a member: stop for good and register anew.
    Superseded,
}

/// How long silence may last. All on the clock of the party that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PermitTiming {
    /// TTL_w: after so long without an answered renewal, counted from its *sending*, a worker accepts
    /// nothing from reserved pools. Milliseconds.
    pub worker_ttl_ms: u64,
    /// Added to the leader's wait for whatever the rates of clocks do not explain (scheduling of the kill
    /// at a timeout, suspended threads). Milliseconds.
    pub margin_ms: u64,
    /// A message without effect is sent again after this long. Milliseconds.
    pub resend_ms: u64,
    /// A new leader that has not heard every worker only grows for this long. Milliseconds.
    pub settle_ms: u64,
}

impl Default for PermitTiming {
    fn default() -> Self {
        Self {
            worker_ttl_ms: WORKER_LEASE_MS,
            margin_ms: 2_000,
            resend_ms: 1_000,
            settle_ms: 3_000,
        }
    }
}

impl PermitTiming {
    /// How long the leader waits before it takes a silent worker's share of a pool whose invocations run
    /// for at most `longest_timeout_ms`: 5 % over both spans, so that a slow clock on the worker is covered,
    /// and the margin.
    pub fn reclaim_after_ms(&self, longest_timeout_ms: u64) -> u64 {
        let span = self.worker_ttl_ms.saturating_add(longest_timeout_ms);
        span.saturating_add(span.div_ceil(20))
            .saturating_add(self.margin_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leader_waits_longer_than_a_worker_with_a_clock_four_percent_off() {
        let timing = PermitTiming::default();
        for timeout in [0, 1_000, 900_000] {
            let worker_span = timing.worker_ttl_ms + timeout;
            assert!(timing.reclaim_after_ms(timeout) * 100 > worker_span * 104);
        }
        assert_eq!(timing.reclaim_after_ms(3_000), 34_650 + 2_000);
    }
}
