//! Making signatures: for requests to other services, tests, operator commands and presigned URLs.

use std::fmt;

use http::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use percent_encoding::utf8_percent_encode;
use time::{Duration, OffsetDateTime};

use super::authorization::iso_basic;
use super::key::{KeyScope, SigningKey};
use super::{ALGORITHM, SecretKey, canonical, digest};

const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// Who signs, and for what.
#[derive(Clone, Copy)]
pub struct Signer<'a> {
    pub access_key_id: &'a str,
    pub secret: &'a SecretKey,
    pub session_token: Option<&'a str>,
    pub region: &'a str,
    pub service: &'a str,
}

impl fmt::Debug for Signer<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Signer")
            .field("access_key_id", &self.access_key_id)
            .field("region", &self.region)
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

/// Why a request could not be signed: some text does not fit where it has to go.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    #[error("make a header of the signature")]
    Header(#[source] http::header::InvalidHeaderValue),
    #[error("put the signature into the address")]
    Uri(#[source] http::uri::InvalidUri),
    #[error("put the parts of the address together")]
    UriParts(#[source] http::uri::InvalidUriParts),
}

impl Signer<'_> {
    fn signature(&self, parts: &Parts, names: &str, body: &[u8], time: &str) -> String {
        let scope = self.scope(time);
        let head = canonical::head(parts, self.service, names, "");
        let declared = parts.headers.get(super::CONTENT_SHA256);
        let digest = declared
            .and_then(|value| value.to_str().ok())
            .map_or_else(|| hex::encode(digest(body)), str::to_owned);
        let text = canonical::string_to_sign(time, scope, &head, &digest);
        hex::encode(SigningKey::derive(self.secret, scope).sign(&text))
    }

    fn scope<'s>(&'s self, time: &'s str) -> KeyScope<'s> {
        KeyScope {
            date: &time[..8],
            region: self.region,
            service: self.service,
        }
    }
}

/// Adds `X-Amz-Date`, the token and `Authorization`; every header present is signed.
pub fn sign(
    parts: &mut Parts,
    body: &[u8],
    signer: Signer<'_>,
    now: OffsetDateTime,
) -> Result<(), SignError> {
    let time = iso_basic(now);
    let value = |text: &str| HeaderValue::from_str(text).map_err(SignError::Header);
    parts.headers.insert(DATE, value(&time)?);
    if let Some(token) = signer.session_token {
        parts.headers.insert(SECURITY_TOKEN, value(token)?);
    }
    let mut names: Vec<&str> = parts.headers.keys().map(HeaderName::as_str).collect();
    if !names.contains(&HOST.as_str()) {
        names.push(HOST.as_str());
    }
    names.sort_unstable();
    let names = names.join(";");
    let signature = signer.signature(parts, &names, body, &time);
    let authorization = format!(
        "{ALGORITHM} Credential={}/{}, SignedHeaders={names}, Signature={signature}",
        signer.access_key_id,
        signer.scope(&time)
    );
    parts.headers.insert(AUTHORIZATION, value(&authorization)?);
    Ok(())
}

/// Adds the parameters of a presigned URL, valid for `expires`; only the host is signed.
pub fn presign(
    parts: &mut Parts,
    body: &[u8],
    signer: Signer<'_>,
    now: OffsetDateTime,
    expires: Duration,
) -> Result<(), SignError> {
    let time = iso_basic(now);
    let escape = |text: &str| utf8_percent_encode(text, canonical::ESCAPED).to_string();
    let credential = format!("{}/{}", signer.access_key_id, signer.scope(&time));
    let mut query = format!(
        "X-Amz-Algorithm={ALGORITHM}&X-Amz-Credential={}&X-Amz-Date={time}&X-Amz-Expires={}\
         &X-Amz-SignedHeaders=host",
        escape(&credential),
        expires.whole_seconds()
    );
    if let Some(token) = signer.session_token {
        query.push_str(&format!("&X-Amz-Security-Token={}", escape(token)));
    }
    if let Some(own) = parts.uri.query().filter(|own| !own.is_empty()) {
        query = format!("{own}&{query}");
    }
    set_query(parts, &query)?;
    let signature = signer.signature(parts, HOST.as_str(), body, &time);
    set_query(parts, &format!("{query}&X-Amz-Signature={signature}"))
}

fn set_query(parts: &mut Parts, query: &str) -> Result<(), SignError> {
    let text = format!("{}?{query}", parts.uri.path());
    let path_and_query: PathAndQuery = text.parse().map_err(SignError::Uri)?;
    let mut uri = parts.uri.clone().into_parts();
    uri.path_and_query = Some(path_and_query);
    parts.uri = http::Uri::from_parts(uri).map_err(SignError::UriParts)?;
    Ok(())
}
