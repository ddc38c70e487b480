//! gRPC between nodes: one way to open a channel, one way to serve, and what every call needs (cluster check,
//! deadline, bounded retry).
//!
//! Not here: services and messages (`hearth-proto`), and the map from errors to codes (`proto/src/status.rs`); the two
//! codes spoken here are of the transport: a deadline passed, a peer of another cluster.

mod channel;
mod cluster;
mod retry;
mod server;

use std::future::Future;
use std::time::Duration;

use tonic::Status;

pub use channel::{ChannelError, ChannelOptions, ClusterChannel, channel};
pub use cluster::{
    AddClusterId, CLUSTER_ID_HEADER, CheckClusterId, CheckClusterIdLayer, ClusterIdError,
    ClusterIdentity,
};
pub use retry::{Backoff, retry};
pub use server::{ClusterRouter, ClusterServer, ServeError, ServerOptions, serve, server};

/// Ends a call that takes longer than `limit`. What the callee did by then is unknown.
pub async fn with_deadline<T>(
    call: impl Future<Output = Result<T, Status>>,
    limit: Duration,
) -> Result<T, Status> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer,
        Err(_) => Err(Status::deadline_exceeded(format!(
            "no answer within {} ms",
            limit.as_millis()
        ))),
    }
}

/// A window or frame size as HTTP/2 wants it.
fn window(size: crate::config::HumanSize) -> u32 {
    // RFC 9113, 6.9.1: a window must not exceed 2^31-1.
    const MAX: u32 = (1 << 31) - 1;
    u32::try_from(size.0).unwrap_or(MAX).min(MAX)
}

#[cfg(test)]
mod tests;
