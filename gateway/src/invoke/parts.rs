//! The parts of a streamed response on their way from a worker's stream to the client. A client that reads slowly holds
//! back its own function: the worker may send as much again as was passed on.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::task::AtomicWaker;
use hearth_proto::internal::v1::{self as pb, Credit, gateway_frame::Frame};

use super::outbox::Outbox;

/// Bytes of one response that may be between the function and the client. Ours: some frames, so that neither waits for
/// the other on a network of data centres.
pub(crate) const WINDOW_BYTES: u32 = 1 << 20;

/// A part of a response.
#[derive(Debug)]
struct Part {
    payload: Bytes,
    /// Who sent it, and the invocation's number there.
    outbox: Arc<Outbox>,
    id: u64,
}

#[derive(Debug, Default)]
struct State {
    parts: VecDeque<Part>,
    /// Bytes in them; a window at most.
    held: usize,
    /// Of the response, told with its first part.
    content_type: String,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    waker: AtomicWaker,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the parts of one response go.
#[derive(Clone, Debug)]
pub(crate) struct Sink(Arc<Shared>);

/// Where they come out.
#[derive(Debug)]
pub(crate) struct Source {
    shared: Arc<Shared>,
    /// Bytes that were passed on and the worker was not told of.
    owed: u32,
}

/// A way for the parts of one response; it holds a window at most.
pub(crate) fn channel() -> (Sink, Source) {
    let shared = Arc::new(Shared::default());
    let sink = Sink(Arc::clone(&shared));
    (sink, Source { shared, owed: 0 })
}

impl Sink {
    /// A part came. False when the worker sent more than it may.
    pub(super) fn push(&self, part: pb::Part, outbox: &Arc<Outbox>) -> bool {
        let pb::Part {
            id,
            payload,
            content_type,
        } = part;
        let mut state = self.0.state();
        if !content_type.is_empty() {
            state.content_type = content_type;
        }
        if payload.is_empty() || state.held + payload.len() > WINDOW_BYTES as usize {
            return payload.is_empty();
        }
        state.held += payload.len();
        state.parts.push_back(Part {
            payload,
            outbox: Arc::clone(outbox),
            id,
        });
        drop(state);
        self.0.waker.wake();
        true
    }
}

impl Source {
    /// The next part. Nothing more is to be had for now, or ever: pending.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        self.shared.waker.register(cx.waker());
        let mut state = self.shared.state();
        let Some(part) = state.parts.pop_front() else {
            return Poll::Pending;
        };
        state.held -= part.payload.len();
        drop(state);
        self.passed_on(&part);
        Poll::Ready(part.payload)
    }

    /// What the worker said the response is; empty before its first part.
    pub(crate) fn content_type(&self) -> String {
        self.shared.state().content_type.clone()
    }

    fn passed_on(&mut self, part: &Part) {
        self.owed += u32::try_from(part.payload.len()).unwrap_or(u32::MAX);
        if self.owed < WINDOW_BYTES / 2 {
            return;
        }
        let credit = Credit {
            id: part.id,
            bytes: self.owed,
        };
        // What a worker does not take now it is told with the next part.
        if part.outbox.push(Frame::Credit(credit)).is_ok() {
            self.owed = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use futures::{FutureExt as _, StreamExt as _};
    use hearth_proto::internal::v1::GatewayHello;

    use super::*;

    #[test]
    fn a_worker_is_told_what_was_passed_on_and_may_not_send_more_than_the_window() {
        let outbox = Arc::new(Outbox::default());
        let mut frames = outbox.open(Frame::Hello(GatewayHello::default()));
        frames.next().now_or_never();
        let (sink, mut source) = channel();
        let half = WINDOW_BYTES as usize / 2;
        let mut context = Context::from_waker(Waker::noop());
        let payload = Bytes::from(vec![7; half]);
        let part = |payload| pb::Part {
            id: 3,
            payload,
            content_type: "text/plain".into(),
        };
        assert!(sink.push(part(payload.slice(1..)), &outbox));
        assert!(sink.push(part(payload.clone()), &outbox));
        assert!(source.poll_next(&mut context).is_ready());
        assert!(frames.next().now_or_never().is_none(), "too little to tell");
        assert!(source.poll_next(&mut context).is_ready());
        assert!(source.poll_next(&mut context).is_pending());
        assert_eq!(source.content_type(), "text/plain");
        let told = frames.next().now_or_never().unwrap().unwrap().frame;
        let bytes = WINDOW_BYTES - 1;
        assert_eq!(told, Some(Frame::Credit(Credit { id: 3, bytes })));
        assert!(sink.push(part(payload.clone()), &outbox));
        assert!(sink.push(part(payload.clone()), &outbox));
        assert!(!sink.push(part(payload.slice(..1)), &outbox));
    }
}
