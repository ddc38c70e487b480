//! Forms as clients send them, answers as they read them, and the tables.

use serde_json::{Value, json};

use super::*;
use crate::iam::{self, CreateRoleRequest, GetRoleResponse, Role, Tag};
use crate::shape::Kind;
use crate::{Timestamp, sts};

fn input(form: &str) -> Result<CreateRoleRequest, QueryError> {
    Form::parse(form.as_bytes())
        .unwrap()
        .input(iam::Operation::CreateRole.spec())
}

fn body(response: &http::Response<bytes::Bytes>) -> &str {
    std::str::from_utf8(response.body()).unwrap()
}

#[test]
fn a_form_becomes_typed_members() {
    let role = input(
        "Action=CreateRole&Version=2010-05-08&RoleName=r&AssumeRolePolicyDocument=%7B%22a%22%3A+1%7D\
         &MaxSessionDuration=3600&Tags.member.1.Key=a&Tags.member.1.Value=&Tags.member.2.Key=b&Tags.member.2.Value=c%2B",
    )
    .unwrap();
    assert_eq!(role.role_name.as_deref(), Some("r"));
    let document = role.assume_role_policy_document.as_deref();
    assert_eq!(document, Some(r#"{"a": 1}"#));
    assert_eq!(role.max_session_duration, Some(3600));
    let tag = |key: &str, value: &str| Tag {
        key: Some(key.into()),
        value: Some(value.into()),
    };
    assert_eq!(role.tags, Some(vec![tag("a", ""), tag("b", "c+")]));
    let none = input("RoleName=r&AssumeRolePolicyDocument=d&Tags=").unwrap();
    assert_eq!(none.tags, Some(vec![]));
}

#[test]
fn what_the_model_forbids_is_a_validation_error() {
    for (form, text) in [
        (
            "AssumeRolePolicyDocument=d",
            "1 validation error detected: Value null at 'roleName' failed to satisfy constraint: Member must not be null",
        ),
        (
            "RoleName=a%2Fb&AssumeRolePolicyDocument=d",
            "1 validation error detected: Value 'a/b' at 'roleName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\w+=,.@-]+",
        ),
        (
            "RoleName=r&AssumeRolePolicyDocument=d&MaxSessionDuration=x",
            "STRING_VALUE can not be converted to an Integer",
        ),
    ] {
        let error = input(form).unwrap_err();
        assert_eq!(error.code(), QueryErrorCode::ValidationError, "{form}");
        assert_eq!(error.message(), text, "{form}");
    }
}

#[test]
fn operations_are_found_by_action() {
    let find = |form: &str| {
        Form::parse(form.as_bytes())
            .unwrap()
            .operation(&sts::SERVICE)
    };
    let index = find("Action=GetCallerIdentity&Version=2011-06-15").unwrap();
    assert_eq!(
        sts::Operation::ALL[index],
        sts::Operation::GetCallerIdentity
    );
    let error = find("Action=Levitate").unwrap_err();
    assert_eq!(error.code(), QueryErrorCode::InvalidAction);
    let text = "Could not find operation Levitate for version 2011-06-15";
    assert_eq!(error.message(), text);
    assert!(find("Version=2011-06-15").is_err());
    for (service, count) in [
        (&iam::SERVICE, iam::Operation::ALL.len()),
        (&sts::SERVICE, 3),
    ] {
        assert!(service.operations.is_sorted_by_key(|spec| spec.name));
        assert_eq!(service.operations.len(), count);
    }
}

#[test]
fn an_output_is_xml_in_the_models_order() {
    let output = GetRoleResponse {
        role: Some(Role {
            role_name: Some("a<&>\u{1}".into()),
            path: Some("/".into()),
            create_date: Timestamp::from_unix_ms(1_700_000_000_250),
            tags: Some(vec![Tag {
                key: Some("k".into()),
                value: Some(String::new()),
            }]),
            max_session_duration: Some(3600),
            ..Role::default()
        }),
    };
    let spec = iam::Operation::GetRole.spec();
    let response = encode_output(&iam::SERVICE, spec, &output, "id-1");
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/xml");
    assert_eq!(
        body(&response),
        "<GetRoleResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\"><GetRoleResult><Role><Path>/</Path>\
         <RoleName>a&lt;&amp;&gt;\u{FFFD}</RoleName><CreateDate>2023-11-14T22:13:20Z</CreateDate>\
         <MaxSessionDuration>3600</MaxSessionDuration><Tags><member><Key>k</Key><Value></Value></member></Tags></Role>\
         </GetRoleResult><ResponseMetadata><RequestId>id-1</RequestId></ResponseMetadata></GetRoleResponse>"
    );
    let empty = encode_empty(&iam::SERVICE, iam::Operation::TagRole.spec(), "i");
    assert!(body(&empty).contains("2010-05-08/\"><ResponseMetadata>"));
}

#[test]
fn an_error_names_whose_fault_it_is() {
    let error = QueryError::new(QueryErrorCode::NoSuchEntity, "gone");
    let response = encode_error(&iam::SERVICE, &error, "id");
    assert_eq!(response.status(), 404);
    assert_eq!(
        body(&response),
        "<ErrorResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\"><Error><Type>Sender</Type>\
         <Code>NoSuchEntity</Code><Message>gone</Message></Error><RequestId>id</RequestId></ErrorResponse>"
    );
    for code in QueryErrorCode::ALL {
        assert!(QueryError::new(code, "").status().as_u16() >= 400);
    }
}

/// A pattern that the regex crate refuses would end the first request that meets it.
#[test]
fn every_pattern_of_the_models_compiles() {
    let all = crate::generated::iam::shapes::ALL.iter();
    let patterns = all
        .chain(&crate::generated::sts::shapes::ALL)
        .filter_map(|shape| match shape.kind {
            Kind::String { pattern, .. } => pattern,
            _ => None,
        });
    assert!(
        patterns
            .map(|pattern| pattern.matches("a"))
            .filter(|m| *m)
            .count()
            > 10
    );
}

#[test]
fn an_output_of_nothing_has_an_empty_result() {
    let value: Value = json!({});
    assert_eq!(
        value,
        serde_json::to_value(iam::ListUsersResponse::default()).unwrap()
    );
    let spec = iam::Operation::ListUsers.spec();
    let output = iam::ListUsersResponse {
        users: Some(vec![]),
        is_truncated: Some(false),
        ..iam::ListUsersResponse::default()
    };
    let response = encode_output(&iam::SERVICE, spec, &output, "i");
    assert!(body(&response).contains("<Users></Users><IsTruncated>false</IsTruncated>"));
}
