//! Whether a peer's certificate is believed: its chain, its time by the node's own clock, its cluster, its role.
//!
//! Not here: what a role may call once it is believed (`access.rs`).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyUsage, anchor_from_trusted_cert};

use super::credentials::{Bundle, CredentialsError, facts};
use super::name::{NodeName, NodeRole};
use super::refusal::{Refusal, fingerprint};

/// Whom a node believes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Whoever one of these CAs has signed for.
    Bundle(Bundle),
    /// Whoever the CA with this fingerprint (SHA-256, hex) has signed for; the peer shows that CA's certificate. For a node
    /// that joins and has the hash from its token.
    Pinned(String),
}

/// A rule for peers of one kind.
#[derive(Clone)]
pub struct Verifier {
    trust: Trust,
    cluster: String,
    /// Whom this node calls; none for callers, whose roles are checked per call.
    role: Option<NodeRole>,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("cluster", &self.cluster)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

impl Verifier {
    /// Believes nodes of `cluster`; of `role` alone where one is given.
    pub fn new(
        trust: Trust,
        cluster: &str,
        role: Option<NodeRole>,
        provider: Arc<CryptoProvider>,
    ) -> Self {
        Self {
            trust,
            cluster: cluster.to_owned(),
            role,
            provider,
        }
    }

    /// Who shows this certificate at `now_ms`, or why they are refused.
    pub fn check(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        is_server: bool,
        now_ms: u64,
    ) -> Result<NodeName, Refusal> {
        let (usage, now) = (
            if is_server {
                KeyUsage::server_auth()
            } else {
                KeyUsage::client_auth()
            },
            UnixTime::since_unix_epoch(Duration::from_millis(now_ms)),
        );
        self.check_chain(certificate, others, usage, now)?;
        let (found, _) = facts(certificate).map_err(|error| match error {
            CredentialsError::Name(name) => Refusal::Nameless(name.to_string()),
            other => Refusal::Nameless(other.to_string()),
        })?;
        if found.cluster() != self.cluster {
            return Err(Refusal::OtherCluster {
                own: self.cluster.clone(),
                found,
            });
        }
        match self.role {
            Some(wanted) if wanted != found.role => Err(Refusal::WrongRole { wanted, found }),
            _ => Ok(found),
        }
    }

    fn check_chain(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        usage: impl ExtendedKeyUsageValidator,
        now: UnixTime,
    ) -> Result<(), Refusal> {
        let wrong = |error: webpki::Error| Refusal::of_chain(&error);
        let parsed = EndEntityCert::try_from(certificate).map_err(wrong)?;
        let anchors: Vec<TrustAnchor<'_>> = match &self.trust {
            Trust::Bundle(bundle) => {
                let anchors = bundle.certificates().iter().map(anchor_from_trusted_cert);
                anchors.collect::<Result<_, _>>().map_err(wrong)?
            }
            Trust::Pinned(pin) => {
                let pinned = others.iter().filter(|other| fingerprint(other) == *pin);
                let anchors = pinned.map(anchor_from_trusted_cert);
                anchors.collect::<Result<_, _>>().map_err(wrong)?
            }
        };
        let algorithms = self.provider.signature_verification_algorithms.all;
        parsed
            .verify_for_usage(algorithms, &anchors, others, now, usage, None, None)
            .map(drop)
            .map_err(wrong)
    }

    fn check_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn millis(now: UnixTime) -> u64 {
    now.as_secs().saturating_mul(1000)
}

/// Both sides speak TLS 1.3 alone.
fn too_old<T>() -> Result<T, rustls::Error> {
    Err(rustls::Error::General("TLS 1.2 is not spoken here".into()))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(end_entity, intermediates, true, millis(now))
            .map(|_| ServerCertVerified::assertion())
            .map_err(Refusal::into_tls)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        too_old()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // A node has one certificate; there is nothing to choose from.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(end_entity, intermediates, false, millis(now))
            .map(|_| ClientCertVerified::assertion())
            .map_err(Refusal::into_tls)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        too_old()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
