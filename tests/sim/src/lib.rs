//! A whole cluster in one thread: real controllers, workers and gateways on a simulated network, simulated disks and
//! clocks and fake sandboxes, with faults and load drawn from one seed; what they promise is looked at after every step.
//! How to use it is in `README.md`.
//!
//! Also here, for any test: a checker of linearizability ([`linear`]) and the meaning of calls to a function's
//! metadata ([`history`]).

pub mod chance;
#[cfg(tokio_unstable)]
pub mod command;
pub mod history;
pub mod invariants;
pub mod ledger;
pub mod linear;
pub mod plan;
pub mod tally;
#[cfg(tokio_unstable)]
pub mod world;
