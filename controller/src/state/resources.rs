//! What accounts have beside functions and layers: code signing configurations and event source mappings.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

use hearth_core::error::{Error, ErrorCode, Result};
use hearth_core::function::Function;
use hearth_core::ids::{AccountId, UnixMs};
use hearth_core::mapping::{Mapping, MappingMembers};
use hearth_core::name::FunctionName;
use hearth_core::resource::{Resource, ResourceChange, ResourceKey, ResourcePage, ResourceQuery};
use hearth_core::signing::{SigningConfig, signing_arn};
use serde::{Deserialize, Serialize};

use super::command::Command;
use super::functions::check_tags;
use super::reply::Reply;
use super::{Outcome, State, done};

/// Most of them in one answer, whatever is asked for; one is at most some kilobytes.
const PAGE_MAX: usize = 200;

type ById<T> = BTreeMap<String, T>;

/// All of all accounts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    signing: BTreeMap<AccountId, ById<SigningConfig>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    mappings: BTreeMap<AccountId, ById<Mapping>>,
}

impl Resources {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.signing.is_empty() && self.mappings.is_empty()
    }

    /// One of them.
    pub fn one(&self, account: &AccountId, key: &ResourceKey) -> Option<Resource> {
        match key {
            ResourceKey::Signing(id) => self.signing(account, id).cloned().map(Resource::Signing),
            ResourceKey::Mapping(id) => {
                let found = self.mappings.get(account)?.get(id);
                found.cloned().map(Resource::Mapping)
            }
        }
    }

    fn signing(&self, account: &AccountId, id: &str) -> Option<&SigningConfig> {
        self.signing.get(account)?.get(id)
    }

    fn put(&mut self, account: &AccountId, resource: Resource) {
        match resource {
            Resource::Signing(config) => {
                let all = self.signing.entry(account.clone()).or_default();
                all.insert(config.id.clone(), config);
            }
            Resource::Mapping(mapping) => {
                let all = self.mappings.entry(account.clone()).or_default();
                all.insert(mapping.id.clone(), mapping);
            }
        }
    }

    fn remove(&mut self, account: &AccountId, key: &ResourceKey) {
        match key {
            ResourceKey::Signing(id) => take(&mut self.signing, account, id),
            ResourceKey::Mapping(id) => take(&mut self.mappings, account, id),
        }
    }

    fn mappings_of(&self, account: &AccountId) -> impl Iterator<Item = &Mapping> {
        let all = self.mappings.get(account).into_iter();
        all.flat_map(BTreeMap::values)
    }
}

fn take<T>(all: &mut BTreeMap<AccountId, ById<T>>, account: &AccountId, id: &str) {
    if let Some(own) = all.get_mut(account) {
        own.remove(id);
        if own.is_empty() {
            all.remove(account);
        }
    }
}

/// Those after an id, at most `limit`; and whether there are more.
fn page<T: Clone>(
    all: Option<&ById<T>>,
    (after, limit): (Option<&String>, usize),
    is_wanted: impl Fn(&T) -> bool,
) -> (Vec<T>, bool) {
    let start = after.map_or(Unbounded, Excluded);
    let rest = all
        .into_iter()
        .flat_map(|all| all.range::<String, _>((start, Unbounded)));
    let mut wanted = rest.map(|(_, one)| one).filter(|one| is_wanted(one));
    let found = wanted.by_ref().take(limit.clamp(1, PAGE_MAX));
    let found = found.cloned().collect();
    (found, wanted.next().is_some())
}

impl State {
    pub(super) fn change_resource(&mut self, command: &Command) -> Result<Outcome> {
        let Command::ChangeResource {
            account,
            change,
            id,
            at,
        } = command
        else {
            return Ok(done());
        };
        let changed = match &**change {
            ResourceChange::CreateSigning { members, tags } => {
                check_tags(tags)?;
                Resource::Signing(SigningConfig {
                    tags: tags.clone(),
                    ..SigningConfig::new(id, members, *at)
                })
            }
            ResourceChange::UpdateSigning { id, members } => {
                let mut config = self.signing_config(account, id)?.clone();
                config.update(members, *at);
                Resource::Signing(config)
            }
            ResourceChange::CreateMapping { members, tags } => {
                check_tags(tags)?;
                let mapping = self.new_mapping(account, id, members, *at)?;
                Resource::Mapping(Mapping {
                    tags: tags.clone(),
                    ..mapping
                })
            }
            ResourceChange::UpdateMapping { id, members } => {
                self.updated_mapping(account, id, members, *at)?
            }
            ResourceChange::Delete { key } => {
                let gone = self.resource(account, key)?;
                self.check_unused(account, key)?;
                self.resources.remove(account, key);
                return Ok((Reply::Resource(Box::new(gone)), Vec::new()));
            }
            ResourceChange::Tag { key, set, remove } => {
                let mut changed = self.resource(account, key)?;
                let tags = match &mut changed {
                    Resource::Signing(config) => &mut config.tags,
                    Resource::Mapping(mapping) => &mut mapping.tags,
                };
                tags.retain(|key, _| !remove.contains(key));
                tags.extend(set.clone());
                check_tags(tags)?;
                changed
            }
        };
        self.resources.put(account, changed.clone());
        Ok((Reply::Resource(Box::new(changed)), Vec::new()))
    }

    fn resource(&self, account: &AccountId, key: &ResourceKey) -> Result<Resource> {
        match key {
            ResourceKey::Signing(id) => {
                let found = self.signing_config(account, id)?;
                Ok(Resource::Signing(found.clone()))
            }
            ResourceKey::Mapping(_) => {
                let found = self.resources.one(account, key);
                found.ok_or_else(|| not_found("The resource you requested does not exist."))
            }
        }
    }

    fn signing_config(&self, account: &AccountId, id: &str) -> Result<&SigningConfig> {
        self.resources.signing(account, id).ok_or_else(|| {
            let arn = signing_arn(&self.region, account, id);
            not_found(format!(
                "The Lambda code signing configuration {arn} can not be found."
            ))
        })
    }

    /// "You can delete the code signing configuration only if no function is using it."
    fn check_unused(&self, account: &AccountId, key: &ResourceKey) -> Result<()> {
        let ResourceKey::Signing(id) = key else {
            return Ok(());
        };
        let arn = signing_arn(&self.region, account, id);
        let mut functions = self.functions.of(account);
        if functions.any(|f| f.attached.code_signing.as_ref() == Some(&arn)) {
            return Err(Error::new(
                ErrorCode::ResourceConflict,
                format!(
                    "The code signing configuration {arn} is used by functions and can not be deleted."
                ),
            ));
        }
        Ok(())
    }

    fn new_mapping(
        &self,
        account: &AccountId,
        id: &str,
        members: &MappingMembers,
        at: UnixMs,
    ) -> Result<Mapping> {
        members.check_new()?;
        let name = members.function.as_ref().map(|(name, _)| name);
        let name = name.ok_or_else(no_function)?;
        self.check_target(account, members)?;
        let mapping = Mapping::new(id, name, members, at)?;
        for other in self.resources.mappings_of(account) {
            other.check_other(&mapping, &self.region, account)?;
        }
        Ok(mapping)
    }

    fn updated_mapping(
        &self,
        account: &AccountId,
        id: &str,
        members: &MappingMembers,
        at: UnixMs,
    ) -> Result<Resource> {
        let key = ResourceKey::Mapping(id.to_owned());
        let Resource::Mapping(mapping) = self.resource(account, &key)? else {
            return Err(not_found("The resource you requested does not exist."));
        };
        self.check_target(account, members)?;
        Ok(Resource::Mapping(mapping.updated(members, at)?))
    }

    /// The function that is named exists.
    fn check_target(&self, account: &AccountId, members: &MappingMembers) -> Result<()> {
        let Some((name, qualifier)) = &members.function else {
            return Ok(());
        };
        let function = self.functions.function(account, name);
        let function = function.ok_or_else(no_function)?;
        let named = function.check_named(qualifier.as_ref(), &self.region);
        named.map_err(|_| no_function())
    }

    /// Whether code without a signature may be put into a function that has to keep this configuration.
    pub(super) fn check_signing(&self, account: &AccountId, arn: Option<&String>) -> Result<()> {
        let Some(config) = arn.and_then(|arn| self.signing_named(account, arn)) else {
            return Ok(());
        };
        if config.enforces {
            return Err(Error::new(
                ErrorCode::CodeVerificationFailed,
                "Lambda cannot deploy the function. The function or layer might be signed using a signature that the client is not configured to accept. Check the provided signature for unsigned.",
            ));
        }
        Ok(())
    }

    fn signing_named(&self, account: &AccountId, arn: &str) -> Option<&SigningConfig> {
        let id = arn.rsplit(':').next()?;
        let is_own = signing_arn(&self.region, account, id) == arn;
        self.resources.signing(account, id).filter(|_| is_own)
    }

    /// A code signing configuration that a function is to keep.
    pub(super) fn check_signing_exists(&self, account: &AccountId, arn: &str) -> Result<()> {
        if self.signing_named(account, arn).is_some() {
            return Ok(());
        }
        Err(Error::new(
            ErrorCode::CodeSigningConfigNotFound,
            format!(
                "The code signing configuration cannot be found. Check that the provided configuration is not deleted: {arn}."
            ),
        ))
    }

    /// The answer to a question.
    pub fn query_resources(
        &self,
        account: &AccountId,
        query: &ResourceQuery,
    ) -> Result<ResourcePage> {
        let own = &self.resources;
        let (resources, more) = match query {
            ResourceQuery::One(key) => (vec![self.resource(account, key)?], false),
            ResourceQuery::SigningConfigs { after, limit } => {
                let range = (after.as_ref(), *limit);
                let (found, more) = page(own.signing.get(account), range, |_| true);
                (found.into_iter().map(Resource::Signing).collect(), more)
            }
            ResourceQuery::Mappings {
                function,
                source_arn,
                after,
                limit,
            } => {
                let is_wanted = |mapping: &Mapping| {
                    let is_of = function.as_ref().is_none_or(|(name, qualifier)| {
                        let is_any = qualifier.is_none() || *qualifier == mapping.qualifier;
                        *name == mapping.function && is_any
                    });
                    is_of && (source_arn.is_none() || *source_arn == mapping.source_arn)
                };
                let range = (after.as_ref(), *limit);
                let (found, more) = page(own.mappings.get(account), range, is_wanted);
                (found.into_iter().map(Resource::Mapping).collect(), more)
            }
            ResourceQuery::SignedFunctions { id, after, limit } => {
                return self.signed_functions(account, id, (after.as_ref(), *limit));
            }
        };
        Ok(ResourcePage {
            resources,
            functions: Vec::new(),
            more,
        })
    }

    fn signed_functions(
        &self,
        account: &AccountId,
        id: &str,
        (after, limit): (Option<&FunctionName>, usize),
    ) -> Result<ResourcePage> {
        self.signing_config(account, id)?;
        let arn = signing_arn(&self.region, account, id);
        let is_wanted = |f: &&Function| {
            let keeps = f.attached.code_signing.as_ref() == Some(&arn);
            keeps && after.is_none_or(|after| f.name > *after)
        };
        let mut wanted = self.functions.of(account).filter(is_wanted);
        let found = wanted.by_ref().take(limit.clamp(1, PAGE_MAX));
        let functions = found.map(|f| f.name.clone()).collect();
        Ok(ResourcePage {
            resources: Vec::new(),
            functions,
            more: wanted.next().is_some(),
        })
    }
}

fn not_found(text: impl Into<String>) -> Error {
    Error::new(ErrorCode::NotFound, text)
}

fn no_function() -> Error {
    Error::new(ErrorCode::InvalidParameterValue, "Function does not exist")
}
