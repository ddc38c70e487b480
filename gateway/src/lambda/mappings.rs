//! Event source mappings: Create, Get, List, Update and Delete. What a mapping takes is `hearth_core::mapping`'s to say. A change
//! is complete when it is answered: the answer shows its beginning, as AWS's does, and whoever asks next sees its end.

use hearth_aws_api::lambda::{
    CreateEventSourceMappingRequest, DeleteEventSourceMappingRequest,
    EventSourceMappingConfiguration, GetEventSourceMappingRequest, ListEventSourceMappingsRequest,
    ListEventSourceMappingsResponse, UpdateEventSourceMappingRequest,
};
use hearth_aws_api::{ApiError, Timestamp};
use hearth_core::mapping::{Mapping, MappingMembers, mapping_arn};
use hearth_core::name::{FunctionName, Qualifier, function_arn};
use hearth_core::resource::{Resource, ResourceChange, ResourceKey, ResourceQuery};
use serde_json::{Map, Value};

use super::{Answer, Call, page, resources};
use crate::app::App;

/// Items of a page: "returns a maximum of 100 items in each response, even if you set the number higher".
const PAGE_MAX: usize = 100;

/// Members of requests that a mapping keeps as they are.
const KEPT: [&str; 24] = [
    "AmazonManagedKafkaEventSourceConfig",
    "BatchSize",
    "BisectBatchOnFunctionError",
    "DestinationConfig",
    "DocumentDBEventSourceConfig",
    "FilterCriteria",
    "FunctionResponseTypes",
    "KMSKeyArn",
    "LoggingConfig",
    "MaximumBatchingWindowInSeconds",
    "MaximumRecordAgeInSeconds",
    "MaximumRetryAttempts",
    "MetricsConfig",
    "ParallelizationFactor",
    "ProvisionedPollerConfig",
    "Queues",
    "ScalingConfig",
    "SelfManagedEventSource",
    "SelfManagedKafkaEventSourceConfig",
    "SourceAccessConfigurations",
    "StartingPosition",
    "StartingPositionTimestamp",
    "Topics",
    "TumblingWindowInSeconds",
];

pub(super) async fn create(app: &App, call: &Call) -> Answer {
    let input: CreateEventSourceMappingRequest = call.input()?;
    let members = MappingMembers {
        function: function(app, call, input.function_name.as_deref())?,
        source_arn: input.event_source_arn,
        enabled: input.enabled,
        members: kept(call),
    };
    let create = ResourceChange::CreateMapping {
        members: Box::new(members),
        tags: input.tags.unwrap_or_default(),
    };
    let made = resources::change(app, call, create).await?;
    show(app, call, made, Some("Creating"))
}

pub(super) async fn update(app: &App, call: &Call) -> Answer {
    let input: UpdateEventSourceMappingRequest = call.input()?;
    let id = input.uuid.unwrap_or_default();
    let key = ResourceKey::Mapping(id.clone());
    let before = mapping(resources::read(app, call, key).await?)?;
    let members = MappingMembers {
        function: function(app, call, input.function_name.as_deref())?,
        source_arn: None,
        enabled: input.enabled,
        members: kept(call),
    };
    let state = match (before.enabled, input.enabled) {
        (false, Some(true)) => "Enabling",
        (true, Some(false)) => "Disabling",
        (_, Some(_) | None) => "Updating",
    };
    let update = ResourceChange::UpdateMapping {
        id,
        members: Box::new(members),
    };
    let changed = resources::change(app, call, update).await?;
    show(app, call, changed, Some(state))
}

pub(super) async fn delete(app: &App, call: &Call) -> Answer {
    let input: DeleteEventSourceMappingRequest = call.input()?;
    let key = ResourceKey::Mapping(input.uuid.unwrap_or_default());
    let gone = resources::change(app, call, ResourceChange::Delete { key }).await?;
    show(app, call, gone, Some("Deleting"))
}

pub(super) async fn get(app: &App, call: &Call) -> Answer {
    let input: GetEventSourceMappingRequest = call.input()?;
    let key = ResourceKey::Mapping(input.uuid.unwrap_or_default());
    let found = resources::read(app, call, key).await?;
    show(app, call, found, None)
}

pub(super) async fn list(app: &App, call: &Call) -> Answer {
    let input: ListEventSourceMappingsRequest = call.input()?;
    let asked = input.max_items.and_then(|n| usize::try_from(n).ok());
    let query = ResourceQuery::Mappings {
        function: function(app, call, input.function_name.as_deref())?,
        source_arn: input.event_source_arn,
        after: input.marker.as_deref().map(page::from_marker).transpose()?,
        limit: asked.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX),
    };
    let found = resources::query(app, call, query).await?;
    let mappings: Result<Vec<Mapping>, ApiError> =
        found.resources.into_iter().map(mapping).collect();
    let mappings = mappings?;
    let last = mappings.last().filter(|_| found.more);
    let next_marker = last.map(|mapping| page::marker(&mapping.id));
    let shown = mappings.iter().map(|one| document(app, call, one, None));
    call.output(&ListEventSourceMappingsResponse {
        next_marker,
        event_source_mappings: Some(shown.collect()),
    })
}

type Target = Option<(FunctionName, Option<Qualifier>)>;

fn function(app: &App, call: &Call, name: Option<&str>) -> Result<Target, ApiError> {
    let Some(name) = name else { return Ok(None) };
    let function = call.function(app, Some(name), None)?;
    Ok(Some((function.name, function.qualifier)))
}

/// The members of the body that are kept; they were checked when the input was decoded.
fn kept(call: &Call) -> hearth_core::mapping::Members {
    let body: Map<String, Value> = serde_json::from_slice(&call.body).unwrap_or_default();
    let mut members = hearth_core::mapping::Members::default();
    for name in KEPT {
        members.put(name, body.get(name).filter(|value| !value.is_null()));
    }
    members
}

fn mapping(resource: Resource) -> Result<Mapping, ApiError> {
    match resource {
        Resource::Mapping(mapping) => Ok(mapping),
        Resource::Signing(_) => Err(ApiError::service("The cluster gave an unexpected answer.")),
    }
}

fn show(app: &App, call: &Call, resource: Resource, state: Option<&str>) -> Answer {
    let mapping = mapping(resource)?;
    call.output(&document(app, call, &mapping, state))
}

/// As AWS shows it; `state` while a change is under way.
fn document(
    app: &App,
    call: &Call,
    mapping: &Mapping,
    state: Option<&str>,
) -> EventSourceMappingConfiguration {
    let (region, account) = (&app.catalog.region, &call.caller.account);
    let settled = if mapping.enabled {
        "Enabled"
    } else {
        "Disabled"
    };
    let kind = mapping.kind().ok();
    let reason = match (kind, state) {
        // Nobody would look for the reason of silence elsewhere.
        (Some(kind), None) if mapping.enabled => Some(format!(
            "Hearth reads no {} yet: no events are sent to the function.",
            kind.name()
        )),
        (kind, _) => kind.map(|kind| kind.user_reason().to_owned()),
    };
    let arn = function_arn(region, account, &mapping.function);
    let members = &mapping.members;
    EventSourceMappingConfiguration {
        uuid: Some(mapping.id.clone()),
        event_source_mapping_arn: Some(mapping_arn(region, account, &mapping.id)),
        event_source_arn: mapping.source_arn.clone(),
        function_arn: Some(match &mapping.qualifier {
            Some(qualifier) => format!("{arn}:{qualifier}"),
            None => arn,
        }),
        last_modified: Timestamp::from_unix_ms(mapping.last_modified.0),
        last_processing_result: kind.and_then(|kind| kind.last_result().map(str::to_owned)),
        state: Some(state.unwrap_or(settled).to_owned()),
        state_transition_reason: reason,
        starting_position: members.get("StartingPosition"),
        starting_position_timestamp: members.get("StartingPositionTimestamp"),
        batch_size: members.get("BatchSize"),
        maximum_batching_window_in_seconds: members.get("MaximumBatchingWindowInSeconds"),
        parallelization_factor: members.get("ParallelizationFactor"),
        filter_criteria: members.get("FilterCriteria"),
        filter_criteria_error: None,
        kms_key_arn: members.get("KMSKeyArn"),
        metrics_config: members.get("MetricsConfig"),
        logging_config: members.get("LoggingConfig"),
        scaling_config: members.get("ScalingConfig"),
        destination_config: members.get("DestinationConfig"),
        topics: members.get("Topics"),
        queues: members.get("Queues"),
        source_access_configurations: members.get("SourceAccessConfigurations"),
        self_managed_event_source: members.get("SelfManagedEventSource"),
        maximum_record_age_in_seconds: members.get("MaximumRecordAgeInSeconds"),
        bisect_batch_on_function_error: members.get("BisectBatchOnFunctionError"),
        maximum_retry_attempts: members.get("MaximumRetryAttempts"),
        tumbling_window_in_seconds: members.get("TumblingWindowInSeconds"),
        function_response_types: members.get("FunctionResponseTypes"),
        amazon_managed_kafka_event_source_config: members
            .get("AmazonManagedKafkaEventSourceConfig"),
        self_managed_kafka_event_source_config: members.get("SelfManagedKafkaEventSourceConfig"),
        document_db_event_source_config: members.get("DocumentDBEventSourceConfig"),
        provisioned_poller_config: members.get("ProvisionedPollerConfig"),
    }
}
