//! Whether a text is a filter pattern: an object whose leaves are lists of what a field may be. Source: "Lambda event
//! filtering" of AWS's guide, "Filter rule syntax".

use serde_json::Value;

/// How deep patterns go. Ours: bounds the recursion.
const DEPTH_MAX: usize = 32;

/// Whether it can be a pattern.
pub(super) fn is_pattern(text: &str) -> bool {
    let parsed: Result<Value, _> = serde_json::from_str(text);
    parsed.is_ok_and(|value| is_rule(&value, DEPTH_MAX))
}

fn is_rule(value: &Value, depth: usize) -> bool {
    let Value::Object(fields) = value else {
        return false;
    };
    let is_field = |(name, value): (&String, &Value)| match (name.as_str(), value) {
        ("$or", Value::Array(rules)) => {
            !rules.is_empty() && depth > 0 && rules.iter().all(|rule| is_rule(rule, depth - 1))
        }
        (_, Value::Array(values)) => !values.is_empty() && values.iter().all(is_value),
        (_, Value::Object(_)) => depth > 0 && is_rule(value, depth - 1),
        (_, Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => false,
    };
    !fields.is_empty() && fields.iter().all(is_field)
}

/// One of the things that a field may be.
fn is_value(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
        Value::Object(comparison) => {
            let mut all = comparison.iter();
            matches!((all.next(), all.next()), (Some((name, of)), None) if is_comparison(name, of))
        }
        Value::Array(_) => false,
    }
}

fn is_comparison(name: &str, of: &Value) -> bool {
    match name {
        "prefix" | "suffix" => of.is_string() || of.is_object(),
        "equals-ignore-case" | "wildcard" | "cidr" => of.is_string(),
        "exists" => of.is_boolean(),
        "numeric" => of.as_array().is_some_and(|parts| is_numeric(parts)),
        "anything-but" => match of {
            Value::Array(values) => !values.is_empty() && values.iter().all(|v| !v.is_array()),
            Value::String(_) | Value::Number(_) | Value::Object(_) => true,
            Value::Null | Value::Bool(_) => false,
        },
        _ => false,
    }
}

/// `[">", 0, "<=", 5]`.
fn is_numeric(parts: &[Value]) -> bool {
    let is_operator = |part: &Value| {
        let known = ["=", "<", "<=", ">", ">="];
        part.as_str().is_some_and(|text| known.contains(&text))
    };
    let mut pairs = parts.chunks(2);
    let are_pairs =
        pairs.all(|pair| pair.len() == 2 && is_operator(&pair[0]) && pair[1].is_number());
    (2..=4).contains(&parts.len()) && are_pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_are_lists() {
        for good in [
            r#"{"a":["b"]}"#,
            r#"{"a":{"b":[1,null,true]},"c":[{"prefix":"x"}]}"#,
            r#"{"a":[{"numeric":["=",100]}]}"#,
            r#"{"a":[{"numeric":[">",0,"<=",5]}],"b":[{"exists":false}]}"#,
            r#"{"$or":[{"a":["b"]},{"c":[{"anything-but":["d"]}]}]}"#,
        ] {
            assert!(is_pattern(good), "{good}");
        }
        let deep = format!("{}[1]{}", r#"{"a":"#.repeat(100), "}".repeat(100));
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"a":"b"}"#,
            r#"{"a":[]}"#,
            r#"{"a":[["b"]]}"#,
            r#"{"a":[{"exists":1}]}"#,
            r#"{"a":[{"numeric":["==",1]}]}"#,
            r#"{"a":[{"numeric":["="]}]}"#,
            r#"{"a":[{"unknown":"b"}]}"#,
            &deep,
        ] {
            assert!(!is_pattern(bad), "{bad}");
        }
    }
}
