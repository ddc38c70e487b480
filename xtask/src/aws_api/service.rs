//! Which services are generated, and which of their operations.

use std::path::Path;

use anyhow::ensure;

use super::model::Model;

/// How a service speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Members in path, query, headers and JSON.
    RestJson,
    /// A form in, XML out.
    Query,
}

/// One service.
#[derive(Debug)]
pub(crate) struct Service {
    /// Name of its folder.
    pub(crate) name: &'static str,
    /// As texts name it.
    pub(crate) title: &'static str,
    /// Its model, below botocore's package.
    pub(crate) model: &'static str,
    pub(crate) protocol: Protocol,
    /// The operations that are wanted, alphabetically; none: all of them.
    operations: Option<&'static [&'static str]>,
}

pub(crate) const SERVICES: [Service; 3] = [
    Service {
        name: "iam",
        title: "IAM",
        model: "data/iam/2010-05-08/service-2.json.gz",
        protocol: Protocol::Query,
        operations: Some(&IAM),
    },
    Service {
        name: "lambda",
        title: "Lambda",
        model: "data/lambda/2015-03-31/service-2.json.gz",
        protocol: Protocol::RestJson,
        operations: None,
    },
    Service {
        name: "sts",
        title: "STS",
        model: "data/sts/2011-06-15/service-2.json.gz",
        protocol: Protocol::Query,
        operations: Some(&["AssumeRole", "GetCallerIdentity", "GetSessionToken"]),
    },
];

/// What tools call when they prepare a function.
const IAM: [&str; 67] = [
    "AddUserToGroup",
    "AttachGroupPolicy",
    "AttachRolePolicy",
    "AttachUserPolicy",
    "CreateAccessKey",
    "CreateGroup",
    "CreatePolicy",
    "CreatePolicyVersion",
    "CreateRole",
    "CreateUser",
    "DeleteAccessKey",
    "DeleteGroup",
    "DeleteGroupPolicy",
    "DeletePolicy",
    "DeletePolicyVersion",
    "DeleteRole",
    "DeleteRolePermissionsBoundary",
    "DeleteRolePolicy",
    "DeleteUser",
    "DeleteUserPermissionsBoundary",
    "DeleteUserPolicy",
    "DetachGroupPolicy",
    "DetachRolePolicy",
    "DetachUserPolicy",
    "GetGroup",
    "GetGroupPolicy",
    "GetPolicy",
    "GetPolicyVersion",
    "GetRole",
    "GetRolePolicy",
    "GetUser",
    "GetUserPolicy",
    "ListAccessKeys",
    "ListAttachedGroupPolicies",
    "ListAttachedRolePolicies",
    "ListAttachedUserPolicies",
    "ListEntitiesForPolicy",
    "ListGroupPolicies",
    "ListGroups",
    "ListGroupsForUser",
    "ListInstanceProfilesForRole",
    "ListPolicies",
    "ListPolicyTags",
    "ListPolicyVersions",
    "ListRolePolicies",
    "ListRoleTags",
    "ListRoles",
    "ListUserPolicies",
    "ListUserTags",
    "ListUsers",
    "PutGroupPolicy",
    "PutRolePermissionsBoundary",
    "PutRolePolicy",
    "PutUserPermissionsBoundary",
    "PutUserPolicy",
    "RemoveUserFromGroup",
    "SetDefaultPolicyVersion",
    "TagPolicy",
    "TagRole",
    "TagUser",
    "UntagPolicy",
    "UntagRole",
    "UntagUser",
    "UpdateAccessKey",
    "UpdateAssumeRolePolicy",
    "UpdateRole",
    "UpdateRoleDescription",
];

impl Service {
    /// Reads its model.
    pub(crate) fn load(&self, package: &Path) -> anyhow::Result<Model> {
        let mut model = Model::load(&package.join(self.model))?;
        if let Some(wanted) = self.operations {
            let known = |name: &&&str| !model.operations.contains_key(**name);
            let unknown = wanted.iter().find(known);
            ensure!(unknown.is_none(), "{} has no {unknown:?}", self.title);
            let is_wanted = |name: &String, _: &mut _| wanted.contains(&name.as_str());
            model.operations.retain(is_wanted);
        }
        Ok(model)
    }
}
