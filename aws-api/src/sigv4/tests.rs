//! Signatures against AWS's published examples, botocore's signer, and tampering.

use http::request::{Builder, Parts};
use http::{HeaderValue, Request, StatusCode};
use proptest::prelude::*;
use serde::Deserialize;
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use super::*;
use crate::error::{ApiError, ErrorCode};

const KEY_ID: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const NOW: OffsetDateTime = datetime!(2015-08-30 12:36:00 UTC);

fn scope(service: &str) -> Scope {
    Scope {
        service: service.to_owned(),
        region: Some("us-east-1".to_owned()),
    }
}

fn known(access_key_id: &str, _token: Option<&str>) -> Option<SecretKey> {
    (access_key_id == KEY_ID).then(|| SecretKey::new(SECRET))
}

fn parts(request: Builder) -> Parts {
    request.body(()).unwrap().into_parts().0
}

fn check(service: &str, parts: &Parts, body: &[u8]) -> Result<Identity, ApiError> {
    verify(&scope(service), parts, &digest(body), known, NOW)
}

fn refused(result: Result<impl std::fmt::Debug, ApiError>) -> (ErrorCode, String) {
    let error = result.unwrap_err();
    (error.code(), error.message().to_owned())
}

fn signer(secret: &SecretKey) -> Signer<'_> {
    Signer {
        access_key_id: KEY_ID,
        secret,
        session_token: None,
        region: "us-east-1",
        service: "lambda",
    }
}

/// A signed invocation, body `{}`, whose head declares no digest unless the caller adds it.
fn signed(declared: Option<&str>) -> Parts {
    let uri = "/2015-03-31/functions/f/invocations";
    let mut request = Request::post(uri).header("host", "localhost:9000");
    if let Some(declared) = declared {
        request = request.header(CONTENT_SHA256, declared);
    }
    let mut parts = parts(request);
    sign(&mut parts, b"{}", signer(&SecretKey::new(SECRET)), NOW).unwrap();
    parts
}

/// AWS's published suite: method, path, extra headers in order, body, names, signature. A request
/// of the suite that holds a raw non-ASCII path cannot arrive over our HTTP server.
#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn published_suite_verifies() {
    type Case = (
        &'static str,
        &'static str,
        &'static [(&'static str, &'static str)],
        &'static str,
        &'static str,
        &'static str,
    );
    let plain = "host;x-amz-date";
    let form = "content-type;host;x-amz-date";
    let cases: [Case; 6] = [
        (
            "GET",
            "/",
            &[],
            "",
            plain,
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (
            "GET",
            "/?Param2=value2&Param1=value1",
            &[],
            "",
            plain,
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "GET",
            "/",
            &[
                ("my-header1", "value2"),
                ("my-header1", "value2"),
                ("my-header1", "value1"),
            ],
            "",
            "host;my-header1;x-amz-date",
            "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
        ),
        (
            "GET",
            "//example//",
            &[],
            "",
            plain,
            "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84",
        ),
        (
            "POST",
            "/",
            &[],
            "",
            plain,
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        ),
        (
            "POST",
            "/",
            &[("content-type", "application/x-www-form-urlencoded")],
            "Param1=value1",
            form,
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
    ];
    for (method, path, headers, body, names, signature) in cases {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "example.amazonaws.com")
            .header("x-amz-date", "20150830T123600Z");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={KEY_ID}/20150830/us-east-1/service/aws4_request, \
             SignedHeaders={names}, Signature={signature}"
        );
        let parts = parts(request.header("authorization", authorization));
        let identity = check("service", &parts, body.as_bytes()).unwrap();
        assert_eq!(identity.access_key_id, KEY_ID, "{method} {path}");
    }
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    method: String,
    path: String,
    headers: std::collections::BTreeMap<String, String>,
    body: String,
}

/// Recorded with `vectors/record_signatures.py`: Lambda's paths, queries, headers, temporary
/// credentials, unsigned payloads and presigned URLs, as the AWS CLI signs them.
#[test]
fn botocore_signatures_verify_and_nothing_else_does() {
    let vectors: Vec<Vector> =
        serde_json::from_str(include_str!("../../vectors/signatures.json")).unwrap();
    assert!(vectors.len() > 18);
    for vector in vectors {
        let mut request = Request::builder()
            .method(vector.method.as_str())
            .uri(&vector.path);
        for (name, value) in &vector.headers {
            request = request.header(name, value);
        }
        let mut parts = parts(request);
        let body = hex::decode(&vector.body).unwrap();
        let identity = check("lambda", &parts, &body)
            .unwrap_or_else(|error| panic!("{}: {error}", vector.name));
        let with_token = vector.name.starts_with("temporary");
        assert_eq!(identity.session_token.is_some(), with_token);

        if !vector.name.starts_with("unsigned") {
            let (code, _) = refused(check("lambda", &parts, b"another body"));
            assert_eq!(
                code,
                ErrorCode::InvalidSignatureException,
                "{}",
                vector.name
            );
        }
        parts.uri = format!("{}x", vector.path).parse().unwrap();
        assert!(check("lambda", &parts, &body).is_err(), "{}", vector.name);
    }
}

#[test]
fn signing_and_verifying_agree_on_headers_and_presigned_urls() {
    let secret = SecretKey::new(SECRET);
    assert!(check("lambda", &signed(None), b"{}").is_ok());
    let uri = "http://localhost:9000/2015-03-31/functions/a:b?Qualifier=x%20y";
    let mut parts = parts(Request::get(uri));
    let with_token = Signer {
        session_token: Some("a/token+="),
        ..signer(&secret)
    };
    presign(&mut parts, b"", with_token, NOW, Duration::minutes(10)).unwrap();
    let identity = check("lambda", &parts, b"").unwrap();
    assert_eq!(identity.session_token.as_deref(), Some("a/token+="));
    let late = NOW + Duration::minutes(11);
    let (code, message) = refused(verify(&scope("lambda"), &parts, &digest(b""), known, late));
    assert_eq!(code, ErrorCode::InvalidSignatureException);
    assert_eq!(
        message,
        "Signature expired: 20150830T123600Z is now earlier than 20150830T123700Z \
         (20150830T124700Z - 10 min.)"
    );
}

/// "Example: PUT Object" of S3's documentation, and keys that other services' rule would spoil.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>
#[test]
fn paths_of_s3_are_signed_as_they_are_sent() {
    let now = datetime!(2013-05-24 00:00:00 UTC);
    let body = b"Welcome to Amazon S3.";
    let secret = SecretKey::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
    let signer = Signer {
        access_key_id: "AKIAIOSFODNN7EXAMPLE",
        service: "s3",
        ..signer(&secret)
    };
    let put = |path: &str| {
        let request = Request::put(path)
            .header("host", "examplebucket.s3.amazonaws.com")
            .header("date", "Fri, 24 May 2013 00:00:00 GMT")
            .header("x-amz-storage-class", "REDUCED_REDUNDANCY")
            .header(CONTENT_SHA256, hex::encode(digest(body)));
        let mut parts = parts(request);
        sign(&mut parts, body, signer, now).unwrap();
        parts
    };
    let signature = |parts: &Parts| {
        let text = parts.headers["authorization"].to_str().unwrap();
        text.rsplit_once("Signature=").unwrap().1.to_owned()
    };
    let published = put("/test%24file.text");
    assert_eq!(
        signature(&published),
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
    );
    assert_eq!(signature(&put("/test$file.text")), signature(&published));
    assert_ne!(signature(&put("/a//b")), signature(&put("/a/b")));
    let known = |_: &str, _: Option<&str>| Some(secret.clone());
    for path in ["/test%24file.text", "/a//b", "/a%20b"] {
        verify(&scope("s3"), &put(path), &digest(body), known, now).unwrap();
    }
}

/// A declared digest lets the signature be checked before the body is read.
#[test]
fn declared_digest_is_checked_in_two_steps() {
    let declared = hex::encode(digest(b"{}"));
    let verifier = Verifier::new(scope("lambda"));
    let parts = signed(Some(&declared));
    let pending = verifier.begin(&parts, known, NOW).unwrap();
    assert!(pending.is_signature_checked() && pending.needs_body_digest());
    assert_eq!(pending.claimed().access_key_id, KEY_ID);
    assert!(pending.finish(&digest(b"{}")).is_ok());
    let pending = verifier.begin(&parts, known, NOW).unwrap();
    assert!(pending.finish(&digest(b"{1}")).is_err());

    let mut other = signed(Some(&declared));
    let value = HeaderValue::from_str(&hex::encode(digest(b"{1}"))).unwrap();
    other.headers.insert(CONTENT_SHA256, value);
    assert!(verifier.begin(&other, known, NOW).is_err());

    let unsigned = signed(Some(UNSIGNED_PAYLOAD));
    let pending = verifier.begin(&unsigned, known, NOW).unwrap();
    assert!(!pending.needs_body_digest());
    assert!(pending.finish(&digest(b"whatever")).is_ok());
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn refusals_carry_the_codes_and_texts_of_aws() {
    let verify_at =
        |parts: &Parts, now| refused(verify(&scope("lambda"), parts, &digest(b"{}"), known, now));
    let with_authorization = |value: &str| {
        let mut parts = signed(None);
        let value = HeaderValue::from_str(value).unwrap();
        parts.headers.insert("authorization", value);
        verify_at(&parts, NOW)
    };
    let anonymous = parts(Request::get("/2015-03-31/functions").header("host", "h"));
    let cases = [
        (
            verify_at(&anonymous, NOW),
            ErrorCode::MissingAuthenticationTokenException,
            "Missing Authentication Token".to_owned(),
        ),
        (
            verify_at(&signed(None), NOW + Duration::minutes(16)),
            ErrorCode::InvalidSignatureException,
            "Signature expired: 20150830T123600Z is now earlier than 20150830T123700Z \
             (20150830T125200Z - 15 min.)"
                .to_owned(),
        ),
        (
            verify_at(&signed(None), NOW - Duration::minutes(16)),
            ErrorCode::InvalidSignatureException,
            "Signature not yet current: 20150830T123600Z is still later than 20150830T123500Z \
             (20150830T122000Z + 15 min.)"
                .to_owned(),
        ),
        (
            with_authorization("AWS4-HMAC-SHA256 abc"),
            ErrorCode::IncompleteSignatureException,
            "'abc' not a valid key=value pair (missing equal-sign) in Authorization header: 'abc'."
                .to_owned(),
        ),
        (
            with_authorization("Bearer abc"),
            ErrorCode::IncompleteSignatureException,
            "Unsupported AWS 'algorithm': 'Bearer'.".to_owned(),
        ),
        (
            with_authorization("AWS4-HMAC-SHA256 Credential=a, SignedHeaders=host"),
            ErrorCode::IncompleteSignatureException,
            "Authorization header requires 'Signature' parameter.".to_owned(),
        ),
        (
            with_authorization(
                "AWS4-HMAC-SHA256 Credential=AKIDOTHER/20150830/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=0",
            ),
            ErrorCode::UnrecognizedClientException,
            "The security token included in the request is invalid.".to_owned(),
        ),
        (
            with_authorization(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0",
            ),
            ErrorCode::InvalidSignatureException,
            "Credential should be scoped to correct service: 'lambda'. ".to_owned(),
        ),
        (
            with_authorization(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150829/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=0",
            ),
            ErrorCode::InvalidSignatureException,
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from \
             HTTP: '20150829' != '20150830', from '20150830T123600Z'."
                .to_owned(),
        ),
    ];
    for ((code, message), expected, text) in cases {
        assert_eq!((code, message), (expected, text));
        assert_eq!(ApiError::new(code, "").status(), StatusCode::FORBIDDEN);
    }
    let streaming = signed(Some("STREAMING-AWS4-HMAC-SHA256-PAYLOAD"));
    let (code, message) = verify_at(&streaming, NOW);
    assert_eq!(code, ErrorCode::IncompleteSignatureException);
    assert!(message.contains("not supported"), "{message}");
}

#[test]
fn secrets_and_tokens_do_not_show_in_debug() {
    let verifier = Verifier::new(scope("lambda"));
    let mut parts = parts(Request::get("/2015-03-31/functions").header("host", "h"));
    let secret = SecretKey::new(SECRET);
    let with_token = Signer {
        session_token: Some("the-token"),
        ..signer(&secret)
    };
    sign(&mut parts, b"", with_token, NOW).unwrap();
    let pending = verifier.begin(&parts, known, NOW).unwrap();
    let shown = format!("{verifier:?} {pending:?} {:?}", pending.claimed());
    assert!(
        !shown.contains(SECRET) && !shown.contains("the-token"),
        "{shown}"
    );
}

proptest! {
    /// Whatever stands in the header or the query is refused, not a panic.
    #[test]
    fn garbage_is_refused(authorization in "\\PC{0,80}", query in "[ -~]{0,80}", date in "[0-9TZ]{0,20}") {
        let query: String = query.chars().filter(|c| !"\"<>\\^`{|}#%".contains(*c) && *c != ' ').collect();
        for head in ["", "AWS4-HMAC-SHA256 Credential=a/20150830/us-east-1/lambda/aws4_request,"] {
            let Ok(request) = Request::get(format!("/a?X-Amz-Algorithm=AWS4-HMAC-SHA256&{query}"))
                .header("x-amz-date", &date)
                .header("authorization", HeaderValue::from_bytes(format!("{head}{authorization}").as_bytes()).unwrap_or(HeaderValue::from_static("")))
                .body(()) else { continue };
            let (mut parts, ()) = request.into_parts();
            prop_assert!(check("lambda", &parts, b"").is_err());
            parts.headers.remove("authorization");
            prop_assert!(check("lambda", &parts, b"").is_err());
        }
    }
}
