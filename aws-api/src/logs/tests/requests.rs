//! Bodies as botocore 1.44.5 writes them, each with every member of its input.

use std::fmt::Debug;

use http::Request;
use serde_json::Value;

use super::*;

/// Operation and body, alphabetically.
const RECORDED: [(&str, &str); 18] = [
    (
        "CreateLogGroup",
        r#"{"logGroupName": "/aws/lambda/f", "tags": {"team": "\u00e9"}, "logGroupClass": "STANDARD", "deletionProtectionEnabled": false, "kmsKeyId": "k"}"#,
    ),
    (
        "CreateLogStream",
        r#"{"logGroupName": "/aws/lambda/f", "logStreamName": "2023/11/14/[$LATEST]0123456789abcdef"}"#,
    ),
    ("DeleteLogGroup", r#"{"logGroupName": "/aws/lambda/f"}"#),
    (
        "DeleteLogStream",
        r#"{"logGroupName": "/aws/lambda/f", "logStreamName": "2023/11/14/[$LATEST]0123456789abcdef"}"#,
    ),
    (
        "DeleteRetentionPolicy",
        r#"{"logGroupName": "/aws/lambda/f"}"#,
    ),
    (
        "DescribeLogGroups",
        r#"{"accountIdentifiers": ["000000000000"], "logGroupNamePrefix": "/aws/", "logGroupNamePattern": "aws", "nextToken": "t", "limit": 50, "includeLinkedAccounts": true, "logGroupClass": "STANDARD", "logGroupIdentifiers": ["arn:aws:logs:us-east-1:000000000000:log-group:/aws/lambda/f"]}"#,
    ),
    (
        "DescribeLogStreams",
        r#"{"logGroupName": "/aws/lambda/f", "logGroupIdentifier": "arn:aws:logs:us-east-1:000000000000:log-group:/aws/lambda/f", "logStreamNamePrefix": "2023", "orderBy": "LastEventTime", "descending": true, "nextToken": "t", "limit": 5}"#,
    ),
    (
        "FilterLogEvents",
        r#"{"logGroupName": "/aws/lambda/f", "logGroupIdentifier": "arn:aws:logs:us-east-1:000000000000:log-group:/aws/lambda/f", "logStreamNames": ["2023/11/14/[$LATEST]0123456789abcdef"], "logStreamNamePrefix": "2023", "startTime": 1, "endTime": 1700000000000, "filterPattern": "{ $.level = \"ERROR\" }", "nextToken": "t", "limit": 1, "interleaved": true, "unmask": true, "startFromHead": true}"#,
    ),
    (
        "GetLogEvents",
        r#"{"logGroupName": "/aws/lambda/f", "logGroupIdentifier": "arn:aws:logs:us-east-1:000000000000:log-group:/aws/lambda/f", "logStreamName": "2023/11/14/[$LATEST]0123456789abcdef", "startTime": 0, "endTime": 1700000000000, "nextToken": "f/1", "limit": 10000, "startFromHead": true, "unmask": false}"#,
    ),
    (
        "ListTagsForResource",
        r#"{"resourceArn": "arn:aws:logs:us-east-1:000000000000:log-group:/aws/lambda/f"}"#,
    ),
    ("ListTagsLogGroup", r#"{"logGroupName": "/aws/lambda/f"}"#),
    (
        "PutLogEvents",
        r#"{"logGroupName": "/aws/lambda/f", "logStreamName": "2023/11/14/[$LATEST]0123456789abcdef", "logEvents": [{"timestamp": 1700000000000, "message": "a\n\"b\" \u00e9"}, {"timestamp": 1700000000001, "message": "\ud83d\ude00"}], "sequenceToken": "1", "entity": {"keyAttributes": {"Type": "Service", "Name": "f"}, "attributes": {"a": "b"}}}"#,
    ),
    (
        "PutRetentionPolicy",
        r#"{"logGroupName": "/aws/lambda/f", "retentionInDays": 7}"#,
    ),
    (
        "StartLiveTail",
        r#"{"logGroupIdentifiers": ["arn:aws:logs:us-east-1:000000000000:log-group:/aws/lambda/f"], "logStreamNames": ["2023/11/14/[$LATEST]0123456789abcdef"], "logStreamNamePrefixes": ["2023"], "logEventFilterPattern": "ERROR"}"#,
    ),
    (
        "TagLogGroup",
        r#"{"logGroupName": "/aws/lambda/f", "tags": {"a": "b"}}"#,
    ),
    (
        "TagResource",
        r#"{"resourceArn": "arn:aws:logs:us-east-1:000000000000:log-group:/aws/lambda/f", "tags": {"a": "", "b c": "d"}}"#,
    ),
    (
        "UntagLogGroup",
        r#"{"logGroupName": "/aws/lambda/f", "tags": ["a"]}"#,
    ),
    (
        "UntagResource",
        r#"{"resourceArn": "arn:aws:logs:us-east-1:000000000000:log-group:/aws/lambda/f", "tagKeys": ["a"]}"#,
    ),
];

fn recorded(operation: Operation) -> Bytes {
    let mut all = RECORDED.iter();
    let found = all.find(|(name, _)| *name == operation.name());
    Bytes::from_static(found.unwrap().1.as_bytes())
}

/// The head of a request, as botocore writes it.
fn head(operation: &str) -> Parts {
    let request = Request::post("/")
        .header("X-Amz-Target", format!("Logs_20140328.{operation}"))
        .header("Content-Type", "application/x-amz-json-1.1");
    request.body(()).unwrap().into_parts().0
}

#[test]
fn every_request_of_botocore_is_routed_and_has_all_members_of_the_model() {
    let names = RECORDED.iter().map(|(name, _)| *name);
    assert!(names.eq(typed().map(Operation::name)));
    for (name, body) in RECORDED {
        let operation = route(&head(name)).unwrap();
        assert_eq!(operation.name(), name);
        let members = members(operation, &Bytes::from_static(body.as_bytes())).unwrap();
        let of_model = operation.spec().input.unwrap().members();
        assert_eq!(members.len(), of_model.len(), "{name}");
        assert!(of_model.iter().all(|m| members.contains_key(m.name)));
    }
}

/// A typed input. All its members were sent: none of them may be absent, at any depth.
fn arrived<T: Input + Debug>(operation: Operation) -> T {
    let input: T = decode(operation, &recorded(operation)).unwrap();
    let shown = format!("{input:?}");
    assert!(!shown.contains("None"), "{shown}");
    input
}

#[test]
fn every_member_arrives_in_the_typed_input() {
    use Operation as O;
    arrived::<CreateLogGroupRequest>(O::CreateLogGroup);
    arrived::<CreateLogStreamRequest>(O::CreateLogStream);
    arrived::<DeleteLogGroupRequest>(O::DeleteLogGroup);
    arrived::<DeleteLogStreamRequest>(O::DeleteLogStream);
    arrived::<DeleteRetentionPolicyRequest>(O::DeleteRetentionPolicy);
    arrived::<DescribeLogGroupsRequest>(O::DescribeLogGroups);
    arrived::<DescribeLogStreamsRequest>(O::DescribeLogStreams);
    arrived::<ListTagsForResourceRequest>(O::ListTagsForResource);
    arrived::<ListTagsLogGroupRequest>(O::ListTagsLogGroup);
    arrived::<PutRetentionPolicyRequest>(O::PutRetentionPolicy);
    arrived::<StartLiveTailRequest>(O::StartLiveTail);
    arrived::<TagLogGroupRequest>(O::TagLogGroup);
    arrived::<TagResourceRequest>(O::TagResource);
    arrived::<UntagLogGroupRequest>(O::UntagLogGroup);
    arrived::<UntagResourceRequest>(O::UntagResource);
    let get = arrived::<GetLogEventsRequest>(O::GetLogEvents);
    assert_eq!((get.start_time, get.limit), (Some(0), Some(10_000)));
    let filter = arrived::<FilterLogEventsRequest>(O::FilterLogEvents);
    let pattern = filter.filter_pattern.as_deref();
    assert_eq!(pattern, Some(r#"{ $.level = "ERROR" }"#));
    let put = arrived::<PutLogEventsRequest>(O::PutLogEvents);
    let event = |timestamp, message: &str| InputLogEvent {
        timestamp: Some(timestamp),
        message: Some(message.to_owned()),
    };
    let events = vec![
        event(1_700_000_000_000, "a\n\"b\" é"),
        event(1_700_000_000_001, "😀"),
    ];
    assert_eq!(put.log_events, Some(events));
}

#[test]
fn what_names_no_operation_is_unknown() {
    let refused = |parts: &Parts| {
        let error = route(parts).unwrap_err();
        assert_eq!(error.code(), JsonErrorCode::UnknownOperationException);
        assert_eq!(error.status(), 400);
    };
    for name in ["Levitate", "", "createLogGroup", "CreateLogGroup.x"] {
        refused(&head(name));
    }
    let good = head("CreateLogGroup");
    assert!(is_addressed(&good) && route(&good).is_ok());
    for target in [
        "Logs_20140328",
        "Logs_20140328CreateLogGroup",
        "DynamoDB_20120810.ListTables",
    ] {
        let mut parts = good.clone();
        parts
            .headers
            .insert("x-amz-target", target.parse().unwrap());
        refused(&parts);
        assert!(!is_addressed(&parts), "{target}");
    }
    let mut parts = good.clone();
    parts.headers.remove("x-amz-target");
    refused(&parts);
    let mut parts = good.clone();
    parts.method = http::Method::GET;
    refused(&parts);
    let mut parts = good;
    parts.uri = "/2015-03-31/functions".parse().unwrap();
    refused(&parts);
}

#[test]
fn the_content_type_is_the_protocol_s() {
    let with = |content_type: &str| {
        let mut parts = head("DescribeLogGroups");
        let value = content_type.parse().unwrap();
        parts.headers.insert("content-type", value);
        route(&parts)
    };
    for good in [
        "application/x-amz-json-1.1; charset=utf-8",
        "Application/X-AMZ-JSON-1.1",
    ] {
        assert!(with(good).is_ok(), "{good}");
    }
    for bad in [
        "application/json",
        "application/x-amz-json-1.0",
        "application/x-www-form-urlencoded",
        "",
    ] {
        let error = with(bad).unwrap_err();
        assert_eq!(
            error.code(),
            JsonErrorCode::UnknownOperationException,
            "{bad}"
        );
    }
    let mut parts = head("DescribeLogGroups");
    parts.headers.remove("content-type");
    assert!(route(&parts).is_err());
}

#[test]
fn what_is_no_json_or_of_a_wrong_type_is_a_serialization_error() {
    for (body, text) in [
        ("", "The request has no body."),
        (" \n", "The request has no body."),
        (
            "{",
            "Could not parse request body into json: Unexpected end-of-input",
        ),
        (
            "word",
            "Could not parse request body into json: Unrecognized token 'word'",
        ),
        ("null", "Unexpected field type"),
        ("7", "Unexpected field type"),
        ("[]", "Unexpected field type"),
        (
            r#"{"limit":"5"}"#,
            "STRING_VALUE can not be converted to an Integer",
        ),
        (
            r#"{"limit":3000000000}"#,
            "NUMBER_VALUE can not be converted to an Integer",
        ),
        (
            r#"{"startTime":1.5}"#,
            "NUMBER_VALUE can not be converted to a Long",
        ),
        (
            r#"{"logGroupName":7}"#,
            "NUMBER_VALUE can not be converted to a String",
        ),
        (
            r#"{"unmask":"true"}"#,
            "STRING_VALUE can not be converted to a Boolean",
        ),
        (r#"{"logStreamNames":"s"}"#, "Unexpected field type"),
        (
            r#"{"filterPattern":{}}"#,
            "Start of structure or map found where not expected.",
        ),
    ] {
        let sent = Bytes::from_static(body.as_bytes());
        let operation = Operation::FilterLogEvents;
        let error = decode::<FilterLogEventsRequest>(operation, &sent).unwrap_err();
        assert_eq!(
            error.code(),
            JsonErrorCode::SerializationException,
            "{body}"
        );
        assert!(error.message().starts_with(text), "{body}: {error}");
    }
}

/// Null is absent, unknown members are ignored, and absent differs from empty.
#[test]
fn absent_null_and_empty_members_are_kept_apart() {
    let operation = Operation::FilterLogEvents;
    let body = Bytes::from_static(br#"{"limit":null,"future":[1],"filterPattern":""}"#);
    let input: FilterLogEventsRequest = decode(operation, &body).unwrap();
    let expected = FilterLogEventsRequest {
        filter_pattern: Some(String::new()),
        ..FilterLogEventsRequest::default()
    };
    assert_eq!(input, expected);
    assert_eq!(members(operation, &body).unwrap()["limit"], Value::Null);
    let put = Operation::PutLogEvents;
    let body =
        Bytes::from_static(br#"{"logGroupName":"g","logStreamName":"s","logEvents":[null]}"#);
    let error = decode::<PutLogEventsRequest>(put, &body).unwrap_err();
    assert!(error.message().contains("'logEvents.1.member'"), "{error}");
}
