//! The store as a whole, on real files: what these tests share. The writer is stepped by hand, and the clock is moved by hand.

mod bounds;
mod lasting;
mod reading;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hearth_core::ids::AccountId;
use hearth_core::logs::page::Position;
use hearth_core::logs::{GroupName, Streams};
use hearth_node::clock::ManualClock;
use hearth_node::random::SystemRandom;
use tempfile::TempDir;

use crate::queue::Appended;
use crate::{LogStore, NewEvent, ReadQuery, StoreOptions, StoredEvent, Writer};

const NOW_MS: u64 = 1_700_000_000_000;

/// Small enough that a test fills it.
fn small() -> StoreOptions {
    StoreOptions {
        source: 7,
        max_bytes: 4 << 20,
        segment_bytes: 2_000,
        queue_bytes: 1 << 20,
        open_files: 3,
        ..StoreOptions::default()
    }
}

fn account() -> AccountId {
    "123456789012".parse().unwrap()
}

fn group(name: &str) -> GroupName {
    name.parse().unwrap()
}

/// A store whose writer is stepped by hand.
struct Fixture {
    dir: TempDir,
    clock: Arc<ManualClock>,
    options: StoreOptions,
    store: LogStore,
    writer: Writer,
}

fn open(dir: &Path, options: &StoreOptions, clock: &Arc<ManualClock>) -> (LogStore, Writer) {
    let clock = Arc::clone(clock);
    LogStore::open(dir, options.clone(), clock, SystemRandom::shared()).unwrap()
}

impl Fixture {
    fn new(options: StoreOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(NOW_MS));
        let (store, writer) = open(dir.path(), &options, &clock);
        Self {
            dir,
            clock,
            options,
            store,
            writer,
        }
    }

    fn append(&self, name: &str, stream: &str, events: &[(u64, &str)]) -> Appended {
        let mut new = Vec::new();
        for (timestamp_ms, message) in events {
            new.push(NewEvent {
                timestamp_ms: *timestamp_ms,
                message: message.as_bytes(),
            });
        }
        let stream = stream.parse().unwrap();
        self.store.append(&account(), &group(name), &stream, &new)
    }

    /// Appends and writes.
    fn keep(&mut self, name: &str, stream: &str, events: &[(u64, &str)]) {
        assert_eq!(self.append(name, stream, events).dropped, 0);
        self.writer.step();
    }

    /// Starts again; `is_crash`: without having closed anything.
    fn reopen(&mut self, is_crash: bool) {
        if !is_crash {
            self.store.close();
            assert!(self.writer.step());
        }
        let (store, writer) = open(self.dir.path(), &self.options, &self.clock);
        (self.store, self.writer) = (store, writer);
    }

    fn read(&self, name: &str, query: ReadQuery) -> Vec<StoredEvent> {
        let mut events = self.store.events(&account(), &group(name), query);
        let found = events.by_ref().collect();
        assert!(!events.is_incomplete());
        found
    }

    fn all(&self, name: &str) -> Vec<StoredEvent> {
        self.read(name, everything())
    }

    /// Messages of a group in order.
    fn messages(&self, name: &str) -> Vec<String> {
        texts(&self.all(name))
    }

    /// Files of segments, those of a group by number.
    fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.dir.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push(path);
                }
            }
        }
        found.sort();
        found
    }

    fn bytes_on_disk(&self) -> u64 {
        let length = |path: &PathBuf| path.metadata().unwrap().len();
        self.files().iter().map(length).sum()
    }
}

fn everything() -> ReadQuery {
    ReadQuery {
        streams: Streams::All,
        bounds: Position::FIRST..Position::LAST,
        is_ascending: true,
        looked_at: usize::MAX,
    }
}

fn texts(events: &[StoredEvent]) -> Vec<String> {
    let text = |event: &StoredEvent| String::from_utf8(event.message.to_vec()).unwrap();
    events.iter().map(text).collect()
}
