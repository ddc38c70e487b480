//! A controller's disk that forgets what was not synced. A crash keeps some first part of the unsynced writes, as a power
//! cut does, and leaves files torn whose content was not synced.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hearth_controller::raft::storage::{Files, LogChange, LogEngine, LogKey, LogValues, Storage};

use crate::chance::Chance;

/// One atomic write that is not on disk yet.
#[derive(Clone)]
enum Write {
    Marks(Vec<(Vec<u8>, Option<Vec<u8>>)>),
    Log(Vec<LogChange>),
}

/// What a database holds.
#[derive(Clone, Default)]
struct Content {
    marks: BTreeMap<Vec<u8>, Vec<u8>>,
    log: BTreeMap<LogKey, Vec<u8>>,
}

impl Content {
    fn carry_out(&mut self, write: Write) {
        match write {
            Write::Marks(marks) => {
                for (key, value) in marks {
                    match value {
                        Some(value) => drop(self.marks.insert(key, value)),
                        None => drop(self.marks.remove(&key)),
                    }
                }
            }
            Write::Log(changes) => {
                for (key, value) in changes {
                    match value {
                        Some(value) => drop(self.log.insert(key, value)),
                        None => drop(self.log.remove(&key)),
                    }
                }
            }
        }
    }
}

/// One database.
#[derive(Default)]
struct Database {
    /// What the running process sees, and what a crash leaves at least.
    seen: Content,
    durable: Content,
    unsynced: Vec<Write>,
}

struct State {
    chance: Chance,
    /// Longest sync, milliseconds.
    sync_max_ms: u64,
    /// By directory.
    databases: BTreeMap<PathBuf, Database>,
    /// Files by path: content as seen, and names as a crash leaves them.
    files: BTreeMap<PathBuf, Vec<u8>>,
    durable_files: BTreeMap<PathBuf, Vec<u8>>,
}

/// The disk; clones share it. It outlives the process that writes to it.
#[derive(Clone)]
pub(crate) struct SimDisk(Arc<Mutex<State>>);

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").finish_non_exhaustive()
    }
}

impl SimDisk {
    pub(crate) fn new(seed: u64, sync_max_ms: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            chance: Chance::new(seed),
            sync_max_ms,
            databases: BTreeMap::new(),
            files: BTreeMap::new(),
            durable_files: BTreeMap::new(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_sync_max_ms(&self, sync_max_ms: u64) {
        self.state().sync_max_ms = sync_max_ms;
    }

    /// The machine loses its power. Some of the unsynced writes, the first of them, may have reached the disk.
    pub(crate) fn crash(&self) {
        let state = &mut *self.state();
        for database in state.databases.values_mut() {
            let unsynced = std::mem::take(&mut database.unsynced);
            let most = u64::try_from(unsynced.len()).unwrap_or(u64::MAX);
            let kept = state.chance.below(most.saturating_add(1));
            let kept = usize::try_from(kept).unwrap_or(0);
            for write in unsynced.into_iter().take(kept) {
                database.durable.carry_out(write);
            }
            database.seen = database.durable.clone();
        }
        state.files = state.durable_files.clone();
    }
}

/// One database of a disk.
struct SimLog {
    disk: SimDisk,
    dir: PathBuf,
}

impl SimLog {
    fn with<T>(&self, work: impl FnOnce(&mut Database) -> T) -> T {
        let mut state = self.disk.state();
        work(state.databases.entry(self.dir.clone()).or_default())
    }

    fn carry_out(&self, write: Write) {
        self.with(|database| {
            database.seen.carry_out(write.clone());
            database.unsynced.push(write);
        });
    }
}

impl Storage for SimDisk {
    fn open_log(&self, dir: &Path) -> io::Result<Arc<dyn LogEngine>> {
        Ok(Arc::new(SimLog {
            disk: self.clone(),
            dir: dir.to_owned(),
        }))
    }

    fn files(&self) -> Arc<dyn Files> {
        Arc::new(self.clone())
    }

    fn simulated_sync(&self) -> Option<Duration> {
        let mut state = self.state();
        let most = state.sync_max_ms;
        Some(Duration::from_millis(1 + state.chance.below(most)))
    }
}

impl LogEngine for SimLog {
    fn mark(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Ok(self.with(|database| database.seen.marks.get(key).cloned()))
    }

    fn set_marks(&self, marks: &[(&[u8], Option<&[u8]>)]) -> io::Result<()> {
        let owned = marks
            .iter()
            .map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec)));
        self.carry_out(Write::Marks(owned.collect()));
        Ok(())
    }

    fn write(&self, changes: Vec<LogChange>) -> io::Result<()> {
        self.carry_out(Write::Log(changes));
        Ok(())
    }

    fn range(&self, keys: Range<LogKey>) -> LogValues<'_> {
        let found: Vec<_> = self.with(|database| {
            let values = database.seen.log.range(keys);
            values
                .map(|(key, value)| Ok((*key, value.clone())))
                .collect()
        });
        Box::new(found.into_iter())
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|database| {
            for write in std::mem::take(&mut database.unsynced) {
                database.durable.carry_out(write);
            }
        });
        Ok(())
    }
}

fn absent() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Files for SimDisk {
    fn make_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.state();
        let inside = state.files.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.cloned().collect())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.state().files.get(path).cloned().ok_or_else(absent)
    }

    fn write_synced(&self, path: &Path, parts: &[&[u8]]) -> io::Result<()> {
        self.state().files.insert(path.to_owned(), parts.concat());
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let content = state.files.remove(from).ok_or_else(absent)?;
        state.files.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.state().files.remove(path).map(drop).ok_or_else(absent)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        let inside = |path: &PathBuf| path.parent() == Some(dir);
        state.durable_files.retain(|path, _| !inside(path));
        let now: Vec<_> = state
            .files
            .iter()
            .filter(|(path, _)| inside(path))
            .map(|(path, content)| (path.clone(), content.clone()))
            .collect();
        state.durable_files.extend(now);
        Ok(())
    }
}
