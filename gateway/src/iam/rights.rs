//! What roles, users and groups may do: their own policies, those that are attached, and boundaries. Each handler serves all
//! three kinds, whose operations differ in the name of one member.

use hearth_aws_api::protocol::query::QueryError;
use hearth_core::iam::{IamChange, IamEntity, IamKey, Rights, check_arn_of_policy};
use serde_json::json;

use super::entities::{change, check_document, read};
use super::errors::{query_error, unexpected};
use super::{Answer, Call, Members, no_such_entity, show};
use crate::app::App;

/// Whose policies an input is about.
fn key(members: &Members) -> IamKey {
    if let Some(name) = members.optional("RoleName") {
        return IamKey::Role(name);
    }
    if let Some(name) = members.optional("UserName") {
        return IamKey::User(name);
    }
    IamKey::Group(members.text("GroupName"))
}

async fn rights(
    app: &App,
    call: &Call,
    members: &Members,
) -> Result<(IamEntity, Rights), QueryError> {
    let entity = read(app, call, key(members)).await?;
    let rights = entity.rights().cloned().ok_or_else(unexpected)?;
    Ok((entity, rights))
}

pub(super) async fn put(app: &App, call: &Call) -> Answer {
    let members = call.members()?;
    let document = members.text("PolicyDocument");
    check_document(&document)?;
    let put = IamChange::PutInline {
        key: key(&members),
        policy: members.text("PolicyName"),
        document,
    };
    change(app, call, put).await?;
    call.empty()
}

pub(super) async fn get(app: &App, call: &Call) -> Answer {
    let members = call.members()?;
    let (entity, rights) = rights(app, call, &members).await?;
    let name = members.text("PolicyName");
    let kind = entity.key().kind();
    let document = rights.inline.get(&name).ok_or_else(|| {
        no_such_entity(format!(
            "The {kind} policy with name {name} cannot be found."
        ))
    })?;
    call.output_members(&json!({
        "RoleName": entity.name, "UserName": entity.name, "GroupName": entity.name,
        "PolicyName": name, "PolicyDocument": show::document(document),
    }))
}

pub(super) async fn delete(app: &App, call: &Call) -> Answer {
    let members = call.members()?;
    let delete = IamChange::DeleteInline {
        key: key(&members),
        policy: members.text("PolicyName"),
    };
    change(app, call, delete).await?;
    call.empty()
}

pub(super) async fn list(app: &App, call: &Call) -> Answer {
    let members = call.members()?;
    let asked = members.page()?;
    let (_, rights) = rights(app, call, &members).await?;
    let names = rights.inline.into_keys().map(|name| (name.clone(), name));
    let (names, marker) = asked.cut(names);
    call.output_members(
        &json!({"PolicyNames": names, "IsTruncated": marker.is_some(), "Marker": marker}),
    )
}

fn arn(members: &Members, name: &str) -> Result<String, QueryError> {
    let arn = members.text(name);
    check_arn_of_policy(&arn).map_err(query_error)?;
    Ok(arn)
}

pub(super) async fn attach(app: &App, call: &Call) -> Answer {
    let members = call.members()?;
    let attach = IamChange::Attach {
        key: key(&members),
        arn: arn(&members, "PolicyArn")?,
    };
    change(app, call, attach).await?;
    call.empty()
}

pub(super) async fn detach(app: &App, call: &Call) -> Answer {
    let members = call.members()?;
    let detach = IamChange::Detach {
        key: key(&members),
        arn: arn(&members, "PolicyArn")?,
    };
    change(app, call, detach).await?;
    call.empty()
}

pub(super) async fn list_attached(app: &App, call: &Call) -> Answer {
    let members = call.members()?;
    let asked = members.page()?;
    let prefix = members.optional("PathPrefix").unwrap_or_else(|| "/".into());
    let (_, rights) = rights(app, call, &members).await?;
    let wanted = rights.attached.into_iter().filter(|arn| {
        let path = arn.split_once(":policy").map(|(_, path)| path);
        path.is_some_and(|path| path.starts_with(&prefix))
    });
    let attached = wanted.map(|arn| {
        let name = arn.rsplit('/').next().unwrap_or_default();
        let shown = json!({"PolicyName": name, "PolicyArn": arn});
        (arn, shown)
    });
    let (attached, marker) = asked.cut(attached);
    call.output_members(
        &json!({"AttachedPolicies": attached, "IsTruncated": marker.is_some(), "Marker": marker}),
    )
}

pub(super) async fn put_boundary(app: &App, call: &Call) -> Answer {
    let members = call.members()?;
    let put = IamChange::SetBoundary {
        key: key(&members),
        arn: Some(arn(&members, "PermissionsBoundary")?),
    };
    change(app, call, put).await?;
    call.empty()
}

pub(super) async fn delete_boundary(app: &App, call: &Call) -> Answer {
    let members = call.members()?;
    let key = key(&members);
    change(app, call, IamChange::SetBoundary { key, arn: None }).await?;
    call.empty()
}
