//! Due events for dispatchers, one dispatcher after the other in the order in which they asked: two that looked at the same
//! time would both see the same event due, and one would commit a lease of nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hearth_core::error::{Error, ErrorCode, NOT_DONE};
use hearth_core::events::{EventCommand, EventEntry, EventReply};
use hearth_core::ids::{NodeId, UnixMs};
use hearth_node::clock::SharedClock;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::machine::EventMachine;
use crate::raft::Consensus;

/// Most events of one batch: 64 MiB of payloads, should all be of the largest size.
const COUNT_MAX: u32 = 64;
/// Shortest and longest lease, milliseconds.
const LEASE_MS: std::ops::RangeInclusive<u64> = 1_000..=300_000;
/// Longest wait for a due event; shorter than a load balancer's patience.
const WAIT_MAX: Duration = Duration::from_secs(20);

const ENDS: &str = "this controller ends";

fn not_here(text: &str) -> Error {
    Error::new(ErrorCode::Unavailable, text).with_reason(NOT_DONE)
}

/// What a dispatcher asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Want {
    pub(crate) holder: NodeId,
    pub(crate) count: u32,
    pub(crate) lease_ms: u64,
    pub(crate) wait: Duration,
}

/// See the module's text. Of use where this controller leads.
#[derive(Clone, Debug)]
pub(crate) struct Leases {
    consensus: Consensus<EventMachine>,
    clock: SharedClock,
    stop: CancellationToken,
    turn: Arc<Mutex<()>>,
}

impl Leases {
    pub(crate) fn new(
        consensus: Consensus<EventMachine>,
        clock: SharedClock,
        stop: CancellationToken,
    ) -> Self {
        let turn = Arc::default();
        Self {
            consensus,
            clock,
            stop,
            turn,
        }
    }

    /// Due events with their payloads; none if there were none in time. An error where this controller does not lead or ends, so
    /// that a dispatcher asks another one, after a pause.
    pub(crate) async fn next(&self, want: Want) -> Result<Vec<(EventEntry, Bytes)>, Error> {
        let mut over = std::pin::pin!(tokio::time::sleep(want.wait.min(WAIT_MAX)));
        let _turn = tokio::select! {
            turn = self.turn.lock() => turn,
            () = self.stop.cancelled() => return Err(not_here(ENDS)),
            () = &mut over => return Ok(Vec::new()),
        };
        let mut applied = self.consensus.watch_applied();
        let mut leadership = self.consensus.watch_leadership();
        loop {
            applied.mark_unchanged();
            if !leadership.borrow_and_update().is_leader {
                return Err(not_here("the event log's leader has just changed"));
            }
            let now = UnixMs(self.clock.unix_ms());
            let due = self.consensus.read(|machine| machine.group().due_at());
            if due.is_some_and(|due| due <= now) {
                let leased = self.lease(&want, now).await?;
                if !leased.is_empty() {
                    return Ok(leased);
                }
            }
            let until_due = due.map(|due| Duration::from_millis(due.0.saturating_sub(now.0)));
            tokio::select! {
                _ = applied.changed() => {}
                _ = leadership.changed() => {}
                () = tokio::time::sleep(until_due.unwrap_or(WAIT_MAX)) => {}
                () = self.stop.cancelled() => return Err(not_here(ENDS)),
                () = &mut over => return Ok(Vec::new()),
            }
        }
    }

    async fn lease(&self, want: &Want, now: UnixMs) -> Result<Vec<(EventEntry, Bytes)>, Error> {
        let lease_ms = want.lease_ms.clamp(*LEASE_MS.start(), *LEASE_MS.end());
        let command = EventCommand::Lease {
            holder: want.holder,
            count: want.count.clamp(1, COUNT_MAX),
            until: UnixMs(now.0.saturating_add(lease_ms)),
            skip: BTreeSet::new(),
            now,
        };
        let reply = self.consensus.commit_event(&command, Bytes::new()).await?;
        let EventReply::Leased(entries) = reply else {
            let text = format!("the event log answered a lease with {reply:?}");
            return Err(Error::new(ErrorCode::Internal, text));
        };
        // Whoever has applied the lease has the payloads of what was leased.
        Ok(self.consensus.read(|machine| {
            let with_payload = |entry: EventEntry| {
                let payload = machine.payload(&entry)?;
                Some((entry, payload))
            };
            entries.into_iter().filter_map(with_payload).collect()
        }))
    }
}
