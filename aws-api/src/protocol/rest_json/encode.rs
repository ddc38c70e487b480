//! Outputs and errors to responses. The Date header is the HTTP server's job.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use serde_json::{Map, Value};

use crate::error::ApiError;
use crate::operation::{OperationSpec, Output};
use crate::shape::{Location, Shape};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// The response of a success.
pub(crate) fn encode_output<T: Output>(
    spec: &OperationSpec,
    output: &T,
    request_id: &str,
) -> Response<Bytes> {
    try_encode(spec, output, request_id).unwrap_or_else(|error| encode_error(&error, request_id))
}

fn try_encode<T: Output>(
    spec: &OperationSpec,
    output: &T,
    request_id: &str,
) -> Result<Response<Bytes>, ApiError> {
    let status = StatusCode::from_u16(spec.success)
        .expect("the table holds statuses, a test reads them all");
    let in_body = T::SHAPE
        .members()
        .iter()
        .all(|member| member.location == Location::Body);
    if in_body {
        // The common case, straight to text in the model's order of members.
        let body = serde_json::to_vec(output).map_err(unserialisable)?;
        return Ok(respond(status, request_id, body.into()));
    }
    let value = serde_json::to_value(output).map_err(unserialisable)?;
    let Value::Object(members) = value else {
        return Err(ApiError::internal_failure("the output is no structure"));
    };
    encode_bound(T::SHAPE, members, output.payload(), status, request_id)
}

fn unserialisable(error: serde_json::Error) -> ApiError {
    ApiError::internal_failure("the output can not be serialised").with_source(error)
}

fn encode_bound(
    shape: &Shape,
    mut members: Map<String, Value>,
    payload: Option<Bytes>,
    mut status: StatusCode,
    request_id: &str,
) -> Result<Response<Bytes>, ApiError> {
    let mut headers = Vec::new();
    let mut structured = None;
    let mut has_body_members = false;
    for member in shape.members() {
        match member.location {
            Location::Body => has_body_members = true,
            Location::Payload => structured = members.remove(member.name),
            Location::StatusCode => {
                let code = members.remove(member.name).as_ref().and_then(Value::as_u64);
                let code = code.and_then(|code| u16::try_from(code).ok());
                status = code
                    .and_then(|c| StatusCode::from_u16(c).ok())
                    .unwrap_or(status);
            }
            Location::Header(wire) => {
                if let Some(value) = members.remove(member.name) {
                    headers.push((HeaderName::from_static(wire), header_value(&value)?));
                }
            }
            Location::Query(_) | Location::Uri(_) => {}
        }
    }
    let body = match (payload, structured) {
        (Some(payload), _) => payload,
        (None, Some(value)) => value.to_string().into(),
        (None, None) if has_body_members && status != StatusCode::NO_CONTENT => {
            Value::Object(members).to_string().into()
        }
        (None, None) => Bytes::new(),
    };
    let mut response = respond(status, request_id, body);
    response.headers_mut().extend(headers);
    Ok(response)
}

fn header_value(value: &Value) -> Result<HeaderValue, ApiError> {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    HeaderValue::from_str(&text).map_err(|error| {
        ApiError::internal_failure("an output member does not fit into a header").with_source(error)
    })
}

/// A response with the headers that all have; JSON unless the body is empty.
pub(crate) fn respond(status: StatusCode, request_id: &str, body: Bytes) -> Response<Bytes> {
    let is_empty = body.is_empty();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if !is_empty {
        headers.insert(CONTENT_TYPE, JSON);
    }
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

/// The response of a failure, in the service's casing.
pub fn encode_error(error: &ApiError, request_id: &str) -> Response<Bytes> {
    let shape = error.code().shape();
    let mut body = Map::new();
    if let Some(reason) = error.reason().filter(|_| shape.has_reason) {
        body.insert("Reason".to_owned(), reason.into());
    }
    if let Some(error_type) = error.error_type() {
        body.insert("Type".to_owned(), error_type.into());
    }
    body.insert(shape.message_member.to_owned(), error.message().into());
    let body = Value::Object(body).to_string();
    let mut response = respond(error.status(), request_id, body.into());
    let headers = response.headers_mut();
    headers.insert(ERROR_TYPE, HeaderValue::from_static(shape.code));
    if let Some(seconds) = error.retry_after_seconds() {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    response
}
