//! A sandbox promised to one invocation, and the promise taken back when it is not used.

use std::sync::Arc;

use super::super::worker::Worker;
use super::Line;

/// A sandbox promised to an invocation. Dropped unused, the promise is taken back.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) worker: Arc<Worker>,
    pub(super) stream: u64,
    pub(super) line: Option<Arc<Line>>,
}

impl Slot {
    /// The row that counts it.
    pub(crate) fn row(&self) -> u64 {
        self.stream
    }

    /// The invocation was sent: the worker's reports count it from now on.
    pub(crate) fn used(mut self) {
        self.line = None;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(line) = self.line.take() {
            line.take_back(self.stream);
        }
    }
}

/// A worker picked under the lock, before it becomes a [`Slot`].
pub(super) struct Picked {
    pub(super) worker: Arc<Worker>,
    pub(super) stream: u64,
}

impl Picked {
    pub(super) fn promise(self, line: &Arc<Line>) -> Slot {
        Slot {
            worker: self.worker,
            stream: self.stream,
            line: Some(Arc::clone(line)),
        }
    }
}
