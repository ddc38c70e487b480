//! UpdateFunctionCode and UpdateFunctionConfiguration.

use hearth_aws_api::ApiError;
use hearth_aws_api::lambda::{UpdateFunctionCodeRequest, UpdateFunctionConfigurationRequest};
use hearth_core::control::ControlRequest;
use hearth_core::ids::Version;

use super::super::errors::{api_error, unsupported};
use super::super::{
    Answer, Call, code, configuration as configurations, control_function, documents, owned, read,
    unqualified,
};
use crate::app::App;

pub(in crate::lambda) async fn code(app: &App, call: &Call) -> Answer {
    let input: UpdateFunctionCodeRequest = call.input()?;
    let function = unqualified(app, call, input.function_name.as_deref())?;
    if input.image_uri.is_some() {
        read(app, &function).await?;
        return Err(ApiError::invalid_parameter_value(
            "Please don't provide ImageUri when updating a function with packageType Zip.",
        ));
    }
    check_source(&input)?;
    let zip = input.zip_file.map(|zip| zip.0).ok_or_else(|| {
        ApiError::invalid_parameter_value("Please provide a source for function code.")
    })?;
    let dry_run = input.dry_run.unwrap_or_default();
    let publish = input.publish.unwrap_or_default();
    let code = code::check(zip.clone()).await?;
    if !dry_run {
        app.blobs.put(&code.digest, zip).await.map_err(api_error)?;
    }
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
    let patch = configurations::of_update(input)?;
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
