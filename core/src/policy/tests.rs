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
        assert_eq!(
            serde_json::to_string(&statement.principal.unwrap()).unwrap(),
            shown
        );
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

fn request<'a>(action: &'a str, context: &'a [(&'a str, &'a str)]) -> Request<'a> {
    Request {
        callers: &[CALLER],
        action,
        resource: ARN,
        context,
    }
}

fn allows(policy: &Policy, resource: &str, context: &[(&str, &str)]) -> bool {
    policy.allows(&Request {
        callers: &[CALLER],
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
        statement(r#","Condition":{"NumericResembles":{"a":"1"}}"#),
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
    let nobody = request("lambda:InvokeFunction", &[]);
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
        let found = Pattern::new(pattern, &nobody, true).unwrap();
        assert_eq!(found.matches(text), expected, "{pattern} {text}");
    }
}

/// What an identity policy with this statement says of an invocation by a user.
fn said(statement: &str, context: &[(&str, &str)]) -> bool {
    let text =
        format!(r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow",{statement}}}]}}"#);
    let policy = Policy::of_identity(&text).unwrap();
    policy.allows(&request("lambda:InvokeFunction", context))
}

#[test]
fn actions_and_resources_may_be_excepted_and_have_variables() {
    let context = [("aws:username", "f"), ("aws:tag", "*")];
    for (statement, expected) in [
        (r#""Action":"*","Resource":"*""#, true),
        (r#""Action":"LAMBDA:invoke*","Resource":"*""#, true),
        (r#""Action":"lambda:Get*","Resource":"*""#, false),
        (
            r#""Action":["s3:*","lambda:*"],"Resource":["arn:aws:s3:::*","arn:aws:lambda:*:*:function:f"]"#,
            true,
        ),
        (r#""NotAction":"iam:*","Resource":"*""#, true),
        (
            r#""NotAction":["iam:*","lambda:Invoke*"],"Resource":"*""#,
            false,
        ),
        (
            r#""Action":"*","NotResource":"arn:aws:lambda:*:*:function:g""#,
            true,
        ),
        (r#""Action":"*","NotResource":"arn:aws:lambda:*""#, false),
        (
            r#""Action":"*","Resource":"arn:aws:lambda:*:*:function:${aws:username}""#,
            true,
        ),
        (
            r#""Action":"*","Resource":"arn:aws:lambda:*:*:function:${aws:nothing}""#,
            false,
        ),
        (
            r#""Action":"*","Resource":"arn:aws:lambda:*:*:function:${aws:nothing, 'f'}""#,
            true,
        ),
        // What a variable holds is no wildcard.
        (
            r#""Action":"*","Resource":"arn:aws:lambda:*:*:function:${aws:tag}""#,
            false,
        ),
        (
            r#""Action":"*","Resource":"arn:aws:lambda:us-east-1:123456789012:function:${*}""#,
            false,
        ),
    ] {
        assert_eq!(said(statement, &context), expected, "{statement}");
    }
    let old = r#"{"Version":"2008-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:lambda:*:function:${aws:username}"}}"#;
    let old = Policy::of_identity(old).unwrap();
    assert!(
        !old.allows(&request("lambda:InvokeFunction", &context)),
        "the old language has no variables"
    );
}

#[test]
fn every_kind_of_condition_compares_as_iam_says() {
    let context = [
        ("k:text", "Blue"),
        ("k:number", "10"),
        ("k:time", "2030-06-01T12:00:00Z"),
        ("k:yes", "true"),
        ("k:ip", "203.0.113.77"),
        ("k:ip6", "2001:db8::7"),
        ("k:arn", "arn:aws:iam::123456789012:role/a/b"),
        ("k:many", "a"),
        ("k:many", "b"),
    ];
    for (condition, expected) in [
        (r#""StringEquals":{"k:text":"blue"}"#, false),
        (r#""StringEqualsIgnoreCase":{"k:text":"bLUE"}"#, true),
        (r#""StringNotEqualsIgnoreCase":{"k:text":"blue"}"#, false),
        (r#""StringLike":{"k:text":["x","B?u*"]}"#, true),
        (r#""StringEquals":{"k:text":"B*"}"#, false),
        (r#""NumericEquals":{"k:number":10}"#, true),
        (r#""NumericNotEquals":{"k:number":"10.0"}"#, false),
        (r#""NumericLessThan":{"k:number":"10"}"#, false),
        (r#""NumericLessThanEquals":{"k:number":"10"}"#, true),
        (r#""NumericGreaterThan":{"k:number":["99","9.5"]}"#, true),
        (r#""NumericGreaterThanEquals":{"k:number":"11"}"#, false),
        (r#""NumericEquals":{"k:text":"10"}"#, false),
        (r#""DateGreaterThan":{"k:time":"2030-05-31"}"#, true),
        (
            r#""DateLessThan":{"k:time":"2030-06-01T13:00:00+02:00"}"#,
            false,
        ),
        (r#""DateEquals":{"k:time":"1906545600"}"#, true),
        (r#""DateLessThanEquals":{"k:time":"nonsense"}"#, false),
        (r#""Bool":{"k:yes":true}"#, true),
        (r#""Bool":{"k:yes":"FALSE"}"#, false),
        (r#""IpAddress":{"k:ip":"203.0.113.0/24"}"#, true),
        (
            r#""IpAddress":{"k:ip":["10.0.0.0/8","203.0.113.77"]}"#,
            true,
        ),
        (r#""NotIpAddress":{"k:ip":"203.0.113.0/24"}"#, false),
        (r#""IpAddress":{"k:ip6":"2001:db8::/32"}"#, true),
        (r#""IpAddress":{"k:ip6":"0.0.0.0/0"}"#, false),
        (r#""IpAddress":{"k:ip":"0.0.0.0/0"}"#, true),
        (r#""IpAddress":{"k:ip":"what/24"}"#, false),
        (r#""ArnLike":{"k:arn":"arn:aws:iam::*:role/*"}"#, true),
        (r#""ArnEquals":{"k:arn":"arn:*:role/a/b"}"#, false),
        (r#""ArnNotLike":{"k:arn":"arn:aws:iam::*:user/*"}"#, true),
        (r#""Null":{"k:text":"true"}"#, false),
        (r#""Null":{"k:none":true}"#, true),
        (r#""Null":{"k:text":"false"}"#, true),
        (r#""ForAnyValue:StringEquals":{"k:many":["b","c"]}"#, true),
        (r#""ForAnyValue:StringEquals":{"k:none":"b"}"#, false),
        (r#""ForAllValues:StringEquals":{"k:many":["b","c"]}"#, false),
        (r#""ForAllValues:StringEquals":{"k:many":["b","a"]}"#, true),
        (r#""ForAllValues:StringEquals":{"k:none":"b"}"#, true),
        (r#""ForAnyValue:StringNotEquals":{"k:many":"a"}"#, true),
        (r#""ForAllValues:StringNotEquals":{"k:many":"a"}"#, false),
        (r#""StringNotEquals":{"k:none":"a"}"#, true),
        (r#""NumericLessThanIfExists":{"k:none":"1"}"#, true),
        (r#""NumericLessThan":{"k:none":"1"}"#, false),
        (r#""BinaryEquals":{"k:text":"Blue"}"#, true),
        (
            r#""StringEquals":{"k:text":"Blue"},"Bool":{"k:yes":"false"}"#,
            false,
        ),
        (r#""StringEquals":{"K:TEXT":"Blue","k:yes":"true"}"#, true),
    ] {
        let statement = format!(r#""Action":"*","Resource":"*","Condition":{{{condition}}}"#);
        assert_eq!(said(&statement, &context), expected, "{condition}");
    }
}

fn document(statement: &str) -> String {
    format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#)
}

fn malformed(text: &str) -> std::result::Result<(), (ErrorCode, String)> {
    Err((ErrorCode::MalformedPolicy, text.to_owned()))
}

#[test]
fn documents_of_identities_are_looked_at() {
    let identity = |statement: &str| {
        Policy::of_identity(&document(statement)).map_err(|e| (e.code, e.message))
    };
    assert!(identity(r#"{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::b"}"#).is_ok());
    for (statement, text) in [
        ("{", "This policy contains invalid Json"),
        ("1", "Syntax errors in policy."),
        (
            r#"{"Effect":"Perhaps","Action":"*","Resource":"*"}"#,
            "Syntax errors in policy.",
        ),
        (
            r#"{"Effect":"Allow","Action":"*","Resource":"*","Principal":"*"}"#,
            "Policy document should not specify a principal.",
        ),
        (
            r#"{"Effect":"Allow","Action":"*"}"#,
            "Policy statement must contain resources.",
        ),
        (
            r#"{"Effect":"Allow","Action":"*","Resource":[]}"#,
            "Policy statement must contain resources.",
        ),
        (
            r#"{"Effect":"Allow","Action":"*","Resource":"b"}"#,
            "Resource b must be in ARN format or \"*\".",
        ),
        (
            r#"{"Effect":"Allow","Resource":"*"}"#,
            "Policy statement must contain actions.",
        ),
        (
            r#"{"Effect":"Allow","Action":"GetObject","Resource":"*"}"#,
            "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.",
        ),
        (
            r#"{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Same":{"a":"b"}}}"#,
            "Invalid Condition type : Same.",
        ),
        (
            r#"{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"NullIfExists":{"a":"b"}}}"#,
            "Invalid Condition type : NullIfExists.",
        ),
        (
            r#"{"Sid":"a","Effect":"Allow","Action":"*","Resource":"*"},{"Sid":"a","Effect":"Allow","Action":"*","Resource":"*"}"#,
            "Statement IDs (SID) in a single policy must be unique.",
        ),
    ] {
        assert_eq!(
            identity(statement).map(drop),
            malformed(text),
            "{statement}"
        );
    }
}

#[test]
fn documents_of_trust_are_looked_at() {
    let trust =
        |statement: &str| Policy::of_trust(&document(statement)).map_err(|e| (e.code, e.message));
    let lambda = r#"{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}"#;
    let policy = trust(lambda).unwrap();
    let asked = |caller| Request {
        callers: caller,
        action: "sts:AssumeRole",
        resource: "arn:aws:iam::123456789012:role/r",
        context: &[],
    };
    assert!(policy.allows(&asked(&["lambda.amazonaws.com"])));
    assert!(!policy.allows(&asked(&["ec2.amazonaws.com"])));
    assert!(!policy.allows(&asked(&[CALLER])));
    for (statement, text) in [
        (
            r#"{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole","Resource":"*"}"#,
            "Has prohibited field Resource",
        ),
        (
            r#"{"Effect":"Allow","Action":"sts:AssumeRole"}"#,
            "Missing required field Principal",
        ),
        (
            r#"{"Effect":"Allow","Principal":"*","Action":"s3:Get*"}"#,
            "AssumeRole policy may only specify STS AssumeRole actions.",
        ),
        (
            r#"{"Effect":"Allow","NotPrincipal":{"AWS":"*"},"Action":"sts:AssumeRole"}"#,
            "Allow with NotPrincipal is not allowed.",
        ),
    ] {
        assert_eq!(trust(statement).map(drop), malformed(text), "{statement}");
    }
}
