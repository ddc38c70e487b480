//! Patterns of terms, for lines of any kind: `ERROR -"not found"`, `?ERROR ?WARN`, `%[45]\d\d%`.

use super::PatternError;
use super::regex::Regex;
use super::scanner::Scanner;

#[derive(Clone, Debug)]
enum Term {
    Phrase(String),
    Regex(Regex),
}

impl Term {
    fn is_in(&self, line: &str) -> bool {
        match self {
            Self::Phrase(phrase) => phrase.is_empty() || line.contains(phrase),
            Self::Regex(regex) => regex.is_in(line),
        }
    }
}

/// Terms by what is asked of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Terms {
    /// "log events where messages contain the words ERROR and ARGUMENTS".
    all: Vec<Term>,
    /// `-`: "Place a minus symbol ("-") before the terms that you want to exclude."
    none: Vec<Term>,
    /// `?`: "Place a question mark ("?") before the terms that you want to match."
    any: Vec<Term>,
}

impl Terms {
    pub(super) fn parse(scanner: &mut Scanner<'_>) -> Result<Self, PatternError> {
        let mut terms = Self::default();
        while scanner.skip_blanks() {
            scanner.count_term()?;
            let list = if scanner.eat("?") {
                &mut terms.any
            } else if scanner.eat("-") {
                &mut terms.none
            } else {
                &mut terms.all
            };
            list.push(term(scanner)?);
        }
        // "If you combine "?" with other filter patterns, all question mark terms will be ignored."
        if !terms.all.is_empty() || !terms.none.is_empty() {
            terms.any.clear();
        }
        Ok(terms)
    }

    pub(super) fn matches(&self, line: &str) -> bool {
        let has = |term: &Term| term.is_in(line);
        self.all.iter().all(has)
            && !self.none.iter().any(has)
            && (self.any.is_empty() || self.any.iter().any(has))
    }

    pub(super) fn is_everything(&self) -> bool {
        let is_blank = |term: &Term| matches!(term, Term::Phrase(phrase) if phrase.is_empty());
        self.none.is_empty() && self.any.is_empty() && self.all.iter().all(is_blank)
    }
}

/// "Enclose exact phrases and terms that include non-alphanumeric characters in double quotation marks". Without them letters,
/// digits and underscores are all there may be.
fn term(scanner: &mut Scanner<'_>) -> Result<Term, PatternError> {
    if let Some(regex) = scanner.regex()? {
        return Ok(Term::Regex(regex));
    }
    if let Some(phrase) = scanner.quoted()? {
        if phrase.is_empty() {
            return Err(PatternError::Characters("\"\"".to_owned()));
        }
        // "You can match everything in your log events with double quotation marks", a blank in between.
        let is_blank = phrase.trim().is_empty();
        return Ok(Term::Phrase(if is_blank { String::new() } else { phrase }));
    }
    let word = scanner.take_while(|c| c.is_alphanumeric() || c == '_');
    let is_over = scanner.peek().is_none_or(char::is_whitespace);
    if word.is_empty() && is_over {
        return Err(scanner.expected("a term"));
    }
    if !is_over {
        return Err(scanner.unexpected());
    }
    Ok(Term::Phrase(word.to_owned()))
}
