//! Reads a pattern from left to right and counts what it has of what is limited.

use super::regex::Regex;
use super::{PatternError, REGEXES_MAX, TERMS_MAX, WILDCARDS_MAX};

/// What is left of a pattern.
#[derive(Clone, Debug)]
pub(super) struct Scanner<'a> {
    rest: &'a str,
    terms: usize,
    regexes: usize,
    wildcards: usize,
}

impl<'a> Scanner<'a> {
    /// At the beginning.
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            rest: text,
            terms: 0,
            regexes: 0,
            wildcards: 0,
        }
    }

    /// The next character.
    pub(super) fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    /// Passes blanks; whether something follows.
    pub(super) fn skip_blanks(&mut self) -> bool {
        self.rest = self.rest.trim_start();
        !self.rest.is_empty()
    }

    /// Passes this if it is next.
    pub(super) fn eat(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// Passes this or says that it was expected.
    pub(super) fn need(&mut self, text: &'static str) -> Result<(), PatternError> {
        if self.eat(text) {
            return Ok(());
        }
        Err(self.expected(text))
    }

    /// Passes characters as long as they are such.
    pub(super) fn take_while(&mut self, is_such: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !is_such(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    /// The text up to the closing mark after the opening one, which is passed already.
    fn until(&mut self, mark: char, expected: &'static str) -> Result<&'a str, PatternError> {
        let Some((text, rest)) = self.rest.split_once(mark) else {
            return Err(self.expected(expected));
        };
        self.rest = rest;
        Ok(text)
    }

    /// A text in quotation marks if one is next. `\"` and `\\` are a quotation mark and a backslash.
    pub(super) fn quoted(&mut self) -> Result<Option<String>, PatternError> {
        if !self.eat("\"") {
            return Ok(None);
        }
        let mut text = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(Some(text));
                }
                '\\' => match chars.next() {
                    Some((_, escaped @ ('"' | '\\'))) => text.push(escaped),
                    Some((_, other)) => text.extend(['\\', other]),
                    None => text.push('\\'),
                },
                _ => text.push(c),
            }
        }
        self.rest = "";
        Err(self.expected("a closing quotation mark"))
    }

    /// A text in apostrophes if one is next.
    pub(super) fn apostrophed(&mut self) -> Result<Option<&'a str>, PatternError> {
        if !self.eat("'") {
            return Ok(None);
        }
        self.until('\'', "a closing apostrophe").map(Some)
    }

    /// A regular expression if one is next: "you must surround your expressions with %".
    pub(super) fn regex(&mut self) -> Result<Option<Regex>, PatternError> {
        if !self.eat("%") {
            return Ok(None);
        }
        let text = self.until('%', "a closing percent sign")?;
        count(&mut self.regexes, REGEXES_MAX, PatternError::ManyRegexes)?;
        Regex::parse(text).map(Some)
    }

    /// One more term, condition or field.
    pub(super) fn count_term(&mut self) -> Result<(), PatternError> {
        count(&mut self.terms, TERMS_MAX, PatternError::ManyTerms)
    }

    /// One more selector with a wildcard.
    pub(super) fn count_wildcard(&mut self) -> Result<(), PatternError> {
        count(
            &mut self.wildcards,
            WILDCARDS_MAX,
            PatternError::ManyWildcards,
        )
    }

    /// The error that something else should be here.
    pub(super) fn expected(&self, expected: &'static str) -> PatternError {
        let found = self.rest.chars().take(20).collect();
        PatternError::Expected { expected, found }
    }

    /// The error that the next character may not be here.
    pub(super) fn unexpected(&self) -> PatternError {
        PatternError::Characters(self.rest.chars().take(1).collect())
    }
}

fn count(counted: &mut usize, max: usize, error: PatternError) -> Result<(), PatternError> {
    *counted += 1;
    if *counted > max {
        return Err(error);
    }
    Ok(())
}
