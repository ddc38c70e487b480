//! Pages of DescribeLogGroups and DescribeLogStreams.

use super::{DESCRIBE_MAX, PageError, Scope, limit};
use crate::logs::violation::Violation;

/// What pages need to know of a group or stream.
pub trait Described {
    /// Its name.
    fn name(&self) -> &str;
    /// Of a stream when its newest event was; `None`: it has none, or is a group.
    fn last_event_ms(&self) -> Option<u64>;
}

/// Which of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameFilter {
    /// All.
    All,
    /// `logGroupNamePrefix`, `logStreamNamePrefix`.
    Prefix(String),
    /// `logGroupNamePattern`: "the operation returns only log groups that have names that match the string based on a
    /// case-sensitive substring search."
    Contains(String),
}

impl NameFilter {
    fn includes(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Prefix(prefix) => name.starts_with(prefix),
            Self::Contains(part) => name.contains(part),
        }
    }
}

/// How they are ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OrderBy {
    /// `LogStreamName`, the default; groups always: "The results are ASCII-sorted by log group name."
    #[default]
    Name,
    /// `LastEventTime`: "the results are ordered by the event time". Of the same time by name.
    LastEventTime,
}

impl OrderBy {
    /// Reads `orderBy`.
    pub fn parse(sent: Option<&str>) -> Result<Self, PageError> {
        match sent {
            None | Some("LogStreamName") => Ok(Self::Name),
            Some("LastEventTime") => Ok(Self::LastEventTime),
            Some(other) => Err(Violation {
                member: "orderBy",
                value: other.to_owned(),
                constraint: "Member must satisfy enum value set: [LogStreamName, LastEventTime]"
                    .to_owned(),
            }
            .into()),
        }
    }
}

/// What of a request says which groups or streams.
#[derive(Clone, Copy, Debug, Default)]
pub struct DescribeRequest<'a> {
    /// With such names.
    pub prefix: Option<&'a str>,
    /// Groups only.
    pub pattern: Option<&'a str>,
    /// Streams only.
    pub order: OrderBy,
    /// Streams only: "If the value is true, results are returned in descending order."
    pub is_descending: bool,
    /// The token of the page before.
    pub token: Option<&'a str>,
    /// 1 to 50.
    pub limit: Option<i64>,
}

/// Time, if that is the order, and name: what the order is by.
type Key = (u64, String);

/// A request that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribeQuery {
    scope: Scope,
    filter: NameFilter,
    order: OrderBy,
    is_descending: bool,
    /// The last one of the page before.
    after: Option<Key>,
    limit: usize,
}

/// A page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribePage<'d, D> {
    /// In the order that was asked for.
    pub entries: Vec<&'d D>,
    /// `None`: there are no more.
    pub next: Option<String>,
}

impl DescribeQuery {
    /// Reads a request about an account's groups or a group's streams.
    pub fn new(scope: Scope, request: &DescribeRequest<'_>) -> Result<Self, PageError> {
        let limit = limit(request.limit, DESCRIBE_MAX)?;
        if request.order == OrderBy::LastEventTime && request.prefix.is_some() {
            return Err(PageError::PrefixByTime);
        }
        let filter = match (request.prefix, request.pattern) {
            (None, None) => NameFilter::All,
            (Some(prefix), None) => NameFilter::Prefix(prefix.to_owned()),
            (None, Some(part)) => NameFilter::Contains(part.to_owned()),
            (Some(_), Some(_)) => return Err(PageError::TwoFilters),
        };
        let mut query = Self {
            scope,
            filter,
            order: request.order,
            is_descending: request.is_descending,
            after: None,
            limit,
        };
        query.after = request.token.map(|token| query.read(token)).transpose()?;
        Ok(query)
    }

    /// The page of entries that come in any order.
    pub fn page<'d, D: Described>(
        &self,
        entries: impl IntoIterator<Item = &'d D>,
    ) -> DescribePage<'d, D> {
        let is_behind = |key: &(u64, &str)| {
            self.after.as_ref().is_none_or(|(time, name)| {
                let after = (*time, name.as_str());
                if self.is_descending {
                    *key < after
                } else {
                    *key > after
                }
            })
        };
        let entries = entries.into_iter();
        let mut found: Vec<_> = entries
            .filter(|entry| self.filter.includes(entry.name()))
            .map(|entry| (self.key(entry), entry))
            .filter(|(key, _)| is_behind(key))
            .collect();
        found.sort_unstable_by(|(a, _), (b, _)| {
            if self.is_descending {
                b.cmp(a)
            } else {
                a.cmp(b)
            }
        });
        let has_more = found.len() > self.limit;
        found.truncate(self.limit);
        let last = found.last().filter(|_| has_more);
        DescribePage {
            next: last.map(|((time, name), _)| self.write(*time, name)),
            entries: found.into_iter().map(|(_, entry)| entry).collect(),
        }
    }

    fn key<'d>(&self, entry: &'d impl Described) -> (u64, &'d str) {
        let time = match self.order {
            OrderBy::Name => 0,
            OrderBy::LastEventTime => entry.last_event_ms().unwrap_or(0),
        };
        (time, entry.name())
    }

    fn write(&self, time: u64, name: &str) -> String {
        let kind = match (self.order, self.is_descending) {
            (OrderBy::Name, false) => "na",
            (OrderBy::Name, true) => "nd",
            (OrderBy::LastEventTime, false) => "ta",
            (OrderBy::LastEventTime, true) => "td",
        };
        let text = format!("{time:016x}/{name}");
        let check = self.scope.check(kind, text.as_bytes());
        format!("{check:012x}{text}")
    }

    fn read(&self, token: &str) -> Result<Key, PageError> {
        let (head, name) = token.split_once('/').ok_or(PageError::Token)?;
        let time = head.get(12..).ok_or(PageError::Token)?;
        let time = u64::from_str_radix(time, 16).map_err(|_| PageError::Token)?;
        if self.write(time, name) != token {
            return Err(PageError::Token);
        }
        Ok((time, name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Entry(String, Option<u64>);

    impl Described for Entry {
        fn name(&self) -> &str {
            &self.0
        }
        fn last_event_ms(&self) -> Option<u64> {
            self.1
        }
    }

    fn scope() -> Scope {
        Scope::group(&"g".parse().unwrap())
    }

    /// All pages, one after another.
    fn all(entries: &[Entry], request: DescribeRequest<'_>) -> Vec<String> {
        let (mut names, mut token) = (Vec::new(), None::<String>);
        loop {
            let request = DescribeRequest {
                token: token.as_deref(),
                ..request
            };
            let page = DescribeQuery::new(scope(), &request).unwrap().page(entries);
            names.extend(page.entries.iter().map(|entry| entry.0.clone()));
            token = page.next;
            if token.is_none() {
                return names;
            }
        }
    }

    fn entries() -> Vec<Entry> {
        let entry = |name: &str, last| Entry(name.to_owned(), last);
        vec![
            entry("DataLogs", Some(3)),
            entry("aws/DataLogs", None),
            entry("datalogs", Some(9)),
            entry("Z", Some(3)),
        ]
    }

    #[test]
    fn names_are_found_and_ordered() {
        let one = DescribeRequest {
            limit: Some(1),
            ..DescribeRequest::default()
        };
        let names = |request| all(&entries(), request);
        assert_eq!(names(one), ["DataLogs", "Z", "aws/DataLogs", "datalogs"]);
        assert_eq!(
            names(DescribeRequest {
                prefix: Some("da"),
                ..one
            }),
            ["datalogs"]
        );
        let pattern = Some("DataLogs");
        assert_eq!(
            names(DescribeRequest { pattern, ..one }),
            ["DataLogs", "aws/DataLogs"]
        );
        let newest = DescribeRequest {
            order: OrderBy::LastEventTime,
            is_descending: true,
            ..one
        };
        assert_eq!(names(newest), ["datalogs", "Z", "DataLogs", "aws/DataLogs"]);
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let refused =
            |request: DescribeRequest<'_>| DescribeQuery::new(scope(), &request).unwrap_err();
        let both = DescribeRequest {
            prefix: Some("a"),
            pattern: Some("a"),
            ..DescribeRequest::default()
        };
        assert_eq!(refused(both), PageError::TwoFilters);
        let by_time = DescribeRequest {
            prefix: Some("a"),
            order: OrderBy::LastEventTime,
            ..DescribeRequest::default()
        };
        assert_eq!(refused(by_time), PageError::PrefixByTime);
        for limit in [0, 51, -1] {
            let limit = Some(limit);
            let request = DescribeRequest {
                limit,
                ..DescribeRequest::default()
            };
            assert!(matches!(refused(request), PageError::Violation(_)));
        }
        assert!(OrderBy::parse(Some("Name")).is_err());
    }

    #[test]
    fn a_token_is_of_its_order() {
        let one = DescribeRequest {
            limit: Some(1),
            ..DescribeRequest::default()
        };
        let entries = entries();
        let token = DescribeQuery::new(scope(), &one)
            .unwrap()
            .page(&entries)
            .next
            .unwrap();
        let turned = DescribeRequest {
            token: Some(&token),
            is_descending: true,
            ..one
        };
        assert_eq!(
            DescribeQuery::new(scope(), &turned).unwrap_err(),
            PageError::Token
        );
    }

    proptest! {
        #[test]
        fn garbage_is_refused(token in any::<String>(), like in "[0-9a-f]{28}/[a-z]{0,3}") {
            for token in [token, like] {
                let request = DescribeRequest { token: Some(&token), ..DescribeRequest::default() };
                prop_assert_eq!(DescribeQuery::new(scope(), &request).unwrap_err(), PageError::Token);
            }
        }

        #[test]
        fn pages_are_all_entries_once(
            times in prop::collection::btree_map("[ab/]{1,4}", prop::option::of(0_u64..4), 0..30),
            limit in 1_i64..9, by_time: bool, is_descending: bool,
        ) {
            let mut entries: Vec<_> = times.into_iter().map(|(name, time)| Entry(name, time)).collect();
            let order = if by_time { OrderBy::LastEventTime } else { OrderBy::Name };
            let request = DescribeRequest { order, is_descending, limit: Some(limit), ..DescribeRequest::default() };
            let names = all(&entries, request);
            if by_time {
                entries.sort_by_key(|entry| (entry.1.unwrap_or(0), entry.0.clone()));
            }
            if is_descending {
                entries.reverse();
            }
            prop_assert_eq!(names, entries.into_iter().map(|entry| entry.0).collect::<Vec<_>>());
        }
    }
}
