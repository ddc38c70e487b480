//! Who may wait in a line. The rules are `core::{overload, rate}`.

use std::sync::Arc;

use hearth_core::ids::MonotonicMs;
use hearth_core::overload::{WAIT_MAX_MS, in_time, may_wait};

use super::super::worker::Worker;
use super::{InvokeError, Line, State};

/// Memory that is short for less than this is not overload.
const SATURATED_AFTER_MS: u64 = 500;

/// When those who come too fast for the sandboxes may try again, seconds.
const RETRY_AFTER_S: u32 = 1;

impl Line {
    /// A worker has begun so many sandboxes of the version; those that other gateways asked for count here too.
    pub(crate) fn on_begun(&self, worker: &Arc<Worker>, begun: u64, now: MonotonicMs) {
        let mut state = self.state();
        let row = state.row(worker);
        let others = row.others_begun.on_report(begun, row.own_begun);
        if others > 0 {
            state.terms.scale_out.on_others(others, now);
        }
    }
}

impl State {
    /// Why one who comes now cannot wait.
    pub(super) fn refusal(
        &mut self,
        deadline: MonotonicMs,
        now: MonotonicMs,
    ) -> Option<InvokeError> {
        if self.terms.quota.is_refused(now) && self.queue.len() >= self.permits_free() {
            let reason = self.terms.quota.concurrency_reason().to_owned();
            return Some(InvokeError::Throttled { reason });
        }
        if self.is_saturated(now) && self.queue.len() >= self.may_wait(deadline, now) {
            return Some(self.too_many());
        }
        None
    }

    pub(super) fn too_many(&self) -> InvokeError {
        InvokeError::Limited {
            reason: self.terms.quota.rate_reason(),
            retry_after_s: RETRY_AFTER_S,
        }
    }

    fn may_wait(&mut self, deadline: MonotonicMs, now: MonotonicMs) -> usize {
        let served = self.served.per_second(now);
        let most = may_wait(self.under_way(), served, WAIT_MAX_MS);
        most.min(in_time(served, deadline.since(now)))
    }

    /// Refuses those for whom there will be no sandbox in time: none can be added, or not so many at once.
    pub(super) fn shed(&mut self, now: MonotonicMs) {
        if self.is_saturated(now) {
            let kept = self.may_wait(MonotonicMs(u64::MAX), now);
            let error = self.too_many();
            self.refuse_beyond(kept, || error.clone());
        }
        if !self.terms.scale_out.is_open(now) {
            // Each sandbox there is, or is being made, may have one waiting for it.
            let kept = usize::try_from(self.under_way()).unwrap_or(usize::MAX);
            let reason = self.terms.quota.concurrency_reason();
            self.refuse_beyond(kept, || InvokeError::Limited {
                reason,
                retry_after_s: RETRY_AFTER_S,
            });
        }
    }

    /// Sandboxes at work, free or being made.
    fn under_way(&self) -> u32 {
        let of = |row: &super::Row| row.busy + row.reported + row.starting + row.asked;
        self.rows.values().map(of).fold(0, u32::saturating_add)
    }

    fn permits_free(&self) -> usize {
        let pools = &self.terms.pools;
        let free = self
            .rows
            .values()
            .map(|row| row.worker.tables.permits_free(pools));
        usize::try_from(free.fold(0, u32::saturating_add)).unwrap_or(usize::MAX)
    }

    /// So many sandboxes could not be placed. Where a worker has memory for one more, now or when it has a start to
    /// spare, or has not said how it stands, there is hope.
    pub(super) fn note_saturation(&mut self, unplaced: u32, memory_mib: u32, now: MonotonicMs) {
        let mut open = self
            .rows
            .values()
            .filter(|row| row.worker.tables.is_connected() && !row.worker.tables.is_draining())
            .peekable();
        let has_workers = open.peek().is_some();
        let has_hope = open.any(|row| {
            let room = row.room(memory_mib);
            let memory_left = room.free_memory_mib.saturating_add(room.idle_memory_mib);
            memory_left >= u64::from(memory_mib) || !row.worker.tables.is_reported()
        });
        self.saturated = if unplaced > 0 && has_workers && !has_hope {
            self.saturated.or(Some(now))
        } else {
            None
        };
    }

    /// Memory is also short for a moment while idle sandboxes give way.
    fn is_saturated(&self, now: MonotonicMs) -> bool {
        self.saturated
            .is_some_and(|since| now.since(since) >= SATURATED_AFTER_MS)
    }
}
