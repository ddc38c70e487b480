//! Resource policies of a function, its versions and aliases. A policy has the revision of what it is of.

use super::{LATEST, Stamp, not_found};
use crate::error::{Error, ErrorCode, Result};
use crate::function::Function;
use crate::ids::Version;
use crate::name::Qualifier;
use crate::policy::{Policy, Statement};

impl Function {
    /// The revision of a version or alias, which its policy shares.
    pub fn revision_of(&self, qualifier: Option<&Qualifier>) -> Option<&str> {
        match qualifier {
            Some(Qualifier::Alias(alias)) => Some(self.aliases.get(alias)?.revision_id.as_str()),
            Some(Qualifier::Version(version)) => Some(self.version(*version)?.revision_id.as_str()),
            None => Some(self.latest.revision_id.as_str()),
        }
    }

    /// The policy of a version or alias.
    pub fn policy(&self, qualifier: Option<&Qualifier>) -> Option<&Policy> {
        self.attached.policies.get(qualifier.unwrap_or(&LATEST))
    }

    fn revise(&mut self, qualifier: Option<&Qualifier>, revision_id: &str) {
        let revision = match qualifier {
            None | Some(Qualifier::Version(Version::Latest)) => Some(&mut self.latest.revision_id),
            Some(Qualifier::Version(Version::Number(n))) => {
                let version = self.versions.get_mut(n);
                version.map(|version| &mut version.snapshot.revision_id)
            }
            Some(Qualifier::Alias(alias)) => {
                let alias = self.aliases.get_mut(alias);
                alias.map(|alias| &mut alias.revision_id)
            }
        };
        if let Some(revision) = revision {
            revision_id.clone_into(revision);
        }
    }

    fn check_revision(&self, qualifier: Option<&Qualifier>, expected: Option<&str>) -> Result<()> {
        if expected.is_some_and(|expected| self.revision_of(qualifier) != Some(expected)) {
            return Err(Error::new(
                ErrorCode::PreconditionFailed,
                "The Revision Id provided does not match the latest Revision Id. Call the GetPolicy API to retrieve the latest Revision Id",
            ));
        }
        Ok(())
    }

    pub(super) fn permit(
        &mut self,
        qualifier: Option<&Qualifier>,
        statement: &Statement,
        expected: Option<&str>,
        stamp: &Stamp<'_>,
    ) -> Result<()> {
        self.check_named(qualifier, stamp.region)?;
        self.check_revision(qualifier, expected)?;
        let sid = statement.sid.as_deref().unwrap_or_default();
        let policy = match self.policy(qualifier) {
            Some(policy) if policy.has(sid) => {
                return Err(Error::new(
                    ErrorCode::ResourceConflict,
                    format!(
                        "The statement id ({sid}) provided already exists. Please provide a new statement id, or remove the existing statement."
                    ),
                ));
            }
            Some(policy) => {
                let mut policy = policy.clone();
                policy.statement.push(statement.clone());
                policy
            }
            None => Policy::of(statement.clone()),
        };
        policy.check_size()?;
        let key = qualifier.cloned().unwrap_or(LATEST);
        self.attached.policies.insert(key, policy);
        self.revise(qualifier, stamp.revision_id);
        Ok(())
    }

    pub(super) fn revoke(
        &mut self,
        qualifier: Option<&Qualifier>,
        sid: &str,
        expected: Option<&str>,
        stamp: &Stamp<'_>,
    ) -> Result<()> {
        self.check_named(qualifier, stamp.region)?;
        let policy = self.policy(qualifier).ok_or_else(none)?;
        if !policy.has(sid) {
            return Err(not_found(format!(
                "Statement {sid} is not found in resource policy."
            )));
        }
        self.check_revision(qualifier, expected)?;
        let key = qualifier.unwrap_or(&LATEST);
        if let Some(policy) = self.attached.policies.get_mut(key) {
            policy.statement.retain(|s| s.sid.as_deref() != Some(sid));
            if policy.statement.is_empty() {
                self.attached.policies.remove(key);
            }
        }
        self.revise(qualifier, stamp.revision_id);
        Ok(())
    }

    pub(super) fn set_policy(
        &mut self,
        qualifier: Option<&Qualifier>,
        policy: Option<&Policy>,
        expected: Option<&str>,
        stamp: &Stamp<'_>,
    ) -> Result<()> {
        self.check_named(qualifier, stamp.region)?;
        self.check_revision(qualifier, expected)?;
        let key = qualifier.cloned().unwrap_or(LATEST);
        let policies = &mut self.attached.policies;
        match policy {
            Some(policy) => drop(policies.insert(key, policy.clone())),
            None => drop(policies.remove(&key).ok_or_else(none)?),
        }
        self.revise(qualifier, stamp.revision_id);
        Ok(())
    }
}

fn none() -> Error {
    not_found("No policy is associated with the given resource.")
}
