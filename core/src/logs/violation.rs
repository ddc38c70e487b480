//! A member of a request that is not as the service model says, in the words AWS has for it.

use crate::error::{Error, ErrorCode};

/// One member, with the constraint it does not satisfy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: {constraint}"
)]
pub struct Violation {
    /// Name of the member, as the model has it.
    pub member: &'static str,
    /// What was sent.
    pub value: String,
    /// `Member must ...`.
    pub constraint: String,
}

impl Violation {
    /// A list or text with less than it must have.
    pub(super) fn too_short(member: &'static str, value: impl Into<String>, min: usize) -> Self {
        Self {
            member,
            value: value.into(),
            constraint: format!("Member must have length greater than or equal to {min}"),
        }
    }

    /// A list or text with more than it may have.
    pub(super) fn too_long(member: &'static str, value: impl Into<String>, max: usize) -> Self {
        Self {
            member,
            value: value.into(),
            constraint: format!("Member must have length less than or equal to {max}"),
        }
    }

    /// A text with characters it may not have.
    pub(super) fn pattern(member: &'static str, value: impl Into<String>, pattern: &str) -> Self {
        Self {
            member,
            value: value.into(),
            constraint: format!("Member must satisfy regular expression pattern: {pattern}"),
        }
    }

    /// Refuses a text that is too short, too long, or not of the allowed characters. Lengths are in characters.
    pub(super) fn check_text(
        member: &'static str,
        value: &str,
        max: usize,
        pattern: &str,
        is_allowed: fn(char) -> bool,
    ) -> Result<(), Self> {
        if value.is_empty() {
            return Err(Self::too_short(member, value, 1));
        }
        // A text of this many bytes has at least a fourth as many characters.
        if value.len() / 4 > max || value.chars().count() > max {
            return Err(Self::too_long(member, value, max));
        }
        if !value.chars().all(is_allowed) {
            return Err(Self::pattern(member, value, pattern));
        }
        Ok(())
    }

    /// Refuses a number that is not within the bounds.
    pub(super) fn check_range(
        member: &'static str,
        value: i64,
        min: i64,
        max: i64,
    ) -> Result<(), Self> {
        let constraint = if value < min {
            format!("Member must have value greater than or equal to {min}")
        } else if value > max {
            format!("Member must have value less than or equal to {max}")
        } else {
            return Ok(());
        };
        let value = value.to_string();
        Err(Self {
            member,
            value,
            constraint,
        })
    }
}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Self {
        Self::new(ErrorCode::InvalidParameterValue, violation.to_string())
    }
}
