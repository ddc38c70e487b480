//! Certificates of nodes: tokens made and taken, requests signed. Which caller may ask what is the table's in
//! `hearth_node::tls::access`; which token is good is decided in `state::tokens`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hearth_core::ids::UnixMs;
use hearth_node::net::{Caller, Peer};
use hearth_node::tls::{Authority, Bundle, KeyPem, NodeName, NodeRole, Tls, fingerprint};
use hearth_proto::internal::v1 as pb;
use hearth_proto::status::to_status;
use pb::trust_server::Trust;
use tonic::{Request, Response, Status};

use super::operations::Operations;
use crate::state::command::Command;

/// A token is for a start that is about to happen, not for keeping.
const TTL_MAX: Duration = Duration::from_secs(7 * 86_400);
/// Random bytes of a token's secret.
const SECRET_BYTES: usize = 32;
/// What a token begins with; the number is its format's.
const TOKEN_PREFIX: &str = "hearth1";

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct TrustService {
    pub(crate) cluster_id: String,
    pub(crate) tls: Tls,
    /// Empty: this controller signs nothing.
    pub(crate) ca_key: PathBuf,
    pub(crate) certificate_life: Duration,
    pub(crate) operations: Operations,
}

impl TrustService {
    fn bundle(&self) -> Result<Bundle, Status> {
        let off = || Status::failed_precondition("TLS between nodes is off at this controller");
        self.tls.bundle().ok_or_else(off)
    }

    /// The CA that signs here. Read at each use: joins and renewals are rare, and the operator may replace the file.
    async fn authority(&self, bundle: Bundle) -> Result<Authority, Status> {
        if self.ca_key.as_os_str().is_empty() {
            return Err(Status::failed_precondition(
                "this controller has no CA key (tls.ca_key) and signs nothing; ask another one",
            ));
        }
        let path = self.ca_key.clone();
        let read = tokio::task::spawn_blocking(move || {
            let key = KeyPem::load(&path).map_err(|error| error.to_string())?;
            Authority::of(&bundle, &key).map_err(|error| error.to_string())
        });
        let authority = read
            .await
            .map_err(|error| Status::internal(error.to_string()))?;
        authority.map_err(|error| {
            tracing::error!(error, "the CA cannot be used");
            Status::failed_precondition(format!(
                "the CA of this controller cannot be used: {error}"
            ))
        })
    }

    fn now_ms(&self) -> u64 {
        self.operations.clock.unix_ms()
    }

    fn sign(
        &self,
        authority: &Authority,
        bundle: &Bundle,
        request: &[u8],
        name: &NodeName,
    ) -> Result<Response<pb::SignedReply>, Status> {
        let signed = authority.sign(request, name, self.now_ms(), self.certificate_life);
        let chain = signed.map_err(|error| Status::invalid_argument(error.to_string()))?;
        Ok(Response::new(pb::SignedReply {
            chain,
            bundle: bundle.pem(),
        }))
    }
}

/// The role of a node, as a token may be for.
fn node_role(text: &str) -> Result<NodeRole, Status> {
    match text.parse() {
        Ok(NodeRole::Operator) | Err(_) => Err(Status::invalid_argument(format!(
            "`{text}` is not a role of nodes; there are controller, worker and gateway"
        ))),
        Ok(role) => Ok(role),
    }
}

#[tonic::async_trait]
impl Trust for TrustService {
    async fn join(
        &self,
        request: Request<pb::JoinRequest>,
    ) -> Result<Response<pb::SignedReply>, Status> {
        let join = request.into_inner();
        if join.cluster_id != self.cluster_id {
            return Err(Status::failed_precondition(format!(
                "this is cluster `{}`, not `{}`",
                self.cluster_id, join.cluster_id
            )));
        }
        let role = node_role(&join.role)?;
        let name = NodeName::new(&self.cluster_id, role, join.node_id)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        // Before the token is used up.
        let bundle = self.bundle()?;
        let authority = self.authority(bundle.clone()).await?;
        let signed = self.sign(&authority, &bundle, &join.request, &name)?;
        let command = Command::UseJoinToken {
            hash: fingerprint(join.secret.as_bytes()),
            role: role.as_str().to_owned(),
            node: join.node_id,
            request: fingerprint(&join.request),
            at: UnixMs(self.now_ms()),
        };
        let admitted = self.operations.write(&command, false).await;
        admitted.map_err(|refusal| {
            tracing::warn!(node = %name, reason = %refusal, "a node was not let in");
            to_status(&refusal)
        })?;
        tracing::info!(node = %name, "a node joined");
        Ok(signed)
    }

    async fn renew(
        &self,
        request: Request<pb::RenewRequest>,
    ) -> Result<Response<pb::SignedReply>, Status> {
        let caller = request.extensions().get::<Peer>().map(|peer| &peer.caller);
        let Some(Caller::Node(name)) = caller else {
            return Err(Status::unauthenticated(
                "only a node with a certificate renews it",
            ));
        };
        let name = Arc::clone(name);
        let bundle = self.bundle()?;
        let authority = self.authority(bundle.clone()).await?;
        let signed = self.sign(&authority, &bundle, &request.get_ref().request, &name)?;
        tracing::info!(node = %name, "certificate renewed");
        Ok(signed)
    }

    async fn bundle(
        &self,
        _request: Request<pb::BundleRequest>,
    ) -> Result<Response<pb::BundleReply>, Status> {
        let bundle = Self::bundle(self)?;
        // A controller that cannot sign says what is trusted all the same.
        let authority = self.authority(bundle.clone()).await;
        Ok(Response::new(pb::BundleReply {
            bundle: bundle.pem(),
            signer: authority.map_or_else(|_| String::new(), |ca| ca.fingerprint()),
        }))
    }

    async fn create_token(
        &self,
        request: Request<pb::CreateTokenRequest>,
    ) -> Result<Response<pb::CreateTokenReply>, Status> {
        let wanted = request.into_inner();
        let role = node_role(&wanted.role)?;
        let ttl = Duration::from_millis(wanted.ttl_ms);
        if ttl.is_zero() || ttl > TTL_MAX {
            return Err(Status::invalid_argument(
                "a join token is good for up to 7 days",
            ));
        }
        // A node that joins sees the chain that controllers show, so that is what it is told to expect.
        let (_, pin) = self
            .tls
            .certificate()
            .filter(|(_, issuer)| !issuer.is_empty())
            .ok_or_else(|| {
                Status::failed_precondition("TLS between nodes is off at this controller")
            })?;
        let secret = hex::encode(self.operations.random.bytes(SECRET_BYTES));
        let now_ms = self.now_ms();
        let expires_at_ms = now_ms.saturating_add(wanted.ttl_ms);
        let command = Command::CreateJoinToken {
            hash: fingerprint(secret.as_bytes()),
            role: role.as_str().to_owned(),
            node: (wanted.node_id != 0).then_some(wanted.node_id),
            expires_at: UnixMs(expires_at_ms),
            at: UnixMs(now_ms),
        };
        let created = self.operations.write(&command, false).await;
        created.map_err(|refusal| to_status(&refusal))?;
        tracing::info!(%role, node = wanted.node_id, "join token made");
        Ok(Response::new(pb::CreateTokenReply {
            token: format!("{TOKEN_PREFIX}.{pin}.{secret}"),
            expires_at_ms,
        }))
    }
}
