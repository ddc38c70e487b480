//! Kinds of event sources: what each takes, what it is when nothing was said, and AWS's words for what it does not take.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Members, filter, invalid};
use crate::error::Result;

/// Filters of one mapping. "You can define up to five different filters ... you can request a quota increase for up to 10".
const FILTERS_MAX: usize = 10;

/// Members of mappings of streams.
const OF_STREAMS: [&str; 6] = [
    "ParallelizationFactor",
    "StartingPosition",
    "MaximumRecordAgeInSeconds",
    "BisectBatchOnFunctionError",
    "MaximumRetryAttempts",
    "TumblingWindowInSeconds",
];

/// What a mapping reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// A queue.
    Sqs {
        /// Whether it keeps an order.
        fifo: bool,
    },
    /// A Kinesis stream or a consumer of one.
    Kinesis,
    /// The stream of a table.
    DynamoDb,
    /// A Kafka cluster of AWS.
    ManagedKafka,
    /// A Kafka cluster of one's own.
    SelfManagedKafka,
    /// A broker of Amazon MQ.
    Mq,
    /// A cluster of Amazon DocumentDB.
    DocumentDb,
}

impl SourceKind {
    /// By the ARN, or by the members for a cluster of one's own.
    pub(super) fn of(arn: Option<&str>, members: &Members) -> Result<Self> {
        if members.has("SelfManagedEventSource") {
            if !members.has("SourceAccessConfigurations") {
                return Err(invalid(
                    "Required 'sourceAccessConfigurations' parameter is missing.",
                ));
            }
            return Ok(Self::SelfManagedKafka);
        }
        let unknown = || invalid("Unrecognized event source.");
        let arn = arn.ok_or_else(unknown)?;
        match arn.split(':').nth(2) {
            Some("sqs") => Ok(Self::Sqs {
                fifo: arn.ends_with(".fifo"),
            }),
            Some("kinesis") => Ok(Self::Kinesis),
            Some("dynamodb") => Ok(Self::DynamoDb),
            Some("kafka") => Ok(Self::ManagedKafka),
            Some("mq") => Ok(Self::Mq),
            Some("rds") => Ok(Self::DocumentDb),
            Some(_) | None => Err(unknown()),
        }
    }

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqs { .. } => "Amazon SQS",
            Self::Kinesis => "Amazon Kinesis",
            Self::DynamoDb => "Amazon DynamoDB Streams",
            Self::ManagedKafka => "Amazon MSK",
            Self::SelfManagedKafka => "self-managed Apache Kafka",
            Self::Mq => "Amazon MQ",
            Self::DocumentDb => "Amazon DocumentDB",
        }
    }

    fn is_stream(self) -> bool {
        matches!(self, Self::Kinesis | Self::DynamoDb)
    }

    fn is_kafka(self) -> bool {
        matches!(self, Self::ManagedKafka | Self::SelfManagedKafka)
    }

    /// What is shown of its last batch before there was one; nothing of queues.
    pub fn last_result(self) -> Option<&'static str> {
        let is_read_in_order = self.is_stream() || self.is_kafka() || self == Self::DocumentDb;
        is_read_in_order.then_some("No records processed")
    }

    /// Why a mapping is in its state after a user's request.
    pub fn user_reason(self) -> &'static str {
        match self {
            Self::Sqs { .. } | Self::Mq => "USER_INITIATED",
            Self::Kinesis
            | Self::DynamoDb
            | Self::ManagedKafka
            | Self::SelfManagedKafka
            | Self::DocumentDb => "User action",
        }
    }

    /// What holds of members that were not sent.
    pub(super) fn defaults(self) -> Members {
        let mut members = Members::default();
        let mut all = |values: &[(&str, Value)]| {
            for (name, value) in values {
                members.put(name, Some(value));
            }
        };
        match self {
            Self::Sqs { .. } => all(&[
                ("BatchSize", json!(10)),
                ("MaximumBatchingWindowInSeconds", json!(0)),
                ("FunctionResponseTypes", json!([])),
            ]),
            Self::Kinesis | Self::DynamoDb => all(&[
                ("BatchSize", json!(100)),
                ("MaximumBatchingWindowInSeconds", json!(0)),
                ("FunctionResponseTypes", json!([])),
                ("ParallelizationFactor", json!(1)),
                ("DestinationConfig", json!({"OnFailure": {}})),
                ("MaximumRecordAgeInSeconds", json!(-1)),
                ("BisectBatchOnFunctionError", json!(false)),
                ("MaximumRetryAttempts", json!(-1)),
                ("TumblingWindowInSeconds", json!(0)),
            ]),
            Self::ManagedKafka | Self::SelfManagedKafka => all(&[
                ("BatchSize", json!(100)),
                ("StartingPosition", json!("TRIM_HORIZON")),
                ("DestinationConfig", json!({"OnFailure": {}})),
            ]),
            Self::Mq | Self::DocumentDb => all(&[("BatchSize", json!(100))]),
        }
        members
    }

    /// "The identifier for the Kafka consumer group to join ... Defaults to a random UUID": the mapping's own.
    pub(super) fn name_group(self, members: &mut Members, id: &str) {
        let config = match self {
            Self::ManagedKafka => "AmazonManagedKafkaEventSourceConfig",
            Self::SelfManagedKafka => "SelfManagedKafkaEventSourceConfig",
            Self::Sqs { .. } | Self::Kinesis | Self::DynamoDb | Self::Mq | Self::DocumentDb => {
                return;
            }
        };
        let mut said: serde_json::Map<String, Value> = members.get(config).unwrap_or_default();
        said.entry("ConsumerGroupId").or_insert_with(|| json!(id));
        members.put(config, Some(said));
    }

    /// Whether it takes these members, the defaults in place.
    pub(super) fn check(self, members: &Members) -> Result<()> {
        self.check_unsupported(members)?;
        self.check_batch(members)?;
        check_filters(members)
    }

    fn check_unsupported(self, members: &Members) -> Result<()> {
        let unsupported = |name: &str| {
            Err(invalid(format!(
                "Unsupported {name} parameter for given event source mapping type."
            )))
        };
        let destinations: Option<Value> = members.get("DestinationConfig");
        if let Some(destinations) = destinations {
            let takes_failures = self.is_stream() || self.is_kafka();
            if !takes_failures || destinations.get("OnSuccess").is_some() {
                return unsupported("DestinationConfig");
            }
        }
        let is_foreign = |name: &&str| match *name {
            "StartingPosition" => matches!(self, Self::Sqs { .. } | Self::Mq),
            "ScalingConfig" => !matches!(self, Self::Sqs { .. }),
            "Topics" => !self.is_kafka(),
            "Queues" => self != Self::Mq,
            "DocumentDBEventSourceConfig" => self != Self::DocumentDb,
            "AmazonManagedKafkaEventSourceConfig" => self != Self::ManagedKafka,
            "SelfManagedKafkaEventSourceConfig" => self != Self::SelfManagedKafka,
            "FunctionResponseTypes" => matches!(self, Self::Mq | Self::DocumentDb),
            "TumblingWindowInSeconds" | "ParallelizationFactor" => !self.is_stream(),
            name if OF_STREAMS.contains(&name) => !self.is_stream() && !self.is_kafka(),
            _ => false,
        };
        match members.names().find(is_foreign) {
            Some("StartingPosition") if matches!(self, Self::Sqs { .. }) => Err(invalid(
                "StartingPosition is not valid for SQS event sources.",
            )),
            Some(name) => unsupported(name),
            None => Ok(()),
        }
    }

    /// Whether a new mapping says from where it is to be read.
    pub(super) fn check_position(self, members: &Members, arn: Option<&str>) -> Result<()> {
        let position: Option<String> = members.get("StartingPosition");
        if !self.is_stream() && self != Self::DocumentDb {
            return Ok(());
        }
        match position.as_deref() {
            None => Err(invalid(
                "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: Member must not be null.",
            )),
            Some("AT_TIMESTAMP") if self == Self::DynamoDb => {
                let arn = arn.unwrap_or_default();
                Err(invalid(format!(
                    "Unsupported starting position for arn type: {arn}"
                )))
            }
            Some("AT_TIMESTAMP") if !members.has("StartingPositionTimestamp") => Err(invalid(
                "StartingPositionTimestamp is required with the starting position AT_TIMESTAMP",
            )),
            Some(_) => Ok(()),
        }
    }

    fn check_batch(self, members: &Members) -> Result<()> {
        let size: u32 = members.get("BatchSize").unwrap_or_default();
        let window: u32 = members
            .get("MaximumBatchingWindowInSeconds")
            .unwrap_or_default();
        match self {
            Self::Sqs { fifo: true } if size > 10 => Err(invalid(
                "Batch size must be less than or equal to 10 for FIFO queues",
            )),
            Self::Sqs { fifo: true } if window > 0 => {
                Err(invalid("Batching window is not supported for FIFO queues"))
            }
            Self::Sqs { .. } if size > 10 && window == 0 => Err(invalid(
                "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10",
            )),
            Self::Sqs { .. }
            | Self::Kinesis
            | Self::DynamoDb
            | Self::ManagedKafka
            | Self::SelfManagedKafka
            | Self::Mq
            | Self::DocumentDb => Ok(()),
        }
    }
}

fn check_filters(members: &Members) -> Result<()> {
    let criteria: Option<BTreeMap<String, Vec<BTreeMap<String, String>>>> =
        members.get("FilterCriteria");
    let filters = criteria.and_then(|mut all| all.remove("Filters"));
    let filters = filters.unwrap_or_default();
    if filters.len() > FILTERS_MAX {
        return Err(invalid(format!(
            "A mapping has at most {FILTERS_MAX} filters."
        )));
    }
    let is_pattern =
        |f: &BTreeMap<String, String>| f.get("Pattern").is_some_and(|p| filter::is_pattern(p));
    if filters.iter().all(is_pattern) {
        return Ok(());
    }
    Err(invalid("Invalid filter pattern definition."))
}

/// `host:port` of a cluster of one's own.
pub(super) fn servers(members: &Members) -> Vec<String> {
    let source: Option<BTreeMap<String, BTreeMap<String, Vec<String>>>> =
        members.get("SelfManagedEventSource");
    let endpoints = source.and_then(|mut source| source.remove("Endpoints"));
    let servers = endpoints.and_then(|mut all| all.remove("KAFKA_BOOTSTRAP_SERVERS"));
    servers.unwrap_or_default()
}
