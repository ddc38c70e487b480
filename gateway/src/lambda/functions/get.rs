//! GetFunction and GetFunctionConfiguration.

use hearth_aws_api::ApiError;
use hearth_aws_api::lambda::{
    Concurrency, FunctionCodeLocation, GetFunctionConfigurationRequest, GetFunctionRequest,
    GetFunctionResponse,
};
use hearth_core::function::Function;
use hearth_core::ids::Version;
use hearth_core::name::FunctionRef;

use super::super::errors::api_error;
use super::super::{Answer, Call, documents, read};
use crate::app::App;
use crate::catalog::not_found;

pub(in crate::lambda) async fn function(app: &App, call: &Call) -> Answer {
    let input: GetFunctionRequest = call.input()?;
    let name = call.function(
        app,
        input.function_name.as_deref(),
        input.qualifier.as_deref(),
    )?;
    let (function, version) = qualified(app, &name).await?;
    let snapshot = function.version(version).unwrap_or(&function.latest);
    let location = match &snapshot.code.image {
        Some(uri) => documents::image_location(uri, snapshot.code.digest),
        None => {
            let digest = snapshot.code.digest;
            let location = app.links.make(&call.parts, &digest, app.unix_ms());
            FunctionCodeLocation {
                repository_type: Some("S3".to_owned()),
                location: Some(location),
                ..FunctionCodeLocation::default()
            }
        }
    };
    let reserved = function
        .reserved_concurrency
        .and_then(|n| i32::try_from(n).ok());
    let region = &app.catalog.region;
    let configuration = documents::named(&function, version, region, name.qualifier.as_ref());
    call.output(&GetFunctionResponse {
        configuration: Some(configuration),
        code: Some(location),
        tags: Some(function.tags).filter(|tags| !tags.is_empty()),
        tags_error: None,
        concurrency: reserved.map(|n| Concurrency {
            reserved_concurrent_executions: Some(n),
        }),
    })
}

pub(in crate::lambda) async fn configuration(app: &App, call: &Call) -> Answer {
    let input: GetFunctionConfigurationRequest = call.input()?;
    let name = call.function(
        app,
        input.function_name.as_deref(),
        input.qualifier.as_deref(),
    )?;
    let (function, version) = qualified(app, &name).await?;
    call.output(&documents::named(
        &function,
        version,
        &app.catalog.region,
        name.qualifier.as_ref(),
    ))
}

/// The function and the version that the qualifier names: of an alias the one it points to without weights.
async fn qualified(app: &App, name: &FunctionRef) -> Result<(Function, Version), ApiError> {
    let function = read(app, name).await?;
    match function.version_named(name.qualifier.as_ref()) {
        Some(version) => Ok((function, version)),
        None => Err(api_error(not_found(name, &app.catalog.region))),
    }
}
