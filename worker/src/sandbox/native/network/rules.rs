//! Who may reach what, as nftables rules. Pure text.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Addresses that are the cluster's own matter or nobody's: this host and network, loopback, link-local with the metadata
/// services of clouds, the range of sandboxes and uplinks, multicast, reserved and broadcast.
const DENIED: [&str; 6] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/4",
    "240.0.0.0/4",
];

/// Name of the way out, in the router.
pub(super) const UPLINK: &str = "uplink";

/// What an operator allows or denies: addresses, or one port of theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Destination {
    address: Ipv4Addr,
    prefix: u8,
    /// Of TCP and UDP; none: everything.
    port: Option<u16>,
}

/// Why a text is no [`Destination`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an IPv4 address, a network as 10.0.0.0/8, or either with a port as 10.0.0.5:5432"
)]
pub struct DestinationError(String);

impl FromStr for Destination {
    type Err = DestinationError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || DestinationError(text.to_owned());
        let (network, port) = match text.split_once(':') {
            Some((network, port)) => (network, Some(port.parse().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let (address, prefix) = match network.split_once('/') {
            Some((address, prefix)) => (address, prefix.parse().map_err(|_| wrong())?),
            None => (network, 32),
        };
        if prefix > 32 || port == Some(0) {
            return Err(wrong());
        }
        Ok(Self {
            address: address.parse().map_err(|_| wrong())?,
            prefix,
            port,
        })
    }
}

impl TryFrom<String> for Destination {
    type Error = DestinationError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Destination> for String {
    fn from(destination: Destination) -> Self {
        destination.to_string()
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl Destination {
    /// As the match of a rule.
    fn matching(&self) -> String {
        let network = format!("ip daddr {}/{}", self.address, self.prefix);
        match self.port {
            Some(port) => format!("{network} meta l4proto {{ tcp, udp }} th dport {port}"),
            None => network,
        }
    }
}

/// What the rules are made of.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    pub(super) dns: Vec<Ipv4Addr>,
    pub(super) allow: Vec<Destination>,
    pub(super) deny: Vec<Destination>,
    pub(super) bandwidth_bytes: u64,
}

impl Policy {
    /// What is reachable whatever else is said: the name servers and what the operator names.
    fn accepted(&self) -> Vec<String> {
        let dns = self.dns.iter();
        let dns =
            dns.map(|server| format!("ip daddr {server} meta l4proto {{ tcp, udp }} th dport 53"));
        dns.chain(self.allow.iter().map(Destination::matching))
            .collect()
    }

    /// The router's table. A packet over a sandbox's rate is dropped, to which TCP adapts; one that may not go is answered,
    /// so that a function learns of it at once.
    pub(super) fn router(&self) -> String {
        let (accepted, rate) = (self.accepted(), self.bandwidth_bytes.max(1));
        let burst = (rate / 8).clamp(65_536, u64::from(u32::MAX));
        let mut rules = String::new();
        let mut line = |text: &str| {
            rules.push_str(text);
            rules.push('\n');
        };
        line("table ip hearth {");
        for set in ["up", "down"] {
            line(&format!(
                "set {set} {{ type iface_index; flags dynamic; timeout 60s; size 65535; }}"
            ));
        }
        line("chain forward { type filter hook forward priority 0; policy drop;");
        line(&format!(
            "iifname != \"{UPLINK}\" update @up {{ iif limit rate over {rate} bytes/second burst {burst} bytes }} drop"
        ));
        line(&format!(
            "iifname \"{UPLINK}\" update @down {{ oif limit rate over {rate} bytes/second burst {burst} bytes }} drop"
        ));
        line("ct state established,related accept");
        line(&format!("iifname \"{UPLINK}\" drop"));
        // From one sandbox to another.
        line(&format!(
            "oifname != \"{UPLINK}\" reject with icmp admin-prohibited"
        ));
        for matching in &accepted {
            line(&format!("{matching} accept"));
        }
        for denied in &self.deny {
            line(&format!(
                "{} reject with icmp admin-prohibited",
                denied.matching()
            ));
        }
        line(&format!(
            "ip daddr {{ {} }} reject with icmp admin-prohibited",
            DENIED.join(", ")
        ));
        line("accept");
        line("}");
        // The router answers nobody but to say that something may not go.
        line("chain input { type filter hook input priority 0; policy drop;");
        line(&format!(
            "iifname != \"{UPLINK}\" reject with icmp admin-prohibited"
        ));
        line("}");
        line("chain postrouting { type nat hook postrouting priority 100;");
        line(&format!("oifname \"{UPLINK}\" masquerade"));
        line("}");
        line("}");
        rules
    }

    /// The host's table for one worker, whose uplink is the interface `name`. With `only_ours` the host forwards nothing
    /// that it did not forward before.
    pub(super) fn host(&self, name: &str, network: &str, only_ours: bool) -> String {
        let mut rules = String::new();
        let mut line = |text: &str| {
            rules.push_str(text);
            rules.push('\n');
        };
        // Adding first makes the deletion of one that is not there no error.
        line(&format!("table ip {name} {{}}"));
        line(&format!("delete table ip {name}"));
        line(&format!("table ip {name} {{"));
        // What is addressed to the host itself: its services, and other nodes of the cluster on it.
        line("chain input { type filter hook input priority -10; policy accept;");
        line(&format!(
            "iifname \"{name}\" ct state established,related accept"
        ));
        for matching in self.accepted() {
            line(&format!("iifname \"{name}\" {matching} accept"));
        }
        line(&format!(
            "iifname \"{name}\" reject with icmp admin-prohibited"
        ));
        line("}");
        line("chain forward { type filter hook forward priority -10; policy accept;");
        line(&format!("iifname \"{name}\" accept"));
        line(&format!(
            "oifname \"{name}\" ct state established,related accept"
        ));
        line(&format!("oifname \"{name}\" drop"));
        if only_ours {
            line(&format!(
                "iifname != \"{PREFIX}*\" oifname != \"{PREFIX}*\" drop"
            ));
        }
        line("}");
        line("chain postrouting { type nat hook postrouting priority 100;");
        line(&format!(
            "ip saddr {network} oifname != \"{name}\" masquerade"
        ));
        line("}");
        line("}");
        rules
    }
}

/// What the names of all uplinks on a host begin with.
pub(super) const PREFIX: &str = "hearth";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_read_and_print_alike() {
        for (text, shown) in [
            ("10.0.0.5", "10.0.0.5/32"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.0.0.5:5432", "10.0.0.5/32:5432"),
            ("10.0.0.0/24:443", "10.0.0.0/24:443"),
        ] {
            assert_eq!(text.parse::<Destination>().unwrap().to_string(), shown);
        }
        for text in [
            "",
            "host",
            "10.0.0.0/33",
            "10.0.0.5:0",
            "10.0.0.5:x",
            "::1",
            "10.0.0.5:53 accept",
        ] {
            assert!(text.parse::<Destination>().is_err(), "{text}");
        }
    }

    fn position(rules: &str, text: &str) -> usize {
        rules
            .find(text)
            .unwrap_or_else(|| panic!("{text} is not in\n{rules}"))
    }

    #[test]
    fn what_is_allowed_wins_over_what_is_denied_and_both_over_the_rest() {
        let policy = Policy {
            dns: vec![Ipv4Addr::new(10, 0, 0, 2)],
            allow: vec!["127.9.9.9:80".parse().unwrap()],
            deny: vec!["10.0.0.0/8".parse().unwrap()],
            bandwidth_bytes: 1_000_000,
        };
        let rules = policy.router();
        let order = [
            "1000000 bytes/second burst 125000 bytes",
            "ct state established",
            "oifname != \"uplink\" reject",
            "ip daddr 10.0.0.2 meta l4proto { tcp, udp } th dport 53 accept",
            "ip daddr 127.9.9.9/32 meta l4proto { tcp, udp } th dport 80 accept",
            "ip daddr 10.0.0.0/8 reject",
            "169.254.0.0/16",
        ];
        let places: Vec<usize> = order.map(|text| position(&rules, text)).into();
        assert!(places.is_sorted(), "{places:?}\n{rules}");
        let host = policy.host("hearth7", "198.18.0.28/30", true);
        assert!(position(&host, "dport 53 accept") < position(&host, "iifname \"hearth7\" reject"));
        assert!(host.contains("iifname != \"hearth*\" oifname != \"hearth*\" drop"));
        assert!(
            !policy
                .host("hearth7", "198.18.0.28/30", false)
                .contains("hearth*")
        );
    }
}
