//! When this controller leads: starts the leader's task after a read barrier, ends it with the leadership.

use std::sync::Arc;
use std::time::Duration;

use hearth_node::clock::SharedClock;
use hearth_node::random::SharedRandom;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::term::Term;
use super::{EVENTS_MAX, LeaderHandle, LeaderOptions};
use crate::machine::ReplicatedState;
use crate::metrics::ControllerMetrics;
use crate::raft::Consensus;
use crate::state::accounts::AccountLimits;
use crate::state::command::Command;
use crate::state::reply::Reply;

/// Pause of a new leader that cannot begin yet.
const AGAIN: Duration = Duration::from_millis(50);

/// Follows whether this node leads; `None` while it does not.
pub(crate) type LeaderWatch = watch::Receiver<Option<LeaderHandle>>;

/// What the leader works with.
#[derive(Clone, Debug)]
pub(crate) struct Deps {
    pub(crate) consensus: Consensus<ReplicatedState>,
    pub(crate) clock: SharedClock,
    pub(crate) random: SharedRandom,
    pub(crate) options: LeaderOptions,
    pub(crate) region: String,
    pub(crate) limits: AccountLimits,
    pub(crate) metrics: Arc<ControllerMetrics>,
}

/// Runs until `stop`; publishes the handle of each term.
pub(crate) async fn run(
    deps: Deps,
    current: watch::Sender<Option<LeaderHandle>>,
    stop: CancellationToken,
) {
    let mut leadership = deps.consensus.watch_leadership();
    loop {
        let now = leadership.borrow_and_update().clone();
        if now.is_leader {
            let term_over = stop.child_token();
            let ended_early = tokio::select! {
                () = stop.cancelled() => false,
                () = lost(&mut leadership, now.term) => false,
                () = lead(&deps, now.term, &current, term_over) => true,
            };
            current.send_replace(None);
            if ended_early {
                tokio::task::yield_now().await;
                continue;
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            // An error means that consensus is gone, and so is its leadership.
            changed = leadership.wait_for(|l| *l != now) => if changed.is_err() {
                return;
            },
        }
    }
}

/// Returns once `term` is over for this node.
async fn lost(leadership: &mut watch::Receiver<crate::raft::Leadership>, term: u64) {
    // An error means that consensus has ended.
    let _ended = leadership
        .wait_for(|l| !l.is_leader || l.term != term)
        .await;
}

/// One term. Ends early, to be begun again, only when consensus fails.
async fn lead(
    deps: &Deps,
    term: u64,
    current: &watch::Sender<Option<LeaderHandle>>,
    stop: CancellationToken,
) {
    // All that former leaders committed must be in the state before it is judged.
    while let Err(error) = deps.consensus.read_index().await {
        tracing::warn!(term, %error, "new leader waits for its quorum");
        tokio::time::sleep(AGAIN).await;
    }
    configure(deps).await;
    // No renewal may leave before earlier leaders' reclaims are void.
    while let Err(error) = begin_term(deps, term).await {
        tracing::warn!(term, error, "new leader waits for its first commit");
        tokio::time::sleep(AGAIN).await;
    }
    let (events, inbox) = mpsc::channel(EVENTS_MAX);
    let task = Term::begin(deps.clone(), term);
    current.send_replace(Some(LeaderHandle { events }));
    task.run(inbox, stop).await;
}

/// Whether the term has begun. A refusal means that a newer one has; the caller's loop ends with leadership.
async fn begin_term(deps: &Deps, term: u64) -> Result<(), String> {
    let reply = deps.consensus.commit(&Command::BeginTerm { term }).await;
    match reply.map_err(|e| e.to_string())? {
        Reply::Done => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

/// The operator's settings become the cluster's when they differ. The region stays as it was first set.
async fn configure(deps: &Deps) {
    let (region, limits) = deps
        .consensus
        .read(|m| (m.state().region.clone(), m.state().limits));
    if !region.is_empty() && region != deps.region {
        tracing::error!(
            set = region,
            configured = deps.region,
            "the cluster's region cannot be changed"
        );
    }
    if !region.is_empty() && limits == deps.limits {
        return;
    }
    let command = Command::Configure {
        region: deps.region.clone(),
        concurrency_limit: deps.limits.concurrency,
        code_storage_bytes: deps.limits.code_storage_bytes,
    };
    if let Err(error) = deps.consensus.commit(&command).await {
        tracing::warn!(%error, "settings were not committed, the next leader tries again");
    }
}
