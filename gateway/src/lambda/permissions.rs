//! Who else may use a function, a version or an alias: AddPermission, RemovePermission, GetPolicy, and whole documents with
//! Put-, Get- and DeleteResourcePolicy. What a policy allows is `hearth_core::policy`'s to say.

use hearth_aws_api::ApiError;
use hearth_aws_api::lambda::{
    AddPermissionRequest, AddPermissionResponse, DeleteResourcePolicyRequest, GetPolicyRequest,
    GetPolicyResponse, GetResourcePolicyRequest, GetResourcePolicyResponse,
    PutResourcePolicyRequest, PutResourcePolicyResponse, RemovePermissionRequest,
};
use hearth_core::attached::AttachedChange;
use hearth_core::function::Function;
use hearth_core::ids::Version;
use hearth_core::name::{FunctionRef, Qualifier, function_arn};
use hearth_core::policy::{Permission, Policy};

use super::attached::{change, if_missing, read_or};
use super::errors::{api_error, unsupported};
use super::{Answer, Call};
use crate::app::App;

const GONE: &str = "The resource you requested does not exist.";

pub(super) async fn add(app: &App, call: &Call) -> Answer {
    let input: AddPermissionRequest = call.input()?;
    let name = input.function_name.as_deref();
    let function = call.function(app, name, input.qualifier.as_deref())?;
    if function.qualifier == Some(Qualifier::Version(Version::Latest)) {
        return Err(ApiError::invalid_parameter_value(
            "We currently do not support adding policies for $LATEST.",
        ));
    }
    let sid = input.statement_id.unwrap_or_default();
    let permission = Permission {
        statement_id: sid.clone(),
        action: input.action.unwrap_or_default(),
        principal: input.principal.unwrap_or_default(),
        source_arn: input.source_arn,
        source_account: input.source_account,
        principal_org_id: input.principal_org_id,
        event_source_token: input.event_source_token,
        url_auth_type: input.function_url_auth_type,
        invoked_via_url: input.invoked_via_function_url,
    };
    let statement = permission
        .statement(function.arn(&app.catalog.region))
        .map_err(api_error);
    let statement = match statement {
        Ok(statement) => statement,
        Err(error) => {
            // AWS looks for the function first.
            let found = super::read(app, &function).await?;
            let region = &app.catalog.region;
            let qualifier = function.qualifier.as_ref();
            found.check_named(qualifier, region).map_err(api_error)?;
            return Err(error);
        }
    };
    let shown = serde_json::to_string(&statement).ok();
    let added = AttachedChange::Permit {
        qualifier: function.qualifier.clone(),
        statement: Box::new(statement),
        revision_id: input.revision_id,
    };
    change(app, &function, added).await?;
    call.output(&AddPermissionResponse { statement: shown })
}

pub(super) async fn remove(app: &App, call: &Call) -> Answer {
    let input: RemovePermissionRequest = call.input()?;
    let name = input.function_name.as_deref();
    let function = call.function(app, name, input.qualifier.as_deref())?;
    let removed = AttachedChange::Revoke {
        qualifier: policy_key(&function),
        sid: input.statement_id.unwrap_or_default(),
        revision_id: input.revision_id,
    };
    // A missing function is told so; a missing version or alias as everywhere.
    let (account, name) = (&function.account, &function.name);
    let arn = function_arn(&app.catalog.region, account, name);
    let unqualified = FunctionRef {
        qualifier: None,
        ..function.clone()
    };
    let removed = change(app, &unqualified, removed).await;
    removed.map_err(
        |error| match error.message() == format!("Function not found: {arn}") {
            true => ApiError::resource_not_found(format!("No policy found for: {arn}")),
            false => error,
        },
    )?;
    call.empty()
}

pub(super) async fn get(app: &App, call: &Call) -> Answer {
    let input: GetPolicyRequest = call.input()?;
    let name = input.function_name.as_deref();
    let function = call.function(app, name, input.qualifier.as_deref())?;
    let found = read_or(app, &function, GONE).await?;
    let (policy, revision_id) = shown(app, &found, &function)?;
    call.output(&GetPolicyResponse {
        policy: Some(policy.text()),
        revision_id,
    })
}

pub(super) async fn get_document(app: &App, call: &Call) -> Answer {
    let input: GetResourcePolicyRequest = call.input()?;
    let function = resource(app, call, input.resource_arn.as_deref())?;
    let found = read_or(app, &function, GONE).await?;
    let (policy, revision_id) = shown(app, &found, &function)?;
    call.output(&GetResourcePolicyResponse {
        policy: Some(policy.text()),
        revision_id,
    })
}

pub(super) async fn put_document(app: &App, call: &Call) -> Answer {
    let input: PutResourcePolicyRequest = call.input()?;
    let function = resource(app, call, input.resource_arn.as_deref())?;
    let text = input.policy.unwrap_or_default();
    let policy = Policy::parse(&text, &function.arn(&app.catalog.region)).map_err(api_error)?;
    let replaced = AttachedChange::SetPolicy {
        qualifier: function.qualifier.clone(),
        policy: Some(Box::new(policy)),
        revision_id: input.revision_id,
    };
    let changed = change(app, &function, replaced).await;
    let changed = changed.map_err(|error| if_missing(app, &function, error, GONE))?;
    let (policy, revision_id) = shown(app, &changed, &function)?;
    call.output(&PutResourcePolicyResponse {
        policy: Some(policy.text()),
        revision_id,
    })
}

pub(super) async fn delete_document(app: &App, call: &Call) -> Answer {
    let input: DeleteResourcePolicyRequest = call.input()?;
    let function = resource(app, call, input.resource_arn.as_deref())?;
    let removed = AttachedChange::SetPolicy {
        qualifier: function.qualifier.clone(),
        policy: None,
        revision_id: input.revision_id,
    };
    let removed = change(app, &function, removed).await;
    removed.map_err(|error| if_missing(app, &function, error, GONE))?;
    call.empty()
}

/// The function that an ARN names, with its version or alias.
fn resource(app: &App, call: &Call, arn: Option<&str>) -> Result<FunctionRef, ApiError> {
    if arn.is_some_and(|arn| {
        arn.split(':')
            .nth(5)
            .is_some_and(|kind| kind.starts_with("runtime/"))
    }) {
        return Err(unsupported("resource policies of runtimes"));
    }
    let function = call.function(app, arn, None)?;
    Ok(FunctionRef {
        qualifier: policy_key(&function),
        ..function
    })
}

/// `$LATEST` has the function's own policy.
fn policy_key(function: &FunctionRef) -> Option<Qualifier> {
    let latest = Qualifier::Version(Version::Latest);
    function.qualifier.clone().filter(|q| *q != latest)
}

/// The policy, and the revision of what it is of.
fn shown<'f>(
    app: &App,
    found: &'f Function,
    function: &FunctionRef,
) -> Result<(&'f Policy, Option<String>), ApiError> {
    let qualifier = function.qualifier.as_ref();
    let region = &app.catalog.region;
    found.check_named(qualifier, region).map_err(api_error)?;
    let policy = found.policy(qualifier);
    let policy = policy.ok_or_else(|| ApiError::resource_not_found(GONE))?;
    let revision_id = found.revision_of(qualifier).map(str::to_owned);
    Ok((policy, revision_id))
}
