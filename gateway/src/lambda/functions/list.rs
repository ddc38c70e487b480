//! ListFunctions, page by page. A marker is the last name of the page before, in base64.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hearth_aws_api::ApiError;
use hearth_aws_api::lambda::{ListFunctionsRequest, ListFunctionsResponse};
use hearth_core::control::{ControlReply, ControlRequest};
use hearth_core::limits::LIST_DEFAULT;
use hearth_core::name::FunctionName;

use super::super::errors::api_error;
use super::super::{Answer, Call, documents, unexpected};
use crate::app::App;

pub(in crate::lambda) async fn handle(app: &App, call: &Call) -> Answer {
    let input: ListFunctionsRequest = call.input()?;
    let asked = input.max_items.and_then(|n| usize::try_from(n).ok());
    let request = ControlRequest::ListFunctions {
        account: call.caller.account.clone(),
        after: input.marker.as_deref().map(from_marker).transpose()?,
        // "Note that ListFunctions returns a maximum of 50 items in each response, even if you set the number higher."
        limit: asked.unwrap_or(LIST_DEFAULT).min(LIST_DEFAULT),
    };
    let reply = app.controllers.execute(&request).await.map_err(api_error)?;
    let ControlReply::Functions { functions, more } = reply else {
        return Err(unexpected(&reply));
    };
    let last = functions.last().filter(|_| more);
    call.output(&ListFunctionsResponse {
        next_marker: last.map(|function| URL_SAFE_NO_PAD.encode(function.name.as_str())),
        functions: Some(
            functions
                .iter()
                .map(|function| documents::configuration(function, &app.catalog.region, None))
                .collect(),
        ),
    })
}

fn from_marker(marker: &str) -> Result<FunctionName, ApiError> {
    URL_SAFE_NO_PAD
        .decode(marker)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|name| name.parse().ok())
        .ok_or_else(|| ApiError::invalid_parameter_value(format!("Invalid marker: {marker}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_read_back_and_made_up_ones_refused() {
        let marker = URL_SAFE_NO_PAD.encode("f-1");
        assert_eq!(from_marker(&marker).unwrap().as_str(), "f-1");
        assert!(from_marker("%%%").is_err());
        assert!(from_marker(&URL_SAFE_NO_PAD.encode("a b")).is_err());
    }
}
