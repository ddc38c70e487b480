//! Questions to a group, none of which looks at all of its entries.

use serde::{Deserialize, Serialize};

use super::entry::{EventEntry, FunctionKey};
use super::state::{EventGroup, EventLimits, over};
use crate::ids::UnixMs;

/// How many events of a function there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionCounts {
    /// They wait.
    pub queued: usize,
    /// They are under way.
    pub leased: usize,
    /// They failed and can be taken up again.
    pub failed: usize,
    /// Since when the age of the oldest counts that waits or is under way.
    pub oldest: Option<UnixMs>,
}

impl FunctionCounts {
    /// How old that one is, milliseconds; zero if there is none.
    pub fn oldest_age_ms(&self, now: UnixMs) -> u64 {
        self.oldest.map_or(0, |at| now.0.saturating_sub(at.0))
    }
}

impl EventGroup {
    /// The event of a request id, until it is forgotten.
    pub fn entry(&self, request_id: &str) -> Option<&EventEntry> {
        self.entries.get(self.index.numbers.get(request_id)?)
    }

    /// All events, the oldest first.
    pub fn entries(&self) -> impl Iterator<Item = &EventEntry> {
        self.entries.values()
    }

    /// How many events of a function there are.
    pub fn counts(&self, function: &FunctionKey) -> FunctionCounts {
        let Some(line) = self.index.line(function) else {
            return FunctionCounts::default();
        };
        FunctionCounts {
            queued: line.queued.len(),
            leased: line.open.len().saturating_sub(line.queued.len()),
            failed: line.failed.len(),
            oldest: line.open.first().map(|(at, _)| *at),
        }
    }

    /// Functions that have events which wait, are under way, or have failed.
    pub fn functions(&self) -> impl Iterator<Item = FunctionKey> {
        self.index.lines.iter().flat_map(|(account, lines)| {
            lines.keys().map(|function| FunctionKey {
                account: account.clone(),
                function: function.clone(),
            })
        })
    }

    /// Failed events of a function, the oldest first.
    pub fn failed(&self, function: &FunctionKey) -> impl Iterator<Item = &EventEntry> {
        let line = self.index.line(function);
        let numbers = line.into_iter().flat_map(|line| &line.failed);
        numbers.filter_map(|number| self.entries.get(number))
    }

    /// When the next event is due, or a lease over: before that there is nothing to lease.
    pub fn due_at(&self) -> Option<UnixMs> {
        let queued = self.index.due.first();
        let leased = self.index.leases.first();
        queued.into_iter().chain(leased).map(|(at, _)| *at).min()
    }

    /// How much the group takes.
    pub fn limits(&self) -> EventLimits {
        self.limits
    }

    /// How many events are kept that succeeded or were dropped, and how many that failed.
    pub fn settled(&self) -> (usize, usize) {
        (self.index.done.len(), self.index.failed.len())
    }

    /// Whether a `Sweep` with these times would do anything.
    pub fn has_to_sweep(&self, keep_done_ms: u64, keep_failed_ms: u64, now: UnixMs) -> bool {
        let index = &self.index;
        !over(&index.leases, 0, 1, now).is_empty()
            || !over(&index.done, keep_done_ms, 1, now).is_empty()
            || !over(&index.failed, keep_failed_ms, 1, now).is_empty()
    }

    /// Whether the payload that this record of the log brought may still be asked for.
    pub fn needs(&self, index: u64) -> bool {
        let of_record = (index, 0)..=(index, u64::MAX);
        self.index.payloads.range(of_record).next().is_some()
    }

    /// Bytes that payloads and entries take, as limits count them.
    pub fn bytes(&self) -> u64 {
        self.index.bytes
    }
}
