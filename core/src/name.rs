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
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
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

impl TryFrom<String> for Qualifier {
    type Error = IdError;
    fn try_from(value: String) -> Result<Self, IdError> {
        value.parse()
    }
}

impl From<Qualifier> for String {
    fn from(qualifier: Qualifier) -> Self {
        qualifier.to_string()
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
        let (region, account, rest) = locate(&parts);
        if let Some(region) = region.filter(|region| *region != scope.region) {
            return Err(Error::new(
                ErrorCode::NotFound,
                format!(
                    "Functions from '{region}' are not reachable in this region ('{}')",
                    scope.region
                ),
            ));
        }
        let account = match account {
            Some(account) => account.parse().map_err(|_| invalid())?,
            None => scope.account.clone(),
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
        // Names and qualifiers which the model lets pass but nothing can have: longer than 64, with a dot.
        let unusual = |part: &str| {
            let known = |b: u8| b.is_ascii_alphanumeric() || b"-_.$".contains(&b);
            if part.is_empty() || !part.bytes().all(known) {
                return invalid();
            }
            let arn = format!("arn:aws:lambda:{}:{account}:function:{name}", scope.region);
            let qualifier = qualifier.map(|q| format!(":{q}")).unwrap_or_default();
            Error::new(
                ErrorCode::NotFound,
                format!("Function not found: {arn}{qualifier}"),
            )
        };
        Ok(Self {
            name: name.parse().map_err(|_| unusual(name))?,
            qualifier: qualifier
                .map(|q| q.parse().map_err(|_| unusual(q)))
                .transpose()?,
            account,
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

/// Region and account of a function's name, and the rest of it. Every part in front of the name may be left out, as in
/// the model's pattern.
fn locate<'a, 'b>(parts: &'b [&'a str]) -> (Option<&'a str>, Option<&'a str>, &'b [&'a str]) {
    let is_account = |part: &str| part.len() == 12 && part.bytes().all(|b| b.is_ascii_digit());
    let mut rest = match parts {
        ["arn", _, "lambda", rest @ ..] => rest,
        all => all,
    };
    let mut region = None;
    // A region is followed by an account: a name with a qualifier is not taken for one.
    if let [first, account, _, ..] = rest
        && is_account(account)
    {
        region = Some(*first);
        rest = &rest[1..];
    }
    let mut account = None;
    if let [first, _, ..] = rest
        && is_account(first)
    {
        account = Some(*first);
        rest = &rest[1..];
    }
    if let ["function", _, ..] = rest {
        rest = &rest[1..];
    }
    (region, account, rest)
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
    fn parts_in_front_of_the_name_may_be_left_out() {
        for (text, account, name, qualifier) in [
            ("function", "123456789012", "function", None),
            ("210987654321:f", "210987654321", "f", None),
            ("us-east-1:210987654321:f", "210987654321", "f", None),
            (
                "us-east-1:210987654321:function:f:1",
                "210987654321",
                "f",
                Some("1"),
            ),
            ("arn:aws:lambda:f:live", "123456789012", "f", Some("live")),
        ] {
            let got = FunctionRef::resolve(text, None, &scope()).unwrap();
            assert_eq!(
                (got.account.as_str(), got.name.as_str()),
                (account, name),
                "{text}"
            );
            let shown = got.qualifier.map(|q| q.to_string());
            assert_eq!(shown.as_deref(), qualifier, "{text}");
        }
    }

    #[test]
    fn what_nothing_can_be_called_is_not_found() {
        let long = "x".repeat(65);
        for name in ["a.b", long.as_str(), "f:$LATEST.PUBLISHED", "f:a$b"] {
            let error = FunctionRef::resolve(name, None, &scope()).unwrap_err();
            assert_eq!(error.code, ErrorCode::NotFound, "{name}");
            assert_eq!(
                error.message,
                format!(
                    "Function not found: arn:aws:lambda:us-east-1:123456789012:function:{name}"
                )
            );
        }
        for name in ["a b", "", "a:b:c", "arn:aws:s3:::b"] {
            let error = FunctionRef::resolve(name, None, &scope()).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidParameterValue, "{name}");
        }
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
