//! An invocation whose response is taken while the function makes it, for whoever passes the parts on.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::future::BoxFuture;
use hearth_aws_api::ApiError;

use super::invoke::run;
use crate::app::App;
use crate::budget::Share;
use crate::invoke::parts::{self, Source};
use crate::invoke::{InvokeCall, InvokeOutcome};

/// How an invocation ended.
pub(crate) type End = Result<InvokeOutcome, ApiError>;

/// See the module's text. Dropping it cancels the invocation.
pub(crate) struct Running {
    /// Until it has ended.
    run: Option<BoxFuture<'static, End>>,
    parts: Source,
    /// A part that was taken out already.
    first: Option<Bytes>,
    /// How it ended, until that is told.
    end: Option<End>,
    /// It counts as a request in flight.
    _place: Share,
}

impl Running {
    pub(crate) fn begin(app: Arc<App>, mut call: InvokeCall, place: Share) -> Self {
        let (sink, source) = parts::channel();
        call.parts = Some(sink);
        Self {
            run: Some(Box::pin(async move { run(&app, call).await })),
            parts: source,
            first: None,
            end: None,
            _place: place,
        }
    }

    /// Ready when there is something to answer with: a part, or the end. What failed before is an error.
    pub(crate) fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ApiError>> {
        self.first = ready!(self.poll_part(cx));
        match self.end.take() {
            Some(Err(error)) if self.first.is_none() => Poll::Ready(Err(error)),
            end => {
                self.end = end;
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Whether a part has come, of those that [`Self::poll_begun`] waits for.
    pub(crate) fn has_part(&self) -> bool {
        self.first.is_some()
    }

    /// What the function says its response is, known with the first part.
    pub(crate) fn content_type(&self) -> String {
        self.parts.content_type()
    }

    /// The next part; `None` when there will be no more, and how it ended is known.
    pub(crate) fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        if let Poll::Ready(part) = self.parts.poll_next(cx) {
            return Poll::Ready(Some(part));
        }
        if let Some(run) = &mut self.run {
            self.end = Some(ready!(run.as_mut().poll(cx)));
            self.run = None;
            // All parts came before the end, but maybe after they were looked for.
            if let Poll::Ready(part) = self.parts.poll_next(cx) {
                return Poll::Ready(Some(part));
            }
        }
        Poll::Ready(None)
    }

    /// How it ended, once.
    pub(crate) fn take_end(&mut self) -> Option<End> {
        self.end.take()
    }
}
