//! The JSON protocol (awsJson1.1): the operation in the header `X-Amz-Target`, its members as a JSON body, JSON back. What CloudWatch
//! Logs speaks.

mod decode;
mod encode;
mod error;
#[cfg(test)]
mod tests;

pub use decode::{input, is_addressed, members, operation};
pub use encode::{encode_empty, encode_error, encode_output};
pub use error::{JsonError, JsonErrorShape};

pub use crate::generated::json_errors::JsonErrorCode;
