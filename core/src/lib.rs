//! Vocabulary and decisions of Hearth, pure: no IO, no async, no clock, no randomness.
//! Time and chance are arguments; what is decided here is done elsewhere.

pub mod attached;
pub mod control;
pub mod election;
pub mod error;
pub mod events;
pub mod extensions;
pub mod function;
pub mod hedge;
pub mod iam;
pub mod ids;
pub mod image;
pub mod layer;
pub mod limits;
pub mod logs;
pub mod mapping;
pub mod metering;
pub mod name;
pub mod overload;
pub mod permits;
pub mod placement;
pub mod planted;
pub mod policy;
pub mod pool;
pub mod queue;
pub mod rate;
pub mod report;
pub mod resource;
pub mod retry;
pub mod routing;
pub mod sandbox;
pub mod scaling;
pub mod signing;
pub mod standing;
pub mod stock;
pub mod telemetry;
pub mod versions;

pub use error::{Error, ErrorCode, Result};
