//! The first events of a segment within bounds, or the last ones: as many as there is room for, always all up to some place, so
//! that what is left is behind it. Pure.

use std::collections::BTreeMap;
use std::ops::Range;

use hearth_core::logs::page::Position;

use crate::event::StoredEvent;

/// Bytes of an event besides its message, by estimate.
const EVENT_OVERHEAD_BYTES: usize = 128;

/// See the module.
#[derive(Debug)]
pub(crate) struct Selection {
    is_ascending: bool,
    /// What is looked for still: shrinks as events are found to have no room.
    bounds: Range<Position>,
    found: BTreeMap<Position, StoredEvent>,
    bytes: usize,
    max_events: usize,
    max_bytes: usize,
    is_cut: bool,
}

impl Selection {
    pub(crate) fn new(
        bounds: Range<Position>,
        is_ascending: bool,
        max_events: usize,
        max_bytes: usize,
    ) -> Self {
        Self {
            is_ascending,
            bounds,
            found: BTreeMap::new(),
            bytes: 0,
            max_events: max_events.max(1),
            max_bytes,
            is_cut: false,
        }
    }

    /// Whether an event at a place is wanted.
    pub(crate) fn wants(&self, at: Position) -> bool {
        self.bounds.contains(&at)
    }

    /// Adds an event that is wanted.
    pub(crate) fn add(&mut self, event: StoredEvent) {
        self.bytes += event.message.len() + EVENT_OVERHEAD_BYTES;
        self.found.insert(event.at, event);
        // One always has room, so that none is in the way of those behind it.
        while self.found.len() > 1
            && (self.found.len() > self.max_events || self.bytes > self.max_bytes)
        {
            let farthest = if self.is_ascending {
                self.found.pop_last()
            } else {
                self.found.pop_first()
            };
            let Some((at, event)) = farthest else { return };
            self.bytes -= event.message.len() + EVENT_OVERHEAD_BYTES;
            self.is_cut = true;
            // Those behind it have no room either, were they smaller: what is found has no gaps.
            if self.is_ascending {
                self.bounds.end = at;
            } else {
                self.bounds.start = at.next();
            }
        }
    }

    /// What was found, in order of places, and where to look for more, if there is more.
    pub(crate) fn finish(
        self,
        bounds: &Range<Position>,
    ) -> (Vec<StoredEvent>, Option<Range<Position>>) {
        let left = if self.is_ascending {
            self.bounds.end..bounds.end
        } else {
            bounds.start..self.bounds.start
        };
        (
            self.found.into_values().collect(),
            self.is_cut.then_some(left),
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(place: u64, bytes: usize) -> StoredEvent {
        StoredEvent {
            at: Position::new(place, 0, 0),
            ingested_ms: 0,
            stream: "s".parse().unwrap(),
            message: vec![b'x'; bytes].into(),
        }
    }

    proptest! {
        #[test]
        fn selections_together_are_all_events_once_in_order(
            places in prop::collection::btree_set(0_u64..200, 0..60).prop_map(|s| s.into_iter().collect::<Vec<_>>()).prop_shuffle(),
            sizes in prop::collection::vec(0_usize..2_000, 60), from in 0_u64..100, to in 100_u64..200,
            is_ascending: bool, max_events in 1_usize..9, max_bytes in 1_usize..4_000,
        ) {
            let events: Vec<_> = places.iter().zip(sizes).map(|(place, bytes)| event(*place, bytes)).collect();
            let bounds = Position::start_of(from)..Position::start_of(to);
            let (mut seen, mut left) = (Vec::new(), Some(bounds));
            while let Some(bounds) = left {
                let mut selection = Selection::new(bounds.clone(), is_ascending, max_events, max_bytes);
                for event in &events {
                    if selection.wants(event.at) {
                        selection.add(event.clone());
                    }
                }
                let (mut found, more) = selection.finish(&bounds);
                prop_assert!(found.len() <= max_events);
                if !is_ascending {
                    found.reverse();
                }
                seen.extend(found);
                left = more;
            }
            let mut expected: Vec<_> = events.into_iter().filter(|e| (from..to).contains(&e.at.timestamp_ms())).collect();
            expected.sort_by_key(|event| event.at);
            if !is_ascending {
                expected.reverse();
            }
            prop_assert_eq!(seen, expected);
        }
    }
}
