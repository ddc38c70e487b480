//! Where an event stands among all of its group.

/// "The returned log events are sorted by event timestamp, the timestamp when the event was ingested by CloudWatch Logs, and the
/// ID of the PutLogEvents request."
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    timestamp_ms: u64,
    ingested: u64,
    source: u32,
}

/// Timestamps are below it: the year 10889.
const TIMESTAMP_END: u64 = 1 << 48;

impl Position {
    /// Before every event.
    pub const FIRST: Self = Self {
        timestamp_ms: 0,
        ingested: 0,
        source: 0,
    };
    /// After every event.
    pub const LAST: Self = Self {
        timestamp_ms: TIMESTAMP_END - 1,
        ingested: u64::MAX,
        source: u32::MAX,
    };

    /// Of an event: its timestamp, when it was ingested in any unit that grows with each event of a source, and the source,
    /// which tells apart what was ingested at the same time elsewhere.
    pub fn new(timestamp_ms: u64, ingested: u64, source: u32) -> Self {
        Self {
            timestamp_ms: timestamp_ms.min(TIMESTAMP_END - 1),
            ingested,
            source,
        }
    }

    /// Not after any event of this time or later.
    pub fn start_of(timestamp_ms: u64) -> Self {
        if timestamp_ms < TIMESTAMP_END {
            Self::new(timestamp_ms, 0, 0)
        } else {
            Self::LAST
        }
    }

    /// When the event was.
    pub fn timestamp_ms(self) -> u64 {
        self.timestamp_ms
    }

    /// The place behind this one.
    pub fn next(self) -> Self {
        if self == Self::LAST {
            return self;
        }
        let (source, is_over) = self.source.overflowing_add(1);
        let (ingested, is_over) = self.ingested.overflowing_add(u64::from(is_over));
        Self {
            timestamp_ms: self.timestamp_ms + u64::from(is_over),
            ingested,
            source,
        }
    }

    /// The same with the order turned round.
    pub(super) fn mirrored(self) -> Self {
        Self {
            timestamp_ms: TIMESTAMP_END - 1 - self.timestamp_ms,
            ingested: !self.ingested,
            source: !self.source,
        }
    }

    /// As bytes that are ordered as positions are.
    pub(super) fn to_bytes(self) -> [u8; 18] {
        let mut bytes = [0; 18];
        bytes[..6].copy_from_slice(&self.timestamp_ms.to_be_bytes()[2..]);
        bytes[6..14].copy_from_slice(&self.ingested.to_be_bytes());
        bytes[14..].copy_from_slice(&self.source.to_be_bytes());
        bytes
    }

    /// Contrary of [`Self::to_bytes`].
    pub(super) fn from_bytes(bytes: [u8; 18]) -> Self {
        let big_endian = |bytes: &[u8]| bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b));
        Self {
            timestamp_ms: big_endian(&bytes[..6]),
            ingested: big_endian(&bytes[6..14]),
            source: bytes[14..].iter().fold(0, |n, b| n << 8 | u32::from(*b)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn position() -> impl Strategy<Value = Position> {
        let edge = prop_oneof![Just(0_u64), Just(u64::MAX), any::<u64>(), 0..9_u64];
        (edge.clone(), edge, any::<u32>()).prop_map(|(t, i, s)| Position::new(t, i, s))
    }

    proptest! {
        #[test]
        fn bytes_are_ordered_as_positions(a in position(), b in position()) {
            prop_assert_eq!(Position::from_bytes(a.to_bytes()), a);
            prop_assert_eq!(a.cmp(&b), a.to_bytes().cmp(&b.to_bytes()));
            prop_assert_eq!(a.cmp(&b), b.mirrored().cmp(&a.mirrored()));
        }

        #[test]
        fn nothing_is_between_a_position_and_the_next(a in position(), b in position()) {
            prop_assert!(a < a.next() || a == Position::LAST);
            prop_assert!(b <= a || b >= a.next());
        }
    }

    #[test]
    fn the_next_one_carries() {
        let full = Position::new(5, u64::MAX, u32::MAX);
        assert_eq!(full.next(), Position::start_of(6));
        assert_eq!(Position::new(5, 1, u32::MAX).next(), Position::new(5, 2, 0));
        assert_eq!(Position::LAST.next(), Position::LAST);
        assert_eq!(Position::start_of(u64::MAX), Position::LAST);
    }
}
