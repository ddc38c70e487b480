//! The leader's soft half: who was heard when, in which session, and what is to be said next. Made at the
//! election and thrown away at the next one; nothing of it is stored.
//!
//! The owner calls the `plan_*` functions on a tick of about a second (the work is one walk over all
//! grants) and after the first renewal of a session, so that the worker's shares are granted anew at once;
//! `plan_grow` on each need; the `on_*` functions when something happens. It carries out the
//! [`PermitAction`]s. All changes of one tick go into one log entry.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::plan_grow;
use super::{
    Candidate, Grant, GrantChange, GrantOutcome, GrantTable, Granted, GrowPlan, Need, PermitTiming,
    PoolReport, Renewal, RenewalReply, Shrink, ShrinkAnswer,
};
use crate::ids::{GrantSequence, Incarnation, MonotonicMs, NodeId, PoolKey};
use crate::planted::{self, Bug};

/// What the leader's owner has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PermitAction {
    /// Propose as (part of) one entry; hand the outcomes to [`LeaderPermits::on_committed`].
    Commit(Vec<GrantChange>),
    /// Send.
    SendGrant {
        /// To whom.
        worker: NodeId,
        /// What.
        grant: Grant,
    },
    /// Send; hand the answer to [`LeaderPermits::on_shrink_answer`].
    SendShrink {
        /// To whom.
        worker: NodeId,
        /// What.
        shrink: Shrink,
    },
}

type Key = (NodeId, PoolKey);

#[derive(Clone, Debug)]
struct Heard {
    incarnation: Incarnation,
    /// Start of its silence: the newest renewal, or the election.
    last_heard: MonotonicMs,
    /// `None` until a renewal arrives, and again once its share is being reclaimed.
    session: Option<u64>,
    /// Send time of the renewal the reports are from, on the worker's clock.
    reported_at: MonotonicMs,
    reports: BTreeMap<PoolKey, PoolReport>,
}

/// See the module's text.
#[derive(Clone, Debug)]
pub struct LeaderPermits {
    pub(super) timing: PermitTiming,
    elected_at: MonotonicMs,
    workers: BTreeMap<NodeId, Heard>,
    pub(super) draining: BTreeSet<NodeId>,
    /// When something was last sent or proposed for a share; bounds repetition.
    attempted: BTreeMap<Key, MonotonicMs>,
    /// Shares being lowered at the moment, and to what; not to be repaired upwards.
    shrinking: BTreeMap<Key, u32>,
    /// Idle permits to be moved: the wanted size, and when the wish ends.
    pub(super) moves: BTreeMap<Key, (u32, MonotonicMs)>,
    /// Provisioned pools whose shares could lie more evenly, and since when.
    pub(super) uneven: BTreeMap<PoolKey, MonotonicMs>,
    /// Proposed reclaims: a grant up to this sequence is not to be sent any more.
    reclaiming: BTreeMap<Key, GrantSequence>,
    /// Pools with a commit under way, and since when.
    pub(super) committing: BTreeMap<PoolKey, MonotonicMs>,
}

impl LeaderPermits {
    /// Starts at an election: every worker's silence counts from now, since the last leader may have heard
    /// it a moment ago.
    pub fn elected(timing: PermitTiming, table: &GrantTable, now: MonotonicMs) -> Self {
        let mut leader = Self {
            timing,
            elected_at: now,
            workers: BTreeMap::new(),
            draining: BTreeSet::new(),
            attempted: BTreeMap::new(),
            shrinking: BTreeMap::new(),
            moves: BTreeMap::new(),
            uneven: BTreeMap::new(),
            reclaiming: BTreeMap::new(),
            committing: BTreeMap::new(),
        };
        for (worker, incarnation) in table.workers() {
            leader.on_registered(worker, incarnation, now);
        }
        leader
    }

    /// A worker's new life was committed.
    pub fn on_registered(&mut self, worker: NodeId, incarnation: Incarnation, now: MonotonicMs) {
        self.forget_attempts(worker);
        let heard = Heard {
            incarnation,
            last_heard: now,
            session: None,
            reported_at: MonotonicMs(0),
            reports: BTreeMap::new(),
        };
        self.workers.insert(worker, heard);
    }

    /// The operator's word on a dead worker was committed.
    pub fn on_forgotten(&mut self, worker: NodeId) {
        self.forget_attempts(worker);
        self.workers.remove(&worker);
        self.draining.remove(&worker);
    }

    /// Whether a worker is to lose its permits as they fall idle.
    pub fn set_draining(&mut self, worker: NodeId, draining: bool) {
        if draining {
            self.draining.insert(worker);
        } else {
            self.draining.remove(&worker);
        }
    }

    fn forget_attempts(&mut self, worker: NodeId) {
        self.attempted.retain(|(w, _), _| *w != worker);
        self.shrinking.retain(|(w, _), _| *w != worker);
        self.moves.retain(|(w, _), _| *w != worker);
        self.reclaiming.retain(|(w, _), _| *w != worker);
    }

    /// A renewal arrived. The reply must leave only after leadership was confirmed later than this call.
    /// `None`: a life this leader has not seen the registration of; stay silent, it will ask again.
    pub fn on_renewal(
        &mut self,
        table: &GrantTable,
        renewal: &Renewal,
        now: MonotonicMs,
    ) -> Option<RenewalReply> {
        let worker = renewal.worker;
        if table.is_superseded(worker, renewal.incarnation) {
            return Some(RenewalReply::Superseded);
        }
        if table.incarnation(worker) != Some(renewal.incarnation) {
            return None;
        }
        if self.workers.get(&worker).map(|h| h.incarnation) != Some(renewal.incarnation) {
            self.on_registered(worker, renewal.incarnation, now);
        }
        let heard = self.workers.get_mut(&worker)?;
        heard.last_heard = now;
        let is_new_session = heard.session.is_none_or(|s| s < renewal.session);
        if is_new_session {
            heard.session = Some(renewal.session);
        }
        // Renewals may overtake each other; reports only go forward.
        if is_new_session || heard.reported_at < renewal.sent_at {
            heard.reported_at = renewal.sent_at;
            heard.reports = renewal.pools.iter().cloned().collect();
        }
        if is_new_session {
            // What was sent in the old session is void: nothing to wait for.
            self.attempted.retain(|(w, _), _| *w != worker);
        }
        Some(RenewalReply::Renewed {
            session: renewal.session,
            sent_at: renewal.sent_at,
        })
    }

    /// A worker's answer to a shrink: what to propose, if the answer still says something.
    pub fn on_shrink_answer(
        &self,
        table: &GrantTable,
        answer: &ShrinkAnswer,
    ) -> Option<GrantChange> {
        let granted = table.granted(answer.worker, &answer.pool)?;
        let is_of_base = granted.sequence == answer.base || planted::is(Bug::ShrinkBaseIgnored);
        (is_of_base && answer.n < granted.n).then(|| GrantChange::Shrink {
            worker: answer.worker,
            pool: answer.pool.clone(),
            n: answer.n,
            base: answer.base,
        })
    }

    /// Changes were committed: tell the workers.
    pub fn on_committed(
        &mut self,
        outcomes: &[GrantOutcome],
        now: MonotonicMs,
    ) -> Vec<PermitAction> {
        let mut actions = Vec::new();
        for outcome in outcomes {
            self.committing.remove(&outcome.pool);
            let key = (outcome.worker, outcome.pool.clone());
            // This leader wants the share back from a worker it thinks silent. If the worker has returned
            // meanwhile, it must not start to use what a proposal under way takes from it.
            if self
                .reclaiming
                .get(&key)
                .is_some_and(|base| outcome.sequence <= *base)
            {
                continue;
            }
            self.reclaiming.remove(&key);
            if let Some(action) = self.shrink_on(&key, outcome) {
                self.attempted.insert(key, now);
                actions.push(action);
                continue;
            }
            if let Some(action) =
                self.send_grant(&key, outcome.n, outcome.sequence, outcome.incarnation)
            {
                self.attempted.insert(key, now);
                actions.push(action);
            }
        }
        actions
    }

    /// A commit for the pool was refused or lost.
    pub fn on_commit_failed(&mut self, pool: &PoolKey) {
        self.committing.remove(pool);
    }

    fn send_grant(
        &self,
        (worker, pool): &Key,
        n: u32,
        sequence: GrantSequence,
        incarnation: Incarnation,
    ) -> Option<PermitAction> {
        let heard = self.workers.get(worker)?;
        let session = heard.session.filter(|_| heard.incarnation == incarnation)?;
        Some(PermitAction::SendGrant {
            worker: *worker,
            grant: Grant {
                pool: pool.clone(),
                n,
                sequence,
                incarnation,
                session,
            },
        })
    }

    /// A gateway found no permit. `candidates` need no `idle_permits`: they are filled in from the reports.
    pub fn plan_grow(
        &mut self,
        table: &GrantTable,
        need: &Need,
        candidates: &[Candidate],
        now: MonotonicMs,
    ) -> GrowPlan {
        if self.is_committing(&need.pool, now) {
            return GrowPlan::Wait;
        }
        let plan = plan_grow(table, need, &self.with_idle_permits(need, candidates, now));
        self.note_plan(need, &plan, now);
        plan
    }

    /// As [`Self::plan_grow`] of some of the candidates: a plan that is as good as one of them all, or `None` when only all
    /// of them tell.
    pub fn plan_grow_of_some(
        &mut self,
        table: &GrantTable,
        need: &Need,
        some: &[Candidate],
        now: MonotonicMs,
    ) -> Option<GrowPlan> {
        if self.is_committing(&need.pool, now) {
            return Some(GrowPlan::Wait);
        }
        let plan = plan_grow(table, need, &self.with_idle_permits(need, some, now));
        match plan {
            GrowPlan::Commit(_) | GrowPlan::UseIdle(_) => {
                self.note_plan(need, &plan, now);
                Some(plan)
            }
            GrowPlan::Move(_) | GrowPlan::Wait | GrowPlan::NoRoom | GrowPlan::Throttle => None,
        }
    }

    /// Whether a commit for the pool is under way, which is to be waited for.
    fn is_committing(&self, pool: &PoolKey, now: MonotonicMs) -> bool {
        let since = self.committing.get(pool);
        since.is_some_and(|since| now.since(*since) < self.timing.resend_ms)
    }

    fn with_idle_permits(
        &self,
        need: &Need,
        candidates: &[Candidate],
        now: MonotonicMs,
    ) -> Vec<Candidate> {
        candidates
            .iter()
            .filter(|c| self.is_live(c.worker, now) && !self.draining.contains(&c.worker))
            .map(|c| Candidate {
                idle_permits: self.idle_permits(c.worker, &need.pool),
                ..*c
            })
            .collect()
    }

    /// What is under way because of a plan.
    fn note_plan(&mut self, need: &Need, plan: &GrowPlan, now: MonotonicMs) {
        match plan {
            GrowPlan::Commit(changes) => {
                self.committing.insert(need.pool.clone(), now);
                // Who gets more is not asked for less.
                for change in changes {
                    let (worker, pool) = change.key();
                    let key = (worker, pool.clone());
                    self.moves.remove(&key);
                    self.shrinking.remove(&key);
                }
            }
            GrowPlan::Move(moves) => {
                let until = now.plus(3 * self.timing.resend_ms);
                for (worker, n) in moves {
                    let key = (*worker, need.pool.clone());
                    self.moves.insert(key, (*n, until));
                }
            }
            // Nothing is under way because of these.
            GrowPlan::UseIdle(_) | GrowPlan::Wait | GrowPlan::NoRoom | GrowPlan::Throttle => {}
        }
    }

    fn idle_permits(&self, worker: NodeId, pool: &PoolKey) -> u32 {
        self.workers
            .get(&worker)
            .and_then(|h| h.reports.get(pool))
            .map_or(0, |r| r.ceiling.saturating_sub(r.in_flight))
    }

    /// Whether the worker was heard within TTL_w: beyond that it accepts nothing reserved anyway.
    pub fn is_live(&self, worker: NodeId, now: MonotonicMs) -> bool {
        self.workers.get(&worker).is_some_and(|h| {
            h.session.is_some() && now.since(h.last_heard) < self.timing.worker_ttl_ms
        })
    }

    /// Whether this leader knows enough to take permits away: every worker was heard, or it has waited.
    pub fn is_settled(&self, now: MonotonicMs) -> bool {
        now.since(self.elected_at) >= self.timing.settle_ms
            || self.workers.values().all(|h| h.session.is_some())
    }

    /// Whether a worker is expected that has not been heard in this life or by this leader: what is given without it lies
    /// unevenly, and sandboxes that are made for it end again when it is evened out.
    pub(super) fn is_anyone_coming(&self, now: MonotonicMs) -> bool {
        self.workers.values().any(|heard| {
            heard.session.is_none() && now.since(heard.last_heard) < self.timing.resend_ms
        })
    }

    /// Shares of workers that were silent for longer than they can have used them.
    /// `longest_timeout_ms` answers, for a pool, the longest timeout any invocation that may still run was
    /// started with (so a timeout lowered a minute ago does not count yet).
    pub fn plan_reclaims(
        &mut self,
        table: &GrantTable,
        now: MonotonicMs,
        longest_timeout_ms: impl Fn(&PoolKey) -> u64,
    ) -> Vec<GrantChange> {
        let mut changes = Vec::new();
        for (pool, _) in table.pools() {
            let mut wait_ms = self.timing.reclaim_after_ms(longest_timeout_ms(pool));
            if planted::is(Bug::ReuseBeforeWait) {
                wait_ms = self.timing.worker_ttl_ms / 4;
            }
            for (worker, granted) in table.shares(pool) {
                if planted::is(Bug::ReleaseByHeartbeat) {
                    changes.extend(self.unused_by_heartbeat(worker, pool, granted));
                }
                let silent_since = self
                    .workers
                    .get(&worker)
                    .map_or(self.elected_at, |h| h.last_heard);
                let key = (worker, pool.clone());
                if now.since(silent_since) < wait_ms || self.is_recent(&key, now) {
                    continue;
                }
                if let Some(heard) = self.workers.get_mut(&worker) {
                    heard.session = None;
                    heard.reports.clear();
                }
                self.attempted.insert(key.clone(), now);
                self.reclaiming.insert(key, granted.sequence);
                changes.push(GrantChange::Reclaim {
                    worker,
                    pool: pool.clone(),
                    base: granted.sequence,
                });
            }
        }
        changes
    }

    /// A rule that does not hold: what a report says is idle may be in use by now.
    fn unused_by_heartbeat(
        &self,
        worker: NodeId,
        pool: &PoolKey,
        granted: Granted,
    ) -> Option<GrantChange> {
        let report = self.workers.get(&worker)?.reports.get(pool)?;
        (report.in_flight < granted.n).then(|| GrantChange::Shrink {
            worker,
            pool: pool.clone(),
            n: report.in_flight,
            base: granted.sequence,
        })
    }

    fn is_recent(&self, key: &Key, now: MonotonicMs) -> bool {
        self.attempted
            .get(key)
            .is_some_and(|at| now.since(*at) < self.timing.resend_ms)
    }

    /// Makes workers and table agree again after lost messages and ended sessions: a share the worker does
    /// not have in full is committed anew (a plain repetition could revive what a reclaim has taken), and a
    /// ceiling without a share is brought down.
    pub fn plan_repairs(&mut self, table: &GrantTable, now: MonotonicMs) -> Vec<PermitAction> {
        let mut commits = Vec::new();
        let mut sends = Vec::new();
        for (key, share) in self.shares_and_reports(table) {
            if !self.is_live(key.0, now) || self.is_recent(&key, now) {
                continue;
            }
            let Some(heard) = self.workers.get(&key.0) else {
                continue;
            };
            let report = heard.reports.get(&key.1).copied().unwrap_or_default();
            match share {
                Some((n, sequence)) => {
                    let agrees = report.sequence == sequence && report.ceiling == n;
                    if agrees || self.shrinking.contains_key(&key) {
                        continue;
                    }
                    commits.push(GrantChange::Grow {
                        worker: key.0,
                        pool: key.1.clone(),
                        n,
                        incarnation: heard.incarnation,
                    });
                }
                None if report.ceiling == 0 => continue,
                // Absent as of the newest entry; a share committed later has a higher sequence.
                None => {
                    sends.extend(self.send_grant(&key, 0, table.last_sequence(), heard.incarnation))
                }
            }
            self.attempted.insert(key, now);
        }
        if !commits.is_empty() {
            sends.push(PermitAction::Commit(commits));
        }
        sends
    }

    /// Every (worker, pool) that the table or a report speaks of, with the committed share.
    fn shares_and_reports(
        &self,
        table: &GrantTable,
    ) -> BTreeMap<Key, Option<(u32, GrantSequence)>> {
        let reported = self.workers.iter().flat_map(|(worker, heard)| {
            heard
                .reports
                .keys()
                .map(|pool| ((*worker, pool.clone()), None))
        });
        let mut all: BTreeMap<_, _> = reported.collect();
        for (pool, _) in table.pools() {
            for (worker, granted) in table.shares(pool) {
                let share = Some((granted.n, granted.sequence));
                all.insert((worker, pool.clone()), share);
            }
        }
        all
    }
}

#[path = "leader_shrinks.rs"]
mod shrinks;

#[cfg(test)]
#[path = "leader_tests.rs"]
mod tests;
