//! The worker's share of every pool: one gate, one lock per pool, and the session all gates are judged by.
//! The rules are `hearth_core::permits`; what carries their messages is [`crate::session`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use hearth_core::ids::{GrantSequence, Incarnation, MonotonicMs, NodeId, PoolKey};
use hearth_core::permits::{
    Acquire, Grant, Permit, PoolGate, PoolReport, Renewal, RenewalReply, SessionView, Shrink,
    ShrinkAnswer, WorkerSession,
};
use hearth_core::versions::Pools;
use hearth_node::clock::SharedClock;

use crate::pool::changes::Changes;
use crate::pool::recent::Named;

/// All gates of this worker.
#[derive(Debug)]
pub(crate) struct Gates {
    worker: NodeId,
    clock: SharedClock,
    session: Mutex<WorkerSession>,
    /// A copy for the invoke path, which must not wait for the session's owner.
    view: RwLock<SessionView>,
    gates: RwLock<HashMap<PoolKey, Arc<Gate>>>,
    /// See [`PoolGate::new`].
    floor: AtomicU64,
    changes: Arc<Changes>,
}

/// One pool.
#[derive(Debug)]
pub(crate) struct Gate {
    pool: PoolKey,
    rules: Mutex<PoolGate>,
    named: Named,
    this: Weak<Self>,
    /// Invocations that had both permit and sandbox.
    admitted: AtomicU64,
    changes: Arc<Changes>,
}

impl Gate {
    fn rules(&self) -> std::sync::MutexGuard<'_, PoolGate> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a change, under the lock that it was made under.
    fn touch(&self, _rules: &PoolGate) {
        self.changes.gates.note(&self.named, &self.this);
        self.changes.next();
    }
}

impl Gate {
    fn report(&self, view: SessionView, now: MonotonicMs) -> (PoolKey, PoolReport, u64) {
        let report = self.rules().report(view, now);
        let admitted = self.admitted.load(Ordering::Relaxed);
        (self.pool.clone(), report, admitted)
    }
}

/// A permit in use; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct HeldPermit {
    gate: Arc<Gate>,
    permit: Option<Permit>,
}

impl HeldPermit {
    /// The invocation has a sandbox too: it counts towards the rate of requests.
    pub(crate) fn on_admitted(&self) {
        self.gate.admitted.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for HeldPermit {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            let mut rules = self.gate.rules();
            rules.release(permit);
            self.gate.touch(&rules);
        }
    }
}

/// Why there is no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPermit {
    /// The share is in use.
    Full,
    /// See [`Acquire::Fenced`].
    Fenced,
}

impl Gates {
    pub(crate) fn new(
        worker: NodeId,
        incarnation: Incarnation,
        ttl_ms: u64,
        clock: SharedClock,
        changes: Arc<Changes>,
    ) -> Self {
        let now = MonotonicMs(clock.monotonic_ms());
        let mut session = WorkerSession::new(worker, incarnation, ttl_ms, now);
        let view = RwLock::new(session.view(now));
        Self {
            worker,
            clock,
            session: Mutex::new(session),
            view,
            gates: RwLock::default(),
            floor: AtomicU64::new(0),
            changes,
        }
    }

    fn now(&self) -> MonotonicMs {
        MonotonicMs(self.clock.monotonic_ms())
    }

    /// Runs `f` on the session and publishes what it became.
    fn with_session<T>(&self, f: impl FnOnce(&mut WorkerSession, MonotonicMs) -> T) -> T {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.now();
        let result = f(&mut session, now);
        let view = session.view(now);
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = view;
        result
    }

    fn current(&self) -> SessionView {
        self.with_session(|session, now| session.view(now))
    }

    fn find(&self, pool: &PoolKey) -> Option<Arc<Gate>> {
        let gates = self.gates.read().unwrap_or_else(PoisonError::into_inner);
        gates.get(pool).cloned()
    }

    fn find_or_make(&self, pool: &PoolKey) -> Arc<Gate> {
        let mut gates = self.gates.write().unwrap_or_else(PoisonError::into_inner);
        let gate = gates.entry(pool.clone()).or_insert_with(|| {
            let floor = GrantSequence(self.floor.load(Ordering::Acquire));
            Arc::new_cyclic(|this| Gate {
                pool: pool.clone(),
                rules: Mutex::new(PoolGate::new(pool, floor)),
                named: Named::default(),
                this: Weak::clone(this),
                admitted: AtomicU64::new(0),
                changes: Arc::clone(&self.changes),
            })
        });
        Arc::clone(gate)
    }

    /// One permit of the pool, now or not at all.
    pub(crate) fn try_acquire(&self, pool: &PoolKey) -> Result<HeldPermit, NoPermit> {
        // The view first, then the clock, then the gate: see `hearth_core::permits`.
        let view = *self.view.read().unwrap_or_else(PoisonError::into_inner);
        let now = self.now();
        let Some(gate) = self.find(pool) else {
            return Err(if view.superseded {
                NoPermit::Fenced
            } else {
                NoPermit::Full
            });
        };
        let acquired = {
            let mut rules = gate.rules();
            let acquired = rules.try_acquire(view, now);
            if matches!(acquired, Acquire::Permit(_)) {
                gate.touch(&rules);
            }
            acquired
        };
        match acquired {
            Acquire::Permit(permit) => Ok(HeldPermit {
                gate,
                permit: Some(permit),
            }),
            Acquire::NoPermit => Err(NoPermit::Full),
            Acquire::Fenced => Err(NoPermit::Fenced),
        }
    }

    /// One permit of the first of these pools that has one, and whether that is of provisioned concurrency.
    pub(crate) fn try_acquire_any(&self, pools: &Pools) -> Result<(HeldPermit, bool), NoPermit> {
        if let Some(provisioned) = &pools.provisioned
            && let Ok(permit) = self.try_acquire(provisioned)
        {
            return Ok((permit, true));
        }
        self.try_acquire(&pools.on_demand)
            .map(|permit| (permit, false))
    }

    /// Shares of provisioned concurrency as they were last given, and whether they may be given up: the session they
    /// were given in is over, and the leader has answered in the one after it.
    pub(crate) fn provisioned(&self) -> Vec<(PoolKey, u32, bool)> {
        let view = self.current();
        let gates = self.gates.read().unwrap_or_else(PoisonError::into_inner);
        let provisioned = gates.iter().filter(|(pool, _)| pool.provisioned.is_some());
        provisioned
            .map(|(pool, gate)| {
                let (ceiling, is_current) = gate.rules().last_ceiling(view);
                (pool.clone(), ceiling, view.answered && !is_current)
            })
            .collect()
    }

    /// Returns whether the grant was news.
    pub(crate) fn on_grant(&self, grant: &Grant) -> bool {
        let view = self.current();
        let gate = self.find_or_make(&grant.pool);
        let mut rules = gate.rules();
        let taken = rules.on_grant(grant, view, self.now());
        if taken {
            gate.touch(&rules);
        }
        taken
    }

    pub(crate) fn on_shrink(&self, shrink: &Shrink) -> Option<ShrinkAnswer> {
        let view = self.current();
        let gate = self.find_or_make(&shrink.pool);
        let mut rules = gate.rules();
        let answer = rules.on_shrink(shrink, self.worker, view, self.now());
        gate.touch(&rules);
        answer
    }

    pub(crate) fn on_reply(&self, reply: &RenewalReply) {
        self.with_session(|session, now| session.on_reply(reply, now));
    }

    /// The renewal to send now; closed gates of pools without use are thrown away on the way.
    pub(crate) fn renewal(&self) -> Renewal {
        self.forget_closed();
        let view = self.current();
        let now = self.now();
        let gates = self.all();
        let reports = gates.iter().map(|gate| gate.report(view, now));
        let pools = reports.map(|(pool, report, _)| (pool, report)).collect();
        self.with_session(|session, now| session.renewal(pools, now))
    }

    fn forget_closed(&self) {
        let mut gates = self.gates.write().unwrap_or_else(PoisonError::into_inner);
        let view = *self.view.read().unwrap_or_else(PoisonError::into_inner);
        let now = self.now();
        gates.retain(|_, gate| {
            // Nobody else may come by a gate that is only in the map, which is locked.
            let rules = gate.rules();
            let closed = rules.is_idle_and_closed() && Arc::strong_count(gate) == 1;
            if closed {
                let sequence = rules.report(view, now).sequence.0;
                self.floor.fetch_max(sequence, Ordering::AcqRel);
            }
            !closed
        });
    }

    fn all(&self) -> Vec<Arc<Gate>> {
        let gates = self.gates.read().unwrap_or_else(PoisonError::into_inner);
        gates.values().cloned().collect()
    }

    /// How the pools stand that changed, or all, for gateways, and how many invocations each has admitted.
    pub(crate) fn reports(
        &self,
        changed: Option<Vec<Arc<Gate>>>,
    ) -> Vec<(PoolKey, PoolReport, u64)> {
        let view = *self.view.read().unwrap_or_else(PoisonError::into_inner);
        let gates = changed.unwrap_or_else(|| self.all());
        let now = self.now();
        gates.iter().map(|gate| gate.report(view, now)).collect()
    }

    /// Whether any pool lets something in: the worker is of use without a leader.
    pub(crate) fn holds_grants(&self) -> bool {
        self.reports(None).iter().any(|(_, r, _)| r.ceiling > 0)
    }
}
