//! Access keys: CreateAccessKey, ListAccessKeys, UpdateAccessKey, DeleteAccessKey. A secret is shown once, by the gateway that made it;
//! the cluster keeps it sealed.

use hearth_aws_api::iam::{
    AccessKey, AccessKeyMetadata, CreateAccessKeyRequest, CreateAccessKeyResponse,
    DeleteAccessKeyRequest, ListAccessKeysRequest, ListAccessKeysResponse, UpdateAccessKeyRequest,
};
use hearth_aws_api::protocol::query::{QueryError, QueryErrorCode};
use hearth_core::iam::{IamChange, IamEntity, IamKey, IamKind};
use hearth_node::credentials::{new_key_id, new_secret};

use super::entities::{change, read};
use super::errors::unexpected;
use super::page::page;
use super::{Answer, Call, access_key_purpose, show};
use crate::app::App;
use crate::caller::Identity;

const ACTIVE: &str = "Active";
const INACTIVE: &str = "Inactive";

/// "If you do not specify a user name, IAM determines the user name implicitly based on the access key ID signing the request."
fn user_name(call: &Call, given: Option<String>) -> Result<String, QueryError> {
    let own = match &call.caller.identity {
        Identity::User { name, .. } => Some(name.clone()),
        Identity::Root | Identity::Role { .. } => None,
    };
    given.or(own).ok_or_else(|| {
        let text = "Must specify userName when calling with non-User credentials";
        QueryError::new(QueryErrorCode::ValidationError, text)
    })
}

fn status(is_active: bool) -> Option<String> {
    let status = if is_active { ACTIVE } else { INACTIVE };
    Some(status.to_owned())
}

pub(super) async fn create(app: &App, call: &Call) -> Answer {
    let input: CreateAccessKeyRequest = call.input()?;
    let user = user_name(call, input.user_name)?;
    let random = &app.seams.random;
    let (id, secret) = (new_key_id("AKIA", random), new_secret(random));
    let purpose = access_key_purpose(&call.caller.account, &id);
    let sealed = app.iam.vault.seal(&purpose, secret.as_bytes(), random);
    let create = IamChange::CreateKey {
        user: user.clone(),
        id: id.clone(),
        sealed: sealed.ok_or_else(unexpected)?,
    };
    let entity = change(app, call, create).await?;
    let created = keys(&entity).find(|(known, _)| **known == id);
    let (_, key) = created.ok_or_else(unexpected)?;
    call.output(&CreateAccessKeyResponse {
        access_key: Some(AccessKey {
            user_name: Some(user),
            access_key_id: Some(id),
            status: status(true),
            secret_access_key: Some(secret),
            create_date: show::time(key.created),
        }),
    })
}

fn keys(user: &IamEntity) -> impl Iterator<Item = (&String, &hearth_core::iam::AccessKey)> {
    let keys = match &user.kind {
        IamKind::User { keys, .. } => Some(keys),
        IamKind::Role { .. } | IamKind::Group { .. } | IamKind::Policy { .. } => None,
    };
    keys.into_iter().flatten()
}

pub(super) async fn list(app: &App, call: &Call) -> Answer {
    let input: ListAccessKeysRequest = call.input()?;
    let asked = page(input.marker, input.max_items)?;
    let name = user_name(call, input.user_name)?;
    let user = read(app, call, IamKey::User(name)).await?;
    let shown = keys(&user).map(|(id, key)| {
        let metadata = AccessKeyMetadata {
            user_name: Some(user.name.clone()),
            access_key_id: Some(id.clone()),
            status: status(key.is_active),
            create_date: show::time(key.created),
        };
        (id.clone(), metadata)
    });
    let (found, marker) = asked.cut(shown);
    call.output(&ListAccessKeysResponse {
        access_key_metadata: Some(found),
        is_truncated: Some(marker.is_some()),
        marker,
    })
}

pub(super) async fn update(app: &App, call: &Call) -> Answer {
    let input: UpdateAccessKeyRequest = call.input()?;
    let is_active = match input.status.as_deref() {
        Some(ACTIVE) => true,
        Some(INACTIVE) => false,
        _ => {
            let text = "Status must be Active or Inactive";
            return Err(QueryError::new(QueryErrorCode::ValidationError, text));
        }
    };
    let update = IamChange::SetKey {
        user: user_name(call, input.user_name)?,
        id: input.access_key_id.unwrap_or_default(),
        is_active,
    };
    change(app, call, update).await?;
    call.empty()
}

pub(super) async fn delete(app: &App, call: &Call) -> Answer {
    let input: DeleteAccessKeyRequest = call.input()?;
    let delete = IamChange::DeleteKey {
        user: user_name(call, input.user_name)?,
        id: input.access_key_id.unwrap_or_default(),
    };
    change(app, call, delete).await?;
    call.empty()
}
