//! How an entity comes to be and changes, as far as it concerns that entity alone. What needs to be known of others is the
//! controllers' state's to check.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::names::{prefix, unique_id};
use super::{AccessKey, IamEntity, IamKey, IamKind, PolicyVersion, Rights};
use crate::error::{Error, ErrorCode, Result};
use crate::ids::UnixMs;
use crate::limits::{
    IAM_ATTACHED_MAX, IAM_GROUPS_PER_USER_MAX, IAM_INLINE_GROUP_MAX_CHARS,
    IAM_INLINE_ROLE_MAX_CHARS, IAM_INLINE_USER_MAX_CHARS, IAM_KEYS_PER_USER_MAX,
    IAM_POLICY_MAX_CHARS, IAM_POLICY_VERSIONS_MAX, IAM_TRUST_MAX_CHARS, TAGS_MAX,
};

/// A change. It stands in the log as it is: variants and fields keep their meaning, and are only ever added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IamChange {
    /// Makes an entity.
    Create {
        /// What and its name, which must be free.
        key: IamKey,
        /// Its path.
        path: String,
        /// Free text.
        description: String,
        /// Tags.
        tags: BTreeMap<String, String>,
        /// Of a role whom it trusts, of a policy its first version.
        document: Option<String>,
        /// Of a role the longest session, seconds.
        max_session_s: u32,
        /// Of a role or user the policy beyond which it may do nothing.
        boundary: Option<String>,
    },
    /// Takes one away that nothing hangs on.
    Delete {
        /// Which.
        key: IamKey,
    },
    /// Changes what was sent of a role.
    UpdateRole {
        /// Which.
        name: String,
        /// Free text.
        description: Option<String>,
        /// Longest session, seconds.
        max_session_s: Option<u32>,
    },
    /// Sets whom a role trusts.
    SetTrust {
        /// Which role.
        name: String,
        /// The document.
        document: String,
    },
    /// Sets a policy of an identity's own.
    PutInline {
        /// Whose.
        key: IamKey,
        /// Its name.
        policy: String,
        /// The document.
        document: String,
    },
    /// Takes one away.
    DeleteInline {
        /// Whose.
        key: IamKey,
        /// Its name.
        policy: String,
    },
    /// Attaches a policy; one that is attached stays so.
    Attach {
        /// To whom.
        key: IamKey,
        /// ARN of the policy.
        arn: String,
    },
    /// Takes one off.
    Detach {
        /// From whom.
        key: IamKey,
        /// ARN of the policy.
        arn: String,
    },
    /// Sets the permissions boundary, or takes it away.
    SetBoundary {
        /// Of whom.
        key: IamKey,
        /// ARN of the policy.
        arn: Option<String>,
    },
    /// Changes tags.
    Tag {
        /// Of which.
        key: IamKey,
        /// Tags to set.
        set: BTreeMap<String, String>,
        /// Tags to take away, before.
        remove: Vec<String>,
    },
    /// Puts a user into a group; one that is in it stays so.
    Join {
        /// The user.
        user: String,
        /// The group.
        group: String,
    },
    /// Takes a user out of a group.
    Leave {
        /// The user.
        user: String,
        /// The group.
        group: String,
    },
    /// Gives a user an access key.
    CreateKey {
        /// The user.
        user: String,
        /// Id of the key.
        id: String,
        /// Its secret, sealed.
        sealed: String,
    },
    /// Lets a key be used, or no more.
    SetKey {
        /// The user.
        user: String,
        /// Id of the key.
        id: String,
        /// Whether it may be used.
        is_active: bool,
    },
    /// Takes a key away.
    DeleteKey {
        /// The user.
        user: String,
        /// Id of the key.
        id: String,
    },
    /// Adds a version of a policy.
    CreateVersion {
        /// The policy.
        name: String,
        /// The document.
        document: String,
        /// Whether it is the one that counts from now on.
        is_default: bool,
    },
    /// Chooses the version of a policy that counts.
    SetDefault {
        /// The policy.
        name: String,
        /// The version.
        version: u32,
    },
    /// Takes a version away.
    DeleteVersion {
        /// The policy.
        name: String,
        /// The version.
        version: u32,
    },
}

/// What the proposer and the log say of a change.
#[derive(Clone, Copy, Debug)]
pub struct Stamp<'a> {
    /// Its index in the log.
    pub index: u64,
    /// A UUID for what is made.
    pub id: &'a str,
    /// Now.
    pub at: UnixMs,
}

impl IamChange {
    /// What it changes.
    pub fn key(&self) -> IamKey {
        match self {
            Self::Create { key, .. }
            | Self::Delete { key }
            | Self::PutInline { key, .. }
            | Self::DeleteInline { key, .. }
            | Self::Attach { key, .. }
            | Self::Detach { key, .. }
            | Self::SetBoundary { key, .. }
            | Self::Tag { key, .. } => key.clone(),
            Self::UpdateRole { name, .. } | Self::SetTrust { name, .. } => {
                IamKey::Role(name.clone())
            }
            Self::Join { user, .. }
            | Self::Leave { user, .. }
            | Self::CreateKey { user, .. }
            | Self::SetKey { user, .. }
            | Self::DeleteKey { user, .. } => IamKey::User(user.clone()),
            Self::CreateVersion { name, .. }
            | Self::SetDefault { name, .. }
            | Self::DeleteVersion { name, .. } => IamKey::Policy(name.clone()),
        }
    }

    /// The entity that a `Create` makes; nothing of any other change.
    pub fn made(&self, stamp: &Stamp<'_>) -> Option<Result<IamEntity>> {
        let Self::Create {
            key,
            path,
            description,
            tags,
            document,
            max_session_s,
            boundary,
        } = self
        else {
            return None;
        };
        let document = document.clone().unwrap_or_default();
        let rights = Rights {
            boundary: boundary.clone(),
            ..Rights::default()
        };
        let kind = match key {
            IamKey::Role(_) => IamKind::Role {
                trust: document,
                max_session_s: *max_session_s,
                rights,
            },
            IamKey::User(_) => IamKind::User {
                groups: BTreeSet::new(),
                keys: BTreeMap::new(),
                rights,
            },
            IamKey::Group(_) => IamKind::Group { rights },
            IamKey::Policy(_) => {
                let created = stamp.at;
                IamKind::Policy {
                    versions: [(1, PolicyVersion { document, created })].into(),
                    default: 1,
                    next: 2,
                }
            }
        };
        let entity = IamEntity {
            name: key.name().to_owned(),
            path: path.clone(),
            id: unique_id(prefix(key), stamp.id),
            created: stamp.at,
            description: description.clone(),
            tags: tags.clone(),
            changed: stamp.index,
            kind,
        };
        Some(entity.check_sizes().map(|()| entity))
    }
}

/// Bytes of a document for each of its characters that count, at most.
const WHITE_MAX: usize = 4;

fn limit(text: String) -> Error {
    Error::new(ErrorCode::LimitExceeded, text)
}

fn quota(name: &str, most: usize) -> Error {
    limit(format!("Cannot exceed quota for {name}: {most}"))
}

fn not_found(text: String) -> Error {
    Error::new(ErrorCode::NotFound, text)
}

/// "IAM doesn't count white space when calculating the size of a policy." Ours: what is mostly white space counts all the same.
fn chars(document: &str) -> usize {
    let dark = document.chars().filter(|c| !c.is_whitespace()).count();
    dark.max(document.len() / WHITE_MAX)
}

impl IamEntity {
    /// Carries a change out; `Create` and `Delete` are not changes of one.
    pub fn change(&mut self, change: &IamChange, stamp: &Stamp<'_>) -> Result<()> {
        self.changed = stamp.index;
        match change {
            IamChange::Create { .. } | IamChange::Delete { .. } => {}
            IamChange::UpdateRole { .. } | IamChange::SetTrust { .. } => self.change_role(change),
            IamChange::PutInline { .. }
            | IamChange::DeleteInline { .. }
            | IamChange::Attach { .. }
            | IamChange::Detach { .. }
            | IamChange::SetBoundary { .. } => self.change_rights(change)?,
            IamChange::Tag { set, remove, .. } => {
                self.tags.retain(|key, _| !remove.contains(key));
                self.tags.extend(set.clone());
            }
            IamChange::Join { .. }
            | IamChange::Leave { .. }
            | IamChange::CreateKey { .. }
            | IamChange::SetKey { .. }
            | IamChange::DeleteKey { .. } => self.change_user(change, stamp)?,
            IamChange::CreateVersion { .. }
            | IamChange::SetDefault { .. }
            | IamChange::DeleteVersion { .. } => self.change_versions(change, stamp)?,
        }
        self.check_sizes()
    }

    fn change_role(&mut self, change: &IamChange) {
        let IamKind::Role {
            trust,
            max_session_s,
            ..
        } = &mut self.kind
        else {
            return;
        };
        match change {
            IamChange::SetTrust { document, .. } => trust.clone_from(document),
            IamChange::UpdateRole {
                description,
                max_session_s: longest,
                ..
            } => {
                *max_session_s = longest.unwrap_or(*max_session_s);
                if let Some(text) = description {
                    self.description.clone_from(text);
                }
            }
            _ => {}
        }
    }

    fn change_rights(&mut self, change: &IamChange) -> Result<()> {
        let kind = self.key().kind();
        let Some(rights) = self.rights_mut() else {
            return Ok(());
        };
        match change {
            IamChange::PutInline {
                policy, document, ..
            } => {
                rights.inline.insert(policy.clone(), document.clone());
            }
            IamChange::DeleteInline { policy, .. } => {
                let gone = rights.inline.remove(policy);
                gone.ok_or_else(|| {
                    not_found(format!(
                        "The {kind} policy with name {policy} cannot be found."
                    ))
                })?;
            }
            IamChange::Attach { arn, .. } => {
                rights.attached.insert(arn.clone());
            }
            IamChange::Detach { arn, .. } => {
                let gone = rights.attached.take(arn);
                gone.ok_or_else(|| not_found(format!("Policy {arn} was not found.")))?;
            }
            IamChange::SetBoundary { arn, .. } => rights.boundary.clone_from(arn),
            _ => {}
        }
        Ok(())
    }

    fn change_user(&mut self, change: &IamChange, stamp: &Stamp<'_>) -> Result<()> {
        let name = &self.name;
        let IamKind::User { groups, keys, .. } = &mut self.kind else {
            return Ok(());
        };
        let no_key = |id: &str| not_found(format!("The Access Key with id {id} cannot be found."));
        match change {
            IamChange::Join { group, .. } => {
                groups.insert(group.clone());
            }
            IamChange::Leave { group, .. } => {
                let gone = groups.take(group);
                gone.ok_or_else(|| not_found(format!("User {name} is not in group {group}.")))?;
            }
            IamChange::CreateKey { id, sealed, .. } => {
                let key = AccessKey {
                    sealed: sealed.clone(),
                    created: stamp.at,
                    is_active: true,
                };
                keys.insert(id.clone(), key);
            }
            IamChange::SetKey { id, is_active, .. } => {
                let key = keys.get_mut(id).ok_or_else(|| no_key(id))?;
                key.is_active = *is_active;
            }
            IamChange::DeleteKey { id, .. } => {
                keys.remove(id).ok_or_else(|| no_key(id))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn change_versions(&mut self, change: &IamChange, stamp: &Stamp<'_>) -> Result<()> {
        let name = &self.name;
        let IamKind::Policy {
            versions,
            default,
            next,
        } = &mut self.kind
        else {
            return Ok(());
        };
        let unknown = |version: u32| {
            not_found(format!(
                "Policy {name} version v{version} does not exist or is not attachable."
            ))
        };
        match change {
            IamChange::CreateVersion {
                document,
                is_default,
                ..
            } => {
                let version = PolicyVersion {
                    document: document.clone(),
                    created: stamp.at,
                };
                versions.insert(*next, version);
                if *is_default {
                    *default = *next;
                }
                *next += 1;
            }
            IamChange::SetDefault { version, .. } => {
                if !versions.contains_key(version) {
                    return Err(unknown(*version));
                }
                *default = *version;
            }
            IamChange::DeleteVersion { version, .. } => {
                if version == default {
                    return Err(Error::new(
                        ErrorCode::DeleteConflict,
                        "Cannot delete the default version of a policy.",
                    ));
                }
                versions.remove(version).ok_or_else(|| unknown(*version))?;
            }
            _ => {}
        }
        Ok(())
    }

    /// The limits on what one entity holds.
    fn check_sizes(&self) -> Result<()> {
        let name = &self.name;
        if self.tags.len() > TAGS_MAX {
            return Err(quota("TagsPerResource", TAGS_MAX));
        }
        match &self.kind {
            IamKind::Role { trust, rights, .. } => {
                if chars(trust) > IAM_TRUST_MAX_CHARS {
                    return Err(quota("ACLSizePerRole", IAM_TRUST_MAX_CHARS));
                }
                rights.check(("role", "Role", name), IAM_INLINE_ROLE_MAX_CHARS)
            }
            IamKind::User {
                groups,
                keys,
                rights,
            } => {
                if groups.len() > IAM_GROUPS_PER_USER_MAX {
                    return Err(quota("GroupsPerUser", IAM_GROUPS_PER_USER_MAX));
                }
                if keys.len() > IAM_KEYS_PER_USER_MAX {
                    return Err(quota("AccessKeysPerUser", IAM_KEYS_PER_USER_MAX));
                }
                rights.check(("user", "User", name), IAM_INLINE_USER_MAX_CHARS)
            }
            IamKind::Group { rights } => {
                rights.check(("group", "Group", name), IAM_INLINE_GROUP_MAX_CHARS)
            }
            IamKind::Policy { versions, .. } => {
                if versions.len() > IAM_POLICY_VERSIONS_MAX {
                    return Err(limit(format!(
                        "A managed policy can have up to {IAM_POLICY_VERSIONS_MAX} versions. Before you create a new version, you must delete an existing version."
                    )));
                }
                let mut documents = versions.values().map(|version| &version.document);
                if documents.any(|document| chars(document) > IAM_POLICY_MAX_CHARS) {
                    return Err(quota("PolicySize", IAM_POLICY_MAX_CHARS));
                }
                Ok(())
            }
        }
    }
}

impl Rights {
    fn check(&self, (kind, quoted, name): (&str, &str, &str), most: usize) -> Result<()> {
        let size: usize = self.inline.values().map(|document| chars(document)).sum();
        if size > most {
            return Err(limit(format!(
                "Maximum policy size of {most} bytes exceeded for {kind} {name}"
            )));
        }
        if self.attached.len() > IAM_ATTACHED_MAX {
            let name = format!("PoliciesPer{quoted}");
            return Err(quota(&name, IAM_ATTACHED_MAX));
        }
        Ok(())
    }
}
