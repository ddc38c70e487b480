//! From Hearth's errors to those of IAM and STS. What a code looks like on the wire is `hearth_aws_api`'s.

use hearth_aws_api::protocol::query::{QueryError, QueryErrorCode};
use hearth_core::error::{Error, ErrorCode};

/// An error of the core as AWS's.
pub(super) fn query_error(error: Error) -> QueryError {
    let code = match error.code {
        ErrorCode::AccessDenied => QueryErrorCode::AccessDenied,
        ErrorCode::AlreadyExists => QueryErrorCode::EntityAlreadyExists,
        ErrorCode::DeleteConflict => QueryErrorCode::DeleteConflict,
        ErrorCode::InvalidParameterValue => QueryErrorCode::InvalidInput,
        ErrorCode::LimitExceeded | ErrorCode::RequestTooLarge => QueryErrorCode::LimitExceeded,
        ErrorCode::MalformedPolicy => QueryErrorCode::MalformedPolicyDocument,
        ErrorCode::NotFound => QueryErrorCode::NoSuchEntity,
        ErrorCode::NotImplemented => QueryErrorCode::NotImplemented,
        ErrorCode::Throttled => QueryErrorCode::Throttling,
        ErrorCode::Unavailable => QueryErrorCode::ServiceUnavailable,
        // Of functions alone.
        ErrorCode::CodeSigningConfigNotFound
        | ErrorCode::CodeStorageExceeded
        | ErrorCode::CodeVerificationFailed
        | ErrorCode::Internal
        | ErrorCode::InvalidRequestContent
        | ErrorCode::InvalidZipFile
        | ErrorCode::PolicyTooLong
        | ErrorCode::PreconditionFailed
        | ErrorCode::ResourceConflict
        | ErrorCode::ResourceNotReady => QueryErrorCode::ServiceFailure,
    };
    QueryError::new(code, error.message)
}

/// A controller answered something else than was asked.
pub(super) fn unexpected() -> QueryError {
    let text = "The cluster gave an unexpected answer.";
    QueryError::new(QueryErrorCode::ServiceFailure, text)
}
