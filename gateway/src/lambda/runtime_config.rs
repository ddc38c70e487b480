//! How a function is run beside its configuration: Put- and Get- of FunctionRecursionConfig, RuntimeManagementConfig and
//! FunctionScalingConfig. None of them has an effect yet; docs say so.

use hearth_aws_api::ApiError;
use hearth_aws_api::lambda::{
    GetFunctionRecursionConfigRequest, GetFunctionRecursionConfigResponse,
    GetFunctionScalingConfigRequest, GetRuntimeManagementConfigRequest,
    GetRuntimeManagementConfigResponse, PutFunctionRecursionConfigRequest,
    PutFunctionRecursionConfigResponse, PutFunctionScalingConfigRequest,
    PutRuntimeManagementConfigRequest, PutRuntimeManagementConfigResponse,
};
use hearth_core::attached::{AttachedChange, LATEST, RuntimeManagement};
use hearth_core::function::{Function, PackageType};
use hearth_core::name::{FunctionRef, Qualifier};

use super::attached::change;
use super::errors::api_error;
use super::{Answer, Call, documents, read, unqualified};
use crate::app::App;

const AUTO: &str = "Auto";
const MANUAL: &str = "Manual";

pub(super) async fn put_recursion(app: &App, call: &Call) -> Answer {
    let input: PutFunctionRecursionConfigRequest = call.input()?;
    let function = unqualified(app, call, input.function_name.as_deref())?;
    let allow = input.recursive_loop.as_deref() == Some("Allow");
    let changed = change(app, &function, AttachedChange::SetRecursion { allow }).await?;
    call.output(&PutFunctionRecursionConfigResponse {
        recursive_loop: Some(recursion(&changed)),
    })
}

pub(super) async fn get_recursion(app: &App, call: &Call) -> Answer {
    let input: GetFunctionRecursionConfigRequest = call.input()?;
    let function = unqualified(app, call, input.function_name.as_deref())?;
    let found = read(app, &function).await?;
    call.output(&GetFunctionRecursionConfigResponse {
        recursive_loop: Some(recursion(&found)),
    })
}

fn recursion(function: &Function) -> String {
    let shown = match function.attached.allows_recursion {
        true => "Allow",
        false => "Terminate",
    };
    shown.to_owned()
}

pub(super) async fn put_management(app: &App, call: &Call) -> Answer {
    let input: PutRuntimeManagementConfigRequest = call.input()?;
    let name = input.function_name.as_deref();
    let function = call.function(app, name, input.qualifier.as_deref())?;
    check_version(&function)?;
    let found = found(app, &function).await?;
    let management = RuntimeManagement {
        update_on: input.update_runtime_on.unwrap_or_default(),
        runtime_version_arn: input.runtime_version_arn,
    };
    check_management(&found, &management, &app.catalog.region)?;
    let set = AttachedChange::SetRuntimeManagement {
        qualifier: function.qualifier.clone(),
        management,
    };
    let changed = change(app, &function, set).await?;
    let (update_runtime_on, runtime_version_arn) = managed(&changed, &function);
    call.output(&PutRuntimeManagementConfigResponse {
        update_runtime_on: Some(update_runtime_on),
        function_arn: Some(function.arn(&app.catalog.region)),
        runtime_version_arn,
    })
}

pub(super) async fn get_management(app: &App, call: &Call) -> Answer {
    let input: GetRuntimeManagementConfigRequest = call.input()?;
    let name = input.function_name.as_deref();
    let function = call.function(app, name, input.qualifier.as_deref())?;
    check_version(&function)?;
    let found = found(app, &function).await?;
    let (update_runtime_on, runtime_version_arn) = managed(&found, &function);
    call.output(&GetRuntimeManagementConfigResponse {
        update_runtime_on: Some(update_runtime_on),
        function_arn: Some(function.arn(&app.catalog.region)),
        runtime_version_arn,
    })
}

/// "This can be $LATEST or a published version number."
fn check_version(function: &FunctionRef) -> Result<(), ApiError> {
    match &function.qualifier {
        Some(Qualifier::Alias(_)) => Err(ApiError::invalid_parameter_value(
            "Runtime management is of versions. Specify $LATEST or a published version number as the qualifier.",
        )),
        Some(Qualifier::Version(_)) | None => Ok(()),
    }
}

async fn found(app: &App, function: &FunctionRef) -> Result<Function, ApiError> {
    let found = read(app, function).await?;
    let qualifier = function.qualifier.as_ref();
    found
        .check_named(qualifier, &app.catalog.region)
        .map_err(api_error)?;
    Ok(found)
}

/// A runtime has one version here, and no other can be kept.
fn check_management(
    function: &Function,
    management: &RuntimeManagement,
    region: &str,
) -> Result<(), ApiError> {
    let config = &function.latest.config;
    let refused = |text: String| Err(ApiError::invalid_parameter_value(text));
    if config.package_type == PackageType::Image {
        return refused(
            "Runtime management is not supported for functions created with container images."
                .to_owned(),
        );
    }
    match (&*management.update_on, &management.runtime_version_arn) {
        (MANUAL, None) => {
            refused("A RuntimeVersionArn is required with UpdateRuntimeOn Manual.".to_owned())
        }
        (MANUAL, Some(arn)) => {
            let runtime = config.runtime.as_deref().unwrap_or_default();
            let known = documents::runtime_version(runtime, region).runtime_version_arn;
            if known.as_ref() == Some(arn) {
                return Ok(());
            }
            refused(format!(
                "The runtime version {arn} is not available for the runtime {runtime}."
            ))
        }
        (_, Some(_)) => {
            refused("A RuntimeVersionArn is for UpdateRuntimeOn Manual alone.".to_owned())
        }
        (_, None) => Ok(()),
    }
}

fn managed(function: &Function, named: &FunctionRef) -> (String, Option<String>) {
    let key = named.qualifier.as_ref().unwrap_or(&LATEST);
    match function.attached.runtime_management.get(key) {
        Some(managed) => (
            managed.update_on.clone(),
            managed.runtime_version_arn.clone(),
        ),
        None => (AUTO.to_owned(), None),
    }
}

pub(super) async fn put_scaling(app: &App, call: &Call) -> Answer {
    let input: PutFunctionScalingConfigRequest = call.input()?;
    Err(not_managed(app, call, input.function_name.as_deref()).await)
}

pub(super) async fn get_scaling(app: &App, call: &Call) -> Answer {
    let input: GetFunctionScalingConfigRequest = call.input()?;
    Err(not_managed(app, call, input.function_name.as_deref()).await)
}

/// "Sets the scaling configuration for a Lambda Managed Instances function": there are no such functions here.
async fn not_managed(app: &App, call: &Call, name: Option<&str>) -> ApiError {
    let function = match unqualified(app, call, name) {
        Ok(function) => function,
        Err(error) => return error,
    };
    match read(app, &function).await {
        Ok(_) => ApiError::invalid_parameter_value(
            "Scaling configurations are supported for functions with a capacity provider only.",
        ),
        Err(error) => error,
    }
}
