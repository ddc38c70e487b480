//! Valid values made from the constraint tables, and where in them each shape stands.

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};

use crate::shape::{Kind, Shape};

/// Patterns with anchors inside, which the string generator does not know, or that mean almost all of Unicode.
const BY_HAND: [(&str, &str); 6] = [
    ("AccountId", "123456789012"),
    ("LogStreamName", "stream"),
    ("TagKey", "key"),
    ("TagValue", "value"),
    ("DestinationArn", "kafka://topic"),
    (
        "FileSystemArn",
        "arn:aws:elasticfilesystem:us-east-1:123456789012:access-point/fsap-0123456789abcdef0",
    ),
];

/// A valid value with every member there.
pub(super) fn sample(shape: &'static Shape) -> Value {
    match shape.kind {
        Kind::Structure { members } => {
            let members = members.iter().map(|m| (m.name.to_owned(), sample(m.shape)));
            Value::Object(members.collect::<Map<_, _>>())
        }
        Kind::List { member, .. } => json!([sample(member)]),
        Kind::Map {
            key, value, min, ..
        } => {
            let key = sample(key).as_str().unwrap().to_owned();
            let count = usize::try_from(min.unwrap_or(1).max(1)).unwrap();
            let entries = (0..count).map(|i| (key.clone() + &"a".repeat(i), sample(value)));
            Value::Object(entries.collect())
        }
        Kind::String { .. } => Value::String(string(shape)),
        Kind::Integer { min, .. } | Kind::Long { min, .. } => json!(min.unwrap_or(1)),
        Kind::Double { min, .. } => json!(min.unwrap_or(1.0)),
        Kind::Boolean => Value::Bool(true),
        Kind::Blob { .. } => json!("AAEC"),
        Kind::Timestamp => json!(1_700_000_000),
    }
}

fn string(shape: &Shape) -> String {
    let Kind::String {
        min,
        max,
        pattern,
        values,
    } = shape.kind
    else {
        panic!("{} is no string", shape.name);
    };
    if let Some(first) = values.first() {
        return (*first).to_owned();
    }
    if let Some((_, text)) = BY_HAND.iter().find(|(name, _)| *name == shape.name) {
        return (*text).to_owned();
    }
    let length = usize::try_from(min.unwrap_or(1).max(1)).unwrap();
    let Some(pattern) = pattern else {
        return "a".repeat(length);
    };
    let longest = max.map_or(usize::MAX, |max| usize::try_from(max).unwrap());
    let strategy = proptest::string::string_regex(pattern.regex)
        .unwrap_or_else(|error| panic!("{}: {error}", shape.name));
    let mut runner = TestRunner::deterministic();
    (0..10_000)
        .map(|_| strategy.new_tree(&mut runner).unwrap().current())
        .find(|text| {
            // ASCII and not blank, so that the sample fits into a header too.
            let fits = (length..=longest).contains(&text.len());
            fits && text.trim() == text
                && text.chars().all(|c| c.is_ascii_graphic())
                && pattern.matches(text)
        })
        .unwrap_or_else(|| panic!("no sample for {}", shape.name))
}

/// A place in a sample: its JSON pointer, its path in messages, its shape.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) pointer: String,
    pub(super) path: String,
    pub(super) shape: &'static Shape,
    pub(super) required: bool,
    /// Whether the place is a simple element of a list: its constraints are told of the list.
    pub(super) element_of: Option<&'static Shape>,
}

/// All places in the sample of a shape, outside maps.
pub(super) fn places(shape: &'static Shape) -> Vec<Place> {
    let mut found = Vec::new();
    collect(shape, "", "", &mut found);
    found
}

fn collect(shape: &'static Shape, pointer: &str, path: &str, found: &mut Vec<Place>) {
    for member in shape.members() {
        let name = super::validate::lower_camel(member.name);
        let place = Place {
            pointer: format!("{pointer}/{}", member.name),
            path: if path.is_empty() {
                name
            } else {
                format!("{path}.{name}")
            },
            shape: member.shape,
            required: member.required,
            element_of: None,
        };
        found.push(place.clone());
        match member.shape.kind {
            Kind::Structure { .. } => collect(member.shape, &place.pointer, &place.path, found),
            Kind::List {
                member: element, ..
            } => {
                let pointer = format!("{}/0", place.pointer);
                if element.members().is_empty() {
                    found.push(Place {
                        pointer,
                        path: place.path,
                        shape: element,
                        required: false,
                        element_of: Some(member.shape),
                    });
                } else {
                    collect(
                        element,
                        &pointer,
                        &format!("{}.1.member", place.path),
                        found,
                    );
                }
            }
            _ => {}
        }
    }
}
