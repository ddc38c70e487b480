//! The one error of Hearth's edges: a closed code, a message for the user, and nothing of the inside.
//! How a code looks on a wire is not here: `aws-api` for AWS errors, `proto/src/status.rs` for gRPC.

use serde::{Deserialize, Serialize};

/// Why an operation was refused or failed. Closed and alphabetical.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ErrorCode {
    /// The caller may not do this. Nothing happened.
    AccessDenied,
    /// There is one of that name. Nothing happened.
    AlreadyExists,
    /// A code signing configuration that is named does not exist. Nothing happened.
    CodeSigningConfigNotFound,
    /// The account's code storage is full. Nothing happened.
    CodeStorageExceeded,
    /// The code is not signed as the function's code signing configuration demands. Nothing happened.
    CodeVerificationFailed,
    /// Other things hang on it, so that it cannot be taken away. Nothing happened.
    DeleteConflict,
    /// A fault of Hearth's own. It is not known whether anything happened.
    Internal,
    /// A parameter has the right shape and a wrong value. Nothing happened.
    InvalidParameterValue,
    /// The payload is not JSON. Nothing happened.
    InvalidRequestContent,
    /// The archive cannot be read. Nothing happened.
    InvalidZipFile,
    /// An account has, or a document is, as much as it may. Nothing happened.
    LimitExceeded,
    /// A policy is none. Nothing happened.
    MalformedPolicy,
    /// The thing named does not exist. Nothing happened.
    NotFound,
    /// The operation is of the model, and Hearth does not have it. Nothing happened.
    NotImplemented,
    /// A resource policy is over its limit. Nothing happened.
    PolicyTooLong,
    /// A revision id or digest does not match. Nothing happened.
    PreconditionFailed,
    /// The request or payload is over its limit. Nothing happened.
    RequestTooLarge,
    /// The thing exists already, or is being changed. Nothing happened.
    ResourceConflict,
    /// The function cannot be invoked in its present state. Nothing happened.
    ResourceNotReady,
    /// A limit was reached; `Error::reason` says which. Nothing happened.
    Throttled,
    /// No node could take the work, or a quorum is away. It may have happened if it was a write.
    Unavailable,
}

/// An error as it leaves Hearth.
#[expect(
    clippy::error_impl_error,
    reason = "it is the error of the edges; modules have errors of their own names"
)]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The class.
    pub code: ErrorCode,
    /// The text for the user; AWS's own where AWS has one.
    pub message: String,
    /// The machine-readable reason of a throttle (`ReservedFunctionConcurrentInvocationLimitExceeded`), or [`NOT_DONE`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Error {
    /// An error without a reason.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            reason: None,
        }
    }
    /// Whether it promises that nothing happened though it may another time.
    pub fn is_not_done(&self) -> bool {
        self.code == ErrorCode::Unavailable && self.reason.as_deref() == Some(NOT_DONE)
    }
    /// The same with a reason.
    #[must_use]
    pub fn with_reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }
}

/// Reason of an [`ErrorCode::Unavailable`] that promises that nothing happened: the same may be asked of another node.
pub const NOT_DONE: &str = "NotDone";

/// Shorthand of the edges.
pub type Result<T, E = Error> = std::result::Result<T, E>;
