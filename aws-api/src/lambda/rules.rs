//! Where Lambda answers other than its model says: parameters whose violation is an
//! `InvalidParameterValueException`, with AWS's texts. What needs a limit of the installation or the
//! state of a function is the handlers' business.

use serde_json::Value;

use super::Operation;
use crate::error::ApiError;
use crate::generated::lambda::shapes;
use crate::protocol::rest_json::jackson;
use crate::shape::Kind;
use crate::validate::Violation;

/// Longest name proper, without account, region and qualifier around it.
pub const MAX_FUNCTION_NAME_CHARS: usize = 64;

/// Checks that Lambda makes before those of its model.
pub(super) fn before_model(operation: Operation, members: &Value) -> Result<(), ApiError> {
    match operation {
        Operation::GetLayerVersion | Operation::DeleteLayerVersion => layer_version(members),
        Operation::CreateEventSourceMapping => starting_position(members),
        _ => Ok(()),
    }
}

/// Checks that Lambda makes once its model is satisfied.
pub(super) fn after_model(operation: Operation, members: &Value) -> Result<(), ApiError> {
    match operation {
        Operation::CreateFunction => {
            runtime(members)?;
            function_name(members)
        }
        Operation::UpdateFunctionConfiguration => runtime(members),
        _ => Ok(()),
    }
}

/// Violations of the model that Lambda reports by a rule of its own instead.
pub(super) fn is_lenient(violation: &Violation) -> bool {
    violation.path == "runtime"
}

fn text<'a>(members: &'a Value, name: &str) -> Option<&'a str> {
    members.get(name).and_then(Value::as_str)
}

/// `Runtime` is an enum in the model, and an ARN is taken too.
fn runtime(members: &Value) -> Result<(), ApiError> {
    let Some(runtime) = text(members, "Runtime") else {
        return Ok(());
    };
    let Kind::String { values, .. } = shapes::RUNTIME.kind else {
        return Ok(());
    };
    if values.contains(&runtime) || runtime.starts_with("arn:") {
        return Ok(());
    }
    Err(ApiError::invalid_parameter_value(format!(
        "Value {runtime} at 'runtime' failed to satisfy constraint: Member must satisfy enum value \
         set: [{}] or be a valid ARN",
        values.join(", ")
    )))
}

/// The model allows 140 characters for everything around the name; the name itself has fewer.
fn function_name(members: &Value) -> Result<(), ApiError> {
    let Some(given) = text(members, "FunctionName") else {
        return Ok(());
    };
    let name = given
        .rsplit_once("function:")
        .map_or(given, |(_, rest)| rest);
    let name = name.split_once(':').map_or(name, |(name, _)| name);
    if name.chars().count() <= MAX_FUNCTION_NAME_CHARS {
        return Ok(());
    }
    Err(ApiError::invalid_parameter_value(format!(
        "1 validation error detected: Value '{name}' at 'functionName' failed to satisfy \
         constraint: Member must have length less than or equal to {MAX_FUNCTION_NAME_CHARS}"
    )))
}

/// A new function's name that has a qualifier: the model's pattern takes it, AWS does not.
pub fn qualified_name(name: &str) -> ApiError {
    let pattern = match shapes::FUNCTION_NAME.kind {
        Kind::String {
            pattern: Some(pattern),
            ..
        } => pattern.java,
        _ => "",
    };
    ApiError::validation(format!(
        "1 validation error detected: Value '{name}' at 'functionName' failed to satisfy \
         constraint: Member must satisfy regular expression pattern: {pattern}"
    ))
}

fn layer_version(members: &Value) -> Result<(), ApiError> {
    match members.get("VersionNumber").and_then(Value::as_i64) {
        Some(version) if version < 1 => Err(ApiError::invalid_parameter_value(
            "Layer Version Cannot be less than 1",
        )),
        Some(_) | None => Ok(()),
    }
}

/// Streams need a place to start from; queues and topics that we are told of by name do not.
fn starting_position(members: &Value) -> Result<(), ApiError> {
    let source = text(members, "EventSourceArn").unwrap_or_default();
    let service = source.split(':').nth(2).unwrap_or_default();
    let is_stream = ["kinesis", "dynamodb", "kafka"].contains(&service);
    if is_stream && members.get("StartingPosition").is_none_or(Value::is_null) {
        return Err(ApiError::invalid_parameter_value(
            "1 validation error detected: Value null at 'startingPosition' failed to satisfy \
             constraint: Member must not be null.",
        ));
    }
    Ok(())
}

/// The environment's size, counted as AWS does: the compact JSON of its variables.
pub fn check_environment_size(
    variables: &std::collections::BTreeMap<String, String>,
    limit_bytes: usize,
) -> Result<(), ApiError> {
    let json = serde_json::to_string(variables)
        .map_err(|error| ApiError::internal_failure("environment").with_source(error))?;
    if json.len() <= limit_bytes {
        return Ok(());
    }
    Err(ApiError::invalid_parameter_value(format!(
        "Lambda was unable to configure your environment variables because the environment \
         variables you have provided exceeded the {}KB limit. String measured: {json}",
        limit_bytes / 1024
    )))
}

/// A request whose body is larger than the operation takes.
pub fn request_too_large(operation: Operation, limit_bytes: u64) -> ApiError {
    ApiError::request_entity_too_large(format!(
        "Request must be smaller than {limit_bytes} bytes for the {} operation",
        operation.name()
    ))
}

/// An invocation's payload has to be JSON; an empty one is none at all and passes.
pub fn check_payload_is_json(payload: &[u8]) -> Result<(), ApiError> {
    if payload.is_empty() {
        return Ok(());
    }
    serde_json::from_slice::<serde::de::IgnoredAny>(payload)
        .map(|_| ())
        .map_err(|error| {
            ApiError::invalid_request_content(format!(
                "Could not parse request body into json: Could not parse payload into json: {}",
                jackson::describe(payload, &error, jackson::Quote::Document)
            ))
        })
}
