//! GetFunction and GetFunctionConfiguration.

use hearth_aws_api::ApiError;
use hearth_aws_api::lambda::{
    Concurrency, FunctionCodeLocation, GetFunctionConfigurationRequest, GetFunctionRequest,
    GetFunctionResponse,
};
use hearth_core::function::Function;
use hearth_core::ids::Version;
use hearth_core::name::{FunctionRef, Qualifier};

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
    let function = qualified(app, &name).await?;
    let location = app
        .links
        .make(&call.parts, &function.latest.code.digest, app.unix_ms());
    let reserved = function
        .reserved_concurrency
        .and_then(|n| i32::try_from(n).ok());
    let configuration =
        documents::configuration(&function, &app.catalog.region, name.qualifier.as_ref());
    call.output(&GetFunctionResponse {
        configuration: Some(configuration),
        code: Some(FunctionCodeLocation {
            repository_type: Some("S3".to_owned()),
            location: Some(location),
            ..FunctionCodeLocation::default()
        }),
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
    let function = qualified(app, &name).await?;
    call.output(&documents::configuration(
        &function,
        &app.catalog.region,
        name.qualifier.as_ref(),
    ))
}

/// The function, if the qualifier names something that exists.
async fn qualified(app: &App, name: &FunctionRef) -> Result<Function, ApiError> {
    match &name.qualifier {
        None | Some(Qualifier::Version(Version::Latest)) => read(app, name).await,
        Some(Qualifier::Version(Version::Number(_)) | Qualifier::Alias(_)) => {
            Err(api_error(not_found(name, &app.catalog.region)))
        }
    }
}
