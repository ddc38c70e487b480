//! Aliases: Create, Get, List, Update and Delete. What may point where is the controllers' to check.

use std::collections::BTreeMap;

use hearth_aws_api::ApiError;
use hearth_aws_api::lambda::{
    AliasConfiguration, AliasRoutingConfiguration, CreateAliasRequest, DeleteAliasRequest,
    GetAliasRequest, ListAliasesRequest, ListAliasesResponse, UpdateAliasRequest,
};
use hearth_core::control::VersionChange;
use hearth_core::function::Function;
use hearth_core::ids::Version;
use hearth_core::name::{FunctionRef, function_arn};
use hearth_core::versions::{Alias, Weight};

use super::{Answer, Call, change_versions, page, read, unqualified};
use crate::app::App;

pub(super) async fn create(app: &App, call: &Call) -> Answer {
    let input: CreateAliasRequest = call.input()?;
    let function = unqualified(app, call, input.function_name.as_deref())?;
    let alias = input.name.unwrap_or_default();
    let target = input.function_version.unwrap_or_default();
    let change = VersionChange::CreateAlias {
        alias: alias.clone(),
        version: version(app, &function, &target)?,
        description: input.description.unwrap_or_default(),
        weights: weights(app, &function, input.routing_config)?,
    };
    let changed = change_versions(app, &function, change).await?;
    show(app, call, &changed, &alias)
}

pub(super) async fn update(app: &App, call: &Call) -> Answer {
    let input: UpdateAliasRequest = call.input()?;
    let function = unqualified(app, call, input.function_name.as_deref())?;
    let alias = input.name.unwrap_or_default();
    let target = input.function_version.as_deref();
    let routing = input.routing_config;
    let change = VersionChange::UpdateAlias {
        alias: alias.clone(),
        version: target
            .map(|text| version(app, &function, text))
            .transpose()?,
        description: input.description,
        weights: routing
            .map(|routing| weights(app, &function, Some(routing)))
            .transpose()?,
        revision_id: input.revision_id,
    };
    let changed = change_versions(app, &function, change).await?;
    show(app, call, &changed, &alias)
}

pub(super) async fn delete(app: &App, call: &Call) -> Answer {
    let input: DeleteAliasRequest = call.input()?;
    let function = unqualified(app, call, input.function_name.as_deref())?;
    let change = VersionChange::DeleteAlias {
        alias: input.name.unwrap_or_default(),
    };
    change_versions(app, &function, change).await?;
    call.empty()
}

pub(super) async fn get(app: &App, call: &Call) -> Answer {
    let input: GetAliasRequest = call.input()?;
    let function = unqualified(app, call, input.function_name.as_deref())?;
    let found = read(app, &function).await?;
    show(app, call, &found, input.name.as_deref().unwrap_or_default())
}

pub(super) async fn list(app: &App, call: &Call) -> Answer {
    let input: ListAliasesRequest = call.input()?;
    let function = unqualified(app, call, input.function_name.as_deref())?;
    let after = input.marker.as_deref().map(page::from_marker).transpose()?;
    let found = read(app, &function).await?;
    let of = input.function_version;
    let wanted = found.aliases.iter().filter(|(name, alias)| {
        after.as_ref().is_none_or(|after| *name > after)
            && of
                .as_ref()
                .is_none_or(|of| alias.version.to_string() == *of)
    });
    let region = &app.catalog.region;
    let documents =
        wanted.map(|(name, alias)| (name.clone(), document(&found, name, alias, region)));
    let (aliases, next_marker) = page::cut(documents, page::size(input.max_items));
    call.output(&ListAliasesResponse {
        next_marker,
        aliases: Some(aliases),
    })
}

/// The 404 of an alias that is only read.
pub(super) fn not_found(function: &FunctionRef, alias: &str, region: &str) -> ApiError {
    let arn = function_arn(region, &function.account, &function.name);
    ApiError::resource_not_found(format!("Cannot find alias arn: {arn}:{alias}"))
}

fn show(app: &App, call: &Call, function: &Function, name: &str) -> Answer {
    let region = &app.catalog.region;
    let Some(alias) = function.aliases.get(name) else {
        let function = FunctionRef {
            account: function.account.clone(),
            name: function.name.clone(),
            qualifier: None,
        };
        return Err(not_found(&function, name, region));
    };
    call.output(&document(function, name, alias, region))
}

fn document(function: &Function, name: &str, alias: &Alias, region: &str) -> AliasConfiguration {
    let arn = function_arn(region, &function.account, &function.name);
    let weights = alias.weights.iter();
    let weights: BTreeMap<String, f64> = weights
        .map(|(version, weight)| (version.to_string(), weight.share()))
        .collect();
    AliasConfiguration {
        alias_arn: Some(format!("{arn}:{name}")),
        name: Some(name.to_owned()),
        function_version: Some(alias.version.to_string()),
        description: Some(alias.description.clone()),
        routing_config: (!weights.is_empty()).then_some(AliasRoutingConfiguration {
            additional_version_weights: Some(weights),
        }),
        revision_id: Some(alias.revision_id.clone()),
    }
}

/// A version as the model lets it be written; what cannot be one does not exist.
fn version(app: &App, function: &FunctionRef, text: &str) -> Result<Version, ApiError> {
    text.parse().map_err(|_| {
        let arn = function_arn(&app.catalog.region, &function.account, &function.name);
        ApiError::resource_not_found(format!("Function not found: {arn}:{text}"))
    })
}

fn weights(
    app: &App,
    function: &FunctionRef,
    routing: Option<AliasRoutingConfiguration>,
) -> Result<BTreeMap<u64, Weight>, ApiError> {
    let sent = routing.and_then(|routing| routing.additional_version_weights);
    let mut weights = BTreeMap::new();
    for (text, share) in sent.unwrap_or_default() {
        let weight = Weight::new(share)
            .map_err(|error| ApiError::invalid_parameter_value(error.to_string()))?;
        if let Version::Number(number) = version(app, function, &text)? {
            weights.insert(number, weight);
        }
    }
    Ok(weights)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::function;
    use serde_json::json;

    #[test]
    fn an_alias_is_shown_as_aws_shows_it() {
        let mut alias = Alias {
            version: Version::Number(1),
            description: String::new(),
            weights: BTreeMap::new(),
            revision_id: "r".into(),
        };
        let shown = |alias: &Alias| {
            let document = document(&function("f", 1), "live", alias, "us-east-1");
            serde_json::to_value(document).unwrap()
        };
        let mut expected = json!({
            "AliasArn": "arn:aws:lambda:us-east-1:000000000000:function:f:live",
            "Name": "live",
            "FunctionVersion": "1",
            "Description": "",
            "RevisionId": "r",
        });
        assert_eq!(shown(&alias), expected);
        alias.weights.insert(2, Weight::new(0.1).unwrap());
        expected["RoutingConfig"] = json!({ "AdditionalVersionWeights": { "2": 0.1 } });
        assert_eq!(shown(&alias), expected);
    }
}
