//! Refuses messages that speak as another node than the one at the other end of the connection.

use tonic::{Extensions, Status};
use tracing::warn;

use crate::net::Peer;
use crate::tls::{NodeRole, access};

/// Whether the caller, which a request's extensions tell, is the node of this role and id. Where TLS is off everybody is.
pub fn check_claim(extensions: &Extensions, role: NodeRole, id: u64) -> Result<(), Status> {
    let Some(peer) = extensions.get::<Peer>() else {
        return Ok(());
    };
    access::check_claim(&peer.caller, role, id).map_err(|refusal| {
        warn!(peer = %peer.addr, refusal, "a node spoke as another");
        Status::permission_denied(refusal)
    })
}
