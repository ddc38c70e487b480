//! Whether a caller may carry an operation of Lambda out. The account itself may; of users and sessions of roles the action and the
//! ARN of what the operation is about are looked for in their policies.

use hearth_aws_api::ApiError;
use hearth_aws_api::lambda::Operation;
use hearth_core::iam::IamKey;
use hearth_core::name::FunctionRef;
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::{Call, named};
use crate::app::App;
use crate::catalog::FunctionKey;
use crate::iam::authority::{self, Wish};

/// Whom a function's role has to trust.
const LAMBDA: &str = "lambda.amazonaws.com";

/// What of a body says what an operation is about.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Named {
    function_name: Option<String>,
    role: Option<String>,
}

pub(crate) fn check(app: &App, call: &Call) -> Result<(), ApiError> {
    if call.caller.is_root() {
        return Ok(());
    }
    let operation = call.route.operation;
    let in_body = match operation {
        Operation::CreateFunction | Operation::UpdateFunctionConfiguration => {
            // What cannot be read is refused by who reads all of it.
            serde_json::from_slice(&call.body).unwrap_or_default()
        }
        _ => Named::default(),
    };
    let function = function(app, call, &in_body);
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
        None => other(app, call),
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
    let Some(role) = in_body.role else {
        return Ok(());
    };
    may(
        app,
        call,
        &Wish {
            action: "iam:PassRole",
            resource: &role,
            policy: None,
            is_own: true,
            context: &[("iam:passedtoservice", LAMBDA)],
            unix_ms: app.unix_ms(),
        },
    )
}

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

fn label<'c>(call: &'c Call, name: &str) -> Option<&'c str> {
    let mut labels = call.route.labels.iter();
    let found = labels.find(|(known, _)| *known == name);
    found.map(|(_, value)| value.as_str())
}

fn function(app: &App, call: &Call, in_body: &Named) -> Option<FunctionRef> {
    let name = label(call, "FunctionName").or(in_body.function_name.as_deref())?;
    let query = call.parts.uri.query().unwrap_or_default();
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let qualifier = pairs.find(|(name, _)| *name == "Qualifier");
    let qualifier = qualifier.map(|(_, value)| percent_decode_str(value).decode_utf8_lossy());
    named(app, &call.caller, name, qualifier.as_deref()).ok()
}

/// The ARN of what is no function; `*` of lists and of what is yet to be made.
fn other(app: &App, call: &Call) -> String {
    let (region, account) = (&app.catalog.region, call.caller.account.as_str());
    let own = |kind: &str, name: &str| format!("arn:aws:lambda:{region}:{account}:{kind}:{name}");
    let arns = ["Resource", "ARN", "ResourceArn", "CodeSigningConfigArn"];
    if let Some(arn) = arns.iter().find_map(|name| label(call, name)) {
        return arn.to_owned();
    }
    if let Some(layer) = label(call, "LayerName") {
        let arn = if layer.starts_with("arn:") {
            layer.to_owned()
        } else {
            own("layer", layer)
        };
        return match label(call, "VersionNumber") {
            Some(version) => format!("{arn}:{version}"),
            None => arn,
        };
    }
    label(call, "UUID").map_or_else(|| "*".to_owned(), |id| own("event-source-mapping", id))
}

/// Whether a function may have this role, where the operator wants to know: it is there, and trusts Lambda.
pub(super) fn check_role(app: &App, call: &Call, role: &str) -> Result<(), ApiError> {
    if !app.options.iam.enforce_roles {
        return Ok(());
    }
    let account = &call.caller.account;
    let name = role.rsplit('/').next().unwrap_or_default();
    let found = app
        .iam
        .directory
        .find(account, &IamKey::Role(name.to_owned()));
    let found = found.filter(|record| record.entity.arn(account) == role);
    let trusts = found.is_some_and(|record| {
        let trust = record.trust.as_ref();
        trust.is_some_and(|trust| authority::trusts_service(trust, LAMBDA, role))
    });
    if trusts {
        return Ok(());
    }
    Err(ApiError::invalid_parameter_value(
        "The role defined for the function cannot be assumed by Lambda.",
    ))
}
