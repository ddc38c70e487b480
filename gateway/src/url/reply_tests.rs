//! Answers of functions, meant as responses and not.

use proptest::prelude::*;

use super::*;

fn reply(payload: &str) -> Reply {
    Reply::of(Bytes::copy_from_slice(payload.as_bytes())).unwrap()
}

/// Recorded from AWS by function and client.
#[test]
fn what_is_not_meant_as_a_response_is_its_body() {
    for (payload, body) in [
        (r#"{"hello": "world"}"#, r#"{"hello":"world"}"#),
        (r#"["hello", 3, true]"#, r#"["hello",3,true]"#),
        (r#""hello""#, "hello"),
        (r#""a\u00e4\n\"""#, "aä\n\""),
        ("3", "3"),
        ("3.10", "3.10"),
        ("true", "true"),
        ("null", "null"),
        (
            r#"{"b": 1, "a": {"body": "x y"}}"#,
            r#"{"b":1,"a":{"body":"x y"}}"#,
        ),
        (
            r#"{"body": "x", "headers": {"a": "b"}}"#,
            r#"{"body":"x","headers":{"a":"b"}}"#,
        ),
        (r#"{"statusCode": null}"#, r#"{"statusCode":null}"#),
        (r#"{"a": "\\\" , \\"}"#, r#"{"a":"\\\" , \\"}"#),
        // From runtimes that send what is no JSON.
        ("hello", "hello"),
        ("", ""),
    ] {
        let reply = reply(payload);
        assert_eq!(
            (reply.head.status, &reply.body[..]),
            (StatusCode::OK, body.as_bytes()),
            "{payload}"
        );
        assert_eq!(reply.head.headers["content-type"], "application/json");
        assert_eq!(reply.head.headers.len(), 1);
    }
}

#[test]
fn a_response_says_status_headers_cookies_and_body() {
    let reply = reply(
        r#"{"statusCode": 201, "headers": {"Content-Type": "text/html", "X-N": 1.5, "x-b": true, "x-none": null},
            "cookies": ["a=1; Path=/", "b=2"], "body": "<p>", "isBase64Encoded": false, "other": []}"#,
    );
    assert_eq!(
        (reply.head.status.as_u16(), &reply.body[..]),
        (201, &b"<p>"[..])
    );
    let headers = &reply.head.headers;
    assert_eq!(headers["content-type"], "text/html");
    assert_eq!(
        (&headers["x-n"], &headers["x-b"]),
        (
            &HeaderValue::from_static("1.5"),
            &HeaderValue::from_static("true")
        )
    );
    assert!(!headers.contains_key("x-none"));
    let cookies: Vec<_> = headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1; Path=/", "b=2"]);
}

#[test]
fn statuses_and_bodies_have_several_forms() {
    for (payload, status, body) in [
        (r#"{"statusCode": "418", "body": "tea"}"#, 418, &b"tea"[..]),
        (r#"{"statusCode": 204}"#, 204, b""),
        (r#"{"statusCode": 200, "body": null}"#, 200, b""),
        (
            r#"{"statusCode": 200, "body": {"a": 1}}"#,
            200,
            br#"{"a":1}"#,
        ),
        (r#"{"statusCode": 200, "body": 7}"#, 200, b"7"),
        (
            r#"{"statusCode": 200, "body": "/wA=", "isBase64Encoded": true}"#,
            200,
            b"\xff\x00",
        ),
    ] {
        let reply = reply(payload);
        assert_eq!(
            (reply.head.status.as_u16(), &reply.body[..]),
            (status, body),
            "{payload}"
        );
    }
}

#[test]
fn responses_that_are_none_are_malformed() {
    for payload in [
        r#"{"statusCode": "abc"}"#,
        r#"{"statusCode": 101}"#,
        r#"{"statusCode": 600}"#,
        r#"{"statusCode": 200.5}"#,
        r#"{"statusCode": []}"#,
        r#"{"statusCode": 200, "headers": []}"#,
        r#"{"statusCode": 200, "headers": {"a": ["b"]}}"#,
        r#"{"statusCode": 200, "headers": {"a b": "c"}}"#,
        r#"{"statusCode": 200, "headers": {"a": "b\r\nset-cookie: c"}}"#,
        r#"{"statusCode": 200, "cookies": "a=1"}"#,
        r#"{"statusCode": 200, "cookies": ["a\n"]}"#,
        r#"{"statusCode": 200, "body": "%", "isBase64Encoded": true}"#,
    ] {
        let payload = Bytes::from_static(payload.as_bytes());
        assert_eq!(Reply::of(payload.clone()), Err(Malformed), "{payload:?}");
    }
}

#[test]
fn more_headers_than_any_client_takes_are_malformed() {
    let with = |n: usize| {
        let headers: BTreeMap<String, u8> = (0..n).map(|n| (format!("x-{n}"), 1)).collect();
        Reply::of(
            serde_json::json!({ "statusCode": 200, "headers": headers })
                .to_string()
                .into(),
        )
    };
    assert_eq!(
        with(HEADERS_MAX).unwrap().head.headers.len(),
        HEADERS_MAX + 1
    );
    assert_eq!(with(100_000), Err(Malformed));
}

#[test]
fn headers_of_the_connection_go_under_another_name() {
    let reply = reply(
        r#"{"statusCode": 200, "headers": {"Content-Length": "9", "Transfer-Encoding": "chunked"}, "body": "x"}"#,
    );
    let names: Vec<&str> = reply.head.headers.keys().map(HeaderName::as_str).collect();
    assert_eq!(
        names,
        [
            "content-type",
            "x-amzn-remapped-content-length",
            "x-amzn-remapped-transfer-encoding"
        ]
    );
}

#[test]
fn a_streaming_function_that_is_taken_whole_is_understood() {
    let mut payload = br#"{"statusCode":202,"headers":{"content-type":"text/plain"}}"#.to_vec();
    payload.extend_from_slice(b"\0\0\0\0\0\0\0\0bo\xffdy");
    let reply = Reply::of(payload.into()).unwrap();
    assert_eq!(
        (reply.head.status.as_u16(), &reply.body[..]),
        (202, &b"bo\xffdy"[..])
    );
    let reply = Reply::of(Bytes::from_static(b"\xff\xfe")).unwrap();
    assert_eq!(
        (reply.head.status.as_u16(), &reply.body[..]),
        (200, &b"\xff\xfe"[..])
    );
}

proptest! {
    #[test]
    fn whatever_a_function_answers_is_a_reply_or_malformed(payload in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = Reply::of(payload.into());
    }

    #[test]
    fn whatever_stands_in_a_response_is_a_reply_or_malformed(
        status in any::<i32>(), name in ".{0,8}", value in ".{0,8}", cookie in ".{0,8}", body in ".{0,8}", is_base64 in any::<bool>(),
    ) {
        let said = serde_json::json!({
            "statusCode": status, "headers": { name: value }, "cookies": [cookie], "body": body, "isBase64Encoded": is_base64,
        });
        let _ = Reply::of(said.to_string().into());
    }

    #[test]
    fn compact_json_means_the_same(json in r#"(\[ ?"[ -~&&[^"\\]]{0,6}" ?, ?[0-9]{1,3} ?\]|\{ ?"a b" ?: ?"\\" x" ?\})"#) {
        if let Ok(value) = serde_json::from_str::<Value>(&json) {
            prop_assert_eq!(serde_json::from_str::<Value>(&compact(&json)).unwrap(), value);
        }
    }
}
