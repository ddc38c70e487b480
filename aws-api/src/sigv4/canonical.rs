//! The canonical request, from which both sides compute the signature. For every service but S3 the
//! path is resolved, and escaped once more than it was sent.

use std::fmt::Write as _;

use http::request::Parts;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest as _, Sha256};

use super::ALGORITHM;
use super::key::KeyScope;

/// Everything but RFC 3986's unreserved characters.
pub(super) const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
const ESCAPED_IN_PATH: &AsciiSet = &ESCAPED.remove(b'/');
/// "You do not normalize URI paths for requests to Amazon S3", since a key may have empty segments.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>
const PATHS_AS_SENT: &str = "s3";

/// The canonical request up to and without its last line, the digest of the body.
pub(super) fn head(
    parts: &Parts,
    service: &str,
    signed_headers: &str,
    without_parameter: &str,
) -> String {
    let sent = parts.uri.path();
    let path = if service == PATHS_AS_SENT {
        escape_again(sent, ESCAPED_IN_PATH)
    } else {
        path(sent)
    };
    let mut out = format!(
        "{}\n{path}\n{}\n",
        parts.method,
        query(parts.uri.query().unwrap_or_default(), without_parameter)
    );
    for name in signed_headers.split(';') {
        out.push_str(name);
        out.push(':');
        out.push_str(&header(parts, name));
        out.push('\n');
    }
    out.push('\n');
    out.push_str(signed_headers);
    out.push('\n');
    out
}

/// What is signed: algorithm, time, scope and the digest of the canonical request.
pub(super) fn string_to_sign(
    time: &str,
    scope: KeyScope<'_>,
    head: &str,
    body_digest: &str,
) -> String {
    let mut digest = Sha256::new();
    digest.update(head);
    digest.update(body_digest);
    format!(
        "{ALGORITHM}\n{time}\n{scope}\n{}",
        hex::encode(digest.finalize())
    )
}

/// Dot segments and empty segments resolved, then escaped.
fn path(sent: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in sent.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    let mut out = String::with_capacity(sent.len() + 8);
    for segment in &segments {
        let _ = write!(out, "/{}", utf8_percent_encode(segment, ESCAPED_IN_PATH));
    }
    if segments.is_empty() || sent.ends_with('/') {
        out.push('/');
    }
    out
}

/// The parameters in the order of their escaped names and values, less the named one.
fn query(sent: &str, without_parameter: &str) -> String {
    let mut pairs: Vec<(String, String)> = sent
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (escape_again(name, ESCAPED), escape_again(value, ESCAPED)))
        .filter(|(name, _)| without_parameter.is_empty() || name != without_parameter)
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

/// One spelling for all: unescaped, then escaped by the rule.
fn escape_again(text: &str, escaped: &'static AsciiSet) -> String {
    let bytes: Vec<u8> = percent_decode_str(text).collect();
    percent_encoding::percent_encode(&bytes, escaped).to_string()
}

/// All values of a header, each trimmed and with single spaces; HTTP/2 has the host in its URI.
fn header(parts: &Parts, name: &str) -> String {
    let mut out = String::new();
    for (index, value) in parts.headers.get_all(name).iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        let text = String::from_utf8_lossy(value.as_bytes());
        for (index, word) in text.split_ascii_whitespace().enumerate() {
            if index > 0 {
                out.push(' ');
            }
            out.push_str(word);
        }
    }
    if out.is_empty()
        && name == "host"
        && let Some(authority) = parts.uri.authority()
    {
        out.push_str(authority.as_str());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_is_normalised_and_escaped_once_more() {
        for (sent, canonical) in [
            ("/", "/"),
            ("", "/"),
            ("/a/../b//./c/", "/b/c/"),
            ("/x/arn%3Aaws", "/x/arn%253Aaws"),
            ("/x/arn:aws", "/x/arn%3Aaws"),
            ("/../..", "/"),
        ] {
            assert_eq!(path(sent), canonical, "{sent}");
        }
    }

    #[test]
    fn query_is_sorted_and_spelled_one_way() {
        assert_eq!(query("b=2&a=%2f&a=&c", ""), "a=&a=%2F&b=2&c=");
        assert_eq!(query("X-Amz-Signature=1&b", "X-Amz-Signature"), "b=");
    }
}
