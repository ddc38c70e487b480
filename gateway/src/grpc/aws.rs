//! A gRPC method as a request to AWS's API within this process, so that both take the same checks and handlers.

use bytes::Bytes;
use hearth_aws_api::{ApiError, ErrorCode as AwsCode, lambda};
use hearth_core::ErrorCode;
use hearth_proto::status::{ERROR_CODE_KEY, grpc_code};
use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tonic::Status;
use tonic::metadata::MetadataValue;

use crate::app::App;
use crate::caller::Caller;
use crate::lambda::{Call, whole};

/// What stands in a path segment as it is.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// A name as a path segment.
pub(super) fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// Runs one operation; `body` null is an empty body. The answer's JSON, null when it has none.
pub(super) async fn call(
    app: &App,
    caller: Caller,
    method: Method,
    path: &str,
    body: &Value,
) -> Result<Value, Status> {
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .body(())
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    let (parts, ()) = request.into_parts();
    let body = if body.is_null() {
        Bytes::new()
    } else {
        body.to_string().into()
    };
    let route = lambda::route(&parts.method, &parts.uri).map_err(|error| status(&error))?;
    let request_id = app.seams.random.uuid();
    let call = Call {
        caller,
        request_id,
        route,
        parts,
        body,
    };
    let response = whole(app, &call).await.map_err(|error| status(&error))?;
    if response.body().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(response.body()).map_err(|error| Status::internal(error.to_string()))
}

/// An AWS error as a gRPC status; the exact code is in the metadata.
pub(super) fn status(error: &ApiError) -> Status {
    let code = error.code();
    let mut status = Status::new(grpc_code(core_code(error)), error.message());
    status.metadata_mut().insert(
        ERROR_CODE_KEY,
        MetadataValue::from_static(code.shape().code),
    );
    status
}

/// The class of an AWS error: by its code where there is one of its own, else by what its HTTP status says.
fn core_code(error: &ApiError) -> ErrorCode {
    match error.code() {
        AwsCode::AccessDeniedException => ErrorCode::AccessDenied,
        AwsCode::CodeStorageExceededException => ErrorCode::CodeStorageExceeded,
        AwsCode::ResourceNotReadyException => ErrorCode::ResourceNotReady,
        AwsCode::ServiceUnavailableException => ErrorCode::Unavailable,
        _ => match error.status().as_u16() {
            403 => ErrorCode::AccessDenied,
            404 => ErrorCode::NotFound,
            409 => ErrorCode::ResourceConflict,
            412 => ErrorCode::PreconditionFailed,
            429 => ErrorCode::Throttled,
            501 => ErrorCode::NotImplemented,
            503 => ErrorCode::Unavailable,
            400..=499 => ErrorCode::InvalidParameterValue,
            _ => ErrorCode::Internal,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[test]
    fn errors_keep_their_aws_code_in_the_metadata() {
        for (error, code, name) in [
            (
                ApiError::resource_not_found("x"),
                Code::NotFound,
                "ResourceNotFoundException",
            ),
            (
                ApiError::validation("x"),
                Code::InvalidArgument,
                "ValidationException",
            ),
            (
                ApiError::not_implemented("x"),
                Code::Unimplemented,
                "NotImplemented",
            ),
            (
                ApiError::too_many_requests("x"),
                Code::ResourceExhausted,
                "TooManyRequestsException",
            ),
        ] {
            let status = status(&error);
            assert_eq!(status.code(), code);
            assert_eq!(status.metadata().get(ERROR_CODE_KEY).unwrap(), name);
        }
        assert_eq!(segment("a:b/$c"), "a%3Ab%2F%24c");
    }
}
