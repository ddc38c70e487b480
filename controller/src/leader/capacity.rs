//! Capacity for gateways: needs are planned, grants committed, workers told. The decisions are
//! `hearth_core::permits`'.

use std::collections::BTreeSet;

use hearth_core::ids::{MonotonicMs, NodeId, PoolKey};
use hearth_core::permits::{Candidate, GrantChange, GrowPlan, Need, PermitAction};
use hearth_proto::internal::v1 as pb;
use pb::need_capacity_reply::Outcome;
use pb::worker_order::Order;
use tokio::sync::oneshot;

use super::needs::{self, NEED_DEADLINE_MS, NeedKey, Waiter};
use super::term::{Done, Term};
use crate::raft::ProposeError;
use crate::state::command::Command;
use crate::state::reply::Reply;

/// Holders of a pool, and other workers, that a decision looks at first: all that is known of most pools, and far more than
/// it takes to spread permits. Only when they do not suffice are all looked at.
const HOLDERS_LOOKED_AT: usize = 64;
const OTHERS_LOOKED_AT: usize = 16;

/// How a need ended, or did not yet.
enum Planned {
    NotFound,
    Grow {
        pool: PoolKey,
        plan: GrowPlan,
        /// Workers with a share they have not reported on: they may have room by now.
        unreported: Vec<NodeId>,
    },
}

/// Nothing new is given to workers that nobody who asks would send to, and what lies idle there may move.
fn without_room(candidates: &mut [Candidate], ejected: &BTreeSet<NodeId>) {
    for candidate in candidates
        .iter_mut()
        .filter(|c| ejected.contains(&c.worker))
    {
        (candidate.has_room, candidate.can_make_room) = (false, false);
    }
}

impl Term {
    pub(super) fn on_need(
        &mut self,
        request: pb::NeedCapacityRequest,
        reply: oneshot::Sender<pb::NeedCapacityReply>,
    ) {
        self.deps.metrics.needs.inc();
        let (Ok(account), Ok(function)) = (request.account.parse(), request.function.parse())
        else {
            let _gone = reply.send(needs::without(Outcome::NotFound));
            return;
        };
        let waiter = Waiter {
            wanted: request.wanted,
            memory_mib: request.memory_mib,
            refused_by: request.refused_by.into_iter().map(NodeId).collect(),
            ejected: request.ejected.into_iter().map(NodeId).collect(),
            reply,
            until: self.now().plus(NEED_DEADLINE_MS),
        };
        let key = (account, function);
        let now = self.now();
        self.needs.push(key.clone(), waiter);
        if let Some(wanted) = self.needs.wanted(&key, now) {
            self.plan_one(&key, wanted, now);
        }
    }

    /// Looks at all questions that are open.
    pub(super) fn plan_needs(&mut self) {
        let now = self.now();
        for (key, wanted) in self.needs.plannable(now) {
            self.plan_one(&key, wanted, now);
        }
    }

    fn plan_one(&mut self, key: &NeedKey, wanted: u32, now: MonotonicMs) {
        match self.plan_need(key, wanted, now) {
            Planned::NotFound => self
                .needs
                .answer(key, |_| needs::without(Outcome::NotFound)),
            Planned::Grow {
                pool,
                plan,
                unreported,
            } => self.on_plan(key, pool, plan, &unreported, now),
        }
    }

    fn plan_need(&mut self, key: &NeedKey, wanted: u32, now: MonotonicMs) -> Planned {
        let since = self.heard_since(now);
        let asked_mib = self.needs.memory_mib(key);
        let ejected = Some(self.needs.ejected(key));
        let (permits, observed) = (&mut self.permits, &self.observed);
        self.deps.consensus.read(|m| {
            let state = m.state();
            let Some(function) = state.functions.function(&key.0, &key.1) else {
                return Planned::NotFound;
            };
            let serving = function.serving.as_ref().unwrap_or(&function.latest);
            let memory_mib = asked_mib.unwrap_or(serving.config.memory_mib);
            let need = Need {
                pool: function.pool(),
                count: wanted,
            };
            let table = state.grants.table();
            // A function that may not run at all is refused whoever holds what.
            let ejected = ejected.filter(|_| table.limit(&need.pool) > Some(0));
            let ejected = ejected.unwrap_or_default();
            let holders = || table.shares(&need.pool).map(|(worker, _)| worker);
            let mut some = observed.candidates(
                memory_mib,
                since,
                holders().take(HOLDERS_LOOKED_AT),
                OTHERS_LOOKED_AT,
            );
            without_room(&mut some, &ejected);
            let plan = permits.plan_grow_of_some(table, &need, &some, now);
            let plan = plan.unwrap_or_else(|| {
                let mut all = observed.candidates(memory_mib, since, holders(), usize::MAX);
                without_room(&mut all, &ejected);
                permits.plan_grow(table, &need, &all, now)
            });
            let is_unreported = |worker: NodeId, sequence| {
                let observed = observed.worker(worker).filter(|w| w.last_heard >= since);
                observed
                    .is_some_and(|w| w.pools.get(&need.pool).map(|r| r.sequence) != Some(sequence))
            };
            // Of interest before somebody is told that nothing is left.
            let shares = (plan == GrowPlan::Throttle).then(|| table.shares(&need.pool));
            let unreported: Vec<NodeId> = shares
                .into_iter()
                .flatten()
                .filter(|(worker, granted)| is_unreported(*worker, granted.sequence))
                .map(|(worker, _)| worker)
                .collect();
            // What may lie idle where nobody sends moves away once it is reported.
            let may_move = unreported.iter().any(|worker| ejected.contains(worker));
            Planned::Grow {
                pool: need.pool.clone(),
                plan: if may_move { GrowPlan::Wait } else { plan },
                unreported,
            }
        })
    }

    fn on_plan(
        &mut self,
        key: &NeedKey,
        pool: PoolKey,
        plan: GrowPlan,
        unreported: &[NodeId],
        now: MonotonicMs,
    ) {
        match plan {
            GrowPlan::Commit(changes) => {
                self.note_given(&changes);
                self.push_commits(changes);
                self.needs.await_grant(key, pool, now);
            }
            GrowPlan::UseIdle(workers) => self.answer_with(key, &pool, &workers),
            GrowPlan::Move(_) => self.is_move_wanted = true,
            // Planned again by the tick.
            GrowPlan::Wait => {}
            GrowPlan::NoRoom => self
                .needs
                .answer(key, |_| needs::without(Outcome::NoWorker)),
            // Shares that were granted a moment ago look used up until the worker's next report.
            GrowPlan::Throttle => self.answer_with(key, &pool, unreported),
        }
    }

    fn note_given(&mut self, changes: &[GrantChange]) {
        for change in changes {
            let GrantChange::Grow {
                worker, pool, n, ..
            } = change
            else {
                continue;
            };
            let has = self
                .deps
                .consensus
                .read(|m| m.state().grants.table().granted(*worker, pool));
            let more = n.saturating_sub(has.map_or(0, |granted| granted.n));
            self.observed.on_given(*worker, more);
        }
    }

    /// Names the workers to those they have not refused; to the others the limit is reached, since a refusal
    /// is newer than a report.
    fn answer_with(&mut self, key: &NeedKey, pool: &PoolKey, workers: &[NodeId]) {
        let throttled = &self.deps.metrics.throttled;
        self.needs.answer(key, |waiter| {
            let left: BTreeSet<NodeId> = workers
                .iter()
                .filter(|w| !waiter.refused_by.contains(w))
                .copied()
                .collect();
            if left.is_empty() {
                throttled.inc();
                needs::at_limit(pool)
            } else {
                needs::granted(left)
            }
        });
    }

    pub(super) fn on_permit_tick(&mut self) {
        let now = self.now();
        let permits = &mut self.permits;
        let (reclaims, repairs) = self.deps.consensus.read(|m| {
            let grants = &m.state().grants;
            let reclaims =
                permits.plan_reclaims(grants.table(), now, |pool| grants.longest_timeout_ms(pool));
            (reclaims, permits.plan_repairs(grants.table(), now))
        });
        if !reclaims.is_empty() {
            tracing::warn!(shares = reclaims.len(), "silent workers lose their permits");
        }
        self.push_commits(reclaims);
        self.carry_out(repairs);
        self.even_out();
        self.plan_shrinks();
    }

    pub(super) fn plan_shrinks(&mut self) {
        let now = self.now();
        let permits = &mut self.permits;
        let shrinks = self
            .deps
            .consensus
            .read(|m| permits.plan_shrinks(m.state().grants.table(), now));
        self.carry_out(shrinks);
    }

    pub(crate) fn push_commits(&mut self, changes: impl IntoIterator<Item = GrantChange>) {
        for change in changes {
            let pool = change.key().1.clone();
            if !self.commits.push(change) {
                self.permits.on_commit_failed(&pool);
                self.needs.on_commit_failed(&pool);
            }
        }
    }

    /// All changes that have come together go into one entry.
    pub(super) fn flush_commits(&mut self) {
        if let Some(changes) = self.commits.next_batch() {
            let command = Command::ChangeGrants {
                term: self.term,
                changes: changes.clone(),
            };
            self.propose(&command, move |result| Done::Granted { changes, result });
        }
    }

    pub(super) fn on_granted(
        &mut self,
        changes: &[GrantChange],
        result: Result<Reply, ProposeError>,
    ) {
        self.commits.on_done();
        let now = self.now();
        let results = match result {
            Ok(Reply::Grants(results)) => results,
            Ok(Reply::Superseded) => {
                tracing::info!("a newer leader has begun, grants of this one are void");
                Vec::new()
            }
            Ok(other) => {
                tracing::error!(?other, "grants were answered with something else");
                Vec::new()
            }
            Err(error) => {
                tracing::warn!(%error, changes = changes.len(), "grants were not committed");
                Vec::new()
            }
        };
        let mut outcomes = Vec::new();
        let mut results = results.into_iter();
        for change in changes {
            match results.next() {
                Some(Ok(outcome)) => outcomes.push(outcome),
                refused => {
                    if let Some(Err(error)) = refused {
                        tracing::debug!(?change, %error, "change of a grant refused");
                    }
                    self.permits.on_commit_failed(change.key().1);
                    self.needs.on_commit_failed(change.key().1);
                }
            }
        }
        self.deps.metrics.grants.inc_by(outcomes.len() as u64);
        let actions = self.permits.on_committed(&outcomes, now);
        self.carry_out(actions);
    }

    fn carry_out(&mut self, actions: Vec<PermitAction>) {
        for action in actions {
            match action {
                PermitAction::Commit(changes) => self.push_commits(changes),
                PermitAction::SendGrant { worker, grant } => {
                    let order = pb::Grant {
                        pool: Some((&grant.pool).into()),
                        permits: grant.n,
                        sequence: grant.sequence.0,
                        incarnation: grant.incarnation.0,
                        session: grant.session,
                    };
                    self.order(worker, Order::Grant(order));
                }
                PermitAction::SendShrink { worker, shrink } => {
                    let order = pb::Shrink {
                        pool: Some((&shrink.pool).into()),
                        permits: shrink.n,
                        base_sequence: shrink.base.0,
                        incarnation: shrink.incarnation.0,
                        session: shrink.session,
                    };
                    self.order(worker, Order::Shrink(order));
                }
            }
        }
    }
}
