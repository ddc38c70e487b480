//! What a client is told when a request fails. Codes and statuses are in the generated table; the
//! wire form is `protocol::rest_json::encode_error`.

use std::error::Error;

pub use crate::generated::lambda::errors::ErrorCode;

/// The static part of an error: a row of the generated table.
#[derive(Debug, PartialEq, Eq)]
pub struct ErrorShape {
    /// The code, as in `X-Amzn-ErrorType`.
    pub code: &'static str,
    /// HTTP status.
    pub status: u16,
    /// Name of the message member: `message` or `Message`.
    pub message_member: &'static str,
    /// Value of the body's `Type`, absent where AWS sends none.
    pub error_type: Option<&'static str>,
    /// Whether the body may carry `Reason`.
    pub has_reason: bool,
    /// Whether the service model lists the error; the others come from AWS's front ends.
    pub in_model: bool,
}

/// An error as the client sees it. One constructor per code is generated, e.g.
/// `ApiError::resource_not_found(message)`.
#[derive(Debug, thiserror::Error)]
#[error("{}: {message}", code.shape().code)]
pub struct ApiError {
    code: ErrorCode,
    message: String,
    reason: Option<&'static str>,
    retry_after_seconds: Option<u32>,
    typed: bool,
    #[source]
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl ApiError {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            reason: None,
            retry_after_seconds: None,
            typed: true,
            source: None,
        }
    }

    /// `TooManyRequestsException` with the reason that SDKs base their retries on.
    pub fn throttled(reason: ThrottleReason) -> Self {
        Self::too_many_requests("Rate Exceeded.").with_reason(reason.as_str())
    }

    /// Sets the body's `Reason`.
    #[must_use]
    pub fn with_reason(mut self, reason: &'static str) -> Self {
        self.reason = Some(reason);
        self
    }

    /// Sets the `Retry-After` header.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// Leaves `Type` out of the body: AWS does so for a handful of messages of typed errors.
    #[must_use]
    pub fn without_type(mut self) -> Self {
        self.typed = false;
        self
    }

    /// Keeps the cause for the log; it is never sent.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// The HTTP status of the code.
    pub fn status(&self) -> http::StatusCode {
        http::StatusCode::from_u16(self.code.shape().status)
            .expect("the table holds statuses, a test reads them all")
    }

    /// The text for the client.
    pub fn message(&self) -> &str {
        &self.message
    }

    pub fn reason(&self) -> Option<&'static str> {
        self.reason
    }

    pub fn retry_after_seconds(&self) -> Option<u32> {
        self.retry_after_seconds
    }

    /// Value of the body's `Type`, if it has one.
    pub fn error_type(&self) -> Option<&'static str> {
        self.code.shape().error_type.filter(|_| self.typed)
    }
}

/// Why an invocation was throttled; the model's `ThrottleReason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ThrottleReason {
    CallerRateLimitExceeded,
    /// The account's unreserved concurrency is in use.
    ConcurrentInvocationLimitExceeded,
    ConcurrentSnapshotCreateLimitExceeded,
    FunctionInvocationRateLimitExceeded,
    /// The function's own reserved concurrency is in use.
    ReservedFunctionConcurrentInvocationLimitExceeded,
    ReservedFunctionInvocationRateLimitExceeded,
}

impl ThrottleReason {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CallerRateLimitExceeded => "CallerRateLimitExceeded",
            Self::ConcurrentInvocationLimitExceeded => "ConcurrentInvocationLimitExceeded",
            Self::ConcurrentSnapshotCreateLimitExceeded => "ConcurrentSnapshotCreateLimitExceeded",
            Self::FunctionInvocationRateLimitExceeded => "FunctionInvocationRateLimitExceeded",
            Self::ReservedFunctionConcurrentInvocationLimitExceeded => {
                "ReservedFunctionConcurrentInvocationLimitExceeded"
            }
            Self::ReservedFunctionInvocationRateLimitExceeded => {
                "ReservedFunctionInvocationRateLimitExceeded"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The constructor per code and the table row of the same index must belong together.
    #[test]
    fn every_code_has_its_own_row_with_a_valid_status() {
        for code in ErrorCode::ALL {
            assert_eq!(format!("{code:?}"), code.shape().code);
            let error = ApiError::new(code, "text");
            assert!(error.status().is_client_error() || error.status().is_server_error());
            assert!(["message", "Message"].contains(&code.shape().message_member));
        }
    }

    #[test]
    fn throttle_reason_is_carried_by_an_error_that_may_have_one() {
        let error =
            ApiError::throttled(ThrottleReason::ReservedFunctionConcurrentInvocationLimitExceeded);
        assert!(error.code().shape().has_reason);
        assert_eq!(error.status(), http::StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(
            error.reason(),
            Some("ReservedFunctionConcurrentInvocationLimitExceeded")
        );
    }
}
