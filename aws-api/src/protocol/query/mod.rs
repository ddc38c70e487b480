//! The query protocol: an operation and its members as a form, the answer as XML. What IAM and STS speak.

mod decode;
mod encode;
mod error;
#[cfg(test)]
mod tests;

pub use decode::Form;
pub use encode::{encode_empty, encode_error, encode_members, encode_output};
pub use error::{QueryError, QueryErrorShape};

pub use crate::generated::query_errors::QueryErrorCode;
