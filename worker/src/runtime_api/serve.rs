//! One connection: paths, headers and status codes of the Runtime API.

use std::convert::Infallible;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use hearth_core::limits::{STREAMED_RESPONSE_MAX_BYTES, SYNC_RESPONSE_MAX_BYTES};
use hearth_node::random::SharedRandom;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tracing::debug;

use crate::invoke::parts::Parts;
use crate::pool::sandbox::{Delivery, Posted, Refusal, Sandbox, WeakSandbox};
use crate::runtime_api::extensions;
use crate::runtime_api::fault::{self, Fault};
use crate::sandbox::driver::RuntimeApiStream;

const PREFIX: &str = "/2018-06-01/runtime/";

/// A response that is too large is read on to this size, so that the runtime hears 413 rather than a reset.
const DISCARD_MAX_BYTES: usize = 64 << 20;

/// Largest document posted to `/init/error`, bytes.
const INIT_ERROR_MAX_BYTES: usize = 256 * 1024;

const REQUEST_ID: HeaderName = HeaderName::from_static("lambda-runtime-aws-request-id");
const DEADLINE_MS: HeaderName = HeaderName::from_static("lambda-runtime-deadline-ms");
const INVOKED_ARN: HeaderName = HeaderName::from_static("lambda-runtime-invoked-function-arn");
const TRACE_ID: HeaderName = HeaderName::from_static("lambda-runtime-trace-id");
const CLIENT_CONTEXT: HeaderName = HeaderName::from_static("lambda-runtime-client-context");
const ERROR_TYPE: HeaderName = HeaderName::from_static("lambda-runtime-function-error-type");
const ERROR_BODY: HeaderName = HeaderName::from_static("lambda-runtime-function-error-body");
const RESPONSE_MODE: HeaderName = HeaderName::from_static("lambda-runtime-function-response-mode");

pub(super) type Answer = Response<Full<Bytes>>;

/// Serves one connection to its end.
pub(super) async fn connection(
    stream: Box<dyn RuntimeApiStream>,
    sandbox: WeakSandbox,
    random: SharedRandom,
) {
    let service = service_fn(move |request| {
        let (sandbox, random) = (sandbox.clone(), Arc::clone(&random));
        async move { Ok::<_, Infallible>(answer(request, &sandbox, &random).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        debug!(%error, "runtime api connection ended");
    }
}

async fn answer(
    request: Request<Incoming>,
    sandbox: &WeakSandbox,
    random: &SharedRandom,
) -> Answer {
    let (head, body) = request.into_parts();
    let Some(path) = head.uri.path().strip_prefix(PREFIX) else {
        // Boxed: its state would make that of every runtime's call larger.
        return Box::pin(extensions::answer(&head, body, sandbox, random)).await;
    };
    let mut parts = path.split('/');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("invocation"), Some("next"), None, None) if head.method == Method::GET => {
            next(sandbox).await
        }
        (Some("invocation"), Some(id), Some("response"), None) if head.method == Method::POST => {
            response(sandbox, id, &head.headers, body).await
        }
        (Some("invocation"), Some(id), Some("error"), None) if head.method == Method::POST => {
            invocation_error(sandbox, id, body).await
        }
        (Some("init"), Some("error"), None, None) if head.method == Method::POST => {
            init_error(sandbox, &head.headers, body).await
        }
        (Some("invocation"), Some("next"), None, None)
        | (Some("invocation"), Some(_), Some("response" | "error"), None)
        | (Some("init"), Some("error"), None, None) => status(StatusCode::METHOD_NOT_ALLOWED),
        _ => not_found(),
    }
}

/// "Runtime sends this HTTP request when it's ready to receive and process an event."
async fn next(sandbox: &WeakSandbox) -> Answer {
    let ask = || sandbox.upgrade().map(|s| (s.on_next(), s.stream()));
    let receiver = match ask() {
        Some((Ok(receiver), _)) => receiver,
        Some((Err(Refusal::InvalidState), Some(stream))) => {
            stream.cancelled().await;
            match ask() {
                Some((Ok(receiver), _)) => receiver,
                Some((Err(refusal), _)) => return refused(refusal),
                None => return gone(),
            }
        }
        Some((Err(refusal), None | Some(_))) => return refused(refusal),
        None => return gone(),
    };
    // The sandbox is not held meanwhile: an idle one may be dropped.
    match receiver.await {
        Ok(delivery) => event(delivery),
        Err(_) => gone(),
    }
}

fn event(delivery: Delivery) -> Answer {
    let mut response = Response::new(Full::new(delivery.payload));
    let headers = response.headers_mut();
    headers.reserve(8);
    // awslambdaric 4.2.2 dies silently without it.
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(DEADLINE_MS, delivery.deadline_unix_ms.into());
    let mut put = |name: HeaderName, text: String| {
        if !text.is_empty()
            && let Ok(value) = HeaderValue::try_from(text)
        {
            headers.insert(name, value);
        }
    };
    put(REQUEST_ID, delivery.request_id);
    put(INVOKED_ARN, delivery.invoked_arn);
    put(TRACE_ID, delivery.trace_id);
    if !delivery.client_context.is_empty()
        && let Ok(json) = STANDARD.decode(&delivery.client_context)
        && let Ok(value) = HeaderValue::from_bytes(&json)
    {
        headers.insert(CLIENT_CONTEXT, value);
    }
    response
}

/// What was read of a body.
pub(super) enum Read {
    Whole(Bytes, Option<HeaderMap>),
    TooLarge,
    Broken,
}

/// Reads a body of at most `limit` bytes; the rest of a larger one is read and thrown away, within reason.
pub(super) async fn read(mut body: Incoming, limit: usize) -> Read {
    let mut first = Bytes::new();
    let mut more = BytesMut::new();
    let mut length = 0;
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Read::Broken;
        };
        match frame.into_data() {
            Ok(data) => {
                length += data.len();
                if length > DISCARD_MAX_BYTES {
                    return Read::TooLarge;
                }
                if length > limit {
                    more = BytesMut::new();
                } else if first.is_empty() {
                    first = data;
                } else {
                    more.extend_from_slice(&data);
                }
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    if length > limit {
        return Read::TooLarge;
    }
    if more.is_empty() {
        return Read::Whole(first, trailers);
    }
    let mut whole = BytesMut::with_capacity(length);
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&more);
    Read::Whole(whole.freeze(), trailers)
}

/// Nothing is kept of a body that answers no running invocation: it is the worker's memory, not the function's.
fn limit_for(sandbox: &WeakSandbox, id: &str) -> usize {
    let is_current = |sandbox: &Sandbox| sandbox.check_current(id).is_ok();
    if sandbox
        .upgrade()
        .is_some_and(|sandbox| is_current(&sandbox))
    {
        SYNC_RESPONSE_MAX_BYTES
    } else {
        0
    }
}

/// The response, also one sent in streaming mode, which is collected for a caller that takes it whole.
async fn response(sandbox: &WeakSandbox, id: &str, headers: &HeaderMap, body: Incoming) -> Answer {
    if headers.get(&RESPONSE_MODE).map(HeaderValue::as_bytes) == Some(b"streaming") {
        let Some(begun) = sandbox.upgrade().map(|sandbox| sandbox.begin_stream(id)) else {
            return gone();
        };
        // Boxed: few responses are streamed, and its state would make that of all larger.
        return match begun {
            Ok((_guard, Some(parts))) => {
                Box::pin(streamed(sandbox, id, headers, body, parts)).await
            }
            Ok((_guard, None)) => Box::pin(whole(sandbox, id, headers, body)).await,
            Err(refusal) => refused(refusal),
        };
    }
    whole(sandbox, id, headers, body).await
}

async fn whole(sandbox: &WeakSandbox, id: &str, headers: &HeaderMap, body: Incoming) -> Answer {
    let posted = match read(body, limit_for(sandbox, id)).await {
        Read::Whole(_, Some(trailers)) if trailers.contains_key(&ERROR_TYPE) => {
            Posted::Error(trailing_error(&trailers))
        }
        Read::Whole(payload, _) if !headers.contains_key(&ERROR_TYPE) => Posted::Response(payload),
        Read::Whole(payload, _) => Posted::Error(payload),
        Read::TooLarge => Posted::TooLarge(SYNC_RESPONSE_MAX_BYTES),
        Read::Broken => return truncated(),
    };
    post(sandbox, id, posted).await
}

/// "Streaming is enabled by setting the Lambda-Runtime-Function-Response-Mode HTTP header to streaming"; an error that
/// comes after a part of the response is in the trailers.
async fn streamed(
    sandbox: &WeakSandbox,
    id: &str,
    headers: &HeaderMap,
    mut body: Incoming,
    parts: Parts,
) -> Answer {
    let mut content_type = header(headers, &CONTENT_TYPE);
    let mut length = 0;
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return truncated();
        };
        match frame.into_data() {
            Ok(data) => {
                length += data.len();
                if length > STREAMED_RESPONSE_MAX_BYTES {
                    let posted = Posted::TooLarge(STREAMED_RESPONSE_MAX_BYTES);
                    return post(sandbox, id, posted).await;
                }
                parts.send(data, &content_type).await;
                content_type.clear();
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    let posted = match trailers {
        Some(trailers) if trailers.contains_key(&ERROR_TYPE) => {
            Posted::Error(trailing_error(&trailers))
        }
        _ => Posted::Streamed(length),
    };
    post(sandbox, id, posted).await
}

/// The error document after a streamed response: "base64-encoded" in the trailers.
fn trailing_error(trailers: &HeaderMap) -> Bytes {
    let body = STANDARD.decode(header(trailers, &ERROR_BODY));
    match body {
        Ok(body) if !body.is_empty() => body.into(),
        _ => fault::document(
            &header(trailers, &ERROR_TYPE),
            "The response stream ended with an error".into(),
        ),
    }
}

async fn invocation_error(sandbox: &WeakSandbox, id: &str, body: Incoming) -> Answer {
    match read(body, limit_for(sandbox, id)).await {
        Read::Whole(payload, _) => post(sandbox, id, Posted::Error(payload)).await,
        Read::TooLarge => post(sandbox, id, Posted::TooLarge(SYNC_RESPONSE_MAX_BYTES)).await,
        Read::Broken => truncated(),
    }
}

async fn post(sandbox: &WeakSandbox, id: &str, posted: Posted) -> Answer {
    let Some(sandbox) = sandbox.upgrade() else {
        return gone();
    };
    match sandbox.check_current(id) {
        // Telemetry has what was printed before it is told of the end.
        Ok(is_wanted) if is_wanted || sandbox.log.hub().is_some() => sandbox.log.drain().await,
        Ok(_) => {}
        Err(refusal) => return refused(refusal),
    }
    let limit = match posted {
        Posted::TooLarge(limit) => Some(limit),
        _ => None,
    };
    match (sandbox.on_posted(id, posted), limit) {
        (Ok(()), Some(limit)) => document(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            format!("Exceeded maximum allowed payload size ({limit} bytes)."),
        ),
        (Ok(()), None) => accepted(),
        (Err(refusal), _) => refused(refusal),
    }
}

#[derive(Deserialize)]
struct PostedError {
    #[serde(rename = "errorType")]
    error_type: Option<String>,
}

/// "If the runtime encounters an error during initialization, it posts an error message to the init error path."
async fn init_error(sandbox: &WeakSandbox, headers: &HeaderMap, body: Incoming) -> Answer {
    let document = match read(body, INIT_ERROR_MAX_BYTES).await {
        Read::Whole(document, _) => document,
        Read::TooLarge => return status(StatusCode::PAYLOAD_TOO_LARGE),
        Read::Broken => return truncated(),
    };
    let Some(sandbox) = sandbox.upgrade() else {
        return gone();
    };
    let from_document = || {
        let posted: Option<PostedError> = serde_json::from_slice(&document).ok();
        posted.and_then(|posted| posted.error_type)
    };
    let error_type = from_document()
        .or_else(|| Some(header(headers, &ERROR_TYPE)))
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| "Runtime.Unknown".to_owned());
    sandbox.log.drain().await;
    let fault = Fault::InitError {
        document,
        error_type,
    };
    match sandbox.on_init_fault(fault) {
        Ok(()) => accepted(),
        Err(refusal) => refused(refusal),
    }
}

pub(super) fn header(headers: &HeaderMap, name: &HeaderName) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

pub(super) fn json(code: StatusCode, body: Bytes) -> Answer {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = code;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

pub(super) fn document(code: StatusCode, error_type: &str, message: String) -> Answer {
    json(code, fault::document(error_type, message))
}

pub(super) fn accepted() -> Answer {
    json(
        StatusCode::ACCEPTED,
        Bytes::from_static(b"{\"status\":\"OK\"}\n"),
    )
}

fn refused(refusal: Refusal) -> Answer {
    match refusal {
        Refusal::InvalidState => document(
            StatusCode::FORBIDDEN,
            "InvalidStateTransition",
            "Transition is not allowed".to_owned(),
        ),
        Refusal::InvalidRequestId => document(
            StatusCode::BAD_REQUEST,
            "InvalidRequestID",
            "Invalid request ID".to_owned(),
        ),
    }
}

fn truncated() -> Answer {
    document(
        StatusCode::BAD_REQUEST,
        "TruncatedResponse",
        "Response truncated".to_owned(),
    )
}

pub(super) fn gone() -> Answer {
    status(StatusCode::GONE)
}

pub(super) fn not_found() -> Answer {
    status(StatusCode::NOT_FOUND)
}

pub(super) fn status(code: StatusCode) -> Answer {
    let mut response = Response::new(Full::default());
    *response.status_mut() = code;
    response
}
