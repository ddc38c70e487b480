//! From Hearth's errors to AWS's. What a code looks like on the wire is `hearth_aws_api`'s.

use hearth_aws_api::ApiError;
use hearth_core::error::{Error, ErrorCode};

use crate::invoke::InvokeError;

/// What a client may do about a cluster that cannot serve it now.
const RETRY_AFTER_S: u32 = 1;

/// Texts of `InvalidParameterValueException` that AWS sends without a `Type`.
const UNTYPED: [&str; 4] = [
    "Specified ReservedConcurrentExecutions",
    "Specified ConcurrentExecutions",
    " ReservedConcurrentExecutions",
    "$LATEST is not supported for an alias",
];

/// The one answer to a part of an operation that Hearth does not do yet.
pub(crate) fn unsupported(what: &str) -> ApiError {
    ApiError::not_implemented(format!("Hearth does not implement {what} yet."))
}

/// An error of the core as AWS's.
pub(crate) fn api_error(error: Error) -> ApiError {
    let Error {
        code,
        message,
        reason,
    } = error;
    match code {
        ErrorCode::AccessDenied => ApiError::access_denied(message),
        ErrorCode::CodeSigningConfigNotFound => ApiError::code_signing_config_not_found(message),
        ErrorCode::CodeStorageExceeded => ApiError::code_storage_exceeded(message),
        ErrorCode::CodeVerificationFailed => ApiError::code_verification_failed(message),
        ErrorCode::Internal => ApiError::service(message),
        ErrorCode::InvalidParameterValue => {
            let untyped = UNTYPED.iter().any(|text| message.starts_with(text));
            let error = ApiError::invalid_parameter_value(message);
            if untyped { error.without_type() } else { error }
        }
        ErrorCode::InvalidRequestContent => ApiError::invalid_request_content(message),
        ErrorCode::InvalidZipFile | ErrorCode::LimitExceeded | ErrorCode::MalformedPolicy => {
            ApiError::invalid_parameter_value(message)
        }
        ErrorCode::NotFound => ApiError::resource_not_found(message),
        ErrorCode::NotImplemented => ApiError::not_implemented(message),
        ErrorCode::PolicyTooLong => ApiError::policy_length_exceeded(message),
        ErrorCode::PreconditionFailed => ApiError::precondition_failed(message),
        ErrorCode::RequestTooLarge => ApiError::request_entity_too_large(message),
        ErrorCode::AlreadyExists | ErrorCode::DeleteConflict | ErrorCode::ResourceConflict => {
            ApiError::resource_conflict(message)
        }
        ErrorCode::ResourceNotReady => ApiError::resource_not_ready(message),
        ErrorCode::Throttled => throttled(reason.as_deref().unwrap_or_default()),
        ErrorCode::Unavailable => {
            ApiError::service_unavailable(message).with_retry_after(RETRY_AFTER_S)
        }
    }
}

fn throttled(reason: &str) -> ApiError {
    use hearth_aws_api::error::ThrottleReason as Reason;
    let reasons = [
        Reason::CallerRateLimitExceeded,
        Reason::ConcurrentInvocationLimitExceeded,
        Reason::ConcurrentSnapshotCreateLimitExceeded,
        Reason::FunctionInvocationRateLimitExceeded,
        Reason::ReservedFunctionConcurrentInvocationLimitExceeded,
        Reason::ReservedFunctionInvocationRateLimitExceeded,
    ];
    let known = reasons.into_iter().find(|known| known.as_str() == reason);
    ApiError::throttled(known.unwrap_or(Reason::ConcurrentInvocationLimitExceeded))
}

/// Why an invocation gave no outcome, as AWS says it.
pub(crate) fn invoke_error(error: InvokeError, arn: &str) -> ApiError {
    match error {
        InvokeError::Throttled { reason } => throttled(&reason),
        InvokeError::Limited {
            reason,
            retry_after_s,
        } => throttled(reason).with_retry_after(retry_after_s),
        InvokeError::WaitedTooLong | InvokeError::NoWorker => ApiError::service_unavailable(
            "No execution environment could be provided in time. Try again.",
        )
        .with_retry_after(RETRY_AFTER_S),
        InvokeError::NotRunnable(detail) => ApiError::invalid_runtime(detail),
        InvokeError::Gone | InvokeError::Superseded => {
            ApiError::resource_not_found(format!("Function not found: {arn}"))
        }
        InvokeError::Lost => ApiError::service(
            "The execution environment was lost during the invocation. The function may have run.",
        ),
        InvokeError::NoAnswer => ApiError::service(
            "The execution environment did not answer in time. The function may have run.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttle_carries_awss_text_and_reason() {
        let reason = "ReservedFunctionConcurrentInvocationLimitExceeded";
        let error = invoke_error(
            InvokeError::Throttled {
                reason: reason.into(),
            },
            "arn",
        );
        assert_eq!(
            (error.status().as_u16(), error.message()),
            (429, "Rate Exceeded.")
        );
        assert_eq!(error.reason(), Some(reason));
    }

    #[test]
    fn a_few_texts_have_no_type() {
        let text = "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [100].";
        let error = api_error(Error::new(ErrorCode::InvalidParameterValue, text));
        assert_eq!(error.error_type(), None);
        let error = api_error(Error::new(ErrorCode::InvalidParameterValue, "other"));
        assert_eq!(error.error_type(), Some("User"));
    }
}
