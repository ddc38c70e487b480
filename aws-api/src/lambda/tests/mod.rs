//! Tests over the whole model: what holds for one operation is checked for all of them.

pub(crate) mod constraints;
mod recorded;
mod requests;
mod samples;

use super::*;
use crate::error::ErrorCode;
use crate::generated::lambda::shapes;
use crate::shape::{Kind, Shape};

#[test]
fn all_operations_of_the_model_are_here() {
    assert_eq!(Operation::ALL.len(), 91);
    for operation in Operation::ALL {
        assert_eq!(format!("{operation:?}"), operation.name());
        assert!(StatusCode::from_u16(operation.spec().success).is_ok());
        for error in operation.spec().errors {
            assert!(error.shape().in_model);
        }
    }
}

/// Patterns are compiled on first use: this compiles all of them.
#[test]
fn every_pattern_compiles() {
    let mut count = 0;
    for shape in shapes::ALL {
        if let Kind::String {
            pattern: Some(pattern),
            ..
        } = shape.kind
        {
            pattern.matches("");
            count += 1;
        }
    }
    assert!(count > 70, "{count}");
}

/// The patterns with look-around, which are rewritten, against what Java's would answer.
#[test]
fn rewritten_patterns_match_what_java_matches() {
    let matches = |shape: &Shape, text: &str| match shape.kind {
        Kind::String {
            pattern: Some(pattern),
            ..
        } => pattern.matches(text),
        _ => panic!("{} has no pattern", shape.name),
    };
    let cases: [(&Shape, &[&str], &[&str]); 5] = [
        (
            &shapes::ALIAS,
            &["a", "1a", "a-1", "_"],
            &["", "1", "123", "a.b", "a\n"],
        ),
        (&shapes::S3_BUCKET, &["a", "a.b", ""], &["a.", ".", "a/b"]),
        (
            &shapes::COLLECTION_NAME,
            &["system", "systemx", "a.b"],
            &["system.", "system.a", "", "a$", "-"],
        ),
        (
            &shapes::FUNCTION_URL_QUALIFIER,
            &["PROD", "1x"],
            &["1", "$LATEST", ""],
        ),
        (
            &shapes::FUNCTION_URL_FUNCTION_NAME,
            &["f", "f:PROD", "function:123", "123456789012:f:a"],
            &["f:1", "f:$LATEST", "f:"],
        ),
    ];
    for (shape, good, bad) in cases {
        for text in good {
            assert!(matches(shape, text), "{} {text:?}", shape.name);
        }
        for text in bad {
            assert!(!matches(shape, text), "{} {text:?}", shape.name);
        }
    }
}

#[test]
fn unimplemented_operation_is_named_and_answered_501() {
    let error = not_implemented(Operation::CreateCapacityProvider);
    assert_eq!(error.status(), StatusCode::NOT_IMPLEMENTED);
    assert_eq!(
        error.message(),
        "Hearth does not implement CreateCapacityProvider yet."
    );
}

/// Status, casing and `Type` of the errors whose wire form was recorded from AWS.
#[test]
fn error_bodies_have_the_form_of_aws() {
    let body = |error: &ApiError| {
        let response = rest_json::encode_error(error, "id-1");
        assert_eq!(response.headers()["x-amzn-requestid"], "id-1");
        assert_eq!(
            response.headers()["x-amzn-errortype"],
            error.code().shape().code
        );
        (
            response.status().as_u16(),
            String::from_utf8(response.into_body().to_vec()).unwrap(),
        )
    };
    let throttled = ApiError::throttled(
        crate::error::ThrottleReason::ReservedFunctionConcurrentInvocationLimitExceeded,
    );
    let cases = [
        (
            ApiError::resource_not_found("x"),
            404,
            r#"{"Message":"x","Type":"User"}"#,
        ),
        (
            ApiError::resource_conflict("x"),
            409,
            r#"{"Type":"User","message":"x"}"#,
        ),
        (ApiError::validation("x"), 400, r#"{"message":"x"}"#),
        (
            ApiError::service("x"),
            500,
            r#"{"Message":"x","Type":"Service"}"#,
        ),
        (ApiError::access_denied("x"), 403, r#"{"Message":"x"}"#),
        (
            ApiError::precondition_failed("x"),
            412,
            r#"{"Type":"User","message":"x"}"#,
        ),
        (
            ApiError::request_entity_too_large("x"),
            413,
            r#"{"message":"x"}"#,
        ),
        (
            ApiError::invalid_parameter_value("x").without_type(),
            400,
            r#"{"message":"x"}"#,
        ),
        (
            throttled,
            429,
            r#"{"Reason":"ReservedFunctionConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}"#,
        ),
    ];
    for (error, status, json) in cases {
        let (got_status, got) = body(&error);
        assert_eq!(got_status, status);
        let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(parse(&got), parse(json));
    }
    for code in ErrorCode::ALL {
        let (status, _) = body(&ApiError::new(code, "text"));
        assert_eq!(status, code.shape().status);
    }
}
