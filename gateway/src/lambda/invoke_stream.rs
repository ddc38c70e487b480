//! InvokeWithResponseStream: the response as an event stream, each part of it when the function has made it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::future::{BoxFuture, poll_fn};
use hearth_aws_api::lambda::{
    InvokeWithResponseStreamCompleteEvent as Complete, InvokeWithResponseStreamRequest,
};
use hearth_aws_api::{ApiError, event_stream};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use hyper::body::{Body, Frame};

use super::errors::unsupported;
use super::invoke::{EXECUTED_VERSION, Invocation, insert, prepare, respond, run};
use super::{Call, too_busy};
use crate::app::App;
use crate::budget::Share;
use crate::invoke::parts::{self, Source};
use crate::invoke::{InvokeCall, InvokeOutcome};

type Running = BoxFuture<'static, Result<InvokeOutcome, ApiError>>;

/// The answer while the invocation runs. Dropping it cancels the invocation.
pub(crate) struct EventStream {
    /// Until it has ended.
    running: Option<Running>,
    parts: Source,
    /// A part that was taken out already.
    first: Option<Bytes>,
    /// How it ended, until that is told.
    ended: Option<Result<InvokeOutcome, ApiError>>,
    log_tail: bool,
    /// It counts as a request in flight.
    _place: Share,
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
    let mut stream = EventStream::begin(Arc::clone(app), ready, place);
    poll_fn(|cx| stream.poll_begun(cx)).await?;
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
    fn begin(app: Arc<App>, mut call: InvokeCall, place: Share) -> Self {
        let (sink, source) = parts::channel();
        let log_tail = call.log_tail;
        call.parts = Some(sink);
        Self {
            running: Some(Box::pin(async move { run(&app, call).await })),
            parts: source,
            first: None,
            ended: None,
            log_tail,
            _place: place,
        }
    }

    /// Ready when there is something to answer with.
    fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ApiError>> {
        self.first = std::task::ready!(self.poll_part(cx));
        match self.ended.take() {
            Some(Err(error)) if self.first.is_none() => Poll::Ready(Err(error)),
            ended => {
                self.ended = ended;
                Poll::Ready(Ok(()))
            }
        }
    }

    /// The next part; `None` when there will be no more, and how it ended is known.
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        if let Poll::Ready(part) = self.parts.poll_next(cx) {
            return Poll::Ready(Some(part));
        }
        if let Some(running) = &mut self.running {
            self.ended = Some(std::task::ready!(running.as_mut().poll(cx)));
            self.running = None;
            // All parts came before the end, but maybe after they were looked for.
            if let Poll::Ready(part) = self.parts.poll_next(cx) {
                return Poll::Ready(Some(part));
            }
        }
        Poll::Ready(None)
    }

    /// The messages that tell how it ended.
    fn last_messages(&self, ended: Result<InvokeOutcome, ApiError>) -> Bytes {
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
        let message = match std::task::ready!(this.poll_part(cx)) {
            Some(part) => Some(chunk(&part)),
            None => this.ended.take().map(|ended| this.last_messages(ended)),
        };
        Poll::Ready(message.map(|bytes| Ok(Frame::data(bytes))))
    }
}
