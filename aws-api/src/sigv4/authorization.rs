//! What a request presents: the `Authorization` header, or the `X-Amz-*` parameters of a presigned
//! URL. Parsing only; nothing is trusted yet.

use http::request::Parts;
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc2822;
use time::macros::format_description;
use time::{Duration, OffsetDateTime, PrimitiveDateTime, UtcOffset};

use super::key::KeyScope;
use super::{ALGORITHM, TERMINATOR};
use crate::error::ApiError;
use crate::router::query_pairs;

/// `20150830T123600Z`.
const ISO_BASIC: &[BorrowedFormatItem<'static>] =
    format_description!("[year][month][day]T[hour][minute][second]Z");
/// The longest that a presigned URL may be valid: seven days.
const MAX_EXPIRY_SECONDS: i64 = 604_800;
/// More than any client sends; the list is walked per request.
const MAX_SIGNED_HEADERS: usize = 256;

/// A claim to be somebody, with its signature. No Debug: it holds a session token.
pub(super) struct Presented {
    pub(super) access_key_id: String,
    date: String,
    pub(super) region: String,
    pub(super) service: String,
    /// Names, lower case, joined with semicolons, as signed.
    pub(super) signed_headers: String,
    pub(super) signature: String,
    pub(super) time: OffsetDateTime,
    pub(super) session_token: Option<String>,
    /// Lifetime of a presigned URL; none for a signed header.
    pub(super) expires: Option<Duration>,
}

impl Presented {
    pub(super) fn of(parts: &Parts) -> Result<Self, ApiError> {
        if parts.headers.contains_key(http::header::AUTHORIZATION) {
            return from_header(parts);
        }
        let is_presigned = parts
            .uri
            .query()
            .is_some_and(|query| query.contains("X-Amz-"));
        if is_presigned {
            return from_query(parts);
        }
        Err(ApiError::missing_authentication_token(
            "Missing Authentication Token",
        ))
    }

    pub(super) fn scope(&self) -> KeyScope<'_> {
        KeyScope {
            date: &self.date,
            region: &self.region,
            service: &self.service,
        }
    }

    /// Whether the date of the scope is the day of the signature.
    pub(super) fn check_date(&self) -> Result<(), ApiError> {
        let time = iso_basic(self.time);
        let day = &time[..8];
        if self.date == day {
            return Ok(());
        }
        Err(ApiError::invalid_signature(format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from \
             HTTP: '{}' != '{day}', from '{time}'.",
            self.date
        )))
    }

    pub(super) fn signs(&self, header: &str) -> bool {
        self.signed_headers.split(';').any(|name| name == header)
    }
}

/// The service that a request says its credentials are scoped to; nothing is checked.
pub fn claimed_service(parts: &Parts) -> Option<String> {
    Presented::of(parts).ok().map(|presented| presented.service)
}

/// `20150830T123600Z`.
pub(super) fn iso_basic(time: OffsetDateTime) -> String {
    time.to_offset(UtcOffset::UTC)
        .format(ISO_BASIC)
        .expect("the format names components that every time has")
}

fn parse_iso_basic(text: &str) -> Option<OffsetDateTime> {
    let time = PrimitiveDateTime::parse(text, ISO_BASIC).ok()?;
    Some(time.assume_utc())
}

fn incomplete(message: impl Into<String>) -> ApiError {
    ApiError::incomplete_signature(message)
}

fn from_header(parts: &Parts) -> Result<Presented, ApiError> {
    let header = text(parts, "authorization").unwrap_or_default();
    let (algorithm, fields) = header.trim().split_once(' ').unwrap_or((header, ""));
    if algorithm != ALGORITHM {
        return Err(incomplete(format!(
            "Unsupported AWS 'algorithm': '{algorithm}'."
        )));
    }
    let (mut credential, mut signed_headers, mut signature) = (None, None, None);
    for field in fields.split(',').map(str::trim).filter(|f| !f.is_empty()) {
        let Some((name, value)) = field.split_once('=') else {
            return Err(incomplete(format!(
                "'{field}' not a valid key=value pair (missing equal-sign) in Authorization \
                 header: '{fields}'."
            )));
        };
        match name {
            "Credential" => credential = Some(value),
            "SignedHeaders" => signed_headers = Some(value),
            "Signature" => signature = Some(value),
            _ => {}
        }
    }
    let time = header_time(parts);
    let missing: Vec<&str> = [
        (
            credential.is_none(),
            "Authorization header requires 'Credential' parameter.",
        ),
        (
            signature.is_none(),
            "Authorization header requires 'Signature' parameter.",
        ),
        (
            signed_headers.is_none(),
            "Authorization header requires 'SignedHeaders' parameter.",
        ),
        (
            time.is_none(),
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.",
        ),
    ]
    .into_iter()
    .filter_map(|(is_missing, text)| is_missing.then_some(text))
    .collect();
    let (Some(credential), Some(signed_headers), Some(signature), Some(time)) =
        (credential, signed_headers, signature, time)
    else {
        return Err(incomplete(missing.join(" ")));
    };
    let fields = Fields {
        credential,
        signed_headers,
        signature,
        time,
    };
    fields.presented(text(parts, "x-amz-security-token").map(str::to_owned), None)
}

fn text<'a>(parts: &'a Parts, header: &str) -> Option<&'a str> {
    parts
        .headers
        .get(header)
        .and_then(|value| value.to_str().ok())
}

fn header_time(parts: &Parts) -> Option<OffsetDateTime> {
    if let Some(date) = text(parts, "x-amz-date") {
        return parse_iso_basic(date);
    }
    let date = text(parts, "date")?;
    parse_iso_basic(date).or_else(|| OffsetDateTime::parse(date, &Rfc2822).ok())
}

fn from_query(parts: &Parts) -> Result<Presented, ApiError> {
    let pairs: Vec<(String, String)> = query_pairs(parts.uri.query().unwrap_or_default()).collect();
    let find = |name: &str| {
        let found = pairs.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    };
    let require = |name: &str| {
        find(name).ok_or_else(|| {
            incomplete(format!(
                "AWS query-string parameters must include '{name}'."
            ))
        })
    };
    let algorithm = require("X-Amz-Algorithm")?;
    if algorithm != ALGORITHM {
        return Err(incomplete(format!(
            "Unsupported AWS 'algorithm': '{algorithm}'."
        )));
    }
    let time = parse_iso_basic(require("X-Amz-Date")?)
        .ok_or_else(|| incomplete("Date must be in ISO-8601 'basic format': 'X-Amz-Date'."))?;
    let expires = require("X-Amz-Expires")?
        .parse::<i64>()
        .ok()
        .filter(|seconds| (1..=MAX_EXPIRY_SECONDS).contains(seconds))
        .ok_or_else(|| {
            incomplete(format!(
                "X-Amz-Expires must be a number of seconds from 1 to {MAX_EXPIRY_SECONDS}."
            ))
        })?;
    let fields = Fields {
        credential: require("X-Amz-Credential")?,
        signed_headers: require("X-Amz-SignedHeaders")?,
        signature: require("X-Amz-Signature")?,
        time,
    };
    fields.presented(
        find("X-Amz-Security-Token").map(str::to_owned),
        Some(Duration::seconds(expires)),
    )
}

struct Fields<'a> {
    credential: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
    time: OffsetDateTime,
}

impl Fields<'_> {
    fn presented(
        &self,
        session_token: Option<String>,
        expires: Option<Duration>,
    ) -> Result<Presented, ApiError> {
        if self.signed_headers.split(';').count() > MAX_SIGNED_HEADERS {
            return Err(incomplete("Too many signed headers."));
        }
        // The access key id comes first and may hold slashes; the scope has four parts.
        let mut parts = self.credential.rsplitn(5, '/');
        let scope = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        );
        let (Some(TERMINATOR), Some(service), Some(region), Some(date), Some(access_key_id)) =
            scope
        else {
            return Err(incomplete(format!(
                "Credential must have exactly 5 slash-delimited elements, e.g. \
                 keyid/date/region/service/term, got '{}'.",
                self.credential
            )));
        };
        Ok(Presented {
            access_key_id: access_key_id.to_owned(),
            date: date.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
            signed_headers: self.signed_headers.to_ascii_lowercase(),
            signature: self.signature.to_owned(),
            time: self.time,
            session_token,
            expires,
        })
    }
}
