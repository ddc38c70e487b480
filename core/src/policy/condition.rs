//! Conditions: operators, what they compare, and what they make of keys that a request does not have.

use core::net::IpAddr;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::pattern::Pattern;
use super::{Request, Values};

/// Parts of an ARN between its colons.
const ARN_PARTS: usize = 6;

/// What two values are compared as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    /// Text; also of `BinaryEquals`, which compares base64.
    Equal,
    /// Text in any case, and booleans.
    EqualInAnyCase,
    /// Text with wildcards.
    Like,
    /// ARNs: "each of the six colon-delimited components is checked separately".
    Arn,
    /// A number, or a time as seconds since 1970.
    Ordered(Scale, Order),
    /// An address in a network.
    Ip,
    /// Whether the key is absent.
    Null,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    Number,
    Date,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Which of a key's values have to match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quantity {
    /// The one that it has.
    One,
    /// `ForAllValues:`.
    All,
    /// `ForAnyValue:`.
    Any,
}

/// How a condition compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operator {
    test: Test,
    /// Holds unless it matches.
    is_negated: bool,
    /// `...IfExists`: holds when the request has no such key.
    if_exists: bool,
    quantity: Quantity,
}

impl Operator {
    pub(super) fn of(name: &str) -> Option<Self> {
        let (quantity, name) = if let Some(name) = name.strip_prefix("ForAllValues:") {
            (Quantity::All, name)
        } else if let Some(name) = name.strip_prefix("ForAnyValue:") {
            (Quantity::Any, name)
        } else {
            (Quantity::One, name)
        };
        let (name, if_exists) = match name.strip_suffix("IfExists") {
            Some(name) => (name, true),
            None => (name, false),
        };
        let (test, is_negated) = test(name)?;
        let is_possible = test != Test::Null || (!if_exists && quantity == Quantity::One);
        is_possible.then_some(Self {
            test,
            is_negated,
            if_exists,
            quantity,
        })
    }

    pub(super) fn holds(
        self,
        key: &str,
        of: &Values,
        request: &Request<'_>,
        has_variables: bool,
    ) -> bool {
        let is_there = request.values(key).next().is_some();
        if self.test == Test::Null {
            return of.any(|wanted| wanted.eq_ignore_ascii_case("true") != is_there);
        }
        if !is_there {
            return match self.quantity {
                Quantity::All => true,
                Quantity::Any => self.if_exists,
                Quantity::One => self.if_exists || self.is_negated,
            };
        }
        let mut values = request.values(key);
        let matches =
            |value: &str| of.any(|wanted| self.test.matches(wanted, value, request, has_variables));
        match (self.quantity, self.is_negated) {
            (Quantity::All, is_negated) => values.all(|value| matches(value) != is_negated),
            (Quantity::Any, is_negated) => values.any(|value| matches(value) != is_negated),
            (Quantity::One, false) => values.any(matches),
            (Quantity::One, true) => !values.any(matches),
        }
    }
}

fn test(name: &str) -> Option<(Test, bool)> {
    if let Some(scale) = name.strip_prefix("Numeric") {
        return ordered(Scale::Number, scale);
    }
    if let Some(scale) = name.strip_prefix("Date") {
        return ordered(Scale::Date, scale);
    }
    Some(match name {
        "StringEquals" | "BinaryEquals" => (Test::Equal, false),
        "StringNotEquals" => (Test::Equal, true),
        "StringEqualsIgnoreCase" | "Bool" => (Test::EqualInAnyCase, false),
        "StringNotEqualsIgnoreCase" => (Test::EqualInAnyCase, true),
        "StringLike" => (Test::Like, false),
        "StringNotLike" => (Test::Like, true),
        "ArnEquals" | "ArnLike" => (Test::Arn, false),
        "ArnNotEquals" | "ArnNotLike" => (Test::Arn, true),
        "IpAddress" => (Test::Ip, false),
        "NotIpAddress" => (Test::Ip, true),
        "Null" => (Test::Null, false),
        _ => return None,
    })
}

fn ordered(scale: Scale, name: &str) -> Option<(Test, bool)> {
    let (order, is_negated) = match name {
        "Equals" => (Order::Equal, false),
        "NotEquals" => (Order::Equal, true),
        "LessThan" => (Order::Less, false),
        "LessThanEquals" => (Order::LessOrEqual, false),
        "GreaterThan" => (Order::Greater, false),
        "GreaterThanEquals" => (Order::GreaterOrEqual, false),
        _ => return None,
    };
    Some((Test::Ordered(scale, order), is_negated))
}

impl Test {
    fn matches(
        self,
        wanted: &str,
        value: &str,
        request: &Request<'_>,
        has_variables: bool,
    ) -> bool {
        let exact = || Pattern::exact(wanted, request, has_variables);
        let like = || Pattern::new(wanted, request, has_variables);
        match self {
            Self::Equal => exact().is_some_and(|pattern| pattern.matches(value)),
            Self::EqualInAnyCase => {
                let pattern = exact().map(Pattern::in_lower_case);
                pattern.is_some_and(|pattern| pattern.matches(&value.to_ascii_lowercase()))
            }
            Self::Like => like().is_some_and(|pattern| pattern.matches(value)),
            Self::Arn => like().is_some_and(|pattern| {
                let (parts, values) = (pattern.parts(ARN_PARTS), value.splitn(ARN_PARTS, ':'));
                let values: Vec<&str> = values.collect();
                parts.len() == values.len()
                    && parts
                        .iter()
                        .zip(values)
                        .all(|(part, value)| part.matches(value))
            }),
            Self::Ordered(scale, order) => {
                let both = scale.read(value).zip(scale.read(wanted));
                both.is_some_and(|(value, wanted)| order.holds(value, wanted))
            }
            Self::Ip => is_within(value, wanted),
            // The caller's.
            Self::Null => false,
        }
    }
}

impl Scale {
    fn read(self, text: &str) -> Option<f64> {
        let number = text.trim().parse::<f64>().ok().filter(|n| n.is_finite());
        match self {
            Self::Number => number,
            Self::Date => number.or_else(|| seconds(text)),
        }
    }
}

/// A time as W3C's note on ISO 8601 writes it, as seconds since 1970.
fn seconds(text: &str) -> Option<f64> {
    let time = OffsetDateTime::parse(text, &Rfc3339);
    let time = time.or_else(|_| OffsetDateTime::parse(&format!("{text}T00:00:00Z"), &Rfc3339));
    #[expect(
        clippy::cast_precision_loss,
        reason = "exact for 10^5 years around 1970"
    )]
    time.ok().map(|time| time.unix_timestamp() as f64)
}

impl Order {
    fn holds(self, value: f64, wanted: f64) -> bool {
        let order = value.total_cmp(&wanted);
        match self {
            Self::Equal => order.is_eq(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

/// Whether an address is in a network, `203.0.113.0/24`, or is that address.
fn is_within(address: &str, network: &str) -> bool {
    let (network, prefix) = match network.split_once('/') {
        Some((network, prefix)) => (network, prefix.parse::<u32>().ok()),
        None => (network, Some(u32::MAX)),
    };
    let same = |a: u128, b: u128, bits: u32, prefix: u32| {
        let rest = bits - prefix.min(bits);
        a.checked_shr(rest).unwrap_or(0) == b.checked_shr(rest).unwrap_or(0)
    };
    match (address.parse(), network.parse(), prefix) {
        (Ok(IpAddr::V4(a)), Ok(IpAddr::V4(b)), Some(prefix)) => {
            same(u128::from(a.to_bits()), u128::from(b.to_bits()), 32, prefix)
        }
        (Ok(IpAddr::V6(a)), Ok(IpAddr::V6(b)), Some(prefix)) => {
            same(a.to_bits(), b.to_bits(), 128, prefix)
        }
        _ => false,
    }
}
