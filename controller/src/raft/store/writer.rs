//! The one thread that writes the log. It takes what has queued up, writes it, flushes once for all of it
//! (group commit), and only then tells anyone. An error ends it: after a failed fsync nobody knows what is on
//! disk, so the process must end. On a simulated disk it is a task, which waits for as long as the flush takes.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use hearth_core::planted::{self, Bug};
use openraft::storage::IOFlushed;
use tokio::sync::mpsc::{self, error::TryRecvError};
use tokio::sync::{oneshot, watch};

use super::disk::{Disk, KEY_COMMITTED, KEY_PURGED, KEY_VOTE};
use super::record::KeyValue;
use crate::raft::pulse::Pulse;
use crate::raft::storage::{LogChange, Storage};
use crate::raft::types::TypeConfig;

/// Operations that may wait. Each is at most one append of openraft, so this bounds memory, and a full queue
/// slows Raft down rather than the machine.
pub(super) const QUEUE: usize = 1_024;
/// Operations and bytes written between two flushes at most: keeps one flush well below an election timeout.
const GROUP_OPS: usize = 512;
const GROUP_BYTES: usize = 4 * 1024 * 1024;

/// What the log store asks of the writer.
pub(super) enum Op {
    /// Write entries; `callback` hears when they are durable.
    Append {
        values: Vec<KeyValue>,
        last: u64,
        callback: IOFlushed<TypeConfig>,
    },
    /// Write the vote durably.
    Vote(Vec<u8>, Done),
    /// Write the committed mark, durable with whatever is flushed next.
    Committed(Option<Vec<u8>>),
    /// Delete all entries after this one durably.
    TruncateAfter(Option<u64>, Done),
    /// Write the purge mark durably, delete the entries some time after.
    Purge {
        mark: Vec<u8>,
        upto: u64,
        done: Done,
    },
    /// Flush and end.
    Stop(Done),
}

pub(super) type Done = oneshot::Sender<io::Result<()>>;

/// Who is to be told once a group is durable.
enum Waiter {
    Append(IOFlushed<TypeConfig>),
    Done(Done),
}

impl Waiter {
    fn tell(self, result: io::Result<()>) {
        match self {
            Self::Append(callback) => callback.io_completed(result),
            // The asker may have been cancelled; the write stands either way.
            Self::Done(done) => drop(done.send(result)),
        }
    }
}

/// What was in the queue.
enum Taken {
    Group(VecDeque<Op>),
    Nothing,
    Closed,
}

/// What a group needs besides being written.
struct Turn {
    waiters: Vec<Waiter>,
    flush: bool,
    stop: bool,
}

impl Turn {
    fn of(group: &VecDeque<Op>) -> Self {
        Self {
            waiters: Vec::with_capacity(group.len()),
            flush: group.iter().any(|op| !matches!(op, Op::Committed(_))),
            stop: group.iter().any(|op| matches!(op, Op::Stop(_))),
        }
    }
}

pub(super) struct Writer {
    disk: Disk,
    queue: mpsc::Receiver<Op>,
    /// Index of the last entry that reads from the tree will see.
    written: watch::Sender<Option<u64>>,
    fatal: watch::Sender<Option<String>>,
    /// Told how long flushes take.
    pulse: Arc<Pulse>,
    /// Entries up to here are still to be deleted.
    purging: Option<u64>,
    /// Part of a group that is yet to be applied to the log tree.
    batch: Vec<LogChange>,
    batch_last: Option<u64>,
    batch_bytes: usize,
    /// The newest committed mark of a group, written once after its entries.
    committed: Option<Option<Vec<u8>>>,
}

impl Writer {
    pub(super) fn new(
        disk: Disk,
        queue: mpsc::Receiver<Op>,
        written: watch::Sender<Option<u64>>,
        fatal: watch::Sender<Option<String>>,
        pulse: Arc<Pulse>,
    ) -> Self {
        Self {
            disk,
            queue,
            written,
            fatal,
            pulse,
            purging: None,
            batch: Vec::new(),
            batch_last: None,
            batch_bytes: 0,
            committed: None,
        }
    }

    /// Runs until it is stopped, all senders are gone, or a write fails. Blocks.
    pub(super) fn run(mut self) {
        loop {
            let group = match self.take_queued() {
                Taken::Group(group) => group,
                Taken::Nothing => match self.queue.blocking_recv() {
                    Some(op) => VecDeque::from([op]),
                    None => return,
                },
                Taken::Closed => return,
            };
            let mut turn = Turn::of(&group);
            let written = self.write(group, &mut turn);
            let synced = written.and_then(|()| self.finish(turn.flush));
            if self.tell(turn, synced) {
                return;
            }
        }
    }

    /// As [`Writer::run`], on a disk whose flushes take simulated time.
    pub(super) async fn run_simulated(mut self, storage: Arc<dyn Storage>) {
        loop {
            let group = match self.take_queued() {
                Taken::Group(group) => group,
                Taken::Nothing => match self.queue.recv().await {
                    Some(op) => VecDeque::from([op]),
                    None => return,
                },
                Taken::Closed => return,
            };
            let mut turn = Turn::of(&group);
            let written = self.write(group, &mut turn);
            if planted::is(Bug::AcknowledgedBeforeFsync) {
                for waiter in std::mem::take(&mut turn.waiters) {
                    waiter.tell(Ok(()));
                }
            }
            if turn.flush
                && let Some(pause) = storage.simulated_sync()
            {
                let begun = self.pulse.begin();
                tokio::time::sleep(pause).await;
                self.pulse.flushed(begun);
            }
            let synced = written.and_then(|()| self.finish(turn.flush));
            if self.tell(turn, synced) {
                return;
            }
        }
    }

    /// What has queued up. While entries are to be deleted, an empty group is something to do.
    fn take_queued(&mut self) -> Taken {
        let mut group = VecDeque::new();
        let mut bytes = 0;
        while group.len() < GROUP_OPS && bytes < GROUP_BYTES {
            let op = match self.queue.try_recv() {
                Ok(op) => op,
                Err(TryRecvError::Disconnected) if group.is_empty() => return Taken::Closed,
                Err(_) if group.is_empty() && self.purging.is_none() => return Taken::Nothing,
                Err(_) => break,
            };
            if let Op::Append { values, .. } = &op {
                bytes += values.iter().map(|(_, value)| value.len()).sum::<usize>();
            }
            group.push_back(op);
        }
        Taken::Group(group)
    }

    /// Writes a group in order. `turn.waiters` are complete when this returns, on errors too.
    fn write(&mut self, group: VecDeque<Op>, turn: &mut Turn) -> io::Result<()> {
        let mut result = Ok(());
        for op in group {
            let written = self.write_one(op, &mut turn.waiters);
            result = result.and(written);
        }
        result?;
        self.apply_batch()?;
        match self.committed.take() {
            Some(mark) => self
                .disk
                .engine
                .set_marks(&[(KEY_COMMITTED, mark.as_deref())]),
            None => Ok(()),
        }
    }

    /// Makes a group durable.
    fn finish(&mut self, flush: bool) -> io::Result<()> {
        if flush {
            let begun = self.pulse.begin();
            self.disk.engine.sync()?;
            self.pulse.flushed(begun);
        }
        self.purge_step()
    }

    /// Tells those who wait for a group; true if it was the last.
    fn tell(&self, turn: Turn, result: io::Result<()>) -> bool {
        if let Err(error) = &result {
            let reason = format!("raft log cannot be written: {error}");
            tracing::error!(%error, "raft log cannot be written");
            self.fatal.send_replace(Some(reason));
        }
        for waiter in turn.waiters {
            waiter.tell(match &result {
                Ok(()) => Ok(()),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            });
        }
        turn.stop || result.is_err()
    }

    fn write_one(&mut self, op: Op, waiters: &mut Vec<Waiter>) -> io::Result<()> {
        match op {
            Op::Append {
                values,
                last,
                callback,
            } => {
                waiters.push(Waiter::Append(callback));
                self.add_to_batch(values, last)
            }
            Op::Vote(vote, done) => {
                waiters.push(Waiter::Done(done));
                // In queue order: a vote must not become durable before entries that precede it.
                self.apply_batch()?;
                if planted::is(Bug::VoteNotPersisted) {
                    return Ok(());
                }
                self.disk.engine.set_marks(&[(KEY_VOTE, Some(&vote))])
            }
            Op::Committed(mark) => {
                self.committed = Some(mark);
                Ok(())
            }
            Op::TruncateAfter(last, done) => {
                waiters.push(Waiter::Done(done));
                self.apply_batch()?;
                self.disk.delete_after(last)?;
                self.written
                    .send_modify(|written| *written = (*written).min(last));
                Ok(())
            }
            Op::Purge { mark, upto, done } => {
                waiters.push(Waiter::Done(done));
                self.apply_batch()?;
                self.disk.engine.set_marks(&[(KEY_PURGED, Some(&mark))])?;
                self.purging = self.purging.max(Some(upto));
                Ok(())
            }
            Op::Stop(done) => {
                waiters.push(Waiter::Done(done));
                Ok(())
            }
        }
    }

    fn add_to_batch(&mut self, values: Vec<KeyValue>, last: u64) -> io::Result<()> {
        for (key, value) in values {
            self.batch_bytes += value.len();
            self.batch.push((key, Some(value)));
        }
        self.batch_last = Some(last);
        if self.batch_bytes >= GROUP_BYTES {
            self.apply_batch()?;
        }
        Ok(())
    }

    fn apply_batch(&mut self) -> io::Result<()> {
        let Some(last) = self.batch_last.take() else {
            return Ok(());
        };
        self.batch_bytes = 0;
        self.disk.engine.write(std::mem::take(&mut self.batch))?;
        self.written.send_replace(Some(last));
        Ok(())
    }

    /// Deletes a few purged entries. They need no flush of their own: what a crash brings back is deleted
    /// again on open, and their mark is durable before.
    fn purge_step(&mut self) -> io::Result<()> {
        if let Some(upto) = self.purging
            && !self.disk.delete_step(upto)?
        {
            self.purging = None;
        }
        Ok(())
    }
}
