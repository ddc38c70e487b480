//! Pages of GetLogEvents: events of one stream, the oldest first on every page, in either direction from page to page.

use std::ops::Range;

use super::token::{Mark, Scope, read, write};
use super::{Event, PAGE_MAX_EVENTS, PageError, Position, Room, limit};

/// What of a request says which events.
#[derive(Clone, Copy, Debug, Default)]
pub struct StreamRequest<'a> {
    /// "Events with a timestamp equal to this time or later than this time are included."
    pub start_ms: Option<u64>,
    /// "Events with a timestamp equal to or later than this time are not included."
    pub end_ms: Option<u64>,
    /// A token of an earlier page, which says the direction as well.
    pub token: Option<&'a str>,
    /// "If you don't specify a limit, the default is as many log events as can fit in a response size of 1 MB (up to 10,000 log
    /// events)."
    pub limit: Option<i64>,
    /// "If the value is true, the earliest log events are returned first. If the value is false, the latest log events are
    /// returned first. The default value is false." Without meaning if there is a token.
    pub start_from_head: bool,
}

/// A request that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamQuery {
    scope: Scope,
    bounds: Range<Position>,
    is_forward: bool,
    token: Option<Position>,
    limit: usize,
}

/// A page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamPage<'e, E> {
    /// The events, the oldest first.
    pub events: &'e [E],
    /// "The token for the next set of items in the forward direction."
    pub forward: String,
    /// "The token for the next set of items in the backward direction. This token is not null."
    pub backward: String,
}

impl StreamQuery {
    /// Reads a request about a stream.
    pub fn new(scope: Scope, request: &StreamRequest<'_>) -> Result<Self, PageError> {
        let limit = limit(request.limit, PAGE_MAX_EVENTS)?;
        let mut low = request.start_ms.map_or(Position::FIRST, Position::start_of);
        let mut high = request.end_ms.map_or(Position::LAST, Position::start_of);
        let marks = [Mark::Forward, Mark::Backward];
        let token = request.token.map(|token| read(marks, scope, token));
        let token = token.transpose()?;
        let is_forward = match token {
            None => request.start_from_head,
            Some((Mark::Backward, at)) => {
                high = high.min(at);
                false
            }
            Some((Mark::Forward | Mark::Ascending | Mark::Descending, at)) => {
                low = low.max(at);
                true
            }
        };
        Ok(Self {
            scope,
            bounds: low..high,
            is_forward,
            token: token.map(|(_, at)| at),
            limit,
        })
    }

    /// Between what positions the page's events are: from the first on if [`Self::is_forward`], else up to the last. A store
    /// need not look at more of them than [`Self::limit`].
    pub fn bounds(&self) -> Range<Position> {
        self.bounds.clone()
    }

    /// Whether the page is at the lower of the bounds.
    pub fn is_forward(&self) -> bool {
        self.is_forward
    }

    /// Events on the page at most.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The page of events in order of their positions, of which others than those within the bounds may be there too.
    pub fn page<'e, E: Event>(&self, events: &'e [E]) -> StreamPage<'e, E> {
        let before = |at: Position| events.partition_point(|event| event.position() < at);
        let (from, to) = (before(self.bounds.start), before(self.bounds.end));
        let within = &events[from..to.max(from)];
        let mut room = Room::new(self.limit);
        let events = if self.is_forward {
            let taken = within.iter().take_while(|event| room.take(event)).count();
            &within[..taken]
        } else {
            let taken = within.iter().rev().take_while(|event| room.take(event));
            &within[within.len() - taken.count()..]
        };
        // "If you have reached the end of the stream, it returns the same token you passed in."
        let here = self.token.unwrap_or(self.bounds.start);
        let first = events.first().map_or(here, Event::position);
        let behind = events.last().map_or(here, |event| event.position().next());
        StreamPage {
            events,
            forward: write(Mark::Forward, self.scope, behind),
            backward: write(Mark::Backward, self.scope, first),
        }
    }
}
