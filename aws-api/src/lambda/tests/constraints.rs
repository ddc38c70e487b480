//! Every constraint of every input is broken once, and the text must be AWS's.

use serde_json::{Value, json};

use super::samples::{Place, places, sample};
use super::*;
use crate::shape::Pattern;

/// A value that breaks one constraint, and how AWS words the constraint.
type Breach = (Value, String);

fn breaches(shape: &'static Shape, good: &Value) -> Vec<Breach> {
    match shape.kind {
        Kind::String {
            min,
            max,
            pattern,
            values,
        } => {
            let text = |length: i64| json!("a".repeat(usize::try_from(length).unwrap()));
            let mut found = length_breaches(min, max, text);
            found.extend(pattern.and_then(pattern_breach));
            if !values.is_empty() {
                let set = values.join(", ");
                found.push((
                    json!("Nonsense"),
                    format!("Member must satisfy enum value set: [{set}]"),
                ));
            }
            found
        }
        Kind::Integer { min, max } | Kind::Long { min, max } => {
            let most = max.map(|n| (json!(n + 1), format!("less than or equal to {n}")));
            let least = min.map(|n| (json!(n - 1), format!("greater than or equal to {n}")));
            value_breaches(most, least)
        }
        Kind::Double { min, max } => {
            let most = max.map(|n| (json!(n + 0.5), format!("less than or equal to {n:.1}")));
            let least = min.map(|n| (json!(n - 0.5), format!("greater than or equal to {n:.1}")));
            value_breaches(most, least)
        }
        Kind::List { min, max, .. } => {
            let element = good.get(0).unwrap();
            let list = |length: i64| json!(vec![element.clone(); usize::try_from(length).unwrap()]);
            length_breaches(min, max, list)
        }
        Kind::Structure { .. }
        | Kind::Map { .. }
        | Kind::Boolean
        | Kind::Blob { .. }
        | Kind::Timestamp => Vec::new(),
    }
}

fn length_breaches(
    min: Option<i64>,
    max: Option<i64>,
    of_length: impl Fn(i64) -> Value,
) -> Vec<Breach> {
    let start = "Member must have length";
    let most = max.map(|n| {
        (
            of_length(n + 1),
            format!("{start} less than or equal to {n}"),
        )
    });
    let least = min.filter(|min| *min > 0).map(|n| {
        (
            of_length(n - 1),
            format!("{start} greater than or equal to {n}"),
        )
    });
    most.into_iter().chain(least).collect()
}

fn value_breaches(most: Option<Breach>, least: Option<Breach>) -> Vec<Breach> {
    let breaches = most.into_iter().chain(least);
    breaches
        .map(|(value, text)| (value, format!("Member must have value {text}")))
        .collect()
}

fn pattern_breach(pattern: &'static Pattern) -> Option<Breach> {
    if [".*", r"[\s\S]*", r"[\s\S]+"].contains(&pattern.java) {
        return None;
    }
    let text = ["\n", " \u{7f}", "a b\u{1}", "$ /", ":"]
        .into_iter()
        .find(|text| !pattern.matches(text))
        .unwrap_or_else(|| panic!("{} takes anything", pattern.java));
    let constraint = format!(
        "Member must satisfy regular expression pattern: {}",
        pattern.java
    );
    Some((json!(text), constraint))
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if number.is_f64() => Some(format!("{:?}", number.as_f64().unwrap())),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn expected(place: &Place, value: &Value, constraint: &str) -> Option<String> {
    let at = |value: &str, sensitive: bool| {
        let shown = if sensitive {
            "Value".to_owned()
        } else {
            format!("Value '{value}'")
        };
        format!("{shown} at '{}' failed to satisfy constraint: ", place.path)
    };
    let value = plain(value);
    match place.element_of {
        Some(list) => {
            let sensitive = list.sensitive || place.shape.sensitive;
            let start = at(&format!("[{}]", value?), sensitive);
            Some(format!("{start}Member must satisfy constraint: ["))
        }
        None => Some(format!(
            "{}{constraint}",
            at(&value?, place.shape.sensitive)
        )),
    }
}

#[test]
fn every_sample_is_valid_and_every_breach_is_told_in_the_words_of_aws() {
    let mut count = 0;
    for operation in Operation::ALL {
        let Some(input) = operation.spec().input else {
            continue;
        };
        count += check_input(input);
    }
    assert!(count > 700, "only {count} constraints checked");
}

/// Breaks every constraint of an input once; how many there were. For all services, whatever their protocol.
pub(crate) fn check_input(input: &'static Shape) -> usize {
    let good = sample(input);
    assert_eq!(
        validate::violations(input, &good, Some(1)),
        [],
        "{}",
        input.name
    );
    let raw = input.raw_payload().map(|member| member.shape.name);
    let in_members = |place: &Place| Some(place.shape.name) != raw;
    let places = places(input).into_iter().filter(in_members);
    places.map(|place| check_place(input, &good, &place)).sum()
}

fn check_place(input: &'static Shape, good: &Value, place: &Place) -> usize {
    let at = format!("{} {}", input.name, place.path);
    let mut count = 0;
    let mut tell = |value: Value| {
        let mut bad = good.clone();
        *bad.pointer_mut(&place.pointer).unwrap() = value;
        count += 1;
        validate::violations(input, &bad, Some(1))
    };
    for (value, constraint) in breaches(place.shape, good.pointer(&place.pointer).unwrap()) {
        let violations = tell(value.clone());
        assert!(!violations.is_empty(), "{at}: {constraint}");
        for violation in &violations {
            assert_eq!(violation.path, place.path, "{at}");
        }
        let told = |text: &String| violations.iter().any(|v| v.text.starts_with(text));
        if let Some(text) = expected(place, &value, &constraint) {
            assert!(told(&text), "{at}: {text} not in {violations:?}");
        }
        assert!(
            violations.iter().any(|v| v.text.contains(&constraint)),
            "{at}: {constraint}"
        );
    }
    if place.required {
        let text = format!(
            "Value null at '{}' failed to satisfy constraint: Member must not be null",
            place.path
        );
        let violations = tell(Value::Null);
        assert_eq!(
            violations.iter().map(|v| &v.text).collect::<Vec<_>>(),
            [&text],
            "{at}"
        );
    }
    count
}

/// Lengths are counted in characters, not in bytes.
#[test]
fn length_counts_characters() {
    let description = |length: usize| {
        let members = json!({"FunctionName": "f", "Description": "é".repeat(length)});
        check(Operation::UpdateFunctionConfiguration, &members, None)
    };
    assert!(description(256).is_ok());
    assert!(description(257).is_err());
}

/// A raw payload is no member of the JSON, and its bounds count all the same.
#[test]
fn raw_payload_s_presence_and_length_are_checked() {
    let members = json!({"FunctionName": "f"});
    let (_, text) = refusal(Operation::InvokeAsync, &members);
    assert!(text.contains("Value null at 'invokeArgs'"), "{text}");
    let members = json!({"CallbackId": "QUJD"});
    let operation = Operation::SendDurableExecutionCallbackSuccess;
    assert!(check(operation, &members, Some(1_048_576)).is_ok());
    let error = check(operation, &members, Some(1_048_577)).unwrap_err();
    assert_eq!(
        error.message(),
        "1 validation error detected: Value at 'result' failed to satisfy constraint: Member must \
         have length less than or equal to 1048576"
    );
}

fn refusal(operation: Operation, members: &Value) -> (ErrorCode, String) {
    let error = check(operation, members, None).unwrap_err();
    (error.code(), error.message().to_owned())
}

/// Whole messages as recorded from AWS: count, plural, maps, lists, order.
#[test]
fn recorded_messages_are_reproduced() {
    let create = |extra: Value| {
        let mut members = json!({
            "FunctionName": "f", "Role": "arn:aws:iam::123456789012:role/r", "Code": {}, "Runtime": "python3.11",
        });
        members
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        refusal(Operation::CreateFunction, &members)
    };
    let validation = |text: &str| (ErrorCode::ValidationException, text.to_owned());
    assert_eq!(
        refusal(
            Operation::CreateAlias,
            &json!({"FunctionName": "f", "Name": "a", "FunctionVersion": "1",
                    "RoutingConfig": {"AdditionalVersionWeights": {"2": 2}}}),
        ),
        validation(
            "1 validation error detected: Value '{2=2.0}' at 'routingConfig.additionalVersionWeights' \
             failed to satisfy constraint: Map value must satisfy constraint: [Member must have \
             value less than or equal to 1.0, Member must have value greater than or equal to 0.0, \
             Member must not be null]"
        )
    );
    assert_eq!(
        create(json!({"SnapStart": {"ApplyOn": "x"}, "MemorySize": 127})),
        validation(
            "2 validation errors detected: Value '127' at 'memorySize' failed to satisfy \
             constraint: Member must have value greater than or equal to 128; Value 'x' at \
             'snapStart.applyOn' failed to satisfy constraint: Member must satisfy enum value set: \
             [PublishedVersions, None]"
        )
    );
    assert_eq!(
        create(json!({"Architectures": ["arm64", "mips"]})),
        validation(
            "2 validation errors detected: Value '[arm64, mips]' at 'architectures' failed to \
             satisfy constraint: Member must have length less than or equal to 1; Value '[arm64, \
             mips]' at 'architectures' failed to satisfy constraint: Member must satisfy \
             constraint: [Member must satisfy enum value set: [x86_64, arm64], Member must not be \
             null]"
        )
    );
    let (code, text) = create(json!({"Environment": {"Variables": {"1secret": "secret"}}}));
    assert_eq!(code, ErrorCode::ValidationException);
    assert!(text.contains("Value at 'environment.variables'"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[test]
fn lambda_s_own_rules_are_invalid_parameter_values() {
    let code = ErrorCode::InvalidParameterValueException;
    let role = "arn:aws:iam::123456789012:role/r";
    let long = "f".repeat(65);
    let (got, text) = refusal(
        Operation::CreateFunction,
        &json!({"FunctionName": "f", "Role": role, "Code": {}, "Runtime": "cobol"}),
    );
    assert_eq!(got, code);
    assert!(text.starts_with(
        "Value cobol at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [nodejs, "
    ));
    assert!(text.ends_with("] or be a valid ARN"), "{text}");
    let arn = format!("arn:aws:lambda:us-east-1:123456789012:function:{long}");
    for name in [&long, &arn] {
        let members =
            json!({"FunctionName": name, "Role": role, "Code": {}, "Runtime": "python3.11"});
        let text = format!(
            "1 validation error detected: Value '{long}' at 'functionName' failed to satisfy \
             constraint: Member must have length less than or equal to 64"
        );
        assert_eq!(refusal(Operation::CreateFunction, &members), (code, text));
    }
    assert_eq!(
        refusal(
            Operation::GetLayerVersion,
            &json!({"LayerName": "l", "VersionNumber": 0})
        ),
        (code, "Layer Version Cannot be less than 1".to_owned())
    );
    let stream = "arn:aws:kinesis:us-east-1:123456789012:stream/s";
    let (got, text) = refusal(
        Operation::CreateEventSourceMapping,
        &json!({"FunctionName": "f", "EventSourceArn": stream}),
    );
    assert_eq!(got, code);
    assert!(text.contains("'startingPosition'"), "{text}");
    let variables = [("A".to_owned(), "b".repeat(1024))].into();
    assert!(rules::check_environment_size(&variables, 4096).is_ok());
    let error = rules::check_environment_size(&variables, 1024).unwrap_err();
    assert!(
        error
            .message()
            .contains("exceeded the 1KB limit. String measured: {\"A\":\"bbb")
    );
}
