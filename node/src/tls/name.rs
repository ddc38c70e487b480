//! Who a node says it is in its certificate: `hearth://CLUSTER/ROLE/ID`, a URI among the subject's alternative names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

const SCHEME: &str = "hearth://";
/// Longest cluster id in a certificate, characters.
const CLUSTER_MAX: usize = 64;

/// What a certificate's holder may act as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeRole {
    /// A controller.
    Controller,
    /// A worker.
    Worker,
    /// A gateway.
    Gateway,
    /// Not a node: a person at the command line.
    Operator,
}

impl NodeRole {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Controller,
        Self::Worker,
        Self::Gateway,
        Self::Operator,
    ];

    /// As it stands in certificates and options.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::Worker => "worker",
            Self::Gateway => "gateway",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for NodeRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not a name of a node or role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a role.
    #[error("`{0}` is not a role; there are controller, worker, gateway and operator")]
    Role(String),
    /// A cluster id that no certificate can carry.
    #[error(
        "the cluster id `{0}` must be 1 to 64 of the characters A-Z a-z 0-9 _ . - to stand in a certificate"
    )]
    Cluster(String),
    /// Not `hearth://CLUSTER/ROLE/ID`.
    #[error("`{0}` does not name a node; hearth://CLUSTER/ROLE/ID would")]
    Uri(String),
}

impl FromStr for NodeRole {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| NameError::Role(text.to_owned()))
    }
}

/// A node, unique among all clusters whose ids differ.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName {
    cluster: String,
    /// What it acts as.
    pub role: NodeRole,
    /// Its id; 0 for an operator without a number.
    pub id: u64,
}

impl NodeName {
    /// Refuses a cluster id that cannot stand in a URI.
    pub fn new(cluster: &str, role: NodeRole, id: u64) -> Result<Self, NameError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if cluster.is_empty() || cluster.len() > CLUSTER_MAX || !cluster.chars().all(plain) {
            return Err(NameError::Cluster(cluster.to_owned()));
        }
        Ok(Self {
            cluster: cluster.to_owned(),
            role,
            id,
        })
    }

    /// The cluster's id.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cluster, role, id } = self;
        write!(f, "{SCHEME}{cluster}/{role}/{id}")
    }
}

impl FromStr for NodeName {
    type Err = NameError;

    fn from_str(uri: &str) -> Result<Self, NameError> {
        let wrong = || NameError::Uri(uri.to_owned());
        let rest = uri.strip_prefix(SCHEME).ok_or_else(wrong)?;
        let mut parts = rest.split('/');
        let (Some(cluster), Some(role), Some(id), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong());
        };
        let number: u64 = id.parse().map_err(|_| wrong())?;
        let name = Self::new(cluster, role.parse()?, number)?;
        // One node has one name: no signs, no leading zeros.
        if name.to_string() == uri {
            Ok(name)
        } else {
            Err(wrong())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_as_it_prints() {
        for role in NodeRole::ALL {
            let name = NodeName::new("prod-1.eu", role, 101).unwrap();
            assert_eq!(name.to_string(), format!("hearth://prod-1.eu/{role}/101"));
            assert_eq!(name.to_string().parse(), Ok(name));
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            "hearth://",
            "hearth://c/worker",
            "hearth://c/worker/1/2",
            "hearth://c/worker/+1",
            "hearth://c/worker/01",
            "hearth://c/worker/-1",
            "hearth://c/king/1",
            "hearth:///worker/1",
            "hearth://a b/worker/1",
            "https://c/worker/1",
        ] {
            assert!(text.parse::<NodeName>().is_err(), "{text}");
        }
        for cluster in ["", "a/b", "a b", "ä", &"x".repeat(65)] {
            assert!(
                NodeName::new(cluster, NodeRole::Worker, 1).is_err(),
                "{cluster}"
            );
        }
    }
}
