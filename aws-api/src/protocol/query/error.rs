//! What a client of a query service is told when a request fails.

use http::StatusCode;

use super::QueryErrorCode;
use crate::error::{ApiError, ErrorCode};

/// The static part of an error: a row of the generated table.
#[derive(Debug, PartialEq, Eq)]
pub struct QueryErrorShape {
    /// As in `<Code>`.
    pub code: &'static str,
    /// HTTP status.
    pub status: u16,
    /// Whose fault it is: `<Type>` is `Sender` or `Receiver`.
    pub is_sender: bool,
}

/// An error as the client sees it.
#[derive(Debug, thiserror::Error)]
#[error("{}: {message}", code.shape().code)]
pub struct QueryError {
    code: QueryErrorCode,
    message: String,
}

impl QueryError {
    pub fn new(code: QueryErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    pub fn code(&self) -> QueryErrorCode {
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

/// What a gateway's front says in Lambda's words, in those of the query protocol.
impl From<ApiError> for QueryError {
    fn from(error: ApiError) -> Self {
        let code = match error.code() {
            ErrorCode::AccessDeniedException => QueryErrorCode::AccessDenied,
            ErrorCode::ExpiredTokenException => QueryErrorCode::ExpiredToken,
            ErrorCode::IncompleteSignatureException => QueryErrorCode::IncompleteSignature,
            ErrorCode::InvalidSignatureException => QueryErrorCode::SignatureDoesNotMatch,
            ErrorCode::MissingAuthenticationTokenException => {
                QueryErrorCode::MissingAuthenticationToken
            }
            ErrorCode::NotImplemented => QueryErrorCode::NotImplemented,
            ErrorCode::RequestEntityTooLargeException | ErrorCode::RequestTooLargeException => {
                QueryErrorCode::RequestEntityTooLarge
            }
            ErrorCode::RequestTimeoutException => QueryErrorCode::RequestTimeout,
            ErrorCode::ServiceUnavailableException => QueryErrorCode::ServiceUnavailable,
            ErrorCode::ThrottlingException | ErrorCode::TooManyRequestsException => {
                QueryErrorCode::Throttling
            }
            ErrorCode::UnknownOperationException => QueryErrorCode::InvalidAction,
            ErrorCode::UnrecognizedClientException => QueryErrorCode::InvalidClientTokenId,
            ErrorCode::SerializationException | ErrorCode::ValidationException => {
                QueryErrorCode::ValidationError
            }
            // Of Lambda alone: no front says so.
            _ => QueryErrorCode::InternalFailure,
        };
        Self::new(code, error.message())
    }
}
