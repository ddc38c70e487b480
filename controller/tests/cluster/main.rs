//! Controllers in one process over loopback, asked through their gRPC services, with scripted workers.
//! Each controller has a runtime of its own, so that killing one is killing all its tasks at once.

#![expect(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "the whole crate is a test"
)]

mod catalog;
mod code;
mod events;
mod failover;
mod functions;
mod harness;
mod membership;
mod scripted_worker;
mod workers;
