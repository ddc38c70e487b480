//! The database of one node's log: identity, and what is read back at start. Writing is [`super::writer`]'s, the engine
//! below is behind the storage seam.

use std::io;
use std::path::Path;
use std::sync::Arc;

use prost::Message;

use hearth_proto::internal::v1 as pb;

use super::record::{self, RecordError};
use crate::raft::codec::{self, CodecError};
use crate::raft::pulse::Pulse;
use crate::raft::storage::{LogChange, LogEngine, LogKey, Storage};
use crate::raft::types::{Entry, LogId, Vote};

/// Version of this layout. A newer one is refused.
const FORMAT_VERSION: u32 = 1;
/// Keys deleted per batch while opening.
const DELETE_STEP: usize = 512;
/// Flushes that are timed while opening.
const FLUSHES_TIMED: usize = 8;

pub(super) const KEY_VOTE: &[u8] = b"vote";
pub(super) const KEY_PURGED: &[u8] = b"purged";
pub(super) const KEY_COMMITTED: &[u8] = b"committed";
const KEY_FORMAT: &[u8] = b"format";
const KEY_NODE: &[u8] = b"node_id";
const KEY_CLUSTER: &[u8] = b"cluster_id";
/// Told apart from every other disk: random, written when the log is made and never again.
pub(super) const KEY_DISK: &[u8] = b"disk";

const REJOIN: &str =
    "move the data directory aside and let this controller rejoin under a new node id";

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be made or read, or another process has it open.
    #[error("cannot open the database")]
    Io(#[source] io::Error),
    /// sled found its own files damaged.
    #[error("the database is corrupted ({REJOIN}): {0}")]
    Corrupted(String),
    /// The entries on disk do not make a log.
    #[error("the log is damaged ({REJOIN}): {0}")]
    Damaged(String),
    /// The directory belongs to someone else.
    #[error("the data directory is that of {found}, not of {expected}")]
    Foreign {
        /// Whose it is.
        found: String,
        /// Who wants to open it.
        expected: String,
    },
    /// The directory was written by a newer release.
    #[error("the data directory has format {found}, this release knows {FORMAT_VERSION}")]
    Format {
        /// Version found.
        found: u32,
    },
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData => Self::Corrupted(error.to_string()),
            _ => Self::Io(error),
        }
    }
}

impl From<RecordError> for OpenError {
    fn from(error: RecordError) -> Self {
        Self::Damaged(error.to_string())
    }
}

impl From<CodecError> for OpenError {
    fn from(error: CodecError) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// The open database.
#[derive(Clone)]
pub(super) struct Disk {
    pub(super) engine: Arc<dyn LogEngine>,
}

/// What a node remembers at start.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    pub(super) vote: Option<Vote>,
    pub(super) purged: Option<LogId>,
    pub(super) committed: Option<LogId>,
    pub(super) entries: Vec<Entry>,
}

/// Whose a log is.
#[derive(Debug, Clone)]
pub(in crate::raft) struct Owner {
    /// The node.
    pub(in crate::raft) node_id: u64,
    /// Its cluster.
    pub(in crate::raft) cluster_id: String,
    /// Id of the disk, should it have none yet: a new one.
    pub(in crate::raft) new_disk: String,
}

impl Disk {
    /// Opens or makes the database in `dir` for this node and reads the log. Blocks.
    pub(super) fn open(
        storage: &dyn Storage,
        dir: &Path,
        owner: &Owner,
    ) -> Result<(Self, Recovered), OpenError> {
        let engine = storage.open_log(dir)?;
        let disk = Self { engine };
        disk.check_identity(owner)?;
        disk.name_itself(&owner.new_disk)?;
        disk.engine.sync()?;
        let recovered = disk.recover()?;
        Ok((disk, recovered))
    }

    /// Logs of earlier releases have no id of their disk.
    fn name_itself(&self, new_disk: &str) -> Result<(), OpenError> {
        if self.engine.mark(KEY_DISK)?.is_none() {
            let mark = [(KEY_DISK, Some(new_disk.as_bytes()))];
            self.engine.set_marks(&mark)?;
        }
        Ok(())
    }

    /// Id of the disk.
    pub(super) fn id(&self) -> Result<String, OpenError> {
        let mark = self.engine.mark(KEY_DISK)?.unwrap_or_default();
        String::from_utf8(mark).map_err(|error| OpenError::Damaged(error.to_string()))
    }

    /// Measures a few flushes, for elections until the log's own flushes tell more. Blocks.
    pub(super) fn time_flushes(&self, storage: &dyn Storage, pulse: &Pulse) -> io::Result<()> {
        for _ in 0..FLUSHES_TIMED {
            // A flush without a change would be none.
            let mark = FORMAT_VERSION.to_be_bytes();
            self.engine.set_marks(&[(KEY_FORMAT, Some(&mark))])?;
            let begun = pulse.begin();
            self.engine.sync()?;
            match storage.simulated_sync() {
                Some(took) => pulse.flush_took(u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
                None => pulse.flushed(begun),
            }
        }
        Ok(())
    }

    fn check_identity(&self, owner: &Owner) -> Result<(), OpenError> {
        let (node_id, cluster_id) = (owner.node_id, owner.cluster_id.as_str());
        let Some(format) = self.engine.mark(KEY_FORMAT)? else {
            let has_marks = [KEY_NODE, KEY_CLUSTER, KEY_VOTE, KEY_PURGED, KEY_COMMITTED]
                .iter()
                .map(|key| self.engine.mark(key))
                .any(|mark| !matches!(mark, Ok(None)));
            if has_marks || self.engine.range(everything()).next().is_some() {
                return Err(OpenError::Damaged("it has no identity".to_owned()));
            }
            self.engine.set_marks(&[
                (KEY_FORMAT, Some(&FORMAT_VERSION.to_be_bytes())),
                (KEY_NODE, Some(&node_id.to_be_bytes())),
                (KEY_CLUSTER, Some(cluster_id.as_bytes())),
            ])?;
            return Ok(());
        };
        let format = fixed(&format).map(u32::from_be_bytes)?;
        if format != FORMAT_VERSION {
            return Err(OpenError::Format { found: format });
        }
        let found_node = self.engine.mark(KEY_NODE)?.unwrap_or_default();
        let found_node = fixed(&found_node).map(u64::from_be_bytes)?;
        let found_cluster = self.engine.mark(KEY_CLUSTER)?.unwrap_or_default();
        if found_node != node_id || *found_cluster != *cluster_id.as_bytes() {
            let found_cluster = String::from_utf8_lossy(&found_cluster);
            return Err(OpenError::Foreign {
                found: format!("node {found_node} of cluster {found_cluster}"),
                expected: format!("node {node_id} of cluster {cluster_id}"),
            });
        }
        Ok(())
    }

    fn recover(&self) -> Result<Recovered, OpenError> {
        let purged = self.mark_log_id(KEY_PURGED)?;
        if let Some(purged) = &purged {
            // A crash between the two steps of a purge leaves entries below its mark.
            while self.delete_step(purged.index)? {}
        }
        let entries = self.read_entries(0, u64::MAX)?;
        check_contiguous(purged.as_ref(), &entries)?;
        let last = entries.last().map(|entry| entry.log_id).or(purged);
        // The mark is written without a flush and may be ahead of what reached the disk.
        let committed = self
            .mark_log_id(KEY_COMMITTED)?
            .filter(|committed| Some(*committed) <= last);
        let vote = match self.engine.mark(KEY_VOTE)? {
            Some(bytes) => Some(codec::vote_from_pb(Some(decode(&bytes)?))?),
            None => None,
        };
        Ok(Recovered {
            vote,
            purged,
            committed,
            entries,
        })
    }

    fn mark_log_id(&self, key: &[u8]) -> Result<Option<LogId>, OpenError> {
        match self.engine.mark(key)? {
            Some(bytes) => Ok(Some(codec::log_id_from_pb(decode(&bytes)?)?)),
            None => Ok(None),
        }
    }

    /// Entries `from..end` in order.
    pub(super) fn read_entries(&self, from: u64, end: u64) -> Result<Vec<Entry>, OpenError> {
        let mut entries = Vec::new();
        let mut current: Option<(u64, Vec<Vec<u8>>)> = None;
        for item in self.engine.range(record::key(from, 0)..record::key(end, 0)) {
            let (key, value) = item?;
            let (index, part) = record::parse_key(&key)
                .ok_or_else(|| OpenError::Damaged("a key is malformed".to_owned()))?;
            if part == 0
                && let Some((index, values)) = current.take()
            {
                entries.push(record::decode(index, values.iter().map(Vec::as_slice))?);
            }
            let (current_index, values) = current.get_or_insert_with(|| (index, Vec::new()));
            if *current_index != index || values.len() != usize::from(part) {
                return Err(OpenError::Damaged(format!("entry {index} has holes")));
            }
            values.push(value);
        }
        if let Some((index, values)) = current {
            entries.push(record::decode(index, values.iter().map(Vec::as_slice))?);
        }
        Ok(entries)
    }

    /// Deletes some of the values up to entry `upto`, oldest first. True if there are more.
    pub(super) fn delete_step(&self, upto: u64) -> io::Result<bool> {
        let mut batch: Vec<LogChange> = Vec::new();
        let keys = record::key(0, 0)..record::key(upto.saturating_add(1), 0);
        for item in self.engine.range(keys).take(DELETE_STEP) {
            batch.push((item?.0, None));
        }
        let count = batch.len();
        if count > 0 {
            self.engine.write(batch)?;
        }
        Ok(count == DELETE_STEP)
    }

    /// Deletes everything after `last` (all with `None`), newest first, so that a crash in between leaves a
    /// shorter log and never one with a hole.
    pub(super) fn delete_after(&self, last: Option<u64>) -> io::Result<()> {
        let from = last.map_or(0, |last| last.saturating_add(1));
        let mut entry: Option<(u64, Vec<LogChange>)> = None;
        let keys = record::key(from, 0)..everything().end;
        for item in self.engine.range(keys).rev() {
            let (key, _) = item?;
            let index = record::parse_key(&key).map(|(index, _)| index);
            // All values of an entry go at once: a part of one would look like damage.
            if let Some((_, batch)) = entry.take_if(|(current, _)| Some(*current) != index) {
                self.engine.write(batch)?;
            }
            let (_, batch) = entry.get_or_insert_with(|| (index.unwrap_or(u64::MAX), Vec::new()));
            batch.push((key, None));
        }
        if let Some((_, batch)) = entry {
            self.engine.write(batch)?;
        }
        Ok(())
    }
}

/// No entry has the last index.
fn everything() -> std::ops::Range<LogKey> {
    record::key(0, 0)..record::key(u64::MAX, u16::MAX)
}

fn check_contiguous(purged: Option<&LogId>, entries: &[Entry]) -> Result<(), OpenError> {
    let mut previous = purged.copied();
    for entry in entries {
        let log_id = entry.log_id;
        let expected = previous.map_or(0, |previous| previous.index + 1);
        if log_id.index != expected || Some(log_id) <= previous {
            return Err(OpenError::Damaged(format!(
                "entry {log_id} follows {previous:?}"
            )));
        }
        previous = Some(log_id);
    }
    Ok(())
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], OpenError> {
    bytes
        .try_into()
        .map_err(|_| OpenError::Damaged("a mark has the wrong length".to_owned()))
}

fn decode<T: Message + Default>(bytes: &[u8]) -> Result<T, OpenError> {
    T::decode(bytes).map_err(|error| OpenError::Damaged(error.to_string()))
}

/// Encodings of the marks.
pub(super) fn encode_vote(vote: &Vote) -> Vec<u8> {
    codec::vote_to_pb(vote).encode_to_vec()
}

pub(super) fn encode_log_id(log_id: &LogId) -> Vec<u8> {
    let log_id: pb::RaftLogId = codec::log_id_to_pb(log_id);
    log_id.encode_to_vec()
}
