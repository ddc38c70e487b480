//! What a segment knows of its streams without its events: the footer's content, and a part of the index.

use std::collections::BTreeMap;

use bytes::{BufMut, BytesMut};
use hearth_core::logs::StreamName;

use crate::record::{FRAME_BYTES, TRAILER_BYTES, take};

/// A table has about so many bytes at most: see `StoreOptions::table_bytes`.
pub(crate) const TABLE_MAX_BYTES: u64 = 1 << 20;
/// Length of a row without the name.
const ROW_BYTES: u64 = 46;
/// Bytes of memory for a row besides what it has on disk, by estimate: nodes of trees, the name's allocation.
const ROW_MEMORY_BYTES: u64 = 64;
/// The same for a segment.
const SEGMENT_MEMORY_BYTES: u64 = 256;

/// What is known of a stream's events in one segment, or in several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Number in the segment's records.
    pub(crate) number: u32,
    pub(crate) first_ms: u64,
    pub(crate) last_ms: u64,
    /// The largest ingestion number.
    pub(crate) last_ingested: u64,
    pub(crate) events: u64,
    /// Of the messages.
    pub(crate) bytes: u64,
}

impl Row {
    fn new(number: u32) -> Self {
        Self {
            number,
            first_ms: u64::MAX,
            last_ms: 0,
            last_ingested: 0,
            events: 0,
            bytes: 0,
        }
    }

    /// Of one event.
    pub(crate) fn of_event(number: u32, timestamp_ms: u64, ingested: u64, message: usize) -> Self {
        Self {
            number,
            first_ms: timestamp_ms,
            last_ms: timestamp_ms,
            last_ingested: ingested,
            events: 1,
            bytes: message as u64,
        }
    }

    /// Adds what is known of other events.
    pub(crate) fn add(&mut self, other: &Self) {
        self.first_ms = self.first_ms.min(other.first_ms);
        self.last_ms = self.last_ms.max(other.last_ms);
        self.last_ingested = self.last_ingested.max(other.last_ingested);
        self.events += other.events;
        self.bytes += other.bytes;
    }
}

/// The streams of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    rows: BTreeMap<StreamName, Row>,
    /// Of all rows.
    total: Row,
    /// Length when encoded.
    bytes: u64,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            rows: BTreeMap::new(),
            total: Row::new(0),
            bytes: 0,
        }
    }
}

impl Table {
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&StreamName, &Row)> {
        self.rows.iter()
    }

    /// What is known of all events together.
    pub(crate) fn total(&self) -> &Row {
        &self.total
    }

    /// Length when encoded.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What it takes in memory, by estimate.
    pub(crate) fn memory_bytes(&self) -> u64 {
        Self::memory_bytes_of(self.rows.len(), self.bytes)
    }

    /// The same of a table with so many rows, of so many bytes when encoded.
    pub(crate) fn memory_bytes_of(rows: usize, bytes: u64) -> u64 {
        SEGMENT_MEMORY_BYTES + bytes + rows as u64 * ROW_MEMORY_BYTES
    }

    /// Number of a stream, and whether it is a new one.
    pub(crate) fn number_of(&self, stream: &StreamName) -> (u32, bool) {
        match self.rows.get(stream) {
            Some(row) => (row.number, false),
            None => (u32::try_from(self.rows.len()).unwrap_or(u32::MAX), true),
        }
    }

    /// Adds what is known of events of a stream.
    pub(crate) fn add(&mut self, stream: &StreamName, row: &Row) {
        self.total.add(row);
        if let Some(known) = self.rows.get_mut(stream) {
            known.add(row);
        } else {
            self.bytes += row_bytes(stream);
            self.rows.insert(stream.clone(), *row);
        }
    }

    pub(crate) fn encode(&self) -> BytesMut {
        let mut out = BytesMut::new();
        for (stream, row) in &self.rows {
            out.put_u32(row.number);
            out.put_u64(row.first_ms);
            out.put_u64(row.last_ms);
            out.put_u64(row.last_ingested);
            out.put_u64(row.events);
            out.put_u64(row.bytes);
            out.put_u16(u16::try_from(stream.as_str().len()).expect("names have 512 characters"));
            out.put_slice(stream.as_str().as_bytes());
        }
        out
    }

    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let (mut table, rest) = (Self::default(), &mut bytes);
        while !rest.is_empty() {
            let row = Row {
                number: u32::try_from(take(rest, 4)?).ok()?,
                first_ms: take(rest, 8)?,
                last_ms: take(rest, 8)?,
                last_ingested: take(rest, 8)?,
                events: take(rest, 8)?,
                bytes: take(rest, 8)?,
            };
            let length = usize::try_from(take(rest, 2)?).ok()?;
            let (name, left) = rest.split_at_checked(length)?;
            let name = str::from_utf8(name).ok()?;
            table.add(&name.parse().ok()?, &row);
            *rest = left;
        }
        Some(table)
    }

    /// Length of the footer and trailer that a segment with this table ends with.
    pub(crate) fn footer_bytes(&self) -> u64 {
        FOOTER_BYTES + self.bytes
    }
}

/// Length of footer and trailer without rows.
pub(crate) const FOOTER_BYTES: u64 = FRAME_BYTES + 1 + TRAILER_BYTES;

/// Length of a stream's row.
pub(crate) fn row_bytes(stream: &StreamName) -> u64 {
    ROW_BYTES + stream.as_str().len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_as_it_was_written() {
        let mut table = Table::default();
        let name = |name: &str| name.parse::<StreamName>().unwrap();
        assert_eq!(table.number_of(&name("a")), (0, true));
        table.add(&name("a"), &Row::of_event(0, 5, 100, 3));
        assert_eq!(table.number_of(&name("é")), (1, true));
        table.add(&name("é"), &Row::of_event(1, 9, 101, 4));
        table.add(&name("a"), &Row::of_event(0, 2, 102, 1));
        assert_eq!(table.number_of(&name("a")), (0, false));
        let total = table.total();
        assert_eq!((total.first_ms, total.last_ms), (2, 9));
        assert_eq!(
            (total.events, total.bytes, total.last_ingested),
            (3, 8, 102)
        );
        let encoded = table.encode();
        assert_eq!(encoded.len() as u64, table.bytes());
        assert_eq!(Table::decode(&encoded), Some(table));
        for cut in 1..encoded.len() {
            // A whole row is a smaller table.
            let is_row = cut as u64 == row_bytes(&name("a"));
            assert_eq!(Table::decode(&encoded[..cut]).is_some(), is_row);
        }
    }
}
