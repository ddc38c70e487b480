//! Java's regular expressions to those of the `regex` crate, which has no look-around. The message
//! always shows Java's text; only the matcher is rewritten.

use anyhow::ensure;

/// A pattern as the matcher needs it: the whole value matches `regex`, and does not match `unless`.
#[derive(Debug)]
pub(crate) struct Matcher {
    pub(crate) regex: String,
    pub(crate) unless: Option<&'static str>,
}

const ARN_PREFIX: &str = r"(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?";
/// Word characters, not digits alone.
const NOT_NUMERIC: &str = "[0-9]*[a-zA-Z_-][0-9a-zA-Z_-]*";

/// The patterns with look-around, each rewritten to match exactly the same strings.
fn rewritten(java: &str) -> Option<Matcher> {
    let plain = |regex: String| Matcher {
        regex,
        unless: None,
    };
    let url_name = format!(
        "{ARN_PREFIX}{}",
        r"([a-zA-Z0-9-_]{1,64})(:((?!\d+$)[0-9a-zA-Z-_]+))?"
    );
    if java == url_name {
        let regex = format!("{ARN_PREFIX}([a-zA-Z0-9-_]{{1,64}})(:{NOT_NUMERIC})?");
        return Some(plain(ascii_classes(&regex)));
    }
    match java {
        "(?!^[0-9]+$)([a-zA-Z0-9-_]+)" | r"((?!^\d+$)^[0-9a-zA-Z-_]+$)" => {
            Some(plain(NOT_NUMERIC.to_owned()))
        }
        r"[0-9A-Za-z\.\-_]*(?<!\.)" => Some(plain(r"([0-9A-Za-z.\-_]*[0-9A-Za-z\-_])?".to_owned())),
        r"(^(?!(system\x2e)))(^[_a-zA-Z0-9])([^$]*)" => Some(Matcher {
            regex: "[_a-zA-Z0-9][^$]*".to_owned(),
            unless: Some(r"system\.[\s\S]*"),
        }),
        _ => None,
    }
}

pub(crate) fn matcher(java: &str) -> anyhow::Result<Matcher> {
    if let Some(matcher) = rewritten(java) {
        return Ok(matcher);
    }
    let plain = ["(?!", "(?=", "(?<"]
        .iter()
        .all(|look| !java.contains(look));
    ensure!(
        plain,
        "pattern {java} uses look-around: rewrite it in xtask/src/aws_api/patterns.rs"
    );
    Ok(Matcher {
        regex: ascii_classes(java),
        unless: None,
    })
}

/// In Java `\d`, `\s` and `\w` are ASCII, in the regex crate Unicode.
fn ascii_classes(java: &str) -> String {
    let mut out = String::new();
    let mut in_class = false;
    let mut chars = java.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            in_class = (in_class || c == '[') && c != ']';
            out.push(c);
            continue;
        }
        match (chars.next().unwrap_or('\\'), in_class) {
            ('d', false) => out.push_str("[0-9]"),
            ('d', true) => out.push_str("0-9"),
            ('w', false) => out.push_str("[a-zA-Z0-9_]"),
            ('w', true) => out.push_str("a-zA-Z0-9_"),
            // `[\s\S]` stays "any character" as long as the two are complements of each other.
            ('s', true) if !java.contains(r"\S") => out.push_str(r" \t\n\x0B\f\r"),
            (other, _) => {
                out.push('\\');
                out.push(other);
            }
        }
    }
    out
}
