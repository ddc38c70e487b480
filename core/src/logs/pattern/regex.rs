//! Regular expressions as filter patterns have them: a part of what the regex crate knows, translated to it piece by piece, so
//! that nothing that AWS does not support is understood by chance.

use std::iter::Peekable;
use std::str::Chars;

use super::PatternError;

/// Bytes a compiled expression may have. Ours; with it the time to match is bounded for each byte of a line.
const COMPILED_MAX_BYTES: usize = 256 << 10;
/// Largest number in `{m,n}`. Ours.
const REPEAT_MAX: u32 = 1_000;

/// "Supported symbol characters". A blank is not in that list and in its examples: `%^starting|^shutting down%`.
const SYMBOLS: &str = ":_#=@/;,- ";
/// "Supported operators". "The ( and ) operators are not supported."
const OPERATORS: &str = "^$?[]{}|\\*+.";

/// A regular expression that was understood.
#[derive(Clone, Debug)]
pub(super) struct Regex(::regex::Regex);

impl Regex {
    /// Reads what stands between percent signs.
    pub(super) fn parse(text: &str) -> Result<Self, PatternError> {
        let bad = |reason: String| PatternError::Regex {
            text: text.to_owned(),
            reason,
        };
        if text.is_empty() {
            return Err(bad("it is empty".to_owned()));
        }
        let translated = translate(text).map_err(|reason| bad(reason.to_owned()))?;
        let compiled = ::regex::RegexBuilder::new(&translated)
            .size_limit(COMPILED_MAX_BYTES)
            .dfa_size_limit(COMPILED_MAX_BYTES)
            .build();
        let compiled = compiled.map_err(|error| {
            bad(match error {
                ::regex::Error::CompiledTooBig(_) => "it is too large".to_owned(),
                other => {
                    let text = other.to_string();
                    text.lines().last().unwrap_or_default().to_owned()
                }
            })
        })?;
        Ok(Self(compiled))
    }

    /// Whether it is found in a text. The end of a line is not part of it, so that `$` is before.
    pub(super) fn is_in(&self, text: &str) -> bool {
        self.0.is_match(text.trim_end_matches(['\n', '\r']))
    }
}

type Reason = &'static str;

fn translate(text: &str) -> Result<String, Reason> {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '^' | '$' | '?' | '|' | '*' | '+' | '.' => out.push(c),
            ']' | '}' => out.extend(['\\', c]),
            '\\' => escaped(&mut chars, &mut out)?,
            '{' => repetition(&mut chars, &mut out)?,
            '[' => class(&mut chars, &mut out)?,
            _ => literal(c, &mut out)?,
        }
    }
    Ok(out)
}

/// "Multi-byte characters are not supported."
fn literal(c: char, out: &mut String) -> Result<(), Reason> {
    if !c.is_ascii_alphanumeric() && !SYMBOLS.contains(c) {
        return Err("it has a character that is not supported");
    }
    out.push(c);
    Ok(())
}

/// What follows a backslash. Classes are those of ASCII: "%\d% is equivalent to %[0-9]%", "%\w% is equivalent to
/// %[a-zA-Z_0-9]%".
fn escaped(chars: &mut Peekable<Chars<'_>>, out: &mut String) -> Result<(), Reason> {
    let Some(c) = chars.next() else {
        return Err("it ends with a backslash");
    };
    match c {
        'd' => out.push_str("[0-9]"),
        'D' => out.push_str("[^0-9]"),
        's' => out.push_str(r"[ \t\n\r\x0b\x0c]"),
        'S' => out.push_str(r"[^ \t\n\r\x0b\x0c]"),
        'w' => out.push_str("[a-zA-Z_0-9]"),
        'W' => out.push_str("[^a-zA-Z_0-9]"),
        'x' => {
            // "hh specifies the two hexadecimal digits (0-9 and A-F) which point to a character in the ASCII table."
            let digits: String = chars.by_ref().take(2).collect();
            let is_code = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit());
            let code = u8::from_str_radix(&digits, 16).ok();
            let code = code.filter(|code| is_code && code.is_ascii());
            let code = code.ok_or(r"\x wants two hexadecimal digits of ASCII")?;
            out.push_str(&format!("\\x{code:02x}"));
        }
        _ if OPERATORS.contains(c) || c == '-' => out.extend(['\\', c]),
        _ if SYMBOLS.contains(c) => out.push(c),
        _ => return Err("it has an escape that is not supported"),
    }
    Ok(())
}

/// `{m}`, `{m,n}`: "Either m or n can be omitted".
fn repetition(chars: &mut Peekable<Chars<'_>>, out: &mut String) -> Result<(), Reason> {
    const BAD: Reason = "braces want {m}, {m,}, {,n} or {m,n} of at most 1000";
    let mut inner = String::new();
    loop {
        match chars.next() {
            Some('}') => break,
            Some(' ') => {}
            Some(c) => inner.push(c),
            None => return Err(BAD),
        }
    }
    let bound = |text: &str| match text.parse::<u32>() {
        Ok(n) if n <= REPEAT_MAX && !text.starts_with('+') => Ok(n.to_string()),
        Ok(_) | Err(_) => Err(BAD),
    };
    let repeated = match inner.split_once(',') {
        None => bound(&inner)?,
        Some(("", "")) => return Err(BAD),
        Some(("", max)) => format!("0,{}", bound(max)?),
        Some((min, "")) => format!("{},", bound(min)?),
        Some((min, max)) => format!("{},{}", bound(min)?, bound(max)?),
    };
    out.push_str(&format!("{{{repeated}}}"));
    Ok(())
}

/// "Matches the character list or character range contained within the brackets."
fn class(chars: &mut Peekable<Chars<'_>>, out: &mut String) -> Result<(), Reason> {
    out.push('[');
    if chars.next_if_eq(&'^').is_some() {
        out.push('^');
    }
    let mut before = None;
    loop {
        let c = chars.next().ok_or("a bracket is not closed")?;
        match c {
            ']' if before.is_none() => return Err("it has empty brackets"),
            ']' => break,
            '\\' => escaped(chars, out)?,
            // To the regex crate that is a difference.
            '-' if before == Some('-') => return Err("it has two hyphens in a row in brackets"),
            '-' => out.push('-'),
            _ if OPERATORS.contains(c) => out.extend(['\\', c]),
            _ => literal(c, out)?,
        }
        before = Some(c);
    }
    out.push(']');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_mean_what_the_guide_says() {
        for (regex, matching, other) in [
            ("^[hc]at", vec!["hat", "cat trick"], vec!["a hat", "bat"]),
            ("[hc]at$", vec!["a hat", "cat\n"], vec!["hats"]),
            ("colou?r", vec!["color", "colour"], vec!["colouur"]),
            ("[abcx-z]", vec!["c", "y"], vec!["d", "X"]),
            ("^a{3,5}$", vec!["aaa", "aaaaa"], vec!["aa", "aaaaaa"]),
            ("^a{,2}$", vec!["", "aa"], vec!["aaa"]),
            ("^a{2, }$", vec!["aa", "aaaaaaa"], vec!["a"]),
            ("gray|grey", vec!["gray", "grey"], vec!["gry"]),
            (
                "^starting|^initializing|^shutting down",
                vec!["initializing ...", "shutting down"],
                vec!["skipping initializing ..."],
            ),
            ("abcc|ab[^c]$", vec!["abcc ...", "aba"], vec!["aac ..."]),
            (
                r"\[.\]",
                vec!["[a]", "[]]", "[ ]", "[é]"],
                vec!["[]", "[ab]"],
            ),
            (r"10\.10\.0\.1", vec!["10.10.0.1"], vec!["10010,051"]),
            ("10.10.0.1", vec!["10010,051"], vec![]),
            ("ab*c", vec!["ac", "abbbc"], vec!["adc"]),
            ("ab+c", vec!["abc", "abbbc"], vec!["ac"]),
            (r"^\d\D\s\S\w\W$", vec!["1a b_-"], vec!["aa b_-", "1a bé-"]),
            (r"^[\d\-a]+$", vec!["1-a"], vec!["b"]),
            (r"\x3A|\x28", vec!["a:b", "("], vec![")"]),
            (r"\\", vec!["a\\b"], vec!["ab"]),
            ("a]b}", vec!["a]b}"], vec!["ab"]),
        ] {
            let is = Regex::parse(regex).unwrap();
            for text in matching {
                assert!(is.is_in(text), "{regex} {text}");
            }
            for text in other {
                assert!(!is.is_in(text), "{regex} {text}");
            }
        }
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        for regex in [
            "",
            "something!",
            "(ab)+",
            r"\(ab\)",
            "é",
            "a\"b",
            "a'b",
            "a&&b",
            "a~b",
            "<",
            r"\p",
            r"\b",
            r"\xF",
            r"\x80",
            r"\x+1",
            "\\",
            "[a",
            "[]",
            "[^]",
            "[z-a]",
            "[a--]",
            "a{+1}",
            "a{",
            "a{}",
            "a{,}",
            "a{x}",
            "a{1001}",
            "a{3,1}",
            "*",
            "a{1,2,3}",
        ] {
            let error = Regex::parse(regex).map(|_| ()).unwrap_err();
            assert!(matches!(error, PatternError::Regex { .. }), "{regex}");
        }
    }

    #[test]
    fn what_would_grow_too_large_is_refused() {
        let error = Regex::parse(".{1000}{1000}").map(|_| ()).unwrap_err();
        assert!(error.to_string().ends_with("it is too large"), "{error}");
    }
}
