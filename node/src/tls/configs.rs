//! rustls set up for nodes: TLS 1.3, certificates both ways, the node's clock, no resumption.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::UnixTime;
use rustls::server::NoServerSessionStorage;
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};

use super::TlsError;
use super::credentials::Credentials;
use super::name::NodeRole;
use super::verify::{Trust, Verifier};
use crate::clock::SharedClock;

/// What calls between nodes are spoken in.
const ALPN_GRPC: &[u8] = b"h2";
/// Asked for by a node that has no certificate yet, and answered by controllers alone.
pub(super) const ALPN_JOIN: &[u8] = b"hearth-join";

/// A node's configurations, made anew when its credentials change.
pub(super) struct Configs {
    /// For callers with a certificate: all but those that join.
    pub(super) server: Arc<ServerConfig>,
    /// For those that join; a controller's.
    pub(super) joining: Option<Arc<ServerConfig>>,
    controllers: Arc<ClientConfig>,
    workers: Arc<ClientConfig>,
    gateways: Arc<ClientConfig>,
}

#[derive(Debug)]
struct NodeTime(SharedClock);

impl TimeProvider for NodeTime {
    fn current_time(&self) -> Option<UnixTime> {
        let now = Duration::from_millis(self.0.unix_ms());
        Some(UnixTime::since_unix_epoch(now))
    }
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn library(error: rustls::Error) -> TlsError {
    TlsError::Library(error.to_string())
}

impl Configs {
    pub(super) fn new(credentials: &Credentials, clock: &SharedClock) -> Result<Self, TlsError> {
        let provider = provider();
        let verifier = |role| {
            let trust = Trust::Bundle(credentials.bundle.clone());
            let cluster = credentials.name.cluster();
            Arc::new(Verifier::new(trust, cluster, role, Arc::clone(&provider)))
        };
        let calling = |role| client(verifier(Some(role)), Some(credentials), clock);
        let is_controller = credentials.name.role == NodeRole::Controller;
        let joining = is_controller.then(|| server(None, credentials, clock));
        Ok(Self {
            server: server(Some(verifier(None)), credentials, clock)?,
            joining: joining.transpose()?,
            controllers: calling(NodeRole::Controller)?,
            workers: calling(NodeRole::Worker)?,
            gateways: calling(NodeRole::Gateway)?,
        })
    }

    /// For calling a node of `role`.
    pub(super) fn client(&self, role: NodeRole) -> Arc<ClientConfig> {
        let config = match role {
            NodeRole::Worker => &self.workers,
            NodeRole::Gateway => &self.gateways,
            // Nobody listens as an operator.
            NodeRole::Controller | NodeRole::Operator => &self.controllers,
        };
        Arc::clone(config)
    }
}

fn server(
    callers: Option<Arc<Verifier>>,
    credentials: &Credentials,
    clock: &SharedClock,
) -> Result<Arc<ServerConfig>, TlsError> {
    let time = Arc::new(NodeTime(Arc::clone(clock)));
    let builder = ServerConfig::builder_with_details(provider(), time)
        .with_protocol_versions(&[&TLS13])
        .map_err(library)?;
    let (builder, alpn) = match callers {
        Some(verifier) => (builder.with_client_cert_verifier(verifier), ALPN_GRPC),
        None => (builder.with_no_client_auth(), ALPN_JOIN),
    };
    let key = credentials
        .key
        .der("the private key".as_ref())
        .map_err(TlsError::Credentials)?;
    let mut config = builder
        .with_single_cert(credentials.chain.clone(), key)
        .map_err(library)?;
    config.alpn_protocols = vec![alpn.to_vec()];
    // A resumed session would pass without a look at the certificate: expired, or of a CA that is trusted no more.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Without credentials: for joining.
pub(super) fn client(
    verifier: Arc<Verifier>,
    credentials: Option<&Credentials>,
    clock: &SharedClock,
) -> Result<Arc<ClientConfig>, TlsError> {
    let time = Arc::new(NodeTime(Arc::clone(clock)));
    let builder = ClientConfig::builder_with_details(provider(), time)
        .with_protocol_versions(&[&TLS13])
        .map_err(library)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match credentials {
        Some(credentials) => {
            let key = credentials
                .key
                .der("the private key".as_ref())
                .map_err(TlsError::Credentials)?;
            builder
                .with_client_auth_cert(credentials.chain.clone(), key)
                .map_err(library)?
        }
        None => builder.with_no_client_auth(),
    };
    let alpn = if credentials.is_some() {
        ALPN_GRPC
    } else {
        ALPN_JOIN
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(Arc::new(config))
}
