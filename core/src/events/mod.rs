//! Event (asynchronous) invocations, pure.

pub mod retry;
