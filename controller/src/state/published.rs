//! Versions and aliases of functions: what is published, pointed to and taken away. Provisioned concurrency, which
//! hangs on them, is in `provisioned`.

use std::collections::BTreeMap;

use hearth_core::control::VersionChange;
use hearth_core::error::{Error, ErrorCode, Result};
use hearth_core::function::{Function, FunctionVersion, State as FunctionState, UpdateStatus};
use hearth_core::ids::{AccountId, UnixMs, Version};
use hearth_core::limits::PUBLISHED_MAX_BYTES;
use hearth_core::name::{FunctionName, Qualifier, function_arn};
use hearth_core::versions::{Alias, PublishedVersion, Weight};

use super::command::{Command, Settled};
use super::functions::not_found;
use super::reply::Reply;
use super::{Outcome, State, changed, done};

/// What every change of versions brings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp<'a> {
    pub(super) index: u64,
    pub(super) revision_id: &'a str,
    pub(super) latest_revision_id: &'a str,
    pub(super) at: UnixMs,
}

/// The published snapshots of a function.
pub(super) fn snapshots(function: &Function) -> impl Iterator<Item = &FunctionVersion> {
    function.versions.values().map(|v| &v.snapshot)
}

/// Versions that were published of a change of `$LATEST` end as it ends.
pub(super) fn settle(function: &mut Function, generation: u64, outcome: &Settled) {
    let waiting =
        |v: &&mut PublishedVersion| v.source == generation && v.state == FunctionState::Pending;
    for version in function.versions.values_mut().filter(waiting) {
        version.state = match outcome {
            Settled::Successful => FunctionState::Active,
            Settled::Failed(reason) => FunctionState::Failed(reason.clone()),
        };
    }
}

fn invalid(text: impl Into<String>) -> Error {
    Error::new(ErrorCode::InvalidParameterValue, text)
}

fn conflict(text: impl Into<String>) -> Error {
    Error::new(ErrorCode::ResourceConflict, text)
}

impl State {
    pub(super) fn then_publish(
        &mut self,
        index: u64,
        first: &Command,
        revision_id: &str,
    ) -> Result<Outcome> {
        let (Command::CreateFunction {
            account,
            name,
            code,
            at,
            ..
        }
        | Command::UpdateFunctionCode {
            account,
            name,
            code,
            at,
            ..
        }) = first
        else {
            // Nothing else is proposed so.
            return Ok(done());
        };
        let at = *at;
        self.check_published(account, name)?;
        // The code counts once more, for the version.
        let before = self.code_bytes(account);
        let after = before.saturating_add(code.size_bytes);
        self.limits.check_code(before, after)?;
        self.try_apply(index, first)?;
        let stamp = Stamp {
            index,
            revision_id,
            latest_revision_id: revision_id,
            at,
        };
        let published = self.functions.edit(account, name, |function| {
            publish(function, None, &stamp);
            function.clone()
        });
        let function = published.ok_or_else(|| not_found(&self.region, account, name))?;
        Ok(changed(function))
    }

    pub(super) fn change_versions(&mut self, index: u64, command: &Command) -> Result<Outcome> {
        let Command::ChangeVersions {
            account,
            name,
            change,
            revision_id,
            latest_revision_id,
            at,
        } = command
        else {
            return Ok(done());
        };
        let stamp = Stamp {
            index,
            revision_id,
            latest_revision_id,
            at: *at,
        };
        // All that may refuse comes before the first change.
        let mut function = self.functions.find(&self.region, account, name)?.clone();
        if !self.change_function(&mut function, change, &stamp)? {
            return Ok((Reply::Function(Box::new(function)), Vec::new()));
        }
        function.changed = index;
        let replace = |known: &mut Function| known.clone_from(&function);
        self.functions.edit(account, name, replace);
        self.set_pools(index, account, name);
        self.grants.raise_timeout(&function);
        Ok(changed(function))
    }

    /// Carries the change out on a copy; whether anything changed.
    fn change_function(
        &self,
        function: &mut Function,
        change: &VersionChange,
        stamp: &Stamp<'_>,
    ) -> Result<bool> {
        match change {
            VersionChange::Publish {
                code_sha256,
                description,
                revision_id,
            } => {
                self.check_publish(function, code_sha256.as_deref(), revision_id.as_deref())?;
                if is_published(function) {
                    return Ok(false);
                }
                self.check_published(&function.account, &function.name)?;
                let before = self.code_bytes(&function.account);
                let after = before.saturating_add(function.latest.code.size_bytes);
                self.limits.check_code(before, after)?;
                publish(function, description.as_deref(), stamp);
                stamp
                    .latest_revision_id
                    .clone_into(&mut function.latest.revision_id);
                Ok(true)
            }
            VersionChange::Delete { version } => delete_version(function, *version),
            VersionChange::CreateAlias { .. } => {
                self.check_published(&function.account, &function.name)?;
                self.create_alias(function, change, stamp)
            }
            VersionChange::UpdateAlias { .. } => self.update_alias(function, change, stamp),
            VersionChange::DeleteAlias { alias } => {
                let removed = function.aliases.remove(alias).is_some();
                let qualifier = Qualifier::Alias(alias.clone());
                function.provisioned.remove(&qualifier);
                function.attached.forget(&qualifier);
                Ok(removed)
            }
            VersionChange::PutProvisioned {
                qualifier,
                requested,
            } => self.put_provisioned(function, qualifier, *requested, stamp),
            VersionChange::DeleteProvisioned { qualifier } => {
                self.check_qualifier(function, qualifier)?;
                Ok(function.provisioned.remove(qualifier).is_some())
            }
        }
    }

    fn check_publish(
        &self,
        function: &Function,
        code_sha256: Option<&str>,
        revision_id: Option<&str>,
    ) -> Result<()> {
        let (account, name) = (&function.account, &function.name);
        self.functions
            .check_update(&self.region, account, name, revision_id)?;
        if let FunctionState::Failed(_) = function.state {
            return Err(conflict(
                "The operation cannot be performed at this time. The function is currently in the following state: Failed",
            ));
        }
        let current = function.latest.code.shown_sha256();
        match code_sha256 {
            Some(expected) if !expected.is_empty() && expected != current => Err(invalid(format!(
                "CodeSHA256 ({expected}) is different from current CodeSHA256 in $LATEST ({current}). Please try again with the CodeSHA256 in $LATEST."
            ))),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether there is room for one more version or alias in the function's document.
    fn check_published(&self, account: &AccountId, name: &FunctionName) -> Result<()> {
        let Some(function) = self.functions.function(account, name) else {
            return Ok(());
        };
        let bytes = function.published_bytes() + function.latest.metadata_bytes();
        if bytes > PUBLISHED_MAX_BYTES {
            return Err(Error::new(
                ErrorCode::CodeStorageExceeded,
                format!(
                    "The function's versions, aliases and their policies take {bytes} bytes of metadata, at most {PUBLISHED_MAX_BYTES} are kept. Delete versions that are not used any more."
                ),
            ));
        }
        Ok(())
    }

    fn create_alias(
        &self,
        function: &mut Function,
        change: &VersionChange,
        stamp: &Stamp<'_>,
    ) -> Result<bool> {
        let VersionChange::CreateAlias {
            alias: name,
            version,
            description,
            weights,
        } = change
        else {
            return Ok(false);
        };
        self.check_version(function, *version)?;
        if function.aliases.contains_key(name) {
            let arn = function_arn(&self.region, &function.account, &function.name);
            return Err(conflict(format!("Alias already exists: {arn}:{name}")));
        }
        self.check_weights(function, *version, weights)?;
        let alias = Alias {
            version: *version,
            description: description.clone(),
            weights: weights.clone(),
            revision_id: stamp.revision_id.to_owned(),
        };
        function.aliases.insert(name.clone(), alias);
        Ok(true)
    }

    fn update_alias(
        &self,
        function: &mut Function,
        change: &VersionChange,
        stamp: &Stamp<'_>,
    ) -> Result<bool> {
        let VersionChange::UpdateAlias {
            alias: name,
            version,
            description,
            weights,
            revision_id,
        } = change
        else {
            return Ok(false);
        };
        let Some(mut alias) = function.aliases.get(name).cloned() else {
            let arn = function_arn(&self.region, &function.account, &function.name);
            return Err(Error::new(
                ErrorCode::NotFound,
                format!("Alias not found: {arn}:{name}"),
            ));
        };
        if revision_id
            .as_ref()
            .is_some_and(|r| *r != alias.revision_id)
        {
            return Err(Error::new(
                ErrorCode::PreconditionFailed,
                "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id",
            ));
        }
        alias.version = version.unwrap_or(alias.version);
        self.check_version(function, alias.version)?;
        if let Some(weights) = weights {
            alias.weights.clone_from(weights);
        }
        self.check_weights(function, alias.version, &alias.weights)?;
        super::provisioned::check_move(function, name, alias.version)?;
        if let Some(description) = description {
            alias.description.clone_from(description);
        }
        stamp.revision_id.clone_into(&mut alias.revision_id);
        function.aliases.insert(name.clone(), alias);
        Ok(true)
    }

    /// A version that exists, or AWS's 404.
    pub(super) fn check_version(&self, function: &Function, version: Version) -> Result<()> {
        if function.version(version).is_some() {
            return Ok(());
        }
        let arn = function_arn(&self.region, &function.account, &function.name);
        Err(Error::new(
            ErrorCode::NotFound,
            format!("Function not found: {arn}:{version}"),
        ))
    }

    fn check_weights(
        &self,
        function: &Function,
        version: Version,
        weights: &BTreeMap<u64, Weight>,
    ) -> Result<()> {
        if weights.len() > 1 {
            return Err(invalid(
                "Number of items in AdditionalVersionWeights cannot be greater than 1",
            ));
        }
        for weighted in weights.keys() {
            if version == Version::Number(*weighted) {
                return Err(invalid(format!(
                    "Invalid function version {version}. Function version {version} is already included in routing configuration."
                )));
            }
            if version == Version::Latest {
                return Err(invalid(
                    "$LATEST is not supported for an alias pointing to more than 1 version",
                ));
            }
            self.check_version(function, Version::Number(*weighted))?;
        }
        Ok(())
    }
}

/// "Lambda doesn't publish a version if the function's configuration and code haven't changed since the last version."
fn is_published(function: &Function) -> bool {
    let last = function.versions.get(&function.last_version);
    last.is_some_and(|last| {
        let latest = &function.latest;
        let is_same = last.snapshot.code == latest.code && last.snapshot.config == latest.config;
        last.source == latest.generation || is_same
    })
}

/// Makes the next version of `$LATEST` as it is.
fn publish(function: &mut Function, description: Option<&str>, stamp: &Stamp<'_>) {
    let state = match (&function.state, &function.update) {
        (FunctionState::Active, UpdateStatus::InProgress) => FunctionState::Pending,
        // What failed is not what serves, and a version would have nothing else to serve.
        (FunctionState::Active, UpdateStatus::Failed(reason)) => {
            FunctionState::Failed(reason.clone())
        }
        (state, _) => state.clone(),
    };
    function.last_version += 1;
    let number = function.last_version;
    let mut snapshot = FunctionVersion {
        version: Version::Number(number),
        generation: stamp.index,
        last_modified: stamp.at,
        revision_id: stamp.revision_id.to_owned(),
        ..function.latest.clone()
    };
    if let Some(description) = description {
        description.clone_into(&mut snapshot.config.description);
    }
    let version = PublishedVersion {
        snapshot,
        source: function.latest.generation,
        state,
    };
    function.versions.insert(number, version);
    function.changed = stamp.index;
}

fn delete_version(function: &mut Function, version: u64) -> Result<bool> {
    let aliases = function.aliases.iter();
    let users: Vec<&str> = aliases
        .filter(|(_, alias)| alias.refers_to(version))
        .map(|(name, _)| name.as_str())
        .collect();
    if !users.is_empty() {
        return Err(conflict(format!(
            "Unable to delete version because the following aliases reference it: [{}]",
            users.join(", ")
        )));
    }
    let removed = function.versions.remove(&version).is_some();
    let qualifier = Qualifier::Version(Version::Number(version));
    function.provisioned.remove(&qualifier);
    function.attached.forget(&qualifier);
    Ok(removed)
}
