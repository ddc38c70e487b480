//! Parts made beforehand by a thread of their own, so that a cold start finds them ready.

use std::fmt;
use std::io;

use tokio::sync::{Mutex, mpsc};

/// A bounded store of ready parts. The thread that fills it ends when this is dropped.
pub(crate) struct Prefab<T> {
    ready: Mutex<mpsc::Receiver<io::Result<T>>>,
}

impl<T> fmt::Debug for Prefab<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prefab").finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Prefab<T> {
    /// Keeps `size` parts ready, and one in hand. A failure is stored like a part: whoever takes it learns of it, and
    /// the next attempt follows, so failures cost no more than the demand.
    pub(crate) fn start(
        name: &str,
        size: usize,
        mut make: impl FnMut() -> io::Result<T> + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, ready) = mpsc::channel(size);
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || while sender.blocking_send(make()).is_ok() {})?;
        Ok(Self {
            ready: Mutex::new(ready),
        })
    }

    /// A ready part, or the next one made.
    pub(crate) async fn take(&self) -> io::Result<T> {
        let gone = || Err(io::Error::other("the thread that makes it is gone"));
        self.ready.lock().await.recv().await.unwrap_or_else(gone)
    }
}
