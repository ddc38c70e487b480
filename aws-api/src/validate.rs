//! Walks the constraint tables over a request's members and words what it finds as AWS does.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::error::ApiError;
use crate::shape::{Kind, Shape};

/// One violated constraint.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// `routingConfig.additionalVersionWeights`.
    pub(crate) path: String,
    /// The whole sentence, `Value '<v>' at '<path>' failed to satisfy constraint: <constraint>`.
    pub(crate) text: String,
}

/// All violations, in the order of the model's members. `payload_bytes` is the length of the raw
/// payload, for inputs that have one and requests that carry it.
pub(crate) fn violations(
    shape: &'static Shape,
    members: &Value,
    payload_bytes: Option<usize>,
) -> Vec<Violation> {
    let mut found = Vec::new();
    if let Value::Object(members) = members {
        walk_members(shape, members, "", &mut found);
    }
    if let Some(member) = shape.raw_payload() {
        let path = lower_camel(member.name);
        match payload_bytes {
            Some(bytes) => payload_length(member.shape, bytes, &path, &mut found),
            None if member.required => found.push(not_null(path)),
            None => {}
        }
    }
    found
}

fn payload_length(shape: &'static Shape, bytes: usize, path: &str, found: &mut Vec<Violation>) {
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    for constraint in constraints(shape) {
        let holds = match constraint {
            Constraint::MaxBytes(max) => bytes <= max,
            Constraint::MinBytes(min) => bytes >= min,
            _ => true,
        };
        if !holds {
            let constraint = constraint.to_string();
            // A payload is not shown, whatever its shape says: it may be megabytes.
            found.push(Violation {
                path: path.to_owned(),
                text: format!("Value at '{path}' failed to satisfy constraint: {constraint}"),
            });
        }
    }
}

fn not_null(path: String) -> Violation {
    let text =
        format!("Value null at '{path}' failed to satisfy constraint: Member must not be null");
    Violation { path, text }
}

/// `ValidationException` naming all violations, if there are any.
pub(crate) fn refuse(violations: &[Violation]) -> Result<(), ApiError> {
    if violations.is_empty() {
        return Ok(());
    }
    let plural = if violations.len() == 1 { "" } else { "s" };
    let texts: Vec<&str> = violations.iter().map(|v| v.text.as_str()).collect();
    Err(ApiError::validation(format!(
        "{} validation error{plural} detected: {}",
        violations.len(),
        texts.join("; ")
    )))
}

fn walk_members(
    shape: &'static Shape,
    members: &Map<String, Value>,
    path: &str,
    found: &mut Vec<Violation>,
) {
    let raw = shape.raw_payload().map(|member| member.name);
    let members_of = shape.members().iter();
    for member in members_of.filter(|member| raw != Some(member.name)) {
        let path = if path.is_empty() {
            lower_camel(member.name)
        } else {
            format!("{path}.{}", lower_camel(member.name))
        };
        match members.get(member.name) {
            None | Some(Value::Null) if member.required => found.push(not_null(path)),
            None | Some(Value::Null) => {}
            Some(value) => walk(member.shape, value, &path, found),
        }
    }
}

fn walk(shape: &'static Shape, value: &Value, path: &str, found: &mut Vec<Violation>) {
    for constraint in violated(shape, value) {
        found.push(violation(shape, value, path, &constraint));
    }
    match (&shape.kind, value) {
        (Kind::Structure { .. }, Value::Object(members)) => {
            walk_members(shape, members, path, found);
        }
        (Kind::List { member, .. }, Value::Array(elements)) => {
            walk_elements(shape, member, elements, path, found);
        }
        (Kind::Map { key, value: of, .. }, Value::Object(entries)) => {
            let keys = entries.keys().map(|k| Value::String(k.clone()));
            walk_entries(shape, key, keys, ("Map keys", value), path, found);
            if is_simple(of) {
                let values = entries.values().cloned();
                walk_entries(shape, of, values, ("Map value", value), path, found);
            } else {
                for (name, entry) in entries {
                    walk(of, entry, &format!("{path}.{name}.member"), found);
                }
            }
        }
        _ => {}
    }
}

/// AWS reports simple elements once for the list, with every constraint they have; structures are
/// reported one by one, counted from 1.
fn walk_elements(
    list: &'static Shape,
    member: &'static Shape,
    elements: &[Value],
    path: &str,
    found: &mut Vec<Violation>,
) {
    if is_simple(member) {
        if elements.iter().any(|element| breaks(member, element)) {
            let constraint = format!("Member must satisfy constraint: {}", all_of(member));
            let value = Value::Array(elements.to_vec());
            found.push(violation_of(list, member, &value, path, &constraint));
        }
        return;
    }
    for (index, element) in elements.iter().enumerate() {
        let path = format!("{path}.{}.member", index + 1);
        if element.is_null() {
            found.push(not_null(path));
        } else {
            walk(member, element, &path, found);
        }
    }
}

fn walk_entries(
    map: &'static Shape,
    part: &'static Shape,
    mut parts: impl Iterator<Item = Value>,
    (which, whole): (&str, &Value),
    path: &str,
    found: &mut Vec<Violation>,
) {
    if parts.any(|value| breaks(part, &value)) {
        let constraint = format!("{which} must satisfy constraint: {}", all_of(part));
        found.push(violation_of(map, part, whole, path, &constraint));
    }
}

fn is_simple(shape: &Shape) -> bool {
    !matches!(
        shape.kind,
        Kind::Structure { .. } | Kind::List { .. } | Kind::Map { .. }
    )
}

fn breaks(shape: &'static Shape, value: &Value) -> bool {
    value.is_null() || !violated(shape, value).is_empty()
}

fn violation(shape: &'static Shape, value: &Value, path: &str, constraint: &str) -> Violation {
    let shown = if shape.sensitive {
        "Value".to_owned()
    } else {
        format!("Value '{}'", render(shape, value))
    };
    Violation {
        path: path.to_owned(),
        text: format!("{shown} at '{path}' failed to satisfy constraint: {constraint}"),
    }
}

/// As `violation`, hiding the collection when its elements are sensitive.
fn violation_of(
    shape: &'static Shape,
    element: &'static Shape,
    value: &Value,
    path: &str,
    constraint: &str,
) -> Violation {
    let hide = if element.sensitive { element } else { shape };
    if hide.sensitive {
        return violation(hide, &Value::Null, path, constraint);
    }
    violation(shape, value, path, constraint)
}

/// The constraints that a value breaks, in AWS's order: length or range, pattern, enum.
fn violated(shape: &'static Shape, value: &Value) -> Vec<String> {
    let broken = constraints(shape).into_iter();
    broken
        .filter(|constraint| !constraint.holds(value))
        .map(|constraint| constraint.to_string())
        .collect()
}

/// `[a, b, Member must not be null]`: everything that is demanded of an element.
fn all_of(shape: &'static Shape) -> String {
    let mut texts: Vec<String> = constraints(shape)
        .iter()
        .map(Constraint::to_string)
        .collect();
    texts.push("Member must not be null".to_owned());
    format!("[{}]", texts.join(", "))
}

enum Constraint {
    MaxLength(i64),
    MinLength(i64),
    /// Length of a blob, which arrives as base64 text.
    MaxBytes(i64),
    MinBytes(i64),
    MaxInteger(i64),
    MinInteger(i64),
    MaxDouble(f64),
    MinDouble(f64),
    Pattern(&'static crate::shape::Pattern),
    OneOf(&'static [&'static str]),
}

fn constraints(shape: &'static Shape) -> Vec<Constraint> {
    use Constraint::{MaxBytes, MaxDouble, MaxInteger, MaxLength};
    use Constraint::{MinBytes, MinDouble, MinInteger, MinLength};
    let bounds = |min: Option<i64>,
                  max: Option<i64>,
                  least: fn(i64) -> Constraint,
                  most: fn(i64) -> Constraint| {
        let bounds = [max.map(most), min.map(least)];
        bounds.into_iter().flatten().collect::<Vec<_>>()
    };
    match &shape.kind {
        Kind::String {
            min,
            max,
            pattern,
            values,
        } => {
            let mut all = bounds(*min, *max, MinLength, MaxLength);
            all.extend(pattern.map(Constraint::Pattern));
            if !values.is_empty() {
                all.push(Constraint::OneOf(values));
            }
            all
        }
        Kind::List { min, max, .. } | Kind::Map { min, max, .. } => {
            bounds(*min, *max, MinLength, MaxLength)
        }
        Kind::Blob { min, max } => bounds(*min, *max, MinBytes, MaxBytes),
        Kind::Integer { min, max } | Kind::Long { min, max } => {
            bounds(*min, *max, MinInteger, MaxInteger)
        }
        Kind::Double { min, max } => {
            let bounds = [max.map(MaxDouble), min.map(MinDouble)];
            bounds.into_iter().flatten().collect()
        }
        Kind::Structure { .. } | Kind::Boolean | Kind::Timestamp => Vec::new(),
    }
}

impl Constraint {
    fn holds(&self, value: &Value) -> bool {
        let text = || value.as_str().unwrap_or_default();
        match *self {
            Self::MaxLength(max) => length(value) <= max,
            Self::MinLength(min) => length(value) >= min,
            Self::MaxBytes(max) => bytes_in_base64(text()) <= max,
            Self::MinBytes(min) => bytes_in_base64(text()) >= min,
            Self::MaxInteger(max) => value.as_i64().is_none_or(|v| v <= max),
            Self::MinInteger(min) => value.as_i64().is_none_or(|v| v >= min),
            Self::MaxDouble(max) => value.as_f64().is_none_or(|v| v <= max),
            Self::MinDouble(min) => value.as_f64().is_none_or(|v| v >= min),
            Self::Pattern(pattern) => pattern.matches(text()),
            Self::OneOf(values) => values.contains(&text()),
        }
    }
}

impl std::fmt::Display for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::MaxLength(n) | Self::MaxBytes(n) => {
                write!(f, "Member must have length less than or equal to {n}")
            }
            Self::MinLength(n) | Self::MinBytes(n) => {
                write!(f, "Member must have length greater than or equal to {n}")
            }
            Self::MaxInteger(n) => write!(f, "Member must have value less than or equal to {n}"),
            Self::MinInteger(n) => write!(f, "Member must have value greater than or equal to {n}"),
            // Debug writes doubles as Java does: 2.0 keeps its fraction.
            Self::MaxDouble(n) => write!(f, "Member must have value less than or equal to {n:?}"),
            Self::MinDouble(n) => {
                write!(f, "Member must have value greater than or equal to {n:?}")
            }
            Self::Pattern(pattern) => write!(
                f,
                "Member must satisfy regular expression pattern: {}",
                pattern.java
            ),
            Self::OneOf(values) => {
                write!(
                    f,
                    "Member must satisfy enum value set: [{}]",
                    values.join(", ")
                )
            }
        }
    }
}

/// Characters of a string, elements of a collection.
fn length(value: &Value) -> i64 {
    let length = match value {
        Value::String(text) => text.chars().count(),
        Value::Array(elements) => elements.len(),
        Value::Object(entries) => entries.len(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    };
    i64::try_from(length).unwrap_or(i64::MAX)
}

fn bytes_in_base64(text: &str) -> i64 {
    let digits = text.trim_end_matches('=').len();
    i64::try_from(digits / 4 * 3 + (digits % 4) * 3 / 4).unwrap_or(i64::MAX)
}

/// A value as Java prints it: `[a, b]`, `{k=v}`, doubles with a fraction.
fn render(shape: &'static Shape, value: &Value) -> String {
    let mut out = String::new();
    render_into(shape, value, &mut out);
    out
}

fn render_into(shape: &'static Shape, value: &Value, out: &mut String) {
    if shape.sensitive {
        out.push_str("***");
        return;
    }
    match (&shape.kind, value) {
        (Kind::List { member, .. }, Value::Array(elements)) => {
            joined(out, ("[", "]"), elements, |out, element| {
                render_into(member, element, out);
            });
        }
        (Kind::Map { value: of, .. }, Value::Object(entries)) => {
            joined(out, ("{", "}"), entries, |out, (key, entry)| {
                out.push_str(key);
                out.push('=');
                render_into(of, entry, out);
            });
        }
        (Kind::Structure { members }, Value::Object(given)) => {
            let present = members.iter().filter_map(|m| Some((m, given.get(m.name)?)));
            out.push_str(shape.name);
            joined(out, ("(", ")"), present, |out, (member, value)| {
                out.push_str(&lower_camel(member.name));
                out.push('=');
                render_into(member.shape, value, out);
            });
        }
        (Kind::Double { .. }, Value::Number(number)) => {
            let _ = write!(out, "{:?}", number.as_f64().unwrap_or_default());
        }
        (_, Value::String(text)) => out.push_str(text),
        (_, other) => {
            let _ = write!(out, "{other}");
        }
    }
}

fn joined<T>(
    out: &mut String,
    (open, close): (&str, &str),
    items: impl IntoIterator<Item = T>,
    mut each: impl FnMut(&mut String, T),
) {
    out.push_str(open);
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        each(out, item);
    }
    out.push_str(close);
}

/// `FunctionName` -> `functionName`, `KMSKeyArn` -> `kMSKeyArn`, as AWS writes member paths.
pub(crate) fn lower_camel(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map_or_else(String::new, |first| {
        format!("{}{}", first.to_ascii_lowercase(), chars.as_str())
    })
}
