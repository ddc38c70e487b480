//! UpdateFunctionCode and UpdateFunctionConfiguration.

use hearth_aws_api::ApiError;
use hearth_aws_api::lambda::{UpdateFunctionCodeRequest, UpdateFunctionConfigurationRequest};
use hearth_core::control::ControlRequest;
use hearth_core::function::{CodeRef, PackageType};
use hearth_core::ids::Version;
use hearth_core::image::{IMAGE_FOR_ZIP, ZIP_FOR_IMAGE};
use hearth_core::name::FunctionRef;

use super::super::errors::{api_error, unsupported};
use super::super::{
    Answer, Call, code, configuration as configurations, control_function, documents, image, owned,
    read, unqualified,
};
use crate::app::App;
use crate::lambda::authority;

pub(in crate::lambda) async fn code(app: &App, call: &Call) -> Answer {
    let mut input: UpdateFunctionCodeRequest = call.input()?;
    let function = unqualified(app, call, input.function_name.as_deref())?;
    check_source(&input)?;
    let dry_run = input.dry_run.unwrap_or_default();
    let publish = input.publish.unwrap_or_default();
    let code = new_code(app, &function, &mut input).await?;
    let (account, name) = owned(&function);
    let request = ControlRequest::UpdateFunctionCode {
        account,
        name,
        code,
        architectures: input.architectures,
        revision_id: input.revision_id,
        dry_run,
    };
    let region = &app.catalog.region;
    if publish && !dry_run {
        let first = Box::new(request);
        let request = ControlRequest::ThenPublish { first };
        let updated = control_function(app, &request, &function).await?;
        let newest = Version::Number(updated.last_version);
        return call.output(&documents::version(&updated, newest, region));
    }
    let updated = control_function(app, &request, &function).await?;
    call.output(&documents::configuration(&updated, region, None))
}

/// The code that is sent, stored unless nothing is to be changed; or what the image's reference names now.
async fn new_code(
    app: &App,
    function: &FunctionRef,
    input: &mut UpdateFunctionCodeRequest,
) -> Result<CodeRef, ApiError> {
    if let Some(uri) = input.image_uri.take() {
        let config = read(app, function).await?.latest.config;
        let refused = match config.package_type {
            PackageType::Zip => IMAGE_FOR_ZIP,
            PackageType::Image if input.zip_file.is_some() => ZIP_FOR_IMAGE,
            PackageType::Image => {
                let architectures = input
                    .architectures
                    .as_ref()
                    .unwrap_or(&config.architectures);
                return image::resolve(app, &uri, architectures).await;
            }
        };
        return Err(ApiError::invalid_parameter_value(refused));
    }
    let zip = input.zip_file.take().map(|zip| zip.0).ok_or_else(|| {
        ApiError::invalid_parameter_value("Please provide a source for function code.")
    })?;
    let code = code::check(zip.clone()).await?;
    if !input.dry_run.unwrap_or_default() {
        app.blobs.put(&code.digest, zip).await.map_err(api_error)?;
    }
    Ok(code)
}

fn check_source(input: &UpdateFunctionCodeRequest) -> Result<(), ApiError> {
    if input.publish_to.is_some() {
        return Err(unsupported("publishing to $LATEST.PUBLISHED (PublishTo)"));
    }
    if input.s3_bucket.is_some() || input.s3_key.is_some() {
        return Err(unsupported("code from S3 (S3Bucket)"));
    }
    Ok(())
}

pub(in crate::lambda) async fn configuration(app: &App, call: &Call) -> Answer {
    let mut input: UpdateFunctionConfigurationRequest = call.input()?;
    let function = unqualified(app, call, input.function_name.as_deref())?;
    let revision_id = input.revision_id.take();
    if input.image_config.is_some() {
        let config = read(app, &function).await?.latest.config;
        configurations::check_image_config(config.package_type)?;
    }
    let patch = configurations::of_update(input)?;
    if let Some(role) = &patch.role {
        authority::check_role(app, call, role)?;
    }
    let (account, name) = owned(&function);
    let request = ControlRequest::UpdateFunctionConfiguration {
        account,
        name,
        patch,
        revision_id,
    };
    let updated = control_function(app, &request, &function).await?;
    call.output(&documents::configuration(
        &updated,
        &app.catalog.region,
        None,
    ))
}
