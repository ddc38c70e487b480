//! Counts changes of load, so that each gateway's stream finds what it has not told yet. What load is told how is in
//! [`crate::invoke`].

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// A counter of changes with a bell. Whoever changes something marks it with [`Changes::next`]; a reader takes
/// [`Changes::mark`] *before* it looks, tells all that is marked at or after its previous mark, and keeps the new one.
#[derive(Debug)]
pub(crate) struct Changes {
    count: AtomicU64,
    bell: watch::Sender<()>,
}

impl Default for Changes {
    fn default() -> Self {
        Self {
            count: AtomicU64::new(1),
            bell: watch::Sender::new(()),
        }
    }
}

impl Changes {
    /// The mark of a change that was just made; rings.
    pub(crate) fn next(&self) -> u64 {
        let mark = self.count.fetch_add(1, Ordering::AcqRel);
        if self.bell.receiver_count() > 0 {
            self.bell.send_replace(());
        }
        mark
    }

    /// Changes made from now on have at least this mark.
    pub(crate) fn mark(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Rings after each change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.bell.subscribe()
    }
}
