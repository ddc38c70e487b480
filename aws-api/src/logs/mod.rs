//! The CloudWatch Logs API: its types and operations (generated), and the entry points of the gateway. What a pattern matches and
//! how long lines are kept are rules of `hearth_core::logs`.
//!
//! ```
//! use bytes::Bytes;
//! use hearth_aws_api::logs::{self, JsonError, Operation};
//!
//! fn answer(
//!     parts: &http::request::Parts,
//!     body: &Bytes,
//!     request_id: &str,
//! ) -> Result<http::Response<Bytes>, JsonError> {
//!     let operation = logs::route(parts)?;
//!     match operation {
//!         Operation::DescribeLogGroups => {
//!             let input: logs::DescribeLogGroupsRequest = logs::decode(operation, body)?;
//!             let _ = input.log_group_name_prefix;
//!             let output = logs::DescribeLogGroupsResponse::default();
//!             Ok(logs::encode_output(&output, request_id))
//!         }
//!         other => Err(logs::not_implemented(other)),
//!     }
//! }
//! ```

pub mod live_tail;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use http::request::Parts;
use serde_json::{Map, Value};

use crate::operation::Input;
use crate::protocol::json;

pub use crate::generated::logs::operations::{Operation, SERVICE};
pub use crate::generated::logs::types::*;
pub use crate::protocol::json::{
    JsonError, JsonErrorCode, encode_empty, encode_error, encode_output,
};

/// Whether a request is for this service: its target begins as those of the service do.
pub fn is_addressed(parts: &Parts) -> bool {
    json::is_addressed(&SERVICE, parts)
}

/// The operation that a request's head names; `UnknownOperationException` if none.
pub fn route(parts: &Parts) -> Result<Operation, JsonError> {
    json::operation(&SERVICE, parts).map(|index| Operation::ALL[index])
}

/// The typed input of a request, all constraints of the model checked. `T` must be the input of `operation`.
pub fn decode<T: Input>(operation: Operation, body: &Bytes) -> Result<T, JsonError> {
    json::input(&SERVICE, operation.spec(), body)
}

/// The members of a request's input, no constraint checked: to say what a request is about before it is looked at.
pub fn members(operation: Operation, body: &Bytes) -> Result<Map<String, Value>, JsonError> {
    json::members(operation.spec(), body)
}

/// The answer to an operation of AWS that Hearth does not do yet.
pub fn not_implemented(operation: Operation) -> JsonError {
    let text = format!("Hearth does not implement {} yet.", operation.name());
    JsonError::new(JsonErrorCode::NotImplemented, text)
}
