//! The Raft log of one node: openraft's storage traits on top of sled, or fjall for events.
//!
//! ```text
//! openraft ──append──> cache (readable at once) ──queue──> writer thread ──flush, fdatasync──> callback
//! ```
//!
//! Promises: an append or vote is reported only when it would survive a power cut; the log on disk never has
//! a hole; it is never purged past the newest durable snapshot; what cannot be read at start is refused with
//! advice rather than repaired by guessing. Snapshots are not here.

mod cache;
mod disk;
mod fjall_engine;
#[cfg(test)]
mod golden;
mod record;
mod sled_engine;
mod writer;

use std::fmt::{self, Debug};
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hearth_node::blocking;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use tokio::sync::{mpsc, oneshot, watch};

pub use disk::OpenError;
pub(super) use disk::Owner;
pub(super) use fjall_engine::FjallEngine;
pub(super) use sled_engine::SledEngine;

use self::cache::Cache;
use self::disk::Disk;
use self::writer::{Op, Writer};
use super::pulse::Pulse;
use super::storage::Storage;
use super::types::{Entry, LogId, TypeConfig, Vote};

/// Bytes of entries handed to replication at once; keeps a request far below gRPC's message limit.
pub(super) const READ_BYTES: usize = 1024 * 1024;
/// How long a purge waits for the snapshot that allows it. openraft asks only after the snapshot is there,
/// so a wait that ends without it is a bug, not load.
const SNAPSHOT_WAIT: Duration = Duration::from_secs(30);

/// Tells the store up to where a durable snapshot reaches; `None` lifts the check (for the store's own tests).
pub(super) type DurableSnapshot = Option<watch::Receiver<Option<u64>>>;

/// The log store. Clones share the log.
#[derive(Clone)]
pub(super) struct LogStore {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Op>,
    snapshot: DurableSnapshot,
}

struct Shared {
    state: Mutex<State>,
    /// Gone once the store is closed, so that the directory can be opened again.
    disk: Mutex<Option<Disk>>,
    disk_id: String,
    written: watch::Receiver<Option<u64>>,
    fatal: watch::Receiver<Option<String>>,
}

#[derive(Debug, Default)]
struct State {
    vote: Option<Vote>,
    purged: Option<LogId>,
    committed: Option<LogId>,
    last: Option<LogId>,
    cache: Cache,
}

impl Debug for LogStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogStore")
            .field("state", &*self.shared.state())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn disk(&self) -> io::Result<Disk> {
        let disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        disk.clone().ok_or_else(closed)
    }
}

/// Makes the log of a node that begins with this vote and a snapshot. Durable when it returns. Blocks.
pub(super) fn seed(
    storage: &dyn Storage,
    dir: &Path,
    owner: &Owner,
    vote: &Vote,
) -> Result<(), OpenError> {
    let (disk, _) = Disk::open(storage, dir, owner)?;
    let vote = disk::encode_vote(vote);
    disk.engine.set_marks(&[(disk::KEY_VOTE, Some(&vote))])?;
    Ok(disk.engine.sync()?)
}

impl LogStore {
    /// Opens or makes the log in `dir`. Blocks for as long as reading the log takes.
    pub(super) fn open(
        storage: &Arc<dyn Storage>,
        dir: &Path,
        owner: &Owner,
        snapshot: DurableSnapshot,
        pulse: &Arc<Pulse>,
    ) -> Result<Self, OpenError> {
        let (disk, recovered) = Disk::open(&**storage, dir, owner)?;
        let disk_id = disk.id()?;
        disk.time_flushes(&**storage, pulse)?;
        let last = recovered.entries.last().map(|entry| entry.log_id);
        let mut state = State {
            vote: recovered.vote,
            purged: recovered.purged,
            committed: recovered.committed,
            last: last.or(recovered.purged),
            cache: Cache::default(),
        };
        let written = state.last.map(|last| last.index);
        for entry in recovered.entries {
            state.cache.push(entry);
        }
        state.cache.shrink(written);

        let (queue, operations) = mpsc::channel(writer::QUEUE);
        let written_tx = watch::Sender::new(written);
        let fatal_tx = watch::Sender::new(None);
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            disk: Mutex::new(Some(disk.clone())),
            disk_id,
            written: written_tx.subscribe(),
            fatal: fatal_tx.subscribe(),
        });
        let writer = Writer::new(disk, operations, written_tx, fatal_tx, Arc::clone(pulse));
        if storage.simulated_sync().is_some() {
            tokio::spawn(writer.run_simulated(Arc::clone(storage)));
        } else {
            std::thread::Builder::new()
                .name("raft-log".to_owned())
                .spawn(move || writer.run())
                .map_err(OpenError::Io)?;
        }
        Ok(Self {
            shared,
            queue,
            snapshot,
        })
    }

    /// `Some(reason)` once the log can no longer be written: the process must end.
    pub(super) fn fatal(&self) -> watch::Receiver<Option<String>> {
        self.shared.fatal.clone()
    }

    /// Id of the disk, for as long as it is the same.
    pub(super) fn disk_id(&self) -> &str {
        &self.shared.disk_id
    }

    /// First entry still in the log, and the purge mark.
    pub(super) fn purged(&self) -> Option<LogId> {
        self.shared.state().purged
    }

    /// The last entry, durable or not.
    pub(super) fn last(&self) -> Option<LogId> {
        self.shared.state().last
    }

    /// Flushes, ends the writer and lets go of the directory.
    pub(super) async fn close(&self) -> io::Result<()> {
        let result = self.ask(Op::Stop).await;
        let disk = {
            let mut disk = self.shared.disk.lock();
            disk.as_mut().map_or(None, |disk| disk.take())
        };
        // Dropping the last handle makes sled wait for its own threads.
        drop(blocking::run(move || drop(disk)).await);
        result
    }

    async fn send(&self, op: Op) -> io::Result<()> {
        self.queue.send(op).await.map_err(|_| closed())
    }

    /// Sends an operation and waits until it is durable.
    async fn ask(&self, op: impl FnOnce(writer::Done) -> Op) -> io::Result<()> {
        let (done, answer) = oneshot::channel();
        self.send(op(done)).await?;
        answer.await.map_err(|_| closed())?
    }

    async fn read(&self, from: u64, end: u64, max_bytes: usize) -> io::Result<Vec<Entry>> {
        let (cached_from, mut cached) = {
            let state = self.shared.state();
            let from = from.max(state.purged.map_or(0, |purged| purged.index + 1));
            let end = end.min(state.last.map_or(0, |last| last.index + 1));
            if from >= end {
                return Ok(Vec::new());
            }
            let cached_from = state.cache.first().unwrap_or(end).clamp(from, end);
            (
                (from, cached_from),
                state.cache.range(cached_from, end, max_bytes),
            )
        };
        let (from, cached_from) = cached_from;
        if from == cached_from {
            return Ok(cached);
        }
        let disk = self.shared.disk()?;
        let older = blocking::run(move || disk.read_entries(from, cached_from)).await?;
        let mut entries = older.map_err(io::Error::other)?;
        entries.append(&mut cached);
        cache::limit(&mut entries, max_bytes);
        Ok(entries)
    }

    /// Refuses to forget what no durable snapshot contains.
    async fn await_snapshot(&self, upto: u64) -> io::Result<()> {
        let Some(mut snapshot) = self.snapshot.clone() else {
            return Ok(());
        };
        let reached = snapshot.wait_for(|durable| *durable >= Some(upto));
        match tokio::time::timeout(SNAPSHOT_WAIT, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(io::Error::other(format!(
                "log must not be purged up to {upto}: no durable snapshot reaches that far"
            ))),
        }
    }
}

fn closed() -> io::Error {
    io::Error::other("the raft log is closed")
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(from) => *from,
        Bound::Excluded(from) => from.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (from, end)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<R>(&mut self, range: R) -> io::Result<Vec<Entry>>
    where
        R: RangeBounds<u64> + Clone + Debug + Send,
    {
        let (from, end) = bounds(&range);
        self.read(from, end, usize::MAX).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start, end, READ_BYTES).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.shared.state().vote)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let state = self.shared.state();
        Ok(LogState {
            last_purged_log_id: state.purged,
            last_log_id: state.last,
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let bytes = disk::encode_vote(vote);
        self.ask(|done| Op::Vote(bytes, done)).await?;
        self.shared.state().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.shared.state().committed = committed;
        self.send(Op::Committed(committed.as_ref().map(disk::encode_log_id)))
            .await
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.shared.state().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let Some(last) = entries.last().map(|entry| entry.log_id) else {
            callback.io_completed(Ok(()));
            return Ok(());
        };
        let mut values = Vec::with_capacity(entries.len());
        for entry in &entries {
            values.extend(record::encode(entry).map_err(io::Error::other)?);
        }
        {
            let mut state = self.shared.state();
            for entry in entries {
                state.cache.push(entry);
            }
            state.last = Some(last);
            let written = *self.shared.written.borrow();
            state.cache.shrink(written);
        }
        self.send(Op::Append {
            values,
            last: last.index,
            callback,
        })
        .await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        {
            let mut state = self.shared.state();
            state.cache.truncate_after(last.map(|last| last.index));
            state.last = state.last.min(last).max(state.purged);
        }
        let last = last.map(|last| last.index);
        self.ask(|done| Op::TruncateAfter(last, done)).await
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        self.await_snapshot(log_id.index).await?;
        {
            let mut state = self.shared.state();
            state.purged = state.purged.max(Some(log_id));
            state.last = state.last.max(Some(log_id));
            state.cache.purge(log_id.index);
        }
        let mark = disk::encode_log_id(&log_id);
        self.ask(|done| Op::Purge {
            mark,
            upto: log_id.index,
            done,
        })
        .await
    }
}

#[cfg(test)]
mod tests;
