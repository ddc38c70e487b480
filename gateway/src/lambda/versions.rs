//! PublishVersion and ListVersionsByFunction.

use hearth_aws_api::lambda::{
    ListVersionsByFunctionRequest, ListVersionsByFunctionResponse, PublishVersionRequest,
};
use hearth_core::control::{ControlRequest, VersionChange};
use hearth_core::function::Function;
use hearth_core::ids::Version;

use super::errors::unsupported;
use super::{Answer, Call, control_function, documents, owned, page, read, unqualified};
use crate::app::App;

pub(super) async fn publish(app: &App, call: &Call) -> Answer {
    let input: PublishVersionRequest = call.input()?;
    if input.publish_to.is_some() {
        return Err(unsupported("publishing to $LATEST.PUBLISHED (PublishTo)"));
    }
    let function = unqualified(app, call, input.function_name.as_deref())?;
    let (account, name) = owned(&function);
    let request = ControlRequest::ChangeVersions {
        account,
        name,
        change: VersionChange::Publish {
            code_sha256: input.code_sha256,
            description: input.description,
            revision_id: input.revision_id,
        },
    };
    let published = control_function(app, &request, &function).await?;
    let newest = Version::Number(published.last_version);
    call.output(&documents::version(&published, newest, &app.catalog.region))
}

pub(super) async fn list(app: &App, call: &Call) -> Answer {
    let input: ListVersionsByFunctionRequest = call.input()?;
    let function = unqualified(app, call, input.function_name.as_deref())?;
    let after = input.marker.as_deref().map(page::from_marker).transpose()?;
    let found = read(app, &function).await?;
    let all = versions_after(&found, after.as_deref());
    let documents = all.map(|version| {
        let document = documents::version(&found, version, &app.catalog.region);
        (version.to_string(), documents::listed(document))
    });
    let (versions, next_marker) = page::cut(documents, page::size(input.max_items));
    call.output(&ListVersionsByFunctionResponse {
        next_marker,
        versions: Some(versions),
    })
}

/// `$LATEST`, then the published ones, without those up to `after`.
pub(super) fn versions_after(
    function: &Function,
    after: Option<&str>,
) -> impl Iterator<Item = Version> + use<> {
    let first = after.is_none().then_some(Version::Latest);
    let after = after.and_then(|text| text.parse().ok()).unwrap_or(0_u64);
    let numbers: Vec<u64> = function.versions.keys().copied().collect();
    let published = numbers.into_iter().filter(move |n| *n > after);
    first.into_iter().chain(published.map(Version::Number))
}
