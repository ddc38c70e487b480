//! Patterns for lines of fields: `[ip, user, ..., status = 4*, bytes > 1000]`.

use super::PatternError;
use super::expression::Expression;
use super::scanner::Scanner;
use super::value::{Comparison, number};

/// Conditions on one field; `None` if there are none.
type Field = Option<Expression<Comparison>>;

/// Fields in order.
#[derive(Clone, Debug)]
pub(super) struct Fields {
    /// From the first one on.
    first: Vec<Field>,
    /// After an ellipsis, up to the last one: "Elipsis can reference as many fields as needed."
    last: Option<Vec<Field>>,
}

impl Fields {
    /// Reads what stands between the brackets. Nothing there matches every line.
    pub(super) fn parse(scanner: &mut Scanner<'_>) -> Result<Self, PatternError> {
        let (mut first, mut last) = (Vec::new(), None::<Vec<Field>>);
        if !scanner.skip_blanks() {
            let last = Some(Vec::new());
            return Ok(Self { first, last });
        }
        loop {
            scanner.skip_blanks();
            if scanner.eat("...") {
                if last.is_some() {
                    return Err(scanner.expected("no second ellipsis"));
                }
                last = Some(Vec::new());
            } else {
                let field = field(scanner)?;
                last.as_mut().unwrap_or(&mut first).push(field);
            }
            if !scanner.skip_blanks() {
                return Ok(Self { first, last });
            }
            scanner.need(",")?;
        }
    }

    /// Without an ellipsis there are as many fields as in the line; a last one without a condition takes what is left of the
    /// line, so that `[w1=ERROR, w2]` is "the first word in the log events is ERROR".
    pub(super) fn matches(&self, line: &str) -> bool {
        let values = split(line);
        let named = self.first.len() + self.last.as_ref().map_or(0, Vec::len);
        let takes_rest = self.last.is_some() || self.first.last().is_some_and(Option::is_none);
        if values.len() < named || values.len() > named && !takes_rest {
            return false;
        }
        let last = self.last.as_deref().unwrap_or_default();
        let from = values.len() - last.len();
        hold(&self.first, &values) && hold(last, &values[from..])
    }
}

fn hold(fields: &[Field], values: &[&str]) -> bool {
    fields.iter().zip(values).all(|(field, value)| {
        let is = |comparison: &Comparison| comparison.holds(value, number(value));
        field.as_ref().is_none_or(|field| field.holds(&is))
    })
}

/// A name, with conditions on it or not, or nothing at all, which is a field without a name. All conditions of a field have its
/// name.
fn field(scanner: &mut Scanner<'_>) -> Result<Field, PatternError> {
    let mut ahead = scanner.clone();
    ahead.take_while(is_of_name);
    ahead.skip_blanks();
    if matches!(ahead.peek(), None | Some(',')) {
        *scanner = ahead;
        scanner.count_term()?;
        return Ok(None);
    }
    let mut name = None;
    let expression = Expression::parse(scanner, &mut |scanner| {
        let own = scanner.take_while(is_of_name);
        if own.is_empty() {
            return Err(scanner.unexpected());
        }
        if *name.get_or_insert(own) != own {
            return Err(scanner.expected("the same name in all conditions of a field"));
        }
        scanner.skip_blanks();
        let comparison = Comparison::parse(scanner)?;
        comparison.ok_or_else(|| scanner.expected("a comparison"))
    })?;
    Ok(Some(expression))
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-')
}

/// The fields of a line: "Characters between brackets ("[]") and double quotation marks ("") are considered single fields." An
/// opening mark without a closing one is a character as any other.
fn split(line: &str) -> Vec<&str> {
    let mut fields = Vec::new();
    let mut rest = line.trim_start();
    // What is not found once is not looked for again, so that this takes time in proportion to the line.
    let (mut has_bracket, mut has_quote) = (true, true);
    while let Some(c) = rest.chars().next() {
        let close = match c {
            '[' if has_bracket => Some((']', &mut has_bracket)),
            '"' if has_quote => Some(('"', &mut has_quote)),
            _ => None,
        };
        let enclosed = close.and_then(|(close, has)| {
            let split = rest[1..].split_once(close);
            *has = split.is_some();
            split
        });
        let (field, behind) = enclosed.unwrap_or_else(|| {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            rest.split_at(end)
        });
        fields.push(field);
        rest = behind.trim_start();
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_and_quotation_marks_hold_a_field_together() {
        assert_eq!(
            split(
                "127.0.0.1 Prod frank [10/Oct/2000:13:25:15 -0700] \"GET /index.html HTTP/1.0\" 404 1534\n"
            ),
            [
                "127.0.0.1",
                "Prod",
                "frank",
                "10/Oct/2000:13:25:15 -0700",
                "GET /index.html HTTP/1.0",
                "404",
                "1534"
            ]
        );
        assert_eq!(split("  a\t b "), ["a", "b"]);
        assert_eq!(split("[a b \"c d"), ["[a", "b", "\"c", "d"]);
        assert_eq!(split("\"\" []"), ["", ""]);
        assert!(split(" \n").is_empty());
    }
}
