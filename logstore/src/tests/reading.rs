//! What is read: groups, streams, ranges, both directions, pages, listeners.

use hearth_core::logs::page::{
    Described, FilterQuery, FilterRequest, Position, Scope, StreamQuery, StreamRequest,
};
use hearth_core::logs::{StreamName, Streams};

use super::*;
use crate::Heard;

fn named(name: &str) -> Streams {
    Streams::Named([name.parse().unwrap()].into())
}

#[test]
fn events_are_ordered_by_time_and_then_by_arrival() {
    let mut fixture = Fixture::new(small());
    fixture.keep("g", "a", &[(30, "1"), (10, "2"), (20, "3")]);
    fixture.clock.advance_ms(5);
    fixture.keep("g", "b", &[(20, "4"), (5, "5")]);
    assert_eq!(fixture.messages("g"), ["5", "2", "3", "4", "1"]);
    let events = fixture.all("g");
    assert_eq!(events[0].stream.as_str(), "b");
    assert_eq!(events[0].ingested_ms, NOW_MS + 5);
    assert_eq!(events[1].ingested_ms, NOW_MS);
    assert_eq!(events[1].at.timestamp_ms(), 10);
    let latest = ReadQuery {
        is_ascending: false,
        looked_at: 2,
        ..everything()
    };
    assert_eq!(texts(&fixture.read("g", latest)), ["1", "4"]);
    let some = ReadQuery {
        streams: named("a"),
        bounds: Position::start_of(10)..Position::start_of(30),
        ..everything()
    };
    assert_eq!(texts(&fixture.read("g", some)), ["2", "3"]);
    assert!(fixture.all("other").is_empty());
}

#[test]
fn groups_and_streams_are_described() {
    let mut fixture = Fixture::new(small());
    fixture.keep("/aws/lambda/f", "s1", &[(10, "abc"), (5, "d")]);
    fixture.keep("/aws/lambda/f", "s2", &[(7, "e")]);
    fixture.keep("a", "s", &[(1, "x")]);
    for _ in 0..2 {
        let groups = fixture.store.groups(&account());
        let names: Vec<_> = groups.iter().map(Described::name).collect();
        assert_eq!(names, ["/aws/lambda/f", "a"]);
        assert_eq!((groups[0].first_event_ms, groups[0].last_event_ms), (5, 10));
        assert_eq!(groups[0].created_ms, NOW_MS);
        assert!(
            fixture
                .store
                .groups(&"000000000000".parse().unwrap())
                .is_empty()
        );
        let streams = fixture.store.streams(&account(), &group("/aws/lambda/f"));
        assert_eq!(streams.len(), 2);
        assert_eq!(
            (streams[0].first_event_ms, streams[0].last_event_ms()),
            (5, Some(10))
        );
        assert_eq!((streams[0].events, streams[0].bytes), (2, 4));
        assert_eq!(streams[1].last_ingested_ms, NOW_MS);
        let sum: u64 = groups.iter().map(|group| group.bytes).sum();
        assert_eq!(sum, fixture.store.stats().bytes);
        fixture.reopen(false);
    }
    assert_eq!(fixture.bytes_on_disk(), fixture.store.stats().bytes);
}

/// Many segments that overlap in time, read in pages as the logs API does.
#[test]
fn pages_of_the_logs_api_are_all_events_once() {
    let mut fixture = Fixture::new(small());
    let mut expected = Vec::new();
    for n in 0..400_u64 {
        let (time, text) = ((n * 37) % 101, format!("{n:030}"));
        fixture.append("g", if n % 3 == 0 { "a" } else { "b" }, &[(time, &text)]);
        fixture.writer.step();
        expected.push((time, text));
    }
    assert!(fixture.store.stats().segments > 5);
    // Stable: of the same time in the order of arrival.
    expected.sort_by_key(|(time, _)| *time);
    let expected: Vec<_> = expected.into_iter().map(|(_, text)| text).collect();
    assert_eq!(fixture.messages("g"), expected);
    let (mut seen, mut token) = (Vec::new(), None::<String>);
    loop {
        let request = FilterRequest {
            token: token.as_deref(),
            limit: Some(33),
            ..FilterRequest::default()
        };
        let query = FilterQuery::new(Scope::group(&group("g")), &request).unwrap();
        let read = ReadQuery {
            bounds: query.bounds(),
            is_ascending: query.is_ascending(),
            looked_at: 51,
            ..everything()
        };
        let events = fixture.store.events(&account(), &group("g"), read);
        let page = query.page(events, 50, |_| true);
        seen.extend(texts(&page.events));
        token = page.next;
        if token.is_none() {
            break;
        }
    }
    assert_eq!(seen, expected);
}

#[test]
fn a_page_of_a_stream_is_its_last_events() {
    let mut fixture = Fixture::new(small());
    let texts_of: Vec<String> = (0..200).map(|n| format!("{n:050}")).collect();
    for (time, text) in (0..).zip(&texts_of) {
        fixture.keep(
            "g",
            if time % 2 == 0 { "even" } else { "odd" },
            &[(time, text)],
        );
    }
    let stream: StreamName = "odd".parse().unwrap();
    let scope = Scope::stream(&group("g"), &stream);
    let request = StreamRequest {
        limit: Some(3),
        ..StreamRequest::default()
    };
    let query = StreamQuery::new(scope, &request).unwrap();
    let read = ReadQuery {
        streams: named("odd"),
        bounds: query.bounds(),
        is_ascending: query.is_forward(),
        looked_at: query.limit(),
    };
    let mut events = fixture.read("g", read);
    events.reverse();
    let page = query.page(&events);
    assert_eq!(
        texts(page.events),
        [&*texts_of[195], &texts_of[197], &texts_of[199]]
    );
}

#[test]
fn a_reader_has_what_there_was_and_goes_on_without_what_is_deleted() {
    let mut fixture = Fixture::new(small());
    for n in 0..100_u64 {
        fixture.keep("g", "s", &[(n, &"x".repeat(100))]);
    }
    let mut events = fixture.store.events(&account(), &group("g"), everything());
    assert!(events.next().is_some());
    fixture.keep("g", "s", &[(50, "later")]);
    let files = fixture.files();
    std::fs::remove_file(&files[1]).unwrap();
    let rest: Vec<_> = events.by_ref().collect();
    assert!(rest.len() > 50 && rest.len() < 99);
    assert!(!texts(&rest).contains(&"later".to_owned()));
    assert!(events.is_incomplete());
}

#[test]
fn readers_and_the_writer_do_not_disturb_each_other() {
    const EVENTS: u64 = 2_000;
    let fixture = Fixture::new(small());
    let Fixture {
        store,
        mut writer,
        dir: _dir,
        ..
    } = fixture;
    let written = || {
        let streams = store.streams(&account(), &group("g"));
        streams.first().map_or(0, |stream| stream.events)
    };
    std::thread::scope(|scope| {
        let appender = store.clone();
        scope.spawn(move || {
            for n in 0..EVENTS {
                let message = n.to_string();
                let event = NewEvent {
                    timestamp_ms: n / 7,
                    message: message.as_bytes(),
                };
                let stream = "s".parse().unwrap();
                appender.append(&account(), &group("g"), &stream, &[event]);
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                // Whatever there is, it is a beginning of everything, in order.
                while written() < EVENTS {
                    let before = written();
                    let mut events = store.events(&account(), &group("g"), everything());
                    let found = texts(&events.by_ref().collect::<Vec<_>>());
                    assert!(!events.is_incomplete() && found.len() as u64 >= before);
                    let expected: Vec<_> = (0..found.len()).map(|n| n.to_string()).collect();
                    assert_eq!(found, expected);
                }
            });
        }
        while written() < EVENTS {
            writer.step();
        }
    });
}

#[tokio::test]
async fn a_listener_hears_what_is_written_of_its_streams() {
    let mut fixture = Fixture::new(small());
    fixture.keep("g", "a", &[(1, "before")]);
    let subscribe = |streams| fixture.store.subscribe(&account(), &[group("g")], streams);
    let mut all = subscribe(Streams::All).unwrap();
    let mut b = subscribe(named("b")).unwrap();
    fixture.append("g", "a", &[(2, "x")]);
    fixture.append("g", "b", &[(1, "y")]);
    fixture.append("h", "b", &[(1, "z")]);
    fixture.writer.step();
    let Some(Heard::Events(heard)) = all.next().await else {
        panic!("events were written");
    };
    let heard: Vec<StoredEvent> = heard.into_iter().map(|(_, event)| event).collect();
    assert_eq!(texts(&heard), ["x", "y"]);
    let Some(Heard::Events(of_b)) = b.next().await else {
        panic!("events were written");
    };
    // It is the event that is read.
    assert_eq!(of_b, [(group("g"), fixture.all("g")[1].clone())]);
    for n in 0..1_000 {
        fixture.append("g", "a", &[(n, "many")]);
        fixture.writer.step();
    }
    assert_eq!(all.next().await, Some(Heard::Missed));
    let Fixture { writer, .. } = fixture;
    drop(writer);
    while b.next().await.is_some() {}
}

#[tokio::test]
async fn the_writer_runs_until_the_store_is_closed() {
    let Fixture {
        dir,
        store,
        writer,
        clock,
        options,
    } = Fixture::new(small());
    let mut heard = store
        .subscribe(&account(), &[group("g")], Streams::All)
        .unwrap();
    let writer = tokio::spawn(writer.run());
    let append = |message: &[u8]| {
        let event = NewEvent {
            timestamp_ms: 1,
            message,
        };
        store.append(&account(), &group("g"), &"s".parse().unwrap(), &[event])
    };
    append(b"first");
    assert!(matches!(heard.next().await, Some(Heard::Events(_))));
    append(b"second");
    store.close();
    writer.await.unwrap();
    assert_eq!(append(b"third").dropped, 1);
    assert!(
        store
            .subscribe(&account(), &[group("g")], Streams::All)
            .is_none()
    );
    let (store, _writer) = open(dir.path(), &options, &clock);
    let events: Vec<_> = store
        .events(&account(), &group("g"), everything())
        .collect();
    assert_eq!(texts(&events), ["first", "second"]);
}
