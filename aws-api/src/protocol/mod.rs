//! The protocol engines: how members become HTTP and back. One folder per protocol.

pub mod json;
pub mod query;
pub mod rest_json;
