//! The STS API: its types and operations, as they are generated. How they are read and written is `protocol::query`'s.

pub use crate::generated::sts::operations::{Operation, SERVICE};
pub use crate::generated::sts::types::*;
