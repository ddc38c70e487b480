//! Which nodes a cluster on one machine has and where they listen: decided once, kept in `cluster.json`.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use hearth_node::tls::NodeRole;
use serde::{Deserialize, Serialize};

/// A role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    Controller,
    Worker,
    Gateway,
}

impl Role {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::Worker => "worker",
            Self::Gateway => "gateway",
        }
    }

    pub(crate) fn in_certificates(self) -> NodeRole {
        match self {
            Self::Controller => NodeRole::Controller,
            Self::Worker => NodeRole::Worker,
            Self::Gateway => NodeRole::Gateway,
        }
    }

    /// Node ids start here, so that an id tells the role.
    fn first_id(self) -> u64 {
        match self {
            Self::Controller => 1,
            Self::Worker => 101,
            Self::Gateway => 201,
        }
    }
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Node {
    pub(crate) role: Role,
    pub(crate) id: u64,
    pub(crate) addr: SocketAddr,
    pub(crate) admin_addr: SocketAddr,
}

/// What `cluster.json` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cluster {
    pub(crate) format: u32,
    pub(crate) cluster_id: String,
    pub(crate) region: String,
    pub(crate) account_id: String,
    pub(crate) nodes: Vec<Node>,
}

/// The format this build reads and writes.
pub(crate) const FORMAT: u32 = 1;

/// What was asked for on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) listen: SocketAddr,
    pub(crate) controllers: Option<u16>,
    pub(crate) workers: Option<u16>,
    pub(crate) gateways: Option<u16>,
    pub(crate) region: Option<String>,
    pub(crate) account_id: Option<String>,
}

/// Why a plan cannot be made.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlanError {
    #[error("--controllers {0}: a cluster has 1, 3 or 5 controllers")]
    ControllerCount(u16),
    #[error("--{0} 0: at least one is needed")]
    None(&'static str),
    #[error("--{0} {1}: at most 64 on one machine")]
    TooMany(&'static str, u16),
    #[error(
        "{flag} {wanted}: this data dir is of a cluster with {has}; leave the flag away or choose another --data-dir"
    )]
    Differs {
        flag: &'static str,
        wanted: String,
        has: String,
    },
    #[error("no free port found between 15000 and 32000")]
    NoPort,
    #[error("cluster.json has format {0}, this build reads format {FORMAT}")]
    Format(u32),
    #[error("--account-id {0}: an account id has 12 digits")]
    AccountId(String),
}

/// The nodes to run: those of `existing` where there is one, with workers and gateways added or left out as asked.
/// `free_port` tries a port and says whether it is free; `draw` gives chance.
pub(crate) fn plan(
    wanted: &Wanted,
    existing: Option<Cluster>,
    mut free_port: impl FnMut(SocketAddr) -> bool,
    mut draw: impl FnMut() -> u64,
) -> Result<Cluster, PlanError> {
    let mut cluster = match existing {
        Some(cluster) => check_existing(wanted, cluster)?,
        None => Cluster {
            format: FORMAT,
            cluster_id: format!("{:016x}", draw()),
            region: wanted.region.clone().unwrap_or_else(|| "us-east-1".into()),
            account_id: wanted
                .account_id
                .clone()
                .unwrap_or_else(|| "000000000000".into()),
            nodes: Vec::new(),
        },
    };
    if cluster
        .account_id
        .parse::<hearth_core::ids::AccountId>()
        .is_err()
    {
        return Err(PlanError::AccountId(cluster.account_id));
    }
    let controllers = count(
        "controllers",
        wanted.controllers,
        &cluster,
        Role::Controller,
    )?;
    if ![1, 3, 5].contains(&controllers) {
        return Err(PlanError::ControllerCount(controllers));
    }
    let workers = count("workers", wanted.workers, &cluster, Role::Worker)?;
    let gateways = count("gateways", wanted.gateways, &cluster, Role::Gateway)?;

    let mut taken: BTreeSet<u16> = cluster
        .nodes
        .iter()
        .flat_map(|n| [n.addr.port(), n.admin_addr.port()])
        .collect();
    let mut nodes = Vec::new();
    for (role, wanted_count) in [
        (Role::Controller, controllers),
        (Role::Worker, workers),
        (Role::Gateway, gateways),
    ] {
        for index in 0..u64::from(wanted_count) {
            let id = role.first_id() + index;
            let first_gateway = role == Role::Gateway && index == 0;
            let known = cluster.nodes.iter().find(|n| n.id == id).cloned();
            let mut node = match known {
                Some(node) => node,
                None => {
                    let mut pick =
                        || pick_port(wanted.listen, &mut taken, &mut free_port, &mut draw);
                    Node {
                        role,
                        id,
                        addr: pick()?,
                        admin_addr: pick()?,
                    }
                }
            };
            if first_gateway && wanted.listen.port() != 0 {
                node.addr = wanted.listen;
            }
            nodes.push(node);
        }
    }
    cluster.nodes = nodes;
    Ok(cluster)
}

fn check_existing(wanted: &Wanted, cluster: Cluster) -> Result<Cluster, PlanError> {
    if cluster.format != FORMAT {
        return Err(PlanError::Format(cluster.format));
    }
    let differs = |flag, wanted: &Option<String>, has: &String| match wanted {
        Some(wanted) if wanted != has => Err(PlanError::Differs {
            flag,
            wanted: wanted.clone(),
            has: has.clone(),
        }),
        _ => Ok(()),
    };
    differs("--region", &wanted.region, &cluster.region)?;
    differs("--account-id", &wanted.account_id, &cluster.account_id)?;
    let has = cluster
        .nodes
        .iter()
        .filter(|n| n.role == Role::Controller)
        .count()
        .to_string();
    differs(
        "--controllers",
        &wanted.controllers.map(|n| n.to_string()),
        &has,
    )?;
    Ok(cluster)
}

fn count(
    flag: &'static str,
    wanted: Option<u16>,
    cluster: &Cluster,
    role: Role,
) -> Result<u16, PlanError> {
    let has = cluster.nodes.iter().filter(|n| n.role == role).count();
    match wanted.unwrap_or_else(|| u16::try_from(has.max(1)).unwrap_or(u16::MAX)) {
        0 => Err(PlanError::None(flag)),
        n if n > 64 => Err(PlanError::TooMany(flag, n)),
        n => Ok(n),
    }
}

/// A free port below Linux's ephemeral range (32768 and up), so that no outgoing connection takes it while its node is
/// down.
fn pick_port(
    listen: SocketAddr,
    taken: &mut BTreeSet<u16>,
    free_port: &mut impl FnMut(SocketAddr) -> bool,
    draw: &mut impl FnMut() -> u64,
) -> Result<SocketAddr, PlanError> {
    for _ in 0..200 {
        let port = 15_000 + u16::try_from(draw() % 17_000).expect("less than 17,000");
        let addr = SocketAddr::new(listen.ip(), port);
        if !taken.contains(&port) && free_port(addr) {
            taken.insert(port);
            return Ok(addr);
        }
    }
    Err(PlanError::NoPort)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Wanted {
        Wanted {
            listen: "127.0.0.1:9100".parse().unwrap(),
            controllers: None,
            workers: None,
            gateways: None,
            region: None,
            account_id: None,
        }
    }

    fn make(wanted: &Wanted, existing: Option<Cluster>) -> Result<Cluster, PlanError> {
        let mut n = 0;
        plan(
            wanted,
            existing,
            |_| true,
            || {
                n += 1;
                n
            },
        )
    }

    #[test]
    fn the_default_is_one_of_each_with_the_gateway_where_it_was_asked_for() {
        let cluster = make(&wanted(), None).unwrap();
        assert_eq!(
            cluster.nodes.iter().map(|n| n.id).collect::<Vec<_>>(),
            [1, 101, 201]
        );
        assert_eq!(cluster.nodes[2].addr.port(), 9100);
    }

    #[test]
    fn every_port_is_used_once() {
        let cluster = make(
            &Wanted {
                controllers: Some(5),
                workers: Some(9),
                gateways: Some(3),
                ..wanted()
            },
            None,
        )
        .unwrap();
        let ports: BTreeSet<u16> = cluster
            .nodes
            .iter()
            .flat_map(|n| [n.addr.port(), n.admin_addr.port()])
            .collect();
        assert_eq!(ports.len(), 2 * cluster.nodes.len());
    }

    /// `cluster.json` as the first release wrote it.
    #[test]
    fn a_cluster_of_format_1_stays_readable() {
        let golden = r#"{
  "format": 1,
  "cluster_id": "0000000000000001",
  "region": "us-east-1",
  "account_id": "000000000000",
  "nodes": [
    {
      "role": "controller",
      "id": 1,
      "addr": "127.0.0.1:15002",
      "admin_addr": "127.0.0.1:15003"
    }
  ]
}"#;
        let read: Cluster = serde_json::from_str(golden).unwrap();
        let node = Node {
            role: Role::Controller,
            id: 1,
            addr: "127.0.0.1:15002".parse().unwrap(),
            admin_addr: "127.0.0.1:15003".parse().unwrap(),
        };
        assert_eq!((read.format, &read.nodes), (FORMAT, &vec![node]));
        assert_eq!(serde_json::to_string_pretty(&read).unwrap(), golden);
    }

    #[test]
    fn a_restart_keeps_the_nodes_and_may_add_workers() {
        let first = make(
            &Wanted {
                controllers: Some(3),
                ..wanted()
            },
            None,
        )
        .unwrap();
        assert_eq!(make(&wanted(), Some(first.clone())).unwrap(), first);
        let more = make(
            &Wanted {
                workers: Some(2),
                ..wanted()
            },
            Some(first.clone()),
        )
        .unwrap();
        assert_eq!(more.nodes.len(), first.nodes.len() + 1);
        assert!(first.nodes.iter().all(|n| more.nodes.contains(n)));
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_flag_named() {
        let first = make(&wanted(), None).unwrap();
        for (wanted, text) in [
            (
                Wanted {
                    controllers: Some(2),
                    ..wanted()
                },
                "1, 3 or 5",
            ),
            (
                Wanted {
                    workers: Some(0),
                    ..wanted()
                },
                "at least one",
            ),
            (
                Wanted {
                    account_id: Some("12".into()),
                    ..wanted()
                },
                "12 digits",
            ),
        ] {
            let error = make(&wanted, None).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
        for changed in [
            Wanted {
                controllers: Some(3),
                ..wanted()
            },
            Wanted {
                region: Some("eu-west-1".into()),
                ..wanted()
            },
        ] {
            assert!(matches!(
                make(&changed, Some(first.clone())),
                Err(PlanError::Differs { .. })
            ));
        }
    }
}
