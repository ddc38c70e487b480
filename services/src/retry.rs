//! Which refusals may pass, and when a call is tried again. The schedule and its jitter are `hearth_node`'s.

use std::time::Duration;

use hearth_node::grpc::Backoff;

/// Three attempts in all, as AWS's own clients make, with pauses of at most 100 ms and 200 ms between them: whoever tells of the
/// end of an event waits for it.
pub(crate) const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(100),
    limit: Duration::from_secs(1),
    attempts: 3,
};

/// Codes of throttles and of faults, whatever the status: those of AWS's clients (but for `LimitExceededException`, which is no
/// throttle with most services), SQS's own, and faults of single events, which EventBridge answers with status 200.
const PASSING: &[&str] = &[
    "BandwidthLimitExceeded",
    "EC2ThrottledException",
    "OverLimit",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "RequestTimeout",
    "RequestTimeoutException",
    "SlowDown",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "TransactionInProgressException",
    "InternalError",
    "InternalException",
    "InternalFailure",
    "ServiceUnavailable",
];

/// Whether a refusal may be none a moment later.
pub(crate) fn is_passing(status: u16, code: &str) -> bool {
    // Request Timeout, Too Many Requests, and all that are the server's fault.
    matches!(status, 408 | 429 | 500..) || PASSING.contains(&code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttles_and_faults_pass_and_refusals_stay() {
        for (status, code, wanted) in [
            (500, "", true),
            (503, "SlowDown", true),
            (429, "", true),
            (408, "", true),
            (400, "ThrottlingException", true),
            (403, "RequestThrottled", true),
            (200, "InternalFailure", true),
            (200, "AccessDeniedException", false),
            (400, "QueueDoesNotExist", false),
            (400, "", false),
            (403, "AccessDenied", false),
            (307, "", false),
        ] {
            assert_eq!(is_passing(status, code), wanted, "{status} {code}");
        }
    }

    #[test]
    fn pauses_are_short_and_two() {
        for chance in [0, 7, u64::MAX] {
            let pauses: Vec<_> = (1..=3)
                .map_while(|failed| BACKOFF.delay(failed, chance))
                .collect();
            assert_eq!(pauses.len(), 2);
            assert!((50..=100).contains(&pauses[0].as_millis()));
            assert!((100..=200).contains(&pauses[1].as_millis()));
        }
    }
}
