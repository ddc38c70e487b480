//! The form of the generated operation tables, and the traits that tie a Rust type to its shape.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::ErrorCode;
use crate::protocol::json::JsonErrorCode;
use crate::shape::Shape;

/// One operation of a service.
#[derive(Debug)]
pub struct OperationSpec {
    pub name: &'static str,
    pub method: &'static str,
    /// The model's URI template.
    pub uri: &'static str,
    /// The template's path, split at its slashes.
    pub segments: &'static [Segment],
    /// Query parameters that must be present with this value.
    pub query: &'static [(&'static str, &'static str)],
    /// Status of a success.
    pub success: u16,
    pub input: Option<&'static Shape>,
    pub output: Option<&'static Shape>,
    /// The errors that the model lists for the operation.
    pub errors: &'static [ErrorCode],
}

/// One operation of a service that speaks the query protocol.
#[derive(Debug)]
pub struct QuerySpec {
    pub name: &'static str,
    pub input: Option<&'static Shape>,
    pub output: Option<&'static Shape>,
}

/// A service that speaks the query protocol.
#[derive(Debug)]
pub struct QueryService {
    /// As credentials are scoped to it.
    pub name: &'static str,
    /// `Version` of a request.
    pub version: &'static str,
    /// Of its answers.
    pub namespace: &'static str,
    /// Alphabetically.
    pub operations: &'static [QuerySpec],
}

/// One operation of a service that speaks the JSON protocol.
#[derive(Debug)]
pub struct JsonSpec {
    pub name: &'static str,
    /// None if the operation is known by its name alone, to be refused by it.
    pub input: Option<&'static Shape>,
    pub output: Option<&'static Shape>,
    /// The errors that the model lists for the operation.
    pub errors: &'static [JsonErrorCode],
}

/// A service that speaks the JSON protocol.
#[derive(Debug)]
pub struct JsonService {
    /// As credentials are scoped to it.
    pub name: &'static str,
    /// Of `X-Amz-Target`, before the dot and the operation's name.
    pub target_prefix: &'static str,
    /// The error of an input that breaks a constraint of the model.
    pub invalid: JsonErrorCode,
    /// Alphabetically.
    pub operations: &'static [JsonSpec],
}

/// A part of a URI template between two slashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    Literal(&'static str),
    /// One path segment.
    Label(&'static str),
    /// One or more path segments.
    Greedy(&'static str),
}

/// A typed input. Members that are not the raw payload come from JSON by their model names.
pub trait Input: DeserializeOwned {
    const SHAPE: &'static Shape;

    /// Takes the raw body; only inputs whose payload is a blob keep it.
    fn set_payload(&mut self, _payload: Bytes) {}
}

/// A typed output.
pub trait Output: Serialize {
    const SHAPE: &'static Shape;

    /// The raw body, of outputs whose payload is a blob.
    fn payload(&self) -> Option<Bytes> {
        None
    }
}
