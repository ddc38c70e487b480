//! What is on disk, in memory: of each group its segments, of each segment its streams. Events are not here.

use std::collections::BTreeMap;
use std::ops::Range;

use hearth_core::ids::AccountId;
use hearth_core::logs::page::{Described, Position};
use hearth_core::logs::{GroupName, RetentionDays, StreamName, Streams};

use crate::event::{GroupKey, number_ms};
use crate::plan::{Excess, GroupFacts, SegmentFacts};
use crate::table::{Row, Table};

/// A segment.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    /// Where its records end, as far as they are written.
    pub(crate) end: u64,
    pub(crate) opened_ms: u64,
    /// It may still be appended to.
    pub(crate) is_active: bool,
    pub(crate) table: Table,
}

impl Segment {
    /// Its file, with the footer it has or will have.
    fn file_bytes(&self) -> u64 {
        self.end + self.table.footer_bytes()
    }
}

/// A group of which there are events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSummary {
    /// Its name.
    pub name: GroupName,
    /// When the oldest segment that is kept was begun.
    pub created_ms: u64,
    /// Time of the earliest event that is kept.
    pub first_event_ms: u64,
    /// Time of the latest one.
    pub last_event_ms: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// How long events are kept, if not for ever.
    pub retention: Option<RetentionDays>,
}

impl Described for GroupSummary {
    fn name(&self) -> &str {
        self.name.as_str()
    }
    fn last_event_ms(&self) -> Option<u64> {
        None
    }
}

/// A stream of which there are events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSummary {
    /// Its name.
    pub name: StreamName,
    /// Time of the earliest event that is kept.
    pub first_event_ms: u64,
    /// Time of the latest one.
    pub last_event_ms: u64,
    /// When the last one came.
    pub last_ingested_ms: u64,
    /// How many there are.
    pub events: u64,
    /// Bytes of their messages.
    pub bytes: u64,
}

impl Described for StreamSummary {
    fn name(&self) -> &str {
        self.name.as_str()
    }
    fn last_event_ms(&self) -> Option<u64> {
        Some(self.last_event_ms)
    }
}

/// A segment of which a reader may need events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) seq: u64,
    /// Where its records ended when it was asked.
    pub(crate) end: u64,
    /// Times of the first and the last event of the streams that were asked for.
    pub(crate) first_ms: u64,
    pub(crate) last_ms: u64,
}

type Segments = BTreeMap<u64, Segment>;

/// See the module. Sums are kept, so that limits cost nothing to look at.
#[derive(Debug, Default)]
pub(crate) struct Index {
    groups: BTreeMap<GroupKey, Segments>,
    retention: BTreeMap<GroupKey, RetentionDays>,
    bytes: u64,
    index_bytes: u64,
}

impl Index {
    pub(crate) fn insert(&mut self, key: &GroupKey, seq: u64, segment: Segment) {
        self.remove(key, seq);
        self.bytes += segment.file_bytes();
        self.index_bytes += segment.table.memory_bytes();
        let segments = self.groups.entry(key.clone()).or_default();
        segments.insert(seq, segment);
    }

    pub(crate) fn remove(&mut self, key: &GroupKey, seq: u64) {
        let Some(segments) = self.groups.get_mut(key) else {
            return;
        };
        if let Some(segment) = segments.remove(&seq) {
            self.bytes -= segment.file_bytes();
            self.index_bytes -= segment.table.memory_bytes();
        }
        if segments.is_empty() {
            self.groups.remove(key);
        }
    }

    /// Says what was written to a segment: where it ends, and what is new of its streams.
    pub(crate) fn grow(&mut self, key: &GroupKey, seq: u64, end: u64, rows: &[(StreamName, Row)]) {
        let found = self.groups.get_mut(key).and_then(|s| s.get_mut(&seq));
        let Some(segment) = found else { return };
        let before = (segment.file_bytes(), segment.table.memory_bytes());
        segment.end = end;
        for (stream, row) in rows {
            segment.table.add(stream, row);
        }
        self.bytes += segment.file_bytes() - before.0;
        self.index_bytes += segment.table.memory_bytes() - before.1;
    }

    /// Nothing is appended to a segment any more.
    pub(crate) fn close(&mut self, key: &GroupKey, seq: u64) {
        if let Some(segment) = self.groups.get_mut(key).and_then(|s| s.get_mut(&seq)) {
            segment.is_active = false;
        }
    }

    pub(crate) fn segment(&self, key: &GroupKey, seq: u64) -> Option<&Segment> {
        self.groups.get(key)?.get(&seq)
    }

    pub(crate) fn set_retention(&mut self, key: GroupKey, retention: Option<RetentionDays>) {
        match retention {
            Some(days) => self.retention.insert(key, days),
            None => self.retention.remove(&key),
        };
    }

    /// The largest ingestion number there is.
    pub(crate) fn last_ingested(&self) -> u64 {
        let segments = self.groups.values().flat_map(BTreeMap::values);
        let last = |segment: &Segment| segment.table.total().last_ingested;
        segments.map(last).max().unwrap_or(0)
    }

    /// Bytes on disk, bytes in memory, segments.
    pub(crate) fn sums(&self) -> (u64, u64, usize) {
        let segments = self.groups.values().map(BTreeMap::len).sum();
        (self.bytes, self.index_bytes, segments)
    }

    /// By how much the limits would be exceeded by so much more.
    pub(crate) fn excess(&self, more: Excess, limits: Excess) -> Excess {
        Excess {
            bytes: (self.bytes + more.bytes).saturating_sub(limits.bytes),
            index_bytes: (self.index_bytes + more.index_bytes).saturating_sub(limits.index_bytes),
        }
    }

    /// What decisions are made of, with the names of the groups.
    pub(crate) fn facts(&self) -> (Vec<GroupKey>, Vec<GroupFacts>) {
        let facts = |(seq, segment): (&u64, &Segment)| SegmentFacts {
            seq: *seq,
            bytes: segment.file_bytes(),
            index_bytes: segment.table.memory_bytes(),
            last_ms: segment.table.total().last_ms,
            is_active: segment.is_active,
        };
        let group = |(key, segments): (&GroupKey, &Segments)| GroupFacts {
            retention: self.retention.get(key).copied(),
            segments: segments.iter().map(facts).collect(),
        };
        let keys = self.groups.keys().cloned().collect();
        (keys, self.groups.iter().map(group).collect())
    }

    /// Groups of an account by name.
    pub(crate) fn groups(&self, account: &AccountId) -> Vec<GroupSummary> {
        let has_events = |s: &Segments| totals(s).any(|total| total.events > 0);
        let is_here = |key: &GroupKey| key.account == *account;
        let of_account = self.groups.iter();
        let of_account = of_account.filter(|(key, s)| is_here(key) && has_events(s));
        let summary = |(key, segments): (&GroupKey, &Segments)| GroupSummary {
            name: key.group.clone(),
            created_ms: segments.values().map(|s| s.opened_ms).min().unwrap_or(0),
            first_event_ms: totals(segments).map(|t| t.first_ms).min().unwrap_or(0),
            last_event_ms: totals(segments).map(|t| t.last_ms).max().unwrap_or(0),
            bytes: segments.values().map(Segment::file_bytes).sum(),
            retention: self.retention.get(key).copied(),
        };
        of_account.map(summary).collect()
    }

    /// Streams of a group by name.
    pub(crate) fn streams(&self, key: &GroupKey) -> Vec<StreamSummary> {
        let mut rows: BTreeMap<&StreamName, Row> = BTreeMap::new();
        let segments = self.groups.get(key).into_iter().flat_map(BTreeMap::values);
        for (name, row) in segments.flat_map(|segment| segment.table.rows()) {
            rows.entry(name)
                .and_modify(|known| known.add(row))
                .or_insert(*row);
        }
        let summary = |(name, row): (&StreamName, Row)| StreamSummary {
            name: name.clone(),
            first_event_ms: row.first_ms,
            last_event_ms: row.last_ms,
            last_ingested_ms: number_ms(row.last_ingested),
            events: row.events,
            bytes: row.bytes,
        };
        rows.into_iter().map(summary).collect()
    }

    /// Segments of a group that have events of these streams within the bounds, as far as their times say.
    pub(crate) fn extents(
        &self,
        key: &GroupKey,
        streams: &Streams,
        bounds: &Range<Position>,
    ) -> Vec<Extent> {
        let segments = self.groups.get(key).into_iter().flatten();
        let extent = |(seq, segment): (&u64, &Segment)| {
            let (first_ms, last_ms) = span(&segment.table, streams)?;
            let is_within = Position::start_of(first_ms) < bounds.end
                && Position::new(last_ms, u64::MAX, u32::MAX) >= bounds.start;
            is_within.then_some(Extent {
                seq: *seq,
                end: segment.end,
                first_ms,
                last_ms,
            })
        };
        segments.filter_map(extent).collect()
    }
}

fn totals(segments: &Segments) -> impl Iterator<Item = &Row> {
    segments.values().map(|segment| segment.table.total())
}

/// Times of the first and the last event of some streams; `None`: there is none.
fn span(table: &Table, streams: &Streams) -> Option<(u64, u64)> {
    if *streams == Streams::All {
        let total = table.total();
        return (total.events > 0).then_some((total.first_ms, total.last_ms));
    }
    let rows = table.rows().filter(|(name, _)| streams.includes(name));
    rows.map(|(_, row)| (row.first_ms, row.last_ms))
        .reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
}
