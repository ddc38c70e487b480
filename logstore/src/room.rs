//! How much room events will take, at most. Pure.

use std::collections::{BTreeMap, BTreeSet};

use hearth_core::logs::StreamName;

use crate::active::Numbered;
use crate::event::GroupKey;
use crate::options::StoreOptions;
use crate::plan::Excess;
use crate::record::{HEADER_BYTES, event_bytes, stream_bytes};
use crate::table::{FOOTER_BYTES, Table, row_bytes};

/// What these events may add to files and to the index: as if each group began a segment, and each of its streams were in every
/// segment that the events may fill.
pub(crate) fn of_groups(
    groups: &BTreeMap<GroupKey, Vec<Numbered>>,
    options: &StoreOptions,
) -> Excess {
    let mut sum = Excess::default();
    for events in groups.values() {
        let streams: BTreeSet<&StreamName> = events.iter().map(|event| &event.stream).collect();
        let rows: u64 = streams.iter().map(|name| row_bytes(name)).sum();
        let names: u64 = streams.iter().map(|name| stream_bytes(name.as_str())).sum();
        let messages = events.iter().map(|event| event_bytes(event.message.len()));
        let messages: u64 = messages.sum();
        let segments =
            2 + (messages + names + rows) / options.segment_bytes + rows / options.table_bytes();
        let each = HEADER_BYTES + FOOTER_BYTES + names + rows;
        sum.bytes += messages + segments * each;
        let memory = Table::memory_bytes_of(streams.len(), rows);
        sum.index_bytes += segments * memory;
    }
    sum
}
