//! The controller: replicated control plane of a cluster. Functions, limits, grants and workers are agreed on
//! by Raft; workers are in session with the leader; gateways and workers follow the catalog.
//!
//! | module | what lives there |
//! |---|---|
//! | `state` | the replicated state, pure |
//! | `machine` | the state as Raft carries it: JSON, snapshots, the feed of changes |
//! | `raft` | openraft on sled, and on fjall for events |
//! | `blobs` | code blobs |
//! | `backup` | the file of a backup: writing, checking, restoring |
//! | `events` | the log of event invocations, a Raft group of its own |
//! | `leader` | the leader's soft state: sessions, permits, capacity |
//! | `reconcile` | from wanted to observed: pure plan, execution |
//! | `api` | gRPC services |
//!
//! No invocation passes here: with all controllers stopped, invocations go on.

mod api;
pub mod backup;
pub mod blobs;
mod collect;
mod document;
mod drain;
mod events;
mod leader;
mod machine;
mod metrics;
mod mirror;
mod net_dialer;
mod options;
mod proposals;
pub mod raft;
mod reconcile;
mod start;
pub mod state;
mod watch;

pub use hearth_node::Seams;
pub use options::{
    AccountOptions, BlobOptions, BlobStoreKind, EventOptions, Options, OptionsError, RaftOptions,
    S3, WorkerOptions,
};
pub use start::{Controller, StartError, start, start_on};
