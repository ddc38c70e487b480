//! The worker's half: a session of answered renewals and, per pool, a gate that lets invocations in.
//! Each gate is plain data of its own, to be put behind a lock of its own: no lock is shared by all
//! functions. The session is copied out ([`SessionView`]) and handed to a gate with each question.
//!
//! Order of reads that callers must keep: the session's view first, then the clock, then the gate. A view
//! that is a little old only makes a gate stricter, as its `until` cannot lie beyond the true one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Grant, Renewal, RenewalReply, Shrink, ShrinkAnswer};
use crate::ids::{GrantSequence, Incarnation, MonotonicMs, NodeId, PoolKey};
use crate::planted::{self, Bug};

/// A copy of what gates need to know of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// Its number.
    pub number: u64,
    /// The worker's life.
    pub incarnation: Incarnation,
    /// It ends here unless renewed.
    pub until: MonotonicMs,
    /// Whether a renewal of it was answered; before that nothing reserved is accepted.
    pub answered: bool,
    /// Another life of this worker, or none, is a member of the cluster: accept nothing ever.
    pub superseded: bool,
}

impl SessionView {
    fn is_over(&self, now: MonotonicMs) -> bool {
        now >= self.until
    }
}

/// The worker's side of its renewals. Numbers are spent, never reused within a life.
#[derive(Clone, Debug)]
pub struct WorkerSession {
    worker: NodeId,
    ttl_ms: u64,
    view: SessionView,
}

impl WorkerSession {
    /// The first session of a life that has registered. `ttl_ms` is TTL_w.
    pub fn new(worker: NodeId, incarnation: Incarnation, ttl_ms: u64, now: MonotonicMs) -> Self {
        let view = SessionView {
            number: 1,
            incarnation,
            until: now.plus(ttl_ms),
            answered: false,
            superseded: false,
        };
        Self {
            worker,
            ttl_ms,
            view,
        }
    }

    /// The session now; ends the old one first when its time is over. A session that was never answered
    /// ends as well, else a grant given in it could outlive the leader's patience.
    pub fn view(&mut self, now: MonotonicMs) -> SessionView {
        if self.view.is_over(now) {
            self.view.number += 1;
            self.view.until = now.plus(self.ttl_ms);
            self.view.answered = false;
        }
        self.view
    }

    /// Takes the answer to a renewal. One of an ended session is ignored.
    pub fn on_reply(&mut self, reply: &RenewalReply, now: MonotonicMs) {
        let current = self.view(now).number;
        match reply {
            RenewalReply::Renewed { session, sent_at } if *session == current => {
                let until = sent_at.plus(self.ttl_ms);
                self.view.until = self.view.until.max(until);
                self.view.answered = true;
            }
            // Late: the session it answers is spent.
            RenewalReply::Renewed { .. } => {}
            RenewalReply::Superseded => self.view.superseded = true,
        }
    }

    /// The renewal to send now.
    pub fn renewal(&mut self, pools: Vec<(PoolKey, PoolReport)>, now: MonotonicMs) -> Renewal {
        let view = self.view(now);
        Renewal {
            worker: self.worker,
            incarnation: view.incarnation,
            session: view.number,
            sent_at: now,
            pools,
        }
    }
}

/// How a pool stands on a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolReport {
    /// Invocations it may have in flight now.
    pub ceiling: u32,
    /// Invocations in flight.
    pub in_flight: u32,
    /// The newest grant it knows of.
    pub sequence: GrantSequence,
}

/// One unit of a pool in use. Not `Clone`: it is given back exactly once, to the gate it came from.
/// The worker wraps it in a value that does so when dropped.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a permit that is not given back is lost until the worker restarts"]
pub struct Permit(());

/// Answer of a gate.
#[derive(Debug, PartialEq, Eq)]
pub enum Acquire {
    /// Go on.
    Permit(Permit),
    /// The ceiling is reached; another worker may have room.
    NoPermit,
    /// The worker is cut off from the controllers (reserved pools) or superseded (all pools).
    Fenced,
}

/// A worker's semaphore of one pool.
#[derive(Clone, Debug)]
pub struct PoolGate {
    /// A reserved pool is exact and so is fenced; the unreserved one goes on while controllers are away.
    reserved: bool,
    ceiling: u32,
    in_flight: u32,
    sequence: GrantSequence,
    /// Whether `sequence` is of this pool. It is the floor before, which says only that nothing older is taken.
    is_known: bool,
    /// The session the ceiling was given in.
    session: u64,
}

impl PoolGate {
    /// A gate that lets nothing in yet. `floor` is the highest [`PoolReport::sequence`] of any gate that
    /// this life of the worker has thrown away (zero if none): without it, an old grant repeated by the
    /// network would look new to a gate made again.
    pub fn new(pool: &PoolKey, floor: GrantSequence) -> Self {
        Self {
            reserved: pool.function.is_some(),
            ceiling: 0,
            in_flight: 0,
            sequence: floor,
            is_known: false,
            session: 0,
        }
    }

    /// Takes a grant if it is news, of this life and of this session. Returns whether it was.
    pub fn on_grant(&mut self, grant: &Grant, session: SessionView, now: MonotonicMs) -> bool {
        if !Self::is_current(grant.incarnation, grant.session, session, now)
            || (grant.sequence <= self.sequence && !planted::is(Bug::StaleGrantAccepted))
        {
            return false;
        }
        self.ceiling = grant.n;
        self.sequence = grant.sequence;
        self.is_known = true;
        self.session = session.number;
        true
    }

    /// Lowers the ceiling at once and answers what the leader may commit. `None` when the question is about
    /// a grant older than the one in hand. A base newer than the one in hand counts as seen, so that the
    /// grant it names, still under way, cannot raise the ceiling behind the answer.
    pub fn on_shrink(
        &mut self,
        shrink: &Shrink,
        worker: NodeId,
        session: SessionView,
        now: MonotonicMs,
    ) -> Option<ShrinkAnswer> {
        let is_old = shrink.base < self.sequence;
        // A gate that was thrown away and made again has nothing to lower, whatever the question is about; the answer
        // is committed only if the base still stands. Without it a share of which this worker knows nothing any more
        // could never be taken back.
        if !Self::is_current(shrink.incarnation, shrink.session, session, now)
            || (is_old && self.is_known)
        {
            return None;
        }
        self.ceiling = self.ceiling.min(shrink.n);
        if !is_old {
            self.sequence = shrink.base;
            self.is_known = true;
        }
        Some(ShrinkAnswer {
            worker,
            pool: shrink.pool.clone(),
            n: if planted::is(Bug::ShrinkBelowInFlight) {
                shrink.n
            } else {
                shrink.n.max(self.in_flight)
            },
            base: shrink.base,
        })
    }

    fn is_current(
        incarnation: Incarnation,
        number: u64,
        session: SessionView,
        now: MonotonicMs,
    ) -> bool {
        !session.superseded
            && (incarnation == session.incarnation || planted::is(Bug::IncarnationIgnored))
            && (number == session.number && !session.is_over(now)
                || planted::is(Bug::SessionIgnored))
    }

    /// Whether the ceiling counts: the session it was given in lasts and is answered.
    fn is_fenced(&self, session: SessionView, now: MonotonicMs) -> bool {
        session.superseded
            || (self.reserved
                && !planted::is(Bug::NoSelfFence)
                && (!session.answered || session.is_over(now) || self.session != session.number))
    }

    /// One permit, if there is one. Never waits and never asks anyone.
    pub fn try_acquire(&mut self, session: SessionView, now: MonotonicMs) -> Acquire {
        if self.is_fenced(session, now) {
            Acquire::Fenced
        } else if self.in_flight < self.ceiling {
            self.in_flight += 1;
            Acquire::Permit(Permit(()))
        } else {
            Acquire::NoPermit
        }
    }

    /// Gives a permit back.
    pub fn release(&mut self, permit: Permit) {
        let Permit(()) = permit;
        self.in_flight = self
            .in_flight
            .checked_sub(1)
            .expect("a permit exists only while it is counted in flight");
    }

    /// How the pool stands, for the renewal.
    pub fn report(&self, session: SessionView, now: MonotonicMs) -> PoolReport {
        // A ceiling of an ended session is gone for good; a fence that only waits for the first answer of
        // this session is not reported, the ceiling opens by itself.
        let gone = session.superseded
            || (self.reserved && (self.session != session.number || session.is_over(now)));
        PoolReport {
            ceiling: if gone { 0 } else { self.ceiling },
            in_flight: self.in_flight,
            sequence: self.sequence,
        }
    }

    /// The ceiling as it was last given, and whether in the present session. One of an earlier session lets nothing in,
    /// and will be given again unless the share has gone to others.
    pub fn last_ceiling(&self, session: SessionView) -> (u32, bool) {
        (self.ceiling, self.session == session.number)
    }

    /// Whether the gate may be thrown away, its sequence going into the floor of later ones: nothing runs
    /// and nothing may.
    pub fn is_idle_and_closed(&self) -> bool {
        self.in_flight == 0 && self.ceiling == 0
    }
}

/// Session and gates together, for an owner with one thread (the simulation, tests, a small worker).
#[derive(Clone, Debug)]
pub struct WorkerPermits {
    session: WorkerSession,
    gates: BTreeMap<PoolKey, PoolGate>,
    floor: GrantSequence,
}

impl WorkerPermits {
    /// Nothing granted yet.
    pub fn new(worker: NodeId, incarnation: Incarnation, ttl_ms: u64, now: MonotonicMs) -> Self {
        Self {
            session: WorkerSession::new(worker, incarnation, ttl_ms, now),
            gates: BTreeMap::new(),
            floor: GrantSequence(0),
        }
    }

    /// See [`PoolGate::on_grant`].
    pub fn on_grant(&mut self, grant: &Grant, now: MonotonicMs) -> bool {
        let session = self.session.view(now);
        self.gate(&grant.pool).on_grant(grant, session, now)
    }

    /// See [`PoolGate::on_shrink`].
    pub fn on_shrink(&mut self, shrink: &Shrink, now: MonotonicMs) -> Option<ShrinkAnswer> {
        let session = self.session.view(now);
        let worker = self.session.worker;
        self.gate(&shrink.pool)
            .on_shrink(shrink, worker, session, now)
    }

    /// See [`PoolGate::try_acquire`].
    pub fn try_acquire(&mut self, pool: &PoolKey, now: MonotonicMs) -> Acquire {
        let session = self.session.view(now);
        match self.gates.get_mut(pool) {
            Some(gate) => gate.try_acquire(session, now),
            None if session.superseded => Acquire::Fenced,
            None => Acquire::NoPermit,
        }
    }

    /// See [`PoolGate::release`].
    pub fn release(&mut self, pool: &PoolKey, permit: Permit) {
        self.gate(pool).release(permit);
    }

    /// See [`WorkerSession::on_reply`].
    pub fn on_reply(&mut self, reply: &RenewalReply, now: MonotonicMs) {
        self.session.on_reply(reply, now);
    }

    /// The renewal to send now.
    pub fn renewal(&mut self, now: MonotonicMs) -> Renewal {
        let session = self.session.view(now);
        let pools = self
            .gates
            .iter()
            .map(|(key, gate)| (key.clone(), gate.report(session, now)));
        let pools = pools.collect();
        self.session.renewal(pools, now)
    }

    /// How a pool stands.
    pub fn report(&mut self, pool: &PoolKey, now: MonotonicMs) -> PoolReport {
        let session = self.session.view(now);
        self.gates
            .get(pool)
            .map(|gate| gate.report(session, now))
            .unwrap_or_default()
    }

    /// Throws away gates of pools that are of no use here any more (deleted functions).
    pub fn forget_closed(&mut self) {
        let floor = &mut self.floor;
        self.gates.retain(|_, gate| {
            let closed = gate.is_idle_and_closed();
            if closed {
                *floor = (*floor).max(gate.sequence);
            }
            !closed
        });
    }

    fn gate(&mut self, pool: &PoolKey) -> &mut PoolGate {
        let floor = self.floor;
        self.gates
            .entry(pool.clone())
            .or_insert_with(|| PoolGate::new(pool, floor))
    }
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
