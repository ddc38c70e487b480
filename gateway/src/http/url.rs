//! What a request at a URL of a function goes through, in this order:
//!
//! 1. The URL, by host or path; one that there is not is told so.
//! 2. Preflights of browsers, which nobody signs and no function sees.
//! 3. The signature of the head, or the policy where nobody signs: strangers cannot make the gateway read a body.
//! 4. The body, within its limits; then its digest, and the policy for who signed.
//! 5. The event, on the one way by which invocations run.
//! 6. What the function answered, whole or in parts; the URL's own headers on it and on every refusal.
//!
//! The rules are `crate::url`'s.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::future::poll_fn;
use hearth_aws_api::error::ErrorCode;
use hearth_aws_api::{ApiError, encode_error};
use hearth_core::attached::{InvokeMode, UrlAuth};
use hearth_core::limits::SYNC_REQUEST_MAX_BYTES;
use http::header::{EXPECT, HOST, HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Either;
use hyper::body::{Body, Frame, Incoming};

use super::audit::Seen;
use super::body::{self, Limits};
use super::service::{Handled, Refusal, ResponseBody, full};
use super::trace;
use crate::app::App;
use crate::auth::Service;
use crate::caller::Caller;
use crate::catalog::Url;
use crate::invoke::InvokeCall;
use crate::lambda::invoke::{Invocation, prepare, run};
use crate::lambda::running::Running;
use crate::lambda::too_busy;
use crate::url::access::{self, Rules};
use crate::url::address::{self, Address};
use crate::url::cors;
use crate::url::event::{self, Asked, Signer};
use crate::url::prelude::{self, Prelude};
use crate::url::reply::{Head, Malformed, Reply};

/// What metrics and traces call these requests; AWS's name of the permission.
pub(super) const OPERATION: &str = "InvokeFunctionUrl";
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
/// AWS's texts.
const FORBIDDEN: &str = "Forbidden. For troubleshooting Function URL authorization issues, see: https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html";
const UNKNOWN: &[u8] = b"{\"Message\":null}";
const FAILED: &[u8] = b"Internal Server Error";

/// The URL that a request is for, if it is for one.
pub(super) fn address<B>(app: &App, request: &Request<B>) -> Option<Address> {
    let header = request.headers().get(HOST).and_then(|h| h.to_str().ok());
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    let host = header.or(authority).unwrap_or_default();
    let (region, domain) = (&app.catalog.region, &app.options.url_domain);
    address::of(request.uri(), host, region, domain)
}

/// A request whose body is not read yet.
struct Call<'a> {
    app: &'a Arc<App>,
    url: &'a Url,
    address: &'a Address,
    peer: IpAddr,
    parts: &'a Parts,
    request_id: &'a str,
}

/// Answers one request.
pub(super) async fn handle(
    app: &Arc<App>,
    (address, peer): (Address, IpAddr),
    request: Request<Incoming>,
    request_id: &str,
) -> Handled {
    let (mut parts, mut body) = request.into_parts();
    trace::ensure_trace_id(&mut parts.headers, &app.seams);
    tracing::Span::current().record("operation", OPERATION);
    let (mut response, must_close) = match app.catalog.url(&address.id) {
        None => {
            let is_sent = !parts.headers.contains_key(EXPECT);
            let is_read = is_sent && body::drain(&mut body).await;
            (unknown(request_id), !is_read)
        }
        Some(url) => {
            let call = Call {
                app,
                url: &url,
                address: &address,
                peer,
                parts: &parts,
                request_id,
            };
            call.answer(&mut body).await
        }
    };
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, id);
    }
    if let Some(trace) = parts.headers.get(&trace::TRACE_ID) {
        headers.insert(trace::TRACE_ID, trace.clone());
    }
    Handled {
        response,
        seen: Seen {
            service: "lambda",
            operation: Some(OPERATION),
            caller: None,
        },
        must_close,
    }
}

impl Call<'_> {
    /// The answer, and whether bytes of the body may still come.
    async fn answer(&self, body: &mut Incoming) -> (Response<ResponseBody>, bool) {
        let (cors, asked) = (self.url.config.cors.as_ref(), &self.parts.headers);
        let told = cors.and_then(|cors| cors::preflight(cors, &self.parts.method, asked));
        if let Some(told) = told {
            return (preflight(told), !body::drain(body).await);
        }
        let (mut response, must_close) = match self.invoked(body).await {
            Ok(response) => (response, false),
            Err(refusal) => refusal.answer(body, self.request_id).await,
        };
        if let Some(cors) = cors {
            cors::apply(cors, asked, response.headers_mut());
        }
        (response, must_close)
    }

    async fn invoked(&self, body: &mut Incoming) -> Result<Response<ResponseBody>, Refusal> {
        // A client that asks before it sends its body is not told to go on for a request that is refused already.
        let asks_first = self.parts.headers.contains_key(EXPECT);
        let unread = |error| Refusal {
            error,
            drain: !asks_first,
        };
        let claimed = match self.url.config.auth {
            UrlAuth::None => self.check_may_call(None).map(|()| None),
            UrlAuth::AwsIam => {
                let begun = self
                    .app
                    .auth
                    .begin(Service::Lambda, self.parts, self.app.unix_ms());
                begun.map(Some).map_err(unsigned)
            }
        };
        let claimed = claimed.map_err(unread)?;
        let limits = Limits {
            max_bytes: SYNC_REQUEST_MAX_BYTES,
            idle: self.app.options.body_idle_timeout.0,
            total: self.app.options.body_timeout.0,
        };
        let read = body::read(body, limits, &self.app.body_memory).await;
        let mut held = read.map_err(|error| Refusal {
            error: error.answer(format!(
                "Request must be smaller than {SYNC_REQUEST_MAX_BYTES} bytes for the InvokeFunction operation"
            )),
            drain: error.has_rest(),
        })?;
        let signer = match claimed {
            None => None,
            Some(claimed) => {
                let access_key_id = claimed.access_key_id().to_owned();
                let mut caller = claimed.finish(&held.bytes)?;
                caller.source = Some(self.peer);
                self.check_may_call(Some(&caller))?;
                Some(Signer {
                    caller,
                    access_key_id,
                })
            }
        };
        let event = self.event(&held.bytes, signer.as_ref());
        // Its memory stays accounted for: the event takes its place.
        held.bytes = Bytes::new();
        let ready = self.ready(event).await?;
        Ok(match self.url.config.mode {
            InvokeMode::Buffered => buffered(self.app, ready).await?,
            InvokeMode::ResponseStream => streamed(self.app, ready).await?,
        })
    }

    /// `caller` is who signed.
    fn check_may_call(&self, caller: Option<&Caller>) -> Result<(), ApiError> {
        let app = self.app;
        let rules = Rules {
            region: &app.catalog.region,
            both: app.options.url_needs_invoke,
            directory: &app.iam.directory,
            unix_ms: app.unix_ms(),
        };
        if access::may_call(self.url, caller, &rules) {
            return Ok(());
        }
        Err(ApiError::access_denied(FORBIDDEN))
    }

    fn event(&self, body: &[u8], signer: Option<&Signer>) -> Bytes {
        event::document(&Asked {
            address: self.address,
            parts: self.parts,
            body,
            request_id: self.request_id,
            source: self.peer,
            unix_ms: self.app.unix_ms(),
            signer,
        })
    }

    /// As the function's owner: whether the caller may was decided.
    async fn ready(&self, payload: Bytes) -> Result<InvokeCall, ApiError> {
        let function = &self.url.function;
        let owner = Caller::root(function.account.clone());
        let qualifier = function.qualifier.as_ref().map(ToString::to_string);
        let invocation = Invocation {
            caller: &owner,
            request_id: self.request_id,
            function_name: function.name.as_str(),
            qualifier: qualifier.as_deref(),
            payload,
            client_context: String::new(),
            log_tail: false,
            headers: &self.parts.headers,
        };
        prepare(self.app, invocation).await
    }
}

/// Who does not sign at all is told where to read on.
fn unsigned(error: ApiError) -> ApiError {
    match error.code() {
        ErrorCode::MissingAuthenticationTokenException => ApiError::access_denied(FORBIDDEN),
        _ => error,
    }
}

async fn buffered(app: &App, ready: InvokeCall) -> Result<Response<ResponseBody>, ApiError> {
    let outcome = run(app, ready).await?;
    if !outcome.function_error.is_empty() {
        return Ok(failed());
    }
    Ok(match Reply::of(outcome.payload) {
        Ok(Reply { head, body }) => respond(head, full(body)),
        Err(Malformed) => failed(),
    })
}

/// Answers once the head is known.
async fn streamed(app: &Arc<App>, ready: InvokeCall) -> Result<Response<ResponseBody>, ApiError> {
    let place = app.requests.take(1).ok_or_else(too_busy)?;
    let mut running = Running::begin(Arc::clone(app), ready, place);
    poll_fn(|cx| running.poll_begun(cx)).await?;
    if !running.has_part() {
        // A function that does not stream answers all at once, and what it answers is not looked at: recorded from AWS.
        return Ok(match running.take_end() {
            Some(Ok(outcome)) if outcome.function_error.is_empty() => {
                let Reply { head, body } = Reply::plain(outcome.payload);
                respond(head, full(body))
            }
            Some(_) | None => failed(),
        });
    }
    let content_type = running.content_type();
    let begun = if prelude::is_announced(&content_type) {
        head_of(&mut running).await
    } else {
        Some((Head::of_type(&content_type, prelude::UNNAMED), Bytes::new()))
    };
    Ok(match begun {
        Some((head, first)) => {
            let body = Parted { running, first };
            respond(head, Either::Right(tonic::body::Body::new(body)))
        }
        None => failed(),
    })
}

/// The head, and what came of the body with it. `None`: there is none.
async fn head_of(running: &mut Running) -> Option<(Head, Bytes)> {
    let mut prelude = Prelude::default();
    while let Some(part) = poll_fn(|cx| running.poll_part(cx)).await {
        match prelude.push(&part) {
            Ok(None) => {}
            Ok(Some(begun)) => return Some(begun),
            Err(Malformed) => return None,
        }
    }
    None
}

/// A body while the function makes it. Dropping it cancels the invocation.
struct Parted {
    running: Running,
    /// What came with the head.
    first: Bytes,
}

/// "Lambda terminates the connection": a client must not take what it has for all there is.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the function failed in the middle of its response")]
struct CutOff;

impl Body for Parted {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        let this = &mut *self;
        if !this.first.is_empty() {
            let first = std::mem::take(&mut this.first);
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if let Some(part) = ready!(this.running.poll_part(cx)) {
            return Poll::Ready(Some(Ok(Frame::data(part))));
        }
        Poll::Ready(match this.running.take_end() {
            None => None,
            Some(Ok(outcome)) if outcome.function_error.is_empty() => None,
            Some(_) => Some(Err(CutOff)),
        })
    }
}

fn respond(head: Head, body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    response
}

/// The function failed, or what it answered is no response.
fn failed() -> Response<ResponseBody> {
    let head = Head {
        status: StatusCode::BAD_GATEWAY,
        ..Head::ok("application/json")
    };
    respond(head, full(Bytes::from_static(FAILED)))
}

fn preflight(told: HeaderMap) -> Response<ResponseBody> {
    let mut head = Head::ok("application/json");
    head.headers.extend(told);
    respond(head, full(Bytes::new()))
}

/// There is no such URL.
fn unknown(request_id: &str) -> Response<ResponseBody> {
    let denied = encode_error(&ApiError::access_denied(""), request_id);
    denied.map(|_| full(Bytes::from_static(UNKNOWN)))
}
