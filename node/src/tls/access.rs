//! Who may call what: one table for all gRPC services between nodes. What is not in it is refused.
//!
//! Also whether a caller may speak as the node that its message names. Which messages name one, the services know.
//!
//! Not here: whether the caller is who its certificate says (`verify.rs`).

use super::name::NodeRole;
use crate::net::Caller;

/// A row: service, method (`*`: all that have no row of their own), who may call it.
type Row = (&'static str, &'static str, &'static [Who]);

/// A kind of caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// A node of the cluster, or an operator.
    Role(NodeRole),
    /// One that has no certificate yet, on a connection for joining.
    Joining,
}

const CONTROLLER: Who = Who::Role(NodeRole::Controller);
const WORKER: Who = Who::Role(NodeRole::Worker);
const GATEWAY: Who = Who::Role(NodeRole::Gateway);
const OPERATOR: Who = Who::Role(NodeRole::Operator);

/// Controllers forward to the leader what others ask them.
const TABLE: &[Row] = &[
    ("RaftPeer", "*", &[CONTROLLER]),
    // Workers read code from whichever controller has it.
    ("BlobPeer", "GetBlob", &[CONTROLLER, WORKER]),
    ("BlobPeer", "*", &[CONTROLLER]),
    ("Control", "Execute", &[CONTROLLER, GATEWAY, OPERATOR]),
    ("Control", "NeedCapacity", &[CONTROLLER, GATEWAY]),
    ("Catalog", "*", &[WORKER, GATEWAY]),
    ("WorkerRegistry", "*", &[WORKER]),
    ("EventLog", "Lease", &[CONTROLLER, GATEWAY]),
    ("EventLog", "Find", &[GATEWAY, OPERATOR]),
    ("EventLog", "List", &[GATEWAY, OPERATOR]),
    ("EventLog", "Redrive", &[GATEWAY, OPERATOR]),
    ("EventLog", "*", &[GATEWAY]),
    ("ClusterAdmin", "*", &[CONTROLLER, OPERATOR]),
    ("Backups", "*", &[OPERATOR]),
    ("Blobs", "*", &[GATEWAY]),
    ("Invocations", "*", &[GATEWAY]),
    ("Trust", "Join", &[Who::Joining]),
    ("Trust", "Renew", &[CONTROLLER, WORKER, GATEWAY]),
    ("Trust", "Bundle", &[CONTROLLER, WORKER, GATEWAY]),
    ("Trust", "CreateToken", &[OPERATOR]),
];

/// The package of all services between nodes.
const PACKAGE: &str = "/hearth.internal.v1.";

/// Path of the consensus of another group of controllers, before that of its service.
const EVENTS: &str = "/events";

/// Whether `caller` may call `path` (`/package.Service/Method`). Where TLS is off everybody may.
pub fn check(caller: &Caller, path: &str) -> Result<(), String> {
    let who = match caller {
        Caller::Unknown => return Ok(()),
        Caller::Joining => Who::Joining,
        Caller::Node(name) => Who::Role(name.role),
    };
    let allowed = path
        .strip_prefix(EVENTS)
        .unwrap_or(path)
        .strip_prefix(PACKAGE)
        .and_then(|path| path.split_once('/'))
        .map_or(&[][..], |(service, method)| allowed(service, method));
    if allowed.contains(&who) {
        return Ok(());
    }
    Err(match caller {
        Caller::Node(name) => format!("{name} may not call {path}"),
        Caller::Joining | Caller::Unknown => {
            format!("a node without a certificate may not call {path}")
        }
    })
}

/// Whether `caller` is the node of that role and id, as which a message speaks. Where TLS is off everybody is.
pub fn check_claim(caller: &Caller, role: NodeRole, id: u64) -> Result<(), String> {
    match caller {
        Caller::Unknown => Ok(()),
        Caller::Node(name) if name.role == role && name.id == id => Ok(()),
        Caller::Node(name) => Err(format!("{name} is not {role} {id}")),
        Caller::Joining => Err(format!("a node without a certificate is not {role} {id}")),
    }
}

fn allowed(service: &str, method: &str) -> &'static [Who] {
    let find = |wanted: &str| {
        TABLE
            .iter()
            .find(|(name, own, _)| *name == service && *own == wanted)
            .map(|(.., who)| *who)
    };
    find(method).or_else(|| find("*")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::tls::name::NodeName;

    fn node(role: NodeRole) -> Caller {
        Caller::Node(Arc::new(NodeName::new("c", role, 1).unwrap()))
    }

    fn may(caller: &Caller, method: &str) -> bool {
        check(caller, &format!("{PACKAGE}{method}")).is_ok()
    }

    #[test]
    fn each_role_may_call_what_it_needs_and_no_more() {
        use NodeRole::{Controller, Gateway, Operator, Worker};
        let table: [(&str, &[NodeRole]); 13] = [
            ("RaftPeer/AppendEntries", &[Controller]),
            ("BlobPeer/PutBlob", &[Controller]),
            ("BlobPeer/GetBlob", &[Controller, Worker]),
            ("Control/Execute", &[Controller, Gateway, Operator]),
            ("Control/NeedCapacity", &[Controller, Gateway]),
            ("Catalog/Watch", &[Worker, Gateway]),
            ("WorkerRegistry/Session", &[Worker]),
            ("ClusterAdmin/AddController", &[Controller, Operator]),
            ("Blobs/Put", &[Gateway]),
            ("Invocations/Exchange", &[Gateway]),
            ("Trust/CreateToken", &[Operator]),
            ("EventLog/Append", &[Gateway]),
            ("EventLog/Redrive", &[Gateway, Operator]),
        ];
        for (method, roles) in table {
            for role in NodeRole::ALL {
                assert_eq!(
                    may(&node(role), method),
                    roles.contains(&role),
                    "{role} {method}"
                );
            }
            assert!(!may(&Caller::Joining, method), "{method}");
        }
        let vote = "/events/hearth.internal.v1.RaftPeer/Vote";
        assert!(check(&node(Controller), vote).is_ok());
        assert!(check(&node(Gateway), vote).is_err());
        assert!(may(&Caller::Joining, "Trust/Join"));
        assert!(!may(&node(Worker), "Trust/Join"));
    }

    #[test]
    fn a_node_speaks_as_itself_alone() {
        let worker = node(NodeRole::Worker);
        assert_eq!(check_claim(&worker, NodeRole::Worker, 1), Ok(()));
        assert_eq!(check_claim(&Caller::Unknown, NodeRole::Worker, 9), Ok(()));
        for (role, id) in [(NodeRole::Worker, 2), (NodeRole::Controller, 1)] {
            let refused = check_claim(&worker, role, id).expect_err("another");
            assert_eq!(refused, format!("hearth://c/worker/1 is not {role} {id}"));
            assert!(check_claim(&Caller::Joining, role, id).is_err());
        }
    }

    #[test]
    fn what_is_not_in_the_table_is_refused_unless_tls_is_off() {
        for path in [
            "/hearth.internal.v1.New/Call",
            "/other.RaftPeer/Vote",
            "/",
            "",
        ] {
            for role in NodeRole::ALL {
                assert!(check(&node(role), path).is_err(), "{path}");
            }
            assert!(check(&Caller::Unknown, path).is_ok());
        }
        let refused = check(&node(NodeRole::Worker), "/hearth.internal.v1.RaftPeer/Vote");
        assert_eq!(
            refused.expect_err("a worker"),
            "hearth://c/worker/1 may not call /hearth.internal.v1.RaftPeer/Vote"
        );
    }

    /// A service that somebody adds is refused everywhere until it has a row.
    #[test]
    fn every_service_between_nodes_has_a_row_and_every_row_a_service() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/proto/hearth/internal/v1");
        let mut methods = Vec::new();
        for entry in std::fs::read_dir(dir).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            let mut service = "";
            for line in text.lines().map(str::trim) {
                let word = line.split([' ', '(']).nth(1).unwrap_or_default();
                if line.starts_with("service ") {
                    service = line.split_whitespace().nth(1).unwrap();
                } else if line.starts_with("rpc ") {
                    methods.push((service.to_owned(), word.to_owned()));
                }
            }
        }
        assert!(methods.len() > 20, "{methods:?}");
        for (service, method) in &methods {
            assert!(
                !allowed(service, method).is_empty(),
                "{service}/{method} has no row"
            );
        }
        for (service, method, _) in TABLE {
            let mut known = methods.iter();
            assert!(
                known.any(|(s, m)| s == service && (*method == "*" || m == method)),
                "{service}/{method} is no method"
            );
        }
    }
}
