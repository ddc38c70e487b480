//! Counts changes of load, so that each gateway's stream finds what it has not told yet. What load is told how is in
//! [`crate::invoke`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::watch;

use super::gates::Gate;
use super::recent::Recent;
use super::version::VersionPool;

/// A counter of changes with a bell, and what changed. Whoever changes something under a lock names it and calls
/// [`Changes::next`] under the same lock; a [`Reader`] looks under that lock too, so that nothing is between its looks.
#[derive(Debug)]
pub(crate) struct Changes {
    count: AtomicU64,
    pub(super) versions: Recent<VersionPool>,
    pub(super) gates: Recent<Gate>,
    /// Somebody waits for the bell. Under load nobody does, and an invocation's changes cost a counter each.
    armed: AtomicBool,
    bell: watch::Sender<()>,
    hurry: watch::Sender<()>,
}

impl Default for Changes {
    fn default() -> Self {
        Self {
            count: AtomicU64::new(1),
            versions: Recent::default(),
            gates: Recent::default(),
            armed: AtomicBool::new(false),
            bell: watch::Sender::new(()),
            hurry: watch::Sender::new(()),
        }
    }
}

impl Changes {
    /// A change was just made, and named; rings.
    pub(crate) fn next(&self) {
        // Sequentially consistent, as in `Reader::changed`: either this sees that it waits, or it sees the count.
        self.count.fetch_add(1, Ordering::SeqCst);
        if self.armed.load(Ordering::SeqCst) && self.armed.swap(false, Ordering::SeqCst) {
            self.bell.send_replace(());
        }
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
            versions_seen: None,
            gates_seen: None,
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
    versions_seen: Option<u64>,
    gates_seen: Option<u64>,
}

/// What changed since a reader looked last; `None` is everything.
#[derive(Debug, Default)]
pub(crate) struct News {
    pub(crate) versions: Option<Vec<Arc<VersionPool>>>,
    pub(crate) gates: Option<Vec<Arc<Gate>>>,
}

impl Reader {
    /// Begins a look at what has changed.
    pub(crate) fn turn(&mut self) -> News {
        self.hurry.mark_unchanged();
        self.mark = self.changes.count.load(Ordering::SeqCst);
        News {
            versions: self.changes.versions.since(&mut self.versions_seen),
            gates: self.changes.gates.since(&mut self.gates_seen),
        }
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
        let (of_a, of_b) = (a.turn(), b.turn());
        assert!(of_a.versions.is_none(), "everything is new at first");
        assert!(of_b.gates.is_none());
        let mut waiting = Box::pin(a.changed());
        assert_eq!(waiting.as_mut().now_or_never(), None);
        changes.next();
        assert_eq!(waiting.as_mut().now_or_never(), Some(()));
        drop(waiting);
        assert_eq!(b.changed().now_or_never(), Some(()), "it did not wait then");
        a.turn();
        b.turn();
        assert_eq!(a.changed().now_or_never(), None);
        assert_eq!(b.changed().now_or_never(), None);
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
