//! A limit on something that is held for a while: requests in flight, bytes of bodies. Nobody waits for it, so one
//! atomic counter is enough and the hot path takes no lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            used: AtomicUsize::new(0),
        })
    }

    /// Takes a part, if it is left.
    pub(crate) fn take(self: &Arc<Self>, amount: usize) -> Option<Share> {
        let mut share = self.empty_share();
        share.grow(amount).then_some(share)
    }

    /// A share of nothing, to be grown.
    pub(crate) fn empty_share(self: &Arc<Self>) -> Share {
        Share {
            budget: Arc::clone(self),
            amount: 0,
        }
    }
}

/// A part of a budget, given back on drop.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    amount: usize,
}

impl Share {
    /// Takes more; `false` and nothing taken if it is not left.
    pub(crate) fn grow(&mut self, amount: usize) -> bool {
        // Relaxed: only the sum matters, nothing else is ordered by it.
        let used = self.budget.used.fetch_add(amount, Relaxed);
        if used.saturating_add(amount) > self.budget.limit {
            self.budget.used.fetch_sub(amount, Relaxed);
            return false;
        }
        self.amount += amount;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.amount, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_given_than_there_is_and_all_comes_back() {
        let budget = Budget::new(10);
        let mut first = budget.take(6).unwrap();
        assert!(budget.take(5).is_none());
        assert!(first.grow(4) && !first.grow(1));
        drop(first);
        assert!(budget.take(10).is_some());
    }
}
