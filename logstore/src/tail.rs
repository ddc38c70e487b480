//! Who hears of events as they are written. Listeners share one ring; who is too slow misses what the ring no longer has, and is
//! told so. The writer never waits for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use hearth_core::ids::AccountId;
use hearth_core::logs::page::Position;
use hearth_core::logs::{GroupName, Streams};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::active::Numbered;
use crate::event::{GroupKey, StoredEvent, number_ms};

/// Chunks in the ring: with the size of a chunk this bounds what a slow listener keeps in memory.
pub(crate) const RING: usize = 64;
/// Bytes of a chunk, unless one event has more.
const CHUNK_BYTES: usize = 256 * 1024;
/// Bytes of an event besides its message, by estimate.
const EVENT_OVERHEAD_BYTES: usize = 128;

/// An event with its group.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    group: Arc<GroupKey>,
    event: StoredEvent,
}

pub(crate) type Chunk = Arc<[Published]>;

/// What was written, in chunks.
pub(crate) fn chunks(
    groups: BTreeMap<GroupKey, Vec<Numbered>>,
    source: u32,
) -> impl Iterator<Item = Chunk> {
    let flat = groups.into_iter().flat_map(move |(key, events)| {
        let group = Arc::new(key);
        let publish = move |numbered: Numbered| Published {
            group: Arc::clone(&group),
            event: StoredEvent {
                at: Position::new(numbered.timestamp_ms, numbered.ingested, source),
                ingested_ms: number_ms(numbered.ingested),
                stream: numbered.stream,
                message: numbered.message,
            },
        };
        events.into_iter().map(publish)
    });
    let mut flat = flat.peekable();
    std::iter::from_fn(move || {
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        while let Some(next) = flat.peek() {
            let more = next.event.message.len() + EVENT_OVERHEAD_BYTES;
            if !chunk.is_empty() && bytes + more > CHUNK_BYTES {
                break;
            }
            bytes += more;
            chunk.extend(flat.next());
        }
        (!chunk.is_empty()).then(|| chunk.into())
    })
}

/// What a listener hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Events of the groups and streams it listens to, in the order they came; at least one.
    Events(Vec<(GroupName, StoredEvent)>),
    /// It was too slow, and events were passed over that may have been of its groups.
    Missed,
}

/// Hears of events of some groups of an account from when it was made.
#[derive(Debug)]
pub struct Subscription {
    ring: broadcast::Receiver<Chunk>,
    account: AccountId,
    groups: Vec<GroupName>,
    streams: Streams,
}

impl Subscription {
    pub(crate) fn new(
        ring: broadcast::Receiver<Chunk>,
        account: AccountId,
        groups: Vec<GroupName>,
        streams: Streams,
    ) -> Self {
        Self {
            ring,
            account,
            groups,
            streams,
        }
    }

    /// The next events; `None`: the writer has ended. May be dropped while it waits without missing anything.
    pub async fn next(&mut self) -> Option<Heard> {
        loop {
            match self.ring.recv().await {
                Ok(chunk) => {
                    let events: Vec<_> = chunk.iter().filter_map(|p| self.heard(p)).collect();
                    if !events.is_empty() {
                        return Some(Heard::Events(events));
                    }
                }
                Err(RecvError::Lagged(_)) => return Some(Heard::Missed),
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn heard(&self, published: &Published) -> Option<(GroupName, StoredEvent)> {
        let Published { group, event } = published;
        let is_meant = group.account == self.account
            && self.groups.contains(&group.group)
            && self.streams.includes(&event.stream);
        is_meant.then(|| (group.group.clone(), event.clone()))
    }
}
