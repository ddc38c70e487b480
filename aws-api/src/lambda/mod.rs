//! The Lambda API: its types and operations (generated), and the entry points of the gateway. The
//! texts where Lambda departs from its own model are in `rules`.

pub mod rules;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response, StatusCode, Uri};
use serde_json::Value;

use crate::error::ApiError;
use crate::operation::{Input, Output};
use crate::protocol::rest_json;
use crate::router::{self, Label};
use crate::validate;

pub use crate::generated::lambda::operations::Operation;
pub use crate::generated::lambda::types::*;

/// A request's operation and the labels of its path.
#[derive(Debug)]
pub struct Route {
    pub operation: Operation,
    pub labels: Vec<Label>,
}

/// The operation that a method and path name; `UnknownOperationException` if none.
pub fn route(method: &Method, uri: &Uri) -> Result<Route, ApiError> {
    let table = &crate::generated::lambda::operations::SPECS;
    router::find(table, method.as_str(), uri.path(), uri.query())
        .map(|(index, labels)| Route {
            operation: Operation::ALL[index],
            labels,
        })
        .ok_or_else(|| {
            ApiError::unknown_operation("The requested operation is not recognized by the service.")
        })
}

/// The typed input of a request, all constraints of the model checked. `T` must be the input of
/// `route.operation`.
pub fn decode<T: Input>(route: &Route, parts: &Parts, body: &Bytes) -> Result<T, ApiError> {
    let spec = route.operation.spec();
    if spec.input.is_none_or(|input| input.name != T::SHAPE.name) {
        return Err(ApiError::internal_failure(format!(
            "{} is not the input of {}",
            T::SHAPE.name,
            spec.name
        )));
    }
    let (members, payload) = rest_json::assemble(T::SHAPE, &route.labels, parts, body)?;
    check(route.operation, &members, payload.as_ref().map(Bytes::len))?;
    let mut input: T = serde_json::from_value(members)
        .map_err(|error| ApiError::serialization(error.to_string()))?;
    if let Some(payload) = payload {
        input.set_payload(payload);
    }
    Ok(input)
}

/// The members of a request's input as [`decode`] sees them, nothing checked: to say what a request is about before it is looked at.
pub fn members(
    route: &Route,
    parts: &Parts,
    body: &Bytes,
) -> Result<serde_json::Map<String, Value>, ApiError> {
    let Some(shape) = route.operation.spec().input else {
        return Ok(serde_json::Map::new());
    };
    match rest_json::assemble(shape, &route.labels, parts, body)? {
        (Value::Object(members), _) => Ok(members),
        _ => Ok(serde_json::Map::new()),
    }
}

/// Checks assembled members as Lambda does: the model's constraints, then Lambda's own.
fn check(
    operation: Operation,
    members: &Value,
    payload_bytes: Option<usize>,
) -> Result<(), ApiError> {
    let Some(shape) = operation.spec().input else {
        return Ok(());
    };
    rules::before_model(operation, members)?;
    let violations = validate::violations(shape, members, payload_bytes)
        .into_iter()
        .filter(|violation| !rules::is_lenient(violation))
        .collect::<Vec<_>>();
    validate::refuse(&violations)?;
    rules::after_model(operation, members)
}

/// The response of a success.
pub fn encode_output<T: Output>(
    operation: Operation,
    output: &T,
    request_id: &str,
) -> Response<Bytes> {
    rest_json::encode_output(operation.spec(), output, request_id)
}

/// The response of an operation without output, or of one whose output is left empty.
pub fn encode_empty(operation: Operation, request_id: &str) -> Response<Bytes> {
    let status = StatusCode::from_u16(operation.spec().success)
        .expect("the table holds statuses, a test reads them all");
    rest_json::respond(status, request_id, Bytes::new())
}

/// The answer to an operation of AWS that Hearth does not do yet.
pub fn not_implemented(operation: Operation) -> ApiError {
    ApiError::not_implemented(format!(
        "Hearth does not implement {} yet.",
        operation.name()
    ))
}

#[cfg(test)]
pub(crate) mod tests;
