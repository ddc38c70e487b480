//! Lambda's API: one file per family of operations. Here: what a handler is given, how it names functions, and what
//! it asks of the controllers. Routing, decoding and the wire form of errors are `hearth_aws_api`'s.

mod account;
mod aliases;
mod attached;
pub(crate) mod authority;
mod code;
mod concurrency;
mod configuration;
mod dispatch;
mod documents;
pub(crate) mod errors;
mod event_invoke;
mod functions;
mod image;
pub(crate) mod invoke;
pub(crate) mod invoke_stream;
mod layer_policy;
mod layers;
mod mappings;
mod page;
mod permissions;
mod provisioned;
mod resources;
pub(crate) mod running;
mod runtime_config;
mod signing;
mod tags;
mod urls;
mod versions;

use bytes::Bytes;
use hearth_aws_api::ApiError;
use hearth_aws_api::lambda::{self, Route};
use hearth_core::control::{ControlReply, ControlRequest, VersionChange};
use hearth_core::error::ErrorCode;
use hearth_core::function::Function;
use hearth_core::ids::{AccountId, Version};
use hearth_core::name::{FunctionName, FunctionRef, Qualifier, Scope};
use http::Response;
use http::request::Parts;

use crate::app::App;
use crate::caller::Caller;
use crate::catalog::FunctionKey;
use errors::api_error;

pub(crate) use dispatch::{dispatch, whole};

/// One request to Lambda's API, its signature checked and its body read.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) caller: Caller,
    pub(crate) request_id: String,
    pub(crate) route: Route,
    pub(crate) parts: Parts,
    pub(crate) body: Bytes,
}

type Answer = Result<Response<Bytes>, ApiError>;

impl Call {
    /// The typed input, checked against the model.
    fn input<T: hearth_aws_api::operation::Input>(&self) -> Result<T, ApiError> {
        lambda::decode(&self.route, &self.parts, &self.body)
    }

    /// The answer with the output.
    fn output<T: hearth_aws_api::operation::Output>(&self, output: &T) -> Answer {
        Ok(lambda::encode_output(
            self.route.operation,
            output,
            &self.request_id,
        ))
    }

    /// The answer of an operation without output.
    fn empty(&self) -> Answer {
        Ok(lambda::encode_empty(self.route.operation, &self.request_id))
    }

    /// The function that a request names, which must be of the caller's account.
    fn function(
        &self,
        app: &App,
        name: Option<&str>,
        qualifier: Option<&str>,
    ) -> Result<FunctionRef, ApiError> {
        let action = self.route.operation.name();
        resolve(
            app,
            &self.caller,
            name.unwrap_or_default(),
            qualifier,
            action,
        )
    }
}

/// A function by name, partial ARN or ARN; of another account it is refused, whether it exists or not.
pub(crate) fn resolve(
    app: &App,
    caller: &Caller,
    name: &str,
    qualifier: Option<&str>,
    action: &str,
) -> Result<FunctionRef, ApiError> {
    let function = named(app, caller, name, qualifier)?;
    if function.account == caller.account {
        return Ok(function);
    }
    Err(denied(app, caller, &function, action))
}

/// A function of any account, by name, partial ARN or ARN.
pub(crate) fn named(
    app: &App,
    caller: &Caller,
    name: &str,
    qualifier: Option<&str>,
) -> Result<FunctionRef, ApiError> {
    let scope = Scope {
        region: app.catalog.region.clone(),
        account: caller.account.clone(),
    };
    FunctionRef::resolve(name, qualifier, &scope).map_err(api_error)
}

/// The function's policy does not let another account do this.
fn denied(app: &App, caller: &Caller, function: &FunctionRef, action: &str) -> ApiError {
    ApiError::access_denied(format!(
        "User: {} is not authorized to perform: lambda:{action} on resource: {} because no resource-based policy allows the lambda:{action} action",
        caller.arn(),
        function.arn(&app.catalog.region),
    ))
}

/// Carries an operation out at the controllers. A function in the reply is in this gateway's catalog when this
/// returns, so that a client reads its own writes here. `named` is what a 404 names.
async fn control(
    app: &App,
    request: &ControlRequest,
    named: &FunctionRef,
) -> Result<ControlReply, ApiError> {
    let reply = app
        .controllers
        .execute(request)
        .await
        .map_err(|error| match error.code {
            // The controllers know the function, not the qualifier that it was named with.
            ErrorCode::NotFound if error.message == unqualified_text(app, named) => {
                api_error(crate::catalog::not_found(named, &app.catalog.region))
            }
            _ => api_error(error),
        })?;
    if let ControlReply::Function(function) = &reply {
        app.catalog.merge([&**function]);
        app.lookups.made_here(&FunctionKey {
            account: function.account.clone(),
            name: function.name.clone(),
        });
    }
    Ok(reply)
}

fn unqualified_text(app: &App, function: &FunctionRef) -> String {
    let function = FunctionRef {
        qualifier: None,
        ..function.clone()
    };
    crate::catalog::not_found(&function, &app.catalog.region).message
}

/// As [`control`], for operations answered by a function.
async fn control_function(
    app: &App,
    request: &ControlRequest,
    named: &FunctionRef,
) -> Result<Function, ApiError> {
    match control(app, request, named).await? {
        ControlReply::Function(function) => Ok(*function),
        other => Err(unexpected(&other)),
    }
}

/// Carries out a change of the versions or aliases of a function that exists.
async fn change_versions(
    app: &App,
    function: &FunctionRef,
    change: VersionChange,
) -> Result<Function, ApiError> {
    let (account, name) = owned(function);
    let request = ControlRequest::ChangeVersions {
        account,
        name,
        change,
    };
    control_function(app, &request, function).await
}

fn unexpected(reply: &ControlReply) -> ApiError {
    tracing::error!(
        ?reply,
        "a controller answered something else than was asked"
    );
    ApiError::service("The cluster gave an unexpected answer.")
}

/// The function as the controllers have it, environment included.
async fn read(app: &App, function: &FunctionRef) -> Result<Function, ApiError> {
    let request = ControlRequest::GetFunction {
        account: function.account.clone(),
        name: function.name.clone(),
    };
    control_function(app, &request, function).await
}

/// A flood is refused before it costs anything.
pub(crate) fn too_busy() -> ApiError {
    ApiError::service_unavailable("Too many requests are in flight. Try again.").with_retry_after(1)
}

/// A number of the model as one of ours; negative ones were refused by the model.
fn unsigned(value: i32) -> u32 {
    u32::try_from(value).unwrap_or_default()
}

/// The function that an operation on functions alone names. `$LATEST` is the function itself.
fn unqualified(app: &App, call: &Call, name: Option<&str>) -> Result<FunctionRef, ApiError> {
    let function = call.function(app, name, None)?;
    match function.qualifier {
        None | Some(Qualifier::Version(Version::Latest)) => Ok(FunctionRef {
            qualifier: None,
            ..function
        }),
        Some(Qualifier::Version(Version::Number(_)) | Qualifier::Alias(_)) => {
            Err(ApiError::invalid_parameter_value(
                "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. Please specify either a function name or an unqualified function ARN.",
            ))
        }
    }
}

/// The name for a control request.
fn owned(function: &FunctionRef) -> (AccountId, FunctionName) {
    (function.account.clone(), function.name.clone())
}
