//! Why a service was not told. Whoever sees it is an operator, so each text says what to look at; none has a payload in it.

use crate::retry;
use crate::service::Service;

/// See the module's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// The operator named no endpoint of the service. Nothing was sent.
    #[error(
        "no endpoint of {service} is configured. Set url in the table endpoints.{} of the gateways' options",
        service.id()
    )]
    NotConfigured {
        /// Which.
        service: Service,
    },
    /// It is not an ARN, or one of something else. Nothing was sent.
    #[error("{arn:?} is not the ARN of {wanted}")]
    BadArn {
        /// What was given.
        arn: String,
        /// What it should be of: "a queue".
        wanted: &'static str,
    },
    /// No URL can name that object. Nothing was sent.
    #[error("an object {key:?} in a bucket {bucket:?} cannot be addressed")]
    BadKey {
        /// The bucket.
        bucket: String,
        /// The object's key.
        key: String,
    },
    /// There is no request to send: something of this node, or of the options, does not fit.
    #[error("a request to {service} cannot be made: {reason}")]
    Unsendable {
        /// To which.
        service: Service,
        /// Why not.
        reason: String,
    },
    /// No answer, or not in time. What was sent may have been taken.
    #[error(
        "{service} cannot be reached: {reason}. Check url in the table endpoints.{} of the gateways' options, and that a server is there",
        service.id()
    )]
    Unreachable {
        /// Which.
        service: Service,
        /// What happened.
        reason: String,
    },
    /// The service answered that it did not do it.
    #[error("{service} refused the request with {status}{}", said(code, message))]
    Refused {
        /// Which.
        service: Service,
        /// HTTP status; 200 for an event that was refused alone.
        status: u16,
        /// The service's name of the error; empty if it did not say.
        code: String,
        /// The service's text; empty if it did not say.
        message: String,
    },
    /// It is not what the service would say: the endpoint is something else. What was sent may have been taken.
    #[error(
        "the endpoint of {service} does not answer as {service}: {reason}. Check url in the table endpoints.{}",
        service.id()
    )]
    Protocol {
        /// Which.
        service: Service,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The answer to a request that was accepted has no end in sight. What was sent may have been taken.
    #[error("{service} answered with more than {limit_bytes} bytes")]
    TooLarge {
        /// Which.
        service: Service,
        /// Largest answer that is read.
        limit_bytes: usize,
    },
}

impl ServiceError {
    /// Whether the same may succeed a moment later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, code, .. } => retry::is_passing(*status, code),
            Self::NotConfigured { .. }
            | Self::BadArn { .. }
            | Self::BadKey { .. }
            | Self::Unsendable { .. }
            | Self::Protocol { .. }
            | Self::TooLarge { .. } => false,
        }
    }
}

fn said(code: &str, message: &str) -> String {
    match (code.is_empty(), message.is_empty()) {
        (true, true) => String::new(),
        (true, false) => format!(": {message}"),
        (false, true) => format!(" {code}"),
        (false, false) => format!(" {code}: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_say_what_to_look_at() {
        let service = Service::EventBridge;
        assert_eq!(
            ServiceError::NotConfigured { service }.to_string(),
            "no endpoint of EventBridge is configured. Set url in the table endpoints.events of the gateways' options"
        );
        let refused = |code: &str, message: &str| {
            let refused = ServiceError::Refused {
                service: Service::Sqs,
                status: 400,
                code: code.into(),
                message: message.into(),
            };
            refused.to_string()
        };
        assert_eq!(refused("", ""), "SQS refused the request with 400");
        assert_eq!(refused("", "No."), "SQS refused the request with 400: No.");
        assert_eq!(refused("No", ""), "SQS refused the request with 400 No");
        assert_eq!(
            refused("No", "Not you."),
            "SQS refused the request with 400 No: Not you."
        );
    }

    #[test]
    fn only_what_may_pass_is_retryable() {
        let service = Service::S3;
        let reason = || "x".to_owned();
        let refused = |status, code: &str| ServiceError::Refused {
            service,
            status,
            code: code.into(),
            message: String::new(),
        };
        let table = [
            (ServiceError::NotConfigured { service }, false),
            (refused(503, "SlowDown"), true),
            (refused(400, "ThrottlingException"), true),
            (refused(403, "AccessDenied"), false),
            (
                ServiceError::Unreachable {
                    service,
                    reason: reason(),
                },
                true,
            ),
            (
                ServiceError::Unsendable {
                    service,
                    reason: reason(),
                },
                false,
            ),
            (
                ServiceError::Protocol {
                    service,
                    reason: reason(),
                },
                false,
            ),
            (
                ServiceError::TooLarge {
                    service,
                    limit_bytes: 1,
                },
                false,
            ),
        ];
        for (error, wanted) in table {
            assert_eq!(error.is_retryable(), wanted, "{error}");
        }
    }
}
