//! ListFunctions, page by page. A marker is the last name of the page before, in base64; with all versions, `name:version`.

use hearth_aws_api::ApiError;
use hearth_aws_api::lambda::{ListFunctionsRequest, ListFunctionsResponse};
use hearth_core::control::{ControlReply, ControlRequest};
use hearth_core::function::Function;
use hearth_core::name::{FunctionName, FunctionRef};

use super::super::errors::api_error;
use super::super::versions::versions_after;
use super::super::{Answer, Call, documents, page, unexpected};
use crate::app::App;

pub(in crate::lambda) async fn handle(app: &App, call: &Call) -> Answer {
    let input: ListFunctionsRequest = call.input()?;
    let size = page::size(input.max_items);
    let after = input.marker.as_deref().map(from_marker).transpose()?;
    let region = &app.catalog.region;
    if input.function_version.as_deref() == Some("ALL") {
        let (functions, more) = functions_from(app, call, after.as_ref(), size).await?;
        let versions = functions.iter().flat_map(|function| {
            let begun = after.as_ref().filter(|(name, _)| *name == function.name);
            let version = begun.map(|(_, version)| version.as_str());
            versions_after(function, version).map(move |version| {
                let document = documents::version(function, version, region);
                let key = format!("{}:{version}", function.name);
                (key, documents::listed(document))
            })
        });
        let versions: Vec<_> = versions.collect();
        // The controllers may have cut their page at a message's size.
        let last = versions.last().filter(|_| more);
        let last = last.map(|(key, _)| page::marker(key));
        let (functions, next_marker) = page::cut(versions.into_iter(), size);
        let next_marker = next_marker.or(last);
        return call.output(&ListFunctionsResponse {
            next_marker,
            functions: Some(functions),
        });
    }
    let after = after.map(|(name, _)| name);
    let (functions, more) = page_after(app, call, after, size).await?;
    let last = functions.last().filter(|_| more);
    call.output(&ListFunctionsResponse {
        next_marker: last.map(|function| page::marker(function.name.as_str())),
        functions: Some(
            functions
                .iter()
                .map(|function| documents::configuration(function, region, None))
                .map(documents::listed)
                .collect(),
        ),
    })
}

/// The function that a page ended in, whose further versions come first, and those after it: enough for a page and one
/// version more, which tells that there is another page.
async fn functions_from(
    app: &App,
    call: &Call,
    after: Option<&(FunctionName, String)>,
    size: usize,
) -> Result<(Vec<Function>, bool), ApiError> {
    let name = after.map(|(name, _)| name.clone());
    let mut functions = Vec::new();
    if let Some(name) = &name {
        let begun = FunctionRef {
            account: call.caller.account.clone(),
            name: name.clone(),
            qualifier: None,
        };
        // One that was deleted meanwhile has no further versions.
        functions.extend(super::super::read(app, &begun).await.ok());
    }
    let (further, more) = page_after(app, call, name, size + 1).await?;
    functions.extend(further);
    Ok((functions, more))
}

async fn page_after(
    app: &App,
    call: &Call,
    after: Option<FunctionName>,
    limit: usize,
) -> Result<(Vec<Function>, bool), ApiError> {
    let request = ControlRequest::ListFunctions {
        account: call.caller.account.clone(),
        after,
        limit,
    };
    let reply = app.controllers.execute(&request).await.map_err(api_error)?;
    match reply {
        ControlReply::Functions { functions, more } => Ok((functions, more)),
        other => Err(unexpected(&other)),
    }
}

/// Name and version; a marker of the plain list has no version.
fn from_marker(marker: &str) -> Result<(FunctionName, String), ApiError> {
    let key = page::from_marker(marker)?;
    let (name, version) = key.split_once(':').unwrap_or((&key, ""));
    let name = name
        .parse()
        .map_err(|_| ApiError::invalid_parameter_value(format!("Invalid marker: {marker}")))?;
    Ok((name, version.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_read_back_and_made_up_ones_refused() {
        for (key, name, version) in [("f-1", "f-1", ""), ("f:$LATEST", "f", "$LATEST")] {
            let read = from_marker(&page::marker(key)).unwrap();
            assert_eq!((read.0.as_str(), read.1.as_str()), (name, version));
        }
        assert!(from_marker("%%%").is_err());
        assert!(from_marker(&page::marker("a b")).is_err());
    }
}
