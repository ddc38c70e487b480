//! Published versions, aliases and provisioned concurrency of a function: what they are, which version a name means,
//! and how an allocation stands. What operations change them is the replicated state's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::function::{Function, FunctionVersion, State};
use crate::ids::{IdError, PoolKey, UnixMs, Version};
use crate::name::Qualifier;

/// An immutable snapshot of code and configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedVersion {
    /// The snapshot; its `generation` is the log index at which it was published.
    pub snapshot: FunctionVersion,
    /// Generation of `$LATEST` that it was made from.
    pub source: u64,
    /// Whether it can be invoked. It follows `$LATEST` when that was still being made.
    pub state: State,
}

/// Parts of a whole: a weight of 1 is so many.
const WHOLE: u32 = 1_000_000_000;

/// A share of an alias' invocations, in billionths: the state holds no floating-point numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Weight(u32);

impl Weight {
    /// Of a number from 0 to 1.
    pub fn new(share: f64) -> Result<Self, IdError> {
        if !(0.0..=1.0).contains(&share) {
            return Err(IdError::weight(&share.to_string()));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "from 0 to 1e9"
        )]
        let parts = (share * f64::from(WHOLE)).round() as u32;
        Ok(Self(parts))
    }

    /// The number from 0 to 1 that it was made of, to nine digits.
    pub fn share(self) -> f64 {
        f64::from(self.0) / f64::from(WHOLE)
    }
}

/// A pointer to one version, or to two by weight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alias {
    /// The version it points to.
    pub version: Version,
    /// Free text, may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Shares of other versions; at most one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<u64, Weight>,
    /// Changes with every mutation.
    pub revision_id: String,
}

impl Alias {
    /// The version of one invocation. `chance` is uniform over all values.
    pub fn route(&self, chance: u64) -> Version {
        let drawn = (u128::from(chance) * u128::from(WHOLE)) >> 64;
        let mut below = 0_u128;
        for (version, weight) in &self.weights {
            below += u128::from(weight.0);
            if drawn < below {
                return Version::Number(*version);
            }
        }
        self.version
    }

    /// Whether it points to a version, by weight or not.
    pub fn refers_to(&self, version: u64) -> bool {
        self.version == Version::Number(version) || self.weights.contains_key(&version)
    }
}

/// Sandboxes that a user wants initialised at all times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvisionedConcurrency {
    /// How many.
    pub requested: u32,
    /// When it was asked for.
    pub last_modified: UnixMs,
}

/// What invocations of a version draw from: the first with a permit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pools {
    /// The version's provisioned concurrency.
    pub provisioned: Option<PoolKey>,
    /// The function's reserved concurrency or the account's unreserved pool.
    pub on_demand: PoolKey,
}

impl Pools {
    /// In the order in which they are drawn from.
    pub fn iter(&self) -> impl Iterator<Item = &PoolKey> {
        self.provisioned.iter().chain([&self.on_demand])
    }
}

impl Function {
    /// A version; of `$LATEST` what the API shows.
    pub fn version(&self, version: Version) -> Option<&FunctionVersion> {
        match version {
            Version::Latest => Some(&self.latest),
            Version::Number(n) => self.versions.get(&n).map(|v| &v.snapshot),
        }
    }

    /// The version that a qualifier names; of an alias the one it points to without weights.
    pub fn version_named(&self, qualifier: Option<&Qualifier>) -> Option<Version> {
        let version = match qualifier {
            None => Version::Latest,
            Some(Qualifier::Version(version)) => *version,
            Some(Qualifier::Alias(alias)) => self.aliases.get(alias)?.version,
        };
        self.version(version).map(|_| version)
    }

    /// Provisioned concurrency by the version that has it. A version has at most one.
    pub fn provisioned_by_version(&self) -> BTreeMap<u64, u32> {
        let resolved = self.provisioned.iter().filter_map(|(qualifier, wanted)| {
            match self.version_named(Some(qualifier))? {
                Version::Number(n) => Some((n, wanted.requested)),
                // Refused when it was asked for.
                Version::Latest => None,
            }
        });
        resolved.collect()
    }

    /// Provisioned executions of all versions.
    pub fn provisioned_total(&self) -> u64 {
        let each = self.provisioned_by_version().into_values();
        each.map(u64::from).sum()
    }

    /// Executions set aside for the function alone. "You can't allocate more provisioned concurrency than reserved
    /// concurrency for a function": what is provisioned is part of what is reserved.
    pub fn set_aside(&self) -> u64 {
        match self.reserved_concurrency {
            Some(reserved) => u64::from(reserved),
            None => self.provisioned_total(),
        }
    }

    /// What invocations of a version draw from.
    pub fn pools(&self, version: Version) -> Pools {
        let provisioned = match version {
            Version::Latest => None,
            Version::Number(n) => self
                .provisioned_by_version()
                .contains_key(&n)
                .then(|| PoolKey::provisioned(&self.account, &self.name, n)),
        };
        Pools {
            provisioned,
            on_demand: self.pool(),
        }
    }

    /// Log index of the newest change that is in this document: the larger, the newer.
    pub fn news(&self) -> u64 {
        self.latest.generation.max(self.changed)
    }

    /// The longest timeout of any version that may run, seconds.
    pub fn longest_timeout_s(&self) -> u32 {
        let published = self.versions.values().map(|v| &v.snapshot);
        let all = std::iter::once(&self.latest)
            .chain(&self.serving)
            .chain(published);
        all.map(|v| v.config.timeout_s).max().unwrap_or(0)
    }

    /// Bytes of metadata that its published versions, aliases and what hangs on them take, about.
    pub fn published_bytes(&self) -> usize {
        let versions = self.versions.values().map(|v| v.snapshot.metadata_bytes());
        let aliases = self
            .aliases
            .iter()
            .map(|(name, alias)| 200 + name.len() + alias.description.len());
        versions.chain(aliases).sum::<usize>() + self.attached.metadata_bytes()
    }
}

impl FunctionVersion {
    /// Bytes of metadata it takes, about.
    pub fn metadata_bytes(&self) -> usize {
        let config = &self.config;
        let map = |map: &BTreeMap<String, String>| -> usize {
            map.iter().map(|(k, v)| k.len() + v.len() + 8).sum()
        };
        let layers: usize = config.layers.iter().map(|l| l.len() + 4).sum();
        600 + config.role.len()
            + config.description.len()
            + config.handler.as_ref().map_or(0, String::len)
            + config.environment.as_ref().map_or(0, map)
            + map(&config.kept)
            + layers
    }
}

/// How an allocation of provisioned concurrency stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvisionedStatus {
    /// Sandboxes that workers were given to keep.
    pub allocated: u32,
    /// Of these, sandboxes whose init phase is over.
    pub available: u32,
    /// Why it cannot be had, if so: AWS's code or a text.
    pub failure: Option<String>,
}

/// `Status` of AWS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// Being made.
    InProgress,
    /// All are there.
    Ready,
    /// Cannot be made as it is; tried again all the same.
    Failed,
}

impl ProvisionedStatus {
    /// The status of a wish for `requested`.
    pub fn of(&self, requested: u32) -> Allocation {
        if self.available >= requested {
            Allocation::Ready
        } else if self.failure.is_some() {
            Allocation::Failed
        } else {
            Allocation::InProgress
        }
    }
}

#[cfg(test)]
#[path = "versions_tests.rs"]
mod tests;
