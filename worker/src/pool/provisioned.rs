//! Provisioned concurrency: the worker's share of a version's pool is the number of sandboxes it keeps initialised.
//! They are made before anybody asks, made again when they end, and never given up for their memory or their age.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use hearth_core::ids::{MonotonicMs, PoolKey};
use hearth_core::pool::KeptCounts;
use hearth_proto::internal::v1 as pb;

use super::Engine;
use super::version::VersionPool;

/// AWS's reason when the function's init phase fails.
pub(super) const INIT_FAILURE: &str = "FUNCTION_ERROR_INIT_FAILURE";
/// When the worker could not make a sandbox.
pub(super) const NOT_STARTED: &str = "An execution environment could not be started.";
/// When other sandboxes have all the memory.
const NO_MEMORY: &str = "No memory is free for another execution environment.";

/// Pause before a sandbox is made again whose last try failed, doubling up to the longest.
const PAUSE_MIN_MS: u64 = 1_000;
const PAUSE_MAX_MS: u64 = 60_000;
/// Sandboxes that one look begins per version; the next look goes on.
const BEGUN_MAX: u32 = 64;
/// How long a share of an ended session is waited for: the leader gives it again within two of its ticks, unless
/// somebody else has it.
const GIVEN_AGAIN_MS: u64 = 5_000;

/// How the keeping of one version goes.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    failures: u32,
    failure: Option<String>,
    not_before: MonotonicMs,
    /// Since when the share is of a session that is over.
    stale_since: Option<MonotonicMs>,
}

impl Keeping {
    /// One could not be made or initialised.
    pub(super) fn on_failed(&mut self, why: &str, now: MonotonicMs) {
        let doubled = PAUSE_MIN_MS << self.failures.min(16);
        self.not_before = now.plus(doubled.min(PAUSE_MAX_MS));
        self.failures = self.failures.saturating_add(1);
        self.failure = Some(why.to_owned());
    }

    /// How many are to be kept of a share of `ceiling`.
    fn wanted(&mut self, ceiling: u32, is_stale: bool, now: MonotonicMs) -> u32 {
        if !is_stale {
            self.stale_since = None;
            return ceiling;
        }
        let since = *self.stale_since.get_or_insert(now);
        if now.since(since) < GIVEN_AGAIN_MS {
            ceiling
        } else {
            0
        }
    }

    /// How many are to be begun now.
    fn begin(&mut self, kept: KeptCounts, wanted: u32, now: MonotonicMs) -> u32 {
        if kept.ready >= wanted {
            *self = Self {
                stale_since: self.stale_since,
                ..Self::default()
            };
        }
        if now < self.not_before {
            return 0;
        }
        let lacking = wanted.saturating_sub(kept.ready + kept.starting);
        // After a failure one shows whether it goes better.
        let most = if self.failures > 0 { 1 } else { BEGUN_MAX };
        if self.failures > 0 && kept.starting > 0 {
            return 0;
        }
        lacking.min(most)
    }
}

impl Engine {
    /// Makes what is kept what the grants say.
    pub(crate) fn tend_provisioned(self: &Arc<Self>) {
        if self.draining.load(Ordering::Acquire) {
            return;
        }
        let mut seen = HashSet::new();
        for (pool, ceiling, is_stale) in self.gates.provisioned() {
            if let Some(version_pool) = self.provisioned_pool(&pool) {
                self.keep(&version_pool, ceiling, is_stale);
                seen.insert(pool);
            }
        }
        let mut all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|pool, version_pool| {
            if seen.contains(pool) {
                return true;
            }
            // The share is gone, or the version is.
            version_pool.keep_fewer(u32::MAX);
            false
        });
    }

    fn provisioned_pool(self: &Arc<Self>, pool: &PoolKey) -> Option<Arc<VersionPool>> {
        let (key, runnable) = self.catalog.find_provisioned(pool)?;
        let version_pool = self.find_or_make_pool(&key, &runnable);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let before = kept.insert(pool.clone(), Arc::clone(&version_pool));
        drop(kept);
        // A function of the same name was deleted and made again.
        if let Some(before) = before.filter(|before| !Arc::ptr_eq(before, &version_pool)) {
            before.keep_fewer(u32::MAX);
        }
        Some(version_pool)
    }

    fn keep(self: &Arc<Self>, pool: &Arc<VersionPool>, ceiling: u32, is_stale: bool) {
        let (begin, surplus) = pool.with_keeping(|kept, keeping, now| {
            let wanted = keeping.wanted(ceiling, is_stale, now);
            let has = kept.ready + kept.starting;
            let begin = keeping.begin(kept, wanted, now);
            (begin, has.saturating_sub(wanted))
        });
        if surplus > 0 {
            pool.keep_fewer(surplus);
        }
        for _ in 0..begin {
            match self.reserve(pool) {
                Some(memory) => self.begin(pool, memory, None, String::new(), true),
                None => {
                    pool.with_keeping(|_, keeping, now| keeping.on_failed(NO_MEMORY, now));
                    return;
                }
            }
        }
    }

    /// For the leader.
    pub(crate) fn kept_report(&self) -> Vec<pb::Kept> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter()
            .map(|(pool, version_pool)| {
                version_pool.with_keeping(|kept, keeping, _| pb::Kept {
                    pool: Some(pool.into()),
                    ready: kept.ready,
                    starting: kept.starting,
                    failure: keeping.failure.clone().unwrap_or_default(),
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> MonotonicMs {
        MonotonicMs(ms)
    }

    fn kept(ready: u32, starting: u32) -> KeptCounts {
        KeptCounts { ready, starting }
    }

    #[test]
    fn after_a_failure_one_is_tried_and_later_and_later() {
        let mut keeping = Keeping::default();
        assert_eq!(keeping.begin(kept(0, 0), 3, at(0)), 3);
        assert_eq!(keeping.begin(kept(0, 3), 3, at(1)), 0);
        keeping.on_failed(INIT_FAILURE, at(10));
        keeping.on_failed(INIT_FAILURE, at(10));
        assert_eq!(keeping.begin(kept(0, 0), 3, at(2_009)), 0);
        assert_eq!(keeping.begin(kept(0, 0), 3, at(2_010)), 1);
        assert_eq!(keeping.begin(kept(0, 1), 3, at(2_011)), 0);
        assert_eq!(keeping.begin(kept(1, 0), 3, at(2_012)), 1);
        assert_eq!(keeping.begin(kept(3, 0), 3, at(2_013)), 0);
        assert_eq!(keeping.failure, None, "all are there");
        for _ in 0..40 {
            keeping.on_failed(NO_MEMORY, at(5_000));
        }
        assert_eq!(keeping.not_before, at(65_000));
    }

    #[test]
    fn a_share_of_an_ended_session_is_kept_until_it_would_have_been_given_again() {
        let mut keeping = Keeping::default();
        assert_eq!(keeping.wanted(4, false, at(0)), 4);
        assert_eq!(keeping.wanted(4, true, at(100)), 4);
        assert_eq!(keeping.wanted(4, true, at(5_099)), 4);
        assert_eq!(keeping.wanted(4, true, at(5_100)), 0);
        assert_eq!(keeping.wanted(4, false, at(5_200)), 4);
    }
}
