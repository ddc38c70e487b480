//! Consensus of the controllers: openraft on sled, spoken over gRPC.
//!
//! This folder alone names openraft and sled. Others see a [`Machine`] (the replicated state, which
//! they bring) and a [`Consensus`] (a clonable handle to the running node):
//!
//! ```text
//! let consensus = Consensus::start(options, machine).await?;          // opens data, starts Raft
//! server.add_service(consensus.peer_service());                       // peers reach us
//! consensus.initialize(&members).await?;                              // safe on every start
//!
//! consensus.propose(command).await? -> Proposed { index, reply }      // on any controller
//! consensus.read_index().await?; consensus.read(|machine| ..)         // linearizable read
//! consensus.read(|machine| ..)                                        // local, perhaps stale
//! consensus.leadership(), consensus.watch_leadership()                // who leads, in which term
//! consensus.applied_index(), consensus.watch_applied()                // wake when state changed
//! consensus.members(), add_learner, change_membership, remove, transfer_leader
//! consensus.watch_fatal()                                             // Some(reason): end the process
//! consensus.shutdown().await
//! ```
//!
//! What does not live here: what commands mean (`crate::state`), who may send them (`crate::api`).

mod codec;
mod config;
mod consensus;
mod error;
mod follow;
mod group;
mod machine;
mod members;
mod network;
mod options;
mod peers;
mod pulse;
mod seed;
mod service;
mod snapshot;
mod snapshot_file;
mod state_machine;
pub mod storage;
mod store;
mod types;
mod watcher;

pub use consensus::{Consensus, Proposed};
pub use error::{MembershipError, ProposeError, ReadError, StartError};
pub use group::GroupService;
pub use machine::{Machine, RestoreError, WriteSnapshot};
pub use members::Members;
pub use options::{Dialer, Options, PlainDialer};
pub use seed::{Seed, SeedError, seed};
pub use service::PeerService;
pub use snapshot::SnapshotError;
pub use store::OpenError;
pub use watcher::Leadership;

/// Largest command `propose` takes. Larger documents are blobs, named in the command by digest.
pub const MAX_COMMAND_BYTES: usize = 64 * 1024;
/// Largest command of any group: an event of [`hearth_core::limits::ASYNC_REQUEST_MAX_BYTES`] with what is said of it.
pub const MAX_LARGE_COMMAND_BYTES: usize = hearth_core::limits::ASYNC_REQUEST_MAX_BYTES + 16 * 1024;
