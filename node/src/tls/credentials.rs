//! Certificates and keys as files hold them: PEM, read and checked for what they claim to be.
//!
//! Not here: whether a certificate is to be believed (`verify.rs`).

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::life::Validity;
use super::name::{NameError, NodeName};
use super::options::TlsFiles;
use super::refusal::fingerprint;
use crate::data_dir::write_atomic;

/// CAs that are trusted at a time: two while one is replaced, and room for mistakes.
const BUNDLE_MAX: usize = 16;
/// Certificates between a node's own and its CA's.
const CHAIN_MAX: usize = 8;

/// Why files are no credentials; never shows a key.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file system refused.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No certificate, or too many.
    #[error("{} holds {found} certificates; it needs 1 to {max}", path.display())]
    Count {
        /// The file.
        path: PathBuf,
        /// How many.
        found: usize,
        /// How many there may be.
        max: usize,
    },
    /// Not PEM.
    #[error("{} is not PEM: {problem}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Not X.509.
    #[error("a certificate cannot be read")]
    Certificate,
    /// A certificate of somebody who is no node.
    #[error(
        "the certificate names no node: one URI among its subject alternative names must be hearth://CLUSTER/ROLE/ID"
    )]
    NoName,
    /// As before, with the name it has.
    #[error("the certificate names no node")]
    Name(#[source] NameError),
}

/// A private key as PEM. Debug does not show it.
#[derive(Clone)]
pub struct KeyPem(String);

impl KeyPem {
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }

    /// From a file.
    pub fn load(path: &Path) -> Result<Self, CredentialsError> {
        read(path).map(Self)
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }

    pub(super) fn der(&self, path: &Path) -> Result<PrivateKeyDer<'static>, CredentialsError> {
        // The library's text of an error might quote what it read.
        PrivateKeyDer::from_pem_slice(self.0.as_bytes()).map_err(|_| CredentialsError::Pem {
            path: path.to_owned(),
            problem: "no private key in it".to_owned(),
        })
    }

    /// Writes the key where only its owner reads it.
    pub fn save(&self, path: &Path) -> Result<(), CredentialsError> {
        write_atomic(path, self.0.as_bytes(), 0o600).map_err(io_error("write", path))
    }
}

impl fmt::Debug for KeyPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyPem(***)")
    }
}

/// The CAs that are trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle(Vec<CertificateDer<'static>>);

impl Bundle {
    /// Of these.
    pub fn of(certificates: &[&CertificateDer<'static>]) -> Self {
        Self(certificates.iter().map(|&c| c.clone()).collect())
    }

    /// From a file.
    pub fn load(path: &Path) -> Result<Self, CredentialsError> {
        Self::parse(path, &read(path)?)
    }

    /// From PEM; `path` is for messages.
    pub fn parse(path: &Path, pem: &str) -> Result<Self, CredentialsError> {
        certificates(path, pem, BUNDLE_MAX).map(Self)
    }

    /// All of them.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.0
    }

    /// Fingerprints, in order.
    pub fn fingerprints(&self) -> Vec<String> {
        self.0.iter().map(|c| fingerprint(c)).collect()
    }

    /// As PEM.
    pub fn pem(&self) -> String {
        self.0.iter().map(|c| to_pem("CERTIFICATE", c)).collect()
    }

    /// Writes the bundle; anybody may read it.
    pub fn save(&self, path: &Path) -> Result<(), CredentialsError> {
        write_atomic(path, self.pem().as_bytes(), 0o644).map_err(io_error("write", path))
    }
}

/// Everything a node proves itself with.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Whom it believes.
    pub bundle: Bundle,
    /// Its certificate and those up to the CA's.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its private key.
    pub key: KeyPem,
    /// Who it is.
    pub name: NodeName,
    /// How long that is so.
    pub validity: Validity,
    /// Fingerprint of the CA of the bundle that its chain ends in; empty if there is none.
    pub issuer: String,
}

impl Credentials {
    /// From their texts.
    pub fn parse(bundle: Bundle, chain: &str, key: KeyPem) -> Result<Self, CredentialsError> {
        let path = Path::new("the certificate");
        Self::of(bundle, certificates(path, chain, CHAIN_MAX)?, key)
    }

    /// From files.
    pub fn load(files: &TlsFiles) -> Result<Self, CredentialsError> {
        let chain = certificates(&files.cert, &read(&files.cert)?, CHAIN_MAX)?;
        Self::of(Bundle::load(&files.ca)?, chain, KeyPem::load(&files.key)?)
    }

    fn of(
        bundle: Bundle,
        mut chain: Vec<CertificateDer<'static>>,
        key: KeyPem,
    ) -> Result<Self, CredentialsError> {
        let (name, validity) = facts(chain.first().ok_or(CredentialsError::Certificate)?)?;
        let last = chain.last().ok_or(CredentialsError::Certificate)?.clone();
        let ca = bundle
            .certificates()
            .iter()
            .find(|ca| is_issued_by(&last, ca));
        let issuer = ca.map(|ca| fingerprint(ca)).unwrap_or_default();
        if let Some(ca) = ca.filter(|ca| **ca != last) {
            // A node that joins knows the CA by its hash alone and must be shown it.
            chain.push(ca.clone());
        }
        Ok(Self {
            bundle,
            chain,
            key,
            name,
            validity,
            issuer,
        })
    }

    /// Writes a directory of Hearth's own, for its owner's eyes only: the trust first, then certificate and key in one.
    pub fn save(&self, dir: &Path) -> Result<(), CredentialsError> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(io_error("create", dir))?;
        let files = TlsFiles::in_dir(dir);
        self.bundle.save(&files.ca)?;
        let mut text: String = self
            .chain
            .iter()
            .map(|c| to_pem("CERTIFICATE", c))
            .collect();
        text.push_str(self.key.text());
        write_atomic(&files.cert, text.as_bytes(), 0o600).map_err(io_error("write", &files.cert))
    }
}

fn io_error<'a>(
    operation: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> CredentialsError + use<'a> {
    move |source| CredentialsError::Io {
        operation,
        path: path.to_owned(),
        source,
    }
}

fn read(path: &Path) -> Result<String, CredentialsError> {
    std::fs::read_to_string(path).map_err(io_error("read", path))
}

fn certificates(
    path: &Path,
    pem: &str,
    max: usize,
) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = found.map_err(|error| CredentialsError::Pem {
        path: path.to_owned(),
        problem: error.to_string(),
    })?;
    if (1..=max).contains(&found.len()) {
        return Ok(found);
    }
    Err(CredentialsError::Count {
        path: path.to_owned(),
        found: found.len(),
        max,
    })
}

/// Base64 in lines of 64 characters between the label's header and footer.
pub(super) fn to_pem(label: &str, der: &[u8]) -> String {
    const WIDTH: usize = 64;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(WIDTH));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

/// The node a certificate names, and its life.
pub(super) fn facts(
    certificate: &CertificateDer<'_>,
) -> Result<(NodeName, Validity), CredentialsError> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|_| CredentialsError::Certificate)?;
    let ms = |at: x509_parser::time::ASN1Time| {
        u64::try_from(at.timestamp())
            .unwrap_or(0)
            .saturating_mul(1000)
    };
    let validity = Validity {
        not_before_ms: ms(parsed.validity().not_before),
        not_after_ms: ms(parsed.validity().not_after),
    };
    name_of(&parsed).map(|name| (name, validity))
}

/// One name and no more: a certificate of two nodes would be both at will.
fn name_of(parsed: &X509Certificate<'_>) -> Result<NodeName, CredentialsError> {
    use x509_parser::extensions::GeneralName;
    let names = parsed
        .subject_alternative_name()
        .map_err(|_| CredentialsError::Certificate)?
        .ok_or(CredentialsError::NoName)?;
    let mut uris = names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) if uri.starts_with("hearth:") => Some(*uri),
            _ => None,
        });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => uri.parse().map_err(CredentialsError::Name),
        _ => Err(CredentialsError::NoName),
    }
}

/// The public key of a certificate, DER.
pub(super) fn public_key(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(parsed.public_key().raw.to_vec())
}

/// By name; signatures are the verifier's.
fn is_issued_by(certificate: &CertificateDer<'_>, ca: &CertificateDer<'_>) -> bool {
    let (Ok((_, certificate)), Ok((_, ca))) = (
        X509Certificate::from_der(certificate),
        X509Certificate::from_der(ca),
    ) else {
        return false;
    };
    certificate.issuer().as_raw() == ca.subject().as_raw()
}
