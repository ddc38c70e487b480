//! CreateFunction: checks, stores the code on a majority of the controllers, then has the function made.

use hearth_aws_api::ApiError;
use hearth_aws_api::lambda::{self, CreateFunctionRequest, FunctionCode};
use hearth_core::control::ControlRequest;
use hearth_core::ids::Version;

use super::super::errors::unsupported;
use super::super::{Answer, Call, code, configuration, control_function, documents, owned, tags};
use crate::app::App;

pub(in crate::lambda) async fn handle(app: &App, call: &Call) -> Answer {
    let mut input: CreateFunctionRequest = call.input()?;
    let function = call.function(app, input.function_name.as_deref(), None)?;
    if function.qualifier.is_some() {
        let name = input.function_name.as_deref().unwrap_or_default();
        return Err(lambda::rules::qualified_name(name));
    }
    if input.publish_to.is_some() {
        return Err(unsupported("publishing to $LATEST.PUBLISHED (PublishTo)"));
    }
    let publish = input.publish.unwrap_or_default();
    let zip = zip_of(input.code.take().unwrap_or_default())?;
    let tags = input.tags.take().unwrap_or_default();
    tags::check_count(tags.len())?;
    let config = configuration::of_create(input)?;
    let code = code::check(zip.clone()).await?;
    app.blobs
        .put(&code.digest, zip)
        .await
        .map_err(super::super::errors::api_error)?;
    let (account, name) = owned(&function);
    let request = ControlRequest::CreateFunction {
        account,
        name,
        config,
        code,
        tags,
    };
    let request = if publish {
        ControlRequest::ThenPublish {
            first: Box::new(request),
        }
    } else {
        request
    };
    let made = control_function(app, &request, &function).await?;
    // AWS shows the version that was published, under the function's own ARN.
    let version = match made.last_version {
        0 => Version::Latest,
        number => Version::Number(number),
    };
    let region = &app.catalog.region;
    call.output(&documents::named(&made, version, region, None))
}

fn zip_of(code: FunctionCode) -> Result<bytes::Bytes, ApiError> {
    if code.image_uri.is_some() {
        return Err(unsupported("functions of container images (Code.ImageUri)"));
    }
    if code.s3_bucket.is_some() || code.s3_key.is_some() {
        return Err(unsupported("code from S3 (Code.S3Bucket)"));
    }
    code.zip_file.map(|zip| zip.0).ok_or_else(|| {
        ApiError::invalid_parameter_value("Please provide a source for function code.")
    })
}
