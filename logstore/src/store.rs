//! The store as others see it: a handle that all who append and read have a copy of.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hearth_core::ids::AccountId;
use hearth_core::logs::page::Position;
use hearth_core::logs::{GroupName, RetentionDays, StreamName, Streams};
use hearth_node::clock::SharedClock;
use hearth_node::random::SharedRandom;
use tokio::sync::broadcast;

use crate::error::StoreError;
use crate::event::{GroupKey, NewEvent};
use crate::index::{GroupSummary, Index, StreamSummary};
use crate::options::StoreOptions;
use crate::path;
use crate::queue::{Appended, Queue};
use crate::read::{Events, Reading};
use crate::recover::recover;
use crate::tail::{Chunk, RING, Subscription};
use crate::writer::Writer;

/// What handles, readers and the writer share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) dir: PathBuf,
    pub(crate) options: StoreOptions,
    pub(crate) clock: SharedClock,
    pub(crate) random: SharedRandom,
    pub(crate) queue: Queue,
    index: Mutex<Index>,
    /// The writer has the other end: listeners are told when it goes.
    tail: broadcast::WeakSender<Chunk>,
}

impl Shared {
    /// The index, for a few lines that neither wait nor touch a file.
    pub(crate) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes the queue when the last handle goes.
#[derive(Debug)]
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.queue.close();
    }
}

/// Log events on disk. Clones are the same store; when the last one goes, the [`Writer`] writes what is left and ends.
#[derive(Clone, Debug)]
pub struct LogStore {
    handle: Arc<Handle>,
}

/// Which events of a group.
#[derive(Clone, Debug)]
pub struct ReadQuery {
    /// Of these streams.
    pub streams: Streams,
    /// Between these places; `StreamQuery::bounds` and `FilterQuery::bounds` say them.
    pub bounds: Range<Position>,
    /// The earliest first, or the latest.
    pub is_ascending: bool,
    /// No more than so many are given. A page that looks at some number of events needs one more, where the next page begins.
    pub looked_at: usize,
}

/// What the store has and what it has lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Bytes of all segments, with the footers that open ones will have.
    pub bytes: u64,
    /// Bytes of memory of the index, by estimate.
    pub index_bytes: u64,
    /// Segments.
    pub segments: usize,
    /// Bytes that wait to be written.
    pub queued_bytes: usize,
    /// Events that were not kept since the store was opened: there was no room in the queue, or on the disk.
    pub dropped: u64,
}

impl LogStore {
    /// Opens the store of a directory that is its own, and makes the directory if it is missing. Nothing is written before the
    /// [`Writer`] runs. Reads the footers of all segments: blocks.
    ///
    /// # Errors
    /// The options are wrong, or the directory cannot be made or listed. A segment that cannot be read is none.
    pub fn open(
        dir: &Path,
        options: StoreOptions,
        clock: SharedClock,
        random: SharedRandom,
    ) -> Result<(Self, Writer), StoreError> {
        options.validate().map_err(StoreError::Options)?;
        let found = recover(dir)?;
        let (tail, _) = broadcast::channel(RING);
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            queue: Queue::new(options.queue_bytes),
            options,
            clock,
            random,
            index: Mutex::new(found.index),
            tail: tail.downgrade(),
        });
        let writer = Writer::new(Arc::clone(&shared), tail, found.last_seq);
        let handle = Arc::new(Handle(shared));
        Ok((Self { handle }, writer))
    }

    fn shared(&self) -> &Shared {
        &self.handle.0
    }

    /// Keeps events of a stream, in this order. Neither waits nor fails: what there is no room for is dropped and counted, and
    /// a line in the stream says how many there were.
    pub fn append(
        &self,
        account: &AccountId,
        group: &GroupName,
        stream: &StreamName,
        events: &[NewEvent<'_>],
    ) -> Appended {
        self.shared()
            .queue
            .append(&key(account, group), stream, events)
    }

    /// From now on whole segments of a group are deleted when all they have is older. `None`, as of every group after the store
    /// was opened: they are not.
    pub fn set_retention(
        &self,
        account: &AccountId,
        group: &GroupName,
        retention: Option<RetentionDays>,
    ) {
        let mut index = self.shared().index();
        index.set_retention(key(account, group), retention);
    }

    /// Groups of an account that have events, by name.
    pub fn groups(&self, account: &AccountId) -> Vec<GroupSummary> {
        self.shared().index().groups(account)
    }

    /// Streams of a group that have events, by name.
    pub fn streams(&self, account: &AccountId, group: &GroupName) -> Vec<StreamSummary> {
        self.shared().index().streams(&key(account, group))
    }

    /// Events of a group that were written by now. The iterator blocks.
    pub fn events(&self, account: &AccountId, group: &GroupName, query: ReadQuery) -> Events {
        let (shared, key) = (self.shared(), key(account, group));
        let extents = shared.index().extents(&key, &query.streams, &query.bounds);
        let with_path = |extent: crate::index::Extent| {
            let path = path::segment(&shared.dir, &key, extent.seq);
            (path, extent)
        };
        let reading = Reading {
            streams: query.streams,
            bounds: query.bounds,
            is_ascending: query.is_ascending,
            looked_at: query.looked_at,
            node: shared.options.source,
        };
        Events::new(extents.into_iter().map(with_path).collect(), reading)
    }

    /// Hears of events of some groups from now on, as they are written. `None`: the writer has ended.
    pub fn subscribe(
        &self,
        account: &AccountId,
        groups: &[GroupName],
        streams: Streams,
    ) -> Option<Subscription> {
        let ring = self.shared().tail.upgrade()?.subscribe();
        let subscription = Subscription::new(ring, account.clone(), groups.to_vec(), streams);
        Some(subscription)
    }

    /// Counts.
    pub fn stats(&self) -> StoreStats {
        let (bytes, index_bytes, segments) = self.shared().index().sums();
        let (queued_bytes, dropped) = self.shared().queue.counts();
        StoreStats {
            bytes,
            index_bytes,
            segments,
            queued_bytes,
            dropped,
        }
    }

    /// Takes nothing more. The [`Writer`] writes what it has, closes all segments and ends.
    pub fn close(&self) {
        self.shared().queue.close();
    }
}

fn key(account: &AccountId, group: &GroupName) -> GroupKey {
    GroupKey {
        account: account.clone(),
        group: group.clone(),
    }
}
