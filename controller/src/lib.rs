//! The replicated control plane: what the cluster must not forget, and the decisions made from it.

pub mod blobs;
pub mod raft;
