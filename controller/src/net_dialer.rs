//! Channels between controllers over the node's network seam, for Raft and blobs.

use std::time::Duration;

use hearth_node::net::SharedNet;
use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::raft::Dialer;

/// Raft repeats what fails, so a connection attempt that hangs only costs time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A partition leaves connections open; pings find out.
const PING_INTERVAL: Duration = Duration::from_secs(2);
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// Dials through [`SharedNet`].
#[derive(Clone, Debug)]
pub(crate) struct NetDialer {
    pub(crate) net: SharedNet,
}

impl Dialer for NetDialer {
    fn dial(&self, address: &str) -> Result<Channel, String> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| format!("{address}: {error}"))?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true);
        let net = SharedNet::clone(&self.net);
        let connector = service_fn(move |uri: Uri| {
            let net = SharedNet::clone(&net);
            async move {
                let addr = uri.authority().map_or("", |authority| authority.as_str());
                net.connect(addr).await.map(TokioIo::new)
            }
        });
        Ok(endpoint.connect_with_connector_lazy(connector))
    }
}
