//! What a request to AWS's API goes through, in this order:
//!
//! 1. Requests at URLs of functions (`url`) are told by their host or path; gRPC goes to its own services, by its content type.
//! 2. A request id; everything after answers with it.
//! 3. The limit on requests in flight: a flood is refused before it costs anything.
//! 4. Signed links to code, which carry their own proof; requests to IAM and STS, which go their own way (`query`).
//! 5. The signature of the head: strangers cannot make the gateway read a body.
//! 6. The route: it says how large the body may be.
//! 7. The body, within its limits, then its digest.
//! 8. Decoding, validation and the handler (`lambda::dispatch`).
//! 9. Metrics, the line of the audit log, and the connection closed if a body was left unread.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use hearth_aws_api::lambda::{self, Operation, Route};
use hearth_aws_api::{ApiError, encode_error};
use hearth_core::limits::{CONTROL_REQUEST_MAX_BYTES, SYNC_REQUEST_MAX_BYTES};
use http::header::{CONNECTION, CONTENT_TYPE, EXPECT, HeaderValue};
use http::request::Parts;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use tonic::service::Routes;
use tower::Service;
use tracing::{Instrument, debug, debug_span, info_span};

use super::audit::{self, Seen};
use super::body::{self, Limits};
use super::{query, trace, url};
use crate::app::App;
use crate::auth::Service as Signed;
use crate::lambda::invoke_stream::Answered;
use crate::lambda::{Call, dispatch, too_busy};
use crate::links::{self, BadLink};
use crate::metrics::{RequestLabels, seconds};

/// A body that is there, or one that comes: of gRPC, or an answer that is streamed. One that ends in an error cuts the connection.
pub(super) type ResponseBody = Either<Full<Bytes>, tonic::body::Body>;

/// Answers one request.
pub(super) async fn serve(
    app: Arc<App>,
    mut grpc: Routes,
    request: Request<Incoming>,
    peer: IpAddr,
) -> Result<Response<ResponseBody>, Infallible> {
    let at_url = url::address(&app, &request);
    if at_url.is_none() && is_grpc(&request) {
        return Ok(grpc.call(request).await?.map(Either::Right));
    }
    let started = app.now();
    let request_id = app.seams.random.uuid();
    let Some(_place) = app.requests.take(1) else {
        app.metrics.shed.inc();
        return Ok(encode_error(&too_busy(), &request_id).map(full));
    };
    app.metrics.in_flight.inc();
    let version = request.version();
    let span = info_span!("request", request_id, operation = tracing::field::Empty);
    let parent = request.headers().get("traceparent");
    if let Some(parent) = parent.and_then(|value| value.to_str().ok()) {
        hearth_node::telemetry::set_parent(&span, parent);
    }
    let mut handled = async {
        match at_url {
            // Boxed: few requests are for URLs, and its state would make that of all larger.
            Some(address) => {
                Box::pin(url::handle(&app, (address, peer), request, &request_id)).await
            }
            None => handle(&app, peer, request, &request_id).await,
        }
    }
    .instrument(span)
    .await;
    app.metrics.in_flight.dec();
    let status = handled.response.status().as_u16();
    audit::note(&handled.seen, peer, status, &request_id);
    let labels = RequestLabels {
        operation: handled.seen.operation.unwrap_or("unknown"),
        status,
    };
    app.metrics.requests.get_or_create(&labels).inc();
    app.metrics
        .request_seconds
        .observe(seconds(app.now().since(started)));
    if (handled.must_close || app.drain.is_on()) && version < Version::HTTP_2 {
        handled
            .response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(handled.response)
}

pub(super) fn full(body: Bytes) -> ResponseBody {
    Either::Left(Full::new(body))
}

fn is_grpc(request: &Request<Incoming>) -> bool {
    let content_type = request.headers().get(CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// An answer and what the connection has to know of it.
pub(super) struct Handled {
    pub(super) response: Response<ResponseBody>,
    pub(super) seen: Seen,
    /// Bytes of this request's body may still come.
    pub(super) must_close: bool,
}

async fn handle(
    app: &Arc<App>,
    peer: IpAddr,
    request: Request<Incoming>,
    request_id: &str,
) -> Handled {
    let (mut parts, mut body) = request.into_parts();
    if parts.uri.path().starts_with(links::PREFIX) {
        return Handled {
            response: code(app, &parts, request_id).await.map(full),
            seen: Seen {
                service: "code",
                ..Seen::default()
            },
            must_close: false,
        };
    }
    trace::ensure_trace_id(&mut parts.headers, &app.seams);
    if let Some(claim) = crate::iam::claim(&parts) {
        return query::handle(app, (claim, peer), &parts, &mut body, request_id).await;
    }
    let mut seen = Seen {
        service: "lambda",
        ..Seen::default()
    };
    match answer(app, (peer, parts), &mut body, request_id, &mut seen).await {
        Ok(response) => Handled {
            response,
            seen,
            must_close: false,
        },
        Err(refusal) => {
            let (response, must_close) = refusal.answer(&mut body, request_id).await;
            Handled {
                response,
                seen,
                must_close,
            }
        }
    }
}

/// An error, and whether the rest of the body is worth reading for its sake.
pub(super) struct Refusal {
    pub(super) error: ApiError,
    pub(super) drain: bool,
}

impl Refusal {
    /// The answer, and whether bytes of the body may still come.
    pub(super) async fn answer(
        self,
        body: &mut Incoming,
        request_id: &str,
    ) -> (Response<ResponseBody>, bool) {
        let Self { error, drain } = self;
        debug!(
            code = error.code().shape().code,
            message = error.message(),
            "request refused"
        );
        if let Some(source) = std::error::Error::source(&error) {
            debug!(source = %source, "cause of the refusal");
        }
        let is_read = drain && body::drain(body).await;
        (encode_error(&error, request_id).map(full), !is_read)
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self { error, drain: true }
    }
}

async fn answer(
    app: &Arc<App>,
    (peer, parts): (IpAddr, Parts),
    body: &mut Incoming,
    request_id: &str,
    seen: &mut Seen,
) -> Result<Response<ResponseBody>, Refusal> {
    // A client that asks before it sends its body is not told to go on for a request that is refused already.
    let asks_first = parts.headers.contains_key(EXPECT);
    let unread = |error| Refusal {
        error,
        drain: !asks_first,
    };
    let claimed = debug_span!("auth")
        .in_scope(|| app.auth.begin(Signed::Lambda, &parts, app.unix_ms()))
        .map_err(unread)?;
    let route = debug_span!("route")
        .in_scope(|| lambda::route(&parts.method, &parts.uri))
        .map_err(unread)?;
    seen.operation = Some(route.operation.name());
    tracing::Span::current().record("operation", route.operation.name());
    let limits = limits(app, &route);
    let held = body::read(body, limits, &app.body_memory)
        .await
        .map_err(|error| Refusal {
            error: error.answer(too_large(&route)),
            drain: error.has_rest(),
        })?;
    let mut caller = claimed.finish(&held.bytes)?;
    caller.source = Some(peer);
    seen.by(&caller);
    let call = Call {
        caller,
        request_id: request_id.to_owned(),
        route,
        parts,
        body: held.bytes.clone(),
    };
    crate::lambda::authority::check(app, &call)?;
    // Boxed: the largest handler would otherwise make every request's future large.
    Ok(match Box::pin(dispatch(app, &call)).await? {
        Answered::Whole(response) => response.map(full),
        Answered::Streamed(response) => {
            response.map(|stream| Either::Right(tonic::body::Body::new(stream)))
        }
    })
}

fn limits(app: &App, route: &Route) -> Limits {
    Limits {
        max_bytes: if is_invoke(route.operation) {
            SYNC_REQUEST_MAX_BYTES
        } else {
            CONTROL_REQUEST_MAX_BYTES
        },
        idle: app.options.body_idle_timeout.0,
        total: app.options.body_timeout.0,
    }
}

fn is_invoke(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::Invoke | Operation::InvokeAsync | Operation::InvokeWithResponseStream
    )
}

/// AWS's text; the invoke operation is called by its permission there.
fn too_large(route: &Route) -> String {
    let (most, name) = if is_invoke(route.operation) {
        (SYNC_REQUEST_MAX_BYTES, "InvokeFunction")
    } else {
        (CONTROL_REQUEST_MAX_BYTES, route.operation.name())
    };
    format!("Request must be smaller than {most} bytes for the {name} operation")
}

/// A function's code, to whoever has a signed link.
async fn code(app: &App, parts: &Parts, request_id: &str) -> Response<Bytes> {
    let digest = match app.links.check(&parts.uri, app.unix_ms()) {
        Ok(digest) => digest,
        Err(BadLink::Malformed) => {
            return encode_error(
                &ApiError::access_denied("The link is not one of this cluster."),
                request_id,
            );
        }
        Err(BadLink::Expired) => {
            return encode_error(
                &ApiError::access_denied("The link has expired."),
                request_id,
            );
        }
    };
    match app.blobs.get(&digest).await {
        Ok(content) => {
            let mut response = Response::new(content);
            *response.status_mut() = StatusCode::OK;
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/zip"));
            response
        }
        Err(error) => encode_error(&crate::lambda::errors::api_error(error), request_id),
    }
}
