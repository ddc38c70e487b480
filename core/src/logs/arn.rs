//! ARNs of groups and streams, and what names a group in a request.

use std::fmt;
use std::str::FromStr;

use super::name::{GroupName, StreamName};
use super::violation::Violation;
use crate::error::{Error, ErrorCode};
use crate::ids::AccountId;

/// `LogGroupIdentifier` of the service model.
const IDENTIFIER_PATTERN: &str = r"[\w#+=/:,.@-]*";
const IDENTIFIER_MAX: usize = 2_048;

/// Why a request's group cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// A name or identifier is none.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// An ARN is none of a group.
    #[error("{0} is not the ARN of a log group")]
    Arn(String),
    /// "You must include either logGroupIdentifier or logGroupName, but not both."
    #[error("You must include either logGroupIdentifier or logGroupName, but not both.")]
    NotOne,
    /// The group is another account's or region's.
    #[error("The specified log group does not exist.")]
    Elsewhere,
}

impl From<GroupError> for Error {
    fn from(error: GroupError) -> Self {
        let code = match error {
            GroupError::Violation(_) | GroupError::Arn(_) | GroupError::NotOne => {
                ErrorCode::InvalidParameterValue
            }
            GroupError::Elsewhere => ErrorCode::NotFound,
        };
        Self::new(code, error.to_string())
    }
}

/// A group or stream with where it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogArn {
    /// `us-east-1`.
    pub region: String,
    /// Whose.
    pub account: AccountId,
    /// The group.
    pub group: GroupName,
    /// The stream, if it is one that is meant.
    pub stream: Option<StreamName>,
}

impl LogArn {
    /// Of a group.
    pub fn group(region: impl Into<String>, account: AccountId, group: GroupName) -> Self {
        Self {
            region: region.into(),
            account,
            group,
            stream: None,
        }
    }

    /// Of a stream of the same group.
    #[must_use]
    pub fn with_stream(mut self, stream: StreamName) -> Self {
        self.stream = Some(stream);
        self
    }

    /// `logGroupArn`: "This version of the ARN doesn't include a trailing :* after the log group name."
    pub fn plain(&self) -> String {
        let Self {
            region,
            account,
            group,
            ..
        } = self;
        format!("arn:aws:logs:{region}:{account}:log-group:{group}")
    }

    /// `arn` of a group: "This version of the ARN includes a trailing :* after the log group name. Use this version to refer to
    /// the ARN in IAM policies when specifying permissions for most API actions."
    pub fn starred(&self) -> String {
        format!("{}:*", self.plain())
    }
}

/// `arn` as the descriptions of groups and streams have it.
impl fmt::Display for LogArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.stream {
            None => f.write_str(&self.starred()),
            Some(stream) => write!(f, "{}:log-stream:{stream}", self.plain()),
        }
    }
}

/// Both forms of a group's, and a stream's.
impl FromStr for LogArn {
    type Err = GroupError;
    fn from_str(text: &str) -> Result<Self, GroupError> {
        let none = || GroupError::Arn(text.to_owned());
        let rest = text.strip_prefix("arn:aws:logs:").ok_or_else(none)?;
        let mut parts = rest.splitn(4, ':');
        let (region, account) = (parts.next(), parts.next());
        let (Some("log-group"), Some(path)) = (parts.next(), parts.next()) else {
            return Err(none());
        };
        let region = region.filter(|region| !region.is_empty());
        let account = account.and_then(|account| account.parse().ok());
        let (name, stream) = match path.split_once(':') {
            None | Some((_, "*")) => (path.strip_suffix(":*").unwrap_or(path), None),
            Some((name, stream)) => {
                let stream = stream.strip_prefix("log-stream:").ok_or_else(none)?;
                (name, Some(stream.parse()?))
            }
        };
        Ok(Self {
            region: region.ok_or_else(none)?.to_owned(),
            account: account.ok_or_else(none)?,
            group: name.parse()?,
            stream,
        })
    }
}

/// What names a group in a request: "Specify either the name or ARN of the log group to view."
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupIdentifier {
    /// A name, of the caller's account.
    Name(GroupName),
    /// An ARN without an asterisk.
    Arn(LogArn),
}

impl FromStr for GroupIdentifier {
    type Err = GroupError;
    fn from_str(text: &str) -> Result<Self, GroupError> {
        // The pattern has no asterisk: "If you specify an ARN, the ARN can't end with an asterisk (*)."
        Violation::check_text(
            "logGroupIdentifier",
            text,
            IDENTIFIER_MAX,
            IDENTIFIER_PATTERN,
            |c| c.is_ascii_alphanumeric() || "_#+=/:,.@-".contains(c),
        )?;
        if !text.starts_with("arn:") {
            return Ok(Self::Name(text.parse()?));
        }
        let arn: LogArn = text.parse()?;
        if arn.stream.is_some() {
            return Err(GroupError::Arn(text.to_owned()));
        }
        Ok(Self::Arn(arn))
    }
}

impl GroupIdentifier {
    /// The group, if it is of this region and account.
    pub fn within(self, region: &str, account: &AccountId) -> Result<GroupName, GroupError> {
        match self {
            Self::Name(name) => Ok(name),
            Self::Arn(arn) if arn.region == region && arn.account == *account => Ok(arn.group),
            Self::Arn(_) => Err(GroupError::Elsewhere),
        }
    }
}

/// The group of a request that has `logGroupName` and `logGroupIdentifier`: "You must include one of these two parameters, but
/// you can't include both."
pub fn one_group(
    name: Option<&str>,
    identifier: Option<&str>,
    region: &str,
    account: &AccountId,
) -> Result<GroupName, GroupError> {
    match (name, identifier) {
        (Some(name), None) => Ok(name.parse()?),
        (None, Some(identifier)) => identifier
            .parse::<GroupIdentifier>()?
            .within(region, account),
        (None, None) | (Some(_), Some(_)) => Err(GroupError::NotOne),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "arn:aws:logs:us-east-1:123456789012:log-group:/aws/lambda/f";

    fn account() -> AccountId {
        "123456789012".parse().unwrap()
    }

    #[test]
    fn a_group_has_two_arns_and_both_are_read() {
        let arn: LogArn = PLAIN.parse().unwrap();
        assert_eq!(
            (arn.plain(), arn.starred()),
            (PLAIN.into(), format!("{PLAIN}:*"))
        );
        assert_eq!(arn.to_string().parse::<LogArn>().unwrap(), arn);
        assert_eq!(arn.group.as_str(), "/aws/lambda/f");
    }

    #[test]
    fn a_stream_is_below_its_group() {
        let text = format!("{PLAIN}:log-stream:2030/01/02/[$LATEST]ab");
        let arn: LogArn = text.parse().unwrap();
        assert_eq!(
            arn.stream.as_ref().unwrap().as_str(),
            "2030/01/02/[$LATEST]ab"
        );
        assert_eq!(arn.to_string(), text);
    }

    #[test]
    fn what_is_no_arn_of_a_group_is_refused() {
        for text in [
            "",
            "arn:aws:s3:::b",
            "arn:aws:logs:us-east-1:123456789012:log-group",
            "arn:aws:logs:us-east-1:123456789012:log-group:",
            "arn:aws:logs:us-east-1:1:log-group:g",
            "arn:aws:logs::123456789012:log-group:g",
            "arn:aws:logs:us-east-1:123456789012:destination:g",
            "arn:aws:logs:us-east-1:123456789012:log-group:g:stream",
            "arn:aws:logs:us-east-1:123456789012:log-group:g:log-stream:",
            "arn:aws:logs:us-east-1:123456789012:log-group:g:*:*",
        ] {
            assert!(text.parse::<LogArn>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_request_names_one_group_of_here() {
        let one = |name, identifier| one_group(name, identifier, "us-east-1", &account());
        assert_eq!(one(Some("g"), None).unwrap().as_str(), "g");
        assert_eq!(one(None, Some("g")).unwrap().as_str(), "g");
        assert_eq!(one(None, Some(PLAIN)).unwrap().as_str(), "/aws/lambda/f");
        assert_eq!(one(None, None), Err(GroupError::NotOne));
        assert_eq!(one(Some("g"), Some("g")), Err(GroupError::NotOne));
        let other = PLAIN.replace("us-east-1", "eu-west-1");
        assert_eq!(one(None, Some(&other)), Err(GroupError::Elsewhere));
        let starred = format!("{PLAIN}:*");
        assert!(matches!(
            one(None, Some(&starred)),
            Err(GroupError::Violation(_))
        ));
    }
}
