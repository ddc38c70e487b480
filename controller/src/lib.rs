//! Replicated control plane.
pub mod blobs;
pub mod raft;
pub mod state;
mod machine;
