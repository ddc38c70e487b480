//! What of a batch of PutLogEvents is accepted.

use std::ops::Range;

use super::retention::{DAY_MS, RetentionDays};
use super::violation::Violation;
use crate::error::{Error, ErrorCode};
use crate::ids::UnixMs;

/// "The maximum batch size is 1,048,576 bytes."
pub const BATCH_MAX_BYTES: usize = 1_048_576;
/// "This size is calculated as the sum of all event messages in UTF-8, plus 26 bytes for each log event."
pub const EVENT_OVERHEAD_BYTES: usize = 26;
/// "Each log event can be no larger than 1 MB." Counted as in a batch.
pub const EVENT_MAX_BYTES: usize = 1_048_576;
/// "The maximum number of log events in a batch is 10,000."
pub const BATCH_MAX_EVENTS: usize = 10_000;
/// "Events older than 14 days or preceding the log group's retention period are rejected while processing remaining valid
/// events."
pub const AGE_MAX_MS: u64 = 14 * DAY_MS;
/// "Events more than 2 hours in the future are rejected while processing remaining valid events."
pub const AHEAD_MAX_MS: u64 = 2 * 3_600_000;
/// "For valid events (within 14 days in the past to 2 hours in future), the time span in a single batch cannot exceed 24 hours.
/// Otherwise, the operation fails."
pub const SPAN_MAX_MS: u64 = DAY_MS;

/// An event as it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputEvent<'a> {
    /// When it was, milliseconds since the epoch.
    pub timestamp_ms: u64,
    /// Its text.
    pub message: &'a str,
}

/// Bytes of an event with this message, as limits count them.
pub fn counted_bytes(message_bytes: usize) -> usize {
    message_bytes.saturating_add(EVENT_OVERHEAD_BYTES)
}

/// Why a batch is refused as a whole. Nothing of it is kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// It has no events, too many, or one without text.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// "A batch of log events in a single request must be in a chronological order. Otherwise, the operation fails."
    #[error("Log events in a single PutLogEvents request must be in chronological order.")]
    Unordered,
    /// Valid events are too far apart.
    #[error(
        "The batch of log events in a single PutLogEvents request cannot span more than 24 hours."
    )]
    TooWide,
    /// One event is too large.
    #[error("Log event too large: {0} bytes exceeds limit of {EVENT_MAX_BYTES}")]
    EventTooLarge(usize),
    /// All of them are.
    #[error("Upload too large: {0} bytes exceeds limit of {BATCH_MAX_BYTES}")]
    BatchTooLarge(usize),
}

impl From<PutError> for Error {
    fn from(error: PutError) -> Self {
        Self::new(ErrorCode::InvalidParameterValue, error.to_string())
    }
}

/// `RejectedLogEventsInfo`: events at either end of a batch that are not kept, while those between are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rejected {
    /// "The index of the first log event that is too new. This field is inclusive."
    pub too_new_start: Option<usize>,
    /// "The index of the last log event that is too old. This field is exclusive."
    pub too_old_end: Option<usize>,
    /// The same of those before the group's retention.
    pub expired_end: Option<usize>,
}

/// What becomes of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Indices of the events to keep; may be empty.
    pub accepted: Range<usize>,
    /// What is not kept, if anything is not.
    pub rejected: Option<Rejected>,
}

/// Decides on a batch.
pub fn admit(
    events: &[InputEvent<'_>],
    retention: Option<RetentionDays>,
    now: UnixMs,
) -> Result<Admission, PutError> {
    check_shape(events)?;
    // In order of time, so that what is rejected is at the ends.
    let before = |time_ms: u64| events.partition_point(|event| event.timestamp_ms < time_ms);
    let too_old = before(now.0.saturating_sub(AGE_MAX_MS));
    let expired = retention.map_or(0, |days| before(days.horizon(now).0));
    let too_new = before(now.0.saturating_add(AHEAD_MAX_MS).saturating_add(1));
    let start = too_old.max(expired).min(too_new);
    let valid = &events[start..too_new];
    if let [first, .., last] = valid
        && last.timestamp_ms - first.timestamp_ms > SPAN_MAX_MS
    {
        return Err(PutError::TooWide);
    }
    let rejected = Rejected {
        too_new_start: (too_new < events.len()).then_some(too_new),
        too_old_end: (too_old > 0).then_some(too_old),
        expired_end: (expired > 0).then_some(expired),
    };
    Ok(Admission {
        accepted: start..too_new,
        rejected: (rejected != Rejected::default()).then_some(rejected),
    })
}

/// What does not depend on the time: number, sizes, order.
fn check_shape(events: &[InputEvent<'_>]) -> Result<(), PutError> {
    if events.is_empty() {
        return Err(Violation::too_short("logEvents", "[]", 1).into());
    }
    if events.len() > BATCH_MAX_EVENTS {
        let value = format!("{} events", events.len());
        return Err(Violation::too_long("logEvents", value, BATCH_MAX_EVENTS).into());
    }
    let mut bytes = 0_usize;
    for event in events {
        if event.message.is_empty() {
            return Err(Violation::too_short("logEvents.member.message", "", 1).into());
        }
        let counted = counted_bytes(event.message.len());
        if counted > EVENT_MAX_BYTES {
            return Err(PutError::EventTooLarge(counted));
        }
        bytes = bytes.saturating_add(counted);
    }
    if bytes > BATCH_MAX_BYTES {
        return Err(PutError::BatchTooLarge(bytes));
    }
    if !events.is_sorted_by_key(|event| event.timestamp_ms) {
        return Err(PutError::Unordered);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: UnixMs = UnixMs(1_700_000_000_000);
    const HOUR_MS: u64 = 3_600_000;

    fn at(timestamp_ms: u64) -> InputEvent<'static> {
        InputEvent {
            timestamp_ms,
            message: "x",
        }
    }

    fn ago(ms: u64) -> InputEvent<'static> {
        at(NOW.0 - ms)
    }

    #[test]
    fn events_of_now_are_all_accepted() {
        let admission = admit(&[ago(2), ago(1), ago(1), at(NOW.0)], None, NOW).unwrap();
        assert_eq!((admission.accepted, admission.rejected), (0..4, None));
    }

    #[test]
    fn what_is_too_old_or_too_new_is_rejected_and_the_rest_is_kept() {
        let events = [
            ago(AGE_MAX_MS + 1),
            ago(10),
            at(NOW.0 + AHEAD_MAX_MS),
            at(NOW.0 + AHEAD_MAX_MS + 1),
        ];
        let admission = admit(&events, None, NOW).unwrap();
        assert_eq!(admission.accepted, 1..3);
        let rejected = Rejected {
            too_new_start: Some(3),
            too_old_end: Some(1),
            expired_end: None,
        };
        assert_eq!(admission.rejected, Some(rejected));
        // Exactly 14 days are not more than 14 days.
        assert_eq!(admit(&[ago(AGE_MAX_MS)], None, NOW).unwrap().accepted, 0..1);
    }

    #[test]
    fn what_the_group_would_not_keep_is_expired() {
        let days = RetentionDays::try_from(3_u32).unwrap();
        let events = [ago(15 * DAY_MS), ago(3 * DAY_MS + 1), ago(3 * DAY_MS)];
        let admission = admit(&events, Some(days), NOW).unwrap();
        assert_eq!(admission.accepted, 2..3);
        let rejected = admission.rejected.unwrap();
        assert_eq!(
            (rejected.too_old_end, rejected.expired_end),
            (Some(1), Some(2))
        );
    }

    #[test]
    fn nothing_may_be_left() {
        let events = [ago(AGE_MAX_MS + 9), at(NOW.0 + 3 * HOUR_MS)];
        let admission = admit(&events, None, NOW).unwrap();
        assert_eq!(admission.accepted, 1..1);
    }

    #[test]
    fn a_batch_is_in_order_and_of_one_day() {
        assert_eq!(
            admit(&[ago(1), ago(2)], None, NOW),
            Err(PutError::Unordered)
        );
        let day = [ago(DAY_MS), at(NOW.0)];
        assert!(admit(&day, None, NOW).is_ok());
        let wide = [ago(DAY_MS + 1), at(NOW.0)];
        assert_eq!(admit(&wide, None, NOW), Err(PutError::TooWide));
        // Only valid events count.
        assert!(admit(&[ago(20 * DAY_MS), at(NOW.0)], None, NOW).is_ok());
    }

    #[test]
    fn sizes_count_26_bytes_an_event() {
        let full = "x".repeat(EVENT_MAX_BYTES - EVENT_OVERHEAD_BYTES);
        let event = |message| InputEvent {
            timestamp_ms: NOW.0,
            message,
        };
        assert!(admit(&[event(&full)], None, NOW).is_ok());
        let more = format!("{full}x");
        assert_eq!(
            admit(&[event(&more)], None, NOW).unwrap_err().to_string(),
            "Log event too large: 1048577 bytes exceeds limit of 1048576"
        );
        let half = "x".repeat(BATCH_MAX_BYTES / 2 - EVENT_OVERHEAD_BYTES);
        assert!(admit(&[event(&half), event(&half)], None, NOW).is_ok());
        assert_eq!(
            admit(&[event(&half), event(&half), at(NOW.0)], None, NOW)
                .unwrap_err()
                .to_string(),
            "Upload too large: 1048603 bytes exceeds limit of 1048576"
        );
    }

    #[test]
    fn a_batch_has_1_to_10_000_events_with_text() {
        assert!(admit(&[], None, NOW).is_err());
        assert!(admit(&vec![at(NOW.0); 10_000], None, NOW).is_ok());
        assert!(admit(&vec![at(NOW.0); 10_001], None, NOW).is_err());
        let blank = InputEvent {
            timestamp_ms: NOW.0,
            message: "",
        };
        assert!(admit(&[blank], None, NOW).is_err());
    }

    proptest! {
        #[test]
        fn accepted_events_are_just_the_valid_ones(
            mut offsets in prop::collection::vec(0_u64..40 * 24, 1..20),
            retained in prop::option::of(prop::sample::select(vec![1_u32, 7, 30])),
        ) {
            offsets.sort_unstable();
            let now = UnixMs(NOW.0 + 30 * DAY_MS);
            let events: Vec<_> = offsets.iter().map(|hours| at(NOW.0 + hours * HOUR_MS)).collect();
            let days = retained.map(|days| RetentionDays::try_from(days).unwrap());
            let is_valid = |event: &InputEvent<'_>| {
                let t = event.timestamp_ms;
                t + AGE_MAX_MS >= now.0 && t <= now.0 + AHEAD_MAX_MS && !days.is_some_and(|d| d.is_expired(t, now))
            };
            match admit(&events, days, now) {
                Ok(Admission { accepted, rejected }) => {
                    for (index, event) in events.iter().enumerate() {
                        prop_assert_eq!(accepted.contains(&index), is_valid(event));
                    }
                    prop_assert_eq!(rejected.is_none(), accepted.len() == events.len());
                }
                Err(error) => prop_assert_eq!(error, PutError::TooWide),
            }
        }
    }
}
