//! Which services are generated, and which of their operations.

use std::path::Path;

use anyhow::ensure;

use super::model::Model;
use super::names::Case;

/// How a service speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Members in path, query, headers and JSON.
    RestJson,
    /// A form in, XML out.
    Query,
    /// The operation in a header, JSON in and out.
    Json {
        /// The error of an input that breaks a constraint of the model.
        invalid: &'static str,
    },
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
    /// How its members are spelled.
    pub(crate) case: Case,
    /// The operations that are wanted, alphabetically; none: all of them. Of the JSON protocol the others stay, by name alone.
    operations: Option<&'static [&'static str]>,
}

pub(crate) const SERVICES: [Service; 4] = [
    Service {
        name: "iam",
        title: "IAM",
        model: "data/iam/2010-05-08/service-2.json.gz",
        protocol: Protocol::Query,
        case: Case::Pascal,
        operations: Some(&IAM),
    },
    Service {
        name: "lambda",
        title: "Lambda",
        model: "data/lambda/2015-03-31/service-2.json.gz",
        protocol: Protocol::RestJson,
        case: Case::Pascal,
        operations: None,
    },
    Service {
        name: "logs",
        title: "CloudWatch Logs",
        model: "data/logs/2014-03-28/service-2.json.gz",
        protocol: Protocol::Json {
            invalid: "InvalidParameterException",
        },
        case: Case::Camel,
        operations: Some(&LOGS),
    },
    Service {
        name: "sts",
        title: "STS",
        model: "data/sts/2011-06-15/service-2.json.gz",
        protocol: Protocol::Query,
        case: Case::Pascal,
        operations: Some(&["AssumeRole", "GetCallerIdentity", "GetSessionToken"]),
    },
];

/// What tools call to read, write and keep the lines of functions.
const LOGS: [&str; 18] = [
    "CreateLogGroup",
    "CreateLogStream",
    "DeleteLogGroup",
    "DeleteLogStream",
    "DeleteRetentionPolicy",
    "DescribeLogGroups",
    "DescribeLogStreams",
    "FilterLogEvents",
    "GetLogEvents",
    "ListTagsForResource",
    "ListTagsLogGroup",
    "PutLogEvents",
    "PutRetentionPolicy",
    "StartLiveTail",
    "TagLogGroup",
    "TagResource",
    "UntagLogGroup",
    "UntagResource",
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
            let is_wanted = |name: &str| wanted.contains(&name);
            match self.protocol {
                Protocol::RestJson | Protocol::Query => {
                    model.operations.retain(|name, _| is_wanted(name));
                }
                Protocol::Json { .. } => name_alone(&mut model, is_wanted)?,
            }
        }
        Ok(model)
    }
}

/// Takes all but the name from the operations that are not wanted. Whether an operation has an input tells them apart.
fn name_alone(model: &mut Model, is_wanted: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    for (name, operation) in &mut model.operations {
        if is_wanted(name) {
            ensure!(operation.input.is_some(), "{name} has no input");
        } else {
            operation.input = None;
            operation.output = None;
            operation.errors.clear();
        }
    }
    Ok(())
}
