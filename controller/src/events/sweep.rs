//! Keeps the log small: leases that are over end, what was settled is forgotten in time, snapshots are made by bytes. Each is
//! done where it is to be done: sweeping at the leader, snapshots everywhere.

use std::time::Duration;

use bytes::Bytes;
use hearth_core::events::{EventCommand, EventGroup, EventLimits, EventReply};
use hearth_core::ids::UnixMs;
use hearth_node::clock::SharedClock;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::machine::EventMachine;
use crate::options::EventOptions;
use crate::raft::Consensus;

const EVERY: Duration = Duration::from_secs(1);
/// Entries forgotten by one command: its application takes milliseconds.
const MOST: u32 = 2_000;
/// Entries of the past that are kept at most: each stands in every snapshot.
const SETTLED_MAX: usize = 20_000;

/// Bytes of payloads between two snapshots, at least; where more is kept, as much as is kept, so that snapshots write no more
/// than the log does.
const SNAPSHOT_BYTES: u64 = 64 * 1024 * 1024;

/// How long settled events stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Keep {
    done_ms: u64,
    failed_ms: u64,
}

/// What a group holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    bytes: u64,
    done: usize,
    failed: usize,
}

impl Held {
    fn of(group: &EventGroup) -> Self {
        let (done, failed) = group.settled();
        let bytes = group.bytes();
        Self {
            bytes,
            done,
            failed,
        }
    }
}

impl Keep {
    /// As configured, and less where there is no room: what succeeded goes first, and what failed before new events are
    /// refused.
    fn of(options: &EventOptions, held: &Held, limits: EventLimits) -> Self {
        let is_short = held.bytes > limits.bytes / 2;
        let forget_done = is_short || held.done > SETTLED_MAX;
        let forget_failed = (is_short && held.done == 0) || held.failed > SETTLED_MAX;
        let unless = |forget, keep: u64| if forget { 0 } else { keep };
        Self {
            done_ms: unless(forget_done, options.keep_done.as_millis()),
            failed_ms: unless(forget_failed, options.keep_failed.as_millis()),
        }
    }
}

/// Runs until `stop`.
pub(crate) async fn run(
    consensus: Consensus<EventMachine>,
    options: EventOptions,
    clock: SharedClock,
    stop: CancellationToken,
) {
    let limits = options.limits();
    let mut written = 0;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        snapshot(&consensus, &mut written).await;
        if !consensus.leadership().is_leader {
            continue;
        }
        if consensus.read(|machine| machine.group().limits()) != limits {
            let command = EventCommand::Configure { limits };
            match consensus.commit_event(&command, Bytes::new()).await {
                Ok(_) => info!(?limits, "the event log has other limits"),
                Err(error) => debug!(%error, "limits could not be set yet"),
            }
            continue;
        }
        // Several commands if need be, but not without end.
        for _ in 0..10 {
            if !sweep(&consensus, &options, limits, UnixMs(clock.unix_ms())).await {
                break;
            }
        }
    }
}

/// Raft makes one by the number of commands, which says little about how large the log is.
async fn snapshot(consensus: &Consensus<EventMachine>, written: &mut u64) {
    let (brought, held) = consensus.read(|machine| (machine.brought(), machine.group().bytes()));
    if brought.saturating_sub(*written) >= SNAPSHOT_BYTES.max(held) {
        *written = brought;
        if let Err(error) = consensus.trigger_snapshot().await {
            debug!(%error, "no snapshot of the event log");
        }
    }
}

/// True if there may be more.
async fn sweep(
    consensus: &Consensus<EventMachine>,
    options: &EventOptions,
    limits: EventLimits,
    now: UnixMs,
) -> bool {
    let (keep, is_needed) = consensus.read(|machine| {
        let group = machine.group();
        let keep = Keep::of(options, &Held::of(group), limits);
        (keep, group.has_to_sweep(keep.done_ms, keep.failed_ms, now))
    });
    if !is_needed {
        return false;
    }
    let command = EventCommand::Sweep {
        keep_done_ms: keep.done_ms,
        keep_failed_ms: keep.failed_ms,
        most: MOST,
        now,
    };
    match consensus.commit_event(&command, Bytes::new()).await {
        Ok(EventReply::Swept { lapsed, forgotten }) => {
            if lapsed > 0 {
                info!(
                    lapsed,
                    "leases of events were over: their dispatchers were lost"
                );
            }
            forgotten >= MOST
        }
        Ok(other) => {
            tracing::error!(?other, "a sweep was answered with something else");
            false
        }
        Err(error) => {
            debug!(%error, "the event log could not be swept yet");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_succeeded_goes_first_and_what_failed_before_events_are_refused() {
        let (options, limits) = (EventOptions::default(), EventLimits::default());
        let (done_ms, failed_ms) = (600_000, 86_400_000);
        let (half, most) = (limits.bytes / 2, SETTLED_MAX);
        let table = [
            ((half, most, most), (done_ms, failed_ms)),
            ((half + 1, 1, 5), (0, failed_ms)),
            ((half + 1, 0, 5), (0, 0)),
            ((0, most + 1, 5), (0, failed_ms)),
            ((0, 5, most + 1), (done_ms, 0)),
        ];
        for ((bytes, done, failed), (done_ms, failed_ms)) in table {
            let held = Held {
                bytes,
                done,
                failed,
            };
            let wanted = Keep { done_ms, failed_ms };
            assert_eq!(Keep::of(&options, &held, limits), wanted, "{held:?}");
        }
    }
}
