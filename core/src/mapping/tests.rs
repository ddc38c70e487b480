//! Tables of defaults, refusals and conflicts.

use super::*;
use serde_json::{Value, json};

const UUID: &str = "5d7b5dc5-7e3c-4b5e-8d4b-000000000001";
const QUEUE: &str = "arn:aws:sqs:us-east-1:123456789012:q";
const STREAM: &str = "arn:aws:kinesis:us-east-1:123456789012:stream/s";
const TABLE: &str = "arn:aws:dynamodb:us-east-1:123456789012:table/t/stream/x";

fn said(arn: Option<&str>, members: Value) -> MappingMembers {
    let mut said = MappingMembers {
        source_arn: arn.map(str::to_owned),
        ..MappingMembers::default()
    };
    for (name, value) in members.as_object().unwrap() {
        said.members.put(name, Some(value));
    }
    said
}

fn made(arn: Option<&str>, members: Value) -> Result<Mapping> {
    let function = "f".parse().unwrap();
    Mapping::new(UUID, &function, &said(arn, members), UnixMs(1))
}

fn refused(arn: Option<&str>, members: Value) -> String {
    made(arn, members).unwrap_err().message
}

fn members(mapping: &Mapping) -> Value {
    let all = mapping.members.0.iter();
    let read = |text: &String| serde_json::from_str::<Value>(text).unwrap();
    all.map(|(name, text)| (name.clone(), read(text)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[test]
fn what_was_not_said_is_as_aws_has_it() {
    let queue = made(Some(QUEUE), json!({})).unwrap();
    assert_eq!(
        members(&queue),
        json!({"BatchSize": 10, "MaximumBatchingWindowInSeconds": 0, "FunctionResponseTypes": []})
    );
    assert!(queue.enabled);
    let stream = made(
        Some(STREAM),
        json!({"StartingPosition": "LATEST", "BatchSize": 7}),
    )
    .unwrap();
    assert_eq!(
        members(&stream),
        json!({
            "BatchSize": 7, "MaximumBatchingWindowInSeconds": 0, "FunctionResponseTypes": [], "ParallelizationFactor": 1,
            "DestinationConfig": {"OnFailure": {}}, "MaximumRecordAgeInSeconds": -1, "BisectBatchOnFunctionError": false,
            "MaximumRetryAttempts": -1, "TumblingWindowInSeconds": 0, "StartingPosition": "LATEST",
        })
    );
    let own = json!({
        "SelfManagedEventSource": {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["k:9092"]}},
        "SourceAccessConfigurations": [], "Topics": ["t"],
    });
    let kafka = made(None, own).unwrap();
    assert_eq!(
        members(&kafka)["SelfManagedKafkaEventSourceConfig"],
        json!({"ConsumerGroupId": UUID})
    );
}

#[test]
fn refusals_in_awss_words() {
    let batch = "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10";
    let destinations =
        "Unsupported DestinationConfig parameter for given event source mapping type.";
    let null = "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: Member must not be null.";
    let filter = |pattern: &str| json!({"FilterCriteria": {"Filters": [{"Pattern": pattern}]}});
    for (arn, members, text) in [
        (None, json!({}), "Unrecognized event source."),
        (
            Some("arn:aws:s3:::b"),
            json!({}),
            "Unrecognized event source.",
        ),
        (
            None,
            json!({"SelfManagedEventSource": {}}),
            "Required 'sourceAccessConfigurations' parameter is missing.",
        ),
        (Some(STREAM), json!({}), null),
        (Some(TABLE), json!({}), null),
        (
            Some(TABLE),
            json!({"StartingPosition": "AT_TIMESTAMP"}),
            "Unsupported starting position for arn type: arn:aws:dynamodb:us-east-1:123456789012:table/t/stream/x",
        ),
        (Some(QUEUE), json!({"BatchSize": 11}), batch),
        (
            Some(QUEUE),
            json!({"DestinationConfig": {"OnFailure": {"Destination": "x"}}}),
            destinations,
        ),
        (
            Some(STREAM),
            json!({"StartingPosition": "LATEST", "DestinationConfig": {"OnSuccess": {"Destination": "x"}}}),
            destinations,
        ),
        (
            Some(QUEUE),
            json!({"StartingPosition": "LATEST"}),
            "StartingPosition is not valid for SQS event sources.",
        ),
        (
            Some(QUEUE),
            json!({"ParallelizationFactor": 2}),
            "Unsupported ParallelizationFactor parameter for given event source mapping type.",
        ),
        (
            Some(QUEUE),
            filter(r#"{"a":"b"}"#),
            "Invalid filter pattern definition.",
        ),
        (
            Some(QUEUE),
            json!({"FilterCriteria": {"Filters": [{}]}}),
            "Invalid filter pattern definition.",
        ),
    ] {
        assert_eq!(refused(arn, members.clone()), text, "{arn:?} {members}");
    }
    assert!(made(Some(QUEUE), filter(r#"{"a":["b"]}"#)).is_ok());
    let larger = json!({"BatchSize": 11, "MaximumBatchingWindowInSeconds": 1});
    assert!(made(Some(QUEUE), larger).is_ok());
}

#[test]
fn an_update_changes_what_was_sent() {
    let stream = made(Some(STREAM), json!({"StartingPosition": "LATEST"})).unwrap();
    let mut update = said(None, json!({"BatchSize": 5}));
    update.enabled = Some(false);
    let updated = stream.updated(&update, UnixMs(2)).unwrap();
    assert_eq!(updated.members.get::<u32>("BatchSize"), Some(5));
    assert_eq!(updated.members.get::<i32>("MaximumRetryAttempts"), Some(-1));
    assert_eq!((updated.enabled, updated.last_modified), (false, UnixMs(2)));
    assert_eq!(updated.function, stream.function);
    let queue = made(Some(QUEUE), json!({})).unwrap();
    assert!(
        queue
            .updated(&said(None, json!({"BatchSize": 100})), UnixMs(2))
            .is_err()
    );
}

#[test]
fn the_same_events_go_to_a_function_once() {
    let account = "123456789012".parse().unwrap();
    let conflict = |old: &Mapping, new: &Mapping| {
        old.check_other(new, "us-east-1", &account)
            .err()
            .map(|e| e.message)
    };
    let rest = format!("Please update or delete the existing mapping with UUID {UUID}");
    let queue = made(Some(QUEUE), json!({})).unwrap();
    assert_eq!(
        conflict(&queue, &queue).unwrap(),
        format!(
            "An event source mapping with SQS arn (\" {QUEUE} \") and function (\" f \") already exists. {rest}"
        )
    );
    let stream = made(Some(STREAM), json!({"StartingPosition": "LATEST"})).unwrap();
    assert_eq!(
        conflict(&stream, &stream).unwrap(),
        format!(
            "The event source arn (\" {STREAM} \") and function (\" f \") provided mapping already exists. {rest}"
        )
    );
    assert_eq!(conflict(&queue, &stream), None);
    let alias = Mapping {
        qualifier: Some(Qualifier::Alias("live".into())),
        ..queue.clone()
    };
    assert_eq!(conflict(&queue, &alias), None);
    let kafka = |topic: &str| {
        let own = json!({
            "SelfManagedEventSource": {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["k:9092"]}},
            "SourceAccessConfigurations": [], "Topics": [topic],
        });
        made(None, own).unwrap()
    };
    assert_eq!(conflict(&kafka("a"), &kafka("b")), None);
    assert_eq!(
        conflict(&kafka("a"), &kafka("a")).unwrap(),
        format!(
            "An event source mapping with event source (\"k:9092\"), function (\"arn:aws:lambda:us-east-1:123456789012:function:f\"), topics (\"a\") already exists. {rest}"
        )
    );
}
