//! A server that checks signatures, remembers what it was asked, and answers as it was told.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hearth_aws_api::sigv4::{self, Scope, SecretKey};
use http::request::Parts;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use time::OffsetDateTime;
use tokio::net::TcpListener;

use crate::Service;

pub(super) const KEY_ID: &str = "AKIDEXAMPLE";
pub(super) const SECRET: &str = "hush/hush+hush";
/// What time it is, for both sides.
pub(super) const NOW_MS: u64 = 1_574_632_367_333;

/// What to do with a request.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// A status and a body.
    Says(u16, String),
    /// A redirect.
    Leads(String),
    /// Nothing, and the connection stays open.
    Silence,
}

pub(super) fn says(status: u16, body: impl Into<String>) -> Answer {
    Answer::Says(status, body.into())
}

/// What the service answers when it has done it; a queue's URL comes before.
pub(super) fn done(service: Service) -> Vec<Answer> {
    let body = match service {
        Service::EventBridge => r#"{"FailedEntryCount":0,"Entries":[{"EventId":"e"}]}"#,
        Service::S3 => "",
        Service::Sns => {
            "<PublishResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><PublishResult><MessageId>m</MessageId></PublishResult>\
             <ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></PublishResponse>"
        }
        Service::Sqs => {
            return vec![queue_url("http://sqs.invalid/1/ended"), message_sent()];
        }
    };
    vec![says(200, body)]
}

/// A queue's URL has a host that nobody should look for.
pub(super) fn queue_url(url: &str) -> Answer {
    says(200, format!("{{\"QueueUrl\":\"{url}\"}}"))
}

pub(super) fn message_sent() -> Answer {
    says(200, r#"{"MessageId":"m","MD5OfMessageBody":"d"}"#)
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) parts: Parts,
    pub(super) body: Bytes,
    /// Service and region of its signature, if it has one; that it is right was checked.
    pub(super) signed_for: Option<(String, String)>,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> &str {
        self.parts.headers[name].to_str().unwrap()
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

#[derive(Debug, Default)]
struct State {
    answers: VecDeque<Answer>,
    seen: Vec<Seen>,
    faults: Vec<String>,
}

/// Lives as long as its test's runtime.
#[derive(Debug)]
pub(super) struct Server {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub(super) async fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            answers: answers.into_iter().collect(),
            ..State::default()
        }));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                let service = service_fn(move |request| answer(Arc::clone(&state), request));
                let connection = http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, state }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What came since last time, all of it rightly signed or not at all.
    pub(super) fn seen(&self) -> Vec<Seen> {
        let mut state = self.state.lock().unwrap();
        assert!(state.faults.is_empty(), "{:?}", state.faults);
        std::mem::take(&mut state.seen)
    }
}

async fn answer(
    state: Arc<Mutex<State>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let answer = {
        let mut state = state.lock().unwrap();
        match check(&parts, &body) {
            Ok(signed_for) => state.seen.push(Seen {
                parts,
                body,
                signed_for,
            }),
            Err(fault) => state.faults.push(fault),
        }
        let next = state.answers.pop_front();
        next.unwrap_or_else(|| says(400, "the script is at its end"))
    };
    let response = match answer {
        Answer::Says(status, body) => Response::builder()
            .status(status)
            .body(Full::from(body))
            .unwrap(),
        Answer::Leads(location) => Response::builder()
            .status(307)
            .header("location", location)
            .body(Full::default())
            .unwrap(),
        Answer::Silence => std::future::pending().await,
    };
    Ok(response)
}

/// Service and region that a request is signed for.
fn check(parts: &Parts, body: &[u8]) -> Result<Option<(String, String)>, String> {
    let Some(service) = sigv4::claimed_service(parts) else {
        let is_spoilt = parts.headers.contains_key("authorization");
        return if is_spoilt {
            Err("an authorization without a signature".to_owned())
        } else {
            Ok(None)
        };
    };
    let scope = Scope {
        service: service.clone(),
        region: None,
    };
    let secret = |key_id: &str, _: Option<&str>| (key_id == KEY_ID).then(|| SecretKey::new(SECRET));
    let now = OffsetDateTime::from_unix_timestamp(i64::try_from(NOW_MS / 1_000).unwrap()).unwrap();
    let digest = sigv4::digest(body);
    sigv4::verify(&scope, parts, &digest, secret, now)
        .map(|identity| Some((service, identity.region)))
        .map_err(|error| error.to_string())
}
