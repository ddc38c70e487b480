//! Request to operation and members.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, Method};
use serde_json::{Map, Value};

use super::{JsonError, JsonErrorCode};
use crate::operation::{Input, JsonService, JsonSpec};
use crate::protocol::rest_json::{self, jackson};
use crate::shape::Shape;
use crate::validate;

const TARGET: &str = "x-amz-target";
/// The content type of requests and answers.
pub(super) const JSON: &str = "application/x-amz-json-1.1";

/// Characters at each end of a text about broken constraints that are kept: the values it quotes may be megabytes, and what broke
/// is at its end.
const KEPT_CHARS: usize = 2_048;

/// The operation's name, if the target is one of the service's.
fn name_of<'a>(service: &JsonService, headers: &'a HeaderMap) -> Option<&'a str> {
    let target = headers.get(TARGET)?.to_str().ok()?;
    target
        .strip_prefix(service.target_prefix)?
        .strip_prefix('.')
}

/// Whether a request is for the service, whatever it wants of it.
pub fn is_addressed(service: &JsonService, parts: &Parts) -> bool {
    name_of(service, &parts.headers).is_some()
}

/// The index of the operation that is asked for.
pub fn operation(service: &JsonService, parts: &Parts) -> Result<usize, JsonError> {
    let name = name_of(service, &parts.headers)
        .filter(|_| parts.method == Method::POST && parts.uri.path() == "/")
        // AWS's front ends tell protocols from each other by this header too, and say the same of one they do not expect.
        .filter(|_| is_json(&parts.headers));
    let found = name.and_then(|name| {
        let by_name = |spec: &JsonSpec| spec.name.cmp(name);
        service.operations.binary_search_by(by_name).ok()
    });
    found.ok_or_else(|| {
        JsonError::new(
            JsonErrorCode::UnknownOperationException,
            "The requested operation is not recognized by the service.",
        )
    })
}

/// Whether the content type is the protocol's, with or without parameters.
fn is_json(headers: &HeaderMap) -> bool {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case(JSON))
}

/// The typed input, all constraints of the model checked. `T` must be the input of the operation.
pub fn input<T: Input>(
    service: &JsonService,
    spec: &JsonSpec,
    body: &Bytes,
) -> Result<T, JsonError> {
    if spec.input.is_none_or(|input| input.name != T::SHAPE.name) {
        let text = format!("{} is not the input of {}", T::SHAPE.name, spec.name);
        return Err(JsonError::new(JsonErrorCode::InternalFailure, text));
    }
    let members = Value::Object(parse(T::SHAPE, body)?);
    validate::refuse(&validate::violations(T::SHAPE, &members, None))
        .map_err(|error| JsonError::new(service.invalid, shortened(error.message())))?;
    serde_json::from_value(members).map_err(|error| {
        JsonError::new(JsonErrorCode::SerializationException, error.to_string()).with_source(error)
    })
}

/// The members of an input as [`input`] sees them, no constraint checked: to say what a request is about before it is looked at.
pub fn members(spec: &JsonSpec, body: &Bytes) -> Result<Map<String, Value>, JsonError> {
    spec.input
        .map_or_else(|| Ok(Map::new()), |shape| parse(shape, body))
}

/// The body's members, each of the type of its shape; those the model does not know are ignored later.
fn parse(shape: &'static Shape, body: &Bytes) -> Result<Map<String, Value>, JsonError> {
    let refusal = |text: String| JsonError::new(JsonErrorCode::SerializationException, text);
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(refusal("The request has no body.".to_owned()));
    }
    let value = serde_json::from_slice(body).map_err(|error| {
        let what = jackson::describe(body, &error, jackson::Quote::Nothing);
        let text = format!("Could not parse request body into json: {what}");
        refusal(text).with_source(error)
    })?;
    rest_json::check(shape, &value)?;
    match value {
        Value::Object(members) => Ok(members),
        // What the check lets through besides.
        _ => Err(refusal("Unexpected field type".to_owned())),
    }
}

/// A text without its middle, if it is too long.
fn shortened(text: &str) -> String {
    let Some((from, _)) = text.char_indices().nth(KEPT_CHARS) else {
        return text.to_owned();
    };
    let Some((to, _)) = text.char_indices().rev().nth(KEPT_CHARS - 1) else {
        return text.to_owned();
    };
    if to <= from {
        return text.to_owned();
    }
    format!("{}...{}", &text[..from], &text[to..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_keeps_both_of_its_ends() {
        let text = format!("é{}ü", "a".repeat(2 * KEPT_CHARS - 2));
        assert_eq!(shortened(&text), text);
        let text = format!("é{}ü", "a".repeat(2 * KEPT_CHARS));
        let short = shortened(&text);
        assert_eq!(short.chars().count(), 2 * KEPT_CHARS + 3);
        assert!(short.starts_with("éa") && short.contains("a...a") && short.ends_with("aü"));
    }
}
