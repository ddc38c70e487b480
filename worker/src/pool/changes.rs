//! Counts changes of load, so that each gateway's stream finds what it has not told yet. What load is told how is in
//! [`crate::invoke`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::watch;

/// A counter of changes with a bell. Whoever changes something under a lock calls [`Changes::next`] and keeps the mark
/// under the same lock; a [`Reader`] looks under that lock too, so that nothing is between its marks.
#[derive(Debug)]
pub(crate) struct Changes {
    count: AtomicU64,
    /// Somebody waits for the bell. Under load nobody does, and an invocation's changes cost a counter each.
    armed: AtomicBool,
    bell: watch::Sender<()>,
    hurry: watch::Sender<()>,
}

impl Default for Changes {
    fn default() -> Self {
        Self {
            count: AtomicU64::new(1),
            armed: AtomicBool::new(false),
            bell: watch::Sender::new(()),
            hurry: watch::Sender::new(()),
        }
    }
}

impl Changes {
    /// The mark of a change that was just made; rings.
    pub(crate) fn next(&self) -> u64 {
        // Sequentially consistent, as in `Reader::changed`: either this sees that it waits, or it sees the count.
        let mark = self.count.fetch_add(1, Ordering::SeqCst);
        if self.armed.load(Ordering::SeqCst) && self.armed.swap(false, Ordering::SeqCst) {
            self.bell.send_replace(());
        }
        mark
    }

    /// Somebody waits for what was just changed: it is to be told at once.
    pub(crate) fn hurry(&self) {
        self.hurry.send_replace(());
    }

    /// A reader to whom everything is new.
    pub(crate) fn reader(self: &Arc<Self>) -> Reader {
        Reader {
            bell: self.bell.subscribe(),
            hurry: self.hurry.subscribe(),
            mark: 0,
            changes: Arc::clone(self),
        }
    }
}

/// One who tells changes on.
#[derive(Debug)]
pub(crate) struct Reader {
    changes: Arc<Changes>,
    bell: watch::Receiver<()>,
    hurry: watch::Receiver<()>,
    mark: u64,
}

impl Reader {
    /// Begins a look at what has changed: all that is marked at or after the mark given is new.
    pub(crate) fn turn(&mut self) -> u64 {
        self.hurry.mark_unchanged();
        let now = self.changes.count.load(Ordering::SeqCst);
        std::mem::replace(&mut self.mark, now)
    }

    /// Waits for a change since the last look.
    pub(crate) async fn changed(&mut self) {
        self.bell.mark_unchanged();
        self.changes.armed.store(true, Ordering::SeqCst);
        if self.changes.count.load(Ordering::SeqCst) == self.mark {
            // No error: the sender lives in `changes`.
            let _ = self.bell.changed().await;
        }
    }

    /// Waits for a change since the last look that is to be told at once.
    pub(crate) async fn hurried(&mut self) {
        let _ = self.hurry.changed().await;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn every_reader_hears_of_a_change_once() {
        let changes = Arc::new(Changes::default());
        let (mut a, mut b) = (changes.reader(), changes.reader());
        assert_eq!((a.turn(), b.turn()), (0, 0), "everything is new at first");
        let mut waiting = Box::pin(a.changed());
        assert_eq!(waiting.as_mut().now_or_never(), None);
        let mark = changes.next();
        assert_eq!(waiting.as_mut().now_or_never(), Some(()));
        drop(waiting);
        assert_eq!(b.changed().now_or_never(), Some(()), "it did not wait then");
        assert!(a.turn() <= mark && b.turn() <= mark);
        assert_eq!(a.changed().now_or_never(), None);
        assert_eq!(b.changed().now_or_never(), None);
        assert!(a.turn() > mark);
    }

    #[test]
    fn hurry_is_over_with_the_next_look() {
        let changes = Arc::new(Changes::default());
        let mut reader = changes.reader();
        changes.hurry();
        assert_eq!(reader.hurried().now_or_never(), Some(()));
        changes.hurry();
        reader.turn();
        assert_eq!(reader.hurried().now_or_never(), None);
    }
}
