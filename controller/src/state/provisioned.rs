//! Provisioned concurrency: what may be asked for, and the pools that follow. Who keeps the sandboxes is the leader's
//! business, and follows from the grants of these pools.

use std::collections::BTreeMap;

use hearth_core::error::{Error, ErrorCode, Result};
use hearth_core::function::{Function, State as FunctionState};
use hearth_core::ids::{AccountId, GrantSequence, PoolKey, Version};
use hearth_core::name::{FunctionName, Qualifier, function_arn};
use hearth_core::versions::ProvisionedConcurrency;

use super::State;
use super::published::Stamp;

fn invalid(text: impl Into<String>) -> Error {
    Error::new(ErrorCode::InvalidParameterValue, text)
}

fn conflict(text: impl Into<String>) -> Error {
    Error::new(ErrorCode::ResourceConflict, text)
}

const UNPUBLISHED: &str =
    "Provisioned Concurrency Configs cannot be applied to unpublished function versions.";
const ON_VERSION: &str = "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version";
const ON_ALIAS: &str = "Version is pointed by a Provisioned Concurrency alias";

/// Whether a reservation covers what is provisioned.
pub(super) fn check_reserved(reserved: Option<u32>, provisioned: u64) -> Result<()> {
    match reserved {
        Some(reserved) if u64::from(reserved) < provisioned => Err(invalid(format!(
            " ReservedConcurrentExecutions  {reserved} should not be lower than function's total provisioned concurrency [{provisioned}]."
        ))),
        Some(_) | None => Ok(()),
    }
}

/// Whether an alias may point to this version: one with provisioned concurrency takes it along.
pub(super) fn check_move(function: &Function, alias: &str, version: Version) -> Result<()> {
    let own = Qualifier::Alias(alias.to_owned());
    if !function.provisioned.contains_key(&own) {
        return Ok(());
    }
    let Version::Number(version) = version else {
        return Err(invalid(UNPUBLISHED));
    };
    let is_same = function.version_named(Some(&own)) == Some(Version::Number(version));
    if !is_same && function.provisioned_by_version().contains_key(&version) {
        return Err(conflict(ON_VERSION));
    }
    Ok(())
}

impl State {
    /// What provisioned concurrency hangs on must exist.
    pub(super) fn check_qualifier(
        &self,
        function: &Function,
        qualifier: &Qualifier,
    ) -> Result<Version> {
        match (qualifier, function.version_named(Some(qualifier))) {
            (_, Some(version)) => Ok(version),
            (Qualifier::Version(version), None) => {
                self.check_version(function, *version)?;
                Ok(*version)
            }
            (Qualifier::Alias(alias), None) => {
                let arn = function_arn(&self.region, &function.account, &function.name);
                Err(Error::new(
                    ErrorCode::NotFound,
                    format!("Cannot find alias arn: {arn}:{alias}"),
                ))
            }
        }
    }

    pub(super) fn put_provisioned(
        &self,
        function: &mut Function,
        qualifier: &Qualifier,
        requested: u32,
        stamp: &Stamp<'_>,
    ) -> Result<bool> {
        let version = self.check_qualifier(function, qualifier)?;
        let Version::Number(number) = version else {
            return Err(invalid(UNPUBLISHED));
        };
        self.check_amount(function, number, requested)?;
        check_place(function, qualifier, number)?;
        let wanted = ProvisionedConcurrency {
            requested,
            last_modified: stamp.at,
        };
        function.provisioned.insert(qualifier.clone(), wanted);
        Ok(true)
    }

    fn check_amount(&self, function: &Function, version: u64, requested: u32) -> Result<()> {
        let mut by_version = function.provisioned_by_version();
        by_version.insert(version, requested);
        let total: u64 = by_version.into_values().map(u64::from).sum();
        if let Some(reserved) = function.reserved_concurrency {
            // What is reserved is off the account's unreserved pool already.
            return if total > u64::from(reserved) {
                Err(invalid(
                    "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function",
                ))
            } else {
                Ok(())
            };
        }
        let limit = self.limits.concurrency;
        if requested > limit {
            return Err(invalid(format!(
                "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [{limit}]."
            )));
        }
        let before = self.functions.set_aside(&function.account);
        let after = before - function.set_aside() + total;
        self.limits
            .check_set_aside("ConcurrentExecutions", before, after)
    }

    /// The function's own pools, as they follow from its reservation and what is provisioned.
    pub(super) fn set_pools(&mut self, index: u64, account: &AccountId, name: &FunctionName) {
        let sequence = GrantSequence(index);
        let function = self.functions.function(account, name);
        let wanted = function.map_or_else(BTreeMap::new, Function::provisioned_by_version);
        let whole = function.map_or_else(|| PoolKey::unreserved(account), Function::pool);
        let reserved = function.and_then(|f| f.reserved_concurrency);
        if let Some(reserved) = reserved {
            let taken: u32 = wanted.values().fold(0, |sum, n| sum.saturating_add(*n));
            let left = reserved.saturating_sub(taken);
            if self.grants.table().limit(&whole) != Some(left) {
                self.grants
                    .set_reserved(account, name, Some(left), sequence);
            }
        }
        self.grants
            .set_provisioned(account, name, &whole, &wanted, sequence);
        self.set_unreserved(index, account);
    }
}

/// A version has one configuration of provisioned concurrency at most, its own or an alias'.
fn check_place(function: &Function, qualifier: &Qualifier, version: u64) -> Result<()> {
    if let FunctionState::Pending | FunctionState::Failed(_) = function.versions[&version].state {
        let state = match function.versions[&version].state {
            FunctionState::Pending => "Pending",
            FunctionState::Active | FunctionState::Failed(_) => "Failed",
        };
        return Err(conflict(format!(
            "The operation cannot be performed at this time. The function is currently in the following state: {state}"
        )));
    }
    if let Qualifier::Alias(alias) = qualifier
        && function
            .aliases
            .get(alias)
            .is_some_and(|a| !a.weights.is_empty())
    {
        return Err(invalid(
            "Alias with weights can not be used with Provisioned Concurrency",
        ));
    }
    let is_taken = !function.provisioned.contains_key(qualifier)
        && function.provisioned_by_version().contains_key(&version);
    match qualifier {
        Qualifier::Alias(_) if is_taken => Err(conflict(ON_VERSION)),
        Qualifier::Version(_) if is_taken => Err(conflict(ON_ALIAS)),
        Qualifier::Alias(_) | Qualifier::Version(_) => Ok(()),
    }
}
