//! Events as they come and as they are kept, and what names where they are.

use bytes::Bytes;
use hearth_core::ids::AccountId;
use hearth_core::logs::page::{Event, Position};
use hearth_core::logs::put::{EVENT_MAX_BYTES, EVENT_OVERHEAD_BYTES};
use hearth_core::logs::{GroupName, StreamName};

/// Longest message; what is longer is cut. "Each log event can be no larger than 1 MB."
pub const MESSAGE_MAX_BYTES: usize = EVENT_MAX_BYTES - EVENT_OVERHEAD_BYTES;

/// Timestamps are below it: those of [`Position`].
const TIMESTAMP_MAX_MS: u64 = (1 << 48) - 1;

/// Bits of an ingestion number below its milliseconds: a million events a millisecond.
const NUMBER_BITS: u32 = 20;

/// A group of an account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupKey {
    pub(crate) account: AccountId,
    pub(crate) group: GroupName,
}

/// An event to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewEvent<'a> {
    /// When it was, milliseconds since the epoch.
    pub timestamp_ms: u64,
    /// What was printed, mostly UTF-8; at most [`MESSAGE_MAX_BYTES`] of it are kept.
    pub message: &'a [u8],
}

impl<'a> NewEvent<'a> {
    pub(crate) fn kept_timestamp_ms(&self) -> u64 {
        self.timestamp_ms.min(TIMESTAMP_MAX_MS)
    }

    /// The message, cut between two characters if it is too long.
    pub(crate) fn kept_message(&self) -> &'a [u8] {
        let Some(cut) = self.message.get(..MESSAGE_MAX_BYTES) else {
            return self.message;
        };
        if self.message.len() == MESSAGE_MAX_BYTES {
            return cut;
        }
        let is_continued = |at: &usize| self.message[*at] & 0b1100_0000 == 0b1000_0000;
        let back = (0..4).find(|back| !is_continued(&(MESSAGE_MAX_BYTES - back)));
        &cut[..MESSAGE_MAX_BYTES - back.unwrap_or(0)]
    }
}

/// An event that was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Where it stands in its group.
    pub at: Position,
    /// When it came to the store, milliseconds since the epoch.
    pub ingested_ms: u64,
    /// Its stream.
    pub stream: StreamName,
    /// What was printed.
    pub message: Bytes,
}

impl Event for StoredEvent {
    fn position(&self) -> Position {
        self.at
    }
    fn message_bytes(&self) -> usize {
        self.message.len()
    }
}

/// The number of the event after that with the number `last`, when it is `now_ms`. Numbers grow whatever the clock does.
pub(crate) fn next_number(last: u64, now_ms: u64) -> u64 {
    last.saturating_add(1)
        .max(now_ms.min(u64::MAX >> NUMBER_BITS) << NUMBER_BITS)
}

/// When the event with a number came.
pub(crate) fn number_ms(number: u64) -> u64 {
    number >> NUMBER_BITS
}

/// What stands in a stream for events that were dropped.
pub(crate) fn lost_line(events: u64) -> String {
    let (noun, verb) = if events == 1 {
        ("event", "was")
    } else {
        ("events", "were")
    };
    format!(
        "HEARTH {events} log {noun} {verb} dropped here: more was printed than could be written\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_grow_whatever_the_clock_does() {
        let first = next_number(0, 1_700_000_000_000);
        assert_eq!(number_ms(first), 1_700_000_000_000);
        assert_eq!(next_number(first, 1_700_000_000_000), first + 1);
        assert_eq!(next_number(first, 5), first + 1);
        assert!(next_number(first, 1_700_000_000_001) > first + 1);
        assert_eq!(next_number(u64::MAX, 5), u64::MAX);
        assert_eq!(number_ms(next_number(0, u64::MAX)), u64::MAX >> 20);
    }

    #[test]
    fn a_message_is_cut_between_characters() {
        let kept = |message: &[u8]| {
            let event = NewEvent {
                timestamp_ms: u64::MAX,
                message,
            };
            assert_eq!(event.kept_timestamp_ms(), TIMESTAMP_MAX_MS);
            event.kept_message().len()
        };
        assert_eq!(kept(b"abc"), 3);
        assert_eq!(kept(&vec![b'x'; MESSAGE_MAX_BYTES]), MESSAGE_MAX_BYTES);
        assert_eq!(kept(&vec![b'x'; MESSAGE_MAX_BYTES + 9]), MESSAGE_MAX_BYTES);
        for shift in 0..3 {
            let text = format!(
                "{}{}",
                "x".repeat(shift),
                "€".repeat(MESSAGE_MAX_BYTES / 3 + 2)
            );
            let length = kept(text.as_bytes());
            assert!(length <= MESSAGE_MAX_BYTES && length > MESSAGE_MAX_BYTES - 3);
            assert!(text.is_char_boundary(length));
        }
        // What is no text is cut somewhere.
        assert_eq!(kept(&vec![0x80; MESSAGE_MAX_BYTES + 9]), MESSAGE_MAX_BYTES);
    }

    #[test]
    fn a_line_says_how_many_were_lost() {
        assert!(lost_line(1).starts_with("HEARTH 1 log event was dropped"));
        assert!(lost_line(12).starts_with("HEARTH 12 log events were dropped"));
    }
}
