//! The recent part of the log in memory, limited by bytes: replication and the state machine read from here,
//! sled is read only for followers that lag behind.

use std::collections::VecDeque;

use openraft::EntryPayload;

use crate::raft::types::Entry;

/// Memory the cached entries may take. Entries that are not on disk yet stay beyond it; the writer's queue
/// bounds those.
const CACHE_BYTES: usize = 32 * 1024 * 1024;
/// What an entry takes besides its command, roughly.
const ENTRY_OVERHEAD: usize = 128;

/// A contiguous run of entries, always up to the end of the log.
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: VecDeque<Entry>,
    bytes: usize,
}

fn size(entry: &Entry) -> usize {
    ENTRY_OVERHEAD
        + match &entry.payload {
            EntryPayload::Normal(command) => command.0.len(),
            EntryPayload::Blank | EntryPayload::Membership(_) => 0,
        }
}

/// Cuts `entries` after `max_bytes`, but leaves at least one.
pub(super) fn limit(entries: &mut Vec<Entry>, max_bytes: usize) {
    let mut bytes = 0_usize;
    let keep = entries
        .iter()
        .take_while(|entry| {
            let fits = bytes < max_bytes;
            bytes = bytes.saturating_add(size(entry));
            fits
        })
        .count();
    entries.truncate(keep);
}

impl Cache {
    /// Index of the first cached entry.
    pub(super) fn first(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.log_id.index)
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.bytes += size(&entry);
        self.entries.push_back(entry);
    }

    /// Drops the oldest entries that are on disk (up to `written`) while the cache is too large.
    pub(super) fn shrink(&mut self, written: Option<u64>) {
        while self.bytes > CACHE_BYTES && self.first().is_some_and(|first| Some(first) <= written) {
            self.drop_first();
        }
    }

    pub(super) fn purge(&mut self, upto: u64) {
        while self.first().is_some_and(|first| first <= upto) {
            self.drop_first();
        }
    }

    pub(super) fn truncate_after(&mut self, last: Option<u64>) {
        while let Some(entry) = self
            .entries
            .pop_back_if(|entry| Some(entry.log_id.index) > last)
        {
            self.bytes -= size(&entry);
        }
    }

    /// Entries `from..end`, or as many of them as `max_bytes` allows, at least one.
    pub(super) fn range(&self, from: u64, end: u64, max_bytes: usize) -> Vec<Entry> {
        let Some(first) = self.first() else {
            return Vec::new();
        };
        let skip = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX);
        let mut bytes = 0_usize;
        self.entries
            .iter()
            .skip(skip)
            .take_while(|entry| {
                let fits = entry.log_id.index < end && bytes < max_bytes;
                bytes = bytes.saturating_add(size(entry));
                fits
            })
            .cloned()
            .collect()
    }

    fn drop_first(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= size(&entry);
        }
    }
}
