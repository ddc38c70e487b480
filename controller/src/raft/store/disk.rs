//! The sled database of one node: opening, identity, and what is read back at start. Writing is
//! [`super::writer`]'s.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use prost::Message;

use hearth_proto::internal::v1 as pb;

use super::record::{self, RecordError};
use crate::raft::codec::{self, CodecError};
use crate::raft::types::{Entry, LogId, Vote};

/// Version of this layout. A newer one is refused.
const FORMAT_VERSION: u32 = 1;
/// sled's page cache. The log is small and its recent part is cached by us.
const CACHE_BYTES: u64 = 32 * 1024 * 1024;
/// A process that was just killed may hold the lock for a moment.
const LOCK_ATTEMPTS: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(100);
/// Keys deleted per batch while opening.
const DELETE_STEP: usize = 512;

pub(super) const KEY_VOTE: &[u8] = b"vote";
pub(super) const KEY_PURGED: &[u8] = b"purged";
pub(super) const KEY_COMMITTED: &[u8] = b"committed";
const KEY_FORMAT: &[u8] = b"format";
const KEY_NODE: &[u8] = b"node_id";
const KEY_CLUSTER: &[u8] = b"cluster_id";

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

impl From<sled::Error> for OpenError {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(error) if error.kind() != io::ErrorKind::InvalidData => Self::Io(error),
            other @ (sled::Error::CollectionNotFound(_)
            | sled::Error::Unsupported(_)
            | sled::Error::ReportableBug(_)
            | sled::Error::Io(_)
            | sled::Error::Corruption { .. }) => Self::Corrupted(other.to_string()),
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
    pub(super) db: sled::Db,
    pub(super) log: sled::Tree,
    pub(super) meta: sled::Tree,
    file: std::sync::Arc<File>,
}

/// What a node remembers at start.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    pub(super) vote: Option<Vote>,
    pub(super) purged: Option<LogId>,
    pub(super) committed: Option<LogId>,
    pub(super) entries: Vec<Entry>,
}

impl Disk {
    /// Opens or makes the database in `dir` for this node and reads the log. Blocks.
    pub(super) fn open(
        dir: &Path,
        node_id: u64,
        cluster_id: &str,
    ) -> Result<(Self, Recovered), OpenError> {
        fs::create_dir_all(dir).map_err(OpenError::Io)?;
        let db = open_db(dir)?;
        let disk = Self {
            log: db.open_tree("log")?,
            meta: db.open_tree("meta")?,
            // sled's own flush ends in sync_file_range, which neither empties the device's cache nor
            // records that the file grew; this handle is for fdatasync on the same file.
            file: std::sync::Arc::new(File::open(db_file(dir)).map_err(OpenError::Io)?),
            db,
        };
        disk.check_identity(node_id, cluster_id)?;
        disk.sync().map_err(OpenError::Io)?;
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(OpenError::Io)?;
        let recovered = disk.recover()?;
        Ok((disk, recovered))
    }

    /// Makes everything written so far survive a power cut.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.db.flush().map_err(io::Error::from)?;
        self.file.sync_data()
    }

    fn check_identity(&self, node_id: u64, cluster_id: &str) -> Result<(), OpenError> {
        let Some(format) = self.meta.get(KEY_FORMAT)? else {
            if !self.log.is_empty() || !self.meta.is_empty() {
                return Err(OpenError::Damaged("it has no identity".to_owned()));
            }
            let mut batch = sled::Batch::default();
            batch.insert(KEY_FORMAT, &FORMAT_VERSION.to_be_bytes());
            batch.insert(KEY_NODE, &node_id.to_be_bytes());
            batch.insert(KEY_CLUSTER, cluster_id.as_bytes());
            self.meta.apply_batch(batch)?;
            return Ok(());
        };
        let format = fixed(&format).map(u32::from_be_bytes)?;
        if format != FORMAT_VERSION {
            return Err(OpenError::Format { found: format });
        }
        let found_node = self.meta.get(KEY_NODE)?.unwrap_or_default();
        let found_node = fixed(&found_node).map(u64::from_be_bytes)?;
        let found_cluster = self.meta.get(KEY_CLUSTER)?.unwrap_or_default();
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
        let purged = self.meta_log_id(KEY_PURGED)?;
        if let Some(purged) = &purged {
            // A crash between the two steps of a purge leaves entries below its mark.
            while self.delete_step(purged.index)? {}
        }
        let entries = self.read_entries(0, u64::MAX)?;
        check_contiguous(purged.as_ref(), &entries)?;
        let last = entries.last().map(|entry| entry.log_id).or(purged);
        // The mark is written without a flush and may be ahead of what reached the disk.
        let committed = self
            .meta_log_id(KEY_COMMITTED)?
            .filter(|committed| Some(*committed) <= last);
        let vote = match self.meta.get(KEY_VOTE)? {
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

    fn meta_log_id(&self, key: &[u8]) -> Result<Option<LogId>, OpenError> {
        match self.meta.get(key)? {
            Some(bytes) => Ok(Some(codec::log_id_from_pb(decode(&bytes)?)?)),
            None => Ok(None),
        }
    }

    /// Entries `from..end` in order.
    pub(super) fn read_entries(&self, from: u64, end: u64) -> Result<Vec<Entry>, OpenError> {
        let mut entries = Vec::new();
        let mut current: Option<(u64, Vec<sled::IVec>)> = None;
        for item in self.log.range(record::key(from, 0)..record::key(end, 0)) {
            let (key, value) = item?;
            let (index, part) = record::parse_key(&key)
                .ok_or_else(|| OpenError::Damaged("a key is malformed".to_owned()))?;
            if part == 0
                && let Some((index, values)) = current.take()
            {
                entries.push(record::decode(index, values.iter().map(|value| &**value))?);
            }
            let (current_index, values) = current.get_or_insert_with(|| (index, Vec::new()));
            if *current_index != index || values.len() != usize::from(part) {
                return Err(OpenError::Damaged(format!("entry {index} has holes")));
            }
            values.push(value);
        }
        if let Some((index, values)) = current {
            entries.push(record::decode(index, values.iter().map(|value| &**value))?);
        }
        Ok(entries)
    }

    /// Deletes some of the values up to entry `upto`, oldest first. True if there are more.
    pub(super) fn delete_step(&self, upto: u64) -> Result<bool, sled::Error> {
        let mut batch = sled::Batch::default();
        let mut count = 0;
        for key in self.log.range(..=record::key(upto, u16::MAX)).keys() {
            batch.remove(key?);
            count += 1;
            if count == DELETE_STEP {
                break;
            }
        }
        if count > 0 {
            self.log.apply_batch(batch)?;
        }
        Ok(count == DELETE_STEP)
    }

    /// Deletes everything after `last` (all with `None`), newest first, so that a crash in between leaves a
    /// shorter log and never one with a hole.
    pub(super) fn delete_after(&self, last: Option<u64>) -> Result<(), sled::Error> {
        let from = last.map_or(0, |last| last.saturating_add(1));
        let mut entry: Option<(u64, sled::Batch)> = None;
        for key in self.log.range(record::key(from, 0)..).keys().rev() {
            let key = key?;
            let index = record::parse_key(&key).map(|(index, _)| index);
            // All values of an entry go at once: a part of one would look like damage.
            if let Some((_, batch)) = entry.take_if(|(current, _)| Some(*current) != index) {
                self.log.apply_batch(batch)?;
            }
            let (_, batch) =
                entry.get_or_insert_with(|| (index.unwrap_or(u64::MAX), sled::Batch::default()));
            batch.remove(key);
        }
        if let Some((_, batch)) = entry {
            self.log.apply_batch(batch)?;
        }
        Ok(())
    }
}

fn db_file(dir: &Path) -> PathBuf {
    dir.join("db")
}

fn open_db(dir: &Path) -> Result<sled::Db, OpenError> {
    let config = sled::Config::default()
        .path(dir)
        .mode(sled::Mode::LowSpace)
        .cache_capacity(CACHE_BYTES)
        .flush_every_ms(None);
    let mut attempt = 1;
    loop {
        match config.open() {
            Err(sled::Error::Io(error)) if is_locked(&error) && attempt < LOCK_ATTEMPTS => {
                attempt += 1;
                std::thread::park_timeout(LOCK_PAUSE);
            }
            other => return Ok(other?),
        }
    }
}

/// sled wraps the failed lock into an error of kind `Other` that names it.
fn is_locked(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.to_string().contains("acquire lock")
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
