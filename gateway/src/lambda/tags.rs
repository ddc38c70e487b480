//! TagResource, UntagResource, ListTags: of functions, code signing configurations and event source mappings.

use std::collections::BTreeMap;

use hearth_aws_api::lambda::{
    ListTagsRequest, ListTagsResponse, TagResourceRequest, UntagResourceRequest,
};
use hearth_aws_api::{ApiError, ErrorCode};
use hearth_core::control::ControlRequest;
use hearth_core::limits::TAGS_MAX;
use hearth_core::name::FunctionRef;
use hearth_core::resource::{ResourceChange, ResourceKey};

use super::{Answer, Call, control, owned, read, resources};
use crate::app::App;

const GONE: &str = "The resource you requested does not exist.";

pub(super) async fn tag(app: &App, call: &Call) -> Answer {
    let input: TagResourceRequest = call.input()?;
    let set = input.tags.unwrap_or_default();
    let tagged = resource(app, call, input.resource.as_deref())?;
    check_count(set.len())?;
    let function = match tagged {
        Tagged::Function(function) => function,
        Tagged::Other(key) => return change(app, call, key, set, Vec::new()).await,
    };
    let (account, name) = owned(&function);
    let request = ControlRequest::TagFunction {
        account,
        name,
        set,
        remove: Vec::new(),
    };
    control(app, &request, &function).await?;
    call.empty()
}

pub(super) async fn untag(app: &App, call: &Call) -> Answer {
    let input: UntagResourceRequest = call.input()?;
    let remove = input.tag_keys.unwrap_or_default();
    let function = match resource(app, call, input.resource.as_deref())? {
        Tagged::Function(function) => function,
        Tagged::Other(key) => return change(app, call, key, BTreeMap::new(), remove).await,
    };
    let (account, name) = owned(&function);
    let request = ControlRequest::TagFunction {
        account,
        name,
        set: Default::default(),
        remove,
    };
    control(app, &request, &function).await?;
    call.empty()
}

pub(super) async fn list(app: &App, call: &Call) -> Answer {
    let input: ListTagsRequest = call.input()?;
    let tags = match resource(app, call, input.resource.as_deref())? {
        Tagged::Function(function) => read(app, &function).await?.tags,
        Tagged::Other(key) => resources::read(app, call, key)
            .await
            .map_err(gone)?
            .tags()
            .clone(),
    };
    call.output(&ListTagsResponse { tags: Some(tags) })
}

/// What has tags.
enum Tagged {
    Function(FunctionRef),
    Other(ResourceKey),
}

async fn change(
    app: &App,
    call: &Call,
    key: ResourceKey,
    set: BTreeMap<String, String>,
    remove: Vec<String>,
) -> Answer {
    let change = ResourceChange::Tag { key, set, remove };
    resources::change(app, call, change).await.map_err(gone)?;
    call.empty()
}

/// Here AWS has one text for all that there is not.
fn gone(error: ApiError) -> ApiError {
    match error.code() {
        ErrorCode::ResourceNotFoundException => ApiError::resource_not_found(GONE),
        _ => error,
    }
}

/// Refuses more tags than a resource may have.
pub(super) fn check_count(tags: usize) -> Result<(), ApiError> {
    if tags > TAGS_MAX {
        return Err(ApiError::invalid_parameter_value(
            "Number of tags exceeds resource tag limit.",
        ));
    }
    Ok(())
}

fn resource(app: &App, call: &Call, arn: Option<&str>) -> Result<Tagged, ApiError> {
    // `arn:aws:lambda:<region>:<account>:<kind>:...`: of capacity providers there is none.
    let kind = arn.and_then(|arn| arn.split(':').nth(5));
    if kind.is_some_and(|kind| kind != "function") {
        let key = resources::named(app, call, arn.unwrap_or_default());
        let key = key.ok_or_else(|| ApiError::resource_not_found(GONE))?;
        return Ok(Tagged::Other(key));
    }
    let function = call.function(app, arn, None)?;
    if function.qualifier.is_some() {
        return Err(ApiError::invalid_parameter_value(
            "Tags on function aliases and versions are not supported. Please specify a function ARN.",
        ));
    }
    Ok(Tagged::Function(function))
}
