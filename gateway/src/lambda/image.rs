//! Container images as code: a reference is resolved once, here, and the function pinned to what it names. Pulling is the workers'
//! business.

use std::time::Duration;

use hearth_aws_api::ApiError;
use hearth_core::function::CodeRef;
use hearth_core::image::{ManifestError, Reference, manifest};
use hearth_registry::RegistryError;

use crate::app::App;

/// Longest time for a reference: shorter than what clients wait for an answer.
const DEADLINE: Duration = Duration::from_secs(30);

/// The code that a reference names now.
pub(super) async fn resolve(
    app: &App,
    uri: &str,
    architectures: &[String],
) -> Result<CodeRef, ApiError> {
    let reference: Reference = uri.parse().map_err(|reason| {
        ApiError::invalid_parameter_value(format!(
            "Source image {uri} is not valid. Provide a valid source image. ({reason})"
        ))
    })?;
    let architecture = architectures.first().map_or("x86_64", String::as_str);
    let architecture = manifest::architecture(architecture);
    let asked = app.registry.image(&reference, architecture);
    let image = tokio::time::timeout(DEADLINE, asked)
        .await
        .unwrap_or_else(|_| {
            Err(RegistryError::Unreachable {
                host: reference.host.clone(),
                reason: format!("it took longer than {} s", DEADLINE.as_secs()),
            })
        })
        .map_err(|error| refusal(uri, error))?;
    Ok(CodeRef {
        digest: image.digest,
        size_bytes: 0,
        unpacked_bytes: 0,
        image: Some(uri.to_owned()),
    })
}

/// AWS's words, and in brackets what AWS would not know.
fn refusal(uri: &str, error: RegistryError) -> ApiError {
    tracing::info!(%uri, %error, "image refused");
    match &error {
        RegistryError::NotFound { .. } => ApiError::invalid_parameter_value(format!(
            "Source image {uri} does not exist. Provide a valid source image."
        )),
        RegistryError::Denied { .. } | RegistryError::NotAllowed { .. } => {
            ApiError::access_denied(format!(
                "Lambda does not have permission to access the ECR image. Check the ECR permissions. ({error})"
            ))
        }
        RegistryError::Manifest(
            ManifestError::MediaType(_)
            | ManifestError::Platform { .. }
            | ManifestError::Unreadable { .. },
        ) => ApiError::invalid_parameter_value(format!(
            "The image manifest, config or layer media type for the source image {uri} is not supported. ({error})"
        )),
        RegistryError::Manifest(_)
        | RegistryError::Digest { .. }
        | RegistryError::Protocol { .. }
        | RegistryError::Unreachable { .. } => ApiError::invalid_parameter_value(format!(
            "Source image {uri} is not valid. Provide a valid source image. ({error})"
        )),
        RegistryError::Credentials { .. } | RegistryError::Disk { .. } => {
            ApiError::service("The image cannot be asked for at this gateway. Its operator finds the reason in its log.")
                .with_source(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(error: RegistryError) -> (u16, String) {
        let error = refusal("r.example.com/a:1", error);
        (error.status().as_u16(), error.message().to_owned())
    }

    #[test]
    fn refusals_are_in_awss_words_and_say_what_to_do() {
        let host = || "r.example.com".to_owned();
        let what = || "a:1".to_owned();
        assert_eq!(
            told(RegistryError::NotFound {
                host: host(),
                what: what()
            }),
            (
                400,
                "Source image r.example.com/a:1 does not exist. Provide a valid source image."
                    .to_owned()
            )
        );
        let (status, text) = told(RegistryError::Denied {
            host: host(),
            what: what(),
        });
        assert_eq!(status, 403);
        assert!(text.starts_with(
            "Lambda does not have permission to access the ECR image. Check the ECR permissions."
        ));
        assert!(text.contains("registries.credentials"));
        let zstd = ManifestError::MediaType("application/vnd.oci.image.layer.v1.tar+zstd".into());
        let (status, text) = told(RegistryError::Manifest(zstd));
        assert_eq!(status, 400);
        assert!(text.starts_with("The image manifest, config or layer media type for the source image r.example.com/a:1 is not supported."));
        let reason = "Connection refused (os error 111)".to_owned();
        let (status, text) = told(RegistryError::Unreachable {
            host: host(),
            reason,
        });
        assert!(
            status == 400
                && text.contains("Connection refused")
                && text.contains("registries.plain_http")
        );
        let reason = "secret path".to_owned();
        let (status, text) = told(RegistryError::Credentials { reason });
        assert!(
            status == 500 && !text.contains("secret"),
            "the operator's matter"
        );
    }
}
