//! The worker role: sandboxes that run functions, the Runtime API inside them, the code they run, and the worker's share
//! of every concurrency limit. What is invocable and who may have how much is decided by controllers and told in
//! `catalog` and `session`; who is sent here by gateways, over `invoke`.

mod catalog;
mod code;
mod controllers;
mod invoke;
mod logs;
mod metrics;
mod options;
mod pool;
mod runtime_api;
pub mod runtimes;
pub mod sandbox;
mod session;
mod telemetry;
#[cfg(test)]
mod test_support;
mod worker;

pub use code::CodeError;
pub use code::image::LayerError;
pub use code::unpack::UnpackError;
pub use hearth_node::Seams;
pub use options::{NetworkMode, NetworkOptions, Options, OptionsError, PoolsOptions};
pub use worker::{StartError, Worker, start};
