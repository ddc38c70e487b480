//! What cluster tests and benchmarks share: a real cluster of real processes and signed requests to it. No test is here.

pub mod cluster;
pub mod http;
