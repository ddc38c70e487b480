//! The storage seam: what the log and the snapshots need of a disk. [`MachineStorage`] is sled, fjall and the file system; a
//! simulation puts a disk in its place that forgets what was not synced.
//!
//! Not here: what is written (`store/`, `snapshot.rs`).

use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::store::{FjallEngine, SledEngine};

/// Key of a value of the log: index and part, so that order of keys is order of the log.
pub type LogKey = [u8; 10];
/// A value to write, or `None` to delete its key.
pub type LogChange = (LogKey, Option<Vec<u8>>);
/// Values of the log in order, from either end.
pub type LogValues<'a> = Box<dyn DoubleEndedIterator<Item = io::Result<(LogKey, Vec<u8>)>> + 'a>;

/// Where a controller keeps what must outlive it.
pub trait Storage: Debug + Send + Sync + 'static {
    /// Opens or makes the database of the log in `dir`. Blocks. Damage is [`io::ErrorKind::InvalidData`].
    fn open_log(&self, dir: &Path) -> io::Result<Arc<dyn LogEngine>>;

    /// As [`Storage::open_log`], for a log of events: larger commands, and many more of them. Another kind of database,
    /// where there is one (ADR 19).
    fn open_event_log(&self, dir: &Path) -> io::Result<Arc<dyn LogEngine>> {
        self.open_log(dir)
    }

    /// The files of the snapshots.
    fn files(&self) -> Arc<dyn Files>;

    /// How long the next sync of the log takes in simulated time: the log is then written by a task, which waits for so
    /// long before each sync. `None` for a real disk, whose syncs block: a thread writes.
    fn simulated_sync(&self) -> Option<Duration> {
        None
    }
}

/// The database of one node's log: a few marks and an ordered tree of values.
///
/// Reads see what was written, synced or not. What was not synced when the machine stops may be lost, the last of it
/// first.
pub trait LogEngine: Send + Sync + 'static {
    /// A mark.
    fn mark(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>>;

    /// Sets marks, or deletes those without a value; all or none.
    fn set_marks(&self, marks: &[(&[u8], Option<&[u8]>)]) -> io::Result<()>;

    /// Changes values; all or none.
    fn write(&self, changes: Vec<LogChange>) -> io::Result<()>;

    /// The values of a range of keys.
    fn range(&self, keys: Range<LogKey>) -> LogValues<'_>;

    /// Makes everything written so far survive a power cut. Blocks.
    fn sync(&self) -> io::Result<()>;
}

/// A file system, as far as snapshots need one. All of it blocks.
pub trait Files: Debug + Send + Sync + 'static {
    /// Makes a directory with its parents, unless it is there.
    fn make_dir(&self, dir: &Path) -> io::Result<()>;

    /// Paths of what is in a directory, in any order.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;

    /// A whole file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Writes a file anew and syncs its content.
    fn write_synced(&self, path: &Path, parts: &[&[u8]]) -> io::Result<()>;

    /// Renames; durable after [`Files::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Deletes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes names in a directory survive a power cut.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// The machine's disk: sled for the log, plain files for snapshots.
#[derive(Debug, Clone, Copy, Default)]
pub struct MachineStorage;

impl Storage for MachineStorage {
    fn open_log(&self, dir: &Path) -> io::Result<Arc<dyn LogEngine>> {
        Ok(Arc::new(SledEngine::open(dir)?))
    }

    fn open_event_log(&self, dir: &Path) -> io::Result<Arc<dyn LogEngine>> {
        Ok(Arc::new(FjallEngine::open(dir)?))
    }

    fn files(&self) -> Arc<dyn Files> {
        Arc::new(MachineFiles)
    }
}

/// The part of a storage where a log of events lies.
#[derive(Debug, Clone)]
pub struct EventStorage(pub Arc<dyn Storage>);

impl Storage for EventStorage {
    fn open_log(&self, dir: &Path) -> io::Result<Arc<dyn LogEngine>> {
        self.0.open_event_log(dir)
    }

    fn files(&self) -> Arc<dyn Files> {
        self.0.files()
    }

    fn simulated_sync(&self) -> Option<Duration> {
        self.0.simulated_sync()
    }
}

/// The machine's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct MachineFiles;

impl Files for MachineFiles {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(dir)?
            .map(|item| item.map(|item| item.path()))
            .collect()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn write_synced(&self, path: &Path, parts: &[&[u8]]) -> io::Result<()> {
        let mut file = File::create(path)?;
        for part in parts {
            file.write_all(part)?;
        }
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}
