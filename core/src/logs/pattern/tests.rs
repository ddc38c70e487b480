//! Patterns of terms and of fields, with the examples of AWS's guide.

use super::*;

const UNSTRUCTURED: [&str; 4] = [
    "[ERROR 400] BAD REQUEST",
    "[ERROR 401] UNAUTHORIZED REQUEST",
    "[ERROR 419] MISSING ARGUMENTS",
    "[ERROR 420] INVALID ARGUMENTS",
];

const ACCESS: &str =
    "127.0.0.1 Prod frank [10/Oct/2000:13:25:15 -0700] \"GET /index.html HTTP/1.0\" 404 1534";

const WORDS: [&str; 4] = [
    "INFO 09/25/2014 12:00:00 GET /service/resource/67 1200",
    "INFO 09/25/2014 12:00:01 POST /service/resource/67/part/111 1310",
    "WARNING 09/25/2014 12:00:02 Invalid user request",
    "ERROR 09/25/2014 12:00:02 Failed to process request",
];

#[track_caller]
fn is(pattern: &str, line: &str) -> bool {
    Pattern::parse(pattern).unwrap().matches(line)
}

/// Indices of the lines that match.
#[track_caller]
fn which(pattern: &str, lines: &[&str]) -> Vec<usize> {
    let pattern = Pattern::parse(pattern).unwrap();
    let lines = lines.iter().enumerate();
    lines
        .filter(|(_, line)| pattern.matches(line))
        .map(|(n, _)| n)
        .collect()
}

#[track_caller]
fn refused(pattern: &str) -> PatternError {
    Pattern::parse(pattern).unwrap_err()
}

#[test]
fn terms_of_the_guide_match_what_it_says() {
    for (pattern, expected) in [
        ("ERROR", vec![0, 1, 2, 3]),
        ("ERROR ARGUMENTS", vec![2, 3]),
        ("?ERROR ?ARGUMENTS", vec![0, 1, 2, 3]),
        ("?BAD ?MISSING", vec![0, 2]),
        ("ERROR -ARGUMENTS", vec![0, 1]),
        ("%AUTHORIZED%", vec![1]),
        ("error", vec![]),
        ("\" \"", vec![0, 1, 2, 3]),
        ("", vec![0, 1, 2, 3]),
        ("-\"BAD REQUEST\" -MISSING", vec![1, 3]),
        ("?\"BAD REQUEST\" ?%4[12]%", vec![0, 2, 3]),
    ] {
        assert_eq!(which(pattern, &UNSTRUCTURED), expected, "{pattern}");
    }
    assert!(is(
        "\"INTERNAL SERVER ERROR\"",
        "[ERROR 500] INTERNAL SERVER ERROR"
    ));
    assert!(!is("\"INTERNAL SERVER ERROR\"", "INTERNAL ERROR OF SERVER"));
}

#[test]
fn optional_terms_are_ignored_beside_others() {
    let lines = [
        "[INFO] REQUEST FAILED",
        "[WARN] UNAUTHORIZED REQUEST",
        "[ERROR] 400 BAD REQUEST",
        "ERROR",
    ];
    assert_eq!(which("?ERROR ?ARGUMENTS REQUEST", &lines), [0, 1, 2]);
    assert_eq!(which("?ERROR -REQUEST", &lines), [3]);
}

#[test]
fn a_term_is_found_within_a_word() {
    assert!(is(
        "Exception",
        "[ERROR] Unhanded exception: InvalidQueryException"
    ));
}

#[test]
fn a_phrase_may_have_escaped_quotation_marks() {
    assert!(is(r#""level\":\"error""#, r#"{"level":"error"}"#));
    assert!(is(r#""a\\b""#, r"a\b"));
    assert!(is(r#""a\d""#, r"a\d"));
}

#[test]
fn a_pattern_of_everything_says_so() {
    for (pattern, expected) in [
        ("", true),
        ("\" \"", true),
        ("  ", true),
        ("a", false),
        ("-a", false),
        ("[]", false),
    ] {
        let pattern = Pattern::parse(pattern).unwrap();
        assert_eq!(pattern.is_everything(), expected, "{pattern:?}");
    }
}

#[test]
fn other_characters_than_letters_digits_and_underscores_are_quoted() {
    for (pattern, character) in [
        ("?Status: timeout", ":"),
        ("a,b", ","),
        ("(a)", "("),
        ("foo-bar", "-"),
        ("/path", "/"),
        ("a\\b", "\\"),
        ("`", "`"),
        ("\"\"", "\"\""),
    ] {
        assert_eq!(
            refused(pattern),
            PatternError::Characters(character.to_owned()),
            "{pattern}"
        );
    }
    assert_eq!(
        refused("a:b").to_string(),
        "Invalid character(s) in term ':'"
    );
    assert!(is("_a1é", "x_a1éy"));
}

#[test]
fn what_is_not_finished_is_refused() {
    for (pattern, message) in [
        (
            "{ $.a = 1",
            "If a filter pattern starts with '{' it must end with '}'",
        ),
        (
            "[a, b",
            "If a filter pattern starts with '[' it must end with ']'",
        ),
        (
            "[a, b] c",
            "If a filter pattern starts with '[' it must end with ']'",
        ),
        (
            "{",
            "If a filter pattern starts with '{' it must end with '}'",
        ),
        (
            "\"a",
            "Invalid filter pattern: expected a closing quotation mark at ''",
        ),
        (
            "%a",
            "Invalid filter pattern: expected a closing percent sign at 'a'",
        ),
        ("- a", "Invalid filter pattern: expected a term at ' a'"),
        ("?", "Invalid filter pattern: expected a term at ''"),
    ] {
        assert_eq!(refused(pattern).to_string(), message, "{pattern}");
    }
}

#[test]
fn limits_are_those_of_the_model_and_ours() {
    assert!(Pattern::parse(&"é".repeat(PATTERN_MAX)).is_ok());
    assert!(matches!(
        refused(&"é".repeat(PATTERN_MAX + 1)),
        PatternError::Violation(_)
    ));
    assert!(Pattern::parse(&"a ".repeat(TERMS_MAX)).is_ok());
    assert_eq!(
        refused(&"a ".repeat(TERMS_MAX + 1)),
        PatternError::ManyTerms
    );
    assert!(Pattern::parse("%a% %b%").is_ok());
    assert_eq!(refused("%a% %b% %c%"), PatternError::ManyRegexes);
    assert_eq!(refused("[a=%x%, b=%y%, c=%z%]"), PatternError::ManyRegexes);
    assert!(Pattern::parse(&format!("[{}]", "a,".repeat(TERMS_MAX - 1))).is_ok());
    assert_eq!(
        refused(&format!("[{}]", "a,".repeat(TERMS_MAX))),
        PatternError::ManyTerms
    );
}

#[test]
fn fields_of_the_guide_match_what_it_says() {
    for pattern in [
        "[ip, user, username, timestamp, request, status_code, bytes]",
        r"[ip=%127\.0\.0\.[1-9]%, user, username, timestamp, request =*.html*, status_code = 4*, bytes]",
        "[..., request =*.html*, status_code = 4*, bytes]",
        "[ip, user, username, timestamp, request =*.html*, status_code = 404 || status_code = 410, bytes]",
        "[ip, server, username, timestamp, request, status_code, bytes > 1000]",
        "[..., request=*.html*, status_code=4*,]",
        "[..., request=\"GET /index.html HTTP/1.0\", status_code >= 400 && status_code < 500, bytes = 1534]",
        "[ip, ..., bytes <= 1.534e3]",
        "[ip = 127.0.0.1, ...]",
        "[ip, rest]",
        "[]",
        "[...]",
        "[ , user != Test, ...]",
        "[..., bytes > 1 && (bytes = 7 || bytes = 1534)]",
    ] {
        assert!(is(pattern, ACCESS), "{pattern}");
    }
    for pattern in [
        "[ip, server, username, timestamp, request, status_code, bytes > 2000]",
        "[ip, user, username, timestamp, request, status_code = 410 || status_code = 403, bytes]",
        "[ip = 127.0.0.1]",
        "[a, b, c, d, e, f, g, h]",
        "[a, b, c, d, e, f, g, h, ...]",
        "[..., bytes < 100]",
        "[ip > 1, ...]",
    ] {
        assert!(!is(pattern, ACCESS), "{pattern}");
    }
}

#[test]
fn words_of_the_guide_match_what_it_says() {
    for (pattern, expected) in [
        ("[w1=ERROR, w2]", vec![3]),
        ("[w1=ERROR || w1=WARNING, w2]", vec![2, 3]),
        ("[w1=ERROR || w1=%WARN%, w2]", vec![2, 3]),
        ("[w1!=ERROR && w1!=WARNING, w2]", vec![0, 1]),
        (
            "[logLevel, date, time, method, url=%/service/resource/[0-9]+$%, response_time]",
            vec![0],
        ),
        (
            "[logLevel, date, time, method, url=%/service/resource/[0-9]+/part/[0-9]+$%, response_time]",
            vec![1],
        ),
        ("[w1=ERROR]", vec![]),
    ] {
        assert_eq!(which(pattern, &WORDS), expected, "{pattern}");
    }
    // The blank indicator is of a field that is there.
    assert!(!is("[w1=ERROR, w2]", "ERROR"));
    assert!(is("[w1=ERROR]", "ERROR\n"));
}

#[test]
fn fields_that_are_none_are_refused() {
    for pattern in [
        "[a, ..., b, ...]",
        "[a = ]",
        "[a = 1 ||]",
        "[a b]",
        "[a = 1 b]",
        "[a = x || b = y]",
        "[= 1]",
        "[a > x]",
        "[a > \"1\"]",
        "[(a = 1]",
        "[a = %x]",
        "[a == 1]",
        "[a IS NULL]",
    ] {
        assert!(Pattern::parse(pattern).is_err(), "{pattern}");
    }
}
