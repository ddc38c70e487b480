//! Who there is in an account: roles, users, groups, and the policies that say what they may do. Here: what they are. How they
//! change is in `change`, their ARNs and ids in `names`, what AWS itself brings in `managed`. What a policy means is
//! `policy`'s.

mod change;
mod managed;
mod names;

pub use change::{IamChange, Stamp};
pub use managed::{aws_managed, aws_policies, aws_policy};
pub use names::{check_arn_of_policy, policy_named, role_named, unique_id};

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::ids::{AccountId, UnixMs};

/// Whom the role of a function has to trust.
pub const LAMBDA_SERVICE: &str = "lambda.amazonaws.com";

/// What an entity takes beside its texts, at most: names, ids, groups and keys.
const FIXED_BYTES: usize = 2_048;

/// Which of them, by its name. "Names are not distinguished by case": [`IamKey::folded`] is what they are kept by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum IamKey {
    /// A role.
    Role(String),
    /// A user.
    User(String),
    /// A group.
    Group(String),
    /// A policy that the account made.
    Policy(String),
}

impl IamKey {
    /// The name.
    pub fn name(&self) -> &str {
        match self {
            Self::Role(name) | Self::User(name) | Self::Group(name) | Self::Policy(name) => name,
        }
    }

    /// The same in lower case.
    #[must_use]
    pub fn folded(&self) -> Self {
        let name = self.name().to_lowercase();
        match self {
            Self::Role(_) => Self::Role(name),
            Self::User(_) => Self::User(name),
            Self::Group(_) => Self::Group(name),
            Self::Policy(_) => Self::Policy(name),
        }
    }

    /// The word for its kind, as ARNs and texts have it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Role(_) => "role",
            Self::User(_) => "user",
            Self::Group(_) => "group",
            Self::Policy(_) => "policy",
        }
    }
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IamEntity {
    /// Its name, as it was given.
    pub name: String,
    /// `/`, or `/a/b/`.
    pub path: String,
    /// `AROA...`, `AIDA...`, `AGPA...` or `ANPA...`: never used again.
    pub id: String,
    /// When it was made.
    pub created: UnixMs,
    /// Free text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Tags.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Log index of its newest change.
    pub changed: u64,
    /// What it is.
    pub kind: IamKind,
}

/// What an entity is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IamKind {
    /// A role.
    Role {
        /// Document of whom it trusts.
        trust: String,
        /// Longest session, seconds.
        max_session_s: u32,
        /// What it may do.
        rights: Rights,
    },
    /// A user.
    User {
        /// Groups it is in.
        groups: BTreeSet<String>,
        /// Its access keys, by id.
        keys: BTreeMap<String, AccessKey>,
        /// What it may do.
        rights: Rights,
    },
    /// A group.
    Group {
        /// What its users may do.
        rights: Rights,
    },
    /// A policy.
    Policy {
        /// Its documents, by number.
        versions: BTreeMap<u32, PolicyVersion>,
        /// The number of the one that counts.
        default: u32,
        /// The number of the next one.
        next: u32,
    },
}

/// What an identity may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// Documents of its own, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inline: BTreeMap<String, String>,
    /// ARNs of policies.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub attached: BTreeSet<String>,
    /// ARN of the policy beyond which it may do nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boundary: Option<String>,
}

/// One document of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyVersion {
    /// As it was sent.
    pub document: String,
    /// When.
    pub created: UnixMs,
}

/// An access key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKey {
    /// Its secret, sealed by gateways: controllers cannot read it.
    pub sealed: String,
    /// When it was made.
    pub created: UnixMs,
    /// Whether it may be used.
    pub is_active: bool,
}

impl IamEntity {
    /// What it is known by.
    pub fn key(&self) -> IamKey {
        let name = self.name.clone();
        match self.kind {
            IamKind::Role { .. } => IamKey::Role(name),
            IamKind::User { .. } => IamKey::User(name),
            IamKind::Group { .. } => IamKey::Group(name),
            IamKind::Policy { .. } => IamKey::Policy(name),
        }
    }

    /// `arn:aws:iam::<account>:role<path><name>`.
    pub fn arn(&self, account: &AccountId) -> String {
        let kind = self.key().kind();
        format!(
            "arn:aws:iam::{}:{kind}{}{}",
            account.as_str(),
            self.path,
            self.name
        )
    }

    /// What an identity may do; nothing, if it is a policy.
    pub fn rights(&self) -> Option<&Rights> {
        match &self.kind {
            IamKind::Role { rights, .. }
            | IamKind::User { rights, .. }
            | IamKind::Group { rights } => Some(rights),
            IamKind::Policy { .. } => None,
        }
    }

    /// About how much it takes, bytes: its texts.
    pub fn bytes(&self) -> usize {
        let texts = |all: &BTreeMap<String, String>| -> usize {
            all.iter().map(|(key, text)| key.len() + text.len()).sum()
        };
        let rights = self.rights().map_or(0, |rights| {
            let attached: usize = rights.attached.iter().map(String::len).sum();
            texts(&rights.inline) + attached
        });
        let documents = match &self.kind {
            IamKind::Role { trust, .. } => trust.len(),
            IamKind::Policy { versions, .. } => versions
                .values()
                .map(|version| version.document.len())
                .sum(),
            IamKind::User { .. } | IamKind::Group { .. } => 0,
        };
        FIXED_BYTES
            + self.path.len()
            + self.description.len()
            + texts(&self.tags)
            + rights
            + documents
    }

    fn rights_mut(&mut self) -> Option<&mut Rights> {
        match &mut self.kind {
            IamKind::Role { rights, .. }
            | IamKind::User { rights, .. }
            | IamKind::Group { rights } => Some(rights),
            IamKind::Policy { .. } => None,
        }
    }

    /// The document that counts, if it is a policy.
    pub fn document(&self) -> Option<&PolicyVersion> {
        match &self.kind {
            IamKind::Policy {
                versions, default, ..
            } => versions.get(default),
            IamKind::Role { .. } | IamKind::User { .. } | IamKind::Group { .. } => None,
        }
    }

    /// The groups of a user.
    pub fn groups(&self) -> impl Iterator<Item = &String> {
        let groups = match &self.kind {
            IamKind::User { groups, .. } => Some(groups),
            IamKind::Role { .. } | IamKind::Group { .. } | IamKind::Policy { .. } => None,
        };
        groups.into_iter().flatten()
    }

    /// Whether a policy is attached to it, as it is or as its boundary.
    pub fn uses(&self, arn: &str) -> bool {
        self.rights().is_some_and(|rights| {
            rights.attached.contains(arn) || rights.boundary.as_deref() == Some(arn)
        })
    }
}

/// News about one of them, for gateways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IamNews {
    /// Whose.
    pub account: AccountId,
    /// What it is known by.
    pub key: IamKey,
    /// As it is; nothing if it was taken away.
    pub entity: Option<IamEntity>,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IamQuery {
    /// One of them.
    One(IamKey),
    /// Those of a kind by name; which kind, the key says, and that names begin after its name.
    After {
        /// Kind, and the name after which to begin; empty for the first ones.
        after: IamKey,
        /// Those whose path begins so.
        path_prefix: String,
        /// At most so many.
        limit: usize,
    },
    /// Users of a group, by name.
    Members {
        /// The group.
        group: String,
        /// Names after this one; empty for the first ones.
        after: String,
        /// At most so many.
        limit: usize,
    },
    /// Roles, users and groups that a policy is attached to, or is the boundary of.
    Using {
        /// The policy's ARN.
        arn: String,
    },
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IamPage {
    /// What was asked for.
    pub entities: Vec<IamEntity>,
    /// Whether there are more after the last one.
    #[serde(default)]
    pub more: bool,
    /// How many roles, users and groups each policy is attached to, by its ARN; and how many it is the boundary of.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub used: BTreeMap<String, (u32, u32)>,
}

#[cfg(test)]
mod tests;
