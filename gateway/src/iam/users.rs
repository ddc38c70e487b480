//! Users: CreateUser, GetUser, ListUsers, DeleteUser, ListGroupsForUser.

use hearth_aws_api::iam::{
    CreateUserRequest, CreateUserResponse, DeleteUserRequest, GetUserRequest, GetUserResponse,
    ListGroupsForUserRequest, ListGroupsForUserResponse, ListUsersRequest, ListUsersResponse, User,
};
use hearth_core::iam::{IamChange, IamKey};

use super::entities::{change, delete as delete_entity, list as list_entities, read};
use super::page::page;
use super::tags::from_model;
use super::{Answer, Call, show};
use crate::app::App;
use crate::caller::Identity;

pub(super) async fn create(app: &App, call: &Call) -> Answer {
    let input: CreateUserRequest = call.input()?;
    let create = IamChange::Create {
        key: IamKey::User(input.user_name.unwrap_or_default()),
        path: input.path.unwrap_or_else(|| "/".to_owned()),
        description: String::new(),
        tags: from_model(input.tags)?,
        document: None,
        max_session_s: 0,
        boundary: input.permissions_boundary,
    };
    let user = change(app, call, create).await?;
    call.output(&CreateUserResponse {
        user: Some(show::user(&call.caller.account, &user)),
    })
}

/// "If you do not specify a user name, IAM determines the user name implicitly": the root has none.
pub(super) async fn get(app: &App, call: &Call) -> Answer {
    let input: GetUserRequest = call.input()?;
    let own = match &call.caller.identity {
        Identity::User { name, .. } => Some(name.clone()),
        Identity::Root | Identity::Role { .. } => None,
    };
    let Some(name) = input.user_name.or(own) else {
        let caller = &call.caller;
        return call.output(&GetUserResponse {
            user: Some(User {
                user_id: Some(caller.user_id()),
                arn: Some(caller.arn()),
                ..User::default()
            }),
        });
    };
    let user = read(app, call, IamKey::User(name)).await?;
    call.output(&GetUserResponse {
        user: Some(show::user(&call.caller.account, &user)),
    })
}

pub(super) async fn list(app: &App, call: &Call) -> Answer {
    let input: ListUsersRequest = call.input()?;
    let asked = page(input.marker, input.max_items)?;
    let (page, marker) = list_entities(app, call, IamKey::User, input.path_prefix, asked).await?;
    let users = page.entities.iter().map(|user| User {
        permissions_boundary: None,
        tags: None,
        ..show::user(&call.caller.account, user)
    });
    call.output(&ListUsersResponse {
        users: Some(users.collect()),
        is_truncated: Some(marker.is_some()),
        marker,
    })
}

pub(super) async fn delete(app: &App, call: &Call) -> Answer {
    let input: DeleteUserRequest = call.input()?;
    let key = IamKey::User(input.user_name.unwrap_or_default());
    delete_entity(app, call, key).await?;
    call.empty()
}

/// A user is in ten groups at most, each of which is asked for.
pub(super) async fn groups(app: &App, call: &Call) -> Answer {
    let input: ListGroupsForUserRequest = call.input()?;
    let asked = page(input.marker, input.max_items)?;
    let key = IamKey::User(input.user_name.unwrap_or_default());
    let user = read(app, call, key).await?;
    let names = user.groups().map(|name| (name.clone(), name));
    let (names, marker) = asked.cut(names);
    let mut groups = Vec::new();
    for name in names {
        let group = read(app, call, IamKey::Group(name.clone())).await?;
        groups.push(show::group(&call.caller.account, &group));
    }
    call.output(&ListGroupsForUserResponse {
        groups: Some(groups),
        is_truncated: Some(marker.is_some()),
        marker,
    })
}
