//! Outputs and errors to XML.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use serde_json::Value;
use time::format_description::well_known::Rfc3339;

use super::{QueryError, QueryErrorCode};
use crate::operation::{Output, QueryService, QuerySpec};
use crate::shape::{Kind, Shape};
use crate::types::Timestamp;

const XML: HeaderValue = HeaderValue::from_static("text/xml");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// The response of a success.
pub fn encode_output<T: Output>(
    service: &QueryService,
    spec: &QuerySpec,
    output: &T,
    request_id: &str,
) -> Response<Bytes> {
    match serde_json::to_value(output) {
        Ok(value) => encode_members(service, spec, &value, request_id),
        Err(_) => {
            let text = "the output can not be serialised";
            let error = QueryError::new(QueryErrorCode::InternalFailure, text);
            encode_error(service, &error, request_id)
        }
    }
}

/// As [`encode_output`], of members by their names.
pub fn encode_members(
    service: &QueryService,
    spec: &QuerySpec,
    members: &Value,
    request_id: &str,
) -> Response<Bytes> {
    let mut result = String::new();
    if let Some(shape) = spec.output {
        element(&mut result, &format!("{}Result", spec.name), |out| {
            body(out, shape, members);
        });
    }
    success(service, spec, &result, request_id)
}

/// The response of an operation without output.
pub fn encode_empty(service: &QueryService, spec: &QuerySpec, request_id: &str) -> Response<Bytes> {
    success(service, spec, "", request_id)
}

fn success(
    service: &QueryService,
    spec: &QuerySpec,
    result: &str,
    request_id: &str,
) -> Response<Bytes> {
    let mut out = format!("<{}Response xmlns=\"{}\">", spec.name, service.namespace);
    out.push_str(result);
    element(&mut out, "ResponseMetadata", |out| {
        element(out, "RequestId", |out| text(out, request_id));
    });
    out.push_str(&format!("</{}Response>", spec.name));
    respond(StatusCode::OK, out, request_id)
}

/// The response of a failure.
pub fn encode_error(
    service: &QueryService,
    error: &QueryError,
    request_id: &str,
) -> Response<Bytes> {
    let shape = error.code().shape();
    let fault = if shape.is_sender {
        "Sender"
    } else {
        "Receiver"
    };
    let mut out = format!("<ErrorResponse xmlns=\"{}\">", service.namespace);
    element(&mut out, "Error", |out| {
        element(out, "Type", |out| text(out, fault));
        element(out, "Code", |out| text(out, shape.code));
        element(out, "Message", |out| text(out, error.message()));
    });
    element(&mut out, "RequestId", |out| text(out, request_id));
    out.push_str("</ErrorResponse>");
    respond(error.status(), out, request_id)
}

fn respond(status: StatusCode, body: String, request_id: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, XML);
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

fn element(out: &mut String, name: &str, inside: impl FnOnce(&mut String)) {
    out.push('<');
    out.push_str(name);
    out.push('>');
    inside(out);
    out.push_str("</");
    out.push_str(name);
    out.push('>');
}

/// A value in the model's order of members; what is absent is left out.
fn body(out: &mut String, shape: &'static Shape, value: &Value) {
    match (&shape.kind, value) {
        (Kind::Structure { members }, Value::Object(given)) => {
            for member in *members {
                if let Some(value) = given.get(member.name) {
                    element(out, member.name, |out| body(out, member.shape, value));
                }
            }
        }
        (Kind::List { member, .. }, Value::Array(elements)) => {
            for value in elements {
                element(out, "member", |out| body(out, member, value));
            }
        }
        (Kind::Timestamp, Value::Number(seconds)) => {
            let time = seconds.as_f64().and_then(Timestamp::from_seconds);
            text(out, &time.map(rfc3339).unwrap_or_default());
        }
        (_, Value::String(string)) => text(out, string),
        (_, other) => text(out, &other.to_string()),
    }
}

/// `2030-01-02T03:04:05Z`: IAM's and STS's times are whole seconds.
fn rfc3339(time: Timestamp) -> String {
    let whole = time.0.replace_nanosecond(0).unwrap_or(time.0);
    whole.format(&Rfc3339).unwrap_or_default()
}

/// Text as it stands in an element; what XML cannot hold is replaced.
fn text(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // A reader makes a line feed of it otherwise.
            '\r' => out.push_str("&#xD;"),
            '\t' | '\n' => out.push(c),
            c if c < ' ' || c == '\u{FFFE}' || c == '\u{FFFF}' => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
}
