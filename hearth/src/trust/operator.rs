//! How commands of an operator reach the nodes of a cluster: with a certificate of the role `operator`, from a directory or made
//! on the spot where the cluster's CA is at hand, or in plaintext where there is no TLS.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use hearth_node::Seams;
use hearth_node::net::SharedNet;
use hearth_node::tls::{Credentials, NodeName, NodeRole, Tls, TlsFiles};

use super::ca::CaDir;
use crate::up::read_cluster;

/// Life of a certificate made for one command.
const LIFE: Duration = Duration::from_secs(600);

/// The network for calls to controllers. `tls_dir` holds `ca.pem` and `node.pem` of an operator (`hearth ca issue
/// --role operator`); without it, `data_dir` is looked at for a cluster of `hearth up` and its CA.
pub(crate) fn net(tls_dir: Option<&Path>, data_dir: &Path) -> anyhow::Result<SharedNet> {
    let seams = Seams::system();
    let credentials = match tls_dir {
        Some(dir) => Some(
            Credentials::load(&TlsFiles::in_dir(dir))
                .with_context(|| format!("the operator's certificate in {}", dir.display()))?,
        ),
        None => issued(data_dir, &seams)?,
    };
    let tls = match credentials {
        Some(credentials) => Tls::of(credentials, &seams.clock)?,
        None => Tls::off(),
    };
    Ok(tls.net(&seams.net, NodeRole::Controller))
}

fn issued(data_dir: &Path, seams: &Seams) -> anyhow::Result<Option<Credentials>> {
    let Some(cluster) = read_cluster(&data_dir.join("cluster.json"))? else {
        return Ok(None);
    };
    let ca = CaDir::new(&data_dir.join("ca"));
    if !ca.key.exists() {
        return Ok(None);
    }
    let name = NodeName::new(&cluster.cluster_id, NodeRole::Operator, 0)?;
    let (authority, bundle) = ca.load()?;
    let now_ms = seams.clock.unix_ms();
    Ok(Some(authority.issue(&bundle, &name, now_ms, LIFE)?))
}
