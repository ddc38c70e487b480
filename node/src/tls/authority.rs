//! A certificate authority of a cluster: made, read from files, signing for nodes.
//!
//! Not here: who may ask it (the controllers' service and `hearth ca`), and the check of what it signed (`verify.rs`).

use std::fmt;
use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SanType,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use time::OffsetDateTime;

use super::credentials::{Bundle, Credentials, CredentialsError, KeyPem};
use super::name::NodeName;
use super::refusal::fingerprint;

/// Certificates are good from so long before they are made: clocks of machines differ.
const SKEW: Duration = Duration::from_secs(300);
/// Life of a CA made here: ten years. Replacing one takes an operator.
const CA_LIFE: Duration = Duration::from_secs(3_653 * 86_400);

/// Why nothing was signed; never shows a key.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The files of the CA.
    #[error("the CA cannot be read")]
    Read(#[source] CredentialsError),
    /// The key fits none of the certificates.
    #[error("the CA's private key belongs to none of the CA certificates beside it")]
    Foreign,
    /// Not a private key that can sign.
    #[error("the CA's private key cannot be used: {0}")]
    Key(String),
    /// Not a request for a certificate.
    #[error("the request for a certificate cannot be read: {0}")]
    Request(String),
    /// The library refused.
    #[error("the certificate cannot be made: {0}")]
    Sign(String),
}

fn sign_error(error: rcgen::Error) -> AuthorityError {
    AuthorityError::Sign(error.to_string())
}

/// A CA with its key.
pub struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("fingerprint", &self.fingerprint())
            .finish_non_exhaustive()
    }
}

fn moment(unix_ms: u64) -> OffsetDateTime {
    let seconds = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn life(params: &mut CertificateParams, now_ms: u64, life: Duration) {
    params.not_before = moment(now_ms) - SKEW;
    params.not_after = moment(now_ms) + life;
}

impl Authority {
    /// A new CA for a cluster.
    pub fn generate(cluster: &str, now_ms: u64) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate().map_err(sign_error)?;
        let mut params = CertificateParams::default();
        life(&mut params, now_ms, CA_LIFE);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Hearth");
        // Two CAs of a cluster have two names: a verifier picks the one to try by name.
        let short = &fingerprint(key.public_key_raw())[..16];
        let common = format!("{cluster} CA {short}");
        params.distinguished_name.push(DnType::CommonName, common);
        let certificate = params.self_signed(&key).map_err(sign_error)?;
        Ok(Self {
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        })
    }

    /// The CA of `bundle` that the key in `key` belongs to.
    pub fn of(bundle: &Bundle, key: &KeyPem) -> Result<Self, AuthorityError> {
        let key = KeyPair::from_pem(key.text())
            .map_err(|error| AuthorityError::Key(error.to_string()))?;
        let own = key.subject_public_key_info();
        let certificate = bundle
            .certificates()
            .iter()
            .find(|certificate| super::credentials::public_key(certificate).as_ref() == Some(&own))
            .ok_or(AuthorityError::Foreign)?
            .clone();
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(sign_error)?;
        Ok(Self {
            certificate,
            issuer,
        })
    }

    /// From files.
    pub fn load(ca: &Path, key: &Path) -> Result<Self, AuthorityError> {
        let bundle = Bundle::load(ca).map_err(AuthorityError::Read)?;
        let key = KeyPem::load(key).map_err(AuthorityError::Read)?;
        Self::of(&bundle, &key)
    }

    /// Its certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// SHA-256 of its certificate, hex.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.certificate)
    }

    /// Its private key, for a file of mode 0600.
    pub fn key_pem(&self) -> KeyPem {
        KeyPem::new(self.issuer.key().serialize_pem())
    }

    /// Signs a node's request (DER); name and life are the CA's to say, not the request's. The chain, PEM: the
    /// certificate, then the CA's, so that a node which knows the CA by its hash alone can check it.
    pub fn sign(
        &self,
        request: &[u8],
        name: &NodeName,
        now_ms: u64,
        lifetime: Duration,
    ) -> Result<String, AuthorityError> {
        let request = CertificateSigningRequestDer::from(request);
        let request = CertificateSigningRequestParams::from_der(&request)
            .map_err(|error| AuthorityError::Request(error.to_string()))?;
        let mut params = node_params(name)?;
        life(&mut params, now_ms, lifetime);
        let signed = params
            .signed_by(&request.public_key, &self.issuer)
            .map_err(sign_error)?;
        let own = super::credentials::to_pem("CERTIFICATE", &self.certificate);
        Ok(format!("{}{own}", signed.pem()))
    }

    /// A key and its certificate, made on the spot.
    pub fn issue(
        &self,
        bundle: &Bundle,
        name: &NodeName,
        now_ms: u64,
        lifetime: Duration,
    ) -> Result<Credentials, AuthorityError> {
        let request = Request::new(name)?;
        let chain = self.sign(&request.der, name, now_ms, lifetime)?;
        Credentials::parse(bundle.clone(), &chain, request.key).map_err(AuthorityError::Read)
    }
}

fn node_params(name: &NodeName) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let common = format!("{} {}", name.role, name.id);
    params.distinguished_name.push(DnType::CommonName, common);
    let uri = name.to_string().try_into().map_err(sign_error)?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::ServerAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// A new key of a node, and the request for a certificate of it.
#[derive(Debug)]
pub struct Request {
    /// What is sent, DER (PKCS #10).
    pub der: Vec<u8>,
    /// What stays here.
    pub key: KeyPem,
}

impl Request {
    /// Makes a key (ECDSA P-256) and a request in `name`.
    pub fn new(name: &NodeName) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate().map_err(sign_error)?;
        let mut params = node_params(name)?;
        // What a CA decides is not asked for; some of it a request cannot even carry.
        params.use_authority_key_identifier_extension = false;
        params.key_usages.clear();
        params.extended_key_usages.clear();
        let request = params.serialize_request(&key).map_err(sign_error)?;
        Ok(Self {
            der: request.der().to_vec(),
            key: KeyPem::new(key.serialize_pem()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::name::NodeRole;

    const NOW: u64 = 1_700_000_000_000;

    #[test]
    fn a_ca_is_found_again_by_its_key_and_signs() {
        let (old, new) = (
            Authority::generate("c", NOW).unwrap(),
            Authority::generate("c", NOW).unwrap(),
        );
        let bundle = Bundle::of(&[old.certificate(), new.certificate()]);
        let found = Authority::of(&bundle, &new.key_pem()).unwrap();
        assert_eq!(found.fingerprint(), new.fingerprint());
        let name = NodeName::new("c", NodeRole::Worker, 7).unwrap();
        let life = Duration::from_secs(3_000);
        let credentials = found.issue(&bundle, &name, NOW, life).unwrap();
        assert_eq!(credentials.name, name);
        assert_eq!(credentials.validity.not_after_ms, NOW + 3_000_000);
        assert_eq!(credentials.validity.not_before_ms, NOW - 300_000);
        assert_eq!(credentials.issuer, new.fingerprint());
    }

    #[test]
    fn a_foreign_key_is_no_ca_and_no_key_is_shown() {
        let (one, other) = (
            Authority::generate("c", NOW).unwrap(),
            Authority::generate("c", NOW).unwrap(),
        );
        let bundle = Bundle::of(&[one.certificate()]);
        let refused = Authority::of(&bundle, &other.key_pem()).expect_err("foreign");
        assert!(matches!(refused, AuthorityError::Foreign));
        let key = one.key_pem();
        let secret = key.text().lines().nth(1).unwrap();
        for shown in [format!("{key:?}"), format!("{one:?}")] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }

    #[test]
    fn nonsense_is_not_signed() {
        let ca = Authority::generate("c", NOW).unwrap();
        let name = NodeName::new("c", NodeRole::Worker, 7).unwrap();
        let refused = ca.sign(b"nonsense", &name, NOW, Duration::from_secs(1));
        assert!(matches!(refused, Err(AuthorityError::Request(_))));
    }
}
