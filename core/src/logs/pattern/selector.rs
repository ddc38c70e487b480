//! Property selectors: `$.users[0].email`, `$.*`, `$.['cluster.name']`.

use serde_json::Value;

use super::PatternError;
use super::scanner::Scanner;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// A member of an object.
    Member(String),
    /// "the first element in the array is element 0".
    Element(usize),
    /// `.*`: "any JSON object field".
    AnyMember,
    /// `[*]`: "any array element".
    AnyElement,
}

/// Where in a JSON document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selector(Vec<Step>);

/// "Property selectors are alphanumeric strings that support hyphen ("-") and underscore ("_") characters."
fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '-' | '_')
}

impl Selector {
    /// "Set off property selectors with a dollar sign followed by a period ("$.")."
    pub(super) fn parse(scanner: &mut Scanner<'_>) -> Result<Self, PatternError> {
        scanner.need("$")?;
        let mut steps = Vec::new();
        let mut has_wildcard = false;
        while let Some(step) = step(scanner)? {
            if matches!(step, Step::AnyMember | Step::AnyElement) {
                // "You can only use up to one wildcard selector in a property selector".
                if has_wildcard {
                    return Err(PatternError::ManyWildcards);
                }
                has_wildcard = true;
                scanner.count_wildcard()?;
            }
            steps.push(step);
        }
        if steps.is_empty() {
            return Err(scanner.expected("a property selector"));
        }
        Ok(Self(steps))
    }

    /// Whether something that is selected is such. At most one wildcard, so that nothing is looked at twice.
    pub(super) fn any(&self, root: &Value, is_such: &impl Fn(&Value) -> bool) -> bool {
        any(&self.0, root, is_such)
    }
}

fn any(steps: &[Step], node: &Value, is_such: &impl Fn(&Value) -> bool) -> bool {
    let mut node = node;
    for (at, step) in steps.iter().enumerate() {
        let below = &steps[at + 1..];
        let next = match (step, node) {
            (Step::Member(name), Value::Object(members)) => members.get(name),
            (Step::Element(index), Value::Array(elements)) => elements.get(*index),
            (Step::AnyMember, Value::Object(members)) => {
                return members.values().any(|node| any(below, node, is_such));
            }
            (Step::AnyElement, Value::Array(elements)) => {
                return elements.iter().any(|node| any(below, node, is_such));
            }
            (Step::Member(_) | Step::AnyMember | Step::Element(_) | Step::AnyElement, _) => None,
        };
        let Some(next) = next else { return false };
        node = next;
    }
    is_such(node)
}

/// The next step if there is one.
fn step(scanner: &mut Scanner<'_>) -> Result<Option<Step>, PatternError> {
    let has_period = scanner.eat(".");
    if scanner.eat("[") {
        return bracketed(scanner).map(Some);
    }
    if !has_period {
        return Ok(None);
    }
    if scanner.eat("*") {
        return Ok(Some(Step::AnyMember));
    }
    let name = scanner.take_while(is_of_name);
    if name.is_empty() {
        return Err(match scanner.peek() {
            None => scanner.expected("a property"),
            Some(c) => PatternError::Characters(format!("$.{c}")),
        });
    }
    Ok(Some(Step::Member(name.to_owned())))
}

/// An index, or "If the JSON property contains a period ("."), then the bracket notation may be used to select that property."
fn bracketed(scanner: &mut Scanner<'_>) -> Result<Step, PatternError> {
    let step = if scanner.eat("*") {
        Step::AnyElement
    } else if let Some(name) = scanner.apostrophed()? {
        Step::Member(name.to_owned())
    } else if let Some(name) = scanner.quoted()? {
        Step::Member(name)
    } else {
        let digits = scanner.take_while(|c| c.is_ascii_digit());
        let index = digits.parse();
        Step::Element(index.map_err(|_| scanner.expected("an index"))?)
    };
    scanner.need("]")?;
    Ok(step)
}
