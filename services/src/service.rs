//! The services there are clients of, and what each is called where.

use std::fmt;

/// A service of AWS, or of a server that speaks as it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Event buses.
    EventBridge,
    /// Buckets.
    S3,
    /// Topics.
    Sns,
    /// Queues.
    Sqs,
}

impl Service {
    /// What it is called in ARNs, in the scope of signatures, and in the tables of the options.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::EventBridge => "events",
            Self::S3 => "s3",
            Self::Sns => "sns",
            Self::Sqs => "sqs",
        }
    }

    /// What takes something of ours in it.
    pub(crate) fn target(self) -> &'static str {
        match self {
            Self::EventBridge => "an event bus",
            Self::S3 => "a bucket",
            Self::Sns => "a topic",
            Self::Sqs => "a queue",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EventBridge => "EventBridge",
            Self::S3 => "S3",
            Self::Sns => "SNS",
            Self::Sqs => "SQS",
        })
    }
}
