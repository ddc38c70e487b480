//! Events of requests, ordinary and hostile.

use http::{HeaderValue, Request};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn parts(request: http::request::Builder) -> Parts {
    request.body(()).unwrap().into_parts().0
}

fn event(parts: &Parts, body: &[u8], signer: Option<&Signer>) -> Value {
    let host = parts
        .headers
        .get("host")
        .map_or("a.lambda-url.r.d", |host| host.to_str().unwrap());
    let address = crate::url::address::of(&parts.uri, host, "r", "").unwrap();
    let asked = Asked {
        address: &address,
        parts,
        body,
        request_id: "id-1",
        source: [192, 0, 2, 7].into(),
        unix_ms: 1_659_687_267_312,
        signer,
    };
    serde_json::from_slice(&document(&asked)).unwrap()
}

#[test]
fn a_request_becomes_the_documented_event() {
    let request = Request::post("/my/p%20ath?b=2&a=1&a=x%2Fy+z&c")
        .header("Host", "a.lambda-url.r.d:9100")
        .header("Cookie", "one=1; two=2")
        .header("Cookie", "three=3")
        .header("X-A", "1")
        .header("X-A", "2")
        .header("Content-Type", "application/json; charset=utf-8")
        .header("User-Agent", "agent")
        .header("Connection", "keep-alive");
    assert_eq!(
        event(&parts(request), "{\"ä\":1}".as_bytes(), None),
        json!({
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": "/my/p%20ath",
            "rawQueryString": "b=2&a=1&a=x%2Fy+z&c",
            "cookies": ["one=1", "two=2", "three=3"],
            "headers": {
                "host": "a.lambda-url.r.d:9100",
                "x-a": "1,2",
                "content-type": "application/json; charset=utf-8",
                "user-agent": "agent",
                "x-forwarded-for": "192.0.2.7",
                "x-forwarded-port": "9100",
                "x-forwarded-proto": "http",
            },
            "queryStringParameters": { "a": "1,x/y z", "b": "2", "c": "" },
            "requestContext": {
                "accountId": "anonymous",
                "apiId": "a",
                "domainName": "a.lambda-url.r.d",
                "domainPrefix": "a",
                "http": {
                    "method": "POST",
                    "path": "/my/p%20ath",
                    "protocol": "HTTP/1.1",
                    "sourceIp": "192.0.2.7",
                    "userAgent": "agent",
                },
                "requestId": "id-1",
                "routeKey": "$default",
                "stage": "$default",
                "time": "05/Aug/2022:08:14:27 +0000",
                "timeEpoch": 1_659_687_267_312_u64,
            },
            "body": "{\"ä\":1}",
            "isBase64Encoded": false,
        })
    );
}

#[test]
fn what_is_not_there_is_absent_and_proxies_are_kept() {
    let request = Request::get("/")
        .header("x-forwarded-for", "203.0.113.9")
        .header("x-forwarded-proto", "https");
    let event = event(&parts(request), b"", None);
    for absent in ["cookies", "queryStringParameters", "body"] {
        assert!(event.get(absent).is_none(), "{absent}");
    }
    assert_eq!(
        (&event["rawQueryString"], &event["isBase64Encoded"]),
        (&json!(""), &json!(false))
    );
    let headers = json!({
        "host": "a.lambda-url.r.d",
        "x-forwarded-for": "203.0.113.9, 192.0.2.7",
        "x-forwarded-port": "443",
        "x-forwarded-proto": "https",
    });
    assert_eq!(event["headers"], headers);
}

#[test]
fn who_signed_is_told() {
    let signer = Signer {
        caller: crate::caller::Caller::root("123456789012".parse().unwrap()),
        access_key_id: "AKID".into(),
    };
    let event = event(&parts(Request::get("/")), b"", Some(&signer));
    let context = &event["requestContext"];
    assert_eq!(context["accountId"], "123456789012");
    assert_eq!(context.get("authentication"), Some(&Value::Null));
    let iam = json!({
        "accessKey": "AKID",
        "accountId": "123456789012",
        "callerId": "123456789012",
        "cognitoIdentity": null,
        "principalOrgId": null,
        "userArn": "arn:aws:iam::123456789012:root",
        "userId": "123456789012",
    });
    assert_eq!(context["authorizer"], json!({ "iam": iam }));
}

#[test]
fn bodies_are_text_only_where_their_type_says_so_and_they_are() {
    for (kind, body, encoded) in [
        (Some("text/plain"), &b"a"[..], false),
        (Some("TEXT/HTML;charset=utf-8"), b"a", false),
        (Some("application/json"), b"{}", false),
        (Some("application/problem+json"), b"{}", false),
        (Some("image/svg+xml"), b"<a/>", false),
        (Some("application/xml"), b"<a/>", false),
        (Some("application/x-www-form-urlencoded"), b"a=1", true),
        (Some("application/octet-stream"), b"a", true),
        (Some("text/plain"), b"\xff\x00", true),
        (None, b"a", true),
    ] {
        let mut request = Request::post("/");
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        let event = event(&parts(request), body, None);
        assert_eq!(event["isBase64Encoded"], encoded, "{kind:?} {body:?}");
        let got = event["body"].as_str().unwrap();
        if encoded {
            assert_eq!(STANDARD.decode(got).unwrap(), body);
        } else {
            assert_eq!(got.as_bytes(), body);
        }
    }
}

proptest! {
    #[test]
    fn nothing_that_a_client_sends_is_too_much(
        value in proptest::collection::vec(any::<u8>().prop_filter("of a header", |b| *b == 9 || *b >= 32 && *b != 127), 0..40),
        query in "[ -~&&[^#\"<>`{}\\\\^| ]]{0,40}",
        body in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let value = HeaderValue::from_bytes(&value).unwrap();
        let mut parts = parts(Request::post(format!("/x?{query}")));
        for name in ["cookie", "user-agent", "x-a", "content-type", "x-forwarded-for", "x-forwarded-proto"] {
            parts.headers.append(name, value.clone());
            parts.headers.append(name, value.clone());
        }
        let event = event(&parts, &body, None);
        prop_assert_eq!(&event["rawQueryString"], &json!(query));
    }
}
