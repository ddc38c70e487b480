//! Patterns for JSON, with the examples of AWS's guide.

use super::*;

const EVENT: &str = r#"{"eventType":"UpdateTrail","sourceIPAddress":"111.111.111.111",
    "arrayKey":["value","another value"],"objectList":[{"name":"a","id":1},{"name":"b","id":2}],
    "SomeObject":null,"cluster.name":"c","yes":true,"no":false,"n":75,"big":1e3,"text":"3"}"#;

const COMPOUND: &str = r#"{"user":{"id":1,"email":"John.Stiles@example.com"},
    "users":[{"id":2,"email":"John.Doe@example.com"},{"id":3,"email":"Jane.Doe@example.com"}],
    "actions":["GET","PUT","DELETE"],"coordinates":[[0,1,2],[4,5,6],[7,8,9]]}"#;

#[track_caller]
fn is(pattern: &str, line: &str) -> bool {
    Pattern::parse(pattern).unwrap().matches(line)
}

#[test]
fn conditions_of_the_guide_match_what_it_says() {
    for pattern in [
        r#"{ $.eventType = "UpdateTrail" }"#,
        "{ $.eventType = UpdateTrail }",
        "{ $.sourceIPAddress != 123.123.* }",
        r#"{ $.arrayKey[0] = "value" }"#,
        "{ $.eventType = %Trail% }",
        "{ $.arrayKey[*] = %val.{2}% }",
        r"{ $.* = %111\.111\.111\.1[0-9]{1,2}% }",
        r#"{ $.['cluster.name'] = "c" }"#,
        r#"{ $["cluster.name"] = c }"#,
        "{ $.SomeObject IS NULL }",
        "{ $.SomeOtherObject NOT EXISTS }",
        r#"{ $.eventType = "*" && $.sourceIPAddress != 123.123.* }"#,
        "{ $.yes IS TRUE && $.no IS FALSE }",
        "{$.eventType=\"UpdateTrail\"&&$.n=75}",
    ] {
        assert!(is(pattern, EVENT), "{pattern}");
    }
    for pattern in [
        "{ $.eventType = updatetrail }",
        "{ $.sourceIPAddress != 111.111.* }",
        r#"{ $.arrayKey[1] = "value" }"#,
        r#"{ $.arrayKey[2] = "*" }"#,
        "{ $.eventType IS NULL }",
        "{ $.SomeObject NOT EXISTS }",
        "{ $.yes IS FALSE }",
        "{ $.objectList[*].name NOT EXISTS }",
    ] {
        assert!(!is(pattern, EVENT), "{pattern}");
    }
}

#[test]
fn numbers_are_compared_as_numbers() {
    for (pattern, expected) in [
        ("{ $.n > 74.5 }", true),
        ("{ $.n > 75 }", false),
        ("{ $.n >= 75 }", true),
        ("{ $.n < 75 }", false),
        ("{ $.n <= 75 }", true),
        ("{ $.n = 75 }", true),
        ("{ $.n = 7.5e1 }", true),
        ("{ $.n = 75.0}", true),
        ("{ $.n != 500 }", true),
        ("{ $.n = 7* }", true),
        ("{ $.n = * }", true),
        ("{ $.n > -1 }", true),
        ("{ $.big = 1e+3 }", true),
        ("{ $.big != 1e-3 }", true),
        ("{ $.n = \"75\" }", true),
        // A text is not a number, though it may be the same.
        ("{ $.text = 3 }", true),
        ("{ $.text > 2 }", false),
    ] {
        assert_eq!(is(pattern, EVENT), expected, "{pattern}");
    }
}

#[test]
fn what_is_neither_text_nor_number_is_not_compared() {
    for selector in [
        "SomeObject",
        "yes",
        "arrayKey",
        "objectList[0]",
        "missing",
        "n.x",
        "eventType[0]",
    ] {
        for operator in ["=", "!="] {
            assert!(
                !is(&format!("{{ $.{selector} {operator} x }}"), EVENT),
                "{selector}"
            );
        }
    }
}

#[test]
fn and_binds_closer_than_or_and_parentheses_closest() {
    for (pattern, expected) in [
        (
            r#"{ ($.user.id = 1) && ($.users[0].email = "John.Doe@example.com") }"#,
            true,
        ),
        (
            r#"{ $.user.email = "John.Stiles@example.com" || $.coordinates[0][1] = "nonmatch" && $.actions[2] = "nonmatch" }"#,
            true,
        ),
        (
            r#"{ ($.user.email = "John.Stiles@example.com" || $.coordinates[0][1] = "nonmatch") && $.actions[2] = "nonmatch" }"#,
            false,
        ),
        (
            r#"{ ($.user.id = 2 && $.users[0].email = "nonmatch") || $.actions[2] = "GET" }"#,
            false,
        ),
        ("{ $.coordinates[1][2] = 6 }", true),
        (
            "{ $.users[*].id = 3 && $.coordinates[*][0] = 7 && $.actions[*] = PUT }",
            true,
        ),
    ] {
        assert_eq!(is(pattern, COMPOUND), expected, "{pattern}");
    }
}

#[test]
fn a_line_that_is_not_json_matches_nothing() {
    for line in ["", "x", "{", "{\"a\":1} x", "x {\"a\":1}", "1", "\"a\""] {
        for pattern in ["{ $.a = 1 }", "{ $.b NOT EXISTS }"] {
            assert!(!is(pattern, line), "{line}");
        }
    }
    assert!(is("{ $.a = 1 }", " {\"a\":1}\n"));
    assert!(is("{ $[0] = 1 }", "[1]"));
    // Deeper than any reader goes.
    assert!(!is("{ $.a = 1 }", &"[".repeat(1 << 20)));
}

#[test]
fn patterns_that_are_none_are_refused() {
    for pattern in [
        "{}",
        "{ }",
        "{ $.a }",
        "{ $.a = }",
        "{ a = 1 }",
        "{ $ = 1 }",
        "{ $. = 1 }",
        "{ $.a == 1 }",
        "{ $.a = 1 && }",
        "{ $.a = 1 $.b = 2 }",
        "{ ($.a = 1 }",
        "{ $.a = 1) }",
        "{ $.a IS MAYBE }",
        "{ $.a IS NOT NULL }",
        "{ $.a EXISTS }",
        "{ $.a is null }",
        "{ $.a[x] = 1 }",
        "{ $.a[99999999999999999999] = 1 }",
        "{ $.a[0 = 1 }",
        "{ $.a = \"x }",
        "{ $.a > x }",
        "{ $.a > %x% }",
    ] {
        assert!(Pattern::parse(pattern).is_err(), "{pattern}");
    }
    let error = Pattern::parse("{ $.\"detail-type\" = x }").unwrap_err();
    assert_eq!(error.to_string(), "Invalid character(s) in term '$.\"'");
    assert!(Pattern::parse("{ $.detail-type = x }").is_ok());
}

#[test]
fn wildcards_and_depth_are_limited() {
    let many = |n: usize| format!("{{ {} }}", vec!["$.a[*] = 1"; n].join(" || "));
    assert!(Pattern::parse(&many(3)).is_ok());
    assert_eq!(
        Pattern::parse(&many(4)).unwrap_err(),
        PatternError::ManyWildcards
    );
    assert_eq!(
        Pattern::parse("{ $.*[*] = 1 }").unwrap_err(),
        PatternError::ManyWildcards
    );
    let deep = |n: usize| format!("{{ {}$.a = 1{} }}", "(".repeat(n), ")".repeat(n));
    assert!(is(&deep(DEPTH_MAX), "{\"a\":1}"));
    assert_eq!(
        Pattern::parse(&deep(DEPTH_MAX + 1)).unwrap_err(),
        PatternError::Deep
    );
    assert_eq!(Pattern::parse(&deep(500)).unwrap_err(), PatternError::Deep);
}
