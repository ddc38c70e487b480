//! CreateFunction: checks, stores the code on a majority of the controllers or finds out which image is meant, then has the
//! function made.

use hearth_aws_api::ApiError;
use hearth_aws_api::lambda::{self, CreateFunctionRequest, FunctionCode};
use hearth_core::control::ControlRequest;
use hearth_core::function::PackageType;
use hearth_core::ids::Version;

use super::super::errors::{api_error, unsupported};
use super::super::{
    Answer, Call, code, configuration, control_function, documents, image, owned, signing, tags,
};
use crate::app::App;
use crate::lambda::authority;

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
    let source = source_of(input.package_type.as_deref(), input.code.take())?;
    let tags = input.tags.take().unwrap_or_default();
    tags::check_count(tags.len())?;
    let code_signing = input.code_signing_config_arn.take();
    let config = configuration::of_create(input)?;
    authority::check_role(app, call, &config.role)?;
    if code_signing.is_some() && config.package_type == PackageType::Image {
        return Err(signing::not_for_images());
    }
    let code = match source {
        Source::Zip(zip) => {
            let code = code::check(zip.clone()).await?;
            app.blobs.put(&code.digest, zip).await.map_err(api_error)?;
            code
        }
        Source::Image(uri) => image::resolve(app, &uri, &config.architectures).await?,
    };
    let (account, name) = owned(&function);
    let request = ControlRequest::CreateFunction {
        account,
        name,
        config,
        code,
        tags,
        code_signing,
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

/// Where the code comes from.
enum Source {
    Zip(bytes::Bytes),
    /// By this reference.
    Image(String),
}

fn source_of(package_type: Option<&str>, code: Option<FunctionCode>) -> Result<Source, ApiError> {
    let code = code.unwrap_or_default();
    let missing =
        || ApiError::invalid_parameter_value("Please provide a source for function code.");
    let is_on_s3 = code.s3_bucket.is_some() || code.s3_key.is_some();
    if package_type == Some("Image") {
        if is_on_s3 || code.zip_file.is_some() {
            return Err(ApiError::invalid_parameter_value(
                "Please do not provide other FunctionCode parameters when an ImageUri is provided.",
            ));
        }
        return code.image_uri.map(Source::Image).ok_or_else(missing);
    }
    if is_on_s3 {
        return Err(unsupported("code from S3 (Code.S3Bucket)"));
    }
    let zip = code.zip_file.map(|zip| Source::Zip(zip.0));
    zip.ok_or_else(missing)
}
