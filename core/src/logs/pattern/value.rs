//! Comparisons with texts, numbers and regular expressions, as conditions on JSON and on fields have them.

use super::PatternError;
use super::glob::Glob;
use super::regex::Regex;
use super::scanner::Scanner;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// The longer ones first.
const OPERATORS: [(&str, Operator); 6] = [
    ("!=", Operator::NotEqual),
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("=", Operator::Equal),
    ("<", Operator::Less),
    (">", Operator::Greater),
];

#[derive(Clone, Debug)]
enum Expected {
    /// In quotation marks, or not a number.
    Text(Glob),
    /// A number, with its text.
    Number(f64, Glob),
    /// Between percent signs.
    Regex(Regex),
}

/// An operator and what stands on its right.
#[derive(Clone, Debug)]
pub(super) struct Comparison {
    operator: Operator,
    expected: Expected,
}

/// "You can use integers that contain plus ("+") or minus ("-") symbols and follow scientific notation." Fractions too. `None`:
/// it is none, or too large for one.
pub(super) fn number(text: &str) -> Option<f64> {
    let is_of_number = |b: u8| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E');
    // Not what else Rust takes for a number: `inf`, `nan`.
    if !text.bytes().all(is_of_number) {
        return None;
    }
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// What a value that is not in quotation marks may have: all but what has a meaning of its own. AWS's guide asks for quotation
/// marks about all "types other than alphanumeric characters and the underscore symbol", and its own examples do without.
fn is_of_value(c: char) -> bool {
    !c.is_whitespace() && !"\"%,()[]{}=<>!&|".contains(c)
}

impl Comparison {
    /// Reads the operator and the value, if an operator is next.
    pub(super) fn parse(scanner: &mut Scanner<'_>) -> Result<Option<Self>, PatternError> {
        let mut operators = OPERATORS.iter();
        let Some((_, operator)) = operators.find(|(text, _)| scanner.eat(text)) else {
            return Ok(None);
        };
        let operator = *operator;
        scanner.skip_blanks();
        let is_equality = matches!(operator, Operator::Equal | Operator::NotEqual);
        if is_equality && let Some(regex) = scanner.regex()? {
            let expected = Expected::Regex(regex);
            return Ok(Some(Self { operator, expected }));
        }
        if is_equality && let Some(text) = scanner.quoted()? {
            let expected = Expected::Text(Glob::new(&text));
            return Ok(Some(Self { operator, expected }));
        }
        let text = scanner.take_while(is_of_value);
        let expected = match number(text) {
            Some(number) => Expected::Number(number, Glob::new(text)),
            None if text.is_empty() => return Err(scanner.expected("a value")),
            None if is_equality => Expected::Text(Glob::new(text)),
            None => return Err(PatternError::NotANumber(text.to_owned())),
        };
        Ok(Some(Self { operator, expected }))
    }

    /// Whether it holds of a value with this text which, if it can be taken for a number, is this one.
    pub(super) fn holds(&self, text: &str, value: Option<f64>) -> bool {
        let order = |is: fn(&f64, &f64) -> bool| match (&self.expected, value) {
            (Expected::Number(expected, _), Some(value)) => is(&value, expected),
            (Expected::Number(..), None) | (Expected::Text(_) | Expected::Regex(_), _) => false,
        };
        match self.operator {
            Operator::Equal => self.is_equal(text, value),
            Operator::NotEqual => !self.is_equal(text, value),
            Operator::Less => order(f64::lt),
            Operator::LessOrEqual => order(f64::le),
            Operator::Greater => order(f64::gt),
            Operator::GreaterOrEqual => order(f64::ge),
        }
    }

    fn is_equal(&self, text: &str, value: Option<f64>) -> bool {
        match &self.expected {
            Expected::Text(glob) => glob.matches(text),
            Expected::Number(number, glob) => value == Some(*number) || glob.matches(text),
            Expected::Regex(regex) => regex.is_in(text),
        }
    }
}
