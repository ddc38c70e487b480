//! Functions and the life of one: `Pending -> Active | Failed`, and for updates
//! `InProgress -> Successful | Failed`. Pools that follow from reservations are in `grants`.

use std::collections::{BTreeMap, BTreeSet};

use hearth_core::error::{Error, ErrorCode, Result};
use hearth_core::function::{
    CodeRef, ConfigPatch, Function, FunctionVersion, PackageType, State, UpdateStatus,
};
use hearth_core::ids::{AccountId, UnixMs, Version};
use hearth_core::image;
use hearth_core::limits;
use hearth_core::name::{FunctionName, function_arn};
use serde::{Deserialize, Serialize};

use super::command::Settled;
use super::published;

type ByName = BTreeMap<FunctionName, Function>;

/// All functions of all accounts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Functions {
    accounts: BTreeMap<AccountId, ByName>,
    /// Those that wait for a worker; follows from `accounts`.
    unsettled: BTreeSet<(AccountId, FunctionName)>,
    /// Sums over an account's functions, which every command of it needs; follow from `accounts`.
    totals: BTreeMap<AccountId, Totals>,
}

/// What functions take of their account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    set_aside: u64,
    code_bytes: u128,
}

impl Totals {
    fn of(function: &Function) -> Self {
        let versions = std::iter::once(&function.latest).chain(published::snapshots(function));
        Self {
            set_aside: function.set_aside(),
            code_bytes: versions.map(|v| u128::from(v.code.size_bytes)).sum(),
        }
    }

    /// One function takes `after` instead of `before`, which is in here.
    fn replace(&mut self, before: Self, after: Self) {
        self.set_aside = self.set_aside - before.set_aside + after.set_aside;
        self.code_bytes = self.code_bytes - before.code_bytes + after.code_bytes;
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    accounts: BTreeMap<AccountId, ByName>,
}

impl From<Functions> for Stored {
    fn from(functions: Functions) -> Self {
        Self {
            accounts: functions.accounts,
        }
    }
}

impl From<Stored> for Functions {
    fn from(stored: Stored) -> Self {
        let mut functions = Self {
            accounts: stored.accounts,
            unsettled: BTreeSet::new(),
            totals: BTreeMap::new(),
        };
        for (account, names) in &functions.accounts {
            let totals = functions.totals.entry(account.clone()).or_default();
            for function in names.values() {
                totals.replace(Totals::default(), Totals::of(function));
            }
        }
        let unsettled = functions.iter().filter(|f| is_unsettled(f));
        functions.unsettled = unsettled
            .map(|f| (f.account.clone(), f.name.clone()))
            .collect();
        functions
    }
}

/// Whether a creation or update is under way.
fn is_unsettled(function: &Function) -> bool {
    function.state == State::Pending || function.update == UpdateStatus::InProgress
}

/// What every change of code or configuration brings.
#[derive(Clone, Debug)]
pub(super) struct Change<'a> {
    pub(super) generation: u64,
    pub(super) at: UnixMs,
    pub(super) revision_id: &'a str,
}

impl Functions {
    pub(super) fn create(
        &mut self,
        mut function: Function,
        change: &Change<'_>,
    ) -> Result<Function> {
        check_tags(&function.tags)?;
        let names = self.accounts.entry(function.account.clone()).or_default();
        if names.contains_key(&function.name) {
            return Err(Error::new(
                ErrorCode::ResourceConflict,
                format!("Function already exist: {}", function.name),
            ));
        }
        change.stamp(&mut function.latest);
        self.unsettled
            .insert((function.account.clone(), function.name.clone()));
        names.insert(function.name.clone(), function.clone());
        let totals = self.totals.entry(function.account.clone()).or_default();
        totals.replace(Totals::default(), Totals::of(&function));
        Ok(function)
    }

    /// The function to be updated, when it may be.
    pub fn check_update(
        &self,
        region: &str,
        account: &AccountId,
        name: &FunctionName,
        expected_revision: Option<&str>,
    ) -> Result<&Function> {
        let function = self.find(region, account, name)?;
        if expected_revision.is_some_and(|r| r != function.latest.revision_id) {
            return Err(Error::new(
                ErrorCode::PreconditionFailed,
                "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id",
            ));
        }
        let conflict = |text: String| Err(Error::new(ErrorCode::ResourceConflict, text));
        if function.state == State::Pending {
            return conflict(
                "The operation cannot be performed at this time. The function is currently in the following state: Pending".to_owned(),
            );
        }
        if function.update == UpdateStatus::InProgress {
            let arn = function_arn(region, account, name);
            return conflict(format!(
                "The operation cannot be performed at this time. An update is in progress for resource: {arn}"
            ));
        }
        Ok(function)
    }

    /// Begins an update that was checked. The version before it serves until the update has settled.
    pub(super) fn begin_update(
        &mut self,
        account: &AccountId,
        name: &FunctionName,
        change: &Change<'_>,
        edit: impl FnOnce(&mut FunctionVersion),
    ) -> Option<Function> {
        let function = self.edit(account, name, |function| {
            edit(&mut function.latest);
            change.stamp(&mut function.latest);
            function.update = UpdateStatus::InProgress;
            function.clone()
        })?;
        self.unsettled.insert((account.clone(), name.clone()));
        Some(function)
    }

    /// Ends a creation or update. `None` when there is nothing of that generation to be ended.
    pub(super) fn settle(
        &mut self,
        account: &AccountId,
        name: &FunctionName,
        generation: u64,
        outcome: &Settled,
        revision_id: &str,
    ) -> Option<Function> {
        self.function(account, name)
            .filter(|f| f.latest.generation == generation && is_unsettled(f))?;
        let function = self.edit(account, name, |function| {
            function.latest.revision_id = revision_id.to_owned();
            published::settle(function, generation, outcome);
            settle(function, outcome);
            function.clone()
        })?;
        self.unsettled.remove(&(account.clone(), name.clone()));
        Some(function)
    }

    pub(super) fn delete(
        &mut self,
        region: &str,
        account: &AccountId,
        name: &FunctionName,
    ) -> Result<Function> {
        let removed = self
            .accounts
            .get_mut(account)
            .and_then(|names| names.remove(name));
        self.unsettled.remove(&(account.clone(), name.clone()));
        if let (Some(removed), Some(totals)) = (&removed, self.totals.get_mut(account)) {
            totals.replace(Totals::of(removed), Totals::default());
        }
        if self.accounts.get(account).is_some_and(BTreeMap::is_empty) {
            self.accounts.remove(account);
            self.totals.remove(account);
        }
        removed.ok_or_else(|| not_found(region, account, name))
    }

    pub(super) fn set_reserved(
        &mut self,
        account: &AccountId,
        name: &FunctionName,
        reserved: Option<u32>,
        revision_id: &str,
    ) -> Option<Function> {
        self.edit(account, name, |function| {
            function.reserved_concurrency = reserved;
            revision_id.clone_into(&mut function.latest.revision_id);
            function.clone()
        })
    }

    pub(super) fn tag(
        &mut self,
        region: &str,
        account: &AccountId,
        name: &FunctionName,
        set: &BTreeMap<String, String>,
        remove: &[String],
    ) -> Result<()> {
        let function = self.find(region, account, name)?;
        let mut tags = function.tags.clone();
        tags.retain(|key, _| !remove.contains(key));
        tags.extend(set.clone());
        check_tags(&tags)?;
        self.edit(account, name, |function| function.tags = tags);
        Ok(())
    }

    /// A function, or AWS's 404.
    pub fn find(
        &self,
        region: &str,
        account: &AccountId,
        name: &FunctionName,
    ) -> Result<&Function> {
        self.function(account, name)
            .ok_or_else(|| not_found(region, account, name))
    }

    /// A function.
    pub fn function(&self, account: &AccountId, name: &FunctionName) -> Option<&Function> {
        self.accounts.get(account)?.get(name)
    }

    /// Changes a function; the sums over its account follow.
    pub(super) fn edit<T>(
        &mut self,
        account: &AccountId,
        name: &FunctionName,
        edit: impl FnOnce(&mut Function) -> T,
    ) -> Option<T> {
        let function = self.accounts.get_mut(account)?.get_mut(name)?;
        let before = Totals::of(function);
        let result = edit(function);
        let totals = self.totals.entry(account.clone()).or_default();
        totals.replace(before, Totals::of(function));
        Some(result)
    }

    /// All functions by account and name.
    pub fn iter(&self) -> impl Iterator<Item = &Function> {
        self.accounts.values().flat_map(BTreeMap::values)
    }

    /// The functions of an account by name.
    pub fn of(&self, account: &AccountId) -> impl Iterator<Item = &Function> {
        self.accounts
            .get(account)
            .into_iter()
            .flat_map(BTreeMap::values)
    }

    /// Functions with a creation or update under way.
    pub fn unsettled(&self) -> impl Iterator<Item = &Function> {
        self.unsettled
            .iter()
            .filter_map(|(account, name)| self.function(account, name))
    }

    /// A function, if a creation or update of it is under way.
    pub fn unsettled_of(&self, account: &AccountId, name: &FunctionName) -> Option<&Function> {
        self.function(account, name).filter(|f| is_unsettled(f))
    }

    /// Functions of an account by name, after `after`, at most `limit`; and whether there are more.
    pub fn page(
        &self,
        account: &AccountId,
        after: Option<&FunctionName>,
        limit: usize,
    ) -> (Vec<Function>, bool) {
        use std::ops::Bound::{Excluded, Unbounded};
        let Some(names) = self.accounts.get(account) else {
            return (Vec::new(), false);
        };
        let start = after.map_or(Unbounded, Excluded);
        let mut rest = names.range::<FunctionName, _>((start, Unbounded));
        let page = rest.by_ref().take(limit).map(|(_, f)| f.clone()).collect();
        (page, rest.next().is_some())
    }

    /// Accounts with functions.
    pub fn accounts(&self) -> impl Iterator<Item = &AccountId> {
        self.accounts.keys()
    }

    /// Bytes of code of an account: "the total size of deployment packages", each version counting once.
    pub fn code_bytes(&self, account: &AccountId) -> u64 {
        let total = self.totals.get(account).map_or(0, |t| t.code_bytes);
        u64::try_from(total).unwrap_or(u64::MAX)
    }

    /// Executions set aside for single functions of an account: reserved, or provisioned without a reservation.
    pub fn set_aside(&self, account: &AccountId) -> u64 {
        self.totals.get(account).map_or(0, |t| t.set_aside)
    }

    /// Archives that functions refer to, layers included.
    pub(super) fn codes(&self) -> impl Iterator<Item = &CodeRef> {
        self.iter()
            .flat_map(|f| {
                let latest = std::iter::once(&f.latest).chain(&f.serving);
                latest.chain(published::snapshots(f))
            })
            .flat_map(|v| std::iter::once(&v.code).chain(&v.config.layer_contents))
    }
}

impl Change<'_> {
    fn stamp(&self, version: &mut FunctionVersion) {
        version.generation = self.generation;
        version.last_modified = self.at;
        self.revision_id.clone_into(&mut version.revision_id);
    }
}

/// A function of images stays one, and one of archives. Gateways look too; the function may have been made anew since.
pub(super) fn check_kind(function: &Function, code: &CodeRef) -> Result<()> {
    let refused = match (function.latest.config.package_type, &code.image) {
        (PackageType::Zip, None) | (PackageType::Image, Some(_)) => return Ok(()),
        (PackageType::Zip, Some(_)) => image::IMAGE_FOR_ZIP,
        (PackageType::Image, None) => image::ZIP_FOR_IMAGE,
    };
    Err(Error::new(ErrorCode::InvalidParameterValue, refused))
}

/// An image brings its own runtime, and everything that layers would.
pub(super) fn check_patch(function: &Function, patch: &ConfigPatch) -> Result<()> {
    let has_layers = patch
        .layers
        .as_ref()
        .is_some_and(|layers| !layers.is_empty());
    let is_for_archives = patch.runtime.is_some() || patch.handler.is_some() || has_layers;
    if function.latest.config.package_type == PackageType::Image && is_for_archives {
        return Err(Error::new(
            ErrorCode::InvalidParameterValue,
            image::NOT_FOR_IMAGES,
        ));
    }
    Ok(())
}

/// What the end of a creation or update makes of a function.
fn settle(function: &mut Function, outcome: &Settled) {
    match outcome {
        Settled::Successful => {
            function.state = State::Active;
            function.update = UpdateStatus::Successful;
            function.serving = Some(function.latest.clone());
        }
        Settled::Failed(reason) => {
            if function.state == State::Pending {
                function.state = State::Failed(reason.clone());
            }
            function.update = UpdateStatus::Failed(reason.clone());
        }
    }
}

/// A function as it is before the first change is stamped on it.
pub(super) fn new_function(
    account: &AccountId,
    name: &FunctionName,
    config: &hearth_core::function::FunctionConfig,
    code: &CodeRef,
    tags: &BTreeMap<String, String>,
) -> Function {
    Function {
        account: account.clone(),
        name: name.clone(),
        latest: FunctionVersion {
            version: Version::Latest,
            generation: 0,
            config: config.clone(),
            code: code.clone(),
            last_modified: UnixMs(0),
            revision_id: String::new(),
        },
        serving: None,
        state: State::Pending,
        update: UpdateStatus::None,
        reserved_concurrency: None,
        tags: tags.clone(),
        versions: BTreeMap::new(),
        last_version: 0,
        aliases: BTreeMap::new(),
        provisioned: BTreeMap::new(),
        attached: Default::default(),
        changed: 0,
    }
}

pub(super) fn not_found(region: &str, account: &AccountId, name: &FunctionName) -> Error {
    Error::new(
        ErrorCode::NotFound,
        format!(
            "Function not found: {}",
            function_arn(region, account, name)
        ),
    )
}

pub(super) fn check_tags(tags: &BTreeMap<String, String>) -> Result<()> {
    if tags.len() > limits::TAGS_MAX {
        return Err(Error::new(
            ErrorCode::InvalidParameterValue,
            "Number of tags exceeds resource tag limit.",
        ));
    }
    Ok(())
}
