//! Events that wait to be written: so many bytes at most. What finds no room is dropped and counted by stream, so that a line in
//! each stream can say so. The lock is held for as long as it takes to add up lengths; nobody waits for a disk under it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use hearth_core::logs::StreamName;
use tokio::sync::Notify;

use crate::event::{GroupKey, NewEvent};

/// Bytes that an event takes in the queue besides its message, by estimate.
const EVENT_OVERHEAD_BYTES: usize = 64;
/// The same for a batch: names, queue entry.
const BATCH_OVERHEAD_BYTES: usize = 256;
/// Streams of which losses are counted apart; those of further ones are in the store's count alone.
const LOST_STREAMS_MAX: usize = 1_024;

/// Events of one stream that came together.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) group: GroupKey,
    pub(crate) stream: StreamName,
    /// Timestamps and messages.
    pub(crate) events: Vec<(u64, Bytes)>,
    /// What was reserved for it.
    cost: usize,
}

/// Everything that waited.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) batches: VecDeque<Batch>,
    /// How many events of streams were dropped since the last time.
    pub(crate) lost: BTreeMap<(GroupKey, StreamName), u64>,
    /// Nothing comes any more.
    pub(crate) is_closed: bool,
}

/// What became of events that were appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// So many, the first ones, will be written.
    pub accepted: usize,
    /// So many were dropped.
    pub dropped: usize,
}

#[derive(Debug, Default)]
struct State {
    taken: Taken,
    bytes: usize,
    dropped: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    wake: Notify,
    limit: usize,
}

fn cost(event: &NewEvent<'_>) -> usize {
    EVENT_OVERHEAD_BYTES + event.kept_message().len()
}

impl Queue {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            state: Mutex::default(),
            wake: Notify::new(),
            limit,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes as many events as there is room for. Copies them, so that nothing larger is kept for them.
    pub(crate) fn append(
        &self,
        group: &GroupKey,
        stream: &StreamName,
        events: &[NewEvent<'_>],
    ) -> Appended {
        if events.is_empty() {
            return Appended::default();
        }
        let (mut accepted, cost) = self.reserve(group, stream, events);
        if accepted > 0 {
            let batch = Batch {
                group: group.clone(),
                stream: stream.clone(),
                events: copy(&events[..accepted]),
                cost,
            };
            let mut state = self.state();
            if state.taken.is_closed {
                // In the meantime; the writer may have taken what it takes.
                state.bytes -= cost;
                state.dropped += accepted as u64;
                accepted = 0;
            } else {
                state.taken.batches.push_back(batch);
            }
        }
        self.wake.notify_one();
        Appended {
            accepted,
            dropped: events.len() - accepted,
        }
    }

    /// How many events there is room for, and what of it they take. The rest is counted as lost.
    fn reserve(
        &self,
        group: &GroupKey,
        stream: &StreamName,
        events: &[NewEvent<'_>],
    ) -> (usize, usize) {
        let mut state = self.state();
        let room = if state.taken.is_closed {
            0
        } else {
            self.limit.saturating_sub(state.bytes)
        };
        let (mut accepted, mut taken) = (0, 0);
        // In the queue, and in the segment with its row.
        let mut next = BATCH_OVERHEAD_BYTES + 2 * stream.as_str().len();
        for event in events {
            next += cost(event);
            if next > room {
                break;
            }
            (accepted, taken) = (accepted + 1, next);
        }
        state.bytes += taken;
        let lost = (events.len() - accepted) as u64;
        if lost > 0 {
            state.dropped += lost;
            let streams = state.taken.lost.len();
            let key = (group.clone(), stream.clone());
            if let Some(count) = state.taken.lost.get_mut(&key) {
                *count += lost;
            } else if streams < LOST_STREAMS_MAX {
                state.taken.lost.insert(key, lost);
            }
        }
        (accepted, taken)
    }

    /// Counts events that could not be written.
    pub(crate) fn count_dropped(&self, events: u64) {
        self.state().dropped += events;
    }

    /// Everything that waits.
    pub(crate) fn take(&self) -> Taken {
        let mut state = self.state();
        let is_closed = state.taken.is_closed;
        let taken = std::mem::replace(
            &mut state.taken,
            Taken {
                is_closed,
                ..Taken::default()
            },
        );
        // What is reserved for batches that are still copied stays.
        state.bytes -= taken.batches.iter().map(|batch| batch.cost).sum::<usize>();
        taken
    }

    /// From now on everything is dropped.
    pub(crate) fn close(&self) {
        self.state().taken.is_closed = true;
        self.wake.notify_one();
    }

    /// Returns when something was appended, the queue was closed, or the time is over.
    pub(crate) async fn wait(&self, at_most: Duration) {
        // Either way there is something to look at.
        let _ = tokio::time::timeout(at_most, self.wake.notified()).await;
    }

    /// Bytes that wait, and events that were dropped since the start.
    pub(crate) fn counts(&self) -> (usize, u64) {
        let state = self.state();
        (state.bytes, state.dropped)
    }
}

/// All messages in one allocation, which goes when the last of them does.
fn copy(events: &[NewEvent<'_>]) -> Vec<(u64, Bytes)> {
    let length = events.iter().map(|event| event.kept_message().len()).sum();
    let mut text = BytesMut::with_capacity(length);
    for event in events {
        text.put_slice(event.kept_message());
    }
    let mut text = text.freeze();
    let split = |event: &NewEvent<'_>| {
        let message = text.split_to(event.kept_message().len());
        (event.kept_timestamp_ms(), message)
    };
    events.iter().map(split).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> GroupKey {
        GroupKey {
            account: "123456789012".parse().unwrap(),
            group: "g".parse().unwrap(),
        }
    }

    fn append(queue: &Queue, stream: &str, messages: &[&str]) -> Appended {
        let mut events = Vec::new();
        for message in messages {
            events.push(NewEvent {
                timestamp_ms: 1,
                message: message.as_bytes(),
            });
        }
        queue.append(&key(), &stream.parse().unwrap(), &events)
    }

    #[test]
    fn what_has_no_room_is_dropped_and_counted() {
        let limit = BATCH_OVERHEAD_BYTES + 2 + 2 * (EVENT_OVERHEAD_BYTES + 1);
        let queue = Queue::new(limit);
        let appended = append(&queue, "s", &["a", "b", "c"]);
        assert_eq!((appended.accepted, appended.dropped), (2, 1));
        assert_eq!(append(&queue, "s", &["d"]).dropped, 1);
        assert_eq!(append(&queue, "t", &["e"]).dropped, 1);
        assert_eq!(queue.counts(), (limit, 3));
        let taken = queue.take();
        assert_eq!(taken.batches[0].events, [(1, "a".into()), (1, "b".into())]);
        assert_eq!(taken.lost.values().copied().collect::<Vec<_>>(), [2, 1]);
        assert_eq!(queue.counts(), (0, 3));
        assert_eq!(append(&queue, "s", &["f"]).accepted, 1);
        assert!(queue.take().lost.is_empty());
        assert_eq!(append(&queue, "s", &[]), Appended::default());
    }

    #[test]
    fn a_closed_queue_takes_nothing() {
        let queue = Queue::new(1 << 20);
        append(&queue, "s", &["a"]);
        queue.close();
        assert_eq!(append(&queue, "s", &["b"]).dropped, 1);
        let taken = queue.take();
        assert!(taken.is_closed && taken.batches.len() == 1);
        assert!(queue.take().is_closed);
    }

    #[test]
    fn streams_with_losses_are_limited() {
        let queue = Queue::new(1);
        for stream in 0..LOST_STREAMS_MAX + 5 {
            append(&queue, &stream.to_string(), &["x"]);
        }
        assert_eq!(queue.counts().1, LOST_STREAMS_MAX as u64 + 5);
        assert_eq!(queue.take().lost.len(), LOST_STREAMS_MAX);
    }
}
