//! What a Live Tail is of and what of it is shown.

use super::arn::{GroupError, GroupIdentifier};
use super::name::GroupName;
use super::select::{Streams, StreamsError};
use super::violation::Violation;
use crate::error::Error;
use crate::ids::AccountId;

/// "You can include up to 10 log groups."
pub const TAIL_GROUPS_MAX: usize = 10;
/// "Every second, a LiveTailSessionUpdate object is sent."
pub const TAIL_PERIOD_MS: u64 = 1_000;
/// "The array of log events contained in a LiveTailSessionUpdate can include as many as 500 log events."
pub const TAIL_UPDATE_MAX_EVENTS: usize = 500;
/// "CloudWatch Logs buffers up to 10 LiveTailSessionUpdate events or 5000 log events, after which it starts dropping the oldest
/// events."
pub const TAIL_BUFFER_UPDATES: usize = 10;
/// See [`TAIL_BUFFER_UPDATES`].
pub const TAIL_BUFFER_EVENTS: usize = 5_000;
/// "Live Tail sessions time out after three hours."
pub const TAIL_SESSION_MS: u64 = 3 * 3_600_000;

/// Why a tail cannot be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TailError {
    /// There are no groups, or too many.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// A group is none.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// Streams are none, or cannot be named.
    #[error(transparent)]
    Streams(#[from] StreamsError),
}

impl From<TailError> for Error {
    fn from(error: TailError) -> Self {
        match error {
            TailError::Violation(error) => error.into(),
            TailError::Group(error) => error.into(),
            TailError::Streams(error) => error.into(),
        }
    }
}

/// What a tail is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailScope {
    /// The groups, as they were named.
    pub groups: Vec<GroupName>,
    /// Of the one group, if there is one.
    pub streams: Streams,
}

impl TailScope {
    /// Reads what StartLiveTail sends.
    pub fn new(
        identifiers: &[&str],
        names: &[&str],
        prefixes: &[&str],
        region: &str,
        account: &AccountId,
    ) -> Result<Self, TailError> {
        let member = "logGroupIdentifiers";
        if identifiers.is_empty() {
            return Err(Violation::too_short(member, "[]", 1).into());
        }
        if identifiers.len() > TAIL_GROUPS_MAX {
            let value = format!("{} groups", identifiers.len());
            return Err(Violation::too_long(member, value, TAIL_GROUPS_MAX).into());
        }
        let group = |text: &&str| text.parse::<GroupIdentifier>()?.within(region, account);
        let groups = identifiers.iter().map(group).collect::<Result<_, _>>()?;
        let streams = Streams::of_tail(names, prefixes, identifiers.len())?;
        Ok(Self { groups, streams })
    }
}

/// Which of so many events of a second are shown, in order, evenly spread: "If the number of log events matching the request
/// exceeds 500 per second, the log events are sampled down to 500 log events". Whether they were sampled is `matched >
/// TAIL_UPDATE_MAX_EVENTS`.
pub fn sample(matched: usize) -> impl Iterator<Item = usize> {
    let shown = matched.min(TAIL_UPDATE_MAX_EVENTS);
    // The remainder first, so that nothing overflows.
    let (each, rest) = (matched / shown.max(1), matched % shown.max(1));
    (0..shown).map(move |n| n * each + n * rest / shown)
}

/// How many of the updates that wait for a slow client, given by their numbers of events, the oldest first, must be dropped.
pub fn overflow(waiting: &[usize]) -> usize {
    let mut events: usize = waiting.iter().sum();
    let mut dropped = 0;
    for update in waiting {
        let is_full = waiting.len() - dropped > TAIL_BUFFER_UPDATES || events > TAIL_BUFFER_EVENTS;
        if !is_full {
            break;
        }
        events -= update;
        dropped += 1;
    }
    dropped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(groups: &[&str], names: &[&str]) -> Result<TailScope, TailError> {
        TailScope::new(
            groups,
            names,
            &[],
            "us-east-1",
            &"123456789012".parse().unwrap(),
        )
    }

    #[test]
    fn a_tail_has_1_to_10_groups() {
        assert!(matches!(scope(&[], &[]), Err(TailError::Violation(_))));
        assert_eq!(scope(&["g"; 10], &[]).unwrap().groups.len(), 10);
        assert!(matches!(
            scope(&["g"; 11], &[]),
            Err(TailError::Violation(_))
        ));
        let arn = "arn:aws:logs:us-east-1:123456789012:log-group:g";
        assert_eq!(scope(&[arn], &["s"]).unwrap().groups[0].as_str(), "g");
        assert!(matches!(
            scope(&[&format!("{arn}:*")], &[]),
            Err(TailError::Group(_))
        ));
        assert!(matches!(
            scope(&["g", "h"], &["s"]),
            Err(TailError::Streams(_))
        ));
    }

    #[test]
    fn all_events_are_shown_up_to_500_and_a_spread_of_500_beyond() {
        assert_eq!(sample(0).count(), 0);
        assert_eq!(sample(3).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(
            sample(500).collect::<Vec<_>>(),
            (0..500).collect::<Vec<_>>()
        );
        for matched in [501, 999, 1_000, 123_457, usize::MAX] {
            let shown: Vec<_> = sample(matched).collect();
            assert_eq!(shown.len(), 500);
            assert!(shown.is_sorted_by(|a, b| a < b) && shown[499] < matched);
        }
    }

    #[test]
    fn the_oldest_updates_are_dropped() {
        assert_eq!(overflow(&[]), 0);
        assert_eq!(overflow(&[500; 10]), 0);
        assert_eq!(overflow(&[0; 12]), 2);
        assert_eq!(overflow(&[500; 11]), 1);
        assert_eq!(overflow(&[4_000, 1_000, 1]), 1);
    }
}
