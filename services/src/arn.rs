//! ARNs of queues, topics, buckets and event buses, as far as it takes to ask for them.

use crate::error::ServiceError;
use crate::service::Service;

/// Where and what, for one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    /// Whose; empty for a bucket.
    pub(crate) account: &'a str,
    /// Its name.
    pub(crate) name: &'a str,
}

/// Reads an ARN that must be one of `service`.
pub(crate) fn parse(arn: &str, service: Service) -> Result<Target<'_>, ServiceError> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let found = match parts[..] {
        ["arn", _, id, region, account, resource] if id == service.id() => {
            // Names of buckets are known everywhere; the others are somebody's, somewhere.
            let is_placed = !region.is_empty() && !account.is_empty();
            let name = match service {
                Service::EventBridge => resource.strip_prefix("event-bus/"),
                Service::S3 => Some(resource),
                Service::Sns | Service::Sqs => Some(resource).filter(|name| !name.contains(':')),
            };
            name.filter(|name| !name.is_empty() && (is_placed || service == Service::S3))
                .map(|name| Target { account, name })
        }
        _ => None,
    };
    found.ok_or_else(|| ServiceError::BadArn {
        arn: arn.to_owned(),
        wanted: service.target(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_are_of_the_service_they_are_for() {
        let table = [
            (Service::Sqs, "arn:aws:sqs:eu-west-1:1:q", Some(("1", "q"))),
            (Service::Sns, "arn:aws-cn:sns:cn-1:1:t", Some(("1", "t"))),
            (Service::S3, "arn:aws:s3:::b", Some(("", "b"))),
            (
                Service::EventBridge,
                "arn:aws:events:eu-west-1:1:event-bus/a/b",
                Some(("1", "a/b")),
            ),
            (Service::Sqs, "arn:aws:sns:eu-west-1:1:q", None),
            (Service::Sqs, "arn:aws:sqs:eu-west-1:1:q:x", None),
            (Service::Sqs, "arn:aws:sqs:eu-west-1:1:", None),
            (Service::Sqs, "arn:aws:sqs:::q", None),
            (Service::S3, "arn:aws:s3:::", None),
            (Service::EventBridge, "arn:aws:events:r:1:rule/x", None),
            (Service::Sns, "t", None),
            (Service::Sns, "", None),
        ];
        for (service, arn, wanted) in table {
            let found = parse(arn, service).ok().map(|t| (t.account, t.name));
            assert_eq!(found, wanted, "{arn}");
        }
        assert_eq!(
            parse("x", Service::S3).unwrap_err().to_string(),
            "\"x\" is not the ARN of a bucket"
        );
    }
}
