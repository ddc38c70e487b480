//! Patterns for lines that are JSON: `{ $.a.b[0] = "x*" && ($.n >= 3 || $.m IS NULL) }`. A line that is not JSON matches none.

use serde_json::Value;

use super::PatternError;
use super::expression::Expression;
use super::scanner::Scanner;
use super::selector::Selector;
use super::value::Comparison;

#[derive(Clone, Debug)]
enum Test {
    Compare(Comparison),
    /// "The IS variable can match fields that contain the values NULL, TRUE, or FALSE."
    Is(Value),
    /// "NOT EXISTS variable to return JSON logs that don't contain specific fields in the log data".
    NotExists,
}

#[derive(Clone, Debug)]
struct Condition {
    selector: Selector,
    test: Test,
}

/// Conditions and how they are joined.
#[derive(Clone, Debug)]
pub(super) struct Json(Expression<Condition>);

impl Json {
    /// Reads what stands between the braces.
    pub(super) fn parse(scanner: &mut Scanner<'_>) -> Result<Self, PatternError> {
        let expression = Expression::parse(scanner, &mut Condition::parse)?;
        if scanner.skip_blanks() {
            return Err(scanner.expected("&& or ||"));
        }
        Ok(Self(expression))
    }

    pub(super) fn matches(&self, line: &str) -> bool {
        // What no object or array begins need not be read.
        if !line.trim_start().starts_with(['{', '[']) {
            return false;
        }
        let Ok(root) = serde_json::from_str::<Value>(line) else {
            return false;
        };
        self.0.holds(&|condition| condition.holds(&root))
    }
}

impl Condition {
    fn parse(scanner: &mut Scanner<'_>) -> Result<Self, PatternError> {
        let selector = Selector::parse(scanner)?;
        scanner.skip_blanks();
        let test = match Comparison::parse(scanner)? {
            Some(comparison) => Test::Compare(comparison),
            None => word_test(scanner)?,
        };
        Ok(Self { selector, test })
    }

    fn holds(&self, root: &Value) -> bool {
        match &self.test {
            Test::Compare(comparison) => {
                self.selector.any(root, &|node| compares(comparison, node))
            }
            Test::Is(value) => self.selector.any(root, &|node| node == value),
            Test::NotExists => !self.selector.any(root, &|_| true),
        }
    }
}

/// "Value nodes can be strings or numbers." and "If a property selector points to an array or object, the filter pattern won't
/// match the log format." So neither `=` nor `!=` holds of what is neither, or is not there.
fn compares(comparison: &Comparison, node: &Value) -> bool {
    match node {
        Value::String(text) => comparison.holds(text, None),
        Value::Number(number) => comparison.holds(&number.to_string(), number.as_f64()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
    }
}

/// `IS NULL`, `IS TRUE`, `IS FALSE`, `NOT EXISTS`: "The variables IS NOT and EXISTS currently aren't supported."
fn word_test(scanner: &mut Scanner<'_>) -> Result<Test, PatternError> {
    const EXPECTED: &str = "a comparison, IS NULL, IS TRUE, IS FALSE or NOT EXISTS";
    let start = scanner.clone();
    let mut word = || {
        scanner.skip_blanks();
        scanner.take_while(char::is_alphabetic)
    };
    match (word(), word()) {
        ("IS", "NULL") => Ok(Test::Is(Value::Null)),
        ("IS", "TRUE") => Ok(Test::Is(Value::Bool(true))),
        ("IS", "FALSE") => Ok(Test::Is(Value::Bool(false))),
        ("NOT", "EXISTS") => Ok(Test::NotExists),
        (_, _) => Err(start.expected(EXPECTED)),
    }
}
