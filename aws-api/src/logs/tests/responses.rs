//! Answers as botocore 1.44.5 reads them: each body here was given to its parser, which found every member.

use std::collections::BTreeMap;

use http::Response;
use serde_json::{Value, json};

use super::*;
use crate::event_stream;

const AT: i64 = 1_700_000_000_000;
const ARN: &str = "arn:aws:logs:us-east-1:000000000000:log-group:g";

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn document(response: &Response<Bytes>) -> Value {
    assert_eq!(response.status(), 200);
    let headers = response.headers();
    assert_eq!(headers["content-type"], "application/x-amz-json-1.1");
    assert_eq!(headers["x-amzn-requestid"], "id-1");
    serde_json::from_slice(response.body()).unwrap()
}

/// Every member of the output is there: the shape has no other.
fn written<T: crate::operation::Output>(operation: Operation, output: &T) -> Value {
    let document = document(&encode_output(output, "id-1"));
    let shape = operation.spec().output.unwrap();
    assert_eq!(shape.name, T::SHAPE.name);
    assert_eq!(document.as_object().unwrap().len(), shape.members().len());
    document
}

#[test]
fn an_output_without_members_is_an_empty_object_and_no_output_an_empty_body() {
    let output = DescribeLogGroupsResponse::default();
    assert_eq!(document(&encode_output(&output, "id-1")), json!({}));
    let response = encode_empty("id-1");
    assert_eq!(response.status(), 200);
    assert!(response.body().is_empty());
    let without = typed().filter(|operation| operation.spec().output.is_none());
    assert_eq!(without.count(), 10);
}

#[test]
fn groups_are_written_with_all_their_members() {
    let group = LogGroup {
        log_group_name: some("g"),
        creation_time: Some(AT),
        retention_in_days: Some(7),
        metric_filter_count: Some(0),
        arn: some(&format!("{ARN}:*")),
        stored_bytes: Some(1 << 40),
        kms_key_id: some("k"),
        data_protection_status: some("DISABLED"),
        inherited_properties: Some(vec!["ACCOUNT_DATA_PROTECTION".to_owned()]),
        log_group_class: some("STANDARD"),
        log_group_arn: some(ARN),
        deletion_protection_enabled: Some(false),
        bearer_token_authentication_enabled: Some(false),
        retention_policy_name: some("p"),
    };
    let output = DescribeLogGroupsResponse {
        log_groups: Some(vec![group]),
        next_token: some("t"),
    };
    assert_eq!(
        written(Operation::DescribeLogGroups, &output),
        json!({"logGroups": [{
            "logGroupName": "g", "creationTime": AT, "retentionInDays": 7, "metricFilterCount": 0,
            "arn": "arn:aws:logs:us-east-1:000000000000:log-group:g:*", "storedBytes": 1_099_511_627_776_i64,
            "kmsKeyId": "k", "dataProtectionStatus": "DISABLED",
            "inheritedProperties": ["ACCOUNT_DATA_PROTECTION"], "logGroupClass": "STANDARD",
            "logGroupArn": "arn:aws:logs:us-east-1:000000000000:log-group:g",
            "deletionProtectionEnabled": false, "bearerTokenAuthenticationEnabled": false,
            "retentionPolicyName": "p",
        }], "nextToken": "t"})
    );
}

#[test]
fn streams_are_written_with_all_their_members() {
    let stream = LogStream {
        log_stream_name: some("s"),
        creation_time: Some(AT),
        first_event_timestamp: Some(AT),
        last_event_timestamp: Some(AT + 1),
        last_ingestion_time: Some(AT + 2),
        upload_sequence_token: some("1"),
        arn: some(&format!("{ARN}:log-stream:s")),
        stored_bytes: Some(0),
    };
    let output = DescribeLogStreamsResponse {
        log_streams: Some(vec![stream]),
        next_token: some("t"),
    };
    assert_eq!(
        written(Operation::DescribeLogStreams, &output),
        json!({"logStreams": [{
            "logStreamName": "s", "creationTime": AT, "firstEventTimestamp": AT,
            "lastEventTimestamp": AT + 1, "lastIngestionTime": AT + 2, "uploadSequenceToken": "1",
            "arn": "arn:aws:logs:us-east-1:000000000000:log-group:g:log-stream:s", "storedBytes": 0,
        }], "nextToken": "t"})
    );
}

#[test]
fn events_are_written_with_all_their_members() {
    let output = GetLogEventsResponse {
        events: Some(vec![OutputLogEvent {
            timestamp: Some(AT),
            message: some("a\n\"é\""),
            ingestion_time: Some(AT + 1),
        }]),
        next_forward_token: some("f/1"),
        next_backward_token: some("b/1"),
    };
    assert_eq!(
        written(Operation::GetLogEvents, &output),
        json!({"events": [{"timestamp": AT, "message": "a\n\"é\"", "ingestionTime": AT + 1}],
               "nextForwardToken": "f/1", "nextBackwardToken": "b/1"})
    );
    let output = FilterLogEventsResponse {
        events: Some(vec![FilteredLogEvent {
            log_stream_name: some("s"),
            timestamp: Some(AT),
            message: some("m"),
            ingestion_time: Some(AT + 1),
            event_id: some("37"),
        }]),
        searched_log_streams: Some(vec![SearchedLogStream {
            log_stream_name: some("s"),
            searched_completely: Some(true),
        }]),
        next_token: some("t"),
    };
    assert_eq!(
        written(Operation::FilterLogEvents, &output),
        json!({"events": [{"logStreamName": "s", "timestamp": AT, "message": "m", "ingestionTime": AT + 1, "eventId": "37"}],
               "searchedLogStreams": [{"logStreamName": "s", "searchedCompletely": true}], "nextToken": "t"})
    );
}

#[test]
fn what_was_put_and_tags_are_written_with_all_their_members() {
    let output = PutLogEventsResponse {
        next_sequence_token: some("2"),
        rejected_log_events_info: Some(RejectedLogEventsInfo {
            too_new_log_event_start_index: Some(3),
            too_old_log_event_end_index: Some(1),
            expired_log_event_end_index: Some(0),
        }),
        rejected_entity_info: Some(RejectedEntityInfo {
            error_type: some("InvalidEntity"),
        }),
    };
    assert_eq!(
        written(Operation::PutLogEvents, &output),
        json!({"nextSequenceToken": "2", "rejectedLogEventsInfo": {
                   "tooNewLogEventStartIndex": 3, "tooOldLogEventEndIndex": 1, "expiredLogEventEndIndex": 0},
               "rejectedEntityInfo": {"errorType": "InvalidEntity"}})
    );
    let tags: BTreeMap<String, String> = [("k".to_owned(), String::new())].into();
    let expected = json!({"tags": {"k": ""}});
    let output = ListTagsForResourceResponse {
        tags: Some(tags.clone()),
    };
    assert_eq!(written(Operation::ListTagsForResource, &output), expected);
    let output = ListTagsLogGroupResponse { tags: Some(tags) };
    assert_eq!(written(Operation::ListTagsLogGroup, &output), expected);
}

/// The headers and the document of a message whose checksums are right.
fn read(message: &Bytes) -> (BTreeMap<String, String>, Value) {
    let number = |at: usize| u32::from_be_bytes(message[at..at + 4].try_into().unwrap());
    let end = message.len() - 4;
    assert_eq!(number(0) as usize, message.len());
    assert_eq!(number(8), crc32fast::hash(&message[..8]));
    assert_eq!(number(end), crc32fast::hash(&message[..end]));
    let payload = 12 + number(4) as usize;
    let mut headers = BTreeMap::new();
    let mut rest = &message[12..payload];
    while let [name, after @ ..] = rest {
        let (name, after) = after.split_at(usize::from(*name));
        let [7, high, low, after @ ..] = after else {
            panic!("a header that is no string");
        };
        let (value, after) = after.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        headers.insert(text(name), text(value));
        rest = after;
    }
    let document = serde_json::from_slice(&message[payload..end]).unwrap();
    (headers, document)
}

/// As botocore demands: the stream begins with a response of its own, and events have the names of the stream's members.
#[test]
fn a_live_tail_begins_tells_and_ends() {
    let start = LiveTailSessionStart {
        request_id: some("r"),
        session_id: some("i"),
        log_group_identifiers: Some(vec![ARN.to_owned()]),
        log_stream_names: None,
        log_stream_name_prefixes: Some(vec!["2023".to_owned()]),
        log_event_filter_pattern: some("ERROR"),
    };
    let update = LiveTailSessionUpdate {
        session_metadata: Some(LiveTailSessionMetadata {
            sampled: Some(false),
        }),
        session_results: Some(vec![LiveTailSessionLogEvent {
            log_stream_name: some("s"),
            log_group_identifier: some("000000000000:g"),
            message: some("m"),
            timestamp: Some(AT),
            ingestion_time: Some(AT + 1),
        }]),
    };
    let document = |kind: &str, name: &str, message: &Bytes| {
        let (headers, document) = read(message);
        assert_eq!(headers[":message-type"], kind);
        assert_eq!(headers[&format!(":{kind}-type")], name);
        assert_eq!(headers[":content-type"], "application/json");
        document
    };
    let initial = live_tail::initial_response();
    assert_eq!(document("event", "initial-response", &initial), json!({}));
    assert_eq!(
        document("event", "sessionStart", &live_tail::session_start(&start)),
        json!({"requestId": "r", "sessionId": "i", "logGroupIdentifiers": [ARN],
               "logStreamNamePrefixes": ["2023"], "logEventFilterPattern": "ERROR"})
    );
    assert_eq!(
        document(
            "event",
            "sessionUpdate",
            &live_tail::session_update(&update)
        ),
        json!({"sessionMetadata": {"sampled": false}, "sessionResults": [{
            "logStreamName": "s", "logGroupIdentifier": "000000000000:g", "message": "m",
            "timestamp": AT, "ingestionTime": AT + 1}]})
    );
    for end in [
        live_tail::SessionEnd::Timeout,
        live_tail::SessionEnd::Streaming,
    ] {
        let message = live_tail::end(end, "over");
        let expected = json!({"message": "over"});
        assert_eq!(document("exception", end.name(), &message), expected);
    }
    assert_eq!(
        event_stream::CONTENT_TYPE,
        "application/vnd.amazon.eventstream"
    );
}
