//! CloudWatch Logs filter patterns: what a pattern says and whether a line is as it says. One of three forms, told by the
//! first character: terms of a line of any kind (`terms`), `{ ... }` for lines that are JSON (`json`), `[ ... ]` for lines
//! of fields (`fields`).
//!
//! Reading takes time in proportion to the pattern, matching in proportion to the line: a pattern is at most 1,024 characters
//! long, nests at most [`DEPTH_MAX`] deep, has at most [`TERMS_MAX`] terms, and its regular expressions know no backtracking.

mod expression;
mod fields;
mod glob;
mod json;
#[cfg(test)]
mod json_tests;
#[cfg(test)]
mod properties;
mod regex;
mod scanner;
mod selector;
mod terms;
#[cfg(test)]
mod tests;
mod value;

use self::fields::Fields;
use self::json::Json;
use self::scanner::Scanner;
use self::terms::Terms;
use super::violation::Violation;
use crate::error::{Error, ErrorCode};

/// `FilterPattern` of the service model, characters.
pub const PATTERN_MAX: usize = 1_024;
/// Parentheses in parentheses. Ours: AWS names no limit.
pub const DEPTH_MAX: usize = 32;
/// Terms, conditions or fields of a pattern. Ours: AWS names no limit.
pub const TERMS_MAX: usize = 128;
/// "There is a limit of 2 regex for each filter pattern when creating a delimited or JSON filter pattern for metric filters and
/// subscription filters or when filtering log events or Live Tail."
pub const REGEXES_MAX: usize = 2;
/// "You can only use up to one wildcard selector in a property selector, and up to three wildcard selectors in a filter pattern
/// with compound expressions."
pub const WILDCARDS_MAX: usize = 3;

/// Why a text is no filter pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is too long.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// It begins as one of JSON or fields and does not end so.
    #[error("If a filter pattern starts with '{open}' it must end with '{close}'")]
    Unclosed {
        /// How it begins.
        open: char,
        /// How it would end.
        close: char,
    },
    /// Characters that must be in quotation marks, or that have no meaning where they are.
    #[error("Invalid character(s) in term '{0}'")]
    Characters(String),
    /// Something is missing or too much.
    #[error("Invalid filter pattern: expected {expected} at '{found}'")]
    Expected {
        /// What could be there.
        expected: &'static str,
        /// What is, or nothing at the end.
        found: String,
    },
    /// `<`, `>`, `<=` or `>=` without a number.
    #[error("Invalid filter pattern: '{0}' is not a number")]
    NotANumber(String),
    /// A regular expression that is none, or has what is not supported.
    #[error("Invalid filter pattern: '%{text}%' is not a supported regular expression: {reason}")]
    Regex {
        /// Between the percent signs.
        text: String,
        /// Why not.
        reason: String,
    },
    /// More than [`REGEXES_MAX`].
    #[error("Invalid filter pattern: more than {REGEXES_MAX} regular expressions")]
    ManyRegexes,
    /// More than one in a selector, or more than [`WILDCARDS_MAX`].
    #[error(
        "Invalid filter pattern: more than one wildcard in a selector, or more than {WILDCARDS_MAX}"
    )]
    ManyWildcards,
    /// More than [`TERMS_MAX`].
    #[error("Invalid filter pattern: more than {TERMS_MAX} terms")]
    ManyTerms,
    /// Deeper than [`DEPTH_MAX`].
    #[error("Invalid filter pattern: more than {DEPTH_MAX} parentheses in each other")]
    Deep,
}

impl From<PatternError> for Error {
    fn from(error: PatternError) -> Self {
        Self::new(ErrorCode::InvalidParameterValue, error.to_string())
    }
}

/// A filter pattern that was understood.
#[derive(Clone, Debug)]
pub struct Pattern(Form);

#[derive(Clone, Debug)]
enum Form {
    Terms(Terms),
    Json(Json),
    Fields(Fields),
}

impl Pattern {
    /// Reads a pattern. An empty one matches every line: "If not provided, all the events are matched."
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.chars().nth(PATTERN_MAX).is_some() {
            return Err(Violation::too_long("filterPattern", text, PATTERN_MAX).into());
        }
        let text = text.trim();
        let form = if let Some(inner) = enclosed(text, '{', '}')? {
            Form::Json(Json::parse(&mut Scanner::new(inner))?)
        } else if let Some(inner) = enclosed(text, '[', ']')? {
            Form::Fields(Fields::parse(&mut Scanner::new(inner))?)
        } else {
            Form::Terms(Terms::parse(&mut Scanner::new(text))?)
        };
        Ok(Self(form))
    }

    /// Whether a line is as the pattern says.
    pub fn matches(&self, line: &str) -> bool {
        match &self.0 {
            Form::Terms(terms) => terms.matches(line),
            Form::Json(json) => json.matches(line),
            Form::Fields(fields) => fields.matches(line),
        }
    }

    /// Whether it matches every line, so that none need be looked at.
    pub fn is_everything(&self) -> bool {
        match &self.0 {
            Form::Terms(terms) => terms.is_everything(),
            Form::Json(_) | Form::Fields(_) => false,
        }
    }
}

/// What is between two characters that a text begins and ends with; `None` if it does not begin so.
fn enclosed(text: &str, open: char, close: char) -> Result<Option<&str>, PatternError> {
    let Some(rest) = text.strip_prefix(open) else {
        return Ok(None);
    };
    let inner = rest.strip_suffix(close);
    inner
        .map(Some)
        .ok_or(PatternError::Unclosed { open, close })
}
