//! Code signing configurations (Create, Get, Update, List, Delete) and which functions keep them (Put-, Get-,
//! DeleteFunctionCodeSigningConfig, ListFunctionsByCodeSigningConfig).

use hearth_aws_api::ApiError;
use hearth_aws_api::lambda::{
    AllowedPublishers, CodeSigningConfig, CodeSigningPolicies, CreateCodeSigningConfigRequest,
    CreateCodeSigningConfigResponse, DeleteCodeSigningConfigRequest,
    DeleteFunctionCodeSigningConfigRequest, GetCodeSigningConfigRequest,
    GetCodeSigningConfigResponse, GetFunctionCodeSigningConfigRequest,
    GetFunctionCodeSigningConfigResponse, ListCodeSigningConfigsRequest,
    ListCodeSigningConfigsResponse, ListFunctionsByCodeSigningConfigRequest,
    ListFunctionsByCodeSigningConfigResponse, PutFunctionCodeSigningConfigRequest,
    PutFunctionCodeSigningConfigResponse, UpdateCodeSigningConfigRequest,
    UpdateCodeSigningConfigResponse,
};
use hearth_core::attached::AttachedChange;
use hearth_core::function::{Function, PackageType};
use hearth_core::name::{FunctionRef, function_arn};
use hearth_core::resource::{Resource, ResourceChange, ResourceKey, ResourceQuery};
use hearth_core::signing::{SigningConfig, SigningMembers, signing_arn};

use super::{Answer, Call, attached, documents, page, read, resources, unqualified};
use crate::app::App;

pub(super) async fn create(app: &App, call: &Call) -> Answer {
    let input: CreateCodeSigningConfigRequest = call.input()?;
    let members = members(
        input.description,
        input.allowed_publishers,
        input.code_signing_policies,
    );
    let create = ResourceChange::CreateSigning {
        members,
        tags: input.tags.unwrap_or_default(),
    };
    let made = resources::change(app, call, create).await?;
    call.output(&CreateCodeSigningConfigResponse {
        code_signing_config: Some(document(app, call, made)?),
    })
}

pub(super) async fn update(app: &App, call: &Call) -> Answer {
    let input: UpdateCodeSigningConfigRequest = call.input()?;
    let update = ResourceChange::UpdateSigning {
        id: id(app, call, input.code_signing_config_arn.as_deref())?,
        members: members(
            input.description,
            input.allowed_publishers,
            input.code_signing_policies,
        ),
    };
    let changed = resources::change(app, call, update).await?;
    call.output(&UpdateCodeSigningConfigResponse {
        code_signing_config: Some(document(app, call, changed)?),
    })
}

pub(super) async fn get(app: &App, call: &Call) -> Answer {
    let input: GetCodeSigningConfigRequest = call.input()?;
    let id = id(app, call, input.code_signing_config_arn.as_deref())?;
    let found = resources::read(app, call, ResourceKey::Signing(id)).await?;
    call.output(&GetCodeSigningConfigResponse {
        code_signing_config: Some(document(app, call, found)?),
    })
}

pub(super) async fn delete(app: &App, call: &Call) -> Answer {
    let input: DeleteCodeSigningConfigRequest = call.input()?;
    let id = id(app, call, input.code_signing_config_arn.as_deref())?;
    let key = ResourceKey::Signing(id);
    resources::change(app, call, ResourceChange::Delete { key }).await?;
    call.empty()
}

pub(super) async fn list(app: &App, call: &Call) -> Answer {
    let input: ListCodeSigningConfigsRequest = call.input()?;
    let query = ResourceQuery::SigningConfigs {
        after: input.marker.as_deref().map(page::from_marker).transpose()?,
        limit: page::size(input.max_items),
    };
    let found = resources::query(app, call, query).await?;
    let documents: Result<Vec<CodeSigningConfig>, ApiError> = found
        .resources
        .into_iter()
        .map(|one| document(app, call, one))
        .collect();
    let documents = documents?;
    let last = documents.last().filter(|_| found.more);
    call.output(&ListCodeSigningConfigsResponse {
        next_marker: last
            .and_then(|config| config.code_signing_config_id.as_deref())
            .map(page::marker),
        code_signing_configs: Some(documents),
    })
}

pub(super) async fn list_functions(app: &App, call: &Call) -> Answer {
    let input: ListFunctionsByCodeSigningConfigRequest = call.input()?;
    let after = input.marker.as_deref().map(page::from_marker).transpose()?;
    let query = ResourceQuery::SignedFunctions {
        id: id(app, call, input.code_signing_config_arn.as_deref())?,
        after: after.and_then(|name| name.parse().ok()),
        limit: page::size(input.max_items),
    };
    let found = resources::query(app, call, query).await?;
    let last = found.functions.last().filter(|_| found.more);
    let region = &app.catalog.region;
    let arns = found.functions.iter();
    call.output(&ListFunctionsByCodeSigningConfigResponse {
        next_marker: last.map(|name| page::marker(name.as_str())),
        function_arns: Some(
            arns.map(|name| function_arn(region, &call.caller.account, name))
                .collect(),
        ),
    })
}

pub(super) async fn put_function(app: &App, call: &Call) -> Answer {
    let input: PutFunctionCodeSigningConfigRequest = call.input()?;
    let function = of_archives(app, call, input.function_name.as_deref())
        .await?
        .0;
    let arn = input.code_signing_config_arn;
    let set = AttachedChange::SetCodeSigning { arn };
    let changed = attached::change(app, &function, set).await?;
    call.output(&PutFunctionCodeSigningConfigResponse {
        code_signing_config_arn: changed.attached.code_signing,
        function_name: Some(changed.name.to_string()),
    })
}

pub(super) async fn get_function(app: &App, call: &Call) -> Answer {
    let input: GetFunctionCodeSigningConfigRequest = call.input()?;
    let (_, found) = of_archives(app, call, input.function_name.as_deref()).await?;
    // A function without one is answered with an empty document.
    let arn = found.attached.code_signing;
    call.output(&GetFunctionCodeSigningConfigResponse {
        function_name: arn.as_ref().map(|_| found.name.to_string()),
        code_signing_config_arn: arn,
    })
}

pub(super) async fn delete_function(app: &App, call: &Call) -> Answer {
    let input: DeleteFunctionCodeSigningConfigRequest = call.input()?;
    let function = of_archives(app, call, input.function_name.as_deref())
        .await?
        .0;
    let unset = AttachedChange::SetCodeSigning { arn: None };
    attached::change(app, &function, unset).await?;
    call.empty()
}

/// The function, which is none of a container image.
async fn of_archives(
    app: &App,
    call: &Call,
    name: Option<&str>,
) -> Result<(FunctionRef, Function), ApiError> {
    let function = unqualified(app, call, name)?;
    let found = read(app, &function).await?;
    match found.latest.config.package_type {
        PackageType::Zip => Ok((function, found)),
        PackageType::Image => Err(not_for_images()),
    }
}

/// Images are signed otherwise.
pub(super) fn not_for_images() -> ApiError {
    ApiError::invalid_parameter_value(
        "Code signing is not supported for functions created with container images.",
    )
}

fn id(app: &App, call: &Call, arn: Option<&str>) -> Result<String, ApiError> {
    let arn = arn.unwrap_or_default();
    match resources::named(app, call, arn) {
        Some(ResourceKey::Signing(id)) => Ok(id),
        Some(ResourceKey::Mapping(_)) | None => {
            let text = format!("The Lambda code signing configuration {arn} can not be found.");
            Err(ApiError::resource_not_found(text).without_type())
        }
    }
}

fn members(
    description: Option<String>,
    publishers: Option<AllowedPublishers>,
    policies: Option<CodeSigningPolicies>,
) -> SigningMembers {
    let policy = policies.and_then(|p| p.untrusted_artifact_on_deployment);
    SigningMembers {
        description,
        publishers: publishers.and_then(|p| p.signing_profile_version_arns),
        enforces: policy.map(|policy| policy == "Enforce"),
    }
}

fn document(app: &App, call: &Call, resource: Resource) -> Result<CodeSigningConfig, ApiError> {
    let Resource::Signing(config) = resource else {
        return Err(ApiError::service("The cluster gave an unexpected answer."));
    };
    let account = &call.caller.account;
    let arn = signing_arn(&app.catalog.region, account, &config.id);
    Ok(shown(config, arn))
}

fn shown(config: SigningConfig, arn: String) -> CodeSigningConfig {
    let policy = if config.enforces { "Enforce" } else { "Warn" };
    CodeSigningConfig {
        code_signing_config_id: Some(config.id),
        code_signing_config_arn: Some(arn),
        description: config.description,
        allowed_publishers: Some(AllowedPublishers {
            signing_profile_version_arns: Some(config.publishers),
        }),
        code_signing_policies: Some(CodeSigningPolicies {
            untrusted_artifact_on_deployment: Some(policy.to_owned()),
        }),
        last_modified: Some(documents::last_modified(config.last_modified)),
    }
}
