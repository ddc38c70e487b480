//! The users: requests of AWS's REST API to a gateway, over simulated TCP, each with a deadline.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use turmoil::net::TcpStream;

use super::hosts::{GATEWAY_PORT, RUNTIME};

/// A client gives up then; longer than a gateway's own deadlines.
const PATIENCE: Duration = Duration::from_secs(20);

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) is_function_error: bool,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// One request. `None`: no answer.
pub(crate) async fn call(
    gateway: &str,
    account: &str,
    method: &str,
    path: &str,
    body: &Value,
) -> Option<Answer> {
    let body = match body {
        Value::Null => Bytes::new(),
        body => body.to_string().into(),
    };
    let exchange = exchange(gateway, account, method, path, body);
    tokio::time::timeout(PATIENCE, exchange).await.ok()?
}

async fn exchange(
    gateway: &str,
    account: &str,
    method: &str,
    path: &str,
    body: Bytes,
) -> Option<Answer> {
    let stream = TcpStream::connect((gateway, GATEWAY_PORT)).await.ok()?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.ok()?;
    tokio::spawn(async move { drop(connection.await) });
    let credential = format!("{account}/20300101/us-east-1/lambda/aws4_request");
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("host", format!("{gateway}:{GATEWAY_PORT}"))
        .header("content-type", "application/json")
        .header(
            "authorization",
            format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0"),
        )
        .body(Full::new(body))
        .ok()?;
    let (head, body) = sender.send_request(request).await.ok()?.into_parts();
    Some(Answer {
        status: head.status.as_u16(),
        is_function_error: head.headers.contains_key("x-amz-function-error"),
        body: body.collect().await.ok()?.to_bytes(),
    })
}

/// The members of a configuration that a value is kept in.
pub(crate) fn environment(account: &str, name: &str, value: u64, init_ms: u64) -> Value {
    json!({"Variables": {
        "ACCOUNT": account,
        "NAME": name,
        "VALUE": value.to_string(),
        "INIT_MS": init_ms.to_string(),
    }})
}

/// The value of a configuration.
pub(crate) fn value_of(configuration: &Value) -> Option<u64> {
    let text = configuration["Environment"]["Variables"]["VALUE"].as_str()?;
    text.parse().ok()
}

/// The body of CreateFunction.
pub(crate) fn creation(name: &str, environment: &Value, timeout_s: u64, zip: &str) -> Value {
    json!({
        "FunctionName": name,
        "Runtime": RUNTIME,
        "Role": "arn:aws:iam::111111111111:role/r",
        "Handler": "app.handler",
        "Timeout": timeout_s,
        "Environment": environment,
        "Code": {"ZipFile": zip},
    })
}

pub(crate) fn function_path(name: &str) -> String {
    format!("/2015-03-31/functions/{name}")
}

pub(crate) fn set_limit_path(name: &str) -> String {
    format!("/2017-10-31/functions/{name}/concurrency")
}

pub(crate) fn get_limit_path(name: &str) -> String {
    format!("/2019-09-30/functions/{name}/concurrency")
}

/// A small archive, in base64.
pub(crate) fn zip() -> String {
    use base64::Engine as _;
    use std::io::Write as _;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default()
        .last_modified_time(zip::DateTime::default())
        .unix_permissions(0o755);
    let written = zip
        .start_file("app.py", options)
        .and_then(|()| zip.write_all(b"x = 1\n").map_err(Into::into));
    let archive = written.and_then(|()| zip.finish());
    let archive = archive.map(std::io::Cursor::into_inner).unwrap_or_default();
    base64::engine::general_purpose::STANDARD.encode(archive)
}
