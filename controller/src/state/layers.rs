//! Layers: versions that are published, read, shared and taken away, and what functions have of them.

use std::collections::{BTreeMap, BTreeSet};

use hearth_core::error::{Error, ErrorCode, Result};
use hearth_core::function::{CodeRef, FunctionConfig};
use hearth_core::ids::{AccountId, Digest, UnixMs};
use hearth_core::layer::{
    self, LayerArn, LayerChange, LayerFilter, LayerName, LayerPolicy, LayerQuery, LayerStatement,
    LayerVersion, STATEMENTS_MAX,
};
use serde::{Deserialize, Serialize};

use super::command::Command;
use super::reply::Reply;
use super::{Outcome, State, done};

/// Most versions in one answer, whatever is asked for; a version is about a kilobyte.
const PAGE_MAX: usize = 1_000;

/// All layers of all accounts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layers(BTreeMap<AccountId, BTreeMap<LayerName, Layer>>);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Layer {
    /// The newest number ever given; none is given twice.
    last_version: u64,
    versions: BTreeMap<u64, LayerVersion>,
}

fn invalid(text: impl Into<String>) -> Error {
    Error::new(ErrorCode::InvalidParameterValue, text)
}

fn check_revision(expected: Option<&String>, policy: &LayerPolicy) -> Result<()> {
    if expected.is_some_and(|revision| *revision != policy.revision_id) {
        return Err(Error::new(
            ErrorCode::PreconditionFailed,
            "The Revision Id provided does not match the latest Revision Id. Call the GetLayerPolicy API to retrieve the latest Revision Id",
        ));
    }
    Ok(())
}

impl Layers {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A version.
    pub fn version(
        &self,
        account: &AccountId,
        name: &LayerName,
        version: u64,
    ) -> Option<&LayerVersion> {
        self.0.get(account)?.get(name)?.versions.get(&version)
    }

    fn all(&self) -> impl Iterator<Item = &LayerVersion> {
        let layers = self.0.values().flat_map(BTreeMap::values);
        layers.flat_map(|layer| layer.versions.values())
    }

    /// Archives of all versions.
    pub(super) fn contents(&self) -> impl Iterator<Item = &CodeRef> {
        self.all().map(|version| &version.content)
    }

    /// Bytes of an account's archives.
    pub(super) fn code_bytes(&self, account: &AccountId) -> u64 {
        let layers = self.0.get(account).into_iter().flat_map(BTreeMap::values);
        layers
            .flat_map(|layer| layer.versions.values())
            .map(|version| version.content.size_bytes)
            .fold(0, u64::saturating_add)
    }

    fn version_mut(
        &mut self,
        region: &str,
        account: &AccountId,
        name: &LayerName,
        version: u64,
    ) -> Result<&mut LayerVersion> {
        let arn = LayerArn {
            region: region.to_owned(),
            account: account.clone(),
            name: name.clone(),
            version: Some(version),
        };
        let layer = self.0.get_mut(account).and_then(|all| all.get_mut(name));
        layer
            .and_then(|layer| layer.versions.get_mut(&version))
            .ok_or_else(|| {
                let text = format!("Layer version {arn} does not exist.");
                Error::new(ErrorCode::NotFound, text)
            })
    }

    fn publish(&mut self, new: LayerVersion) -> LayerVersion {
        let layers = self.0.entry(new.account.clone()).or_default();
        let layer = layers.entry(new.name.clone()).or_default();
        layer.last_version += 1;
        let new = LayerVersion {
            version: layer.last_version,
            ..new
        };
        layer.versions.insert(new.version, new.clone());
        new
    }

    fn delete(&mut self, account: &AccountId, name: &LayerName, version: u64) {
        let layer = self.0.get_mut(account).and_then(|all| all.get_mut(name));
        if let Some(layer) = layer {
            // The layer itself stays: its numbers are not given again.
            layer.versions.remove(&version);
        }
    }

    /// The answer to a question, and whether there is more. `None`: no such version.
    pub fn query(
        &self,
        account: &AccountId,
        query: &LayerQuery,
    ) -> Option<(Vec<LayerVersion>, bool)> {
        match query {
            LayerQuery::Version { name, version } => {
                let found = self.version(account, name, *version)?;
                Some((vec![found.clone()], false))
            }
            LayerQuery::Versions {
                name,
                filter,
                below,
                limit,
            } => {
                let layer = self.0.get(account).and_then(|all| all.get(name));
                let versions = layer.into_iter().flat_map(|layer| {
                    let upper = below.unwrap_or(u64::MAX);
                    layer.versions.range(..upper).rev().map(|(_, v)| v)
                });
                Some(page(versions.filter(|v| filter.matches(v)), *limit))
            }
            LayerQuery::Layers {
                filter,
                after,
                limit,
            } => {
                let layers = self.0.get(account).into_iter().flatten();
                let newest = layers
                    .filter(|(name, _)| after.as_ref().is_none_or(|after| *name > after))
                    .filter_map(|(_, layer)| newest(layer, filter));
                Some(page(newest, *limit))
            }
        }
    }
}

fn newest<'a>(layer: &'a Layer, filter: &LayerFilter) -> Option<&'a LayerVersion> {
    layer.versions.values().rev().find(|v| filter.matches(v))
}

fn page<'a>(
    mut all: impl Iterator<Item = &'a LayerVersion>,
    limit: usize,
) -> (Vec<LayerVersion>, bool) {
    let limit = limit.clamp(1, PAGE_MAX);
    let found = all.by_ref().take(limit).cloned().collect();
    (found, all.next().is_some())
}

fn permit(version: &mut LayerVersion, id: &str, statement: &LayerStatement) -> Result<()> {
    let statements = &mut version.policy.statements;
    if statements.contains_key(id) {
        return Err(Error::new(
            ErrorCode::ResourceConflict,
            format!(
                "The statement id ({id}) provided already exists. Please provide a new statement id, or remove the existing statement."
            ),
        ));
    }
    if statements.len() >= STATEMENTS_MAX {
        return Err(invalid(format!(
            "A layer version's policy has at most {STATEMENTS_MAX} statements."
        )));
    }
    statements.insert(id.to_owned(), statement.clone());
    Ok(())
}

impl State {
    pub(super) fn change_layer(&mut self, command: &Command) -> Result<Outcome> {
        let Command::ChangeLayer {
            account,
            name,
            change,
            revision_id,
            at,
        } = command
        else {
            return Ok(done());
        };
        let region = self.region.clone();
        let changed = match &**change {
            LayerChange::Publish {
                content,
                description,
            } => {
                let before = self.code_bytes(account);
                let after = before.saturating_add(content.size_bytes);
                self.limits.check_code(before, after)?;
                self.layers.publish(LayerVersion {
                    account: account.clone(),
                    name: name.clone(),
                    version: 0,
                    content: content.clone(),
                    description: description.clone(),
                    created: UnixMs(at.0),
                    policy: LayerPolicy::default(),
                })
            }
            LayerChange::Delete { version } => {
                self.layers.delete(account, name, *version);
                return Ok(done());
            }
            LayerChange::Permit {
                version,
                id,
                statement,
                revision_id: expected,
            } => {
                let found = self.layers.version_mut(&region, account, name, *version)?;
                check_revision(expected.as_ref(), &found.policy)?;
                permit(found, id, statement)?;
                revision_id.clone_into(&mut found.policy.revision_id);
                found.clone()
            }
            LayerChange::Revoke {
                version,
                id,
                revision_id: expected,
            } => {
                let found = self.layers.version_mut(&region, account, name, *version)?;
                check_revision(expected.as_ref(), &found.policy)?;
                if found.policy.statements.remove(id).is_none() {
                    let text = format!("Statement {id} is not found in resource policy.");
                    return Err(Error::new(ErrorCode::NotFound, text));
                }
                revision_id.clone_into(&mut found.policy.revision_id);
                found.clone()
            }
        };
        Ok((Reply::Layer(Box::new(changed)), Vec::new()))
    }

    /// The archives of the layers that a function of `account` names.
    pub(super) fn layer_contents(
        &self,
        account: &AccountId,
        config: &FunctionConfig,
        code: &CodeRef,
    ) -> Result<Vec<CodeRef>> {
        let found = layer::resolve(&self.region, &config.layers, |arn| {
            let version = arn.version.unwrap_or(0);
            let found = self.layers.version(&arn.account, &arn.name, version);
            match found {
                Some(found) if found.allows(account) => Ok(found),
                // Whether another account's version exists is not told to who may not use it.
                _ if arn.account != *account => Err(Error::new(
                    ErrorCode::AccessDenied,
                    format!(
                        "User: arn:aws:iam::{}:root is not authorized to perform: lambda:GetLayerVersion on resource: {arn} because no resource-based policy allows the lambda:GetLayerVersion action",
                        account.as_str()
                    ),
                )),
                Some(_) | None => Err(invalid(format!("Layer version {arn} does not exist."))),
            }
        })?;
        layer::check_unpacked(code, &found)?;
        Ok(found)
    }

    /// Bytes of code of an account: its functions' packages, each version counting once, and its layers.
    pub(super) fn code_bytes(&self, account: &AccountId) -> u64 {
        let functions = self.functions.code_bytes(account);
        functions.saturating_add(self.layers.code_bytes(account))
    }

    /// Blobs that something refers to.
    pub fn digests(&self) -> BTreeSet<Digest> {
        self.blobs().into_keys().collect()
    }

    /// Blobs that something refers to, with their lengths in bytes.
    pub fn blobs(&self) -> BTreeMap<Digest, u64> {
        let all = self.functions.codes().chain(self.layers.contents());
        // Images stay in their registries.
        let stored = all.filter(|code| code.image.is_none());
        stored.map(|code| (code.digest, code.size_bytes)).collect()
    }
}
