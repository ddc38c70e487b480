//! The log's database on fjall, for logs of events (ADR 19). What lies in it is the store's business.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::raft::storage::{LogChange, LogEngine, LogKey, LogValues};

/// Blocks kept in memory. The recent part of the log is cached by us.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// Values kept in memory before they become a table. Entries that were purged by then never become one.
const MEMTABLE_BYTES: u64 = 32 * 1024 * 1024;
/// Journals on disk before tables are written to let go of them.
const JOURNAL_BYTES: u64 = 128 * 1024 * 1024;

/// An open database.
pub(crate) struct FjallEngine {
    db: Database,
    log: Keyspace,
    meta: Keyspace,
}

impl FjallEngine {
    /// Opens or makes the database in `dir`. Blocks.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let db = Database::builder(dir)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(1)
            // The writer says when.
            .manual_journal_persist(true)
            .open()
            .map_err(failed)?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let engine = Self {
            log: db.keyspace("log", options).map_err(failed)?,
            meta: db.keyspace("meta", options).map_err(failed)?,
            db,
        };
        engine.sync()?;
        File::open(dir)?.sync_all()?;
        Ok(engine)
    }
}

impl LogEngine for FjallEngine {
    fn mark(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mark = self.meta.get(key).map_err(failed)?;
        Ok(mark.map(|mark| mark.to_vec()))
    }

    fn set_marks(&self, marks: &[(&[u8], Option<&[u8]>)]) -> io::Result<()> {
        let mut batch = self.db.batch();
        for (key, value) in marks {
            match value {
                Some(value) => batch.insert(&self.meta, *key, *value),
                None => batch.remove(&self.meta, *key),
            }
        }
        batch.commit().map_err(failed)
    }

    fn write(&self, changes: Vec<LogChange>) -> io::Result<()> {
        let mut batch = self.db.batch();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(&self.log, key, value),
                None => batch.remove(&self.log, key),
            }
        }
        batch.commit().map_err(failed)
    }

    fn range(&self, keys: Range<LogKey>) -> LogValues<'_> {
        let items = self.log.range(keys);
        Box::new(items.map(|item| {
            let (key, value) = item.into_inner().map_err(failed)?;
            let key = LogKey::try_from(&*key)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a key is malformed"))?;
            Ok((key, value.to_vec()))
        }))
    }

    fn sync(&self) -> io::Result<()> {
        self.db.persist(PersistMode::SyncData).map_err(failed)
    }
}

/// What is not an error of the file system is damage, or a fault of fjall's that only another database mends.
fn failed(error: fjall::Error) -> io::Error {
    match error {
        fjall::Error::Io(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
    }
}
