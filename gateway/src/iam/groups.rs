//! Groups: CreateGroup, GetGroup, ListGroups, DeleteGroup, AddUserToGroup, RemoveUserFromGroup.

use hearth_aws_api::iam::{
    AddUserToGroupRequest, CreateGroupRequest, CreateGroupResponse, DeleteGroupRequest,
    GetGroupRequest, GetGroupResponse, ListGroupsRequest, ListGroupsResponse,
    RemoveUserFromGroupRequest,
};
use hearth_core::iam::{IamChange, IamKey, IamQuery};

use super::entities::{change, delete as delete_entity, list as list_entities, query};
use super::errors::unexpected;
use super::page::{marker, page};
use super::{Answer, Call, show};
use crate::app::App;

pub(super) async fn create(app: &App, call: &Call) -> Answer {
    let input: CreateGroupRequest = call.input()?;
    let create = IamChange::Create {
        key: IamKey::Group(input.group_name.unwrap_or_default()),
        path: input.path.unwrap_or_else(|| "/".to_owned()),
        description: String::new(),
        tags: std::collections::BTreeMap::new(),
        document: None,
        max_session_s: 0,
        boundary: None,
    };
    let group = change(app, call, create).await?;
    call.output(&CreateGroupResponse {
        group: Some(show::group(&call.caller.account, &group)),
    })
}

/// The group and its users.
pub(super) async fn get(app: &App, call: &Call) -> Answer {
    let input: GetGroupRequest = call.input()?;
    let asked = page(input.marker, input.max_items)?;
    let members = IamQuery::Members {
        group: input.group_name.unwrap_or_default(),
        after: asked.after,
        limit: asked.size,
    };
    let page = query(app, call, members).await?;
    let (group, users) = page.entities.split_first().ok_or_else(unexpected)?;
    let last = users.last().filter(|_| page.more);
    let account = &call.caller.account;
    call.output(&GetGroupResponse {
        group: Some(show::group(account, group)),
        users: Some(users.iter().map(|user| show::user(account, user)).collect()),
        is_truncated: Some(page.more),
        marker: last.map(|last| marker(&last.name)),
    })
}

pub(super) async fn list(app: &App, call: &Call) -> Answer {
    let input: ListGroupsRequest = call.input()?;
    let asked = page(input.marker, input.max_items)?;
    let (page, marker) = list_entities(app, call, IamKey::Group, input.path_prefix, asked).await?;
    let groups = page.entities.iter();
    let groups = groups.map(|group| show::group(&call.caller.account, group));
    call.output(&ListGroupsResponse {
        groups: Some(groups.collect()),
        is_truncated: Some(marker.is_some()),
        marker,
    })
}

pub(super) async fn delete(app: &App, call: &Call) -> Answer {
    let input: DeleteGroupRequest = call.input()?;
    let key = IamKey::Group(input.group_name.unwrap_or_default());
    delete_entity(app, call, key).await?;
    call.empty()
}

pub(super) async fn join(app: &App, call: &Call) -> Answer {
    let input: AddUserToGroupRequest = call.input()?;
    let join = IamChange::Join {
        user: input.user_name.unwrap_or_default(),
        group: input.group_name.unwrap_or_default(),
    };
    change(app, call, join).await?;
    call.empty()
}

pub(super) async fn leave(app: &App, call: &Call) -> Answer {
    let input: RemoveUserFromGroupRequest = call.input()?;
    let leave = IamChange::Leave {
        user: input.user_name.unwrap_or_default(),
        group: input.group_name.unwrap_or_default(),
    };
    change(app, call, leave).await?;
    call.empty()
}
