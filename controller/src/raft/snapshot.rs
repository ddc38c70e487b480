//! The directory of snapshots: writing them so that a crash leaves the old one or the new one, reading the
//! newest that is whole, and keeping two.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hearth_core::planted::{self, Bug};
use tokio::sync::watch;

use super::snapshot_file::{self, FormatError};
use super::storage::Files;
use super::types::{LogId, SnapshotMeta};

/// The newest, and one to fall back to when it is damaged.
const KEEP: usize = 2;
const EXTENSION: &str = "snap";
const TEMPORARY: &str = "tmp";
const DAMAGED: &str = "damaged";

/// Why snapshots cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The directory or a file cannot be read or written.
    #[error("cannot {action} {path}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The log starts after what the readable snapshots contain.
    #[error(
        "the log begins after entry {purged}, but no readable snapshot reaches it ({problem}); \
         move the data directory aside and let this controller rejoin under a new node id"
    )]
    Unusable {
        /// Last entry that only a snapshot holds.
        purged: u64,
        /// What is wrong with the newest snapshot.
        problem: String,
    },
}

/// The snapshots of one node. Clones share the directory.
#[derive(Debug, Clone)]
pub(super) struct Snapshots {
    dir: Arc<PathBuf>,
    files: Arc<dyn Files>,
    /// Index of the newest snapshot that survives a crash.
    durable: Arc<watch::Sender<Option<u64>>>,
    /// Serialises writers: openraft may build one while another is installed.
    writing: Arc<Mutex<()>>,
}

impl Snapshots {
    /// Opens or makes the directory; removes what interrupted writes left. Blocks.
    pub(super) fn open(files: Arc<dyn Files>, dir: &Path) -> Result<Self, SnapshotError> {
        files.make_dir(dir).map_err(failed("make", dir))?;
        let snapshots = Self {
            dir: Arc::new(dir.to_owned()),
            files,
            durable: Arc::new(watch::Sender::new(None)),
            writing: Arc::new(Mutex::new(())),
        };
        for path in snapshots.files_with(TEMPORARY)? {
            let removed = snapshots.files.remove(&path);
            removed.map_err(failed("remove", &path))?;
        }
        Ok(snapshots)
    }

    /// Where the newest durable snapshot ends.
    pub(super) fn durable(&self) -> watch::Receiver<Option<u64>> {
        self.durable.subscribe()
    }

    /// The newest snapshot that is whole, for the start. A damaged one is put aside, and an older one used if
    /// the log goes back that far. Blocks.
    pub(super) fn load(
        &self,
        purged: Option<&LogId>,
    ) -> Result<Option<(SnapshotMeta, Bytes)>, SnapshotError> {
        let mut problem = "there is none".to_owned();
        let mut found = None;
        for path in self.newest_first()? {
            match self.read(&path)? {
                Ok(snapshot) => {
                    found = Some(snapshot);
                    break;
                }
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "snapshot is damaged");
                    problem = format!("{}: {error}", path.display());
                    let aside = path.with_extension(DAMAGED);
                    let renamed = self.files.rename(&path, &aside);
                    renamed.map_err(failed("rename", &path))?;
                }
            }
        }
        let last = found.as_ref().and_then(|(meta, _)| meta.last_log_id);
        if let Some(purged) = purged
            && last.is_none_or(|last| last.index < purged.index)
        {
            return Err(SnapshotError::Unusable {
                purged: purged.index,
                problem,
            });
        }
        self.durable.send_replace(last.map(|last| last.index));
        Ok(found)
    }

    /// The newest snapshot, for a peer. Blocks.
    pub(super) fn newest(&self) -> io::Result<Option<(SnapshotMeta, Bytes)>> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(path) = self
            .newest_first()
            .map_err(io::Error::other)?
            .into_iter()
            .next()
        else {
            return Ok(None);
        };
        let snapshot = self.read(&path).map_err(io::Error::other)?;
        snapshot.map(Some).map_err(io::Error::other)
    }

    /// Writes a snapshot; durable when it returns. One older than the newest is not written. Blocks.
    pub(super) fn save(&self, meta: &SnapshotMeta, body: &[u8]) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let index = meta.last_log_id.map(|last| last.index);
        if *self.durable.borrow() > index {
            return Ok(());
        }
        let name = format!(
            "{:020}-{:020}",
            index.unwrap_or(0),
            meta.last_log_id.map_or(0, |last| last.leader_id.term)
        );
        let temporary = self.dir.join(&name).with_extension(TEMPORARY);
        let (front, crc) = snapshot_file::frame(meta, body);
        let written = self.files.write_synced(&temporary, &[&front, body, &crc]);
        written.inspect_err(|_| {
            // A full disk must not stay full because of us.
            drop(self.files.remove(&temporary));
        })?;
        let path = temporary.with_extension(EXTENSION);
        self.files.rename(&temporary, &path)?;
        if !planted::is(Bug::SnapshotNotSynced) {
            self.files.sync_dir(&self.dir)?;
        }
        self.durable.send_replace(index);
        for old in self
            .newest_first()
            .map_err(io::Error::other)?
            .into_iter()
            .skip(KEEP)
        {
            self.files.remove(&old)?;
        }
        Ok(())
    }

    fn read(
        &self,
        path: &Path,
    ) -> Result<Result<(SnapshotMeta, Bytes), FormatError>, SnapshotError> {
        let file = Bytes::from(self.files.read(path).map_err(failed("read", path))?);
        Ok(snapshot_file::parse(&file))
    }

    fn newest_first(&self) -> Result<Vec<PathBuf>, SnapshotError> {
        let mut files = self.files_with(EXTENSION)?;
        // Names are of fixed width: index, then term.
        files.sort_unstable_by(|a, b| b.cmp(a));
        Ok(files)
    }

    fn files_with(&self, extension: &str) -> Result<Vec<PathBuf>, SnapshotError> {
        let dir = self.dir.as_path();
        let mut files = Vec::new();
        for path in self.files.list(dir).map_err(failed("list", dir))? {
            if path.extension().is_some_and(|found| found == extension) {
                files.push(path);
            }
        }
        Ok(files)
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SnapshotError {
    let path = path.to_owned();
    move |source| SnapshotError::Io {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::raft::storage::MachineFiles;
    use crate::raft::types::LeaderId;

    fn meta(index: u64) -> SnapshotMeta {
        SnapshotMeta {
            last_log_id: Some(log_id(index)),
            ..SnapshotMeta::default()
        }
    }

    fn log_id(index: u64) -> LogId {
        LogId {
            leader_id: LeaderId {
                term: 1,
                node_id: 1,
            },
            index,
        }
    }

    fn damage(snapshots: &Snapshots, index: u64) {
        let path = snapshots.dir.join(format!("{index:020}-{:020}.snap", 1));
        let mut bytes = fs::read(&path).unwrap();
        bytes[10] ^= 1;
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn the_newest_is_loaded_and_two_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(Arc::new(MachineFiles), dir.path()).unwrap();
        assert_eq!(snapshots.load(None).unwrap(), None);
        for index in [9, 10, 110] {
            snapshots.save(&meta(index), &[1; 100]).unwrap();
            assert_eq!(*snapshots.durable().borrow(), Some(index));
        }
        // An older one that comes late is not kept.
        snapshots.save(&meta(50), b"late").unwrap();
        assert_eq!(snapshots.newest_first().unwrap().len(), 2);
        let again = Snapshots::open(Arc::new(MachineFiles), dir.path()).unwrap();
        let (loaded, body) = again.load(Some(&log_id(100))).unwrap().unwrap();
        assert_eq!(loaded, meta(110));
        assert_eq!(&*body, &[1; 100]);
    }

    #[test]
    fn a_torn_temporary_file_is_ignored_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(Arc::new(MachineFiles), dir.path()).unwrap();
        snapshots.save(&meta(5), b"good").unwrap();
        fs::write(dir.path().join("00000000000000000009-1.tmp"), b"torn").unwrap();
        let snapshots = Snapshots::open(Arc::new(MachineFiles), dir.path()).unwrap();
        let (loaded, _) = snapshots.load(None).unwrap().unwrap();
        assert_eq!(loaded, meta(5));
        assert!(snapshots.files_with(TEMPORARY).unwrap().is_empty());
    }

    #[test]
    fn a_damaged_newest_gives_way_to_the_older_only_if_the_log_reaches_back() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(Arc::new(MachineFiles), dir.path()).unwrap();
        snapshots.save(&meta(10), b"older").unwrap();
        snapshots.save(&meta(20), b"newer").unwrap();
        damage(&snapshots, 20);
        let (loaded, body) = snapshots.load(Some(&log_id(8))).unwrap().unwrap();
        assert_eq!((loaded, &*body), (meta(10), &b"older"[..]));

        snapshots.save(&meta(30), b"newest").unwrap();
        damage(&snapshots, 30);
        let error = snapshots.load(Some(&log_id(15))).unwrap_err();
        assert!(error.to_string().contains("new node id"), "{error}");
    }
}
