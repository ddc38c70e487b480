//! Verification of a presented signature, in two steps: `begin` looks at the head, `finish` at the
//! digest of the body.

use std::fmt;

use http::request::Parts;
use subtle::ConstantTimeEq as _;
use time::{Duration, OffsetDateTime};

use super::authorization::{Presented, iso_basic};
use super::canonical;
use super::key::{KeyCache, SigningKey};
use super::{BodyDigest, CONTENT_SHA256, Identity, SecretKey, UNSIGNED_PAYLOAD};
use crate::error::ApiError;

/// How far a client's clock may be off, either way.
const MAX_SKEW: Duration = Duration::minutes(15);
/// Half the number of signing keys that are remembered: one per access key and day; each takes some
/// 200 bytes.
const KEY_CACHE_CAPACITY: usize = 4_096;
const SIGNATURE_PARAMETER: &str = "X-Amz-Signature";
const MISMATCH: &str = "The request signature we calculated does not match the signature you \
    provided. Check your AWS Secret Access Key and signing method. Consult the service \
    documentation for details.";

/// What a credential has to be scoped to.
#[derive(Debug, Clone)]
pub struct Scope {
    /// `lambda`.
    pub service: String,
    /// The installation's region; none accepts any.
    pub region: Option<String>,
}

/// Checks signatures and remembers signing keys. One per listener, shared by all its requests.
#[derive(Debug)]
pub struct Verifier {
    scope: Scope,
    keys: KeyCache,
}

/// A request whose head is in order and whose body is not known yet.
#[must_use = "nothing is verified until finish() has seen the body's digest"]
pub struct Pending {
    identity: Identity,
    body: Body,
}

impl fmt::Debug for Pending {
    /// Without what was signed: its headers hold session tokens.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Pending")
            .field("claimed", &self.identity)
            .field("is_signature_checked", &self.is_signature_checked())
            .finish_non_exhaustive()
    }
}

/// What is left to do when the body is there.
enum Body {
    /// The signature stands, and covers this digest.
    Declared(BodyDigest),
    /// The signature stands, and leaves the body out.
    Unsigned,
    /// The head names no digest: the signature can be computed only now.
    Undeclared(Box<Undeclared>),
}

struct Undeclared {
    presented: Presented,
    head: String,
    key: SigningKey,
}

impl Verifier {
    pub fn new(scope: Scope) -> Self {
        Self {
            scope,
            keys: KeyCache::new(KEY_CACHE_CAPACITY),
        }
    }

    /// Checks all of the head: form, time, scope, known key, and the signature if the head says what
    /// the body's digest is. `lookup` gets the access key id and the session token.
    pub fn begin(
        &self,
        parts: &Parts,
        lookup: impl FnOnce(&str, Option<&str>) -> Option<SecretKey>,
        now: OffsetDateTime,
    ) -> Result<Pending, ApiError> {
        let presented = Presented::of(parts)?;
        check_time(&presented, now)?;
        presented.check_date()?;
        self.check_scope(&presented)?;
        if !presented.signs("host") {
            return Err(ApiError::invalid_signature(
                "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.",
            ));
        }
        let declared = declared_digest(parts)?;
        let secret = lookup(&presented.access_key_id, presented.session_token.as_deref())
            .ok_or_else(|| {
                ApiError::unrecognized_client(
                    "The security token included in the request is invalid.",
                )
            })?;
        let key = self
            .keys
            .key(&presented.access_key_id, &secret, presented.scope());
        let without = presented.expires.map_or("", |_| SIGNATURE_PARAMETER);
        let head = canonical::head(
            parts,
            &presented.service,
            &presented.signed_headers,
            without,
        );
        let identity = Identity {
            access_key_id: presented.access_key_id.clone(),
            session_token: presented.session_token.clone(),
            region: presented.region.clone(),
        };
        let body = match declared {
            None => Body::Undeclared(Box::new(Undeclared {
                presented,
                head,
                key,
            })),
            Some(text) => {
                compare(&presented, &key, &head, text)?;
                if text == UNSIGNED_PAYLOAD {
                    Body::Unsigned
                } else {
                    Body::Declared(parse_digest(text)?)
                }
            }
        };
        Ok(Pending { identity, body })
    }

    fn check_scope(&self, presented: &Presented) -> Result<(), ApiError> {
        if presented.service != self.scope.service {
            return Err(ApiError::invalid_signature(format!(
                "Credential should be scoped to correct service: '{}'. ",
                self.scope.service
            )));
        }
        let region = self.scope.region.as_deref();
        if region.is_some_and(|region| region != presented.region) {
            return Err(ApiError::invalid_signature(
                "Credential should be scoped to a valid region. ",
            ));
        }
        Ok(())
    }
}

impl Pending {
    /// Who the request claims to be from; a fact only when `is_signature_checked`.
    pub fn claimed(&self) -> &Identity {
        &self.identity
    }

    /// Whether the signature has been checked, so that only the body may still be wrong.
    pub fn is_signature_checked(&self) -> bool {
        !matches!(self.body, Body::Undeclared(_))
    }

    /// Whether `finish` looks at the digest: an unsigned body need not be hashed.
    pub fn needs_body_digest(&self) -> bool {
        !matches!(self.body, Body::Unsigned)
    }

    /// Compares the body's digest, or computes the signature with it.
    pub fn finish(self, body_digest: &BodyDigest) -> Result<Identity, ApiError> {
        match self.body {
            Body::Unsigned => {}
            Body::Declared(declared) => {
                if declared.ct_ne(body_digest).into() {
                    return Err(mismatch());
                }
            }
            Body::Undeclared(rest) => {
                let digest = hex::encode(body_digest);
                compare(&rest.presented, &rest.key, &rest.head, &digest)?;
            }
        }
        Ok(self.identity)
    }
}

/// Both steps at once, without remembering signing keys.
pub fn verify(
    scope: &Scope,
    parts: &Parts,
    body_digest: &BodyDigest,
    lookup: impl FnOnce(&str, Option<&str>) -> Option<SecretKey>,
    now: OffsetDateTime,
) -> Result<Identity, ApiError> {
    let verifier = Verifier {
        scope: scope.clone(),
        keys: KeyCache::new(1),
    };
    verifier.begin(parts, lookup, now)?.finish(body_digest)
}

fn mismatch() -> ApiError {
    ApiError::invalid_signature(MISMATCH)
}

fn compare(
    presented: &Presented,
    key: &SigningKey,
    head: &str,
    body_digest: &str,
) -> Result<(), ApiError> {
    let time = iso_basic(presented.time);
    let text = canonical::string_to_sign(&time, presented.scope(), head, body_digest);
    let expected = hex::encode(key.sign(&text));
    if expected
        .as_bytes()
        .ct_eq(presented.signature.as_bytes())
        .into()
    {
        Ok(())
    } else {
        Err(mismatch())
    }
}

/// The value of `x-amz-content-sha256`.
fn declared_digest(parts: &Parts) -> Result<Option<&str>, ApiError> {
    let Some(value) = parts.headers.get(CONTENT_SHA256) else {
        return Ok(None);
    };
    let text = value.to_str().map_err(|_| mismatch())?;
    if text.starts_with("STREAMING-") {
        return Err(ApiError::incomplete_signature(format!(
            "Chunk-signed bodies ({CONTENT_SHA256}: {text}) are not supported: send the SHA-256 of \
             the whole body, or {UNSIGNED_PAYLOAD}."
        )));
    }
    Ok(Some(text))
}

fn parse_digest(text: &str) -> Result<BodyDigest, ApiError> {
    let mut digest = BodyDigest::default();
    hex::decode_to_slice(text, &mut digest).map_err(|_| mismatch())?;
    Ok(digest)
}

fn check_time(presented: &Presented, now: OffsetDateTime) -> Result<(), ApiError> {
    let lifetime = presented.expires.unwrap_or(MAX_SKEW);
    let signed = presented.time;
    let (at, current) = (iso_basic(signed), iso_basic(now));
    if now - signed > lifetime {
        return Err(ApiError::invalid_signature(format!(
            "Signature expired: {at} is now earlier than {} ({current} - {}.)",
            iso_basic(now - lifetime),
            in_words(lifetime)
        )));
    }
    if signed - now > MAX_SKEW {
        return Err(ApiError::invalid_signature(format!(
            "Signature not yet current: {at} is still later than {} ({current} + {}.)",
            iso_basic(now + MAX_SKEW),
            in_words(MAX_SKEW)
        )));
    }
    Ok(())
}

fn in_words(duration: Duration) -> String {
    let seconds = duration.whole_seconds();
    if seconds % 60 == 0 {
        format!("{} min", seconds / 60)
    } else {
        format!("{seconds} sec")
    }
}
