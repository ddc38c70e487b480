//! What is on a page of events, groups or streams, and what the tokens say that lead to the next one. A store hands in what it
//! has in order; nothing here keeps anything, so a token is all that is known of earlier pages.
//!
//! A token of events says a boundary between two of them ([`Position`]) and not how many there were before, so that events
//! that come or expire between two pages move nothing: put together, the pages are all events that were there all the time,
//! each once, in order.

mod describe;
mod filter;
mod position;
mod stream;
#[cfg(test)]
mod tests;
mod token;

pub use describe::{DescribePage, DescribeQuery, DescribeRequest, Described, NameFilter, OrderBy};
pub use filter::{FilterPage, FilterQuery, FilterRequest, Merge};
pub use position::Position;
pub use stream::{StreamPage, StreamQuery, StreamRequest};
pub use token::{Scope, event_id};

use super::put::counted_bytes;
use super::violation::Violation;
use crate::error::{Error, ErrorCode};

/// "Each page returned can contain up to 1 MB of log events or up to 10,000 log events."
pub const PAGE_MAX_EVENTS: usize = 10_000;
/// See [`PAGE_MAX_EVENTS`]; each event counts 26 bytes besides its message, as in a batch that is put.
pub const PAGE_MAX_BYTES: usize = 1_048_576;
/// `DescribeLimit` of the service model, and "If you don't specify a value, the default is up to 50 items."
pub const DESCRIBE_MAX: usize = 50;

/// Why there is no page.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// A limit is out of bounds.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// The token is none that was given for this.
    #[error("The specified nextToken is invalid.")]
    Token,
    /// "A request with startFromHead set to false and a startTime before this date returns an InvalidParameterException."
    #[error(
        "startFromHead can be false only if startTime is on or after Jan 1, 2024 00:00:00 UTC."
    )]
    TooEarly,
    /// "logGroupNamePrefix and logGroupNamePattern are mutually exclusive. Only one of these parameters can be passed."
    #[error(
        "logGroupNamePrefix and logGroupNamePattern are mutually exclusive. Only one of these parameters can be passed."
    )]
    TwoFilters,
    /// "If orderBy is LastEventTime, you cannot specify this parameter."
    #[error("Cannot order by LastEventTime with a logStreamNamePrefix.")]
    PrefixByTime,
}

impl From<PageError> for Error {
    fn from(error: PageError) -> Self {
        Self::new(ErrorCode::InvalidParameterValue, error.to_string())
    }
}

/// What pages need to know of an event.
pub trait Event {
    /// Where it stands; no two events of a group stand at the same place.
    fn position(&self) -> Position;
    /// Length of its message.
    fn message_bytes(&self) -> usize;
}

impl<E: Event> Event for &E {
    fn position(&self) -> Position {
        (**self).position()
    }
    fn message_bytes(&self) -> usize {
        (**self).message_bytes()
    }
}

/// A limit as it was sent, or the largest there is.
fn limit(sent: Option<i64>, max: usize) -> Result<usize, Violation> {
    let Some(sent) = sent else { return Ok(max) };
    let bound = i64::try_from(max).unwrap_or(i64::MAX);
    Violation::check_range("limit", sent, 1, bound)?;
    Ok(usize::try_from(sent).unwrap_or(max))
}

/// What fits on a page still.
struct Room {
    events: usize,
    bytes: usize,
    is_untouched: bool,
}

impl Room {
    fn new(events: usize) -> Self {
        Self {
            events,
            bytes: PAGE_MAX_BYTES,
            is_untouched: true,
        }
    }

    /// Takes room for one more, if there is. The first one always has it, so that no event is in the way of those behind it.
    fn take(&mut self, event: &impl Event) -> bool {
        let counted = counted_bytes(event.message_bytes());
        let has_room = self.events > 0 && (counted <= self.bytes || self.is_untouched);
        if has_room {
            self.events -= 1;
            self.bytes = self.bytes.saturating_sub(counted);
            self.is_untouched = false;
        }
        has_room
    }
}
