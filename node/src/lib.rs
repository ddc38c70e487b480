//! What every role of Hearth (controller, worker, gateway) does alike: its clock and randomness, configuration,
//! telemetry, admin port, shutdown, sockets, gRPC settings, TLS between nodes and data directory.
//!
//! Nothing here knows what a function, a sandbox or a grant is.

pub mod admin;
pub mod blocking;
pub mod clock;
pub mod config;
pub mod credentials;
pub mod data_dir;
pub mod grpc;
pub mod health;
pub mod listen;
pub mod metrics;
pub mod net;
pub mod random;
pub mod seams;
pub mod shutdown;
pub mod telemetry;
pub mod tls;

pub use seams::Seams;
