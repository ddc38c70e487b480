//! What log groups and log streams may be called, and how Lambda calls its own.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::violation::Violation;
use crate::error::{Error, ErrorCode};
use crate::ids::{UnixMs, Version};
use crate::name::FunctionName;

/// Longest name of a group or stream, characters: "Log group names can be between 1 and 512 characters long."
pub const NAME_MAX: usize = 512;

/// `LogGroupName` of the service model.
const GROUP_PATTERN: &str = r"[\.\-_/#A-Za-z0-9]+";
/// `LogStreamName` of the service model.
const STREAM_PATTERN: &str = "[^:*]*";
/// Before the function's name in that of its own group.
const FUNCTION_GROUP: &str = "/aws/lambda/";

/// Name of a log group: "Log group names consist of the following characters: a-z, A-Z, 0-9, '_' (underscore), '-' (hyphen),
/// '/' (forward slash), '.' (period), and '#' (number sign)".
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GroupName(Arc<str>);

/// Name of a log stream: "Don't use ':' (colon) or '*' (asterisk) characters."
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StreamName(Arc<str>);

/// A group that nobody may create.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Log groups starting with AWS/ are reserved for AWS.")]
pub struct ReservedGroupError;

impl From<ReservedGroupError> for Error {
    fn from(error: ReservedGroupError) -> Self {
        Self::new(ErrorCode::InvalidParameterValue, error.to_string())
    }
}

fn is_of_group(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/' | '#')
}

fn is_of_stream(c: char) -> bool {
    !matches!(c, ':' | '*')
}

impl GroupName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The group of a function unless its `LoggingConfig` names another: "By default, Lambda functions send logs to a default
    /// log group named `/aws/lambda/<function name>`."
    pub fn of_function(name: &FunctionName) -> Self {
        // A function's name has at most 64 characters, all of them fit for a group's.
        Self(format!("{FUNCTION_GROUP}{name}").into())
    }

    /// The group a function writes to: that of its `LoggingConfig`, or its own.
    pub fn written_by(name: &FunctionName, configured: Option<&str>) -> Result<Self, Violation> {
        configured.map_or_else(|| Ok(Self::of_function(name)), str::parse)
    }

    /// Refuses what cannot be created: "Log group names can't start with the string aws/".
    pub fn check_new(&self) -> Result<(), ReservedGroupError> {
        let start = self.0.get(..4).unwrap_or_default();
        if start.eq_ignore_ascii_case("aws/") {
            return Err(ReservedGroupError);
        }
        Ok(())
    }
}

impl StreamName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GroupName {
    type Err = Violation;
    fn from_str(s: &str) -> Result<Self, Violation> {
        Violation::check_text("logGroupName", s, NAME_MAX, GROUP_PATTERN, is_of_group)?;
        Ok(Self(s.into()))
    }
}

impl FromStr for StreamName {
    type Err = Violation;
    fn from_str(s: &str) -> Result<Self, Violation> {
        Violation::check_text("logStreamName", s, NAME_MAX, STREAM_PATTERN, is_of_stream)?;
        Ok(Self(s.into()))
    }
}

macro_rules! text {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = Violation;
            fn try_from(value: String) -> Result<Self, Violation> { value.parse() }
        }
        impl From<$name> for String {
            fn from(name: $name) -> Self { name.0.as_ref().to_owned() }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
    )*};
}
text!(GroupName, StreamName);

/// What the name of a sandbox's stream is made of.
#[derive(Clone, Copy, Debug)]
pub struct SandboxFacts<'a> {
    /// When the sandbox was made; its stream keeps that day's name.
    pub born: UnixMs,
    /// Unqualified.
    pub function: &'a FunctionName,
    /// `$LATEST` or a number.
    pub version: &'a Version,
    /// 32 hexadecimal digits, unlike any other sandbox's.
    pub instance: &'a str,
}

impl SandboxFacts<'_> {
    /// The name of the sandbox's stream in a group: `YYYY/MM/DD/[version]instance` in the function's own group. In another it
    /// has the function's name as well, "The log stream naming format for custom log groups follows this convention:
    /// `YYYY/MM/DD/<function_name>[<function_version>][<execution_environment_GUID>]`"
    /// (<https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-loggroups.html>); the brackets about the last
    /// part are not in the names.
    pub fn stream_in(&self, group: &GroupName) -> Result<StreamName, Violation> {
        let Self {
            born,
            function,
            version,
            instance,
        } = self;
        let (year, month, day) = civil(*born);
        let is_own = *group == GroupName::of_function(function);
        let name = if is_own { "" } else { function.as_str() };
        format!("{year:04}/{month:02}/{day:02}/{name}[{version}]{instance}").parse()
    }
}

/// Year, month and day of a time; the first day of all if there is none.
fn civil(at: UnixMs) -> (i32, u8, u8) {
    let seconds = i64::try_from(at.0 / 1_000).unwrap_or(i64::MAX);
    let day = OffsetDateTime::from_unix_timestamp(seconds)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
        .date();
    (day.year(), day.month().into(), day.day())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_the_characters_of_the_model() {
        for name in ["/aws/lambda/f", "a", "a.b-c_d/e#9", &"x".repeat(512)] {
            assert_eq!(name.parse::<GroupName>().unwrap().as_str(), name);
        }
        let error = |name: &str| name.parse::<GroupName>().unwrap_err().to_string();
        assert_eq!(
            error("a b"),
            r"1 validation error detected: Value 'a b' at 'logGroupName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\.\-_/#A-Za-z0-9]+"
        );
        assert!(error("").ends_with("Member must have length greater than or equal to 1"));
        let long = error(&"x".repeat(513));
        assert!(long.ends_with("Member must have length less than or equal to 512"));
    }

    #[test]
    fn streams_are_anything_without_colon_and_asterisk() {
        for name in ["2030/01/02/[$LATEST]ab", "é ü", "a/b", &"é".repeat(512)] {
            assert_eq!(name.parse::<StreamName>().unwrap().as_str(), name);
        }
        let long = "é".repeat(513);
        for name in ["", "a:b", "a*", long.as_str()] {
            assert!(name.parse::<StreamName>().is_err(), "{name}");
        }
    }

    #[test]
    fn nobody_creates_a_group_of_aws() {
        let check = |name: &str| name.parse::<GroupName>().unwrap().check_new();
        assert_eq!(check("aws/f"), Err(ReservedGroupError));
        assert_eq!(check("AWS/f"), Err(ReservedGroupError));
        assert_eq!(check("/aws/lambda/f"), Ok(()));
        assert_eq!(check("aws"), Ok(()));
    }

    #[test]
    fn a_sandbox_names_its_function_where_others_write_too() {
        let function: FunctionName = "my-function".parse().unwrap();
        let instance = "0123456789abcdef0123456789abcdef";
        let own = GroupName::written_by(&function, None).unwrap();
        assert_eq!(own.as_str(), "/aws/lambda/my-function");
        let other = GroupName::written_by(&function, Some("all")).unwrap();
        let name = |version: &str, group| {
            let facts = SandboxFacts {
                // 2024-02-29T23:59:59.999Z
                born: UnixMs(1_709_251_199_999),
                function: &function,
                version: &version.parse().unwrap(),
                instance,
            };
            facts.stream_in(group).unwrap().to_string()
        };
        assert_eq!(
            name("$LATEST", &own),
            format!("2024/02/29/[$LATEST]{instance}")
        );
        assert_eq!(
            name("12", &other),
            format!("2024/02/29/my-function[12]{instance}")
        );
    }
}
