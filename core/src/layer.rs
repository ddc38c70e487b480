//! Layers: archives that functions share. Each publication is a version for good; a function names up to five, which are
//! merged under `/opt` in their order. Who may use a version of another account is the version's own policy.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorCode, Result};
use crate::function::CodeRef;
use crate::ids::{AccountId, IdError, UnixMs};
use crate::limits::UNZIPPED_MAX_BYTES;

/// Longest name of a layer, characters; the model's.
const NAME_MAX: usize = 140;

/// Statements of one version's policy. Ours: AWS limits the policy to 20 kB, which these stay below.
pub const STATEMENTS_MAX: usize = 64;

/// Name of a layer, unique in its account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LayerName(String);

impl LayerName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LayerName {
    type Err = IdError;
    fn from_str(s: &str) -> std::result::Result<Self, IdError> {
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if (1..=NAME_MAX).contains(&s.len()) && s.bytes().all(is_allowed) {
            Ok(Self(s.to_owned()))
        } else {
            Err(IdError::layer_name(s))
        }
    }
}

impl TryFrom<String> for LayerName {
    type Error = IdError;
    fn try_from(value: String) -> std::result::Result<Self, IdError> {
        value.parse()
    }
}

impl From<LayerName> for String {
    fn from(name: LayerName) -> Self {
        name.0
    }
}

impl fmt::Display for LayerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A layer, or one version of it, as an ARN names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerArn {
    /// Where.
    pub region: String,
    /// The owner.
    pub account: AccountId,
    /// The layer.
    pub name: LayerName,
    /// The version; absent in the ARN of a layer.
    pub version: Option<u64>,
}

impl FromStr for LayerArn {
    type Err = IdError;
    fn from_str(s: &str) -> std::result::Result<Self, IdError> {
        let parts: Vec<&str> = s.split(':').collect();
        let (region, account, name, version) = match parts[..] {
            ["arn", _, "lambda", region, account, "layer", name] => (region, account, name, None),
            ["arn", _, "lambda", region, account, "layer", name, version] => {
                (region, account, name, Some(version))
            }
            _ => return Err(IdError::layer_arn(s)),
        };
        let version = version.map(str::parse).transpose();
        Ok(Self {
            region: region.to_owned(),
            account: account.parse()?,
            name: name.parse()?,
            version: version.map_err(|_| IdError::layer_arn(s))?,
        })
    }
}

impl fmt::Display for LayerArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (region, account, name) = (&self.region, self.account.as_str(), &self.name);
        write!(f, "arn:aws:lambda:{region}:{account}:layer:{name}")?;
        match self.version {
            Some(version) => write!(f, ":{version}"),
            None => Ok(()),
        }
    }
}

/// One version of a layer. Only its policy ever changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerVersion {
    /// The owner.
    pub account: AccountId,
    /// The layer.
    pub name: LayerName,
    /// Which, from 1; no number is given twice.
    pub version: u64,
    /// The archive.
    pub content: CodeRef,
    /// What was said of it.
    pub description: LayerDescription,
    /// When it was published.
    pub created: UnixMs,
    /// Who else may use it.
    #[serde(default, skip_serializing_if = "LayerPolicy::is_unset")]
    pub policy: LayerPolicy,
}

/// What a publisher says of a version; nothing of it is enforced, as with AWS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerDescription {
    /// Free text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// Its licence: a text, an SPDX identifier or an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// Runtimes it is for, as sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtimes: Option<Vec<String>>,
    /// Instruction sets it is for, as sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architectures: Option<Vec<String>>,
}

/// What a list is narrowed to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerFilter {
    /// Versions that name this runtime.
    pub runtime: Option<String>,
    /// Versions that name this instruction set.
    pub architecture: Option<String>,
}

impl LayerFilter {
    /// Whether a version is to be listed.
    pub fn matches(&self, version: &LayerVersion) -> bool {
        let names = |named: &Option<Vec<String>>, wanted: &Option<String>| {
            wanted
                .as_ref()
                .is_none_or(|wanted| named.as_ref().is_some_and(|all| all.contains(wanted)))
        };
        names(&version.description.runtimes, &self.runtime)
            && names(&version.description.architectures, &self.architecture)
    }
}

/// Who else may use a version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerPolicy {
    /// Changes with every change of the policy.
    pub revision_id: String,
    /// By their ids.
    pub statements: BTreeMap<String, LayerStatement>,
}

impl LayerPolicy {
    /// Whether nobody was given anything.
    pub fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }

    /// Whether it never was another. One that has lost its last statement has its revision still, and replicas that read it from a
    /// snapshot must be equal to those that did not.
    fn is_unset(&self) -> bool {
        *self == Self::default()
    }
}

/// One statement: `lambda:GetLayerVersion` for a principal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerStatement {
    /// `*`, an account's number, or the ARN of its root.
    pub principal: String,
    /// Only for accounts of this organization. There are none here, so nobody is one of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
}

impl LayerStatement {
    fn allows(&self, account: &AccountId) -> bool {
        let named = self.principal.strip_suffix(":root").map_or_else(
            || self.principal.as_str(),
            |arn| arn.rsplit(':').next().unwrap_or_default(),
        );
        self.organization.is_none() && (named == "*" || named == account.as_str())
    }
}

impl LayerVersion {
    /// Whether an account may read it and use it in its functions.
    pub fn allows(&self, account: &AccountId) -> bool {
        let statements = &self.policy.statements;
        *account == self.account || statements.values().any(|s| s.allows(account))
    }

    /// Its ARN.
    pub fn arn(&self, region: &str) -> LayerArn {
        LayerArn {
            region: region.to_owned(),
            account: self.account.clone(),
            name: self.name.clone(),
            version: Some(self.version),
        }
    }
}

/// The layers of a function, by their ARNs in order: each is looked up once with `find`, which answers as AWS does for
/// those that do not exist or may not be used.
pub fn resolve<'a>(
    region: &str,
    arns: &[String],
    mut find: impl FnMut(&LayerArn) -> Result<&'a LayerVersion>,
) -> Result<Vec<CodeRef>> {
    let refuse = |text: String| Err(Error::new(ErrorCode::InvalidParameterValue, text));
    let mut named: Vec<LayerArn> = Vec::new();
    let mut found = Vec::new();
    for text in arns {
        let Ok(arn) = text.parse::<LayerArn>() else {
            return refuse(format!("Layer version {text} does not exist."));
        };
        if arn.region != region {
            return refuse(format!(
                "Layers are not in the same region as the function. Layers are expected to be in region {region}."
            ));
        }
        let is_same = |other: &&LayerArn| other.account == arn.account && other.name == arn.name;
        if let Some(other) = named.iter().find(is_same) {
            return refuse(format!(
                "Two different versions of the same layer are not allowed to be referenced in the same function. {other} and {arn} are versions of the same layer."
            ));
        }
        found.push(find(&arn)?.content.clone());
        named.push(arn);
    }
    Ok(found)
}

/// AWS's limit for code and layers together, unpacked.
pub fn check_unpacked(code: &CodeRef, layers: &[CodeRef]) -> Result<()> {
    let sizes = layers.iter().map(|layer| layer.unpacked_bytes);
    let total = sizes.fold(code.unpacked_bytes, u64::saturating_add);
    if layers.is_empty() || total <= UNZIPPED_MAX_BYTES {
        return Ok(());
    }
    Err(Error::new(
        ErrorCode::InvalidParameterValue,
        format!(
            "Function code combined with layers exceeds the maximum allowed size of {UNZIPPED_MAX_BYTES} bytes. The actual size is {total} bytes."
        ),
    ))
}

/// A change of a layer. It stands in the log as it is: variants and fields keep their meaning, and are only ever added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LayerChange {
    /// Makes the next version.
    Publish {
        /// The archive, already in the blob store.
        content: CodeRef,
        /// What is said of it.
        description: LayerDescription,
    },
    /// Takes a version away; functions that name it keep it. One that does not exist is gone already.
    Delete {
        /// Which.
        version: u64,
    },
    /// Adds a statement to a version's policy.
    Permit {
        /// Which.
        version: u64,
        /// Its id, which must be free.
        id: String,
        /// What it says.
        statement: LayerStatement,
        /// Refuse unless this is the policy's revision.
        revision_id: Option<String>,
    },
    /// Takes a statement away.
    Revoke {
        /// Which.
        version: u64,
        /// The statement's id.
        id: String,
        /// Refuse unless this is the policy's revision.
        revision_id: Option<String>,
    },
}

/// A question about layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LayerQuery {
    /// One version.
    Version {
        /// The layer.
        name: LayerName,
        /// Which.
        version: u64,
    },
    /// The versions of a layer, newest first.
    Versions {
        /// The layer.
        name: LayerName,
        /// Only these.
        filter: LayerFilter,
        /// Older than this one.
        below: Option<u64>,
        /// At most so many.
        limit: usize,
    },
    /// The newest matching version of each layer, by name.
    Layers {
        /// Only these.
        filter: LayerFilter,
        /// Names after this one.
        after: Option<LayerName>,
        /// At most so many.
        limit: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Digest;

    fn version(name: &str, unpacked_bytes: u64) -> LayerVersion {
        LayerVersion {
            account: "123456789012".parse().unwrap(),
            name: name.parse().unwrap(),
            version: 1,
            content: CodeRef {
                digest: Digest([1; 32]),
                size_bytes: 10,
                unpacked_bytes,
                image: None,
            },
            description: LayerDescription::default(),
            created: UnixMs(0),
            policy: LayerPolicy::default(),
        }
    }

    #[test]
    fn arns_read_and_print_alike() {
        for text in [
            "arn:aws:lambda:us-east-1:123456789012:layer:a_b-c",
            "arn:aws:lambda:us-east-1:123456789012:layer:l:7",
        ] {
            assert_eq!(text.parse::<LayerArn>().unwrap().to_string(), text);
        }
        for text in [
            "l",
            "arn:aws:lambda:r:123456789012:layer:l:x",
            "arn:aws:lambda:r:1:layer:l:1",
        ] {
            assert!(text.parse::<LayerArn>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_function_names_each_layer_once_and_in_its_region() {
        let found = version("l", 1);
        let resolve = |arns: &[&str]| {
            let arns: Vec<String> = arns.iter().map(ToString::to_string).collect();
            resolve("r", &arns, |_| Ok(&found)).map(|found| found.len())
        };
        let arn = |name: &str| format!("arn:aws:lambda:r:123456789012:layer:{name}");
        assert_eq!(resolve(&[&arn("a:1"), &arn("b:1")]), Ok(2));
        let twice = resolve(&[&arn("a:1"), &arn("a:2")]).unwrap_err().message;
        assert!(
            twice.ends_with(":layer:a:2 are versions of the same layer."),
            "{twice}"
        );
        let elsewhere = "arn:aws:lambda:eu-west-1:123456789012:layer:a:1";
        assert!(
            resolve(&[elsewhere])
                .unwrap_err()
                .message
                .contains("in region r.")
        );
    }

    #[test]
    fn layers_and_code_share_one_limit() {
        let code = version("x", 200).content;
        assert_eq!(check_unpacked(&code, &[]), Ok(()));
        let half = version("l", UNZIPPED_MAX_BYTES - 200).content;
        assert_eq!(check_unpacked(&code, std::slice::from_ref(&half)), Ok(()));
        let over = check_unpacked(&code, &[half, version("m", 1).content]).unwrap_err();
        assert!(
            over.message
                .ends_with("The actual size is 262144001 bytes."),
            "{}",
            over.message
        );
    }

    #[test]
    fn a_policy_names_accounts_and_no_organization_exists() {
        let mut layer = version("l", 1);
        let other: AccountId = "210987654321".parse().unwrap();
        assert!(layer.allows(&layer.account) && !layer.allows(&other));
        for (principal, organization, expected) in [
            ("*", None, true),
            ("*", Some("o-1234567890"), false),
            ("210987654321", None, true),
            ("arn:aws:iam::210987654321:root", None, true),
            ("123456789012", None, false),
        ] {
            let statement = LayerStatement {
                principal: principal.into(),
                organization: organization.map(str::to_owned),
            };
            layer.policy.statements = BTreeMap::from([("s".into(), statement)]);
            assert_eq!(
                layer.allows(&other),
                expected,
                "{principal} {organization:?}"
            );
        }
    }
}
