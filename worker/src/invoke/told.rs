//! What one gateway knows of a version's sandboxes: what it was told last, moved on as it moves it on itself. What it knows
//! already need not be told.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hearth_core::pool::PoolCounts;

/// Free sandboxes of a version, as one gateway is told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Free {
    /// Free sandboxes.
    pub(crate) idle: u32,
    /// Invokes of the version that came from this gateway before they were counted.
    pub(crate) received: u64,
    /// Where that is noted once it is on its way.
    pub(super) of: Option<Received>,
}

/// Counts the invokes of one version that came on one stream, and notes what the gateway knows.
#[derive(Clone, Debug)]
pub(crate) struct Received(Arc<Count>);

#[derive(Debug)]
struct Count {
    received: AtomicU64,
    told: Mutex<Option<Told>>,
}

/// What the gateway takes to be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// `idle` counts those whose init failed.
    pub(super) counts: PoolCounts,
    pub(super) received: u64,
    pub(super) begun: u64,
}

impl Received {
    /// None came beyond what the gateway was told before.
    pub(super) fn new(floor: u64) -> Self {
        Self(Arc::new(Count {
            received: AtomicU64::new(floor),
            told: Mutex::new(None),
        }))
    }

    pub(super) fn count(&self) -> u64 {
        self.0.received.load(Ordering::Acquire)
    }

    pub(super) fn add_one(&self) {
        self.0.received.fetch_add(1, Ordering::AcqRel);
    }

    /// What is free now. The invokes are read first: one that comes in between is counted as on its way and as taken,
    /// which the next report sets right; the other order would promise its sandbox twice.
    pub(crate) fn with(&self, idle: impl FnOnce() -> u32) -> Free {
        let received = self.count();
        Free {
            idle: idle(),
            received,
            of: Some(self.clone()),
        }
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Option<Told>> {
        self.0.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A report is about to leave: whether it says anything new. What is told is noted in the order in which it leaves.
    pub(super) fn is_news(&self, report: Told) -> bool {
        let mut told = self.told();
        if *told == Some(report) {
            return false;
        }
        let mut known = report;
        // The gateway has taken over something newer.
        if let Some(newer) = told.filter(|told| told.received > report.received) {
            (known.received, known.counts.idle) = (newer.received, newer.counts.idle);
        }
        *told = Some(known);
        true
    }

    /// The gateway is not sure of what it knows, or may not have it: the next report says it all.
    pub(super) fn forget(&self) {
        *self.told() = None;
    }
}

impl Free {
    /// The end of an invocation, or its refusal, is about to leave in one frame and says this.
    pub(super) fn is_told(&self) {
        let Some(received) = &self.of else {
            return;
        };
        if let Some(told) = received.told().as_mut() {
            told.counts.busy = told.counts.busy.saturating_sub(1);
            if self.received >= told.received {
                (told.received, told.counts.idle) = (self.received, self.idle);
            }
        }
    }

    /// It leaves in several frames: when the gateway reads the last of them is not known here.
    pub(super) fn is_told_late(&self) {
        if let Some(received) = &self.of {
            received.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(idle: u32, busy: u32, received: u64) -> Told {
        let counts = PoolCounts {
            idle,
            starting: 0,
            busy,
        };
        Told {
            counts,
            received,
            begun: 1,
        }
    }

    #[test]
    fn what_the_answer_said_is_not_said_again() {
        let received = Received::new(0);
        assert!(received.is_news(report(1, 0, 0)));
        assert!(!received.is_news(report(1, 0, 0)));
        received.add_one();
        received.with(|| 1).is_told();
        assert!(!received.is_news(report(1, 0, 1)));
        received.add_one();
        assert!(received.is_news(report(0, 1, 2)), "seen at work");
        received.with(|| 1).is_told();
        assert!(!received.is_news(report(1, 0, 2)));
    }

    #[test]
    fn an_answer_that_did_not_leave_is_made_up_for() {
        let received = Received::new(5);
        assert!(received.is_news(report(1, 0, 5)));
        received.add_one();
        let _not_wanted = received.with(|| 1);
        assert!(received.is_news(report(1, 0, 6)));
        received.with(|| 1).is_told_late();
        assert!(received.is_news(report(1, 0, 6)));
    }

    #[test]
    fn a_report_made_before_an_answer_and_sent_after_it_changes_what_the_gateway_takes_over() {
        let received = Received::new(0);
        assert!(received.is_news(report(2, 0, 0)));
        received.add_one();
        received.with(|| 1).is_told();
        assert!(received.is_news(report(2, 1, 0)), "older, sent later");
        // The gateway kept one free, and took over that one is at work.
        assert!(received.is_news(report(1, 0, 1)));
        assert!(!received.is_news(report(1, 0, 1)));
    }
}
