//! The leader's soft half: sessions of workers, permits, capacity for gateways, reconciliation. One task owns
//! it all for one term of leadership; nothing of it is stored, a new leader builds it from reports.
//!
//! ```text
//!   WorkerRegistry.Session --Open, Report, Closed--+
//!   Control.NeedCapacity --------Need--------------+--> Term --propose--> log --> Done --+
//!                                                       ^ |                              |
//!                                            ticks -----+ +--orders--> sessions          |
//!                                                       +--------------------------------+
//! ```
//!
//! Rules are elsewhere: `hearth_core::permits`, `reconcile::plan`, [`needs`], [`commits`].

mod capacity;
mod commits;
mod level;
mod needs;
mod sessions;
mod term;
mod terms;

use std::collections::BTreeMap;

use hearth_core::ids::{AccountId, NodeId};
use hearth_core::name::FunctionName;
use hearth_core::permits::PermitTiming;
use hearth_core::versions::ProvisionedStatus;
use hearth_proto::internal::v1 as pb;
use tokio::sync::{mpsc, oneshot};

pub(crate) use needs::NEED_DEADLINE_MS;
pub(crate) use term::{Done, Term};
pub(crate) use terms::{Deps, LeaderWatch, run};

/// Events that wait for the leader's task; beyond it askers wait. A few milliseconds of its work.
const EVENTS_MAX: usize = 1_024;
/// Orders that wait for one worker's connection. A worker that is this far behind is cut off and comes back.
pub(crate) const ORDERS_MAX: usize = 1_024;

/// The operator's times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeaderOptions {
    pub(crate) timing: PermitTiming,
    /// A worker that was not heard for so long is shown as gone. Milliseconds.
    pub(crate) silent_after_ms: u64,
}

/// What the leader's task is told.
#[derive(Debug)]
pub(crate) enum Event {
    /// A worker opened a session.
    Open {
        /// Unique on this controller.
        session: u64,
        register: pb::RegisterWorker,
        /// Closed by the leader when the session is to end.
        orders: mpsc::Sender<pb::WorkerOrder>,
    },
    /// A worker says something.
    Report {
        session: u64,
        worker: u64,
        report: pb::worker_report::Report,
    },
    /// A session's connection ended.
    Closed { session: u64, worker: u64 },
    /// An operator asks how the workers are.
    Status {
        reply: oneshot::Sender<Vec<WorkerStatus>>,
    },
    /// Somebody asks how a function's provisioned concurrency stands.
    Provisioned {
        account: AccountId,
        name: FunctionName,
        /// By version.
        reply: oneshot::Sender<BTreeMap<u64, ProvisionedStatus>>,
    },
    /// A gateway needs capacity. Dropping `reply` means: ask again.
    Need {
        request: pb::NeedCapacityRequest,
        reply: oneshot::Sender<pb::NeedCapacityReply>,
    },
}

/// A worker in session, for operators.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WorkerStatus {
    pub(crate) id: NodeId,
    pub(crate) sandboxes: u32,
    pub(crate) free_memory_mib: u64,
    pub(crate) in_flight: u32,
    pub(crate) draining: bool,
    pub(crate) silent_ms: u64,
}

/// The leader's task, as services see it.
#[derive(Clone, Debug)]
pub(crate) struct LeaderHandle {
    events: mpsc::Sender<Event>,
}

impl LeaderHandle {
    /// `false` when this node does not lead any more.
    pub(crate) async fn send(&self, event: Event) -> bool {
        self.events.send(event).await.is_ok()
    }
}
