//! The one map between `core` errors and gRPC codes.

use hearth_core::{Error, ErrorCode};
use tonic::{Code, Status, metadata::MetadataValue};

/// Metadata key that carries the exact error code.
pub const ERROR_CODE_KEY: &str = "hearth-error-code";

/// The gRPC code of an error code; total.
pub fn grpc_code(code: ErrorCode) -> Code {
    match code {
        ErrorCode::AccessDenied => Code::PermissionDenied,
        ErrorCode::CodeStorageExceeded | ErrorCode::LimitExceeded | ErrorCode::Throttled => {
            Code::ResourceExhausted
        }
        ErrorCode::Internal => Code::Internal,
        ErrorCode::InvalidParameterValue
        | ErrorCode::InvalidRequestContent
        | ErrorCode::InvalidZipFile
        | ErrorCode::MalformedPolicy
        | ErrorCode::PolicyTooLong
        | ErrorCode::RequestTooLarge => Code::InvalidArgument,
        ErrorCode::CodeSigningConfigNotFound | ErrorCode::NotFound => Code::NotFound,
        ErrorCode::NotImplemented => Code::Unimplemented,
        ErrorCode::CodeVerificationFailed
        | ErrorCode::DeleteConflict
        | ErrorCode::PreconditionFailed
        | ErrorCode::ResourceNotReady => Code::FailedPrecondition,
        ErrorCode::AlreadyExists | ErrorCode::ResourceConflict => Code::AlreadyExists,
        ErrorCode::Unavailable => Code::Unavailable,
    }
}

/// The error as a gRPC status, its exact code in the metadata.
pub fn to_status(error: &Error) -> Status {
    let mut status = Status::new(grpc_code(error.code), error.message.clone());
    if let Ok(value) = MetadataValue::try_from(format!("{:?}", error.code)) {
        status.metadata_mut().insert(ERROR_CODE_KEY, value);
    }
    status
}

/// What a failed RPC to another node means to the caller: the node could not say.
pub fn from_status(status: &Status) -> Error {
    Error::new(
        ErrorCode::Unavailable,
        format!(
            "a node of the cluster could not answer: {}",
            status.message()
        ),
    )
}
