//! Why a peer is refused, and why it refuses: one line each, for logs and for the caller's error.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, InvalidMessage, OtherError};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::name::{NodeName, NodeRole};

/// What is wrong with a certificate that was shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its time is over.
    #[error("its certificate expired at {}", rfc3339(*.0))]
    Expired(u64),
    /// Its time has not come; clocks differ.
    #[error("its certificate is valid from {} only; are the clocks right?", rfc3339(*.0))]
    NotYetValid(u64),
    /// No CA that this node trusts has signed it.
    #[error("its certificate is of an unknown CA; does it belong to another cluster?")]
    UnknownCa,
    /// A node of another cluster.
    #[error("it is {found}, and this node is of the cluster `{own}`")]
    OtherCluster {
        /// This node's.
        own: String,
        /// Who the peer is.
        found: NodeName,
    },
    /// Not whom this node wanted to reach.
    #[error("it is {found}, and a {wanted} was to be there")]
    WrongRole {
        /// Whom this node called.
        wanted: NodeRole,
        /// Who answered.
        found: NodeName,
    },
    /// The certificate names no node.
    #[error("its certificate is of no node: {0}")]
    Nameless(String),
    /// Anything else.
    #[error("its certificate is refused: {0}")]
    Other(String),
}

/// Unix milliseconds as RFC 3339 has them.
pub fn rfc3339(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|at| at.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{seconds} s after 1970"))
}

/// SHA-256, hex: how certificates are told apart in logs, metrics and join tokens.
pub fn fingerprint(der: &[u8]) -> String {
    hex::encode(Sha256::digest(der))
}

impl Refusal {
    /// What the chain check says.
    pub(super) fn of_chain(error: &webpki::Error) -> Self {
        match error {
            webpki::Error::CertExpired { not_after, .. } => {
                Self::Expired(not_after.as_secs() * 1000)
            }
            webpki::Error::CertNotValidYet { not_before, .. } => {
                Self::NotYetValid(not_before.as_secs() * 1000)
            }
            // A CA of the same name with another key.
            webpki::Error::UnknownIssuer
            | webpki::Error::InvalidSignatureForPublicKey
            | webpki::Error::CaUsedAsEndEntity => Self::UnknownCa,
            other => Self::Other(other.to_string()),
        }
    }

    /// As rustls wants it. The kind decides which alert the peer gets, and with it what the peer can tell its operator:
    /// see [`of_alert`].
    pub(super) fn into_tls(self) -> rustls::Error {
        let at = |ms: u64| UnixTime::since_unix_epoch(Duration::from_millis(ms));
        let error = match self {
            Self::Expired(until) => CertificateError::ExpiredContext {
                time: at(0),
                not_after: at(until),
            },
            Self::NotYetValid(from) => CertificateError::NotValidYetContext {
                time: at(0),
                not_before: at(from),
            },
            Self::UnknownCa => CertificateError::UnknownIssuer,
            Self::OtherCluster { .. }
            | Self::WrongRole { .. }
            | Self::Nameless(_)
            | Self::Other(_) => CertificateError::Other(OtherError(Arc::new(self))),
        };
        error.into()
    }
}

fn of_certificate_error(error: &CertificateError) -> String {
    let refusal = match error {
        CertificateError::ExpiredContext { not_after, .. } => {
            Refusal::Expired(not_after.as_secs() * 1000)
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            Refusal::NotYetValid(not_before.as_secs() * 1000)
        }
        CertificateError::UnknownIssuer => Refusal::UnknownCa,
        CertificateError::Other(OtherError(reason)) => return reason.to_string(),
        other => Refusal::Other(other.to_string()),
    };
    refusal.to_string()
}

/// What the peer's alert means between nodes of Hearth; `own` is who this node showed itself to be.
fn of_alert(alert: AlertDescription, own: &str) -> String {
    match alert {
        AlertDescription::CertificateExpired => {
            format!(
                "the peer says that the certificate of this node ({own}) has expired or is not valid yet"
            )
        }
        AlertDescription::UnknownCA => format!(
            "the peer does not know the CA of this node's certificate ({own}); does the peer belong to another cluster?"
        ),
        AlertDescription::CertificateUnknown => {
            format!("the peer does not take this node ({own}) for one of its cluster")
        }
        AlertDescription::CertificateRequired => {
            "the peer wants a certificate, and this node has none".to_owned()
        }
        other => format!("the peer refuses the connection with the alert {other:?}"),
    }
}

/// One line for an error of a TLS connection; `own` is who this node is.
pub(super) fn explain(error: &io::Error, own: &str) -> String {
    let inner = error.get_ref();
    if let Some(tls) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return match tls {
            rustls::Error::InvalidCertificate(error) => of_certificate_error(error),
            rustls::Error::AlertReceived(alert) => of_alert(*alert, own),
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
                "the peer does not speak TLS; is its tls.mode \"off\"?".to_owned()
            }
            rustls::Error::NoCertificatesPresented => "it shows no certificate".to_owned(),
            other => format!("TLS failed: {other}"),
        };
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            "the peer closed the connection during the TLS handshake; does it speak TLS?".to_owned()
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_dates() {
        let text = Refusal::Expired(1_700_000_000_000).to_string();
        assert_eq!(text, "its certificate expired at 2023-11-14T22:13:20Z");
    }

    #[test]
    fn every_refusal_is_told_alike_on_both_ways() {
        let found = NodeName::new("b", NodeRole::Worker, 3).unwrap();
        for refusal in [
            Refusal::Expired(1_000),
            Refusal::NotYetValid(5_000),
            Refusal::UnknownCa,
            Refusal::OtherCluster {
                own: "a".into(),
                found: found.clone(),
            },
            Refusal::WrongRole {
                wanted: NodeRole::Controller,
                found,
            },
            Refusal::Nameless("it has no URI".into()),
        ] {
            let said = explain(&io::Error::other(refusal.clone().into_tls()), "me");
            assert_eq!(said, refusal.to_string());
            assert!(!said.contains('\n'));
        }
    }

    #[test]
    fn plaintext_is_recognised() {
        let error = rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType);
        assert!(explain(&io::Error::other(error), "me").contains("does not speak TLS"));
    }
}
