//! Pages of events: what is on one, and that all of them together are all events.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    at: Position,
    bytes: usize,
}

impl Event for Line {
    fn position(&self) -> Position {
        self.at
    }
    fn message_bytes(&self) -> usize {
        self.bytes
    }
}

fn scope() -> Scope {
    Scope::stream(&"g".parse().unwrap(), &"s".parse().unwrap())
}

/// One event a millisecond from 100 on.
fn lines(count: u64) -> Vec<Line> {
    let line = |n| Line {
        at: Position::new(100 + n, n, 0),
        bytes: 10,
    };
    (0..count).map(line).collect()
}

fn get<'e>(events: &'e [Line], request: &StreamRequest<'_>) -> StreamPage<'e, Line> {
    StreamQuery::new(scope(), request).unwrap().page(events)
}

fn times(events: &[Line]) -> Vec<u64> {
    events.iter().map(|line| line.at.timestamp_ms()).collect()
}

fn with_limit(limit: i64) -> StreamRequest<'static> {
    StreamRequest {
        limit: Some(limit),
        ..StreamRequest::default()
    }
}

#[test]
fn the_latest_events_come_first_and_the_oldest_of_a_page_first() {
    let events = lines(5);
    let page = get(&events, &with_limit(2));
    assert_eq!(times(page.events), [103, 104]);
    let token = Some(page.backward.as_str());
    let page = get(
        &events,
        &StreamRequest {
            token,
            ..with_limit(2)
        },
    );
    assert_eq!(times(page.events), [101, 102]);
    // From there forward again.
    let token = Some(page.forward.as_str());
    let page = get(
        &events,
        &StreamRequest {
            token,
            ..with_limit(9)
        },
    );
    assert_eq!(times(page.events), [103, 104]);
    let start_from_head = true;
    let page = get(
        &events,
        &StreamRequest {
            start_from_head,
            ..with_limit(2)
        },
    );
    assert_eq!(times(page.events), [100, 101]);
}

#[test]
fn at_the_end_the_same_token_is_given_again() {
    let mut events = lines(3);
    let end = get(&events, &with_limit(9)).forward;
    let request = StreamRequest {
        token: Some(&end),
        ..StreamRequest::default()
    };
    let page = get(&events, &request);
    assert!(page.events.is_empty());
    assert_eq!(page.forward, end);
    let start = get(&events, &with_limit(9)).backward;
    let token = Some(start.as_str());
    assert_eq!(
        get(
            &events,
            &StreamRequest {
                token,
                ..with_limit(9)
            }
        )
        .backward,
        start
    );
    // What comes later is found with it.
    events.push(lines(4)[3]);
    assert_eq!(times(get(&events, &request).events), [103]);
}

#[test]
fn a_stream_without_events_has_tokens_too() {
    let page = get(&[], &StreamRequest::default());
    let token = Some(page.forward.as_str());
    let events = lines(2);
    let later = get(
        &events,
        &StreamRequest {
            token,
            ..with_limit(9)
        },
    );
    assert_eq!(times(later.events), [100, 101]);
    assert!(page.backward.starts_with("b/"));
}

#[test]
fn the_end_of_the_time_is_left_out_by_one_operation_and_included_by_the_other() {
    let events = lines(9);
    let (start_ms, end_ms) = (Some(102), Some(104));
    let request = StreamRequest {
        start_ms,
        end_ms,
        ..StreamRequest::default()
    };
    assert_eq!(times(get(&events, &request).events), [102, 103]);
    let request = FilterRequest {
        start_ms,
        end_ms,
        ..FilterRequest::default()
    };
    let query = FilterQuery::new(scope(), &request).unwrap();
    let found: Vec<Line> = query.merge(&[&events]).copied().collect();
    assert_eq!(times(&found), [102, 103, 104]);
    let nothing = StreamRequest {
        start_ms: Some(104),
        end_ms: Some(102),
        ..StreamRequest::default()
    };
    assert!(get(&events, &nothing).events.is_empty());
}

#[test]
fn a_page_has_a_megabyte_at_most_and_one_event_at_least() {
    let mut events = lines(4);
    for line in &mut events {
        line.bytes = PAGE_MAX_BYTES / 2 - 26;
    }
    assert_eq!(get(&events, &StreamRequest::default()).events.len(), 2);
    events[3].bytes += 1;
    assert_eq!(get(&events, &StreamRequest::default()).events.len(), 1);
    events[3].bytes = 2 * PAGE_MAX_BYTES;
    assert_eq!(times(get(&events, &StreamRequest::default()).events), [103]);
    let many = lines(10_001);
    assert_eq!(get(&many, &StreamRequest::default()).events.len(), 10_000);
    for limit in [0, -1, 10_001, i64::MAX] {
        assert!(StreamQuery::new(scope(), &with_limit(limit)).is_err());
    }
}

#[test]
fn a_filtered_page_ends_where_enough_was_looked_at() {
    let events = lines(10);
    let query = FilterQuery::new(scope(), &FilterRequest::default()).unwrap();
    let page = query.page(query.merge(&[&events]), 4, |_| false);
    assert!(page.events.is_empty());
    let request = FilterRequest {
        token: page.next.as_deref(),
        ..FilterRequest::default()
    };
    let query = FilterQuery::new(scope(), &request).unwrap();
    assert_eq!(query.bounds().start, Position::new(104, 4, 0));
    let page = query.page(query.merge(&[&events]), 6, |line| {
        line.at.timestamp_ms() > 107
    });
    assert_eq!((page.events.len(), page.next), (2, None));
}

#[test]
fn the_newest_first_is_of_our_time_alone() {
    let request = |start_ms| FilterRequest {
        start_from_head: Some(false),
        start_ms,
        ..FilterRequest::default()
    };
    assert!(FilterQuery::new(scope(), &request(None)).is_ok());
    assert!(FilterQuery::new(scope(), &request(Some(1_704_067_200_000))).is_ok());
    let error = FilterQuery::new(scope(), &request(Some(1_704_067_199_999))).unwrap_err();
    assert_eq!(error, PageError::TooEarly);
}

/// Streams whose events share few timestamps, so that order is decided by all parts of a position.
fn streams() -> impl Strategy<Value = Vec<Vec<Line>>> {
    let event = (0..6_u64, 0..4_usize, 1..400_000_usize);
    prop::collection::vec(event, 0..60).prop_map(|events| {
        let mut streams = vec![Vec::new(); 4];
        for (n, (time, stream, bytes)) in (0_u32..).zip(events) {
            let source = u32::try_from(stream).unwrap() * 100 + n % 3;
            let at = Position::new(time, u64::from(n / 3), source);
            streams[stream].push(Line { at, bytes });
        }
        streams
            .iter_mut()
            .for_each(|stream| stream.sort_by_key(|line| line.at));
        streams
    })
}

fn in_order(streams: &[Vec<Line>]) -> Vec<Line> {
    let mut all = streams.concat();
    all.sort_by_key(|line| line.at);
    all
}

proptest! {
    #[test]
    fn pages_of_a_stream_are_all_events_once_in_order(
        streams in streams(), limit in 1_i64..7, is_forward: bool, start in prop::option::of(0..6_u64),
    ) {
        let all = in_order(&streams);
        let (mut seen, mut token) = (Vec::new(), None::<String>);
        loop {
            let request = StreamRequest {
                start_ms: start, token: token.as_deref(), start_from_head: is_forward, ..with_limit(limit)
            };
            let page = get(&all, &request);
            let next = if is_forward { page.forward } else { page.backward };
            if is_forward {
                seen.extend_from_slice(page.events);
            } else {
                seen.splice(..0, page.events.iter().copied());
            }
            // The same token again is the end, and nothing else is.
            let is_end = token.as_ref() == Some(&next);
            prop_assert_eq!(is_end, page.events.is_empty() && token.is_some());
            if is_end || page.events.is_empty() {
                break;
            }
            token = Some(next);
        }
        let from = start.unwrap_or(0);
        let expected: Vec<Line> = all.into_iter().filter(|line| line.at.timestamp_ms() >= from).collect();
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn pages_of_many_streams_are_all_matches_once_in_order(
        streams in streams(), limit in 1_i64..7, looked_at in 0..9_usize, is_ascending: bool, modulus in 1..4_usize,
    ) {
        let slices: Vec<&[Line]> = streams.iter().map(Vec::as_slice).collect();
        let is_match = |line: &Line| line.bytes.is_multiple_of(modulus);
        let (mut seen, mut token) = (Vec::new(), None::<String>);
        loop {
            let request = FilterRequest {
                token: token.as_deref(), limit: Some(limit), start_from_head: Some(is_ascending), ..FilterRequest::default()
            };
            let query = FilterQuery::new(scope(), &request).unwrap();
            let page = query.page(query.merge(&slices).copied(), looked_at, is_match);
            let bytes: usize = page.events.iter().map(|line| line.bytes + 26).sum();
            prop_assert!(page.events.len() <= usize::try_from(limit).unwrap() && bytes <= PAGE_MAX_BYTES);
            seen.extend(page.events);
            token = page.next;
            if token.is_none() {
                break;
            }
        }
        let mut expected: Vec<Line> = in_order(&streams).into_iter().filter(is_match).collect();
        if !is_ascending {
            expected.reverse();
        }
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn garbage_is_no_token(token in any::<String>(), like in "[fbad]/[0-9]{56}") {
        for token in [token, like] {
            let token = Some(token.as_str());
            let request = StreamRequest { token, ..StreamRequest::default() };
            prop_assert_eq!(StreamQuery::new(scope(), &request).unwrap_err(), PageError::Token);
            let request = FilterRequest { token, ..FilterRequest::default() };
            prop_assert_eq!(FilterQuery::new(scope(), &request).unwrap_err(), PageError::Token);
        }
    }
}
