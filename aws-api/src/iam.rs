//! The IAM API: its types and operations, as they are generated. How they are read and written is `protocol::query`'s.

pub use crate::generated::iam::operations::{Operation, SERVICE};
pub use crate::generated::iam::types::*;
