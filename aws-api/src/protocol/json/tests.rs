//! The error table and what a front says in Lambda's words.

use super::*;
use crate::error::{ApiError, ErrorCode};

#[test]
fn an_error_names_its_type_and_has_its_status() {
    let error = JsonError::new(
        JsonErrorCode::ResourceNotFoundException,
        "The specified log group does not exist.",
    );
    let response = encode_error(&error, "id-1");
    assert_eq!(response.status(), 400);
    let headers = response.headers();
    assert_eq!(headers["content-type"], "application/x-amz-json-1.1");
    assert_eq!(headers["x-amzn-requestid"], "id-1");
    assert_eq!(
        response.body(),
        r#"{"__type":"ResourceNotFoundException","message":"The specified log group does not exist."}"#
    );
}

/// A sender's fault is 400 unless its code says more; what is the service's begins with 5.
#[test]
fn every_code_has_its_own_row_with_its_status() {
    for code in JsonErrorCode::ALL {
        assert_eq!(format!("{code:?}"), code.shape().code);
        let expected = match code {
            JsonErrorCode::InternalFailure | JsonErrorCode::ServiceUnavailableException => 500,
            JsonErrorCode::NotImplemented => 501,
            JsonErrorCode::RequestEntityTooLargeException => 413,
            JsonErrorCode::RequestTimeoutException => 408,
            _ => 400,
        };
        assert_eq!(JsonError::new(code, "").status(), expected, "{code:?}");
    }
}

#[test]
fn what_a_front_refuses_is_said_in_the_words_of_the_protocol() {
    let say = |code| JsonError::from(ApiError::new(code, "text"));
    for code in [
        ErrorCode::AccessDeniedException,
        ErrorCode::ExpiredTokenException,
        ErrorCode::IncompleteSignatureException,
        ErrorCode::InvalidSignatureException,
        ErrorCode::MissingAuthenticationTokenException,
        ErrorCode::NotImplemented,
        ErrorCode::RequestEntityTooLargeException,
        ErrorCode::RequestTimeoutException,
        ErrorCode::SerializationException,
        ErrorCode::ServiceUnavailableException,
        ErrorCode::ThrottlingException,
        ErrorCode::UnknownOperationException,
        ErrorCode::UnrecognizedClientException,
        ErrorCode::ValidationException,
    ] {
        assert_eq!(say(code).code().shape().code, code.shape().code);
        assert_eq!(say(code).message(), "text");
    }
    let other = say(ErrorCode::ResourceConflictException);
    assert_eq!(other.code(), JsonErrorCode::InternalFailure);
}
