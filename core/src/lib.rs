//! Vocabulary and decisions of Hearth, pure: no IO, no async, no clock, no randomness.
//! Time and chance are arguments; what is decided here is done elsewhere.

pub mod control;
pub mod error;
pub mod function;
pub mod ids;
pub mod limits;
pub mod name;

pub use error::{Error, ErrorCode, Result};
