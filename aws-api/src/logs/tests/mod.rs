//! The tables against the model, and constraints in the words of AWS.

mod requests;
mod responses;

use std::collections::BTreeMap;

use super::*;
use crate::generated::logs::shapes;
use crate::lambda::tests::constraints::check_input;
use crate::shape::Kind;

/// Those with an input, alphabetically.
fn typed() -> impl Iterator<Item = Operation> {
    let all = Operation::ALL.into_iter();
    all.filter(|operation| operation.spec().input.is_some())
}

#[test]
fn all_operations_of_the_model_are_here_and_some_have_an_input() {
    assert_eq!(Operation::ALL.len(), 118);
    assert!(SERVICE.operations.is_sorted_by_key(|spec| spec.name));
    for operation in Operation::ALL {
        assert_eq!(format!("{operation:?}"), operation.name());
        let spec = operation.spec();
        assert_eq!(spec.input.is_some(), !spec.errors.is_empty());
        assert!(spec.input.is_some() || spec.output.is_none());
    }
    assert_eq!(typed().count(), 18);
}

#[test]
fn an_operation_without_input_is_refused_by_its_name() {
    let operation = Operation::StartQuery;
    assert!(operation.spec().input.is_none());
    let error = not_implemented(operation);
    assert_eq!(error.status(), 501);
    assert_eq!(error.message(), "Hearth does not implement StartQuery yet.");
    let body = Bytes::from_static(b"{}");
    let error = decode::<GetLogEventsRequest>(operation, &body).unwrap_err();
    assert_eq!(error.code(), JsonErrorCode::InternalFailure);
}

/// The sums are botocore's, taken over the shapes of the same operations without our generator.
#[test]
fn constraint_tables_add_up_to_the_model() {
    let mut totals: BTreeMap<&str, i64> = BTreeMap::new();
    let mut add = |name, amount: i64| *totals.entry(name).or_default() += amount;
    for shape in shapes::ALL {
        add("shapes", 1);
        add("sensitive", i64::from(shape.sensitive));
        for member in shape.members() {
            add("required", i64::from(member.required));
        }
        let (min, max) = match shape.kind {
            Kind::String {
                min,
                max,
                pattern,
                values,
            } => {
                add("patterns", i64::from(pattern.is_some()));
                add("enum_values", i64::try_from(values.len()).unwrap());
                (min, max)
            }
            Kind::List { min, max, .. }
            | Kind::Map { min, max, .. }
            | Kind::Integer { min, max }
            | Kind::Long { min, max }
            | Kind::Blob { min, max } => (min, max),
            Kind::Double { .. } => panic!("{} is a double", shape.name),
            Kind::Structure { .. } | Kind::Boolean | Kind::Timestamp => continue,
        };
        add("sum_of_min", min.unwrap_or(0));
        add("sum_of_max", max.unwrap_or(0));
    }
    let expected = [
        ("shapes", 91),
        ("required", 27),
        ("enum_values", 18),
        ("patterns", 8),
        ("sensitive", 0),
        ("sum_of_min", 34),
        ("sum_of_max", 27_927),
    ];
    assert_eq!(totals, expected.into_iter().collect());
}

#[test]
fn every_sample_is_valid_and_every_breach_is_told_in_the_words_of_aws() {
    let count: usize = typed()
        .filter_map(|operation| operation.spec().input)
        .map(check_input)
        .sum();
    assert!(count > 140, "only {count} constraints checked");
}

/// Whole messages; those about `logEvents` are quoted in issues of clients of AWS.
#[test]
fn a_broken_constraint_is_an_invalid_parameter() {
    let refusal = |operation, body: &str| {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let error = match operation {
            Operation::PutLogEvents => decode::<PutLogEventsRequest>(operation, &body).unwrap_err(),
            Operation::CreateLogGroup => {
                decode::<CreateLogGroupRequest>(operation, &body).unwrap_err()
            }
            _ => decode::<FilterLogEventsRequest>(operation, &body).unwrap_err(),
        };
        assert_eq!(error.code(), JsonErrorCode::InvalidParameterException);
        assert_eq!(error.status(), 400);
        error.message().to_owned()
    };
    for (operation, body, text) in [
        (
            Operation::PutLogEvents,
            r#"{"logGroupName":"g","logStreamName":"s","logEvents":[]}"#,
            "1 validation error detected: Value '[]' at 'logEvents' failed to satisfy constraint: Member must have length greater than or equal to 1",
        ),
        (
            Operation::PutLogEvents,
            r#"{"logGroupName":"g","logStreamName":"s","logEvents":[{"message":"m"}]}"#,
            "1 validation error detected: Value null at 'logEvents.1.member.timestamp' failed to satisfy constraint: Member must not be null",
        ),
        (
            Operation::CreateLogGroup,
            r#"{"logGroupName":"a b"}"#,
            r"1 validation error detected: Value 'a b' at 'logGroupName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\.\-_/#A-Za-z0-9]+",
        ),
        (
            Operation::CreateLogGroup,
            r#"{"logGroupName":"g","logGroupClass":"COLD","tags":{}}"#,
            "2 validation errors detected: Value '{}' at 'tags' failed to satisfy constraint: Member must have length greater than or equal to 1; Value 'COLD' at 'logGroupClass' failed to satisfy constraint: Member must satisfy enum value set: [STANDARD, INFREQUENT_ACCESS, DELIVERY, ESSENTIALS]",
        ),
        (
            Operation::FilterLogEvents,
            r#"{"limit":10001}"#,
            "1 validation error detected: Value '10001' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 10000",
        ),
    ] {
        assert_eq!(refusal(operation, body), text);
    }
}

/// Ten thousand events and one are not quoted back, and the text still says what is wrong.
#[test]
fn the_text_about_a_large_batch_is_short() {
    let event = r#"{"timestamp":1,"message":"secret of a function"},"#;
    let events = event.repeat(10_001);
    let events = events.trim_end_matches(',');
    let body = format!(r#"{{"logGroupName":"g","logStreamName":"s","logEvents":[{events}]}}"#);
    let error = decode::<PutLogEventsRequest>(Operation::PutLogEvents, &body.into()).unwrap_err();
    assert!(error.message().len() < 5_000);
    assert!(
        error
            .message()
            .starts_with("1 validation error detected: Value '[InputLogEvent(")
    );
    assert!(error.message().ends_with(
        "at 'logEvents' failed to satisfy constraint: Member must have length less than or equal to 10000"
    ));
}

/// Lengths are counted in characters, not in bytes.
#[test]
fn length_counts_characters() {
    let filter = |length: usize| {
        let body = format!(r#"{{"filterPattern":"{}"}}"#, "é".repeat(length));
        decode::<FilterLogEventsRequest>(Operation::FilterLogEvents, &body.into())
    };
    assert!(filter(1_024).is_ok());
    assert!(filter(1_025).is_err());
}
