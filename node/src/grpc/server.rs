//! Serving gRPC on a port of this node.
//!
//! Not here: the services.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tower::layer::util::{Identity, Stack};
use tracing::warn;

use super::window;
use super::{CheckClusterIdLayer, ClusterIdentity};
use crate::config::{DocumentedOptions, HumanDuration, HumanSize};
use crate::net::{NetListener, NetStream};

/// A tonic server that refuses peers of other clusters; `add_service` makes it a [`ClusterRouter`].
pub type ClusterServer = Server<Stack<CheckClusterIdLayer, Identity>>;

/// A [`ClusterServer`] with services.
pub type ClusterRouter = Router<Stack<CheckClusterIdLayer, Identity>>;

/// Pause after a failed accept (out of file descriptors, mostly), so that it is not retried in a busy loop.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// How this node is called by others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerOptions {
    /// Time between HTTP/2 pings to each caller. Default 1s.
    pub keep_alive_interval: HumanDuration,
    /// A caller that does not answer a ping by then is cut off. Default 2s.
    pub keep_alive_timeout: HumanDuration,
    /// Connections at a time; more wait in the kernel's queue. A controller has one of each node. Default 8192 connections.
    pub max_connections: u32,
    /// Calls running at a time on one connection; more wait in the caller. Default 1024 calls.
    pub max_streams_per_connection: u32,
    /// Bytes a caller may send on one call before it must wait. Default 4MiB.
    pub stream_window: HumanSize,
    /// Bytes a caller may send on all calls of a connection before it must wait. Default 16MiB.
    pub connection_window: HumanSize,
    /// Largest message a service sends or takes; to be set on the generated server, which tonic limits to 4 MiB
    /// otherwise. Default 8MiB (a payload is 6 MB at most).
    pub max_message_size: HumanSize,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            keep_alive_interval: HumanDuration::from_secs(1),
            keep_alive_timeout: HumanDuration::from_secs(2),
            max_connections: 8192,
            max_streams_per_connection: 1024,
            stream_window: HumanSize::from_mib(4),
            connection_window: HumanSize::from_mib(16),
            max_message_size: HumanSize::from_mib(8),
        }
    }
}

impl DocumentedOptions for ServerOptions {
    const SAMPLE: &'static str = r#"# Time between HTTP/2 pings to each caller.
keep_alive_interval = "1s"
# A caller that does not answer a ping by then is cut off.
keep_alive_timeout = "2s"
# Connections at a time; more wait in the kernel's queue. A controller has one of each node.
max_connections = 8192
# Calls running at a time on one connection; more wait in the caller.
max_streams_per_connection = 1024
# Bytes a caller may send on one call before it must wait.
stream_window = "4MiB"
# Bytes a caller may send on all calls of a connection before it must wait.
connection_window = "16MiB"
# Largest message sent or taken.
max_message_size = "8MiB"
"#;
}

/// Why serving ended early.
#[derive(Debug, thiserror::Error)]
#[error("the gRPC server failed")]
pub struct ServeError(#[source] tonic::transport::Error);

/// A server without services yet.
pub fn server(options: &ServerOptions, identity: &ClusterIdentity) -> ClusterServer {
    Server::builder()
        .http2_keepalive_interval(Some(options.keep_alive_interval.0))
        .http2_keepalive_timeout(Some(options.keep_alive_timeout.0))
        .max_concurrent_streams(options.max_streams_per_connection)
        .initial_stream_window_size(window(options.stream_window))
        .initial_connection_window_size(window(options.connection_window))
        .layer(CheckClusterIdLayer::new(identity.clone()))
}

/// Serves until `token` falls, then takes no more calls and waits for those running. A service with endless streams
/// must end them on the same token; the caller sets the deadline (`Shutdown::wait_with_deadline`).
pub async fn serve(
    router: ClusterRouter,
    listener: Box<dyn NetListener>,
    options: &ServerOptions,
    token: CancellationToken,
) -> Result<(), ServeError> {
    let incoming = incoming(listener, options.max_connections);
    router
        .serve_with_incoming_shutdown(incoming, token.cancelled_owned())
        .await
        .map_err(ServeError)
}

fn incoming(
    listener: Box<dyn NetListener>,
    max_connections: u32,
) -> impl Stream<Item = Result<NetStream, Infallible>> {
    let max_connections = usize::try_from(max_connections).unwrap_or(usize::MAX);
    let places = Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS)));
    futures::stream::unfold((listener, places), |(mut listener, places)| async move {
        let place = Arc::clone(&places)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        loop {
            match listener.accept().await {
                Ok(stream) => return Some((Ok(stream.holding(place)), (listener, places))),
                Err(error) => {
                    warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    })
}
