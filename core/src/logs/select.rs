//! Which streams of a group a request means.

use std::collections::BTreeSet;

use super::name::StreamName;
use super::violation::Violation;
use crate::error::{Error, ErrorCode};

/// Names or prefixes a request may have: `InputLogStreamNames` of the service model.
pub const STREAMS_MAX: usize = 100;

/// Why a request's streams cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamsError {
    /// A name is none, or there are too many.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// FilterLogEvents: "If you specify a value for both logStreamNames and logStreamNamePrefix, the action returns an
    /// InvalidParameterException error." StartLiveTail: "If you specify this field, you can't also specify the
    /// logStreamNamePrefixes field."
    #[error(
        "logStreamNames and {0} are mutually exclusive. Only one of these parameters can be passed."
    )]
    Both(&'static str),
    /// "You can specify this parameter only if you specify only one log group in logGroupIdentifiers."
    #[error("{0} can be specified only with one log group")]
    ManyGroups(&'static str),
}

impl From<StreamsError> for Error {
    fn from(error: StreamsError) -> Self {
        Self::new(ErrorCode::InvalidParameterValue, error.to_string())
    }
}

/// Streams of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Streams {
    /// Every one.
    All,
    /// These.
    Named(BTreeSet<StreamName>),
    /// Those with names that start with one of these.
    Prefixed(Vec<StreamName>),
}

impl Streams {
    /// What FilterLogEvents sends; a list that is empty is as one that is not there.
    pub fn of_filter(names: &[&str], prefix: Option<&str>) -> Result<Self, StreamsError> {
        let prefixes: Vec<&str> = prefix.into_iter().collect();
        Self::read(names, &prefixes, "logStreamNamePrefix")
    }

    /// What StartLiveTail sends.
    pub(super) fn of_tail(
        names: &[&str],
        prefixes: &[&str],
        groups: usize,
    ) -> Result<Self, StreamsError> {
        let streams = Self::read(names, prefixes, "logStreamNamePrefixes")?;
        match &streams {
            Self::Named(_) if groups != 1 => Err(StreamsError::ManyGroups("logStreamNames")),
            Self::Prefixed(_) if groups != 1 => {
                Err(StreamsError::ManyGroups("logStreamNamePrefixes"))
            }
            Self::All | Self::Named(_) | Self::Prefixed(_) => Ok(streams),
        }
    }

    fn read(
        names: &[&str],
        prefixes: &[&str],
        prefix_member: &'static str,
    ) -> Result<Self, StreamsError> {
        for (member, list) in [("logStreamNames", names), (prefix_member, prefixes)] {
            if list.len() > STREAMS_MAX {
                let value = format!("{} names", list.len());
                return Err(Violation::too_long(member, value, STREAMS_MAX).into());
            }
        }
        let parse = |list: &[&str]| list.iter().map(|name| name.parse()).collect::<Vec<_>>();
        match (names, prefixes) {
            ([], []) => Ok(Self::All),
            (names, []) => {
                let names: Result<_, Violation> = parse(names).into_iter().collect();
                Ok(Self::Named(names?))
            }
            ([], prefixes) => {
                let prefixes: Result<_, Violation> = parse(prefixes).into_iter().collect();
                Ok(Self::Prefixed(prefixes?))
            }
            (_, _) => Err(StreamsError::Both(prefix_member)),
        }
    }

    /// Whether a stream is one of them.
    pub fn includes(&self, stream: &StreamName) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.contains(stream),
            Self::Prefixed(prefixes) => prefixes
                .iter()
                .any(|prefix| stream.as_str().starts_with(prefix.as_str())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn includes(streams: &Streams, name: &str) -> bool {
        streams.includes(&name.parse().unwrap())
    }

    #[test]
    fn streams_are_all_or_named_or_have_a_prefix() {
        let all = Streams::of_filter(&[], None).unwrap();
        assert!(includes(&all, "a"));
        let named = Streams::of_filter(&["a", "b"], None).unwrap();
        assert!(includes(&named, "a") && !includes(&named, "ab"));
        let prefixed = Streams::of_filter(&[], Some("a")).unwrap();
        assert!(includes(&prefixed, "ab") && !includes(&prefixed, "ba"));
    }

    #[test]
    fn names_and_a_prefix_are_too_much() {
        assert_eq!(
            Streams::of_filter(&["a"], Some("b")),
            Err(StreamsError::Both("logStreamNamePrefix"))
        );
        assert!(Streams::of_filter(&["a:b"], None).is_err());
        assert!(Streams::of_filter(&[], Some("")).is_err());
        assert!(Streams::of_filter(&["a"; 100], None).is_ok());
        assert!(Streams::of_filter(&["a"; 101], None).is_err());
    }

    #[test]
    fn a_tail_of_many_groups_has_all_streams() {
        assert_eq!(Streams::of_tail(&[], &[], 3), Ok(Streams::All));
        assert!(Streams::of_tail(&["a"], &[], 1).is_ok());
        let many = |members| Err(StreamsError::ManyGroups(members));
        assert_eq!(Streams::of_tail(&["a"], &[], 2), many("logStreamNames"));
        assert_eq!(
            Streams::of_tail(&[], &["a"], 2),
            many("logStreamNamePrefixes")
        );
    }
}
