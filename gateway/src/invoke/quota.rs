//! How many requests a second a pool may have, and how many sandboxes a function may add: each gateway enforces the
//! whole limit on what it sent itself, known at once, and on what the others sent, known from the workers' reports. No
//! gateway asks anyone, none holds a share of a limit. How exact that is: docs/adr/0010. The rules are
//! `hearth_core::rate`. How many may be in flight is not here: permits of the workers say that.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hearth_core::function::Function;
use hearth_core::ids::{AccountId, MonotonicMs, PoolKey, Version};
use hearth_core::limits::{
    ACCOUNT_CONCURRENCY_DEFAULT, REQUESTS_PER_UNIT_DEFAULT, SCALE_OUT_DEFAULT, SCALE_OUT_SPAN_MS,
};
use hearth_core::name::FunctionName;
use hearth_core::rate::{Nanos, Rate};
use hearth_proto::internal::v1 as pb;

use super::capacity::REFUSAL_TTL_MS;
use super::{InvokeError, Terms};

const NANOS_PER_MS: Nanos = 1_000_000;

fn nanos(now: MonotonicMs) -> Nanos {
    now.0.saturating_mul(NANOS_PER_MS)
}

/// Seconds to wait, for a client: at least one.
fn seconds(wait: Nanos) -> u32 {
    u32::try_from(wait.div_ceil(1_000 * NANOS_PER_MS))
        .unwrap_or(u32::MAX)
        .max(1)
}

/// A rate in use: what it is, and its one number of state.
#[derive(Debug)]
struct Meter {
    count: AtomicU64,
    span_ms: u64,
    full_at: AtomicU64,
}

impl Meter {
    fn new(count: u64, span_ms: u64) -> Self {
        Self {
            count: AtomicU64::new(count),
            span_ms,
            full_at: AtomicU64::new(0),
        }
    }

    fn rate(&self) -> Option<Rate> {
        Rate::new(self.count.load(Relaxed), self.span_ms)
    }

    /// One, or the time until there is one.
    fn take(&self, now: MonotonicMs) -> Result<(), Nanos> {
        let Some(rate) = self.rate() else {
            return Err(self.span_ms * NANOS_PER_MS);
        };
        let mut wait = 0;
        let one = |full_at| {
            let taken = rate.take(full_at, nanos(now), 1);
            taken.map_err(|refused| wait = refused.wait).ok()
        };
        let taken = self.full_at.fetch_update(Relaxed, Relaxed, one);
        taken.map(drop).map_err(|_| wait)
    }

    fn update(&self, change: impl Fn(Rate, Nanos) -> Nanos) {
        if let Some(rate) = self.rate() {
            let changed = |full_at| Some(change(rate, full_at));
            let _ = self.full_at.fetch_update(Relaxed, Relaxed, changed);
        }
    }

    fn charge(&self, n: u64, now: MonotonicMs) {
        self.update(|rate, full_at| rate.charge(full_at, nanos(now), n));
    }
}

/// What a gateway knows of the limits of one pool.
#[derive(Debug)]
pub(crate) struct PoolQuota {
    is_reserved: bool,
    /// Concurrency available: the reserved, or the account's.
    units: AtomicU32,
    requests: Meter,
    /// The leader said that the limit is reached, and that is taken as true until then.
    refused_until: AtomicU64,
}

impl Default for PoolQuota {
    fn default() -> Self {
        Self::new(false, ACCOUNT_CONCURRENCY_DEFAULT, &Limits::default())
    }
}

impl PoolQuota {
    /// Whether nothing may run on it: a reserved concurrency of zero.
    pub(crate) fn is_stopped(&self) -> bool {
        self.is_reserved && self.units.load(Relaxed) == 0
    }

    fn new(is_reserved: bool, units: u32, limits: &Limits) -> Self {
        let quota = Self {
            is_reserved,
            units: AtomicU32::new(units),
            requests: Meter::new(0, 1_000),
            refused_until: AtomicU64::new(0),
        };
        quota.set(units, limits);
        quota
    }

    fn set(&self, units: u32, limits: &Limits) {
        let count = u64::from(units) * u64::from(limits.requests_per_unit);
        self.requests.count.store(count, Relaxed);
        if self.units.swap(units, Relaxed) != units {
            self.refused_until.store(0, Relaxed);
        }
    }

    /// AWS's reason when as many are in flight as may be.
    pub(crate) fn concurrency_reason(&self) -> &'static str {
        if self.is_reserved {
            "ReservedFunctionConcurrentInvocationLimitExceeded"
        } else {
            "ConcurrentInvocationLimitExceeded"
        }
    }

    /// AWS's reason when requests come too fast.
    pub(crate) fn rate_reason(&self) -> &'static str {
        if self.is_reserved {
            "ReservedFunctionInvocationRateLimitExceeded"
        } else {
            "FunctionInvocationRateLimitExceeded"
        }
    }

    /// Counts a request, or refuses it.
    pub(crate) fn admit(&self, now: MonotonicMs) -> Result<(), InvokeError> {
        if self.units.load(Relaxed) == 0 {
            // "Reserve 0 to stop a function": nothing is asked of anyone.
            let reason = self.concurrency_reason().to_owned();
            return Err(InvokeError::Throttled { reason });
        }
        self.requests
            .take(now)
            .map_err(|wait| InvokeError::Limited {
                reason: self.rate_reason(),
                retry_after_s: seconds(wait),
            })
    }

    /// A counted request did not run: a storm that meets another limit is told of that one.
    pub(crate) fn refund(&self) {
        self.requests
            .update(|rate, full_at| rate.refund(full_at, 1));
    }

    /// The leader's word, remembered briefly so that a throttled storm costs nothing.
    pub(crate) fn on_refused(&self, now: MonotonicMs) {
        self.refused_until
            .store(now.plus(REFUSAL_TTL_MS).0, Relaxed);
    }

    /// Whether the leader said a moment ago that the limit is reached.
    pub(crate) fn is_refused(&self, now: MonotonicMs) -> bool {
        now.0 < self.refused_until.load(Relaxed)
    }
}

/// How many sandboxes a function may add now.
#[derive(Debug)]
pub(crate) struct ScaleOut(Meter);

impl Default for ScaleOut {
    fn default() -> Self {
        Self(Meter::new(u64::from(SCALE_OUT_DEFAULT), SCALE_OUT_SPAN_MS))
    }
}

impl ScaleOut {
    /// Whether there is one to take.
    pub(crate) fn is_open(&self, now: MonotonicMs) -> bool {
        let rate = self.0.rate();
        rate.is_some_and(|rate| rate.available(self.0.full_at.load(Relaxed), nanos(now)) > 0)
    }

    /// One is asked for.
    pub(crate) fn on_asked(&self, now: MonotonicMs) {
        self.0.charge(1, now);
    }

    /// Other gateways asked for so many.
    pub(crate) fn on_others(&self, n: u64, now: MonotonicMs) {
        self.0.charge(n, now);
    }
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    concurrency: u32,
    requests_per_unit: u32,
    scale_out: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrency: ACCOUNT_CONCURRENCY_DEFAULT,
            requests_per_unit: REQUESTS_PER_UNIT_DEFAULT,
            scale_out: SCALE_OUT_DEFAULT,
        }
    }
}

#[derive(Debug, Default)]
struct Known {
    limits: Limits,
    pools: HashMap<PoolKey, Arc<PoolQuota>>,
    functions: HashMap<(AccountId, FunctionName), Arc<ScaleOut>>,
}

/// All of them. Locked when the catalog changes and when a worker reports, never for an invocation.
#[derive(Debug, Default)]
pub(crate) struct Quotas(Mutex<Known>);

impl Quotas {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A version of a function as the catalog has it now, with a sandbox of so much memory.
    pub(crate) fn terms(&self, function: &Function, version: Version, memory_mib: u32) -> Terms {
        let mut known = self.known();
        let limits = known.limits;
        let pools = function.pools(version);
        let key = &pools.on_demand;
        let units = function.reserved_concurrency;
        let units = units.unwrap_or(limits.concurrency);
        let is_reserved = key.function.is_some();
        let new = || Arc::new(PoolQuota::new(is_reserved, units, &limits));
        let quota = Arc::clone(known.pools.entry(key.clone()).or_insert_with(new));
        quota.set(units, &limits);
        let named = (function.account.clone(), function.name.clone());
        let scale_out = Arc::clone(known.functions.entry(named).or_default());
        let most = u64::from(limits.scale_out);
        scale_out.0.count.store(most, Relaxed);
        Terms {
            pools: Arc::new(pools),
            memory_mib,
            quota,
            scale_out,
        }
    }

    /// The operator's limits, from a controller.
    pub(crate) fn set_limits(&self, told: &pb::AccountLimits) {
        let mut known = self.known();
        let limits = Limits {
            concurrency: told.concurrency,
            requests_per_unit: told.requests_per_unit,
            scale_out: told.scale_out,
        };
        known.limits = limits;
        for quota in known.pools.values() {
            let units = if quota.is_reserved {
                quota.units.load(Relaxed)
            } else {
                limits.concurrency
            };
            quota.set(units, &limits);
        }
        for scale_out in known.functions.values() {
            let most = u64::from(limits.scale_out);
            scale_out.0.count.store(most, Relaxed);
        }
    }

    /// Other gateways had so many requests admitted. Those on provisioned concurrency count where the version's others do.
    pub(crate) fn on_others(&self, pool: &PoolKey, n: u64, now: MonotonicMs) {
        let on_demand = |function: Option<&FunctionName>| PoolKey {
            account: pool.account.clone(),
            function: function.cloned(),
            provisioned: None,
        };
        let known = self.known();
        let quota = match pool.provisioned {
            None => known.pools.get(pool),
            Some(_) => {
                let reserved = known.pools.get(&on_demand(pool.function.as_ref()));
                reserved.or_else(|| known.pools.get(&on_demand(None)))
            }
        };
        if let Some(quota) = quota {
            quota.requests.charge(n, now);
        }
    }

    /// Forgets what no function needs any more.
    pub(crate) fn sweep(&self) {
        let mut known = self.known();
        known.pools.retain(|_, quota| Arc::strong_count(quota) > 1);
        let is_used = |scale_out: &Arc<ScaleOut>| Arc::strong_count(scale_out) > 1;
        known.functions.retain(|_, scale_out| is_used(scale_out));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::function;

    const NOW: MonotonicMs = MonotonicMs(50_000);

    fn reserved(n: u32) -> Function {
        let mut function = function("f", 1);
        function.reserved_concurrency = Some(n);
        function
    }

    fn admitted(quota: &PoolQuota, now: MonotonicMs) -> usize {
        (0..100_000)
            .take_while(|_| quota.admit(now).is_ok())
            .count()
    }

    #[test]
    fn ten_requests_a_second_for_each_unit_and_the_reason_of_the_pool() {
        let quotas = Quotas::default();
        let of_function = quotas.terms(&reserved(3), Version::Latest, 128).quota;
        assert_eq!(admitted(&of_function, NOW), 30);
        let limited = |reason, retry_after_s| {
            Err(InvokeError::Limited {
                reason,
                retry_after_s,
            })
        };
        let reason = "ReservedFunctionInvocationRateLimitExceeded";
        assert_eq!(of_function.admit(NOW), limited(reason, 1));
        of_function.refund();
        assert_eq!(of_function.admit(NOW), Ok(()));
        assert_eq!(admitted(&of_function, NOW.plus(1_000)), 30);
        let of_account = quotas.terms(&function("g", 1), Version::Latest, 128).quota;
        assert_eq!(admitted(&of_account, NOW), 10_000);
        let reason = "FunctionInvocationRateLimitExceeded";
        assert_eq!(of_account.admit(NOW), limited(reason, 1));
    }

    #[test]
    fn what_others_sent_counts_and_functions_of_an_account_share() {
        let quotas = Quotas::default();
        let a = quotas.terms(&function("a", 1), Version::Latest, 128);
        let b = quotas.terms(&function("b", 1), Version::Latest, 128);
        quotas.on_others(&a.pools.on_demand, 9_990, NOW);
        assert_eq!(admitted(&b.quota, NOW), 10);
        assert_eq!(admitted(&a.quota, NOW), 0);
    }

    #[test]
    fn reserved_zero_stops_with_the_concurrency_reason() {
        let quotas = Quotas::default();
        let before = quotas.terms(&reserved(2), Version::Latest, 128).quota;
        before.on_refused(NOW);
        assert!(before.is_refused(NOW.plus(REFUSAL_TTL_MS - 1)));
        let reason = "ReservedFunctionConcurrentInvocationLimitExceeded".to_owned();
        drop(quotas.terms(&reserved(0), Version::Latest, 128));
        assert_eq!(before.admit(NOW), Err(InvokeError::Throttled { reason }));
        drop(quotas.terms(&reserved(5), Version::Latest, 128));
        assert_eq!(before.admit(NOW), Ok(()));
        assert!(!before.is_refused(NOW), "another limit, another word");
    }

    #[test]
    fn the_operators_limits_reach_what_is_known_already() {
        let quotas = Quotas::default();
        let terms = quotas.terms(&function("a", 1), Version::Latest, 128);
        quotas.set_limits(&pb::AccountLimits {
            concurrency: 100,
            requests_per_unit: 2,
            scale_out: 3,
        });
        assert_eq!(admitted(&terms.quota, NOW), 200);
        for _ in 0..3 {
            assert!(terms.scale_out.is_open(NOW));
            terms.scale_out.on_asked(NOW);
        }
        assert!(!terms.scale_out.is_open(NOW));
        assert!(terms.scale_out.is_open(NOW.plus(SCALE_OUT_SPAN_MS / 3 + 1)));
        // A changed configuration is the same function.
        assert!(
            !quotas
                .terms(&function("a", 2), Version::Latest, 128)
                .scale_out
                .is_open(NOW)
        );
    }

    #[test]
    fn what_nobody_needs_is_forgotten() {
        let quotas = Quotas::default();
        let kept = quotas.terms(&reserved(1), Version::Latest, 128);
        drop(quotas.terms(&function("gone", 1), Version::Latest, 128));
        quotas.sweep();
        let known = quotas.known();
        assert_eq!((known.pools.len(), known.functions.len()), (1, 1));
        drop(kept);
    }
}
