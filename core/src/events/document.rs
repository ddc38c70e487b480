//! What those are sent whom a function names for the end of its events: invocation records for destinations, attributes of
//! messages for dead-letter queues. Who sends them, and how each service wraps them, is not here.

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::retry::Condition;
use crate::error::{Error, ErrorCode, Result};
use crate::ids::{UnixMs, Version};
use crate::limits::DEAD_LETTER_MESSAGE_MAX_BYTES;
use crate::name::FunctionName;
use crate::telemetry::event::timestamp;

/// `source` of events that an event bus is sent.
pub const BUS_SOURCE: &str = "lambda";

/// `detail-type` of events that an event bus is sent.
pub fn bus_detail_type(condition: Condition) -> &'static str {
    if condition.is_failure() {
        "Lambda Function Invocation Result - Failure"
    } else {
        "Lambda Function Invocation Result - Success"
    }
}

/// The end of an event.
#[derive(Clone, Copy, Debug)]
pub struct Invocation<'a> {
    /// When it ended.
    pub at: UnixMs,
    /// The same for all attempts.
    pub request_id: &'a str,
    /// With the qualifier asked for: [`super::EventEntry::arn`].
    pub function_arn: &'a str,
    /// How it ended.
    pub condition: Condition,
    /// Attempts that counted, after the decision: zero for an event that was never tried.
    pub attempts: u32,
    /// The event.
    pub payload: &'a [u8],
    /// The last answer of the function, if it was ever run.
    pub response: Option<Response<'a>>,
}

/// An answer of a function.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// The version that ran.
    pub executed_version: Version,
    /// `Unhandled`, if it failed.
    pub function_error: Option<&'a str>,
    /// What it answered.
    pub payload: &'a [u8],
}

/// Status of an answer of a function, whether or not it failed: "Function errors are HTTP 200".
const ANSWERED: u16 = 200;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    version: &'static str,
    timestamp: String,
    request_context: RequestContext<'a>,
    request_payload: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_context: Option<ResponseContext<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_payload: Option<Box<RawValue>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext<'a> {
    request_id: &'a str,
    function_arn: &'a str,
    condition: &'static str,
    approximate_invoke_count: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResponseContext<'a> {
    status_code: u16,
    executed_version: Version,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_error: Option<&'a str>,
}

impl Invocation<'_> {
    /// The invocation record, JSON. What does not say anything is left out: `functionError` of a success, and all of the
    /// response where there was none.
    pub fn record(&self) -> Result<String> {
        let response = self.response.as_ref();
        let record = Record {
            version: "1.0",
            timestamp: timestamp(self.at.0),
            request_context: RequestContext {
                request_id: self.request_id,
                function_arn: self.function_arn,
                condition: self.condition.as_str(),
                approximate_invoke_count: self.attempts,
            },
            request_payload: embedded(self.payload)?,
            response_context: response.map(|response| ResponseContext {
                status_code: ANSWERED,
                executed_version: response.executed_version,
                function_error: response.function_error,
            }),
            response_payload: response.map(|r| embedded(r.payload)).transpose()?,
        };
        serde_json::to_string(&record).map_err(|error| unwritable(&error))
    }
}

/// A payload as part of a document, number for number as it was sent. One that is no JSON becomes a string; nothing, null.
fn embedded(payload: &[u8]) -> Result<Box<RawValue>> {
    if payload.is_empty() {
        return to_raw_value(&()).map_err(|error| unwritable(&error));
    }
    if let Ok(json) = serde_json::from_slice::<&RawValue>(payload) {
        return Ok(json.to_owned());
    }
    to_raw_value(&String::from_utf8_lossy(payload)).map_err(|error| unwritable(&error))
}

fn unwritable(error: &serde_json::Error) -> Error {
    let text = format!("an invocation record cannot be written: {error}");
    Error::new(ErrorCode::Internal, text)
}

/// Key of the object that a bucket gets: `aws/lambda/async/<function>/<day>/<time>-<random>`.
pub fn object_key(function: &FunctionName, at: UnixMs, random: &str) -> String {
    // 2019-11-24T21:52:47.333Z
    let time = timestamp(at.0);
    let (day, time) = time.split_once('T').unwrap_or_default();
    let seconds = time.split('.').next().unwrap_or_default().replace(':', ".");
    let folder = day.replace('-', "/");
    format!("aws/lambda/async/{function}/{folder}/{day}T{seconds}-{random}")
}

/// Why an event became a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// "RequestID (String): The ID of the invocation request."
    pub request_id: String,
    /// "ErrorCode (Number): The HTTP status code." That of the answer, which a function error has too.
    pub error_code: u16,
    /// "ErrorMessage (String): The first 1 KB of the error message."
    pub error_message: String,
}

/// One attribute of a message, as SQS and SNS have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageAttribute {
    /// Its name.
    pub name: &'static str,
    /// `String` or `Number`.
    pub data_type: &'static str,
    /// Its `StringValue`.
    pub value: String,
}

impl DeadLetter {
    /// Of an event whose function failed for good; `response` is its last answer.
    pub fn of_function_error(request_id: &str, response: &[u8]) -> Self {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Failure {
            error_message: String,
        }
        let message = match serde_json::from_slice::<Failure>(response) {
            Ok(failure) => failure.error_message,
            // A runtime may report a failure in any form.
            Err(_) => String::from_utf8_lossy(response).into_owned(),
        };
        Self::new(request_id, ANSWERED, &message)
    }

    /// Of an event that ended without its function: the status and text that a client would have been answered.
    pub fn new(request_id: &str, error_code: u16, message: &str) -> Self {
        let end = message.floor_char_boundary(DEAD_LETTER_MESSAGE_MAX_BYTES);
        let kept = message.get(..end).unwrap_or_default();
        // Queues take no attribute without a value.
        let kept = if kept.is_empty() { "Unknown" } else { kept };
        Self {
            request_id: request_id.to_owned(),
            error_code,
            error_message: kept.to_owned(),
        }
    }

    /// The attributes of the message, whose body is the event as it was sent.
    pub fn attributes(&self) -> [MessageAttribute; 3] {
        let attribute = |name, data_type, value| MessageAttribute {
            name,
            data_type,
            value,
        };
        [
            attribute("RequestID", "String", self.request_id.clone()),
            attribute("ErrorCode", "Number", self.error_code.to_string()),
            attribute("ErrorMessage", "String", self.error_message.clone()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:lambda:eu-west-1:123456789012:function:f:$LATEST";

    fn invocation(condition: Condition, response: Option<Response<'_>>) -> Invocation<'_> {
        Invocation {
            at: UnixMs(1_574_632_367_333),
            request_id: "8ea123e4",
            function_arn: ARN,
            condition,
            attempts: u32::from(response.is_some()) * 3,
            payload: br#"{"big":12345678901234567890, "f":1.10}"#,
            response,
        }
    }

    fn response<'a>(function_error: Option<&'a str>, payload: &'a [u8]) -> Option<Response<'a>> {
        Some(Response {
            executed_version: Version::Latest,
            function_error,
            payload,
        })
    }

    fn head(condition: &str, count: u32) -> String {
        format!(
            r#"{{"version":"1.0","timestamp":"2019-11-24T21:52:47.333Z","requestContext":{{"requestId":"8ea123e4","functionArn":"{ARN}","condition":"{condition}","approximateInvokeCount":{count}}},"requestPayload":{{"big":12345678901234567890, "f":1.10}}"#
        )
    }

    /// Members and their order as recorded from AWS.
    #[test]
    fn records_are_as_aws_writes_them() {
        let failed = br#"{"errorMessage":"no","errorType":"Exception"}"#;
        let table = [
            (
                invocation(Condition::Success, response(None, b"null")),
                head("Success", 3)
                    + r#","responseContext":{"statusCode":200,"executedVersion":"$LATEST"},"responsePayload":null}"#,
            ),
            (
                invocation(
                    Condition::RetriesExhausted,
                    response(Some("Unhandled"), failed),
                ),
                head("RetriesExhausted", 3)
                    + r#","responseContext":{"statusCode":200,"executedVersion":"$LATEST","functionError":"Unhandled"},"responsePayload":{"errorMessage":"no","errorType":"Exception"}}"#,
            ),
            (
                invocation(Condition::EventAgeExceeded, None),
                head("EventAgeExceeded", 0) + "}",
            ),
            (
                invocation(Condition::ZeroReservedConcurrency, None),
                head("ZeroReservedConcurrency", 0) + "}",
            ),
        ];
        for (invocation, wanted) in table {
            assert_eq!(invocation.record().as_deref(), Ok(wanted.as_str()));
        }
    }

    #[test]
    fn objects_are_filed_by_day() {
        let name = "my-function".parse().unwrap();
        assert_eq!(
            object_key(&name, UnixMs(1_574_632_367_333), "8ea1"),
            "aws/lambda/async/my-function/2019/11/24/2019-11-24T21.52.47-8ea1"
        );
    }

    #[test]
    fn what_is_no_json_becomes_a_string_and_nothing_null() {
        let table: [(&[u8], &str); 5] = [
            (b"", "null"),
            (b"[1]", "[1]"),
            (b"plain \"text\"", r#""plain \"text\"""#),
            (b"{} {}", r#""{} {}""#),
            (b"\xff", "\"\u{fffd}\""),
        ];
        for (payload, wanted) in table {
            let json = embedded(payload).expect("text can be written");
            assert_eq!(json.get(), wanted);
        }
    }

    #[test]
    fn attributes_of_dead_letters_are_as_aws_sends_them() {
        let shown =
            |letter: DeadLetter| letter.attributes().map(|a| (a.name, a.data_type, a.value));
        let wanted = |code: &str, message: &str| {
            [
                ("RequestID", "String", "r".to_owned()),
                ("ErrorCode", "Number", code.to_owned()),
                ("ErrorMessage", "String", message.to_owned()),
            ]
        };
        let of = |response: &[u8]| shown(DeadLetter::of_function_error("r", response));
        let answer = br#"{"errorMessage":"Test exception","errorType":"Exception"}"#;
        assert_eq!(of(answer), wanted("200", "Test exception"));
        assert_eq!(of(b"\"as it likes\""), wanted("200", "\"as it likes\""));
        assert_eq!(of(b""), wanted("200", "Unknown"));
        let throttled = DeadLetter::new("r", 429, "Rate Exceeded.");
        assert_eq!(shown(throttled), wanted("429", "Rate Exceeded."));
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let letter = DeadLetter::new("r", 200, &"\u{20ac}".repeat(400));
        assert_eq!(letter.error_message, "\u{20ac}".repeat(341));
    }

    #[test]
    fn an_event_bus_is_told_by_its_detail_type() {
        for condition in [
            Condition::RetriesExhausted,
            Condition::EventAgeExceeded,
            Condition::ZeroReservedConcurrency,
        ] {
            assert!(bus_detail_type(condition).ends_with("Failure"));
        }
        assert!(bus_detail_type(Condition::Success).ends_with("Success"));
    }
}
