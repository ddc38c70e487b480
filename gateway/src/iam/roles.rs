//! Roles: CreateRole, GetRole, ListRoles, UpdateRole, UpdateRoleDescription, UpdateAssumeRolePolicy, DeleteRole, and the instance
//! profiles that there are none of.

use hearth_aws_api::iam::{
    CreateRoleRequest, CreateRoleResponse, DeleteRoleRequest, GetRoleRequest, GetRoleResponse,
    ListInstanceProfilesForRoleRequest, ListInstanceProfilesForRoleResponse, ListRolesRequest,
    ListRolesResponse, Role, UpdateAssumeRolePolicyRequest, UpdateRoleDescriptionRequest,
    UpdateRoleDescriptionResponse, UpdateRoleRequest, UpdateRoleResponse,
};
use hearth_core::iam::{IamChange, IamKey};
use hearth_core::limits::SESSION_DEFAULT_S;
use hearth_core::policy::Policy;

use super::entities::{change, delete as delete_entity, list as list_entities, read};
use super::errors::query_error;
use super::page::page;
use super::tags::from_model;
use super::{Answer, Call, show, unsigned};
use crate::app::App;

pub(super) async fn create(app: &App, call: &Call) -> Answer {
    let input: CreateRoleRequest = call.input()?;
    let trust = input.assume_role_policy_document.unwrap_or_default();
    Policy::of_trust(&trust).map_err(query_error)?;
    let create = IamChange::Create {
        key: IamKey::Role(input.role_name.unwrap_or_default()),
        path: input.path.unwrap_or_else(|| "/".to_owned()),
        description: input.description.unwrap_or_default(),
        tags: from_model(input.tags)?,
        document: Some(trust),
        max_session_s: input
            .max_session_duration
            .map_or(SESSION_DEFAULT_S, unsigned),
        boundary: input.permissions_boundary,
    };
    let role = change(app, call, create).await?;
    call.output(&CreateRoleResponse {
        role: Some(show::role(&call.caller.account, &role)),
    })
}

pub(super) async fn get(app: &App, call: &Call) -> Answer {
    let input: GetRoleRequest = call.input()?;
    let key = IamKey::Role(input.role_name.unwrap_or_default());
    let role = read(app, call, key).await?;
    call.output(&GetRoleResponse {
        role: Some(show::role(&call.caller.account, &role)),
    })
}

pub(super) async fn list(app: &App, call: &Call) -> Answer {
    let input: ListRolesRequest = call.input()?;
    let asked = page(input.marker, input.max_items)?;
    let (page, marker) = list_entities(app, call, IamKey::Role, input.path_prefix, asked).await?;
    // "This operation does not return the following attributes, even though they are an attribute of the returned object."
    let roles = page.entities.iter().map(|role| Role {
        permissions_boundary: None,
        tags: None,
        ..show::role(&call.caller.account, role)
    });
    call.output(&ListRolesResponse {
        roles: Some(roles.collect()),
        is_truncated: Some(marker.is_some()),
        marker,
    })
}

pub(super) async fn update(app: &App, call: &Call) -> Answer {
    let input: UpdateRoleRequest = call.input()?;
    let update = IamChange::UpdateRole {
        name: input.role_name.unwrap_or_default(),
        description: input.description,
        max_session_s: input.max_session_duration.map(unsigned),
    };
    change(app, call, update).await?;
    call.output(&UpdateRoleResponse::default())
}

pub(super) async fn update_description(app: &App, call: &Call) -> Answer {
    let input: UpdateRoleDescriptionRequest = call.input()?;
    let update = IamChange::UpdateRole {
        name: input.role_name.unwrap_or_default(),
        description: input.description,
        max_session_s: None,
    };
    let role = change(app, call, update).await?;
    call.output(&UpdateRoleDescriptionResponse {
        role: Some(show::role(&call.caller.account, &role)),
    })
}

pub(super) async fn update_trust(app: &App, call: &Call) -> Answer {
    let input: UpdateAssumeRolePolicyRequest = call.input()?;
    let document = input.policy_document.unwrap_or_default();
    Policy::of_trust(&document).map_err(query_error)?;
    let name = input.role_name.unwrap_or_default();
    change(app, call, IamChange::SetTrust { name, document }).await?;
    call.empty()
}

pub(super) async fn delete(app: &App, call: &Call) -> Answer {
    let input: DeleteRoleRequest = call.input()?;
    let key = IamKey::Role(input.role_name.unwrap_or_default());
    delete_entity(app, call, key).await?;
    call.empty()
}

/// There are no machines that roles are given to. Tools ask before they delete a role.
pub(super) async fn instance_profiles(app: &App, call: &Call) -> Answer {
    let input: ListInstanceProfilesForRoleRequest = call.input()?;
    let key = IamKey::Role(input.role_name.unwrap_or_default());
    read(app, call, key).await?;
    call.output(&ListInstanceProfilesForRoleResponse {
        instance_profiles: Some(Vec::new()),
        is_truncated: Some(false),
        marker: None,
    })
}
