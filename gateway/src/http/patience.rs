//! Cuts off a client that takes too long over the head of a request (slow loris). A connection that is merely idle
//! between requests is left alone until hyper's own, longer limit. Bodies have limits of their own (`body`).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// Counts heads read and answers given: odd while a request is being served, whose head is complete then.
#[derive(Clone, Debug, Default)]
pub(super) struct InRequest(Arc<AtomicU64>);

impl InRequest {
    /// A head was read.
    pub(super) fn begin(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// The answer was given; the next bytes are the next head's.
    pub(super) fn end(&self) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// What an HTTP/2 client sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How the connection began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// So many bytes of HTTP/2's preface were read and nothing else.
    Unknown {
        matched: usize,
    },
    Http1,
    /// Streams have heads at any time; HTTP/2 has its own keep-alive.
    Http2,
}

/// A connection with the limit.
#[derive(Debug)]
pub(super) struct Patient<S> {
    inner: S,
    in_request: InRequest,
    limit: Duration,
    protocol: Protocol,
    /// The count when this was last polled.
    seen: u64,
    /// Runs while a head is incomplete.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    pub(super) fn new(inner: S, limit: Duration, in_request: InRequest) -> Self {
        Self {
            inner,
            in_request,
            limit,
            protocol: Protocol::Unknown { matched: 0 },
            seen: 0,
            deadline: Some(Box::pin(tokio::time::sleep(limit))),
        }
    }

    fn on_read(&mut self, bytes: &[u8]) {
        if let Protocol::Unknown { matched } = self.protocol {
            let expected = &PREFACE[matched..];
            let length = expected.len().min(bytes.len());
            self.protocol = if bytes[..length] != expected[..length] {
                Protocol::Http1
            } else if length == expected.len() {
                Protocol::Http2
            } else {
                Protocol::Unknown {
                    matched: matched + length,
                }
            };
        }
        if self.protocol == Protocol::Http2 {
            self.deadline = None;
        } else if self.seen.is_multiple_of(2) && self.deadline.is_none() {
            self.deadline = Some(Box::pin(tokio::time::sleep(self.limit)));
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let count = this.in_request.0.load(Relaxed);
        if count != this.seen {
            this.seen = count;
            this.deadline = None;
        }
        let before = buffer.filled().len();
        if let Poll::Ready(result) = Pin::new(&mut this.inner).poll_read(cx, buffer) {
            this.on_read(&buffer.filled()[before..]);
            return Poll::Ready(result);
        }
        if let Some(deadline) = &mut this.deadline {
            ready!(deadline.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
