//! What a request to IAM or STS goes through: the signature of the head, the body within its limit, its digest, then the handler.

use std::net::IpAddr;
use std::sync::Arc;

use hearth_aws_api::protocol::query::{QueryError, encode_error};
use hearth_core::limits::QUERY_REQUEST_MAX_BYTES;
use http::header::EXPECT;
use http::request::Parts;
use hyper::body::Incoming;
use tracing::debug;

use super::audit::Seen;
use super::body::{self, Limits};
use super::service::{Handled, full};
use crate::app::App;
use crate::iam::{self, Claim, Served};

pub(super) async fn handle(
    app: &Arc<App>,
    (claim, peer): (Claim, IpAddr),
    parts: &Parts,
    body: &mut Incoming,
    request_id: &str,
) -> Handled {
    // A client that asks before it sends its body is not told to go on for a request that is refused already.
    let asks_first = parts.headers.contains_key(EXPECT);
    let refused = |error: QueryError| encode_error(claim.service(), &error, request_id).map(full);
    let claimed = match app.auth.begin(claim.signed(), parts, app.unix_ms()) {
        Ok(claimed) => claimed,
        Err(error) => {
            debug!(message = error.message(), "request refused");
            let is_read = !asks_first && body::drain(body).await;
            return Handled {
                response: refused(error.into()),
                seen: seen(claim),
                must_close: !is_read,
            };
        }
    };
    let limits = Limits {
        max_bytes: QUERY_REQUEST_MAX_BYTES,
        idle: app.options.body_idle_timeout.0,
        total: app.options.body_timeout.0,
    };
    let held = match body::read(body, limits, &app.body_memory).await {
        Ok(held) => held,
        Err(error) => {
            let is_read = error.has_rest() && body::drain(body).await;
            let text = format!("Request must be smaller than {QUERY_REQUEST_MAX_BYTES} bytes");
            return Handled {
                response: refused(error.answer(text).into()),
                seen: seen(claim),
                must_close: !is_read,
            };
        }
    };
    let mut seen = seen(claim);
    let response = match claimed.finish(&held.bytes) {
        Ok(mut caller) => {
            caller.source = Some(peer);
            seen.by(&caller);
            let serving = iam::serve(app, claim, caller, &held.bytes, request_id);
            let served: Served = Box::pin(serving).await;
            seen.operation = served.operation;
            served.response
        }
        Err(error) => encode_error(claim.service(), &error.into(), request_id),
    };
    Handled {
        response: response.map(full),
        seen,
        must_close: false,
    }
}

fn seen(claim: Claim) -> Seen {
    Seen {
        service: claim.service().name,
        ..Seen::default()
    }
}
