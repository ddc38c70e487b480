//! What functions print: the tail of an invocation, a bounded ring per version, and the `hearth::function` target of
//! tracing. The platform's own lines are formatted by `hearth_core::report`.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Poll;

use hearth_core::report::LogTail;
use hearth_core::telemetry::subscription::Category;
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};
use tokio::sync::{mpsc, oneshot};
use tracing::debug;

use crate::telemetry::Hub;

/// Bytes of log kept per version. Ours: enough to see what went wrong last.
const RING_BYTES: usize = 64 * 1024;

/// Size of one read of a function's output, bytes; a pipe's capacity.
const READ_BYTES: usize = 64 * 1024;

/// Drain requests that may wait: one invocation runs at a time.
const DRAINS: usize = 4;

/// A drain has read so much at most: the most a pipe holds for an unprivileged process
/// (`/proc/sys/fs/pipe-max-size`), so that what was printed before it is in the log.
const DRAIN_BYTES: usize = 1 << 20;

/// The last log lines of one version on this worker, over all its sandboxes.
#[derive(Debug)]
pub(crate) struct VersionLog {
    name: String,
    ring: Mutex<LogTail>,
}

impl VersionLog {
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            ring: Mutex::new(LogTail::with_capacity(RING_BYTES)),
        }
    }

    /// What is kept, oldest first.
    pub(crate) fn read(&self) -> Vec<u8> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.clone().into_bytes()
    }

    fn push(&self, bytes: &[u8]) {
        if tracing::enabled!(target: "hearth::function", tracing::Level::DEBUG) {
            for line in bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
                debug!(target: "hearth::function", version = %self.name, "{}", String::from_utf8_lossy(line));
            }
        }
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.push(bytes);
    }
}

/// What the reader of an output finds.
#[derive(Debug)]
enum Event {
    Output,
    /// Nothing to read, and somebody waits for that.
    Drained,
    End,
}

/// The log of one sandbox: everything goes to the version's ring, the end of it is kept for `LogType=Tail`.
#[derive(Debug)]
pub(crate) struct SandboxLog {
    version: Arc<VersionLog>,
    tail: Mutex<LogTail>,
    drains: mpsc::Sender<oneshot::Sender<()>>,
    requests: Mutex<Option<mpsc::Receiver<oneshot::Sender<()>>>>,
    /// Where the sandbox has extensions.
    hub: OnceLock<Hub>,
}

impl SandboxLog {
    pub(crate) fn new(version: Arc<VersionLog>) -> Self {
        let (drains, requests) = mpsc::channel(DRAINS);
        Self {
            version,
            tail: Mutex::default(),
            drains,
            requests: Mutex::new(Some(requests)),
            hub: OnceLock::new(),
        }
    }

    /// From now on telemetry hears what is printed.
    pub(crate) fn attach(&self, hub: Hub) {
        // A sandbox has one for life.
        let _ = self.hub.set(hub);
    }

    /// Where telemetry goes, if there may be anybody to take it.
    pub(crate) fn hub(&self) -> Option<&Hub> {
        self.hub.get()
    }

    /// Appends what somebody inside has printed.
    fn push_output(&self, category: Category, bytes: &[u8]) {
        self.push(bytes);
        if let Some(hub) = self.hub() {
            hub.printed(category, bytes);
        }
    }

    /// Reads the output of the extensions until it ends.
    pub(crate) async fn read_extensions(&self, mut output: impl AsyncRead + Unpin) {
        let mut buffer = vec![0; READ_BYTES];
        while let Ok(length) = output.read(&mut buffer).await {
            if length == 0 {
                return;
            }
            self.push_output(Category::Extension, &buffer[..length]);
        }
    }

    fn tail(&self) -> MutexGuard<'_, LogTail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends output or a line of the platform.
    pub(crate) fn push(&self, bytes: &[u8]) {
        self.tail().push(bytes);
        self.version.push(bytes);
    }

    /// Forgets the tail of the invocation before.
    pub(crate) fn begin_tail(&self) {
        *self.tail() = LogTail::default();
    }

    /// The tail so far; a new one begins.
    pub(crate) fn take_tail(&self) -> Vec<u8> {
        std::mem::take(&mut *self.tail()).into_bytes()
    }

    /// Waits until what the function has printed by now is in the log.
    pub(crate) async fn drain(&self) {
        let (done, drained) = oneshot::channel();
        if self.drains.send(done).await.is_ok() {
            // An error means that the output has ended, so everything was read.
            let _ = drained.await;
        }
    }

    /// Reads the output until it ends.
    pub(crate) async fn read_from(&self, mut output: impl AsyncRead + Unpin) {
        let requests = self
            .requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(mut requests) = requests else {
            return;
        };
        let mut buffer = vec![0; READ_BYTES];
        // A drain that waits, and what may still be read before it is answered: a function that never stops printing
        // must not keep its own invocation from ending.
        let mut draining: Option<(oneshot::Sender<()>, usize)> = None;
        loop {
            let mut read = ReadBuf::new(&mut buffer);
            let event = std::future::poll_fn(|cx| {
                if draining.is_none()
                    && let Poll::Ready(Some(done)) = requests.poll_recv(cx)
                {
                    draining = Some((done, DRAIN_BYTES));
                }
                match std::pin::Pin::new(&mut output).poll_read(cx, &mut read) {
                    Poll::Ready(Ok(())) if !read.filled().is_empty() => Poll::Ready(Event::Output),
                    Poll::Ready(_) => Poll::Ready(Event::End),
                    Poll::Pending if draining.is_some() => Poll::Ready(Event::Drained),
                    Poll::Pending => Poll::Pending,
                }
            })
            .await;
            match event {
                Event::Output => self.push_output(Category::Function, read.filled()),
                Event::Drained => drop(draining.take().map(|(done, _)| done.send(()))),
                Event::End => return,
            }
            let length = read.filled().len();
            draining = draining.and_then(|(done, left)| match left.checked_sub(length) {
                Some(left) => Some((done, left)),
                None => {
                    // Nobody may be waiting any more.
                    let _ = done.send(());
                    None
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Always has more to say.
    struct Flood;

    impl AsyncRead for Flood {
        fn poll_read(
            self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<std::io::Result<()>> {
            let budget = std::task::ready!(tokio::task::coop::poll_proceed(cx));
            budget.made_progress();
            buffer.put_slice(&[b'x'; READ_BYTES]);
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_drain_ends_although_the_output_does_not() {
        let log = SandboxLog::new(Arc::new(VersionLog::new("f".to_owned())));
        tokio::select! {
            () = log.read_from(Flood) => unreachable!("the flood has no end"),
            () = log.drain() => {}
        }
        assert!(log.version.read().len() <= RING_BYTES);
    }

    #[tokio::test]
    async fn what_was_printed_before_a_drain_is_in_the_log_after_it() {
        use tokio::io::AsyncWriteExt;
        let log = SandboxLog::new(Arc::new(VersionLog::new("f".to_owned())));
        let (mut function, output) = tokio::io::duplex(READ_BYTES);
        let printed = async {
            function.write_all(b"before").await.unwrap();
            log.drain().await;
            log.take_tail()
        };
        tokio::select! {
            () = log.read_from(output) => unreachable!("the output is open"),
            tail = printed => assert_eq!(tail, b"before"),
        }
    }
}
