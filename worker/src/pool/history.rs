//! What a version's pool remembers of its invocations, for how many sandboxes to keep and which to give up. The rules
//! are `hearth_core::scaling`.

use hearth_core::ids::MonotonicMs;
use hearth_core::pool::PoolCounts;
use hearth_core::scaling::{Arrivals, Concurrency, HORIZON_MS, Keep, keep, prewarm_due, worth};

/// What a cold start is taken to cost before one was measured, microseconds.
const COLD_START_US: u64 = 200_000;

/// See the module's text. About 2 KB.
#[derive(Debug)]
pub(super) struct History {
    arrivals: Arrivals,
    concurrency: Concurrency,
    /// As of the last look.
    wanted: u32,
    cold_start_us: u64,
    /// One was warmed for the invocation that is expected next.
    is_warmed: bool,
}

impl Default for History {
    fn default() -> Self {
        Self {
            arrivals: Arrivals::default(),
            concurrency: Concurrency::default(),
            wanted: 0,
            cold_start_us: COLD_START_US,
            is_warmed: false,
        }
    }
}

impl History {
    /// An invocation came.
    pub(super) fn on_arrival(&mut self, now: MonotonicMs) {
        self.arrivals.on_arrival(now);
        self.is_warmed = false;
    }

    /// So many are at work now.
    pub(super) fn on_busy(&mut self, busy: u32, now: MonotonicMs) {
        self.concurrency.on_busy(busy, now);
    }

    /// A moving average over about four.
    pub(super) fn on_cold_start(&mut self, took_us: u64) {
        self.cold_start_us = (3 * self.cold_start_us + took_us) / 4;
    }

    /// Once a second: what to keep.
    pub(super) fn keep(
        &mut self,
        counts: PoolCounts,
        idle_limit_ms: u64,
        now: MonotonicMs,
    ) -> Keep {
        self.concurrency.on_busy(counts.busy, now);
        let have = counts.busy.saturating_add(counts.idle);
        self.wanted = self.concurrency.wanted(have);
        let mut keep_alive = self.arrivals.keep_alive(idle_limit_ms);
        // One that was warmed has not been used; it waits for as long as the invocation may come.
        if !self.is_warmed {
            keep_alive.idle_ms = self.arrivals.after_use_ms(keep_alive);
        }
        keep(self.wanted, counts.busy, keep_alive, idle_limit_ms)
    }

    /// Whether one is to be made now; says so once a pause.
    pub(super) fn prewarm(&mut self, idle_limit_ms: u64, now: MonotonicMs) -> bool {
        let Some(quiet_ms) = self.arrivals.quiet_ms(now) else {
            return false;
        };
        let keep_alive = self.arrivals.keep_alive(idle_limit_ms);
        let is_due = !self.is_warmed && prewarm_due(keep_alive, quiet_ms, idle_limit_ms);
        self.is_warmed |= is_due;
        is_due
    }

    /// Idle ones that are wanted.
    pub(super) fn wanted_idle(&self, busy: u32) -> usize {
        usize::try_from(self.wanted.saturating_sub(busy)).unwrap_or(usize::MAX)
    }

    /// Probability that an idle one is used soon.
    pub(super) fn reuse_per_mille(&self, now: MonotonicMs) -> u32 {
        let quiet_ms = self.arrivals.quiet_ms(now).unwrap_or(0);
        self.arrivals.reuse_per_mille(quiet_ms, HORIZON_MS)
    }

    /// What an idle one is worth.
    pub(super) fn worth(&self, reuse: u32, is_beyond: bool, idle_ms: u64, memory_mib: u32) -> u64 {
        worth(self.cold_start_us, reuse, is_beyond, idle_ms, memory_mib)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 600_000;

    #[test]
    fn a_pause_is_warmed_for_once() {
        let mut history = History::default();
        let hour = 3_600_000;
        for n in 0..20 {
            history.on_arrival(MonotonicMs(n * hour));
        }
        let last = 19 * hour;
        let mut warmed = Vec::new();
        for minute in 0..70 {
            let now = MonotonicMs(last + minute * 60_000);
            let counts = PoolCounts::default();
            let keep = history.keep(counts, LIMIT, now);
            assert_eq!(keep.wanted_idle, 0);
            if history.prewarm(LIMIT, now) {
                warmed.push(minute);
                let keep = history.keep(counts, LIMIT, now);
                assert_eq!(keep.idle_ms, LIMIT, "it waits for the invocation");
            } else if warmed.is_empty() {
                assert_eq!(keep.idle_ms, 60_000, "not kept for an hour");
            }
        }
        assert_eq!(warmed, [54]);
        history.on_arrival(MonotonicMs(last + hour));
        assert!(history.prewarm(LIMIT, MonotonicMs(last + hour + 54 * 60_000)));
    }

    #[test]
    fn those_wanted_lately_are_worth_more_than_those_beyond() {
        let mut history = History::default();
        for second in 0..60 {
            history.on_arrival(MonotonicMs(second * 1_000));
            history.on_busy(4, MonotonicMs(second * 1_000));
        }
        let counts = PoolCounts {
            idle: 8,
            ..PoolCounts::default()
        };
        let now = MonotonicMs(60_000);
        assert_eq!(history.keep(counts, LIMIT, now).wanted_idle, 4);
        let reuse = history.reuse_per_mille(now);
        assert!(history.worth(reuse, false, 50_000, 128) > history.worth(reuse, true, 50_000, 128));
    }
}
