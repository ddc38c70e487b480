//! Events of a group in order of their places. Segments are in order of arrival and may overlap in time, so that several are
//! merged; each is looked at when its times say that it may have the next event, and gives a part of what it has at a time. A
//! part is found by reading the segment from its beginning: no index of events has to be kept anywhere, and memory is bounded
//! whatever timestamps there are.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, ErrorKind};
use std::ops::Range;
use std::path::PathBuf;
use std::vec::IntoIter;

use bytes::Bytes;
use hearth_core::logs::page::Position;
use hearth_core::logs::{StreamName, Streams};
use tracing::warn;

use crate::event::{StoredEvent, number_ms};
use crate::index::Extent;
use crate::record::{Record, Scanner};
use crate::select::Selection;

/// Bytes of events that a reader keeps of all segments together, shared among those that overlap.
const READ_BYTES: usize = 16 << 20;
/// Of one segment at most: about as much as a page.
const PART_MAX_BYTES: usize = 1 << 20;
/// And at least, however many overlap.
const PART_MIN_BYTES: usize = 32 * 1024;
/// Events of one segment at most.
const PART_EVENTS: usize = 8_192;

/// A segment to read from.
struct Source {
    path: PathBuf,
    end: u64,
    /// Events that were read and not given.
    part: IntoIter<StoredEvent>,
    /// Where the others are; `None`: there are no others.
    left: Option<Range<Position>>,
}

/// The next place of a source, or one that its next place is not before.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    at: Position,
    source: usize,
    /// Which way: the same in all heads.
    is_ascending: bool,
}

impl Ord for Head {
    /// The greatest is the next.
    fn cmp(&self, other: &Self) -> Ordering {
        let order = self.at.cmp(&other.at).then(self.source.cmp(&other.source));
        if self.is_ascending {
            order.reverse()
        } else {
            order
        }
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Events of some streams of a group, as there were when it was asked for. Reading blocks. What is deleted meanwhile is left
/// out, and so is what cannot be read: see [`Events::is_incomplete`].
pub struct Events {
    sources: Vec<Source>,
    heads: BinaryHeap<Head>,
    streams: Streams,
    node: u32,
    is_ascending: bool,
    left: usize,
    part_bytes: usize,
    is_incomplete: bool,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events")
            .field("segments", &self.sources.len())
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

/// What a reader is made of, besides the segments.
pub(crate) struct Reading {
    pub(crate) streams: Streams,
    pub(crate) bounds: Range<Position>,
    pub(crate) is_ascending: bool,
    pub(crate) looked_at: usize,
    pub(crate) node: u32,
}

impl Events {
    pub(crate) fn new(segments: Vec<(PathBuf, Extent)>, reading: Reading) -> Self {
        let extents: Vec<Extent> = segments.iter().map(|(_, extent)| *extent).collect();
        let source = |(path, extent): (PathBuf, Extent)| Source {
            path,
            end: extent.end,
            part: Vec::new().into_iter(),
            left: Some(reading.bounds.clone()),
        };
        let mut events = Self {
            sources: segments.into_iter().map(source).collect(),
            heads: BinaryHeap::new(),
            streams: reading.streams,
            node: reading.node,
            is_ascending: reading.is_ascending,
            left: reading.looked_at,
            part_bytes: part_bytes(overlap(&extents)),
            is_incomplete: false,
        };
        for (source, extent) in extents.iter().enumerate() {
            let at = if events.is_ascending {
                Position::start_of(extent.first_ms)
            } else {
                Position::new(extent.last_ms, u64::MAX, u32::MAX)
            };
            events.push_head(source, at);
        }
        events
    }

    /// Whether something could not be read so far, because it is damaged or was deleted meanwhile.
    pub fn is_incomplete(&self) -> bool {
        self.is_incomplete
    }

    fn push_head(&mut self, source: usize, at: Position) {
        self.heads.push(Head {
            at,
            source,
            is_ascending: self.is_ascending,
        });
    }

    /// Where the next event of a source that was read is.
    fn next_of(&self, source: usize) -> Option<Position> {
        let part = self.sources[source].part.as_slice();
        let next = if self.is_ascending {
            part.first()
        } else {
            part.last()
        };
        next.map(|event| event.at)
    }

    fn take_of(&mut self, source: usize) -> Option<StoredEvent> {
        let part = &mut self.sources[source].part;
        if self.is_ascending {
            part.next()
        } else {
            part.next_back()
        }
    }

    /// Reads the next part of a source. Nothing is left of one that cannot be read.
    fn load(&mut self, source: usize) {
        let Some(bounds) = self.sources[source].left.take() else {
            return;
        };
        let events = PART_EVENTS.min(self.left);
        let selection = Selection::new(bounds.clone(), self.is_ascending, events, self.part_bytes);
        let from = &self.sources[source];
        match select(from, selection, &self.streams, self.node) {
            Ok((selection, is_whole)) => {
                let (part, left) = selection.finish(&bounds);
                self.is_incomplete |= !is_whole;
                self.sources[source].part = part.into_iter();
                self.sources[source].left = left;
            }
            Err(error) => {
                self.is_incomplete = true;
                if error.kind() != ErrorKind::NotFound {
                    let path = self.sources[source].path.display();
                    warn!(%path, %error, "segment of logs cannot be read");
                }
            }
        }
    }
}

impl Iterator for Events {
    type Item = StoredEvent;

    fn next(&mut self) -> Option<StoredEvent> {
        if self.left == 0 {
            return None;
        }
        loop {
            let Head { at, source, .. } = self.heads.pop()?;
            if self.next_of(source) == Some(at) {
                let event = self.take_of(source);
                if let Some(next) = self.next_of(source) {
                    self.push_head(source, next);
                } else if self.sources[source].left.is_some() {
                    // What is left is behind this one.
                    self.push_head(source, at);
                }
                self.left -= 1;
                return event;
            }
            self.load(source);
            if let Some(next) = self.next_of(source) {
                self.push_head(source, next);
            }
        }
    }
}

/// Reads a segment for what is selected of it. False: it is damaged from somewhere on.
fn select(
    source: &Source,
    mut selection: Selection,
    streams: &Streams,
    node: u32,
) -> io::Result<(Selection, bool)> {
    let input = BufReader::with_capacity(64 * 1024, File::open(&source.path)?);
    let Some(mut scanner) = Scanner::new(input, source.end)? else {
        return Ok((selection, false));
    };
    // Names by number, of streams that are meant.
    let mut names: Vec<Option<StreamName>> = Vec::new();
    while let Some(record) = scanner.next()? {
        match record {
            Record::Stream { name, .. } => {
                let name = name.parse::<StreamName>().ok();
                names.push(name.filter(|name| streams.includes(name)));
            }
            Record::Event {
                timestamp_ms,
                ingested,
                stream,
                message,
            } => {
                let at = Position::new(timestamp_ms, ingested, node);
                let name = usize::try_from(stream).ok().and_then(|n| names.get(n));
                if let Some(Some(name)) = name
                    && selection.wants(at)
                {
                    selection.add(StoredEvent {
                        at,
                        ingested_ms: number_ms(ingested),
                        stream: name.clone(),
                        message: Bytes::copy_from_slice(message),
                    });
                }
            }
            // Behind the end.
            Record::Footer(_) => break,
        }
    }
    Ok((selection, scanner.is_at_end()))
}

/// How many segments have events of the same time, at most.
fn overlap(extents: &[Extent]) -> usize {
    // At each time first what begins, then what ends.
    let begin = extents.iter().map(|extent| (extent.first_ms, 0));
    let end = extents.iter().map(|extent| (extent.last_ms, 1));
    let mut edges: Vec<(u64, u8)> = begin.chain(end).collect();
    edges.sort_unstable();
    let (mut open, mut most) = (0_usize, 0);
    for (_, is_end) in edges {
        open = if is_end == 1 { open - 1 } else { open + 1 };
        most = most.max(open);
    }
    most
}

/// Bytes of a part, if so many segments overlap.
fn part_bytes(overlap: usize) -> usize {
    (READ_BYTES / overlap.max(1)).clamp(PART_MIN_BYTES, PART_MAX_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_smaller_where_many_segments_overlap() {
        let extent = |first_ms, last_ms| Extent {
            seq: 0,
            end: 0,
            first_ms,
            last_ms,
        };
        assert_eq!(overlap(&[]), 0);
        assert_eq!(overlap(&[extent(1, 2), extent(3, 4)]), 1);
        assert_eq!(overlap(&[extent(1, 3), extent(3, 4), extent(2, 9)]), 3);
        assert_eq!(part_bytes(0), PART_MAX_BYTES);
        assert_eq!(part_bytes(1), PART_MAX_BYTES);
        assert_eq!(part_bytes(32), PART_MAX_BYTES / 2);
        assert_eq!(part_bytes(1_000_000), PART_MIN_BYTES);
    }
}
