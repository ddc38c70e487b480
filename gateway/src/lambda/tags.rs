//! TagResource, UntagResource, ListTags, for functions.

use hearth_aws_api::ApiError;
use hearth_aws_api::lambda::{
    ListTagsRequest, ListTagsResponse, TagResourceRequest, UntagResourceRequest,
};
use hearth_core::control::ControlRequest;
use hearth_core::limits::TAGS_MAX;
use hearth_core::name::FunctionRef;

use super::{Answer, Call, control, owned, read};
use crate::app::App;

pub(super) async fn tag(app: &App, call: &Call) -> Answer {
    let input: TagResourceRequest = call.input()?;
    let function = resource(app, call, input.resource.as_deref())?;
    let set = input.tags.unwrap_or_default();
    check_count(set.len())?;
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
    let function = resource(app, call, input.resource.as_deref())?;
    let remove = input.tag_keys.unwrap_or_default();
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
    let function = resource(app, call, input.resource.as_deref())?;
    let found = read(app, &function).await?;
    call.output(&ListTagsResponse {
        tags: Some(found.tags),
    })
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

fn resource(app: &App, call: &Call, arn: Option<&str>) -> Result<FunctionRef, ApiError> {
    // `arn:aws:lambda:<region>:<account>:<kind>:...`: of the other kinds there is none yet.
    let kind = arn.and_then(|arn| arn.split(':').nth(5));
    if kind.is_some_and(|kind| kind != "function") {
        return Err(ApiError::resource_not_found(
            "The resource you requested does not exist.",
        ));
    }
    let function = call.function(app, arn, None)?;
    if function.qualifier.is_some() {
        return Err(ApiError::invalid_parameter_value(
            "Tags on function aliases and versions are not supported. Please specify a function ARN.",
        ));
    }
    Ok(function)
}
