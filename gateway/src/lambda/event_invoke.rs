//! How events of a function are tried: Put-, Update-, Get-, List- and DeleteFunctionEventInvokeConfig.

use hearth_aws_api::lambda::{
    DeleteFunctionEventInvokeConfigRequest, DestinationConfig, FunctionEventInvokeConfig,
    GetFunctionEventInvokeConfigRequest, ListFunctionEventInvokeConfigsRequest,
    ListFunctionEventInvokeConfigsResponse, OnFailure, OnSuccess,
    PutFunctionEventInvokeConfigRequest, UpdateFunctionEventInvokeConfigRequest,
};
use hearth_aws_api::{ApiError, Timestamp};
use hearth_core::attached::{
    AttachedChange, Destinations, EventInvokeConfig, EventInvokeMembers, LATEST,
};
use hearth_core::function::Function;
use hearth_core::name::{FunctionRef, Qualifier};

use super::attached::{change, if_missing, read_or};
use super::errors::api_error;
use super::{Answer, Call, page, unsigned};
use crate::app::App;

const NO_FUNCTION: &str = "The function doesn't exist.";

pub(super) async fn put(app: &App, call: &Call) -> Answer {
    let input: PutFunctionEventInvokeConfigRequest = call.input()?;
    let members = members(
        input.maximum_retry_attempts,
        input.maximum_event_age_in_seconds,
        input.destination_config,
    )?;
    let named = (input.function_name, input.qualifier);
    set(app, call, named, members, false).await
}

pub(super) async fn update(app: &App, call: &Call) -> Answer {
    let input: UpdateFunctionEventInvokeConfigRequest = call.input()?;
    let members = members(
        input.maximum_retry_attempts,
        input.maximum_event_age_in_seconds,
        input.destination_config,
    )?;
    let named = (input.function_name, input.qualifier);
    set(app, call, named, members, true).await
}

async fn set(
    app: &App,
    call: &Call,
    (name, qualifier): (Option<String>, Option<String>),
    members: EventInvokeMembers,
    is_update: bool,
) -> Answer {
    let function = call.function(app, name.as_deref(), qualifier.as_deref())?;
    let set = AttachedChange::SetEventInvoke {
        qualifier: function.qualifier.clone(),
        members,
        is_update,
    };
    let changed = change(app, &function, set).await;
    let changed = changed.map_err(|error| if_missing(app, &function, error, NO_FUNCTION))?;
    show(app, call, &changed, &function)
}

pub(super) async fn get(app: &App, call: &Call) -> Answer {
    let input: GetFunctionEventInvokeConfigRequest = call.input()?;
    let name = input.function_name.as_deref();
    let function = call.function(app, name, input.qualifier.as_deref())?;
    let found = read_or(app, &function, &none(app, &function)).await?;
    show(app, call, &found, &function)
}

pub(super) async fn delete(app: &App, call: &Call) -> Answer {
    let input: DeleteFunctionEventInvokeConfigRequest = call.input()?;
    let name = input.function_name.as_deref();
    let function = call.function(app, name, input.qualifier.as_deref())?;
    let delete = AttachedChange::DeleteEventInvoke {
        qualifier: function.qualifier.clone(),
    };
    let missing = none(app, &function);
    let deleted = change(app, &function, delete).await;
    deleted.map_err(|error| if_missing(app, &function, error, &missing))?;
    call.empty()
}

pub(super) async fn list(app: &App, call: &Call) -> Answer {
    let input: ListFunctionEventInvokeConfigsRequest = call.input()?;
    let function = call.function(app, input.function_name.as_deref(), None)?;
    let after = input.marker.as_deref().map(page::from_marker).transpose()?;
    let found = read_or(app, &function, NO_FUNCTION).await?;
    let all = found.attached.event_invoke.iter();
    let wanted = page::after(all, after.as_deref());
    let region = &app.catalog.region;
    let documents = wanted.map(|(qualifier, config)| {
        let document = document(&found, qualifier, config, region);
        (qualifier.to_string(), document)
    });
    let (configs, next_marker) = page::cut(documents, page::size(input.max_items));
    call.output(&ListFunctionEventInvokeConfigsResponse {
        function_event_invoke_configs: Some(configs),
        next_marker,
    })
}

fn members(
    retries: Option<i32>,
    max_age_s: Option<i32>,
    destinations: Option<DestinationConfig>,
) -> Result<EventInvokeMembers, ApiError> {
    if retries.is_none() && max_age_s.is_none() && destinations.is_none() {
        return Err(ApiError::invalid_parameter_value(
            "You must specify at least one of error handling or destination setting.",
        ));
    }
    // An empty ARN takes the destination away.
    let given = |arn: Option<String>| arn.filter(|arn| !arn.is_empty());
    Ok(EventInvokeMembers {
        retries: retries.map(unsigned),
        max_age_s: max_age_s.map(unsigned),
        destinations: destinations.map(|sent| Destinations {
            on_success: given(sent.on_success.and_then(|to| to.destination)),
            on_failure: given(sent.on_failure.and_then(|to| to.destination)),
        }),
    })
}

/// AWS's 404, which names `$LATEST` whether it or the function is missing.
fn none(app: &App, function: &FunctionRef) -> String {
    let named = FunctionRef {
        qualifier: Some(key(function)),
        ..function.clone()
    };
    let arn = named.arn(&app.catalog.region);
    format!("The function {arn} doesn't have an EventInvokeConfig")
}

fn key(function: &FunctionRef) -> Qualifier {
    function.qualifier.clone().unwrap_or(LATEST)
}

fn show(app: &App, call: &Call, found: &Function, function: &FunctionRef) -> Answer {
    let (key, region) = (key(function), &app.catalog.region);
    let Some(config) = found.attached.event_invoke.get(&key) else {
        return Err(api_error(found.no_event_invoke(&key, region)));
    };
    call.output(&document(found, &key, config, region))
}

fn document(
    function: &Function,
    qualifier: &Qualifier,
    config: &EventInvokeConfig,
    region: &str,
) -> FunctionEventInvokeConfig {
    let members = &config.members;
    let shown = |n: Option<u32>| n.and_then(|n| i32::try_from(n).ok());
    let to = members.destinations.clone().unwrap_or_default();
    FunctionEventInvokeConfig {
        last_modified: Timestamp::from_unix_ms(config.last_modified.0),
        function_arn: Some(function.arn_named(Some(qualifier), region)),
        maximum_retry_attempts: shown(members.retries),
        maximum_event_age_in_seconds: shown(members.max_age_s),
        destination_config: Some(DestinationConfig {
            on_success: Some(OnSuccess {
                destination: to.on_success,
            }),
            on_failure: Some(OnFailure {
                destination: to.on_failure,
            }),
        }),
    }
}
