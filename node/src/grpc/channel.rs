//! Opening channels to other nodes.
//!
//! Not here: which node to call, and retries.

use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use super::window;
use super::{AddClusterId, ClusterIdentity};
use crate::config::{DocumentedOptions, HumanDuration, HumanSize};
use crate::net::SharedNet;

/// What generated clients are made on: `FooClient::new(channel)`. Cloning shares the connection.
pub type ClusterChannel = InterceptedService<Channel, AddClusterId>;

/// How this node calls others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChannelOptions {
    /// Longest wait for a connection. Default 1s.
    pub connect_timeout: HumanDuration,
    /// Time between HTTP/2 pings, sent also while no call runs. Default 1s.
    pub keep_alive_interval: HumanDuration,
    /// A ping not answered by then closes the connection and fails its calls. Default 2s.
    pub keep_alive_timeout: HumanDuration,
    /// Bytes a peer may send on one call before it must wait. Default 4MiB.
    pub stream_window: HumanSize,
    /// Bytes a peer may send on all calls of a connection before it must wait. Default 16MiB.
    pub connection_window: HumanSize,
    /// Largest message a client sends or takes; to be set on the generated client, which tonic limits to 4 MiB
    /// otherwise. Default 8MiB (a payload is 6 MB at most).
    pub max_message_size: HumanSize,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self {
            connect_timeout: HumanDuration::from_secs(1),
            keep_alive_interval: HumanDuration::from_secs(1),
            keep_alive_timeout: HumanDuration::from_secs(2),
            stream_window: HumanSize::from_mib(4),
            connection_window: HumanSize::from_mib(16),
            max_message_size: HumanSize::from_mib(8),
        }
    }
}

impl DocumentedOptions for ChannelOptions {
    const SAMPLE: &'static str = r#"# Longest wait for a connection to another node.
connect_timeout = "1s"
# Time between HTTP/2 pings, sent also while no call runs.
keep_alive_interval = "1s"
# A ping not answered by then closes the connection and fails its calls.
keep_alive_timeout = "2s"
# Bytes a peer may send on one call before it must wait.
stream_window = "4MiB"
# Bytes a peer may send on all calls of a connection before it must wait.
connection_window = "16MiB"
# Largest message sent or taken.
max_message_size = "8MiB"
"#;
}

/// Why no channel could be made.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// Not `host:port`.
    #[error("`{addr}` is not the address of a node")]
    Address {
        /// The text given.
        addr: String,
        /// What is wrong with it.
        #[source]
        source: tonic::transport::Error,
    },
}

/// A channel to `addr` (`host:port`). It connects at the first call and again after a loss; a call fails with
/// UNAVAILABLE while it cannot. Must be called inside a tokio runtime.
pub fn channel(
    net: &SharedNet,
    addr: &str,
    options: &ChannelOptions,
    identity: &ClusterIdentity,
) -> Result<ClusterChannel, ChannelError> {
    let endpoint = Endpoint::from_shared(format!("http://{addr}"))
        .map_err(|source| ChannelError::Address {
            addr: addr.to_owned(),
            source,
        })?
        .connect_timeout(options.connect_timeout.0)
        .http2_keep_alive_interval(options.keep_alive_interval.0)
        .keep_alive_timeout(options.keep_alive_timeout.0)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(window(options.stream_window))
        .initial_connection_window_size(window(options.connection_window));
    let net = SharedNet::clone(net);
    let connector = service_fn(move |uri: Uri| {
        let net = SharedNet::clone(&net);
        async move {
            let addr = uri.authority().map_or("", |authority| authority.as_str());
            net.connect(addr).await.map(TokioIo::new)
        }
    });
    let channel = endpoint.connect_with_connector_lazy(connector);
    let say_cluster = AddClusterId::new(identity.clone());
    Ok(InterceptedService::new(channel, say_cluster))
}
