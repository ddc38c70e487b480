//! Whether a caller may carry an operation of IAM out: the resource that it is about, and what of the request conditions look at.

use hearth_aws_api::protocol::query::{QueryError, QueryErrorCode};
use hearth_core::iam::IamKey;

use super::authority::{self, Wish};
use super::{Call, Members};
use crate::app::App;
use crate::caller::Identity;

pub(super) fn check(app: &App, call: &Call) -> Result<(), QueryError> {
    if call.caller.is_root() {
        return Ok(());
    }
    let members = call.members()?;
    let action = format!("iam:{}", call.spec.name);
    let resource = resource(app, call, &members);
    let (policy, boundary) = (
        members.text("PolicyArn"),
        members.text("PermissionsBoundary"),
    );
    let mut context = Vec::new();
    if !policy.is_empty() {
        context.push(("iam:policyarn", policy.as_str()));
    }
    if !boundary.is_empty() {
        context.push(("iam:permissionsboundary", boundary.as_str()));
    }
    let wish = Wish {
        action: &action,
        resource: &resource,
        policy: None,
        is_own: true,
        context: &context,
        unix_ms: app.unix_ms(),
    };
    let checked = authority::check(&app.iam.directory, &call.caller, &wish);
    checked.map_err(|text| QueryError::new(QueryErrorCode::AccessDenied, text))
}

/// The ARN of what an operation is about; `*` of lists. What both a user and a group are named in is about the group.
fn resource(app: &App, call: &Call, members: &Members) -> String {
    let role = members.optional("RoleName").map(IamKey::Role);
    let named = role
        .or_else(|| members.optional("GroupName").map(IamKey::Group))
        .or_else(|| members.optional("UserName").map(IamKey::User));
    if let Some(key) = named {
        return arn(app, call, members, &key);
    }
    if let Some(arn) = members.optional("PolicyArn") {
        return arn;
    }
    if let Some(name) = members.optional("PolicyName") {
        return arn(app, call, members, &IamKey::Policy(name));
    }
    // Without a name these are about the caller.
    match &call.caller.identity {
        Identity::User { .. }
            if call.spec.name.contains("AccessKey") || call.spec.name == "GetUser" =>
        {
            call.caller.arn()
        }
        Identity::Root | Identity::User { .. } | Identity::Role { .. } => "*".to_owned(),
    }
}

/// Of what there is, as it is; of what is to be made, with the path that it is to have.
fn arn(app: &App, call: &Call, members: &Members, key: &IamKey) -> String {
    let account = &call.caller.account;
    if let Some(known) = app.iam.directory.find(account, key) {
        return known.entity.arn(account);
    }
    let path = members.optional("Path").unwrap_or_else(|| "/".to_owned());
    format!(
        "arn:aws:iam::{}:{}{path}{}",
        account.as_str(),
        key.kind(),
        key.name()
    )
}
