//! Identifiers as newtypes, so that an account can never be passed where a function is meant.
//! Parsing of names as users write them is in `name`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::FunctionName;

/// An identifier that is not of the form it must have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {rule}, not {value:?}")]
pub struct IdError {
    what: &'static str,
    rule: &'static str,
    value: String,
}

impl IdError {
    pub(crate) fn function_name(value: &str) -> Self {
        Self {
            what: "function name",
            rule: "1 to 64 letters, digits, '-' and '_'",
            value: value.to_owned(),
        }
    }
    pub(crate) fn weight(value: &str) -> Self {
        Self {
            what: "weight",
            rule: "a number from 0 to 1",
            value: value.to_owned(),
        }
    }
    pub(crate) fn layer_name(value: &str) -> Self {
        Self {
            what: "layer name",
            rule: "1 to 140 letters, digits, '-' and '_'",
            value: value.to_owned(),
        }
    }
    pub(crate) fn layer_arn(value: &str) -> Self {
        Self {
            what: "layer ARN",
            rule: "arn:aws:lambda:REGION:ACCOUNT:layer:NAME, with :VERSION for a version",
            value: value.to_owned(),
        }
    }
    pub(crate) fn qualifier(value: &str) -> Self {
        Self {
            what: "qualifier",
            rule: "$LATEST, a version number or an alias",
            value: value.to_owned(),
        }
    }
}

/// Twelve digits that own functions; the first part of every key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountId(String);

impl AccountId {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for AccountId {
    type Error = IdError;
    fn try_from(value: String) -> Result<Self, IdError> {
        if value.len() == 12 && value.bytes().all(|b| b.is_ascii_digit()) {
            Ok(Self(value))
        } else {
            Err(IdError {
                what: "account id",
                rule: "12 digits",
                value,
            })
        }
    }
}

impl FromStr for AccountId {
    type Err = IdError;
    fn from_str(s: &str) -> Result<Self, IdError> {
        Self::try_from(s.to_owned())
    }
}

impl From<AccountId> for String {
    fn from(id: AccountId) -> Self {
        id.0
    }
}

/// SHA-256 of a blob; its only name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub [u8; 32]);

impl TryFrom<String> for Digest {
    type Error = IdError;
    fn try_from(value: String) -> Result<Self, IdError> {
        value.parse()
    }
}

impl FromStr for Digest {
    type Err = IdError;
    fn from_str(s: &str) -> Result<Self, IdError> {
        let bad = || IdError {
            what: "digest",
            rule: "64 lower-case hexadecimal digits",
            value: s.to_owned(),
        };
        let nibble = |b: u8| match b {
            b'0'..=b'9' => Some(b - b'0'),
            b'a'..=b'f' => Some(b - b'a' + 10),
            _ => None,
        };
        let (pairs, rest) = s.as_bytes().as_chunks::<2>();
        if pairs.len() != 32 || !rest.is_empty() {
            return Err(bad());
        }
        let mut out = [0u8; 32];
        for (byte, [high, low]) in out.iter_mut().zip(pairs) {
            *byte = nibble(*high).ok_or_else(bad)? << 4 | nibble(*low).ok_or_else(bad)?;
        }
        Ok(Self(out))
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! display_as_inner {
    ($($t:ty),*) => {$(
        impl fmt::Display for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { fmt::Display::fmt(&self.0, f) }
        }
        impl fmt::Debug for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { fmt::Display::fmt(&self.0, f) }
        }
    )*};
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);
        display_as_inner!($name);
    };
}

display_as_inner!(AccountId);
number!(
    /// A node of the cluster, unique over all roles; never reused for another data dir.
    NodeId
);
number!(
    /// One life of a worker process; a newer one makes everything said of the older void.
    Incarnation
);
number!(
    /// Version of a grant: the log index of the entry that committed it.
    GrantSequence
);
number!(
    /// Monotonic milliseconds of one node's clock; comparable on that node alone.
    MonotonicMs
);
number!(
    /// Milliseconds since the Unix epoch, fixed by whoever proposes a command.
    UnixMs
);

impl MonotonicMs {
    /// Milliseconds from `earlier` to `self`, zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
    /// `self` and `ms` later.
    pub fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

impl Digest {
    /// In base64, as AWS shows `CodeSha256`.
    pub fn base64(&self) -> String {
        const LETTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::with_capacity(44);
        for three in self.0.chunks(3) {
            let byte = |i: usize| u32::from(three.get(i).copied().unwrap_or(0));
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            for i in 0..4 {
                let letter = LETTERS[(bits >> (18 - 6 * i) & 63) as usize];
                text.push(if i > three.len() {
                    '='
                } else {
                    char::from(letter)
                });
            }
        }
        text
    }
}

/// Which snapshot of a function: the mutable one or a published, immutable one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Version {
    /// `$LATEST`.
    Latest,
    /// A published version, from 1.
    Number(u64),
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("$LATEST"),
            Self::Number(n) => write!(f, "{n}"),
        }
    }
}

impl TryFrom<String> for Version {
    type Error = IdError;
    fn try_from(value: String) -> Result<Self, IdError> {
        if value == "$LATEST" {
            return Ok(Self::Latest);
        }
        match value.parse() {
            // `+1` and `01` are no versions: what is shown again must be what was asked for.
            Ok(n) if n > 0 && !value.starts_with(['+', '0']) => Ok(Self::Number(n)),
            _ => Err(IdError {
                what: "version",
                rule: "$LATEST or a number from 1",
                value,
            }),
        }
    }
}

impl FromStr for Version {
    type Err = IdError;
    fn from_str(s: &str) -> Result<Self, IdError> {
        Self::try_from(s.to_owned())
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

/// What a concurrency limit is counted over. An invocation draws from exactly one pool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PoolKey {
    /// The owner.
    pub account: AccountId,
    /// The function whose pool this is; `None` is the account's unreserved pool.
    pub function: Option<FunctionName>,
    /// The published version whose provisioned concurrency this is; `None` is the function's reserved pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioned: Option<u64>,
}

impl PoolKey {
    /// What the account's functions without a reservation share.
    pub fn unreserved(account: &AccountId) -> Self {
        Self {
            account: account.clone(),
            function: None,
            provisioned: None,
        }
    }

    /// A function's reserved concurrency.
    pub fn reserved(account: &AccountId, function: &FunctionName) -> Self {
        Self {
            account: account.clone(),
            function: Some(function.clone()),
            provisioned: None,
        }
    }

    /// A version's provisioned concurrency.
    pub fn provisioned(account: &AccountId, function: &FunctionName, version: u64) -> Self {
        Self {
            account: account.clone(),
            function: Some(function.clone()),
            provisioned: Some(version),
        }
    }
}

impl fmt::Display for PoolKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.account)?;
        if let Some(function) = &self.function {
            write!(f, "/{function}")?;
        }
        if let Some(version) = self.provisioned {
            write!(f, ":{version}")?;
        }
        Ok(())
    }
}

/// What a sandbox serves for life.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VersionKey {
    /// The owner.
    pub account: AccountId,
    /// The function.
    pub function: FunctionName,
    /// The version.
    pub version: Version,
    /// Log index of the last change of code or configuration: `$LATEST` is a new thing after each.
    pub generation: u64,
}

impl fmt::Display for VersionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}:{}#{}",
            self.account, self.function, self.version, self.generation
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_id_is_twelve_digits() {
        assert!("123456789012".parse::<AccountId>().is_ok());
        for bad in [
            "",
            "12345678901",
            "1234567890123",
            "12345678901a",
            "１２３４５６７８９０１２",
        ] {
            assert!(bad.parse::<AccountId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn digest_text_round_trips_and_rejects_other_text() {
        let digest = Digest([0xa5; 32]);
        assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
        for bad in [
            "",
            "a5",
            &"A5".repeat(32),
            &"a5".repeat(33),
            &"zz".repeat(32),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_digest_in_base64_is_what_aws_shows() {
        for (byte, text) in [
            (7, "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="),
            (255, "//////////////////////////////////////////8="),
        ] {
            assert_eq!(Digest([byte; 32]).base64(), text);
        }
    }

    #[test]
    fn version_is_latest_or_a_positive_number() {
        assert_eq!("$LATEST".parse(), Ok(Version::Latest));
        assert_eq!("7".parse(), Ok(Version::Number(7)));
        assert!("0".parse::<Version>().is_err());
        assert!("latest".parse::<Version>().is_err());
    }
}
