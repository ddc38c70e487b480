//! What holds of any text at all, and of texts made of what patterns are made of.

use proptest::prelude::*;

use super::*;

/// Pieces that mean something in patterns and lines, in any order.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        "(",
        ")",
        "$",
        "$.a",
        ".",
        "*",
        "%",
        "%a%",
        "\"",
        "\\",
        "'",
        "=",
        "!=",
        "<",
        ">=",
        "&&",
        "||",
        "IS NULL",
        "NOT EXISTS",
        "...",
        ",",
        " ",
        "?",
        "-",
        "a",
        "é",
        "1e3",
        "1",
        "[0]",
        "[*]",
        "{2,3}",
        ":",
        "\n",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// Half of them are enclosed, so that more than the form of terms is tried.
fn pattern() -> impl Strategy<Value = String> {
    (pieces(), 0..4_u8).prop_map(|(inner, form)| match form {
        0 => format!("{{{inner}}}"),
        1 => format!("[{inner}]"),
        2 => format!("{{ $.a = {inner} }}"),
        _ => inner,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn reading_and_matching_never_panic(text in pattern(), line in pieces()) {
        if let Ok(pattern) = Pattern::parse(&text) {
            pattern.matches(&line);
            pattern.matches(&format!("{{\"a\":{line}}}"));
            pattern.matches(r#"{"a":[1,"a",{"a":null}]}"#);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>(), line in any::<String>()) {
        if let Ok(pattern) = Pattern::parse(&text) {
            pattern.matches(&line);
        }
    }

    #[test]
    fn a_phrase_matches_the_lines_that_contain_it(phrase in "[a-c \\\\\"]{1,4}", line in "[a-c \\\\\"]{0,12}") {
        let quoted = phrase.replace('\\', "\\\\").replace('"', "\\\"");
        let has = line.contains(&phrase) || phrase.trim().is_empty();
        prop_assert_eq!(Pattern::parse(&format!("\"{quoted}\"")).unwrap().matches(&line), has);
        prop_assert_eq!(Pattern::parse(&format!("-\"{quoted}\"")).unwrap().matches(&line), !has);
    }
}

proptest! {
    #[test]
    fn not_equal_is_the_contrary_of_equal(value in "[ab0-9*]{1,3}", text in "[ab0-9]{0,3}") {
        let line = serde_json::json!({ "a": text }).to_string();
        let equal = Pattern::parse(&format!("{{ $.a = {value} }}")).unwrap().matches(&line);
        let other = Pattern::parse(&format!("{{ $.a != {value} }}")).unwrap().matches(&line);
        prop_assert_ne!(equal, other);
        let as_regex = regex_of(&value).is_match(&text);
        prop_assert_eq!(equal, as_regex);
    }
}

fn regex_of(glob: &str) -> ::regex::Regex {
    ::regex::Regex::new(&format!("^{}$", glob.replace('*', ".*"))).unwrap()
}

/// Lines and patterns that make backtracking matchers slow. What takes time in proportion to the line is done in a moment.
#[test]
fn hostile_lines_are_matched_in_a_moment() {
    let line = "a".repeat(1 << 20);
    for pattern in [
        "%a*a*a*a*a*a*b%",
        "{ $.a = a*a*a*a*b }",
        "[x = *a*a*a*a*b]",
        "aaaaaaaab",
        "[..., x = *b]",
    ] {
        assert!(
            !Pattern::parse(pattern).unwrap().matches(&line),
            "{pattern}"
        );
    }
    for line in [
        "[".repeat(1 << 20),
        "\" ".repeat(1 << 19),
        "[ ".repeat(1 << 19),
        "] [".repeat(1 << 18),
    ] {
        assert!(!Pattern::parse("[a = b, ...]").unwrap().matches(&line));
    }
    let wide = format!("{{\"a\":[{}1]}}", "1,".repeat(1 << 16));
    assert!(
        !Pattern::parse("{ $.a[*] = 2 || $.a[*] = 3 || $.a[*] = 4 }")
            .unwrap()
            .matches(&wide)
    );
}
