//! gRPC between nodes: one way to open a channel, one way to serve, and what every call needs (cluster check,
//! deadline, bounded retry).
//!
//! Not here: services and messages (`hearth-proto`), and the map from errors to codes (`proto/src/status.rs`); the two
//! codes spoken here are of the transport: a deadline passed, a peer of another cluster.

mod channel;
mod claim;
mod cluster;
mod retry;
mod server;

use std::future::Future;
use std::time::Duration;

use tonic::Status;

pub use channel::{ChannelError, ChannelOptions, ClusterChannel, channel};
pub use claim::check_claim;
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
        Ok(answer) => answer.map_err(explained),
        Err(_) => Err(Status::deadline_exceeded(format!(
            "no answer within {} ms",
            limit.as_millis()
        ))),
    }
}

/// tonic says `transport error` for whatever went wrong with a connection and keeps the reason to itself. The innermost cause
/// names it: a refused certificate, a refused connection.
pub fn explained(status: Status) -> Status {
    let mut cause = std::error::Error::source(&status);
    let mut innermost = None;
    while let Some(error) = cause {
        innermost = Some(error.to_string());
        cause = error.source();
    }
    match innermost {
        Some(reason) if !status.message().contains(&reason) => {
            let message = format!("{}: {reason}", status.message());
            let (details, metadata) = (status.details().to_vec(), status.metadata().clone());
            Status::with_details_and_metadata(status.code(), message, details.into(), metadata)
        }
        _ => status,
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
