//! What functions print: the tail of an invocation, a bounded ring per version, and the `hearth::function` target of
//! tracing. The platform's own lines are formatted by `hearth_core::report`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use hearth_core::report::LogTail;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::{mpsc, oneshot};
use tracing::debug;

/// Bytes of log kept per version. Ours: enough to see what went wrong last.
const RING_BYTES: usize = 64 * 1024;

/// Size of one read of a function's output, bytes; a pipe's capacity.
const READ_BYTES: usize = 64 * 1024;

/// Drain requests that may wait: one invocation runs at a time.
const DRAINS: usize = 4;

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

/// The log of one sandbox: everything goes to the version's ring, the end of it is kept for `LogType=Tail`.
#[derive(Debug)]
pub(crate) struct SandboxLog {
    version: Arc<VersionLog>,
    tail: Mutex<LogTail>,
    drains: mpsc::Sender<oneshot::Sender<()>>,
    requests: Mutex<Option<mpsc::Receiver<oneshot::Sender<()>>>>,
}

impl SandboxLog {
    pub(crate) fn new(version: Arc<VersionLog>) -> Self {
        let (drains, requests) = mpsc::channel(DRAINS);
        Self {
            version,
            tail: Mutex::default(),
            drains,
            requests: Mutex::new(Some(requests)),
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
        loop {
            let mut read = ReadBuf::new(&mut buffer);
            let event = std::future::poll_fn(|cx| {
                // Output first: a drain is answered only when there is nothing to read.
                match std::pin::Pin::new(&mut output).poll_read(cx, &mut read) {
                    Poll::Ready(Ok(())) if !read.filled().is_empty() => {
                        return Poll::Ready(Some(None));
                    }
                    Poll::Ready(_) => return Poll::Ready(None),
                    Poll::Pending => {}
                }
                requests.poll_recv(cx).map(|request| request.map(Some))
            })
            .await;
            match event {
                Some(None) => self.push(read.filled()),
                Some(Some(done)) => drop(done.send(())),
                None => return,
            }
        }
    }
}
