//! Provisioned concurrency: Put, Get, List and Delete. What may be asked for is the controllers' to check, how it
//! stands is the leader's to say.

use std::collections::BTreeMap;

use hearth_aws_api::lambda::{
    DeleteProvisionedConcurrencyConfigRequest, GetProvisionedConcurrencyConfigRequest,
    GetProvisionedConcurrencyConfigResponse, ListProvisionedConcurrencyConfigsRequest,
    ListProvisionedConcurrencyConfigsResponse, ProvisionedConcurrencyConfigListItem,
    PutProvisionedConcurrencyConfigRequest, PutProvisionedConcurrencyConfigResponse,
};
use hearth_aws_api::{ApiError, ErrorCode};
use hearth_core::control::{ControlReply, ControlRequest, VersionChange};
use hearth_core::function::Function;
use hearth_core::ids::{UnixMs, Version};
use hearth_core::name::{FunctionRef, Qualifier, function_arn};
use hearth_core::versions::{Allocation, ProvisionedConcurrency, ProvisionedStatus};

use super::{
    Answer, Call, aliases, change_versions, control, documents, owned, page, unexpected,
    unqualified, unsigned,
};
use crate::app::App;

pub(super) async fn put(app: &App, call: &Call) -> Answer {
    let input: PutProvisionedConcurrencyConfigRequest = call.input()?;
    let names = (input.function_name.as_deref(), input.qualifier.as_deref());
    let (function, qualifier) = qualified(app, call, names)?;
    let requested = input.provisioned_concurrent_executions.map_or(0, unsigned);
    let change = VersionChange::PutProvisioned {
        qualifier: qualifier.clone(),
        requested,
    };
    let changed = self::change(app, &function, change).await?;
    let last_modified = changed
        .provisioned
        .get(&qualifier)
        .map(|wanted| last_modified(wanted.last_modified));
    call.output(&PutProvisionedConcurrencyConfigResponse {
        requested_provisioned_concurrent_executions: shown(requested),
        available_provisioned_concurrent_executions: Some(0),
        allocated_provisioned_concurrent_executions: Some(0),
        status: Some("IN_PROGRESS".to_owned()),
        status_reason: None,
        last_modified,
    })
}

pub(super) async fn delete(app: &App, call: &Call) -> Answer {
    let input: DeleteProvisionedConcurrencyConfigRequest = call.input()?;
    let names = (input.function_name.as_deref(), input.qualifier.as_deref());
    let (function, qualifier) = qualified(app, call, names)?;
    check_published(&qualifier)?;
    let change = VersionChange::DeleteProvisioned { qualifier };
    self::change(app, &function, change).await?;
    call.empty()
}

pub(super) async fn get(app: &App, call: &Call) -> Answer {
    let input: GetProvisionedConcurrencyConfigRequest = call.input()?;
    let names = (input.function_name.as_deref(), input.qualifier.as_deref());
    let (function, qualifier) = qualified(app, call, names)?;
    check_published(&qualifier)?;
    let (found, status) = provisioned(app, &function).await?;
    if found.version_named(Some(&qualifier)).is_none() {
        return Err(not_found(app, &function, &qualifier));
    }
    let Some(wanted) = found.provisioned.get(&qualifier) else {
        return Err(ApiError::new(
            ErrorCode::ProvisionedConcurrencyConfigNotFoundException,
            "No Provisioned Concurrency Config found for this function",
        ));
    };
    let item = item(&found, &qualifier, wanted, &status, &app.catalog.region);
    call.output(&GetProvisionedConcurrencyConfigResponse {
        requested_provisioned_concurrent_executions: item
            .requested_provisioned_concurrent_executions,
        available_provisioned_concurrent_executions: item
            .available_provisioned_concurrent_executions,
        allocated_provisioned_concurrent_executions: item
            .allocated_provisioned_concurrent_executions,
        status: item.status,
        status_reason: item.status_reason,
        last_modified: item.last_modified,
    })
}

pub(super) async fn list(app: &App, call: &Call) -> Answer {
    let input: ListProvisionedConcurrencyConfigsRequest = call.input()?;
    let function = unqualified(app, call, input.function_name.as_deref())?;
    let after = input.marker.as_deref().map(page::from_marker).transpose()?;
    let after = after.and_then(|text| text.parse::<Qualifier>().ok());
    let (found, status) = provisioned(app, &function).await?;
    let wanted = found
        .provisioned
        .iter()
        .filter(|(qualifier, _)| after.as_ref().is_none_or(|after| *qualifier > after));
    let items = wanted.map(|(qualifier, wanted)| {
        let item = item(&found, qualifier, wanted, &status, &app.catalog.region);
        (qualifier.to_string(), item)
    });
    let (configs, next_marker) = page::cut(items, page::size(input.max_items));
    call.output(&ListProvisionedConcurrencyConfigsResponse {
        provisioned_concurrency_configs: Some(configs),
        next_marker,
    })
}

/// The function and the version or alias that is meant.
fn qualified(
    app: &App,
    call: &Call,
    (name, qualifier): (Option<&str>, Option<&str>),
) -> Result<(FunctionRef, Qualifier), ApiError> {
    let named = call.function(app, name, qualifier)?;
    let latest = Qualifier::Version(Version::Latest);
    let qualifier = named.qualifier.clone().unwrap_or(latest);
    Ok((named, qualifier))
}

fn check_published(qualifier: &Qualifier) -> Result<(), ApiError> {
    if *qualifier == Qualifier::Version(Version::Latest) {
        return Err(ApiError::invalid_parameter_value(
            "The function resource provided must be an alias or a published version.",
        ));
    }
    Ok(())
}

fn not_found(app: &App, function: &FunctionRef, qualifier: &Qualifier) -> ApiError {
    let region = &app.catalog.region;
    match qualifier {
        Qualifier::Alias(alias) => aliases::not_found(function, alias, region),
        Qualifier::Version(version) => {
            let arn = function_arn(region, &function.account, &function.name);
            ApiError::resource_not_found(format!("Function not found: {arn}:{version}"))
        }
    }
}

async fn change(
    app: &App,
    function: &FunctionRef,
    change: VersionChange,
) -> Result<Function, ApiError> {
    let changed = change_versions(app, function, change).await;
    changed.map_err(|error| named(app, function, error))
}

/// AWS names the alias, whether it is that or the function that does not exist.
fn named(app: &App, function: &FunctionRef, error: ApiError) -> ApiError {
    let is_missing = error.message().starts_with("Function not found: ");
    match &function.qualifier {
        Some(qualifier @ Qualifier::Alias(_)) if is_missing => not_found(app, function, qualifier),
        _ => error,
    }
}

async fn provisioned(
    app: &App,
    function: &FunctionRef,
) -> Result<(Function, BTreeMap<u64, ProvisionedStatus>), ApiError> {
    let (account, name) = owned(function);
    let request = ControlRequest::GetProvisioned { account, name };
    match control(app, &request, function).await {
        Ok(ControlReply::Provisioned { function, status }) => Ok((*function, status)),
        Ok(other) => Err(unexpected(&other)),
        Err(error) => Err(named(app, function, error)),
    }
}

fn item(
    function: &Function,
    qualifier: &Qualifier,
    wanted: &ProvisionedConcurrency,
    status: &BTreeMap<u64, ProvisionedStatus>,
    region: &str,
) -> ProvisionedConcurrencyConfigListItem {
    let arn = function_arn(region, &function.account, &function.name);
    let status = match function.version_named(Some(qualifier)) {
        Some(Version::Number(version)) => status.get(&version),
        Some(Version::Latest) | None => None,
    };
    let allocation = status.map_or(Allocation::InProgress, |s| s.of(wanted.requested));
    let (text, reason) = match allocation {
        Allocation::InProgress => ("IN_PROGRESS", None),
        Allocation::Ready => ("READY", None),
        Allocation::Failed => ("FAILED", status.and_then(|s| s.failure.clone())),
    };
    ProvisionedConcurrencyConfigListItem {
        function_arn: Some(format!("{arn}:{qualifier}")),
        requested_provisioned_concurrent_executions: shown(wanted.requested),
        available_provisioned_concurrent_executions: shown(status.map_or(0, |s| s.available)),
        allocated_provisioned_concurrent_executions: shown(status.map_or(0, |s| s.allocated)),
        status: Some(text.to_owned()),
        status_reason: reason,
        last_modified: Some(last_modified(wanted.last_modified)),
    }
}

fn shown(number: u32) -> Option<i32> {
    i32::try_from(number).ok()
}

/// `2020-01-01T00:00:00+0000`: here AWS leaves the milliseconds out.
fn last_modified(at: UnixMs) -> String {
    documents::last_modified(UnixMs(at.0 / 1_000 * 1_000)).replacen(".000", "", 1)
}
