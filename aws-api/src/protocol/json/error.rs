//! What a client of a JSON service is told when a request fails.

use std::error::Error;

use http::StatusCode;

use super::JsonErrorCode;
use crate::error::{ApiError, ErrorCode};

/// The static part of an error: a row of the generated table.
#[derive(Debug, PartialEq, Eq)]
pub struct JsonErrorShape {
    /// As in the body's `__type`.
    pub code: &'static str,
    /// HTTP status.
    pub status: u16,
}

/// An error as the client sees it.
#[derive(Debug, thiserror::Error)]
#[error("{}: {message}", code.shape().code)]
pub struct JsonError {
    code: JsonErrorCode,
    message: String,
    #[source]
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl JsonError {
    pub fn new(code: JsonErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            source: None,
        }
    }

    /// Keeps the cause for the log; it is never sent.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub fn code(&self) -> JsonErrorCode {
        self.code
    }

    /// The HTTP status of the code.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.code.shape().status)
            .expect("the table holds statuses, a test reads them all")
    }

    /// The text for the client.
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// What a gateway's front says in Lambda's words, in those of the JSON protocol.
impl From<ApiError> for JsonError {
    fn from(error: ApiError) -> Self {
        let code = match error.code() {
            ErrorCode::AccessDeniedException => JsonErrorCode::AccessDeniedException,
            ErrorCode::ExpiredTokenException => JsonErrorCode::ExpiredTokenException,
            ErrorCode::IncompleteSignatureException => JsonErrorCode::IncompleteSignatureException,
            ErrorCode::InvalidSignatureException => JsonErrorCode::InvalidSignatureException,
            ErrorCode::MissingAuthenticationTokenException => {
                JsonErrorCode::MissingAuthenticationTokenException
            }
            ErrorCode::NotImplemented => JsonErrorCode::NotImplemented,
            ErrorCode::RequestEntityTooLargeException | ErrorCode::RequestTooLargeException => {
                JsonErrorCode::RequestEntityTooLargeException
            }
            ErrorCode::RequestTimeoutException => JsonErrorCode::RequestTimeoutException,
            ErrorCode::SerializationException | ErrorCode::InvalidRequestContentException => {
                JsonErrorCode::SerializationException
            }
            ErrorCode::ServiceUnavailableException => JsonErrorCode::ServiceUnavailableException,
            ErrorCode::ThrottlingException | ErrorCode::TooManyRequestsException => {
                JsonErrorCode::ThrottlingException
            }
            ErrorCode::UnknownOperationException => JsonErrorCode::UnknownOperationException,
            ErrorCode::UnrecognizedClientException => JsonErrorCode::UnrecognizedClientException,
            ErrorCode::ValidationException => JsonErrorCode::ValidationException,
            // Of Lambda alone: no front says so.
            _ => JsonErrorCode::InternalFailure,
        };
        Self::new(code, error.message()).with_source(error)
    }
}
