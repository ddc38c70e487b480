//! Types of JSON values against shapes, with the texts of AWS's `SerializationException`. Bounds are
//! the validator's business.

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::error::ApiError;
use crate::shape::{Kind, Shape};
use crate::types::Timestamp;

/// Checks a value of the body, all the way down. Null is an absent member.
pub(crate) fn check(shape: &'static Shape, value: &Value) -> Result<(), ApiError> {
    if value.is_null() {
        return Ok(());
    }
    match (&shape.kind, value) {
        (Kind::Structure { members }, Value::Object(given)) => members
            .iter()
            .filter_map(|member| Some((member, given.get(member.name)?)))
            .try_for_each(|(member, value)| check(member.shape, value)),
        (Kind::List { member, .. }, Value::Array(elements)) => {
            elements.iter().try_for_each(|e| check(member, e))
        }
        (Kind::Map { value: of, .. }, Value::Object(entries)) => {
            entries.values().try_for_each(|entry| check(of, entry))
        }
        (Kind::Structure { .. } | Kind::List { .. } | Kind::Map { .. }, _) => {
            Err(ApiError::serialization("Unexpected field type"))
        }
        (_, Value::Object(_) | Value::Array(_)) => Err(unexpected_collection()),
        _ => check_scalar(shape, value),
    }
}

pub(super) fn unexpected_collection() -> ApiError {
    ApiError::serialization("Start of structure or map found where not expected.")
}

fn check_scalar(shape: &'static Shape, value: &Value) -> Result<(), ApiError> {
    let fits = match (&shape.kind, value) {
        (Kind::String { .. }, Value::String(_)) | (Kind::Boolean, Value::Bool(_)) => true,
        (Kind::Integer { .. }, Value::Number(number)) => {
            number.as_i64().is_some_and(|v| i32::try_from(v).is_ok())
        }
        (Kind::Long { .. }, Value::Number(number)) => number.as_i64().is_some(),
        (Kind::Double { .. }, Value::Number(_)) => true,
        (Kind::Timestamp, Value::Number(number)) => {
            number.as_f64().and_then(Timestamp::from_seconds).is_some()
        }
        // Whether it is base64 shows when the typed input is made: a blob may be 50 MB.
        (Kind::Blob { .. }, Value::String(_)) => true,
        _ => false,
    };
    if fits {
        return Ok(());
    }
    Err(ApiError::serialization(format!(
        "{} can not be converted to {}",
        token(value),
        java_type(shape)
    )))
}

/// The token's name in AWS's texts.
fn token(value: &Value) -> &'static str {
    match value {
        Value::Null => "NULL_VALUE",
        Value::Bool(true) => "TRUE_VALUE",
        Value::Bool(false) => "FALSE_VALUE",
        Value::Number(_) => "NUMBER_VALUE",
        Value::String(_) => "STRING_VALUE",
        Value::Array(_) => "START_ARRAY",
        Value::Object(_) => "START_OBJECT",
    }
}

fn java_type(shape: &Shape) -> &'static str {
    match shape.kind {
        Kind::Structure { .. } => "a Structure",
        Kind::List { .. } => "a List",
        Kind::Map { .. } => "a Map",
        Kind::String { .. } => "a String",
        Kind::Integer { .. } => "an Integer",
        Kind::Long { .. } => "a Long",
        Kind::Double { .. } => "a Double",
        Kind::Boolean => "a Boolean",
        Kind::Blob { .. } => "a Blob",
        Kind::Timestamp => "a Timestamp",
    }
}

/// A value that came as text, in the path, the query or a header.
pub(crate) fn from_text(shape: &'static Shape, text: &str) -> Result<Value, ApiError> {
    let value = match shape.kind {
        Kind::Integer { .. } => text.parse::<i32>().ok().map(Value::from),
        Kind::Long { .. } => text.parse::<i64>().ok().map(Value::from),
        Kind::Double { .. } => text.parse::<f64>().ok().map(Value::from),
        Kind::Boolean => match text {
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            _ => None,
        },
        // In path and query the default format is RFC 3339; seconds are taken as well.
        Kind::Timestamp => OffsetDateTime::parse(text, &Rfc3339)
            .ok()
            .and_then(|time| serde_json::to_value(Timestamp(time)).ok())
            .or_else(|| {
                let seconds = text.parse::<f64>().ok()?;
                Timestamp::from_seconds(seconds).map(|_| Value::from(seconds))
            }),
        Kind::String { .. }
        | Kind::Blob { .. }
        | Kind::List { .. }
        | Kind::Map { .. }
        | Kind::Structure { .. } => Some(Value::String(text.to_owned())),
    };
    value.ok_or_else(|| {
        ApiError::serialization(format!(
            "STRING_VALUE can not be converted to {}",
            java_type(shape)
        ))
    })
}
