//! What a function's answer means at its URL. "If your function returns valid JSON and doesn't return a `statusCode`, Lambda
//! assumes: `statusCode` is `200`, `content-type` is `application/json`, `body` is the function response, `isBase64Encoded` is
//! `false`." Recorded from AWS: text is sent as it is, other JSON without spaces, a status may be text.
//! Source: <https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html>

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, SET_COOKIE};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

use super::prelude::Prelude;

/// Headers of the connection or its framing, which are not the function's to set. As AWS's gateways do, they go under another
/// name.
const REMAPPED: [&str; 10] = [
    "connection",
    "content-length",
    "date",
    "keep-alive",
    "proxy-connection",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Most headers of a response, cookies included. Ours: more than any client takes.
const HEADERS_MAX: usize = 1_000;

/// An answer at a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) head: Head,
    pub(crate) body: Bytes,
}

/// What comes before a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
}

/// An answer that looks like one for HTTP and is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// What a function says of its response, as far as it is read before the body.
#[derive(Debug, Deserialize)]
pub(super) struct Said<'a> {
    #[serde(rename = "statusCode")]
    status: Option<Value>,
    headers: Option<BTreeMap<String, Value>>,
    cookies: Option<Vec<String>>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    #[serde(rename = "isBase64Encoded")]
    is_base64: Option<bool>,
}

/// Only this says whether an object is meant as a response.
#[derive(Deserialize)]
struct Meant {
    #[serde(rename = "statusCode")]
    status: Option<IgnoredAny>,
}

impl Reply {
    /// The whole answer of a function.
    pub(crate) fn of(payload: Bytes) -> Result<Self, Malformed> {
        let Ok(text) = std::str::from_utf8(&payload) else {
            return Self::streamed(payload);
        };
        if serde_json::from_str::<IgnoredAny>(text).is_err() {
            return Self::streamed(payload);
        }
        match text.trim_start().as_bytes().first() {
            Some(b'"') => Ok(Self::plain(string(text)?.into())),
            Some(b'{') if is_meant(text)? => Self::said(text),
            Some(_) | None => Ok(Self::plain(compact(text).into())),
        }
    }

    /// As it is, with the status and type that are assumed.
    pub(crate) fn plain(body: Bytes) -> Self {
        let head = Head::ok("application/json");
        Self { head, body }
    }

    fn said(text: &str) -> Result<Self, Malformed> {
        let said: Said<'_> = serde_json::from_str(text).map_err(|_| Malformed)?;
        let body = said.body.map_or("null", RawValue::get);
        let is_base64 = said.is_base64.unwrap_or_default();
        let head = Head::said(said, "application/json")?;
        let body = match body.as_bytes().first() {
            Some(b'"') => string(body)?,
            Some(b'n') => String::new(),
            Some(_) | None => compact(body),
        };
        let body = match is_base64 {
            true => STANDARD.decode(body).map_err(|_| Malformed)?.into(),
            false => body.into(),
        };
        Ok(Self { head, body })
    }

    /// A function that streams was taken as any other: what it says first is in front of the body.
    fn streamed(payload: Bytes) -> Result<Self, Malformed> {
        match Prelude::default().push(&payload) {
            Ok(Some((head, body))) => Ok(Self { head, body }),
            Ok(None) | Err(Malformed) => Ok(Self::plain(payload)),
        }
    }
}

impl Head {
    /// A head of one header.
    pub(crate) fn ok(content_type: &str) -> Self {
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_str(content_type) {
            headers.insert(CONTENT_TYPE, value);
        }
        let status = StatusCode::OK;
        Self { status, headers }
    }

    /// As [`Self::ok`], with a type for those that name none.
    pub(crate) fn of_type(content_type: &str, unnamed: &str) -> Self {
        Self::ok(if content_type.is_empty() {
            unnamed
        } else {
            content_type
        })
    }

    /// What the function said, with a content type where it named none.
    pub(super) fn said(said: Said<'_>, content_type: &'static str) -> Result<Self, Malformed> {
        let status = said
            .status
            .map_or(Ok(StatusCode::OK), |status| status_of(&status))?;
        let (said_headers, cookies) = (
            said.headers.unwrap_or_default(),
            said.cookies.unwrap_or_default(),
        );
        if said_headers.len() + cookies.len() > HEADERS_MAX {
            return Err(Malformed);
        }
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        for (name, value) in said_headers {
            let value = match value {
                Value::String(text) => text,
                Value::Bool(is) => is.to_string(),
                Value::Number(number) => number.to_string(),
                Value::Null => continue,
                Value::Array(_) | Value::Object(_) => return Err(Malformed),
            };
            let value = HeaderValue::try_from(value).map_err(|_| Malformed)?;
            headers.insert(named(&name)?, value);
        }
        for cookie in cookies {
            let cookie = HeaderValue::try_from(cookie).map_err(|_| Malformed)?;
            headers.append(SET_COOKIE, cookie);
        }
        Ok(Self { status, headers })
    }
}

fn is_meant(text: &str) -> Result<bool, Malformed> {
    let meant: Meant = serde_json::from_str(text).map_err(|_| Malformed)?;
    Ok(meant.status.is_some())
}

/// Those below 200 would end the conversation.
fn status_of(said: &Value) -> Result<StatusCode, Malformed> {
    let number = match said {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    let number = number.and_then(|number| u16::try_from(number).ok());
    let status = number.filter(|number| (200..600).contains(number));
    let status = status.and_then(|number| StatusCode::from_u16(number).ok());
    status.ok_or(Malformed)
}

fn named(name: &str) -> Result<HeaderName, Malformed> {
    let lower = name.to_ascii_lowercase();
    let name = match REMAPPED.contains(&lower.as_str()) {
        true => format!("x-amzn-remapped-{lower}"),
        false => lower,
    };
    HeaderName::try_from(name).map_err(|_| Malformed)
}

fn string(json: &str) -> Result<String, Malformed> {
    serde_json::from_str(json).map_err(|_| Malformed)
}

/// JSON that was read before, without the spaces between its tokens; all else stays as it is, numbers and order too.
fn compact(json: &str) -> String {
    let (mut in_string, mut is_escaped) = (false, false);
    let is_kept = |c: &char| {
        if in_string {
            let ends = *c == '"' && !is_escaped;
            is_escaped = *c == '\\' && !is_escaped;
            in_string = !ends;
            return true;
        }
        in_string = *c == '"';
        !matches!(c, ' ' | '\t' | '\n' | '\r')
    };
    json.chars().filter(is_kept).collect()
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
