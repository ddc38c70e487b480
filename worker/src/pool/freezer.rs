//! The idle sandboxes of a worker that are to be frozen soon, in one list with one alarm: each is frozen the same time after
//! it fell idle, so the list is in order by itself. One that serves again and again stays on it, and costs nothing between
//! two looks. What a freeze is, is the sandbox's.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hearth_node::clock::SharedClock;
use tokio::sync::Notify;

use super::sandbox::WeakSandbox;

/// Those that are due within this time are frozen together. Ours: short against the time until a freeze.
const TOGETHER: Duration = Duration::from_millis(1);

/// Freezes without giving way to other tasks: each is a write to the kernel.
const AT_A_TIME: usize = 16;

/// See the module's text. A sandbox is on the list once at most, so that their number bounds it.
#[derive(Debug, Default)]
pub(crate) struct Freezer {
    list: Mutex<VecDeque<(u64, WeakSandbox)>>,
    first: Notify,
}

impl Freezer {
    fn list(&self) -> MutexGuard<'_, VecDeque<(u64, WeakSandbox)>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sandbox is to be looked at then.
    pub(super) fn push(&self, at_us: u64, sandbox: WeakSandbox) {
        let mut list = self.list();
        list.push_back((at_us, sandbox));
        let is_first = list.len() == 1;
        drop(list);
        if is_first {
            self.first.notify_one();
        }
    }

    /// Freezes what is due, for ever.
    pub(crate) async fn run(&self, clock: &SharedClock) {
        loop {
            let Some(at_us) = self.list().front().map(|(at_us, _)| *at_us) else {
                self.first.notified().await;
                continue;
            };
            let wait = at_us.saturating_sub(clock.monotonic_us());
            tokio::time::sleep(Duration::from_micros(wait) + TOGETHER).await;
            self.freeze_due(clock).await;
        }
    }

    async fn freeze_due(&self, clock: &SharedClock) {
        for turn in 1_usize.. {
            let Some(sandbox) = self.pop_due(clock.monotonic_us()) else {
                return;
            };
            let again = sandbox
                .upgrade()
                .and_then(|sandbox| sandbox.freeze_or_wait());
            if let Some(at_us) = again {
                self.push(at_us, sandbox);
            }
            if turn.is_multiple_of(AT_A_TIME) {
                tokio::task::yield_now().await;
            }
        }
    }

    fn pop_due(&self, now_us: u64) -> Option<WeakSandbox> {
        let first = self.list().pop_front_if(|(at_us, _)| *at_us <= now_us);
        first.map(|(_, sandbox)| sandbox)
    }
}
