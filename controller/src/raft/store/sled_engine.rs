//! The log's database on sled. What lies in it is the store's business.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use crate::raft::storage::{LogChange, LogEngine, LogKey, LogValues};

/// sled's page cache. The log is small and its recent part is cached by us.
const CACHE_BYTES: u64 = 32 * 1024 * 1024;
/// A process that was just killed may hold the lock for a moment.
const LOCK_ATTEMPTS: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// An open database.
pub(crate) struct SledEngine {
    db: sled::Db,
    log: sled::Tree,
    meta: sled::Tree,
    file: File,
}

impl SledEngine {
    /// Opens or makes the database in `dir`. Blocks.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let db = open_db(dir)?;
        let engine = Self {
            log: db.open_tree("log").map_err(failed)?,
            meta: db.open_tree("meta").map_err(failed)?,
            // sled's own flush ends in sync_file_range, which neither empties the device's cache nor
            // records that the file grew; this handle is for fdatasync on the same file.
            file: File::open(dir.join("db"))?,
            db,
        };
        engine.sync()?;
        File::open(dir)?.sync_all()?;
        Ok(engine)
    }
}

impl LogEngine for SledEngine {
    fn mark(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mark = self.meta.get(key).map_err(failed)?;
        Ok(mark.map(|mark| mark.to_vec()))
    }

    fn set_marks(&self, marks: &[(&[u8], Option<&[u8]>)]) -> io::Result<()> {
        let mut batch = sled::Batch::default();
        for (key, value) in marks {
            match value {
                Some(value) => batch.insert(*key, *value),
                None => batch.remove(*key),
            }
        }
        self.meta.apply_batch(batch).map_err(failed)
    }

    fn write(&self, changes: Vec<LogChange>) -> io::Result<()> {
        let mut batch = sled::Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(&key, value),
                None => batch.remove(&key),
            }
        }
        self.log.apply_batch(batch).map_err(failed)
    }

    fn range(&self, keys: Range<LogKey>) -> LogValues<'_> {
        let items = self.log.range(keys);
        Box::new(items.map(|item| {
            let (key, value) = item.map_err(failed)?;
            let key = LogKey::try_from(&*key)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a key is malformed"))?;
            Ok((key, value.to_vec()))
        }))
    }

    fn sync(&self) -> io::Result<()> {
        self.db.flush().map_err(failed)?;
        self.file.sync_data()
    }
}

/// What is not an error of the file system is damage, or a fault of sled's that only another database mends.
fn failed(error: sled::Error) -> io::Error {
    match error {
        sled::Error::Io(error) => error,
        other @ (sled::Error::CollectionNotFound(_)
        | sled::Error::Unsupported(_)
        | sled::Error::ReportableBug(_)
        | sled::Error::Corruption { .. }) => {
            io::Error::new(io::ErrorKind::InvalidData, other.to_string())
        }
    }
}

fn open_db(dir: &Path) -> io::Result<sled::Db> {
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
            other => return other.map_err(failed),
        }
    }
}

/// sled wraps the failed lock into an error of kind `Other` that names it.
fn is_locked(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.to_string().contains("acquire lock")
}
