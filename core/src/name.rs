//! Function names, qualifiers and ARNs as users write them, and back.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorCode};
use crate::ids::{AccountId, IdError, Version};

/// Name of a function: 1 to 64 letters, digits, `-` and `_`, unique in its account.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FunctionName(std::sync::Arc<str>);

impl FunctionName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

impl TryFrom<String> for FunctionName {
    type Error = IdError;
    fn try_from(value: String) -> Result<Self, IdError> {
        value.parse()
    }
}

impl FromStr for FunctionName {
    type Err = IdError;
    fn from_str(s: &str) -> Result<Self, IdError> {
        if is_name(s) {
            Ok(Self(s.into()))
        } else {
            Err(IdError::function_name(s))
        }
    }
}

impl From<FunctionName> for String {
    fn from(name: FunctionName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Version or alias part of a function's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Qualifier {
    /// `$LATEST` or a number.
    Version(Version),
    /// An alias.
    Alias(String),
}

impl FromStr for Qualifier {
    type Err = IdError;
    fn from_str(s: &str) -> Result<Self, IdError> {
        if let Ok(version) = s.parse() {
            return Ok(Self::Version(version));
        }
        let alias = (1..=128).contains(&s.len())
            && s.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if alias {
            Ok(Self::Alias(s.to_owned()))
        } else {
            Err(IdError::qualifier(s))
        }
    }
}

impl fmt::Display for Qualifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => version.fmt(f),
            Self::Alias(alias) => f.write_str(alias),
        }
    }
}

/// Where a request came in: what short names are relative to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The region this cluster answers for.
    pub region: String,
    /// The caller's account.
    pub account: AccountId,
}

/// A function as a request names it, resolved against a [`Scope`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionRef {
    /// The owner.
    pub account: AccountId,
    /// The name.
    pub name: FunctionName,
    /// The qualifier, when one was given.
    pub qualifier: Option<Qualifier>,
}

impl FunctionRef {
    /// Resolves a name, partial ARN or full ARN (each with an optional `:qualifier`) and the separate
    /// `Qualifier` parameter. The text has passed the model's pattern; what is left are its meanings.
    pub fn resolve(text: &str, qualifier: Option<&str>, scope: &Scope) -> Result<Self, Error> {
        let invalid = || {
            Error::new(
                ErrorCode::InvalidParameterValue,
                format!(
                    "1 validation error detected: Value '{text}' at 'functionName' failed to satisfy constraint: Member must be a function name, a partial ARN or an ARN"
                ),
            )
        };
        let parts: Vec<&str> = text.split(':').collect();
        let (account, rest) = match parts.as_slice() {
            ["arn", _, "lambda", region, account, "function", rest @ ..] => {
                if *region != scope.region {
                    return Err(Error::new(
                        ErrorCode::NotFound,
                        format!(
                            "Functions from '{region}' are not reachable in this region ('{}')",
                            scope.region
                        ),
                    ));
                }
                (account.parse().map_err(|_| invalid())?, rest)
            }
            [account, "function", rest @ ..] if account.len() == 12 => {
                (account.parse().map_err(|_| invalid())?, rest)
            }
            ["function", rest @ ..] => (scope.account.clone(), rest),
            rest => (scope.account.clone(), rest),
        };
        let (name, inner) = match rest {
            [name] => (*name, None),
            [name, inner] => (*name, Some(*inner)),
            _ => return Err(invalid()),
        };
        let qualifier = match (inner, qualifier) {
            (Some(a), Some(b)) if a != b => {
                return Err(Error::new(
                    ErrorCode::InvalidParameterValue,
                    "The derived qualifier from the function name does not match the specified qualifier.",
                ));
            }
            (a, b) => a.or(b),
        };
        Ok(Self {
            account,
            name: name.parse().map_err(|_| invalid())?,
            qualifier: qualifier
                .map(str::parse)
                .transpose()
                .map_err(|_| invalid())?,
        })
    }

    /// The ARN, with the qualifier that was asked for.
    pub fn arn(&self, region: &str) -> String {
        let base = function_arn(region, &self.account, &self.name);
        match &self.qualifier {
            Some(qualifier) => format!("{base}:{qualifier}"),
            None => base,
        }
    }
}

/// ARN of a function without a qualifier.
pub fn function_arn(region: &str, account: &AccountId, name: &FunctionName) -> String {
    format!("arn:aws:lambda:{region}:{account}:function:{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Scope {
        Scope {
            region: "us-east-1".into(),
            account: "123456789012".parse().unwrap(),
        }
    }

    #[test]
    fn every_form_of_a_function_name_resolves() {
        let own = "123456789012";
        for (text, account, qualifier) in [
            ("f", own, None),
            ("f:7", own, Some("7")),
            ("f:$LATEST", own, Some("$LATEST")),
            ("function:f", own, None),
            ("210987654321:function:f", "210987654321", None),
            ("210987654321:function:f:live", "210987654321", Some("live")),
            (
                "arn:aws:lambda:us-east-1:210987654321:function:f",
                "210987654321",
                None,
            ),
            (
                "arn:aws:lambda:us-east-1:210987654321:function:f:1",
                "210987654321",
                Some("1"),
            ),
        ] {
            let got = FunctionRef::resolve(text, None, &scope()).unwrap();
            assert_eq!(got.account.as_str(), account, "{text}");
            assert_eq!(got.name.as_str(), "f", "{text}");
            assert_eq!(
                got.qualifier.map(|q| q.to_string()).as_deref(),
                qualifier,
                "{text}"
            );
        }
    }

    #[test]
    fn qualifiers_in_both_places_must_agree() {
        assert!(FunctionRef::resolve("f:1", Some("1"), &scope()).is_ok());
        let error = FunctionRef::resolve("f:1", Some("2"), &scope()).unwrap_err();
        assert_eq!(
            error.message,
            "The derived qualifier from the function name does not match the specified qualifier."
        );
    }

    #[test]
    fn another_region_is_not_reachable() {
        let error = FunctionRef::resolve(
            "arn:aws:lambda:eu-west-1:123456789012:function:f",
            None,
            &scope(),
        )
        .unwrap_err();
        assert_eq!(
            error.message,
            "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')"
        );
    }
}
