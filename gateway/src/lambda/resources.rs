//! What handlers of code signing configurations and event source mappings share: how they ask the controllers, and how ARNs name
//! them.

use hearth_aws_api::ApiError;
use hearth_core::control::{ControlReply, ControlRequest};
use hearth_core::resource::{Resource, ResourceChange, ResourceKey, ResourcePage, ResourceQuery};

use super::errors::api_error;
use super::{Call, unexpected};
use crate::app::App;

/// Carries a change out; the resource as it is then, or as it was when it was taken away.
pub(super) async fn change(
    app: &App,
    call: &Call,
    change: ResourceChange,
) -> Result<Resource, ApiError> {
    let request = ControlRequest::ChangeResource {
        account: call.caller.account.clone(),
        change: Box::new(change),
    };
    let reply = app.controllers.execute(&request).await.map_err(error)?;
    match reply {
        ControlReply::Resources(page) => one(page),
        // Carried out before, by a request whose answer was lost, and gone since.
        ControlReply::Done => Err(ApiError::service("The resource is gone by now.")),
        other => Err(unexpected(&other)),
    }
}

/// The answer to a question.
pub(super) async fn query(
    app: &App,
    call: &Call,
    query: ResourceQuery,
) -> Result<ResourcePage, ApiError> {
    let request = ControlRequest::QueryResources {
        account: call.caller.account.clone(),
        query,
    };
    let reply = app.controllers.execute(&request).await.map_err(error)?;
    match reply {
        ControlReply::Resources(page) => Ok(page),
        other => Err(unexpected(&other)),
    }
}

/// One of them.
pub(super) async fn read(app: &App, call: &Call, key: ResourceKey) -> Result<Resource, ApiError> {
    one(query(app, call, ResourceQuery::One(key)).await?)
}

fn one(page: ResourcePage) -> Result<Resource, ApiError> {
    let first = page.resources.into_iter().next();
    first.ok_or_else(|| ApiError::service("The resource is not told."))
}

fn error(error: hearth_core::Error) -> ApiError {
    // AWS sends this one without a `Type`.
    let is_untyped = error
        .message
        .starts_with("The Lambda code signing configuration ");
    let error = api_error(error);
    if is_untyped {
        error.without_type()
    } else {
        error
    }
}

/// The resource that an ARN of this account names; `None` of what is neither.
pub(super) fn named(app: &App, call: &Call, arn: &str) -> Option<ResourceKey> {
    let parts: Vec<&str> = arn.split(':').collect();
    let account = call.caller.account.as_str();
    match parts[..] {
        ["arn", _, "lambda", region, owner, kind, id]
            if region == app.catalog.region && owner == account =>
        {
            match kind {
                "code-signing-config" => Some(ResourceKey::Signing(id.to_owned())),
                "event-source-mapping" => Some(ResourceKey::Mapping(id.to_owned())),
                _ => None,
            }
        }
        _ => None,
    }
}
