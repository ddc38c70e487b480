//! The network of functions, as an operator sets it.

use std::net::Ipv4Addr;

use hearth_node::config::{DocumentedOptions, HumanSize};
use serde::{Deserialize, Serialize};

use crate::sandbox::native::{Destination, Network, NetworkConfig};

/// Whether functions have a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// They reach out if this host can be made to let them, else they have loopback alone, and a warning says why.
    #[default]
    Auto,
    /// They reach out, or the worker does not start.
    Egress,
    /// Loopback alone.
    Isolated,
}

/// See [`NetworkOptions::SAMPLE`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkOptions {
    /// Whether functions reach out.
    pub mode: NetworkMode,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Reachable although denied.
    pub allow: Vec<Destination>,
    /// Not reachable.
    pub deny: Vec<Destination>,
    /// Bytes a second of one sandbox, each way.
    pub bandwidth: HumanSize,
}

impl Default for NetworkOptions {
    fn default() -> Self {
        Self {
            mode: NetworkMode::Auto,
            dns: Vec::new(),
            allow: Vec::new(),
            deny: Vec::new(),
            bandwidth: HumanSize::from_mib(75),
        }
    }
}

impl NetworkOptions {
    /// As the native driver takes it.
    pub fn native(&self) -> Network {
        let config = NetworkConfig {
            dns: self.dns.clone(),
            allow: self.allow.clone(),
            deny: self.deny.clone(),
            bandwidth_bytes: self.bandwidth.0,
        };
        match self.mode {
            NetworkMode::Auto => Network::EgressIfPossible(config),
            NetworkMode::Egress => Network::Egress(config),
            NetworkMode::Isolated => Network::Isolated,
        }
    }
}

impl DocumentedOptions for NetworkOptions {
    const SAMPLE: &'static str = crate::network_sample!();
}

/// [`NetworkOptions`] as a part of the worker's documented file, for `concat!`.
#[macro_export]
macro_rules! network_sample {
    () => {
        r#"# "egress": functions reach out through this host, or the worker does not start. "isolated": loopback alone. "auto": they reach
# out if this host lets them (root, nftables, veth), else a warning says why not.
mode = "auto"
# Name servers, IPv4. Empty: the host's.
dns = []
# What functions reach although it is denied below or by default: addresses, networks or one port of them, as
# "10.0.0.5:5432". By default denied: this host, other sandboxes, loopback, link-local and metadata addresses.
allow = []
# What they do not reach. Name here the networks of the cluster's nodes and of management.
deny = []
# Most bytes a second of one sandbox, each way; beyond it packets are dropped.
bandwidth = "75MiB"
"#
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_documented() {
        hearth_node::config::assert_documented::<NetworkOptions>();
    }
}
