//! The event that a function gets of a request at its URL: "the same schema as the Amazon API Gateway payload format version
//! 2.0". Whatever a client sends becomes text: bytes that are none are replaced.
//! Source: <https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html>

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, COOKIE, HeaderName, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, Version};
use percent_encoding::percent_decode;
use serde::Serialize;
use time::OffsetDateTime;
use time::macros::format_description;

use super::address::Address;
use crate::caller::Caller;

/// A placeholder: "Function URLs don't use this parameter."
const DEFAULT: &str = "$default";
/// Headers of the connection, which end here.
const OF_THE_CONNECTION: [&str; 8] = [
    "connection",
    "expect",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_PORT: &str = "x-forwarded-port";
const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// Who signed the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signer {
    pub(crate) caller: Caller,
    pub(crate) access_key_id: String,
}

/// A request at a URL.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) address: &'a Address,
    pub(crate) parts: &'a Parts,
    pub(crate) body: &'a [u8],
    /// Of the invocation.
    pub(crate) request_id: &'a str,
    /// "The source IP address of the immediate TCP connection making the request."
    pub(crate) source: IpAddr,
    pub(crate) unix_ms: u64,
    /// Of a URL that wants signatures.
    pub(crate) signer: Option<&'a Signer>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    version: &'static str,
    route_key: &'static str,
    raw_path: &'a str,
    raw_query_string: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cookies: Vec<String>,
    headers: BTreeMap<&'a str, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    query_string_parameters: BTreeMap<String, String>,
    request_context: Context<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Cow<'a, str>>,
    is_base64_encoded: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Context<'a> {
    account_id: &'a str,
    api_id: &'a str,
    /// "Lambda sets this to null"; absent where nobody signs.
    #[serde(skip_serializing_if = "Option::is_none")]
    authentication: Option<()>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorizer: Option<Authorizer<'a>>,
    domain_name: &'a str,
    domain_prefix: &'a str,
    http: Http<'a>,
    request_id: &'a str,
    route_key: &'static str,
    stage: &'static str,
    time: String,
    time_epoch: u64,
}

#[derive(Serialize)]
struct Authorizer<'a> {
    iam: Iam<'a>,
}

/// Of the root its ids are its account, as on AWS.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Iam<'a> {
    access_key: &'a str,
    account_id: &'a str,
    caller_id: String,
    cognito_identity: (),
    principal_org_id: (),
    user_arn: String,
    user_id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Http<'a> {
    method: &'a str,
    path: &'a str,
    protocol: &'static str,
    source_ip: String,
    user_agent: String,
}

/// The document.
pub(crate) fn document(asked: &Asked<'_>) -> Bytes {
    let Asked { address, parts, .. } = asked;
    let query = parts.uri.query().unwrap_or_default();
    let (body, is_base64_encoded) = body(asked);
    let event = Event {
        version: "2.0",
        route_key: DEFAULT,
        raw_path: &address.path,
        raw_query_string: query,
        cookies: cookies(&parts.headers),
        headers: headers(asked),
        query_string_parameters: parameters(query),
        request_context: context(asked),
        body,
        is_base64_encoded,
    };
    let text = serde_json::to_vec(&event);
    text.expect("maps with text as keys can be written").into()
}

fn context<'a>(asked: &Asked<'a>) -> Context<'a> {
    let Asked {
        address,
        parts,
        signer,
        ..
    } = asked;
    Context {
        account_id: signer.map_or("anonymous", |signer| signer.caller.account.as_str()),
        api_id: &address.id,
        authentication: signer.map(|_| ()),
        authorizer: signer.map(|signer| Authorizer { iam: iam(signer) }),
        domain_name: &address.domain,
        domain_prefix: &address.id,
        http: Http {
            method: parts.method.as_str(),
            path: &address.path,
            protocol: match parts.version {
                Version::HTTP_09 | Version::HTTP_10 => "HTTP/1.0",
                // Recorded from AWS, whose browsers speak HTTP/2 as well.
                _ => "HTTP/1.1",
            },
            source_ip: asked.source.to_string(),
            user_agent: joined(&parts.headers, &USER_AGENT),
        },
        request_id: asked.request_id,
        route_key: DEFAULT,
        stage: DEFAULT,
        time: written(asked.unix_ms),
        time_epoch: asked.unix_ms,
    }
}

fn iam(signer: &Signer) -> Iam<'_> {
    let caller = &signer.caller;
    Iam {
        access_key: &signer.access_key_id,
        account_id: caller.account.as_str(),
        caller_id: caller.user_id(),
        cognito_identity: (),
        principal_org_id: (),
        user_arn: caller.arn(),
        user_id: caller.user_id(),
    }
}

/// `05/Aug/2022:08:14:27 +0000`
fn written(unix_ms: u64) -> String {
    let format =
        format_description!("[day]/[month repr:short]/[year]:[hour]:[minute]:[second] +0000");
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000)
        .ok()
        .and_then(|time| time.format(format).ok())
        .unwrap_or_default()
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// "Duplicate headers are combined with commas."
fn joined(headers: &HeaderMap, name: &HeaderName) -> String {
    let values = headers.get_all(name).into_iter();
    let values: Vec<_> = values.map(|value| text(value.as_bytes())).collect();
    values.join(",")
}

/// All but cookies, which have a member of their own, and with what a proxy of AWS's adds.
fn headers<'a>(asked: &Asked<'a>) -> BTreeMap<&'a str, String> {
    let sent = &asked.parts.headers;
    let mut headers: BTreeMap<&str, String> = sent
        .keys()
        .filter(|name| **name != COOKIE && !OF_THE_CONNECTION.contains(&name.as_str()))
        .map(|name| (name.as_str(), joined(sent, name)))
        .collect();
    // HTTP/2 has no such header.
    if !headers.contains_key("host") {
        let port = asked.address.port.map(|port| format!(":{port}"));
        let host = format!("{}{}", asked.address.domain, port.unwrap_or_default());
        headers.insert("host", host);
    }
    let source = asked.source.to_string();
    let forwarded = match headers.get(FORWARDED_FOR) {
        Some(before) => format!("{before}, {source}"),
        None => source,
    };
    headers.insert(FORWARDED_FOR, forwarded);
    let proto = headers.entry(FORWARDED_PROTO);
    let is_https = proto.or_insert_with(|| "http".to_owned()) == "https";
    let default_port = if is_https { 443 } else { 80 };
    let port = asked.address.port.unwrap_or(default_port);
    headers
        .entry(FORWARDED_PORT)
        .or_insert_with(|| port.to_string());
    headers
}

fn cookies(headers: &HeaderMap) -> Vec<String> {
    let sent = headers.get_all(COOKIE).into_iter();
    let cookies = sent.flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    cookies
        .map(|cookie| text(cookie.trim_ascii()).into_owned())
        .filter(|cookie| !cookie.is_empty())
        .collect()
}

/// "Duplicate query strings are combined with commas."
fn parameters(query: &str) -> BTreeMap<String, String> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decoded(name), decoded(value));
        match found.get_mut(&name) {
            Some(before) => {
                before.push(',');
                before.push_str(&value);
            }
            None => {
                found.insert(name, value);
            }
        }
    }
    found
}

fn decoded(sent: &str) -> String {
    let spaced: Vec<u8> = sent
        .bytes()
        .map(|b| if b == b'+' { b' ' } else { b })
        .collect();
    percent_decode(&spaced).decode_utf8_lossy().into_owned()
}

/// "If the content type of the request is binary, the body is base64-encoded."
fn body<'a>(asked: &Asked<'a>) -> (Option<Cow<'a, str>>, bool) {
    if asked.body.is_empty() {
        return (None, false);
    }
    let content_type = asked.parts.headers.get(CONTENT_TYPE);
    let is_text = content_type.is_some_and(|value| is_text(&text(value.as_bytes())));
    match std::str::from_utf8(asked.body) {
        Ok(body) if is_text => (Some(Cow::Borrowed(body)), false),
        Ok(_) | Err(_) => (Some(Cow::Owned(STANDARD.encode(asked.body))), true),
    }
}

/// Recorded from AWS: text, JSON, XML and JavaScript are; forms and what names no type are not.
fn is_text(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    let kind = kind.to_ascii_lowercase();
    let known = [
        "application/json",
        "application/xml",
        "application/javascript",
    ];
    kind.starts_with("text/")
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
        || known.contains(&kind.as_str())
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
