//! What hangs on a function beside its code and configuration, each by the version or alias it is for: resource policies, how
//! events are tried, URLs, runtime management, code signing. What is here says what a change makes of a function.

mod event_invoke;
mod permissions;
mod urls;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorCode, Result};
use crate::function::Function;
use crate::ids::{UnixMs, Version};
use crate::name::{Qualifier, function_arn};
use crate::policy::{Policy, Statement};

pub use event_invoke::{Destinations, EventInvokeConfig, EventInvokeMembers};
pub use urls::{Cors, InvokeMode, NO_FUNCTION, NO_URL, UrlAuth, UrlConfig, UrlMembers};

/// Absent qualifiers mean `$LATEST`, and are kept as it.
pub const LATEST: Qualifier = Qualifier::Version(Version::Latest);

/// Everything that hangs on one function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// Who else may use it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub policies: BTreeMap<Qualifier, Policy>,
    /// How often and how long events are tried, and who is told.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub event_invoke: BTreeMap<Qualifier, EventInvokeConfig>,
    /// Addresses at which it is reached without the API.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub urls: BTreeMap<Qualifier, UrlConfig>,
    /// Whether it may be part of a loop of functions that invoke each other.
    #[serde(default, skip_serializing_if = "is_false")]
    pub allows_recursion: bool,
    /// When its runtime is updated; AWS's `Auto` where there is none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub runtime_management: BTreeMap<Qualifier, RuntimeManagement>,
    /// ARN of the code signing configuration that its code has to keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_signing: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(is: &bool) -> bool {
    !*is
}

/// When the runtime of a version is updated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeManagement {
    /// `Auto`, `FunctionUpdate` or `Manual`.
    pub update_on: String,
    /// The runtime version that is kept, with `Manual`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_version_arn: Option<String>,
}

/// A change of what hangs on a function. It stands in the log as it is: variants and fields keep their meaning, and are only
/// ever added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttachedChange {
    /// Adds a statement to a policy.
    Permit {
        /// What the policy is of.
        qualifier: Option<Qualifier>,
        /// The statement, which has an id.
        statement: Box<Statement>,
        /// Refuse unless this is the revision.
        revision_id: Option<String>,
    },
    /// Takes a statement away.
    Revoke {
        /// What the policy is of.
        qualifier: Option<Qualifier>,
        /// The statement's id.
        sid: String,
        /// Refuse unless this is the revision.
        revision_id: Option<String>,
    },
    /// Replaces a policy; `None` takes it away.
    SetPolicy {
        /// What the policy is of.
        qualifier: Option<Qualifier>,
        /// The new one.
        policy: Option<Box<Policy>>,
        /// Refuse unless this is the revision.
        revision_id: Option<String>,
    },
    /// Sets how events are tried.
    SetEventInvoke {
        /// For which version or alias.
        qualifier: Option<Qualifier>,
        /// What was sent.
        members: EventInvokeMembers,
        /// Whether what was not sent stays as it is.
        is_update: bool,
    },
    /// Events are tried as AWS tries them by default.
    DeleteEventInvoke {
        /// For which version or alias.
        qualifier: Option<Qualifier>,
    },
    /// Makes a URL.
    CreateUrl {
        /// Of an alias, or of the function.
        qualifier: Option<Qualifier>,
        /// What was sent.
        members: UrlMembers,
    },
    /// Changes what was sent of a URL.
    UpdateUrl {
        /// Of an alias, or of the function.
        qualifier: Option<Qualifier>,
        /// What was sent.
        members: UrlMembers,
    },
    /// Takes a URL away.
    DeleteUrl {
        /// Of an alias, or of the function.
        qualifier: Option<Qualifier>,
    },
    /// Whether the function may be part of a loop.
    SetRecursion {
        /// It may.
        allow: bool,
    },
    /// Sets when the runtime is updated.
    SetRuntimeManagement {
        /// Of which version.
        qualifier: Option<Qualifier>,
        /// As it is from now on.
        management: RuntimeManagement,
    },
    /// Sets which signatures code has to have; `None`: none.
    SetCodeSigning {
        /// ARN of the configuration.
        arn: Option<String>,
    },
}

/// What every change brings.
#[derive(Clone, Copy, Debug)]
pub struct Stamp<'a> {
    /// What ARNs carry.
    pub region: &'a str,
    /// The next revision of what changes.
    pub revision_id: &'a str,
    /// Now.
    pub at: UnixMs,
}

impl Attached {
    /// Whether nothing hangs on the function.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// A version or alias is gone, and what hung on it.
    pub fn forget(&mut self, qualifier: &Qualifier) {
        self.policies.remove(qualifier);
        self.event_invoke.remove(qualifier);
        self.urls.remove(qualifier);
        self.runtime_management.remove(qualifier);
    }

    /// Bytes that it takes, about.
    pub fn metadata_bytes(&self) -> usize {
        let policies = self.policies.values().map(|p| p.text().len());
        let events = self
            .event_invoke
            .values()
            .map(EventInvokeConfig::metadata_bytes);
        let urls = self.urls.values().map(UrlConfig::metadata_bytes);
        let managed = self.runtime_management.len() * 300;
        policies.chain(events).chain(urls).sum::<usize>() + managed
    }
}

impl Function {
    /// Carries a change out; whether anything changed.
    pub fn attach(&mut self, change: &AttachedChange, stamp: &Stamp<'_>) -> Result<()> {
        match change {
            AttachedChange::Permit {
                qualifier,
                statement,
                revision_id,
            } => self.permit(qualifier.as_ref(), statement, revision_id.as_deref(), stamp),
            AttachedChange::Revoke {
                qualifier,
                sid,
                revision_id,
            } => self.revoke(qualifier.as_ref(), sid, revision_id.as_deref(), stamp),
            AttachedChange::SetPolicy {
                qualifier,
                policy,
                revision_id,
            } => {
                let policy = policy.as_deref();
                self.set_policy(qualifier.as_ref(), policy, revision_id.as_deref(), stamp)
            }
            AttachedChange::SetEventInvoke {
                qualifier,
                members,
                is_update,
            } => self.set_event_invoke(qualifier.as_ref(), members, *is_update, stamp),
            AttachedChange::DeleteEventInvoke { qualifier } => {
                self.delete_event_invoke(qualifier.as_ref(), stamp.region)
            }
            AttachedChange::CreateUrl { qualifier, members } => {
                self.create_url(qualifier.as_ref(), members, stamp)
            }
            AttachedChange::UpdateUrl { qualifier, members } => {
                self.update_url(qualifier.as_ref(), members, stamp)
            }
            AttachedChange::DeleteUrl { qualifier } => self.delete_url(qualifier.as_ref()),
            AttachedChange::SetRecursion { allow } => {
                self.attached.allows_recursion = *allow;
                Ok(())
            }
            AttachedChange::SetRuntimeManagement {
                qualifier,
                management,
            } => {
                self.check_named(qualifier.as_ref(), stamp.region)?;
                let qualifier = qualifier.clone().unwrap_or(LATEST);
                let managed = &mut self.attached.runtime_management;
                managed.insert(qualifier, management.clone());
                Ok(())
            }
            AttachedChange::SetCodeSigning { arn } => {
                self.attached.code_signing.clone_from(arn);
                Ok(())
            }
        }
    }

    /// The ARN with what was asked for.
    pub fn arn_named(&self, qualifier: Option<&Qualifier>, region: &str) -> String {
        let arn = function_arn(region, &self.account, &self.name);
        match qualifier {
            Some(qualifier) => format!("{arn}:{qualifier}"),
            None => arn,
        }
    }

    /// A version or alias that exists, or AWS's 404.
    pub fn check_named(&self, qualifier: Option<&Qualifier>, region: &str) -> Result<()> {
        let exists = match qualifier {
            None => true,
            Some(Qualifier::Version(version)) => self.version(*version).is_some(),
            Some(Qualifier::Alias(alias)) => self.aliases.contains_key(alias),
        };
        if exists {
            return Ok(());
        }
        let arn = self.arn_named(qualifier, region);
        Err(not_found(match qualifier {
            Some(Qualifier::Alias(_)) => format!("Cannot find alias arn: {arn}"),
            Some(Qualifier::Version(_)) | None => format!("Function not found: {arn}"),
        }))
    }
}

fn not_found(text: impl Into<String>) -> Error {
    Error::new(ErrorCode::NotFound, text)
}

fn invalid(text: impl Into<String>) -> Error {
    Error::new(ErrorCode::InvalidParameterValue, text)
}

#[cfg(test)]
mod tests;
