//! Layers: Publish, Get, List and Delete. Who else may use a version is in [`super::layer_policy`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hearth_aws_api::ApiError;
use hearth_aws_api::lambda::{
    DeleteLayerVersionRequest, GetLayerVersionByArnRequest, GetLayerVersionRequest,
    GetLayerVersionResponse, LayerVersionContentInput, LayerVersionContentOutput,
    LayerVersionsListItem, LayersListItem, ListLayerVersionsRequest, ListLayerVersionsResponse,
    ListLayersRequest, ListLayersResponse, PublishLayerVersionRequest,
};
use hearth_core::control::{ControlReply, ControlRequest};
use hearth_core::ids::AccountId;
use hearth_core::layer::{
    LayerArn, LayerChange, LayerDescription, LayerFilter, LayerName, LayerQuery, LayerVersion,
};

use super::errors::{api_error, unsupported};
use super::{Answer, Call, code, documents, page, unexpected};
use crate::app::App;

pub(super) async fn publish(app: &App, call: &Call) -> Answer {
    let input: PublishLayerVersionRequest = call.input()?;
    let layer = own_layer(app, call, input.layer_name.as_deref())?;
    let zip = zip_of(input.content.unwrap_or_default())?;
    let content = code::check(zip.clone()).await?;
    let stored = app.blobs.put(&content.digest, zip).await;
    stored.map_err(api_error)?;
    let change = LayerChange::Publish {
        content,
        description: LayerDescription {
            text: input.description.unwrap_or_default(),
            license: input.license_info,
            runtimes: input.compatible_runtimes,
            architectures: input.compatible_architectures,
        },
    };
    let made = self::change(app, layer, change).await?;
    let made = made.ok_or_else(|| ApiError::service("The layer version is not told."))?;
    call.output(&document(app, call, &made))
}

pub(super) async fn get(app: &App, call: &Call) -> Answer {
    let input: GetLayerVersionRequest = call.input()?;
    let layer = named(app, call, input.layer_name.as_deref())?;
    let version = version_number(input.version_number)?;
    call.output(&shown(app, call, layer, version).await?)
}

pub(super) async fn get_by_arn(app: &App, call: &Call) -> Answer {
    let input: GetLayerVersionByArnRequest = call.input()?;
    let layer = named(app, call, input.arn.as_deref())?;
    let version = version_number(layer.version.and_then(|n| i64::try_from(n).ok()))?;
    call.output(&shown(app, call, layer, version).await?)
}

async fn shown(
    app: &App,
    call: &Call,
    layer: LayerArn,
    version: u64,
) -> Result<GetLayerVersionResponse, ApiError> {
    let found = read(app, call, &layer, version).await?;
    Ok(document(app, call, &found))
}

/// A version as the operations on one version show it: their outputs have the same members.
fn document(app: &App, call: &Call, version: &LayerVersion) -> GetLayerVersionResponse {
    let item = listed(app, version);
    GetLayerVersionResponse {
        content: Some(content_of(app, call, version)),
        layer_arn: Some(layer_arn(&app.catalog.region, version)),
        layer_version_arn: item.layer_version_arn,
        description: item.description,
        created_date: item.created_date,
        version: item.version,
        compatible_architectures: item.compatible_architectures,
        compatible_runtimes: item.compatible_runtimes,
        license_info: item.license_info,
    }
}

pub(super) async fn delete(app: &App, call: &Call) -> Answer {
    let input: DeleteLayerVersionRequest = call.input()?;
    let layer = own_layer(app, call, input.layer_name.as_deref())?;
    let version = version_number(input.version_number)?;
    change(app, layer, LayerChange::Delete { version }).await?;
    call.empty()
}

pub(super) async fn list_versions(app: &App, call: &Call) -> Answer {
    let input: ListLayerVersionsRequest = call.input()?;
    let layer = own_layer(app, call, input.layer_name.as_deref())?;
    let marker = input.marker.as_deref().map(page::from_marker).transpose()?;
    let query = LayerQuery::Versions {
        name: layer.name,
        filter: LayerFilter {
            runtime: input.compatible_runtime,
            architecture: input.compatible_architecture,
        },
        below: marker.and_then(|text| text.parse().ok()),
        limit: page::size(input.max_items),
    };
    let (versions, more) = self::query(app, layer.account, query).await?;
    let last = versions.last().filter(|_| more);
    call.output(&ListLayerVersionsResponse {
        next_marker: last.map(|v| page::marker(&v.version.to_string())),
        layer_versions: Some(versions.iter().map(|v| listed(app, v)).collect()),
    })
}

pub(super) async fn list(app: &App, call: &Call) -> Answer {
    let input: ListLayersRequest = call.input()?;
    let marker = input.marker.as_deref().map(page::from_marker).transpose()?;
    let query = LayerQuery::Layers {
        filter: LayerFilter {
            runtime: input.compatible_runtime,
            architecture: input.compatible_architecture,
        },
        after: marker.and_then(|text| text.parse().ok()),
        limit: page::size(input.max_items),
    };
    let account = call.caller.account.clone();
    let (newest, more) = self::query(app, account, query).await?;
    let last = newest.last().filter(|_| more);
    let item = |version: &LayerVersion| LayersListItem {
        layer_name: Some(version.name.to_string()),
        layer_arn: Some(layer_arn(&app.catalog.region, version)),
        latest_matching_version: Some(listed(app, version)),
    };
    call.output(&ListLayersResponse {
        next_marker: last.map(|v| page::marker(v.name.as_str())),
        layers: Some(newest.iter().map(item).collect()),
    })
}

/// The layer that a request names, by name or ARN.
fn named(app: &App, call: &Call, name: Option<&str>) -> Result<LayerArn, ApiError> {
    let text = name.unwrap_or_default();
    if let Ok(name) = text.parse::<LayerName>() {
        return Ok(LayerArn {
            region: app.catalog.region.clone(),
            account: call.caller.account.clone(),
            name,
            version: None,
        });
    }
    let arn: LayerArn = text
        .parse()
        .map_err(|_| ApiError::invalid_parameter_value(format!("Invalid Layer Arn: {text}")))?;
    if arn.region != app.catalog.region {
        return Err(ApiError::resource_not_found(
            "The resource you requested does not exist.",
        ));
    }
    Ok(arn)
}

/// The caller's own layer that a request names.
pub(super) fn own_layer(app: &App, call: &Call, name: Option<&str>) -> Result<LayerArn, ApiError> {
    let layer = named(app, call, name)?;
    if layer.account == call.caller.account {
        Ok(layer)
    } else {
        Err(not_allowed(call, &layer))
    }
}

fn not_allowed(call: &Call, layer: &LayerArn) -> ApiError {
    let action = call.route.operation.name();
    let action = match action {
        "GetLayerVersionByArn" => "GetLayerVersion",
        other => other,
    };
    ApiError::access_denied(format!(
        "User: arn:aws:iam::{}:root is not authorized to perform: lambda:{action} on resource: {layer} because no resource-based policy allows the lambda:{action} action",
        call.caller.account
    ))
}

pub(super) fn version_number(asked: Option<i64>) -> Result<u64, ApiError> {
    let number = asked.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
    number.ok_or_else(|| ApiError::invalid_parameter_value("Layer Version Cannot be less than 1"))
}

fn zip_of(content: LayerVersionContentInput) -> Result<bytes::Bytes, ApiError> {
    if content.s3_bucket.is_some() || content.s3_key.is_some() {
        return Err(unsupported("layers from S3 (Content.S3Bucket)"));
    }
    content.zip_file.map(|zip| zip.0).ok_or_else(|| {
        ApiError::invalid_parameter_value("Please provide a source for layer content.")
    })
}

/// Carries a change out; the version it made or changed, if any.
pub(super) async fn change(
    app: &App,
    layer: LayerArn,
    change: LayerChange,
) -> Result<Option<LayerVersion>, ApiError> {
    let request = ControlRequest::ChangeLayer {
        account: layer.account,
        name: layer.name,
        change,
    };
    match app.controllers.execute(&request).await.map_err(api_error)? {
        ControlReply::Layers { versions, .. } => Ok(versions.into_iter().next()),
        ControlReply::Done => Ok(None),
        other => Err(unexpected(&other)),
    }
}

async fn query(
    app: &App,
    account: AccountId,
    query: LayerQuery,
) -> Result<(Vec<LayerVersion>, bool), ApiError> {
    let request = ControlRequest::QueryLayers { account, query };
    match app.controllers.execute(&request).await.map_err(api_error)? {
        ControlReply::Layers { versions, more } => Ok((versions, more)),
        other => Err(unexpected(&other)),
    }
}

/// A version that the caller may read.
pub(super) async fn read(
    app: &App,
    call: &Call,
    layer: &LayerArn,
    version: u64,
) -> Result<LayerVersion, ApiError> {
    let wanted = LayerQuery::Version {
        name: layer.name.clone(),
        version,
    };
    let is_own = layer.account == call.caller.account;
    let found = query(app, layer.account.clone(), wanted).await;
    let found = found.map(|(versions, _)| versions.into_iter().next());
    match found {
        Ok(Some(found)) if found.allows(&call.caller.account) => Ok(found),
        Err(error) if is_own => Err(error),
        // Whether another account's version exists is not told to who may not use it.
        Ok(_) | Err(_) => Err(not_allowed(
            call,
            &LayerArn {
                version: Some(version),
                ..layer.clone()
            },
        )),
    }
}

fn layer_arn(region: &str, version: &LayerVersion) -> String {
    let arn = version.arn(region);
    LayerArn {
        version: None,
        ..arn
    }
    .to_string()
}

fn content_of(app: &App, call: &Call, version: &LayerVersion) -> LayerVersionContentOutput {
    let code = &version.content;
    LayerVersionContentOutput {
        location: Some(app.links.make(&call.parts, &code.digest, app.unix_ms())),
        code_sha256: Some(STANDARD.encode(code.digest.0)),
        code_size: i64::try_from(code.size_bytes).ok(),
        ..LayerVersionContentOutput::default()
    }
}

fn listed(app: &App, version: &LayerVersion) -> LayerVersionsListItem {
    let said = &version.description;
    LayerVersionsListItem {
        layer_version_arn: Some(version.arn(&app.catalog.region).to_string()),
        version: i64::try_from(version.version).ok(),
        description: Some(said.text.clone()),
        created_date: Some(documents::last_modified(version.created)),
        compatible_architectures: said.architectures.clone(),
        compatible_runtimes: said.runtimes.clone(),
        license_info: said.license.clone(),
    }
}
