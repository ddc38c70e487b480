//! What follows from a group's entries, kept so that no command looks at all of them. Never written anywhere: a group that
//! is read from a snapshot makes it anew.

use std::collections::{BTreeMap, BTreeSet};

use super::entry::{EventEntry, FunctionKey, Phase};
use crate::ids::{AccountId, UnixMs};
use crate::name::FunctionName;

/// Entries by a time, the oldest of the same time first.
pub(super) type ByTime = BTreeSet<(UnixMs, u64)>;

/// See the module's text. Numbers are those of entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    /// By request id.
    pub(super) numbers: BTreeMap<String, u64>,
    /// Entries of each function; none that has no entry open or failed.
    pub(super) lines: BTreeMap<AccountId, BTreeMap<FunctionName, Line>>,
    /// Queued ones by when they are due.
    pub(super) due: ByTime,
    /// Leased ones by when their leases are over.
    pub(super) leases: ByTime,
    /// Failed ones by when they did.
    pub(super) failed: ByTime,
    /// Succeeded and dropped ones by when they were.
    pub(super) done: ByTime,
    /// Records of the log that are needed, with whose they are.
    pub(super) payloads: BTreeSet<(u64, u64)>,
    /// What all entries take.
    pub(super) bytes: u64,
}

/// Entries of one function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    /// Queued ones by when they are due.
    pub(super) queued: ByTime,
    /// Queued and leased ones by since when their age counts.
    pub(super) open: ByTime,
    /// Failed ones.
    pub(super) failed: BTreeSet<u64>,
}

impl Line {
    fn is_empty(&self) -> bool {
        self.open.is_empty() && self.failed.is_empty()
    }

    /// The first of its queued ones if it is due.
    pub(super) fn first_due(&self, now: UnixMs) -> Option<u64> {
        let (due, number) = self.queued.first()?;
        (*due <= now).then_some(*number)
    }

    fn place(&mut self, entry: &EventEntry) {
        let number = entry.number;
        if let Phase::Queued { due } = entry.phase {
            self.queued.insert((due, number));
        }
        if entry.is_open() {
            self.open.insert((entry.progress.counted_from, number));
        }
        if entry.has_failed() {
            self.failed.insert(number);
        }
    }

    fn displace(&mut self, entry: &EventEntry) {
        let number = entry.number;
        if let Phase::Queued { due } = entry.phase {
            self.queued.remove(&(due, number));
        }
        self.open.remove(&(entry.progress.counted_from, number));
        self.failed.remove(&number);
    }
}

impl Index {
    /// Of all these.
    pub(super) fn of<'a>(entries: impl Iterator<Item = &'a EventEntry>) -> Self {
        let mut index = Self::default();
        for entry in entries {
            index.numbers.insert(entry.request_id.clone(), entry.number);
            index.place(entry);
        }
        index
    }

    /// Entries of one function.
    pub(super) fn line(&self, key: &FunctionKey) -> Option<&Line> {
        self.lines.get(&key.account)?.get(&key.function)
    }

    /// An entry is there as it is.
    pub(super) fn place(&mut self, entry: &EventEntry) {
        let (number, key) = (entry.number, &entry.function);
        self.by_time(entry.phase, entry.has_failed())
            .insert((time_of(entry.phase), number));
        self.bytes = self.bytes.saturating_add(entry.bytes());
        if entry.needs_payload() {
            self.payloads.insert((entry.payload.index, number));
            let lines = self.lines.entry(key.account.clone()).or_default();
            lines.entry(key.function.clone()).or_default().place(entry);
        }
    }

    /// An entry is not there any more as it was.
    pub(super) fn displace(&mut self, entry: &EventEntry) {
        let (number, key) = (entry.number, &entry.function);
        self.by_time(entry.phase, entry.has_failed())
            .remove(&(time_of(entry.phase), number));
        self.bytes = self.bytes.saturating_sub(entry.bytes());
        self.payloads.remove(&(entry.payload.index, number));
        let Some(lines) = self.lines.get_mut(&key.account) else {
            return;
        };
        if let Some(line) = lines.get_mut(&key.function) {
            line.displace(entry);
            if line.is_empty() {
                lines.remove(&key.function);
            }
        }
        if lines.is_empty() {
            self.lines.remove(&key.account);
        }
    }

    fn by_time(&mut self, phase: Phase, has_failed: bool) -> &mut ByTime {
        match phase {
            Phase::Queued { .. } => &mut self.due,
            Phase::Leased { .. } => &mut self.leases,
            Phase::Settled { .. } if has_failed => &mut self.failed,
            Phase::Settled { .. } => &mut self.done,
        }
    }
}

fn time_of(phase: Phase) -> UnixMs {
    match phase {
        Phase::Queued { due } => due,
        Phase::Leased { until, .. } => until,
        Phase::Settled { at, .. } => at,
    }
}
