//! restJson1: members in path, query, headers and a JSON body.

mod decode;
mod encode;
pub(crate) mod jackson;
mod types;

pub(crate) use decode::assemble;
pub use encode::encode_error;
pub(crate) use encode::{encode_output, respond};
pub(crate) use types::{check, from_text};
