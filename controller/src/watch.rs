//! Readiness and the gauges of consensus: a controller is ready when it knows a leader and its state contains
//! what was committed when it asked.

use std::sync::Arc;
use std::time::Duration;

use hearth_node::health::Health;
use tokio_util::sync::CancellationToken;

use crate::machine::ReplicatedState;
use crate::metrics::ControllerMetrics;
use crate::raft::Consensus;

/// Name of the condition on `/readyz`.
const CONSENSUS: &str = "consensus";
/// How often the leader is asked again; also bounds the age of the gauges.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Until `stop`.
pub(crate) async fn run(
    consensus: Consensus<ReplicatedState>,
    health: Health,
    metrics: Arc<ControllerMetrics>,
    stop: CancellationToken,
) {
    let mut leadership = consensus.watch_leadership();
    let fatal = consensus.watch_fatal();
    let broken = consensus.read(ReplicatedState::watch_broken);
    health.set_ready(CONSENSUS, false, "starting");
    loop {
        let now = leadership.borrow_and_update().clone();
        let gauge = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        metrics.term.set(gauge(now.term));
        metrics.is_leader.set(i64::from(now.is_leader));
        metrics.applied.set(gauge(consensus.applied_index()));
        let answer = tokio::select! {
            () = stop.cancelled() => return,
            answer = consensus.read_index() => answer,
        };
        match answer {
            Ok(index) => health.set_ready(CONSENSUS, true, format!("applied {index}")),
            Err(error) => health.set_ready(CONSENSUS, false, error.to_string()),
        }
        for fatal in [&fatal, &broken] {
            if let Some(reason) = fatal.borrow().clone() {
                health.fail(CONSENSUS, reason);
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            // The error of a sender that is gone is that consensus has ended; the next turn says so.
            _ = leadership.changed() => {}
            () = tokio::time::sleep(ASK_EVERY) => {}
        }
    }
}
