//! Protocols of Hearth: generated messages and services, their conversions to `core`, and the one map between
//! `core` errors and gRPC codes. Decisions are not here.

#[cfg(test)]
mod compatibility;
pub mod convert;
pub mod status;

/// The public gRPC API.
pub mod v1 {
    #![allow(
        missing_debug_implementations,
        unreachable_pub,
        clippy::all,
        clippy::pedantic,
        reason = "generated"
    )]
    tonic::include_proto!("hearth.v1");
    /// Encoded descriptors, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hearth_v1.bin"));
}

/// What the nodes of one cluster say to each other. Not for users.
pub mod internal {
    /// Version 1.
    pub mod v1 {
        #![allow(
            missing_debug_implementations,
            unreachable_pub,
            clippy::all,
            clippy::pedantic,
            reason = "generated"
        )]
        tonic::include_proto!("hearth.internal.v1");
    }
}
