//! Event source mappings: from where a function is sent events. What each kind of source takes is in `kind`, which filters are
//! patterns in `filter`.

mod filter;
mod kind;

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorCode, Result};
use crate::ids::{AccountId, UnixMs};
use crate::name::{FunctionName, Qualifier, function_arn};

pub use kind::SourceKind;

/// Members of the model by their names, each as its JSON text: what was sent over what is the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Members(BTreeMap<String, String>);

impl Members {
    /// A member; one that is absent or of another type is as if it had not been sent.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_str(self.0.get(name)?).ok()
    }

    /// Whether a member is there.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Sets a member, unless there is nothing to set.
    pub fn put<T: Serialize>(&mut self, name: &str, value: Option<T>) {
        let text = value.and_then(|value| serde_json::to_string(&value).ok());
        if let Some(text) = text {
            self.0.insert(name.to_owned(), text);
        }
    }

    /// Those of `self` that `other` has not.
    fn under(mut self, other: &Self) -> Self {
        self.0
            .extend(other.0.iter().map(|(k, v)| (k.clone(), v.clone())));
        self
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// One mapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// A UUID.
    pub id: String,
    /// The function that is sent events.
    pub function: FunctionName,
    /// The version or alias of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qualifier: Option<Qualifier>,
    /// Where the events are; absent for a cluster of one's own, which the members name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_arn: Option<String>,
    /// Whether it is to be read.
    pub enabled: bool,
    /// Everything else.
    pub members: Members,
    /// When it was last changed.
    pub last_modified: UnixMs,
    /// Tags.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

/// What a request says of a mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappingMembers {
    /// The function, when it is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<(FunctionName, Option<Qualifier>)>,
    /// See [`Mapping::source_arn`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_arn: Option<String>,
    /// See [`Mapping::enabled`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// See [`Mapping::members`].
    #[serde(default)]
    pub members: Members,
}

impl MappingMembers {
    /// What a new mapping would be of; refused if no source takes it so.
    pub fn check_new(&self) -> Result<SourceKind> {
        let kind = SourceKind::of(self.source_arn.as_deref(), &self.members)?;
        kind.check_position(&self.members, self.source_arn.as_deref())?;
        kind.check(&kind.defaults().under(&self.members))?;
        Ok(kind)
    }
}

impl Mapping {
    /// A new one, whose id the proposer chose.
    pub fn new(
        id: &str,
        function: &FunctionName,
        said: &MappingMembers,
        at: UnixMs,
    ) -> Result<Self> {
        let kind = said.check_new()?;
        let mut members = kind.defaults().under(&said.members);
        kind.name_group(&mut members, id);
        Ok(Self {
            id: id.to_owned(),
            function: function.clone(),
            qualifier: said
                .function
                .as_ref()
                .and_then(|(_, qualifier)| qualifier.clone()),
            source_arn: said.source_arn.clone(),
            enabled: said.enabled.unwrap_or(true),
            members,
            last_modified: at,
            tags: BTreeMap::new(),
        })
    }

    /// With what was sent in place.
    pub fn updated(&self, said: &MappingMembers, at: UnixMs) -> Result<Self> {
        let kind = self.kind()?;
        let members = self.members.clone().under(&said.members);
        kind.check(&members)?;
        let (function, qualifier) = match &said.function {
            Some((function, qualifier)) => (function.clone(), qualifier.clone()),
            None => (self.function.clone(), self.qualifier.clone()),
        };
        Ok(Self {
            function,
            qualifier,
            enabled: said.enabled.unwrap_or(self.enabled),
            members,
            last_modified: at,
            ..self.clone()
        })
    }

    /// What it reads.
    pub fn kind(&self) -> Result<SourceKind> {
        SourceKind::of(self.source_arn.as_deref(), &self.members)
    }

    /// Whether both would hand the same events to the same function, and how AWS says so.
    pub fn check_other(&self, new: &Self, region: &str, account: &AccountId) -> Result<()> {
        let is_same_function = (&self.function, &self.qualifier) == (&new.function, &new.qualifier);
        let (old_from, from) = (self.sources(), new.sources());
        if !is_same_function || !old_from.iter().any(|source| from.contains(source)) {
            return Ok(());
        }
        let (uuid, function) = (&self.id, &self.function);
        let arn = self.source_arn.as_deref().unwrap_or_default();
        let rest = format!("Please update or delete the existing mapping with UUID {uuid}");
        let text = match self.kind()? {
            SourceKind::Sqs { .. } => format!(
                "An event source mapping with SQS arn (\" {arn} \") and function (\" {function} \") already exists. {rest}"
            ),
            SourceKind::SelfManagedKafka | SourceKind::ManagedKafka => {
                let topics = |mapping: &Self| -> Vec<String> {
                    mapping.members.get("Topics").unwrap_or_default()
                };
                let (old, named) = (topics(self), topics(new));
                if !old.iter().any(|topic| named.contains(topic)) {
                    return Ok(());
                }
                let function = function_arn(region, account, function);
                format!(
                    "An event source mapping with event source (\"{}\"), function (\"{function}\"), topics (\"{}\") already exists. {rest}",
                    from.join(","),
                    named.join(",")
                )
            }
            SourceKind::Kinesis
            | SourceKind::DynamoDb
            | SourceKind::Mq
            | SourceKind::DocumentDb => format!(
                "The event source arn (\" {arn} \") and function (\" {function} \") provided mapping already exists. {rest}"
            ),
        };
        Err(Error::new(ErrorCode::ResourceConflict, text))
    }

    fn sources(&self) -> Vec<String> {
        match &self.source_arn {
            Some(arn) => vec![arn.clone()],
            None => kind::servers(&self.members),
        }
    }
}

/// The ARN of a mapping.
pub fn mapping_arn(region: &str, account: &AccountId, id: &str) -> String {
    format!("arn:aws:lambda:{region}:{account}:event-source-mapping:{id}")
}

fn invalid(text: impl Into<String>) -> Error {
    Error::new(ErrorCode::InvalidParameterValue, text)
}

#[cfg(test)]
mod tests;
