//! Tests of what subscribers get.

use hearth_core::telemetry::subscription::parse;
use hearth_node::clock::SystemClock;

use super::*;

fn subscription(types: &str) -> Subscription {
    let request = format!(
        r#"{{"schemaVersion":"2022-12-13","types":{types},"destination":{{"protocol":"TCP","port":1}}}}"#
    );
    parse(request.as_bytes()).unwrap()
}

fn taken(hub: &Hub) -> Vec<serde_json::Value> {
    hub.flush();
    let subscriber = Arc::clone(hub.inner().subscribers.first().unwrap());
    let batch = subscriber.batcher().take(0).unwrap_or_default();
    batch
        .iter()
        .map(|event| serde_json::from_slice(event).unwrap())
        .collect()
}

#[test]
fn one_who_subscribes_in_time_gets_what_was_before_it() {
    let hub = Hub::new(SystemClock::shared());
    let facts = init_facts(false, InitPhase::Init);
    hub.init_runtime_done(&facts, &EndStatus::Success);
    hub.printed(Category::Function, b"to nobody\n");
    assert!(hub.subscribe("e", subscription(r#"["platform"]"#)));
    let kinds: Vec<_> = taken(&hub)
        .iter()
        .map(|event| event["type"].clone())
        .collect();
    assert_eq!(
        kinds,
        ["platform.initRuntimeDone", "platform.telemetrySubscription"]
    );
    hub.init_over(&facts, &[], &EndStatus::Success, 1);
    assert!(!hub.subscribe("late", subscription(r#"["platform"]"#)));
}

#[test]
fn a_line_is_an_event_however_it_comes() {
    let hub = Hub::new(SystemClock::shared());
    hub.subscribe("e", subscription(r#"["function","extension"]"#));
    hub.printed(Category::Function, b"one\ntw");
    hub.printed(Category::Extension, b"other\n");
    hub.printed(Category::Function, b"o\n\n");
    hub.printed(Category::Function, &vec![b'x'; LINE_MAX_BYTES + 1]);
    let lines: Vec<_> = taken(&hub)
        .iter()
        .map(|event| {
            (
                event["type"].clone(),
                event["record"].as_str().unwrap().len(),
            )
        })
        .collect();
    let (function, extension) = (Category::Function.as_str(), Category::Extension.as_str());
    let expected = [
        (function, 3),
        (extension, 5),
        (function, 3),
        (function, LINE_MAX_BYTES),
    ];
    assert_eq!(lines, expected.map(|(kind, length)| (kind.into(), length)));
}
