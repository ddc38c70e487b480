//! Connections of this gateway to other nodes of its cluster: settings and identity in one place. How a channel is
//! made is `hearth_node::grpc`'s; what is said on it is not here.

use hearth_node::config::HumanDuration;
use hearth_node::grpc::{ChannelOptions, ClusterChannel, ClusterIdentity, channel};
use hearth_node::net::SharedNet;
use tonic::Status;

/// Largest message between nodes: a page of functions, or a response that a worker did not cut.
pub(crate) const MESSAGE_MAX_BYTES: usize = 16 << 20;

/// Makes channels.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    net: SharedNet,
    identity: ClusterIdentity,
}

impl Dialer {
    pub(crate) fn new(net: SharedNet, identity: ClusterIdentity) -> Self {
        Self { net, identity }
    }

    /// A channel that connects when it is used, and again when it was lost.
    pub(crate) fn channel(&self, addr: &str) -> Result<ClusterChannel, Status> {
        self.dial(addr, &ChannelOptions::default())
    }

    /// One to a controller. Metadata waits for a controller that is cut off until its channel is found dead, and writes are
    /// to resume two seconds after a leader is lost; one that is taken for dead wrongly costs a second try, not an
    /// invocation.
    pub(crate) fn controller(&self, addr: &str) -> Result<ClusterChannel, Status> {
        let options = ChannelOptions {
            connect_timeout: HumanDuration::from_millis(500),
            keep_alive_interval: HumanDuration::from_millis(400),
            keep_alive_timeout: HumanDuration::from_millis(800),
            ..ChannelOptions::default()
        };
        self.dial(addr, &options)
    }

    fn dial(&self, addr: &str, options: &ChannelOptions) -> Result<ClusterChannel, Status> {
        channel(&self.net, addr, options, &self.identity)
            .map_err(|error| Status::invalid_argument(error.to_string()))
    }
}
