//! Outputs and errors to responses.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use serde::Serialize;

use super::decode::JSON;
use super::{JsonError, JsonErrorCode};
use crate::operation::Output;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// The response of a success.
pub fn encode_output<T: Output>(output: &T, request_id: &str) -> Response<Bytes> {
    match serde_json::to_vec(output) {
        Ok(body) => respond(StatusCode::OK, body.into(), request_id),
        Err(error) => {
            let text = "the output can not be serialised";
            let error = JsonError::new(JsonErrorCode::InternalFailure, text).with_source(error);
            encode_error(&error, request_id)
        }
    }
}

/// The response of an operation without output.
pub fn encode_empty(request_id: &str) -> Response<Bytes> {
    respond(StatusCode::OK, Bytes::new(), request_id)
}

/// The body of a failure.
#[derive(Serialize)]
struct Failure<'a> {
    #[serde(rename = "__type")]
    code: &'static str,
    message: &'a str,
}

/// The response of a failure.
pub fn encode_error(error: &JsonError, request_id: &str) -> Response<Bytes> {
    let failure = Failure {
        code: error.code().shape().code,
        message: error.message(),
    };
    // Two texts cannot fail to be written.
    let body = serde_json::to_vec(&failure).unwrap_or_default();
    respond(error.status(), body.into(), request_id)
}

fn respond(status: StatusCode, body: Bytes, request_id: &str) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, id);
    }
    response
}
