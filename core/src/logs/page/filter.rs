//! Pages of FilterLogEvents: events of several streams that match, in one order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use super::token::{Mark, Scope, read, write};
use super::{Event, PAGE_MAX_EVENTS, PageError, Position, Room, limit};

/// "Setting startFromHead to false is supported only when startTime is on or after Jan 1, 2024 00:00:00 UTC."
const DESCENDING_START_MIN_MS: u64 = 1_704_067_200_000;

/// What of a request says which events.
#[derive(Clone, Copy, Debug, Default)]
pub struct FilterRequest<'a> {
    /// "Events with a timestamp before this time are not returned."
    pub start_ms: Option<u64>,
    /// "Events with a timestamp later than this time are not returned." Unlike that of GetLogEvents it is included.
    pub end_ms: Option<u64>,
    /// The token of the page before. "If you provide both nextToken and startFromHead, the direction of the nextToken is used."
    pub token: Option<&'a str>,
    /// "The maximum number of events to return. The default is 10,000 events."
    pub limit: Option<i64>,
    /// "If the value is true, the earliest log events are returned first. If the value is false, the latest log events are
    /// returned first. The default value is true."
    pub start_from_head: Option<bool>,
}

/// A request that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterQuery {
    scope: Scope,
    bounds: Range<Position>,
    is_ascending: bool,
    limit: usize,
}

/// A page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterPage<E> {
    /// The events that match, in the order that was asked for. "A returned page might only be partially full, or even empty."
    pub events: Vec<E>,
    /// "If the results don't include a nextToken, then pagination is finished."
    pub next: Option<String>,
}

impl FilterQuery {
    /// Reads a request about a group.
    pub fn new(scope: Scope, request: &FilterRequest<'_>) -> Result<Self, PageError> {
        let limit = limit(request.limit, PAGE_MAX_EVENTS)?;
        let mut low = request.start_ms.map_or(Position::FIRST, Position::start_of);
        let behind = |end_ms: u64| Position::start_of(end_ms.saturating_add(1));
        let mut high = request.end_ms.map_or(Position::LAST, behind);
        let marks = [Mark::Ascending, Mark::Descending];
        let token = request.token.map(|token| read(marks, scope, token));
        let is_ascending = match token.transpose()? {
            None => request.start_from_head.unwrap_or(true),
            Some((Mark::Descending, at)) => {
                high = high.min(at);
                false
            }
            Some((Mark::Ascending | Mark::Forward | Mark::Backward, at)) => {
                low = low.max(at);
                true
            }
        };
        let is_early = |start_ms: u64| start_ms < DESCENDING_START_MIN_MS;
        if !is_ascending && request.start_ms.is_some_and(is_early) {
            return Err(PageError::TooEarly);
        }
        Ok(Self {
            scope,
            bounds: low..high,
            is_ascending,
            limit,
        })
    }

    /// Between what positions the page's events are.
    pub fn bounds(&self) -> Range<Position> {
        self.bounds.clone()
    }

    /// Whether the oldest come first.
    pub fn is_ascending(&self) -> bool {
        self.is_ascending
    }

    /// Events of several streams within the bounds, in the order that was asked for. Each stream is in order of positions. "The
    /// response from this operation always interleaves events from multiple log streams within a log group."
    pub fn merge<'e, E: Event>(&self, streams: &[&'e [E]]) -> Merge<'e, E> {
        let within = |stream: &&'e [E]| {
            let before = |at: Position| stream.partition_point(|event| event.position() < at);
            let (from, to) = (before(self.bounds.start), before(self.bounds.end));
            &stream[from..to.max(from)]
        };
        let mut merge = Merge {
            streams: streams.iter().map(within).collect(),
            heads: BinaryHeap::new(),
            is_ascending: self.is_ascending,
        };
        for stream in 0..streams.len() {
            merge.offer(stream);
        }
        merge
    }

    /// The page of events that come as [`Self::merge`] has them. At most `looked_at` of them are looked at, at least one, so
    /// that a pattern that hardly matches costs no more a request; what is left is the next page's.
    pub fn page<E: Event>(
        &self,
        events: impl IntoIterator<Item = E>,
        looked_at: usize,
        mut matches: impl FnMut(&E) -> bool,
    ) -> FilterPage<E> {
        let mut room = Room::new(self.limit);
        let mut page = FilterPage {
            events: Vec::new(),
            next: None,
        };
        for (before, event) in events.into_iter().enumerate() {
            let is_over = before >= looked_at.max(1) || page.events.len() == self.limit;
            let is_match = !is_over && matches(&event);
            if is_over || is_match && !room.take(&event) {
                page.next = Some(self.token_before(event.position()));
                break;
            }
            if is_match {
                page.events.push(event);
            }
        }
        page
    }

    /// A token of the page that begins with the event at a position.
    fn token_before(&self, at: Position) -> String {
        if self.is_ascending {
            write(Mark::Ascending, self.scope, at)
        } else {
            write(Mark::Descending, self.scope, at.next())
        }
    }
}

/// Events of several streams in one order; takes time in proportion to the events, and the logarithm of the number of streams.
#[derive(Debug)]
pub struct Merge<'e, E> {
    /// What is left of each.
    streams: Vec<&'e [E]>,
    /// Of each that is not at its end where its next event stands; the next one of all is the greatest.
    heads: BinaryHeap<(Position, Reverse<usize>)>,
    is_ascending: bool,
}

impl<E: Event> Merge<'_, E> {
    fn offer(&mut self, stream: usize) {
        let left = self.streams[stream];
        let head = if self.is_ascending {
            left.first().map(|event| event.position().mirrored())
        } else {
            left.last().map(Event::position)
        };
        let head = head.map(|at| (at, Reverse(stream)));
        self.heads.extend(head);
    }
}

impl<'e, E: Event> Iterator for Merge<'e, E> {
    type Item = &'e E;

    fn next(&mut self) -> Option<&'e E> {
        let (_, Reverse(stream)) = self.heads.pop()?;
        let left = self.streams[stream];
        let (event, left) = if self.is_ascending {
            left.split_first()?
        } else {
            left.split_last()?
        };
        self.streams[stream] = left;
        self.offer(stream);
        Some(event)
    }
}
