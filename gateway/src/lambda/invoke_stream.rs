//! InvokeWithResponseStream: the response as an event stream, each part of it when the function has made it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::future::poll_fn;
use hearth_aws_api::lambda::{
    InvokeWithResponseStreamCompleteEvent as Complete, InvokeWithResponseStreamRequest,
};
use hearth_aws_api::{ApiError, event_stream};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use hyper::body::{Body, Frame};

use super::errors::unsupported;
use super::invoke::{EXECUTED_VERSION, Invocation, insert, prepare, respond};
use super::running::{End, Running};
use super::{Call, too_busy};
use crate::app::App;
use crate::invoke::InvokeOutcome;

/// The answer while the invocation runs. Dropping it cancels the invocation.
pub(crate) struct EventStream {
    running: Running,
    log_tail: bool,
}

/// An answer, there or on its way.
pub(crate) enum Answered {
    Whole(Response<Bytes>),
    Streamed(Response<EventStream>),
}

/// Answers once the first part is there or the invocation has ended; what failed before it is an error as for Invoke.
pub(crate) async fn handle(app: &Arc<App>, call: &Call) -> Result<Answered, ApiError> {
    let input: InvokeWithResponseStreamRequest = call.input()?;
    if input.tenant_id.is_some() {
        return Err(unsupported("tenants"));
    }
    let invocation = Invocation {
        caller: &call.caller,
        request_id: &call.request_id,
        function_name: input.function_name.as_deref().unwrap_or_default(),
        qualifier: input.qualifier.as_deref(),
        payload: input.payload.unwrap_or_default(),
        client_context: input.client_context.unwrap_or_default(),
        log_tail: input.log_type.as_deref() == Some("Tail"),
        headers: &call.parts.headers,
    };
    let ready = prepare(app, invocation).await?;
    if input.invocation_type.as_deref() == Some("DryRun") {
        let empty = respond(StatusCode::NO_CONTENT, &call.request_id, Bytes::new());
        return Ok(Answered::Whole(empty));
    }
    let version = ready.entry.key.version.to_string();
    let place = app.requests.take(1).ok_or_else(too_busy)?;
    let log_tail = ready.log_tail;
    let mut running = Running::begin(Arc::clone(app), ready, place);
    poll_fn(|cx| running.poll_begun(cx)).await?;
    let stream = EventStream { running, log_tail };
    let mut response = respond(StatusCode::OK, &call.request_id, stream);
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static(event_stream::CONTENT_TYPE),
    );
    insert(headers, EXECUTED_VERSION, &version);
    Ok(Answered::Streamed(response))
}

impl EventStream {
    /// The messages that tell how it ended.
    fn last_messages(&self, ended: End) -> Bytes {
        let mut complete = Complete::default();
        let mut messages = Vec::new();
        match ended {
            Ok(outcome) if outcome.function_error.is_empty() => {
                // A function that does not stream answers all at once.
                if !outcome.payload.is_empty() {
                    messages.extend_from_slice(&chunk(&outcome.payload));
                }
                complete.log_result = self.log(&outcome);
            }
            Ok(outcome) => {
                complete.log_result = self.log(&outcome);
                complete.error_details =
                    Some(String::from_utf8_lossy(&outcome.payload).into_owned());
                complete.error_code = Some(outcome.function_error);
            }
            Err(error) => {
                complete.error_code = Some(error.code().shape().code.to_owned());
                complete.error_details = Some(error.message().to_owned());
            }
        }
        messages.extend_from_slice(&event_stream::json_event("InvokeComplete", &complete));
        messages.into()
    }

    fn log(&self, outcome: &InvokeOutcome) -> Option<String> {
        self.log_tail.then(|| STANDARD.encode(&outcome.log_tail))
    }
}

fn chunk(part: &[u8]) -> Bytes {
    event_stream::bytes_event("PayloadChunk", part)
}

impl Body for EventStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        let message = match std::task::ready!(this.running.poll_part(cx)) {
            Some(part) => Some(chunk(&part)),
            None => {
                let ended = this.running.take_end();
                ended.map(|ended| this.last_messages(ended))
            }
        };
        Poll::Ready(message.map(|bytes| Ok(Frame::data(bytes))))
    }
}
