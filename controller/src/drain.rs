//! A controller that the operator wants to drain does not lead: whenever it does, it hands over. It votes and keeps its
//! copy of everything, so that draining one costs no safety.

use std::time::Duration;

use hearth_core::ids::NodeId;
use tokio_util::sync::CancellationToken;

use crate::machine::ReplicatedState;
use crate::raft::Consensus;
use crate::state::command::Role;

/// How often it is looked whether there is something to hand over; also the pause after a hand-over that failed.
const EVERY: Duration = Duration::from_millis(500);

/// Runs until `stop`.
pub(crate) async fn run(consensus: Consensus<ReplicatedState>, stop: CancellationToken) {
    let own = NodeId(consensus.node_id());
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let nodes_are_left = || {
            let voters = consensus.members().voters;
            consensus.read(|m| {
                let nodes = &m.state().nodes;
                let is_free = |id: &u64| !nodes.is_drain_wanted(Role::Controller, NodeId(*id));
                voters.keys().any(is_free)
            })
        };
        let is_wanted = consensus.read(|m| m.state().nodes.is_drain_wanted(Role::Controller, own));
        // When all are to drain, one has to lead all the same.
        if is_wanted && consensus.leadership().is_leader && nodes_are_left() {
            tracing::info!("handing leadership over: the operator wants this controller to drain");
            consensus.hand_over().await;
        }
    }
}
