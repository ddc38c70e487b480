//! Whole requests and responses: bindings, routing, wrong types, garbage.

use http::Request;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::samples::sample;
use super::*;
use crate::generated::lambda::operations::for_each_input;
use crate::shape::Location;

fn escape(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn as_text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// The request that a client sends for the members.
fn request(operation: Operation, members: &Value) -> (Parts, Bytes) {
    let spec = operation.spec();
    let mut uri = spec.uri.to_owned();
    let mut query = Vec::new();
    let mut body = json!({});
    let mut builder = Request::builder().method(spec.method);
    for member in spec.input.unwrap().members() {
        let value = &members[member.name];
        match member.location {
            Location::Uri(name) => {
                uri = uri.replace(&format!("{{{name}}}"), &escape(&as_text(value)));
            }
            Location::Query(name) => {
                let values = value
                    .as_array()
                    .cloned()
                    .unwrap_or_else(|| vec![value.clone()]);
                query.extend(
                    values
                        .iter()
                        .map(|v| format!("{name}={}", escape(&as_text(v)))),
                );
            }
            Location::Header(name) => builder = builder.header(name, as_text(value)),
            Location::Payload => body = value.clone(),
            Location::Body => body[member.name] = value.clone(),
            Location::StatusCode => {}
        }
    }
    if !query.is_empty() {
        let separator = if uri.contains('?') { '&' } else { '?' };
        uri = format!("{uri}{separator}{}", query.join("&"));
    }
    let (parts, ()) = builder.uri(uri).body(()).unwrap().into_parts();
    (parts, body.to_string().into())
}

/// Every operation: its sample, sent as a client sends it, is routed, decoded and valid.
#[test]
fn every_operation_s_full_input_arrives() {
    let mut count = 0;
    macro_rules! arrive {
        ($operation:ident, $input:ident) => {
            let operation = Operation::$operation;
            let (parts, body) = request(operation, &sample(operation.spec().input.unwrap()));
            let route = route(&parts.method, &parts.uri).unwrap();
            assert_eq!(route.operation, operation);
            let input = decode::<$input>(&route, &parts, &body);
            assert!(input.is_ok(), "{operation:?}: {input:?}");
            count += 1;
        };
    }
    for_each_input!(arrive);
    assert_eq!(count, 91);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn labels_are_decoded_and_the_template_s_query_decides() {
    let find = |method: &str, uri: &str| {
        let route = route(&method.parse().unwrap(), &uri.parse().unwrap()).unwrap();
        let labels: Vec<String> = route.labels.into_iter().map(|(_, value)| value).collect();
        (route.operation, labels)
    };
    let arn = "arn:aws:lambda:us-east-1:1:function:f:$LATEST/durable-execution/n/i";
    let cases = [
        (
            "GET",
            "/2015-03-31/functions".to_owned(),
            Operation::ListFunctions,
            vec![],
        ),
        (
            "GET",
            "/2015-03-31/functions/".to_owned(),
            Operation::ListFunctions,
            vec![],
        ),
        (
            "GET",
            "/2018-10-31/layers".to_owned(),
            Operation::ListLayers,
            vec![],
        ),
        (
            "GET",
            "/2018-10-31/layers?Arn=a&find=LayerVersion".to_owned(),
            Operation::GetLayerVersionByArn,
            vec![],
        ),
        (
            "GET",
            "/2019-09-30/functions/f/provisioned-concurrency?Qualifier=1".to_owned(),
            Operation::GetProvisionedConcurrencyConfig,
            vec!["f"],
        ),
        (
            "GET",
            "/2019-09-30/functions/f/provisioned-concurrency?List=ALL".to_owned(),
            Operation::ListProvisionedConcurrencyConfigs,
            vec!["f"],
        ),
        (
            "GET",
            "/2019-09-25/functions/f/event-invoke-config/list".to_owned(),
            Operation::ListFunctionEventInvokeConfigs,
            vec!["f"],
        ),
        (
            "GET",
            "/2015-03-31/functions/arn%3Aaws%3Alambda%3A%24LATEST".to_owned(),
            Operation::GetFunction,
            vec!["arn:aws:lambda:$LATEST"],
        ),
        (
            "GET",
            format!("/2025-12-01/durable-executions/{}/history", escape(arn)),
            Operation::GetDurableExecutionHistory,
            vec![arn],
        ),
        (
            "GET",
            format!("/2025-12-01/durable-executions/{arn}/history"),
            Operation::GetDurableExecutionHistory,
            vec![arn],
        ),
        (
            "GET",
            format!("/2025-12-01/durable-executions/{arn}"),
            Operation::GetDurableExecution,
            vec![arn],
        ),
    ];
    for (method, uri, operation, labels) in cases {
        let labels = labels.into_iter().map(str::to_owned).collect();
        assert_eq!(find(method, &uri), (operation, labels), "{uri}");
    }
    for (method, path) in [
        ("GET", "/"),
        ("PATCH", "/2015-03-31/functions"),
        ("GET", "/2015-03-31/functions//code"),
    ] {
        let error = route(&method.parse().unwrap(), &path.parse().unwrap()).unwrap_err();
        assert_eq!(error.code(), ErrorCode::UnknownOperationException, "{path}");
    }
}

fn create(body: &str) -> Result<CreateFunctionRequest, ApiError> {
    let (parts, ()) = Request::post("/2015-03-31/functions")
        .body(())
        .unwrap()
        .into_parts();
    let route = route(&parts.method, &parts.uri)?;
    decode(&route, &parts, &Bytes::copy_from_slice(body.as_bytes()))
}

#[test]
fn malformed_bodies_are_told_from_wrong_types_and_from_missing_members() {
    let cases = [
        ("{", ErrorCode::InvalidRequestContentException),
        ("nonsense", ErrorCode::InvalidRequestContentException),
        ("[]", ErrorCode::SerializationException),
        (r#"{"FunctionName":1}"#, ErrorCode::SerializationException),
        (r#"{"Timeout":"3"}"#, ErrorCode::SerializationException),
        (
            r#"{"Timeout":3000000000}"#,
            ErrorCode::SerializationException,
        ),
        (r#"{"Layers":{}}"#, ErrorCode::SerializationException),
        (
            r#"{"Code":{"ZipFile":"*"},"FunctionName":"f","Role":"arn:aws:iam::123456789012:role/r"}"#,
            ErrorCode::SerializationException,
        ),
        ("", ErrorCode::ValidationException),
        ("{}", ErrorCode::ValidationException),
    ];
    for (body, code) in cases {
        assert_eq!(create(body).unwrap_err().code(), code, "{body}");
    }
    assert_eq!(
        create(r#"{"FunctionName":1}"#).unwrap_err().message(),
        "NUMBER_VALUE can not be converted to a String"
    );
}

/// Null is absent, unknown members are ignored, and absent differs from empty.
#[test]
fn absent_null_and_empty_members_are_kept_apart() {
    let body = |environment: &str| {
        format!(
            r#"{{"FunctionName":"f","Role":"arn:aws:iam::123456789012:role/r","Code":{{"ZipFile":"UEs="}},"Future":1{environment}}}"#
        )
    };
    assert_eq!(create(&body("")).unwrap().environment, None);
    assert_eq!(
        create(&body(r#","Environment":null"#)).unwrap().environment,
        None
    );
    let empty = create(&body(r#","Environment":{"Variables":{}}"#)).unwrap();
    assert_eq!(empty.environment.unwrap().variables, Some([].into()));
    let code = empty.code.unwrap();
    assert_eq!(code.zip_file.as_deref().map(|b| &b[..]), Some(&b"PK"[..]));
    assert!(format!("{code:?}").contains("zip_file: Some(***)"));
}

#[test]
fn invoke_takes_its_payload_raw_and_answers_with_bound_headers() {
    let (parts, ()) = Request::post("/2015-03-31/functions/f/invocations?Qualifier=PROD")
        .header("x-amz-invocation-type", "RequestResponse")
        .body(())
        .unwrap()
        .into_parts();
    let route = route(&parts.method, &parts.uri).unwrap();
    let payload = Bytes::from_static(b"not json");
    let input: InvocationRequest = decode(&route, &parts, &payload).unwrap();
    assert_eq!(input.function_name.as_deref(), Some("f"));
    assert_eq!(input.qualifier.as_deref(), Some("PROD"));
    assert_eq!(input.payload, Some(payload));

    let output = InvocationResponse {
        executed_version: Some("$LATEST".to_owned()),
        function_error: Some("Unhandled".to_owned()),
        payload: Some(Bytes::from_static(b"{}")),
        ..InvocationResponse::default()
    };
    let response = encode_output(Operation::Invoke, &output, "r");
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["x-amz-executed-version"], "$LATEST");
    assert_eq!(response.headers()["x-amz-function-error"], "Unhandled");
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.headers()["x-amzn-requestid"], "r");
    assert_eq!(&response.body()[..], b"{}");

    let accepted = InvocationResponse {
        status_code: Some(202),
        ..InvocationResponse::default()
    };
    let response = encode_output(Operation::Invoke, &accepted, "r");
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    assert!(response.body().is_empty());
    assert!(!response.headers().contains_key("content-type"));
}

#[test]
fn output_skips_absent_members_and_has_the_operation_s_status() {
    let output = FunctionConfiguration {
        function_name: Some("f".to_owned()),
        code_sha256: Some("x".to_owned()),
        environment: Some(EnvironmentResponse {
            variables: Some([].into()),
            error: None,
        }),
        ..FunctionConfiguration::default()
    };
    let response = encode_output(Operation::CreateFunction, &output, "r");
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(
        &response.body()[..],
        br#"{"FunctionName":"f","CodeSha256":"x","Environment":{"Variables":{}}}"#
    );
    let response = encode_empty(Operation::DeleteFunctionConcurrency, "r");
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
}

/// Tries a body and a head on every operation; only a panic is wrong.
fn throw(members: &Value, body: &Bytes) {
    macro_rules! throw {
        ($operation:ident, $input:ident) => {
            let (parts, sent) = request(Operation::$operation, members);
            let body = if body.is_empty() { &sent } else { body };
            if let Ok(route) = route(&parts.method, &parts.uri) {
                if route.operation == Operation::$operation {
                    let _ = decode::<$input>(&route, &parts, body);
                }
            }
        };
    }
    for_each_input!(throw);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|v| json!(v)),
        "[ -~]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let name = prop_oneof![
            Just("Code"),
            Just("Environment"),
            Just("Variables"),
            Just("Tags"),
            Just("Layers")
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name, inner, 0..4)
                .prop_map(|m| m.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn decoding_never_panics(body in prop::collection::vec(any::<u8>(), 0..64), value in any_json()) {
        let text = value.as_str().unwrap_or("x").to_owned();
        let members = json!({"FunctionName": text, "Resource": value, "TagKeys": value, "MaxItems": value});
        throw(&members, &body.into());
        throw(&members, &value.to_string().into());
    }

    #[test]
    fn routing_never_panics(path in "(/[ -~é]{0,8}){0,8}", query in "[a-zA-Z%&=+]{0,20}") {
        for method in ["GET", "POST", "PUT", "DELETE"] {
            let table = &crate::generated::lambda::operations::SPECS;
            let _ = router::find(table, method, &path, Some(&query));
        }
    }
}
