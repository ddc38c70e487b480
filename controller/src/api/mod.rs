//! What a controller answers over gRPC: metadata operations, the catalog, sessions of workers, code blobs,
//! operators' commands. Decisions are in `state`, `leader` and `hearth_core`.

pub(crate) mod admin;
pub(crate) mod backup;
pub(crate) mod catalog;
pub(crate) mod code;
pub(crate) mod control;
pub(crate) mod follow;
pub(crate) mod forward;
pub(crate) mod operations;
pub(crate) mod readers;
pub(crate) mod registry;
pub(crate) mod roles;
pub(crate) mod trust;
