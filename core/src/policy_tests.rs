//! Tables of what statements look like and what policies allow.

use super::*;

const ARN: &str = "arn:aws:lambda:us-east-1:123456789012:function:f";
const CALLER: &str = "arn:aws:iam::210987654321:root";

fn permission(principal: &str) -> Permission {
    Permission {
        statement_id: "s".into(),
        action: "lambda:InvokeFunction".into(),
        principal: principal.into(),
        ..Permission::default()
    }
}

fn text(permission: Permission) -> String {
    serde_json::to_string(&permission.statement(ARN.into()).unwrap()).unwrap()
}

#[test]
fn a_statement_is_written_as_aws_writes_it() {
    let said = Permission {
        source_arn: Some("arn:aws:s3:::b".into()),
        source_account: Some("123456789012".into()),
        ..permission("s3.amazonaws.com")
    };
    assert_eq!(
        text(said),
        r#"{"Sid":"s","Effect":"Allow","Principal":{"Service":"s3.amazonaws.com"},"Action":"lambda:InvokeFunction","Resource":"arn:aws:lambda:us-east-1:123456789012:function:f","Condition":{"ArnLike":{"AWS:SourceArn":"arn:aws:s3:::b"},"StringEquals":{"AWS:SourceAccount":"123456789012"}}}"#
    );
    let said = Permission {
        url_auth_type: Some("NONE".into()),
        principal_org_id: Some("o-1234567890".into()),
        event_source_token: Some("t".into()),
        invoked_via_url: Some(true),
        ..permission("*")
    };
    let statement: serde_json::Value = serde_json::from_str(&text(said)).unwrap();
    assert_eq!(statement["Principal"], "*");
    assert_eq!(
        statement["Condition"],
        serde_json::json!({
            "Bool": {"lambda:InvokedViaFunctionUrl": "true"},
            "StringEquals": {
                "lambda:FunctionUrlAuthType": "NONE", "aws:PrincipalOrgID": "o-1234567890", "lambda:EventSourceToken": "t"
            },
        })
    );
}

#[test]
fn principals_are_services_accounts_arns_or_everybody() {
    for (said, shown) in [
        ("*", r#""*""#),
        (
            "210987654321",
            r#"{"AWS":"arn:aws:iam::210987654321:root"}"#,
        ),
        (
            "arn:aws:iam::210987654321:user/u",
            r#"{"AWS":"arn:aws:iam::210987654321:user/u"}"#,
        ),
        (
            "events.amazonaws.com",
            r#"{"Service":"events.amazonaws.com"}"#,
        ),
        (
            "alexa-appkit.amazon.com",
            r#"{"Service":"alexa-appkit.amazon.com"}"#,
        ),
    ] {
        let statement = permission(said).statement(ARN.into()).unwrap();
        assert_eq!(serde_json::to_string(&statement.principal).unwrap(), shown);
    }
    for said in [
        "nobody",
        "invalid.nonaws.com",
        "arn:aws:s3:::b",
        "12345678901",
    ] {
        let error = permission(said).statement(ARN.into()).unwrap_err();
        assert_eq!(
            error.message,
            "The provided principal was invalid. Please check the principal and try again."
        );
    }
}

fn allows(policy: &Policy, resource: &str, context: &[(&str, &str)]) -> bool {
    policy.allows(&Request {
        caller: CALLER,
        action: "lambda:InvokeFunction",
        resource,
        context,
    })
}

#[test]
fn a_policy_allows_what_a_statement_says_and_none_denies() {
    for (principal, expected) in [
        ("*", true),
        ("210987654321", true),
        (CALLER, true),
        ("arn:aws:iam::210987654321:user/u", false),
        ("111111111111", false),
        ("sqs.amazonaws.com", false),
    ] {
        let policy = Policy::of(permission(principal).statement(ARN.into()).unwrap());
        assert_eq!(allows(&policy, ARN, &[]), expected, "{principal}");
        assert!(
            !allows(&policy, &format!("{ARN}:live"), &[]),
            "an alias has its own"
        );
    }
    let mut policy = Policy::of(permission("*").statement(ARN.into()).unwrap());
    policy.statement.push(Statement {
        sid: None,
        effect: Effect::Deny,
        ..permission("210987654321").statement(ARN.into()).unwrap()
    });
    assert!(!allows(&policy, ARN, &[]));
}

#[test]
fn conditions_compare_keys_of_any_case() {
    let said = Permission {
        source_arn: Some("arn:aws:s3:::b*".into()),
        ..permission("*")
    };
    let policy = Policy::of(said.statement(ARN.into()).unwrap());
    assert!(!allows(&policy, ARN, &[]), "a key that is absent");
    assert!(allows(
        &policy,
        ARN,
        &[("aws:sourcearn", "arn:aws:s3:::bucket")]
    ));
    assert!(!allows(
        &policy,
        ARN,
        &[("aws:sourcearn", "arn:aws:s3:::c")]
    ));
    let with = |condition: &str| {
        let statement = format!(
            r#"{{"Statement":{{"Effect":"Allow","Principal":"*","Action":"lambda:*","Resource":"{ARN}","Condition":{condition}}}}}"#
        );
        allows(
            &Policy::parse(&statement, ARN).unwrap(),
            ARN,
            &[("a:k", "v")],
        )
    };
    for (condition, expected) in [
        (r#"{"StringEquals":{"A:K":["u","v"]}}"#, true),
        (r#"{"StringEquals":{"a:k":"u"}}"#, false),
        (r#"{"StringNotEquals":{"a:k":"u"}}"#, true),
        (r#"{"StringNotLike":{"a:k":"v*"}}"#, false),
        (r#"{"StringEqualsIfExists":{"a:other":"v"}}"#, true),
        (r#"{"StringEquals":{"a:other":"v"}}"#, false),
    ] {
        assert_eq!(with(condition), expected, "{condition}");
    }
}

#[test]
fn whole_documents_are_looked_at() {
    let statement = |more: &str| {
        format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Sid":"a","Effect":"Allow","Principal":"*","Action":"lambda:InvokeFunction","Resource":"{ARN}"{more}}}]}}"#
        )
    };
    let policy = Policy::parse(&statement(""), ARN).unwrap();
    assert_eq!(policy.text(), statement(""));
    assert!(policy.has("a") && !policy.has("b"));
    for bad in [
        "{".to_owned(),
        statement(r#","Else":1"#),
        statement(r#","Condition":{"NumericEquals":{"a":"1"}}"#),
        statement("").replace(ARN, "arn:aws:lambda:us-east-1:123456789012:function:other"),
    ] {
        let error = Policy::parse(&bad, ARN).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidParameterValue, "{bad}");
    }
    let long = statement("").replace(
        r#""Sid":"a""#,
        &format!(r#""Sid":"{}""#, "a".repeat(21_000)),
    );
    assert_eq!(
        Policy::parse(&long, ARN).unwrap_err().code,
        ErrorCode::PolicyTooLong
    );
}

#[test]
fn stars_and_question_marks_stand_for_text() {
    for (pattern, text, expected) in [
        ("*", "", true),
        ("a*c", "abbc", true),
        ("a*c", "abb", false),
        ("a?c", "abc", true),
        ("a?c", "ac", false),
        ("*a*b*", "xaxbx", true),
        ("*ab", "aab", true),
        ("", "a", false),
    ] {
        assert_eq!(is_like(pattern, text), expected, "{pattern} {text}");
    }
}
