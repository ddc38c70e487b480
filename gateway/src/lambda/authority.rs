//! Whether a caller may carry an operation of Lambda out. The account itself may; of users and sessions of roles the action and the
//! ARN of what the operation is about are looked for in their policies.

use hearth_aws_api::ApiError;
use hearth_aws_api::lambda::{self, Operation};
use hearth_core::iam::{LAMBDA_SERVICE, role_named};
use hearth_core::name::FunctionRef;
use serde_json::Value;

use super::{Call, named};
use crate::app::App;
use crate::catalog::FunctionKey;
use crate::iam::authority::{self, Wish};

pub(crate) fn check(app: &App, call: &Call) -> Result<(), ApiError> {
    if call.caller.is_root() {
        return Ok(());
    }
    // As the handler reads them, so that what is asked for is what is done.
    let members = lambda::members(&call.route, &call.parts, &call.body)?;
    let operation = call.route.operation;
    let function = function(app, call, &members);
    let record = function.as_ref().and_then(|function| {
        app.catalog.find(&FunctionKey {
            account: function.account.clone(),
            name: function.name.clone(),
        })
    });
    let policy = record.as_ref().zip(function.as_ref());
    let policy = policy.and_then(|(record, function)| record.policy(function.qualifier.as_ref()));
    let resource = match &function {
        Some(function) => function.arn(&app.catalog.region),
        None => other(app, call, &members),
    };
    let action = format!("lambda:{}", action(operation));
    let wish = Wish {
        action: &action,
        resource: &resource,
        policy,
        is_own: function
            .as_ref()
            .is_none_or(|f| f.account == call.caller.account),
        context: &[],
        unix_ms: app.unix_ms(),
    };
    may(app, call, &wish)?;
    let Some(role) = text(&members, "Role") else {
        return Ok(());
    };
    may(
        app,
        call,
        &Wish {
            action: "iam:PassRole",
            resource: role,
            policy: None,
            is_own: true,
            context: &[("iam:passedtoservice", LAMBDA_SERVICE)],
            unix_ms: app.unix_ms(),
        },
    )
}

type Members = serde_json::Map<String, Value>;

fn may(app: &App, call: &Call, wish: &Wish<'_>) -> Result<(), ApiError> {
    let checked = authority::check(&app.iam.directory, &call.caller, wish);
    checked.map_err(ApiError::access_denied)
}

/// The action of an operation; some have that of another.
fn action(operation: Operation) -> &'static str {
    match operation {
        Operation::GetLayerVersionByArn => "GetLayerVersion",
        Operation::Invoke | Operation::InvokeWithResponseStream => "InvokeFunction",
        other => other.name(),
    }
}

fn text<'m>(members: &'m Members, name: &str) -> Option<&'m str> {
    members.get(name).and_then(Value::as_str)
}

fn function(app: &App, call: &Call, members: &Members) -> Option<FunctionRef> {
    if call.route.operation.name().contains("EventSourceMapping") {
        // These are about the mapping, or about none.
        return None;
    }
    let name = text(members, "FunctionName")?;
    named(app, &call.caller, name, text(members, "Qualifier")).ok()
}

/// The ARN of what is no function; `*` of lists and of what is yet to be made.
fn other(app: &App, call: &Call, members: &Members) -> String {
    let (region, account) = (&app.catalog.region, call.caller.account.as_str());
    let own = |kind: &str, name: &str| format!("arn:aws:lambda:{region}:{account}:{kind}:{name}");
    let arns = ["Resource", "Arn", "ResourceArn", "CodeSigningConfigArn"];
    if let Some(arn) = arns.iter().find_map(|name| text(members, name)) {
        return arn.to_owned();
    }
    if let Some(layer) = text(members, "LayerName") {
        let arn = if layer.starts_with("arn:") {
            layer.to_owned()
        } else {
            own("layer", layer)
        };
        return match members.get("VersionNumber").and_then(Value::as_u64) {
            Some(version) => format!("{arn}:{version}"),
            None => arn,
        };
    }
    text(members, "UUID").map_or_else(|| "*".to_owned(), |id| own("event-source-mapping", id))
}

/// Whether a function may have this role, where the operator wants to know: it is there, and trusts Lambda.
pub(super) fn check_role(app: &App, call: &Call, role: &str) -> Result<(), ApiError> {
    if !app.options.iam.enforce_roles {
        return Ok(());
    }
    let account = &call.caller.account;
    let key = role_named(role).filter(|(owner, _)| owner == account);
    let found = key.and_then(|(_, key)| app.iam.directory.find(account, &key));
    let found = found.filter(|record| record.entity.arn(account) == role);
    let trusts = found.is_some_and(|record| {
        let trust = record.trust.as_ref();
        trust.is_some_and(|trust| trust.trusts_service(LAMBDA_SERVICE, role))
    });
    if trusts {
        return Ok(());
    }
    Err(ApiError::invalid_parameter_value(
        "The role defined for the function cannot be assumed by Lambda.",
    ))
}
