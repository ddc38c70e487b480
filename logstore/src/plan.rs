//! Which segments are closed and which are deleted. Pure: times and sizes are arguments.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use hearth_core::ids::UnixMs;
use hearth_core::logs::RetentionDays;

use crate::options::StoreOptions;

/// What a decision about a segment needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentFacts {
    pub(crate) seq: u64,
    /// On disk, with the footer that it has or will have.
    pub(crate) bytes: u64,
    /// In memory.
    pub(crate) index_bytes: u64,
    /// Time of its latest event.
    pub(crate) last_ms: u64,
    /// It may still be appended to.
    pub(crate) is_active: bool,
}

/// A group, its segments the oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupFacts {
    pub(crate) retention: Option<RetentionDays>,
    pub(crate) segments: Vec<SegmentFacts>,
}

/// A segment by the places of its group and its own.
pub(crate) type Place = (usize, usize);

/// By how much the store is above its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Excess {
    pub(crate) bytes: u64,
    pub(crate) index_bytes: u64,
}

/// What a segment has that is appended to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fill {
    /// On disk, with its footer.
    pub(crate) bytes: u64,
    /// Of its table alone.
    pub(crate) table_bytes: u64,
    /// There is no event in it.
    pub(crate) is_empty: bool,
}

/// Whether a segment has no room for a record of so many bytes. One that is larger than a segment has one for itself.
pub(crate) fn is_full(fill: Fill, record: u64, options: &StoreOptions) -> bool {
    let is_large = fill.bytes.saturating_add(record) > options.segment_bytes;
    !fill.is_empty && (is_large || fill.table_bytes >= options.table_bytes())
}

/// Whether a segment is old enough to be closed. A clock that went back makes it older no sooner.
pub(crate) fn is_aged(opened_ms: u64, now: UnixMs, options: &StoreOptions) -> bool {
    now.0.saturating_sub(opened_ms) >= options.segment_age_ms
}

/// Closed segments of which every event has expired.
pub(crate) fn expired(groups: &[GroupFacts], now: UnixMs) -> BTreeSet<Place> {
    let mut places = BTreeSet::new();
    for (group, facts) in groups.iter().enumerate() {
        let Some(days) = facts.retention else {
            continue;
        };
        let is_over = |s: &SegmentFacts| !s.is_active && days.is_expired(s.last_ms, now);
        let over = (0..).zip(&facts.segments).filter(|(_, s)| is_over(s));
        places.extend(over.map(|(segment, _)| (group, segment)));
    }
    places
}

/// What to delete so that the store is within its limits: the oldest segment of the group that has most, again and again. Those
/// that are appended to are their groups' newest, so they go last.
pub(crate) fn surplus(groups: &[GroupFacts], excess: Excess) -> BTreeSet<Place> {
    let mut places = BTreeSet::new();
    reclaim(groups, excess.bytes, |s| s.bytes, &mut places);
    let gone = |place: &Place| groups[place.0].segments[place.1].index_bytes;
    let freed: u64 = places.iter().map(gone).sum();
    let left = excess.index_bytes.saturating_sub(freed);
    reclaim(groups, left, |s| s.index_bytes, &mut places);
    places
}

/// Adds places until so much of what is measured is freed.
fn reclaim(
    groups: &[GroupFacts],
    mut excess: u64,
    measure: fn(&SegmentFacts) -> u64,
    places: &mut BTreeSet<Place>,
) {
    if excess == 0 {
        return;
    }
    // What a group has left, and where its oldest is.
    let mut largest = BinaryHeap::new();
    for (group, facts) in groups.iter().enumerate() {
        let oldest = (0..facts.segments.len()).find(|s| !places.contains(&(group, *s)));
        if let Some(oldest) = oldest {
            let left: u64 = facts.segments[oldest..].iter().map(measure).sum();
            largest.push((left, Reverse(group), oldest));
        }
    }
    while excess > 0
        && let Some((left, Reverse(group), oldest)) = largest.pop()
    {
        let segments = &groups[group].segments;
        let freed = measure(&segments[oldest]);
        places.insert((group, oldest));
        excess = excess.saturating_sub(freed);
        if oldest + 1 < segments.len() {
            largest.push((left - freed, Reverse(group), oldest + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY_MS: u64 = 86_400_000;

    fn group(bytes: &[u64]) -> GroupFacts {
        let segment = |(seq, bytes): (u64, &u64)| SegmentFacts {
            seq,
            bytes: *bytes,
            index_bytes: 1,
            last_ms: seq * DAY_MS,
            // Tests say which one is where it matters.
            is_active: false,
        };
        GroupFacts {
            retention: None,
            segments: (0..).zip(bytes).map(segment).collect(),
        }
    }

    #[test]
    fn a_segment_is_closed_by_size_table_and_age() {
        let options = StoreOptions {
            segment_age_ms: 10,
            segment_bytes: 100,
            index_bytes: 80,
            ..StoreOptions::default()
        };
        let fill = |table_bytes, is_empty| Fill {
            bytes: 50,
            table_bytes,
            is_empty,
        };
        assert!(!is_full(fill(9, false), 50, &options));
        assert!(is_full(fill(9, false), 51, &options));
        assert!(!is_full(fill(9, true), 51, &options));
        assert!(is_full(fill(10, false), 1, &options));
        assert!(!is_aged(100, UnixMs(109), &options));
        assert!(is_aged(100, UnixMs(110), &options));
        assert!(!is_aged(100, UnixMs(5), &options));
    }

    #[test]
    fn a_segment_expires_with_its_last_event() {
        let mut facts = group(&[1, 1, 1, 1]);
        facts.segments[3].is_active = true;
        let groups = |retention| {
            [GroupFacts {
                retention,
                ..facts.clone()
            }]
        };
        let now = UnixMs(3 * DAY_MS);
        assert!(expired(&groups(None), now).is_empty());
        let days = RetentionDays::try_from(1_u32).unwrap();
        assert_eq!(expired(&groups(Some(days)), now), [(0, 0), (0, 1)].into());
        let later = UnixMs(99 * DAY_MS);
        // The active one has to be closed first.
        let all = [(0, 0), (0, 1), (0, 2)].into();
        assert_eq!(expired(&groups(Some(days)), later), all);
    }

    #[test]
    fn the_oldest_of_the_largest_groups_go_first() {
        let groups = [group(&[10, 10]), group(&[30, 10, 10]), group(&[15])];
        let over = |bytes| {
            surplus(
                &groups,
                Excess {
                    bytes,
                    index_bytes: 0,
                },
            )
        };
        assert_eq!(over(0), [].into());
        assert_eq!(over(1), [(1, 0)].into());
        assert_eq!(over(31), [(1, 0), (0, 0)].into());
        assert_eq!(over(41), [(1, 0), (0, 0), (1, 1)].into());
        assert_eq!(over(1_000).len(), 6);
        let index = Excess {
            bytes: 1,
            index_bytes: 2,
        };
        // One of the three went for its bytes.
        assert_eq!(surplus(&groups, index), [(1, 0), (0, 0)].into());
    }

    proptest! {
        #[test]
        fn just_enough_is_deleted(
            sizes in prop::collection::vec(prop::collection::vec(1_u64..100, 0..6), 0..6), excess in 0_u64..2_000,
        ) {
            let groups: Vec<_> = sizes.iter().map(|bytes| group(bytes)).collect();
            let places = surplus(&groups, Excess { bytes: excess, index_bytes: 0 });
            let size = |place: &Place| sizes[place.0][place.1];
            let freed: u64 = places.iter().map(size).sum();
            let all: u64 = sizes.iter().flatten().sum();
            prop_assert!(freed >= excess.min(all));
            // Of each group the oldest, and none too many.
            for (group, segment) in &places {
                prop_assert!((0..*segment).all(|older| places.contains(&(*group, older))));
            }
            prop_assert!(places.is_empty() || freed - excess.min(freed) < 100);
        }
    }
}
