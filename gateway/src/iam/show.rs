//! Entities as IAM shows them.

use std::collections::BTreeMap;

use hearth_aws_api::Timestamp;
use hearth_aws_api::iam::{
    AttachedPermissionsBoundary, Group, Policy, PolicyVersion, Role, Tag, User,
};
use hearth_core::iam::{IamEntity, IamKind};
use hearth_core::ids::{AccountId, UnixMs};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// "The policy document returned is URL-encoded compliant with RFC 3986."
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// A document as answers carry it.
pub(super) fn document(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

pub(super) fn time(at: UnixMs) -> Option<Timestamp> {
    Timestamp::from_unix_ms(at.0)
}

/// None at all if there are none, as AWS does it.
pub(super) fn tags(tags: &BTreeMap<String, String>) -> Option<Vec<Tag>> {
    let tag = |(key, value): (&String, &String)| Tag {
        key: Some(key.clone()),
        value: Some(value.clone()),
    };
    let all: Vec<Tag> = tags.iter().map(tag).collect();
    (!all.is_empty()).then_some(all)
}

fn boundary(entity: &IamEntity) -> Option<AttachedPermissionsBoundary> {
    let arn = entity.rights()?.boundary.clone()?;
    Some(AttachedPermissionsBoundary {
        permissions_boundary_type: Some("Policy".to_owned()),
        permissions_boundary_arn: Some(arn),
    })
}

/// A role. Lists leave tags and the boundary out.
pub(super) fn role(account: &AccountId, entity: &IamEntity) -> Role {
    let (trust, max_session_s) = match &entity.kind {
        IamKind::Role {
            trust,
            max_session_s,
            ..
        } => (Some(document(trust)), i32::try_from(*max_session_s).ok()),
        IamKind::User { .. } | IamKind::Group { .. } | IamKind::Policy { .. } => (None, None),
    };
    Role {
        path: Some(entity.path.clone()),
        role_name: Some(entity.name.clone()),
        role_id: Some(entity.id.clone()),
        arn: Some(entity.arn(account)),
        create_date: time(entity.created),
        assume_role_policy_document: trust,
        description: Some(entity.description.clone()).filter(|text| !text.is_empty()),
        max_session_duration: max_session_s,
        permissions_boundary: boundary(entity),
        tags: tags(&entity.tags),
        ..Role::default()
    }
}

pub(super) fn user(account: &AccountId, entity: &IamEntity) -> User {
    User {
        path: Some(entity.path.clone()),
        user_name: Some(entity.name.clone()),
        user_id: Some(entity.id.clone()),
        arn: Some(entity.arn(account)),
        create_date: time(entity.created),
        permissions_boundary: boundary(entity),
        tags: tags(&entity.tags),
        ..User::default()
    }
}

pub(super) fn group(account: &AccountId, entity: &IamEntity) -> Group {
    Group {
        path: Some(entity.path.clone()),
        group_name: Some(entity.name.clone()),
        group_id: Some(entity.id.clone()),
        arn: Some(entity.arn(account)),
        create_date: time(entity.created),
    }
}

/// A policy, and how often it is attached and is a boundary.
pub(super) fn policy(arn: String, entity: &IamEntity, (attached, boundary): (u32, u32)) -> Policy {
    let (default, updated) = match &entity.kind {
        IamKind::Policy {
            versions, default, ..
        } => {
            let newest = versions.values().map(|version| version.created).max();
            (Some(format!("v{default}")), newest)
        }
        IamKind::Role { .. } | IamKind::User { .. } | IamKind::Group { .. } => (None, None),
    };
    Policy {
        policy_name: Some(entity.name.clone()),
        policy_id: Some(entity.id.clone()),
        arn: Some(arn),
        path: Some(entity.path.clone()),
        default_version_id: default,
        attachment_count: i32::try_from(attached).ok(),
        permissions_boundary_usage_count: i32::try_from(boundary).ok(),
        is_attachable: Some(true),
        description: Some(entity.description.clone()).filter(|text| !text.is_empty()),
        create_date: time(entity.created),
        update_date: updated.and_then(time),
        tags: tags(&entity.tags),
    }
}

/// A version of a policy; its document is left out of lists.
pub(super) fn version(
    entity: &IamEntity,
    number: u32,
    with_document: bool,
) -> Option<PolicyVersion> {
    let IamKind::Policy {
        versions, default, ..
    } = &entity.kind
    else {
        return None;
    };
    let version = versions.get(&number)?;
    Some(PolicyVersion {
        document: with_document.then(|| document(&version.document)),
        version_id: Some(format!("v{number}")),
        is_default_version: Some(number == *default),
        create_date: time(version.created),
    })
}
