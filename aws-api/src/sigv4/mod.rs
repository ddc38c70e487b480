//! AWS Signature Version 4: checking a request's signature, and making one. The head can be checked
//! before the body is read; time and secrets are arguments. Who a key belongs to and what it may do
//! is the caller's business, as is the digest of the body ([`digest`]).

mod authorization;
mod canonical;
mod key;
mod sign;
mod verify;

#[cfg(test)]
mod tests;

use std::fmt;

use sha2::{Digest as _, Sha256};

pub use self::authorization::claimed_service;
pub use self::sign::{SignError, Signer, presign, sign};
pub use self::verify::{Pending, Scope, Verifier, verify};

/// SHA-256 of a body.
pub type BodyDigest = [u8; 32];

pub(crate) const ALGORITHM: &str = "AWS4-HMAC-SHA256";
pub(crate) const TERMINATOR: &str = "aws4_request";
pub(crate) const CONTENT_SHA256: &str = "x-amz-content-sha256";
pub(crate) const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// The digest that `Pending::finish` compares.
pub fn digest(body: &[u8]) -> BodyDigest {
    Sha256::digest(body).into()
}

/// A secret access key. Its Debug form does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey(String);

impl SecretKey {
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SecretKey(***)")
    }
}

/// Who signed a request.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    pub access_key_id: String,
    /// Token of temporary credentials, as sent; the lookup has seen it too.
    pub session_token: Option<String>,
    /// Region of the credential scope.
    pub region: String,
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Identity")
            .field("access_key_id", &self.access_key_id)
            .field("has_session_token", &self.session_token.is_some())
            .field("region", &self.region)
            .finish()
    }
}
