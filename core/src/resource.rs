//! What an account has beside functions and layers, and what gateways ask of the controllers about it: code signing
//! configurations and event source mappings.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::mapping::{Mapping, MappingMembers};
use crate::name::{FunctionName, Qualifier};
use crate::signing::{SigningConfig, SigningMembers};

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resource {
    /// A code signing configuration.
    Signing(SigningConfig),
    /// An event source mapping.
    Mapping(Mapping),
}

impl Resource {
    /// What it is known by.
    pub fn key(&self) -> ResourceKey {
        match self {
            Self::Signing(config) => ResourceKey::Signing(config.id.clone()),
            Self::Mapping(mapping) => ResourceKey::Mapping(mapping.id.clone()),
        }
    }

    /// Its tags.
    pub fn tags(&self) -> &BTreeMap<String, String> {
        match self {
            Self::Signing(config) => &config.tags,
            Self::Mapping(mapping) => &mapping.tags,
        }
    }
}

/// Which of them, by its id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ResourceKey {
    /// A code signing configuration.
    Signing(String),
    /// An event source mapping.
    Mapping(String),
}

/// A change. It stands in the log as it is: variants and fields keep their meaning, and are only ever added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResourceChange {
    /// Makes a code signing configuration.
    CreateSigning {
        /// What was sent.
        members: SigningMembers,
        /// Tags.
        tags: BTreeMap<String, String>,
    },
    /// Changes what was sent of one.
    UpdateSigning {
        /// Which.
        id: String,
        /// What was sent.
        members: SigningMembers,
    },
    /// Makes an event source mapping.
    CreateMapping {
        /// What was sent.
        members: Box<MappingMembers>,
        /// Tags.
        tags: BTreeMap<String, String>,
    },
    /// Changes what was sent of one.
    UpdateMapping {
        /// Which.
        id: String,
        /// What was sent.
        members: Box<MappingMembers>,
    },
    /// Takes one away.
    Delete {
        /// Which.
        key: ResourceKey,
    },
    /// Changes tags.
    Tag {
        /// Of which.
        key: ResourceKey,
        /// Tags to set.
        set: BTreeMap<String, String>,
        /// Tags to take away, before.
        remove: Vec<String>,
    },
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResourceQuery {
    /// One of them.
    One(ResourceKey),
    /// Code signing configurations by id.
    SigningConfigs {
        /// Ids after this one.
        after: Option<String>,
        /// At most so many.
        limit: usize,
    },
    /// Event source mappings by id.
    Mappings {
        /// Those of this function, and of this version or alias if one is named.
        function: Option<(FunctionName, Option<Qualifier>)>,
        /// Those of this source.
        source_arn: Option<String>,
        /// Ids after this one.
        after: Option<String>,
        /// At most so many.
        limit: usize,
    },
    /// Functions whose code has to keep a code signing configuration, by name.
    SignedFunctions {
        /// Id of the configuration.
        id: String,
        /// Names after this one.
        after: Option<FunctionName>,
        /// At most so many.
        limit: usize,
    },
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourcePage {
    /// Resources.
    #[serde(default)]
    pub resources: Vec<Resource>,
    /// Functions, when they were asked for.
    #[serde(default)]
    pub functions: Vec<FunctionName>,
    /// Whether there are more after the last one.
    #[serde(default)]
    pub more: bool,
}
