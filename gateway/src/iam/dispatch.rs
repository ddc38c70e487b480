//! From operation to handler; nothing else.

use hearth_aws_api::iam::Operation;
use hearth_aws_api::protocol::query::{QueryError, QueryErrorCode};
use hearth_aws_api::sts;

use super::{Answer, Call, groups, keys, policies, rights, roles, tags, users};
use crate::app::App;

/// Runs the handler of a request to IAM.
pub(super) async fn iam(app: &App, call: &Call, operation: Operation) -> Answer {
    match operation {
        Operation::AddUserToGroup => groups::join(app, call).await,
        Operation::CreateAccessKey => keys::create(app, call).await,
        Operation::CreateGroup => groups::create(app, call).await,
        Operation::CreatePolicy => policies::create(app, call).await,
        Operation::CreatePolicyVersion => policies::create_version(app, call).await,
        Operation::CreateRole => roles::create(app, call).await,
        Operation::CreateUser => users::create(app, call).await,
        Operation::DeleteAccessKey => keys::delete(app, call).await,
        Operation::DeleteGroup => groups::delete(app, call).await,
        Operation::DeletePolicy => policies::delete(app, call).await,
        Operation::DeletePolicyVersion => policies::delete_version(app, call).await,
        Operation::DeleteRole => roles::delete(app, call).await,
        Operation::DeleteUser => users::delete(app, call).await,
        Operation::GetGroup => groups::get(app, call).await,
        Operation::GetPolicy => policies::get(app, call).await,
        Operation::GetPolicyVersion => policies::get_version(app, call).await,
        Operation::GetRole => roles::get(app, call).await,
        Operation::GetUser => users::get(app, call).await,
        Operation::ListAccessKeys => keys::list(app, call).await,
        Operation::ListEntitiesForPolicy => policies::entities(app, call).await,
        Operation::ListGroups => groups::list(app, call).await,
        Operation::ListGroupsForUser => users::groups(app, call).await,
        Operation::ListInstanceProfilesForRole => roles::instance_profiles(app, call).await,
        Operation::ListPolicies => policies::list(app, call).await,
        Operation::ListPolicyVersions => policies::list_versions(app, call).await,
        Operation::ListRoles => roles::list(app, call).await,
        Operation::ListUsers => users::list(app, call).await,
        Operation::RemoveUserFromGroup => groups::leave(app, call).await,
        Operation::SetDefaultPolicyVersion => policies::set_default(app, call).await,
        Operation::UpdateAccessKey => keys::update(app, call).await,
        Operation::UpdateAssumeRolePolicy => roles::update_trust(app, call).await,
        Operation::UpdateRole => roles::update(app, call).await,
        Operation::UpdateRoleDescription => roles::update_description(app, call).await,
        other => shared(app, call, other).await,
    }
}

/// What several kinds of entities share.
async fn shared(app: &App, call: &Call, operation: Operation) -> Answer {
    match operation {
        Operation::AttachGroupPolicy
        | Operation::AttachRolePolicy
        | Operation::AttachUserPolicy => rights::attach(app, call).await,
        Operation::DeleteGroupPolicy
        | Operation::DeleteRolePolicy
        | Operation::DeleteUserPolicy => rights::delete(app, call).await,
        Operation::DeleteRolePermissionsBoundary | Operation::DeleteUserPermissionsBoundary => {
            rights::delete_boundary(app, call).await
        }
        Operation::DetachGroupPolicy
        | Operation::DetachRolePolicy
        | Operation::DetachUserPolicy => rights::detach(app, call).await,
        Operation::GetGroupPolicy | Operation::GetRolePolicy | Operation::GetUserPolicy => {
            rights::get(app, call).await
        }
        Operation::ListAttachedGroupPolicies
        | Operation::ListAttachedRolePolicies
        | Operation::ListAttachedUserPolicies => rights::list_attached(app, call).await,
        Operation::ListGroupPolicies
        | Operation::ListRolePolicies
        | Operation::ListUserPolicies => rights::list(app, call).await,
        Operation::ListPolicyTags | Operation::ListRoleTags | Operation::ListUserTags => {
            tags::list(app, call).await
        }
        Operation::PutGroupPolicy | Operation::PutRolePolicy | Operation::PutUserPolicy => {
            rights::put(app, call).await
        }
        Operation::PutRolePermissionsBoundary | Operation::PutUserPermissionsBoundary => {
            rights::put_boundary(app, call).await
        }
        Operation::TagPolicy | Operation::TagRole | Operation::TagUser => {
            tags::tag(app, call).await
        }
        Operation::UntagPolicy | Operation::UntagRole | Operation::UntagUser => {
            tags::untag(app, call).await
        }
        other => {
            let text = format!("Hearth does not implement {} yet.", other.name());
            Err(QueryError::new(QueryErrorCode::NotImplemented, text))
        }
    }
}

/// Runs the handler of a request to STS.
pub(super) fn sts(app: &App, call: &Call, operation: sts::Operation) -> Answer {
    match operation {
        sts::Operation::AssumeRole => super::sts::assume_role(app, call),
        sts::Operation::GetCallerIdentity => super::sts::caller_identity(call),
        sts::Operation::GetSessionToken => super::sts::session_token(app, call),
    }
}
