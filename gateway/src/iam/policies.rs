//! Managed policies and their versions, of the account and of AWS.

use hearth_aws_api::iam::{
    CreatePolicyRequest, CreatePolicyResponse, CreatePolicyVersionRequest,
    CreatePolicyVersionResponse, DeletePolicyRequest, DeletePolicyVersionRequest, GetPolicyRequest,
    GetPolicyResponse, GetPolicyVersionRequest, GetPolicyVersionResponse,
    ListEntitiesForPolicyRequest, ListEntitiesForPolicyResponse, ListPoliciesRequest,
    ListPoliciesResponse, ListPolicyVersionsRequest, ListPolicyVersionsResponse, Policy,
    PolicyGroup, PolicyRole, PolicyUser, SetDefaultPolicyVersionRequest,
};
use hearth_aws_api::protocol::query::{QueryError, QueryErrorCode};
use hearth_core::iam::{
    IamChange, IamEntity, IamKey, IamKind, IamQuery, aws_policies, aws_policy, check_arn_of_policy,
    policy_named,
};

use super::entities::{
    change, check_document, delete as delete_entity, list as list_entities, query,
};
use super::errors::{query_error, unexpected};
use super::page::{Asked, page};
use super::tags::from_model;
use super::{Answer, Call, no_such_entity, show};
use crate::app::App;

/// The policy of the caller's account that an ARN names; those of AWS cannot be changed.
pub(super) fn own_key(call: &Call, arn: &str) -> Result<IamKey, QueryError> {
    check_arn_of_policy(arn).map_err(query_error)?;
    policy_named(&call.caller.account, arn).ok_or_else(|| match aws_policy(arn) {
        Some(_) => {
            let text = format!("Policy {arn} is managed by AWS and cannot be changed.");
            QueryError::new(QueryErrorCode::AccessDenied, text)
        }
        None => not_found(arn),
    })
}

fn not_found(arn: &str) -> QueryError {
    no_such_entity(format!("Policy {arn} was not found."))
}

/// A policy by its ARN, and how often it is used.
async fn find(app: &App, call: &Call, arn: &str) -> Result<(IamEntity, (u32, u32)), QueryError> {
    check_arn_of_policy(arn).map_err(query_error)?;
    if let Some(policy) = aws_policy(arn) {
        return Ok((policy, (0, 0)));
    }
    let key = own_key(call, arn)?;
    let page = query(app, call, IamQuery::One(key)).await;
    let page = page.map_err(|error| match error.code() {
        QueryErrorCode::NoSuchEntity => not_found(arn),
        _ => error,
    })?;
    let used = page.used.get(arn).copied();
    let policy = page.entities.into_iter().next().ok_or_else(unexpected)?;
    // The name is that of a policy with another path.
    used.map(|used| (policy, used))
        .ok_or_else(|| not_found(arn))
}

pub(super) async fn create(app: &App, call: &Call) -> Answer {
    let input: CreatePolicyRequest = call.input()?;
    let document = input.policy_document.unwrap_or_default();
    check_document(&document)?;
    let create = IamChange::Create {
        key: IamKey::Policy(input.policy_name.unwrap_or_default()),
        path: input.path.unwrap_or_else(|| "/".to_owned()),
        description: input.description.unwrap_or_default(),
        tags: from_model(input.tags)?,
        document: Some(document),
        max_session_s: 0,
        boundary: None,
    };
    let policy = change(app, call, create).await?;
    let arn = policy.arn(&call.caller.account);
    call.output(&CreatePolicyResponse {
        policy: Some(show::policy(arn, &policy, (0, 0))),
    })
}

pub(super) async fn get(app: &App, call: &Call) -> Answer {
    let input: GetPolicyRequest = call.input()?;
    let arn = input.policy_arn.unwrap_or_default();
    let (policy, used) = find(app, call, &arn).await?;
    call.output(&GetPolicyResponse {
        policy: Some(show::policy(arn, &policy, used)),
    })
}

/// Those of the account, then those of AWS.
pub(super) async fn list(app: &App, call: &Call) -> Answer {
    let input: ListPoliciesRequest = call.input()?;
    let scope = input.scope.as_deref().unwrap_or("All");
    let asked = page(input.marker, input.max_items)?;
    let prefix = input.path_prefix.unwrap_or_else(|| "/".to_owned());
    let is_attached_only = input.only_attached == Some(true);
    let mut policies: Vec<Policy> = Vec::new();
    let mut marker = None;
    // Markers of AWS's policies are their ARNs, which no name of an account's can be.
    let is_at_own = !asked.after.starts_with("arn:");
    if scope != "AWS" && is_at_own {
        let own = Asked {
            after: asked.after.clone(),
            size: asked.size,
        };
        let (page, next) =
            list_entities(app, call, IamKey::Policy, Some(prefix.clone()), own).await?;
        marker = next;
        for policy in &page.entities {
            let arn = policy.arn(&call.caller.account);
            let used = page.used.get(&arn).copied().unwrap_or_default();
            if used != (0, 0) || !is_attached_only {
                policies.push(show::policy(arn, policy, used));
            }
        }
    }
    if scope != "Local" && marker.is_none() && !is_attached_only {
        let after = if is_at_own { "" } else { asked.after.as_str() };
        let rest = Asked {
            after: after.to_owned(),
            size: asked.size.saturating_sub(policies.len()).max(1),
        };
        let of_aws = aws_policies().filter(|(_, policy)| policy.path.starts_with(&prefix));
        let shown = of_aws.map(|(arn, policy)| {
            let shown = show::policy(arn.clone(), &policy, (0, 0));
            (arn, shown)
        });
        let (found, next) = rest.cut(shown);
        policies.extend(found);
        marker = next;
    }
    for policy in &mut policies {
        policy.tags = None;
        policy.description = None;
    }
    call.output(&ListPoliciesResponse {
        policies: Some(policies),
        is_truncated: Some(marker.is_some()),
        marker,
    })
}

pub(super) async fn delete(app: &App, call: &Call) -> Answer {
    let input: DeletePolicyRequest = call.input()?;
    let arn = input.policy_arn.unwrap_or_default();
    let key = own_key(call, &arn)?;
    find(app, call, &arn).await?;
    delete_entity(app, call, key).await?;
    call.empty()
}

/// The number in `v7`; the model lets a suffix through, which no version has.
fn number(version: Option<String>, arn: &str) -> Result<u32, QueryError> {
    let version = version.unwrap_or_default();
    let number = version.strip_prefix('v').and_then(|n| n.parse().ok());
    number.ok_or_else(|| no_version(arn, &version))
}

fn no_version(arn: &str, version: &str) -> QueryError {
    no_such_entity(format!(
        "Policy {arn} version {version} does not exist or is not attachable."
    ))
}

pub(super) async fn create_version(app: &App, call: &Call) -> Answer {
    let input: CreatePolicyVersionRequest = call.input()?;
    let document = input.policy_document.unwrap_or_default();
    check_document(&document)?;
    let arn = input.policy_arn.unwrap_or_default();
    find(app, call, &arn).await?;
    let create = IamChange::CreateVersion {
        name: own_key(call, &arn)?.name().to_owned(),
        document,
        is_default: input.set_as_default == Some(true),
    };
    let policy = change(app, call, create).await?;
    let IamKind::Policy { next, .. } = policy.kind else {
        return Err(unexpected());
    };
    let made = show::version(&policy, next.saturating_sub(1), false);
    call.output(&CreatePolicyVersionResponse {
        policy_version: made,
    })
}

pub(super) async fn get_version(app: &App, call: &Call) -> Answer {
    let input: GetPolicyVersionRequest = call.input()?;
    let arn = input.policy_arn.unwrap_or_default();
    let version = number(input.version_id, &arn)?;
    let (policy, _) = find(app, call, &arn).await?;
    let shown = show::version(&policy, version, true);
    let shown = shown.ok_or_else(|| no_version(&arn, &format!("v{version}")))?;
    call.output(&GetPolicyVersionResponse {
        policy_version: Some(shown),
    })
}

/// The newest comes first.
pub(super) async fn list_versions(app: &App, call: &Call) -> Answer {
    let input: ListPolicyVersionsRequest = call.input()?;
    let asked = page(input.marker, input.max_items)?;
    let (policy, _) = find(app, call, &input.policy_arn.unwrap_or_default()).await?;
    let IamKind::Policy { versions, .. } = &policy.kind else {
        return Err(unexpected());
    };
    let newest_first = versions.keys().rev().zip(0..).map(|(number, place)| {
        let shown = show::version(&policy, *number, false);
        (format!("{place:08}"), shown)
    });
    let (found, marker) = asked.cut(newest_first);
    call.output(&ListPolicyVersionsResponse {
        versions: Some(found.into_iter().flatten().collect()),
        is_truncated: Some(marker.is_some()),
        marker,
    })
}

pub(super) async fn set_default(app: &App, call: &Call) -> Answer {
    let input: SetDefaultPolicyVersionRequest = call.input()?;
    let arn = input.policy_arn.unwrap_or_default();
    let version = number(input.version_id, &arn)?;
    find(app, call, &arn).await?;
    let name = own_key(call, &arn)?.name().to_owned();
    change(app, call, IamChange::SetDefault { name, version }).await?;
    call.empty()
}

pub(super) async fn delete_version(app: &App, call: &Call) -> Answer {
    let input: DeletePolicyVersionRequest = call.input()?;
    let arn = input.policy_arn.unwrap_or_default();
    let version = number(input.version_id, &arn)?;
    find(app, call, &arn).await?;
    let name = own_key(call, &arn)?.name().to_owned();
    change(app, call, IamChange::DeleteVersion { name, version }).await?;
    call.empty()
}

pub(super) async fn entities(app: &App, call: &Call) -> Answer {
    let input: ListEntitiesForPolicyRequest = call.input()?;
    let arn = input.policy_arn.unwrap_or_default();
    find(app, call, &arn).await?;
    let asked = page(input.marker, input.max_items)?;
    let wanted = input.entity_filter.unwrap_or_default();
    let usage = input.policy_usage_filter.unwrap_or_default();
    let prefix = input.path_prefix.unwrap_or_else(|| "/".to_owned());
    let using = IamQuery::Using { arn: arn.clone() };
    let using = query(app, call, using).await?.entities;
    let using = using.into_iter().filter(|entity| {
        let kind = entity.key().kind();
        let is_kind = wanted.is_empty() || wanted.eq_ignore_ascii_case(kind);
        let is_attached = entity.rights().is_some_and(|r| r.attached.contains(&arn));
        let is_boundary = entity.rights().and_then(|r| r.boundary.as_ref()) == Some(&arn);
        let is_usage = match usage.as_str() {
            "PermissionsPolicy" => is_attached,
            "PermissionsBoundary" => is_boundary,
            _ => true,
        };
        is_kind && is_usage && entity.path.starts_with(&prefix)
    });
    let mut named: Vec<_> = using
        .map(|e| (format!("{}/{}", e.key().kind(), e.name), e))
        .collect();
    named.sort_by(|(a, _), (b, _)| a.cmp(b));
    let (found, marker) = asked.cut(named);
    let mut output = ListEntitiesForPolicyResponse {
        policy_groups: Some(Vec::new()),
        policy_users: Some(Vec::new()),
        policy_roles: Some(Vec::new()),
        is_truncated: Some(marker.is_some()),
        marker,
    };
    for entity in found {
        name_in(&mut output, entity);
    }
    call.output(&output)
}

fn name_in(output: &mut ListEntitiesForPolicyResponse, entity: IamEntity) {
    let key = entity.key();
    let (name, id) = (Some(entity.name), Some(entity.id));
    match key {
        IamKey::Role(_) => output
            .policy_roles
            .get_or_insert_default()
            .push(PolicyRole {
                role_name: name,
                role_id: id,
            }),
        IamKey::User(_) => output
            .policy_users
            .get_or_insert_default()
            .push(PolicyUser {
                user_name: name,
                user_id: id,
            }),
        IamKey::Group(_) => output
            .policy_groups
            .get_or_insert_default()
            .push(PolicyGroup {
                group_name: name,
                group_id: id,
            }),
        IamKey::Policy(_) => {}
    }
}
