//! A whole gateway on loopback, against a scripted controller and scripted workers, with real HTTP and gRPC requests.

mod cluster;
mod grpc;
mod invocations;
mod slow_workers;
mod wire;
mod worker;
