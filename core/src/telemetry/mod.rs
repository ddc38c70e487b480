//! The Telemetry API of a sandbox: what may be subscribed to ([`subscription`]), what the events say ([`event`]), and when
//! which of them are sent ([`batch`]). Pure; sockets and clocks are the worker's.

pub mod batch;
pub mod event;
pub mod subscription;
