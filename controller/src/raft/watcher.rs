//! Turns openraft's metrics into what others watch: who leads, and whether the node must end. Also the
//! leader's one duty at the start of its term, to finish a membership change that its predecessor left half
//! done.

use std::collections::BTreeMap;
use std::sync::Arc;

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::sync::watch;

use super::consensus::Inner;
use super::machine::Machine;
use super::types::{Membership, TypeConfig};

type Metrics = openraft::RaftMetrics<TypeConfig>;

/// Who leads, as far as this node knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leadership {
    /// Term of this node; rises with every election.
    pub term: u64,
    /// The leader's id and address, if one is known. A leader that was removed is none, though openraft
    /// names it until the next election.
    pub leader: Option<(u64, String)>,
    /// Whether this node leads. It may have been deposed without knowing yet: what must not happen twice is
    /// decided by a command, not by this.
    pub is_leader: bool,
}

/// The sending ends of what the watcher publishes.
pub(super) struct Watched {
    pub(super) leadership: watch::Sender<Leadership>,
    pub(super) fatal: watch::Sender<Option<String>>,
}

/// Runs until the node stops.
pub(super) async fn watch_metrics<M: Machine>(inner: Arc<Inner<M>>, watched: Watched) {
    let mut metrics = inner.raft.metrics();
    let mut panicked = inner.cell.panicked();
    let mut log_fatal = inner.log.fatal();
    let mut disk_lost = inner.disk_lost.subscribe();
    loop {
        let now = metrics.borrow_and_update().clone();
        let leadership = leadership(&inner, &now);
        if now.state == ServerState::Candidate && now.current_term > leadership_term(&watched) {
            inner.pulse.voted();
        }
        let changed = watched
            .leadership
            .send_if_modified(|known| std::mem::replace(known, leadership.clone()) != leadership);
        if changed {
            tracing::info!(
                term = leadership.term,
                leader = leadership.leader.as_ref().map(|(id, _)| *id),
                is_leader = leadership.is_leader,
                "leadership changed"
            );
        }
        // The first entry of a term waits for a disk; until followers know whom they elected, one may ask for votes itself.
        if changed && leadership.is_leader && inner.raft.trigger().heartbeat().await.is_err() {
            tracing::debug!("raft stopped before the first heartbeat of its term");
        }
        if leadership.is_leader && now.membership_config.membership().get_joint_config().len() > 1 {
            inner.finish_joint_membership();
        }
        let membership = now.membership_config.membership();
        inner
            .peers
            .retain(|node| membership.get_node(&node).is_some());
        inner.peers.know_disks(disks(membership));
        if let Err(reason) = &now.running_state
            && !inner.stop.is_cancelled()
        {
            watched
                .fatal
                .send_replace(Some(format!("raft has stopped: {reason}")));
        }
        tokio::select! {
            () = inner.stop.cancelled() => return,
            changed = metrics.changed() => if changed.is_err() {
                watched.fatal.send_replace(Some("raft has stopped".to_owned()));
                return;
            },
            Ok(_) = panicked.wait_for(|panicked| *panicked) => {
                let reason = "the state machine panicked".to_owned();
                watched.fatal.send_replace(Some(reason));
                return;
            }
            Ok(reason) = log_fatal.wait_for(Option::is_some) => {
                watched.fatal.send_replace(reason.clone());
                return;
            }
            Ok(reason) = disk_lost.wait_for(Option::is_some) => {
                watched.fatal.send_replace(reason.clone());
                return;
            }
        }
    }
}

/// Term of what was told last.
fn leadership_term(watched: &Watched) -> u64 {
    watched.leadership.borrow().term
}

/// Which node has which disk, by a membership.
pub(super) fn disks(membership: &Membership) -> BTreeMap<u64, String> {
    let nodes = membership.nodes();
    nodes.map(|(id, node)| (*id, node.disk.clone())).collect()
}

fn leadership<M: Machine>(inner: &Inner<M>, metrics: &Metrics) -> Leadership {
    let membership = metrics.membership_config.membership();
    let leader = metrics.current_leader.and_then(|id| {
        let recorded = membership.get_node(&id).map(|node| node.addr.as_str());
        Some((id, inner.peers.known_address(id, recorded)?))
    });
    Leadership {
        term: metrics.current_term,
        leader,
        is_leader: metrics.state == ServerState::Leader,
    }
}
