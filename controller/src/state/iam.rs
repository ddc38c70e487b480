//! Roles, users, groups and policies of accounts: `core` says what a change makes of one of them; here is what needs to be known
//! of others.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

use hearth_core::error::{Error, ErrorCode, Result};
use hearth_core::iam::{
    IamChange, IamEntity, IamKey, IamKind, IamNews, IamPage, IamQuery, Stamp, aws_managed,
    policy_named,
};
use hearth_core::ids::AccountId;
use hearth_core::limits::{IAM_GROUPS_MAX, IAM_POLICIES_MAX, IAM_ROLES_MAX, IAM_USERS_MAX};
use serde::{Deserialize, Serialize};

use super::command::Command;
use super::reply::{Effect, Reply};
use super::{Outcome, State, done};

/// Most of them in one answer, whatever is asked for.
const PAGE_MAX: usize = 1_000;
/// Bytes of an answer: a quarter of the largest gRPC message.
const PAGE_BYTES: usize = 2 * 1024 * 1024;

/// By name in lower case.
type ByName = BTreeMap<String, IamEntity>;

/// All of all accounts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Iam(BTreeMap<AccountId, Account>);

/// Those of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Account {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    roles: ByName,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    users: ByName,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    groups: ByName,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    policies: ByName,
}

impl Iam {
    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One of them.
    pub fn one(&self, account: &AccountId, key: &IamKey) -> Option<&IamEntity> {
        let found = self.0.get(account)?.of(key).get(key.folded().name());
        found.filter(|entity| entity.name == key.name())
    }

    /// All of them, as gateways are told.
    pub fn news(&self) -> impl Iterator<Item = IamNews> + '_ {
        self.0.iter().flat_map(|(account, own)| {
            own.all().map(|entity| IamNews {
                account: account.clone(),
                key: entity.key(),
                entity: Some(entity.clone()),
            })
        })
    }

    fn of(&self, account: &AccountId) -> Option<&Account> {
        self.0.get(account)
    }

    fn put(&mut self, account: &AccountId, entity: IamEntity) {
        let key = entity.key();
        let own = self.0.entry(account.clone()).or_default();
        let name = key.folded().name().to_owned();
        own.of_mut(&key).insert(name, entity);
    }

    fn remove(&mut self, account: &AccountId, key: &IamKey) {
        if let Some(own) = self.0.get_mut(account) {
            own.of_mut(key).remove(key.folded().name());
            if own.all().next().is_none() {
                self.0.remove(account);
            }
        }
    }
}

impl Account {
    fn of(&self, key: &IamKey) -> &ByName {
        match key {
            IamKey::Role(_) => &self.roles,
            IamKey::User(_) => &self.users,
            IamKey::Group(_) => &self.groups,
            IamKey::Policy(_) => &self.policies,
        }
    }

    fn of_mut(&mut self, key: &IamKey) -> &mut ByName {
        match key {
            IamKey::Role(_) => &mut self.roles,
            IamKey::User(_) => &mut self.users,
            IamKey::Group(_) => &mut self.groups,
            IamKey::Policy(_) => &mut self.policies,
        }
    }

    /// Policies first, then whoever may have them.
    fn all(&self) -> impl Iterator<Item = &IamEntity> {
        self.policies.values().chain(self.identities())
    }

    fn identities(&self) -> impl Iterator<Item = &IamEntity> {
        let (roles, users) = (self.roles.values(), self.users.values());
        roles.chain(users).chain(self.groups.values())
    }

    fn members(&self, group: &str) -> impl Iterator<Item = &IamEntity> {
        let users = self.users.values();
        users.filter(move |user| user.groups().any(|name| name == group))
    }
}

/// How many of a kind an account may have, and what AWS calls that.
fn quota(key: &IamKey) -> (usize, &'static str) {
    match key {
        IamKey::Role(_) => (IAM_ROLES_MAX, "RolesPerAccount"),
        IamKey::User(_) => (IAM_USERS_MAX, "UsersPerAccount"),
        IamKey::Group(_) => (IAM_GROUPS_MAX, "GroupsPerAccount"),
        IamKey::Policy(_) => (IAM_POLICIES_MAX, "PoliciesPerAccount"),
    }
}

fn not_found(key: &IamKey) -> Error {
    let name = key.name();
    let text = match key {
        IamKey::Policy(_) => format!("Policy {name} was not found."),
        IamKey::Role(_) | IamKey::User(_) | IamKey::Group(_) => {
            format!("The {} with name {name} cannot be found.", key.kind())
        }
    };
    Error::new(ErrorCode::NotFound, text)
}

fn conflict(text: &str) -> Error {
    Error::new(ErrorCode::DeleteConflict, text)
}

impl State {
    pub(super) fn change_iam(&mut self, index: u64, command: &Command) -> Result<Outcome> {
        let Command::ChangeIam {
            account,
            change,
            id,
            at,
        } = command
        else {
            return Ok(done());
        };
        let stamp = Stamp { index, id, at: *at };
        let key = change.key();
        self.check_policies_exist(account, change)?;
        let entity = if let Some(made) = change.made(&stamp) {
            self.check_free(account, &key)?;
            made?
        } else {
            let mut entity = self.entity(account, &key)?.clone();
            if let IamChange::Delete { .. } = &**change {
                self.check_deletable(account, &entity)?;
                self.iam.remove(account, &key);
                let effect = Effect::Iam(account.clone(), key);
                return Ok((Reply::Iam(Box::new(entity)), vec![effect]));
            }
            if let IamChange::Join { group, .. } | IamChange::Leave { group, .. } = &**change {
                self.entity(account, &IamKey::Group(group.clone()))?;
            }
            entity.change(change, &stamp)?;
            entity
        };
        self.iam.put(account, entity.clone());
        let effect = Effect::Iam(account.clone(), key);
        Ok((Reply::Iam(Box::new(entity)), vec![effect]))
    }

    fn entity(&self, account: &AccountId, key: &IamKey) -> Result<&IamEntity> {
        self.iam.one(account, key).ok_or_else(|| not_found(key))
    }

    fn check_free(&self, account: &AccountId, key: &IamKey) -> Result<()> {
        let Some(own) = self.iam.of(account) else {
            return Ok(());
        };
        let all = own.of(key);
        if let Some(known) = all.get(key.folded().name()) {
            let name = &known.name;
            let text = match key {
                IamKey::Role(_) => format!("Role with name {name} already exists."),
                IamKey::User(_) => format!("User with name {name} already exists."),
                IamKey::Group(_) => format!("Group with name {name} already exists."),
                IamKey::Policy(_) => {
                    format!(
                        "A policy called {name} already exists. Duplicate names are not allowed."
                    )
                }
            };
            return Err(Error::new(ErrorCode::AlreadyExists, text));
        }
        let (most, name) = quota(key);
        if all.len() >= most {
            let text = format!("Cannot exceed quota for {name}: {most}");
            return Err(Error::new(ErrorCode::LimitExceeded, text));
        }
        Ok(())
    }

    /// A policy that is to be attached, or to be a boundary, is there.
    fn check_policies_exist(&self, account: &AccountId, change: &IamChange) -> Result<()> {
        let arn = match change {
            IamChange::Attach { arn, .. } => Some(arn),
            IamChange::SetBoundary { arn, .. } => arn.as_ref(),
            IamChange::Create { boundary, .. } => boundary.as_ref(),
            _ => None,
        };
        let Some(arn) = arn else {
            return Ok(());
        };
        let own = policy_named(account, arn);
        let own = own.and_then(|key| self.iam.one(account, &key));
        let is_own = own.is_some_and(|policy| policy.arn(account) == *arn);
        if is_own || aws_managed(arn).is_some() {
            return Ok(());
        }
        let text = format!("Policy {arn} does not exist or is not attachable.");
        Err(Error::new(ErrorCode::NotFound, text))
    }

    /// Nothing hangs on what is to be taken away.
    fn check_deletable(&self, account: &AccountId, entity: &IamEntity) -> Result<()> {
        if let Some(rights) = entity.rights() {
            if !rights.attached.is_empty() {
                return Err(conflict(
                    "Cannot delete entity, must detach all policies first.",
                ));
            }
            if !rights.inline.is_empty() {
                return Err(conflict(
                    "Cannot delete entity, must delete policies first.",
                ));
            }
        }
        let own = self.iam.of(account);
        match &entity.kind {
            IamKind::Role { .. } => Ok(()),
            IamKind::User { keys, .. } if !keys.is_empty() => Err(conflict(
                "Cannot delete entity, must delete access keys first.",
            )),
            IamKind::User { groups, .. } if !groups.is_empty() => Err(conflict(
                "Cannot delete entity, must remove users from group first.",
            )),
            IamKind::User { .. } => Ok(()),
            IamKind::Group { .. } => {
                let mut members = own.into_iter().flat_map(|own| own.members(&entity.name));
                match members.next() {
                    Some(_) => Err(conflict(
                        "Cannot delete entity, must remove users from group first.",
                    )),
                    None => Ok(()),
                }
            }
            IamKind::Policy { versions, .. } => {
                let arn = entity.arn(account);
                let mut identities = own.into_iter().flat_map(Account::identities);
                if identities.any(|identity| identity.uses(&arn)) {
                    return Err(conflict("Cannot delete a policy attached to entities."));
                }
                if versions.len() > 1 {
                    return Err(conflict(
                        "This policy has more than one version. Before you delete a policy, you must delete the policy's versions. The default version is deleted with the policy.",
                    ));
                }
                Ok(())
            }
        }
    }

    /// The answer to a question.
    pub fn query_iam(&self, account: &AccountId, query: &IamQuery) -> Result<IamPage> {
        let own = self.iam.of(account);
        let mut page = match query {
            IamQuery::One(key) => cut([self.entity(account, key)?].into_iter(), 1),
            IamQuery::After {
                after,
                path_prefix,
                limit,
            } => {
                let begin = match after.folded().name() {
                    "" => Unbounded,
                    name => Excluded(name.to_owned()),
                };
                let all = own
                    .into_iter()
                    .flat_map(|own| own.of(after).range((begin.clone(), Unbounded)));
                let wanted = all.map(|(_, entity)| entity);
                cut(wanted.filter(|e| e.path.starts_with(path_prefix)), *limit)
            }
            IamQuery::Members {
                group,
                after,
                limit,
            } => {
                let key = IamKey::Group(group.clone());
                let group = self.entity(account, &key)?;
                let after = after.to_lowercase();
                let members = own.into_iter().flat_map(|own| own.members(&group.name));
                let rest = members.filter(|user| user.name.to_lowercase() > after);
                let mut page = cut(rest, *limit);
                page.entities.insert(0, group.clone());
                page
            }
            IamQuery::Using { arn } => {
                let all = own.into_iter().flat_map(Account::identities);
                cut(all.filter(|identity| identity.uses(arn)), PAGE_MAX)
            }
        };
        if page
            .entities
            .iter()
            .any(|entity| entity.document().is_some())
        {
            page.used = used(account, own, &page.entities);
        }
        Ok(page)
    }
}

/// At most `limit` of them, and not more than an answer may hold.
fn cut<'a>(mut all: impl Iterator<Item = &'a IamEntity>, limit: usize) -> IamPage {
    let mut page = IamPage::default();
    let mut bytes = 0;
    for entity in all.by_ref() {
        bytes += entity.bytes();
        let is_full = page.entities.len() >= limit.clamp(1, PAGE_MAX);
        if is_full || (bytes > PAGE_BYTES && !page.entities.is_empty()) {
            page.more = true;
            break;
        }
        page.entities.push(entity.clone());
    }
    page
}

/// How often each of the policies is attached, and is a boundary.
fn used(
    account: &AccountId,
    own: Option<&Account>,
    policies: &[IamEntity],
) -> BTreeMap<String, (u32, u32)> {
    let arns = policies.iter().map(|policy| (policy.arn(account), (0, 0)));
    let mut used: BTreeMap<String, (u32, u32)> = arns.collect();
    let identities = own.into_iter().flat_map(Account::identities);
    for rights in identities.filter_map(IamEntity::rights) {
        for arn in &rights.attached {
            if let Some((attached, _)) = used.get_mut(arn) {
                *attached += 1;
            }
        }
        if let Some(arn) = &rights.boundary
            && let Some((_, boundary)) = used.get_mut(arn)
        {
            *boundary += 1;
        }
    }
    used
}

#[cfg(test)]
#[path = "iam_tests.rs"]
mod tests;
