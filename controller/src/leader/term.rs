//! The task of one term: its loop, its ticks, and what it has under way. What happens on an event is in
//! [`super::sessions`], [`super::capacity`] and `reconcile`.

use std::collections::BTreeMap;
use std::time::Duration;

use hearth_core::ids::{MonotonicMs, NodeId, PoolKey};
use hearth_core::permits::{GrantChange, LeaderPermits};
use hearth_proto::internal::v1 as pb;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::commits::Commits;
use super::needs::Needs;
use super::sessions::Sessions;
use super::terms::Deps;
use super::{Event, WorkerStatus};
use crate::machine::Change;
use crate::proposals;
use crate::raft::ProposeError;
use crate::reconcile::observed::Observed;
use crate::reconcile::plan::Preparations;
use crate::state::command::Command;
use crate::state::reply::Reply;

/// Open questions are looked at this often.
const FAST_TICK: Duration = Duration::from_millis(20);
/// How often wanted and observed are compared. Far less than the quarter of a second an update takes at least.
const RECONCILE_TICK: Duration = Duration::from_millis(50);
/// "The owner calls the `plan_*` functions on a tick of about a second."
const PERMIT_TICK: Duration = Duration::from_secs(1);
/// How often silence is looked for.
const SILENCE_TICK: Duration = Duration::from_millis(250);
/// Proposals and confirmations under way; beyond it events wait.
const TASKS_MAX: usize = 1_024;

/// What a task of the leader brings back.
#[derive(Debug)]
pub(crate) enum Done {
    /// Grants were committed, or not.
    Granted {
        changes: Vec<GrantChange>,
        result: Result<Reply, ProposeError>,
    },
    /// A worker's life was committed, or not.
    Registered {
        session: u64,
        result: Result<Reply, ProposeError>,
    },
    /// Leadership was confirmed after these renewals arrived, or not.
    Confirmed {
        renewals: Vec<(NodeId, pb::Renewal)>,
        is_leader: bool,
    },
    /// A proposal whose effect shows in the state.
    Proposed {
        what: &'static str,
        result: Result<Reply, ProposeError>,
    },
}

/// Everything one leader knows.
#[derive(Debug)]
pub(crate) struct Term {
    pub(crate) deps: Deps,
    pub(super) term: u64,
    pub(super) elected_at: MonotonicMs,
    pub(crate) permits: LeaderPermits,
    pub(crate) observed: Observed,
    pub(super) sessions: Sessions,
    pub(super) commits: Commits,
    pub(super) needs: Needs,
    pub(crate) preparations: Preparations,
    /// Provisioned pools of which something finds no worker, and why.
    pub(crate) unplaced: BTreeMap<PoolKey, String>,
    /// When a change of a worker's health was last proposed; bounds repetition.
    pub(super) health_proposed: BTreeMap<NodeId, MonotonicMs>,
    /// Renewals that arrived since the last confirmation of leadership began.
    pub(super) renewals: Vec<(NodeId, pb::Renewal)>,
    pub(super) is_confirming: bool,
    /// Idle permits are wanted elsewhere: shrinks are planned at the next fast tick.
    pub(super) is_move_wanted: bool,
    pub(super) tasks: JoinSet<Done>,
}

impl Term {
    /// The state must contain everything that was committed before the term.
    pub(crate) fn begin(deps: Deps, term: u64) -> Self {
        let now = MonotonicMs(deps.clock.monotonic_ms());
        let timing = deps.options.timing;
        let permits = deps
            .consensus
            .read(|m| LeaderPermits::elected(timing, m.state().grants.table(), now));
        Self {
            deps,
            term,
            elected_at: now,
            permits,
            observed: Observed::default(),
            sessions: Sessions::default(),
            commits: Commits::default(),
            needs: Needs::default(),
            preparations: Preparations::default(),
            unplaced: BTreeMap::new(),
            health_proposed: BTreeMap::new(),
            renewals: Vec::new(),
            is_confirming: false,
            is_move_wanted: false,
            tasks: JoinSet::new(),
        }
    }

    /// Until `stop`. Dropping the future ends the term too: sessions and questions close.
    pub(super) async fn run(mut self, mut events: mpsc::Receiver<Event>, stop: CancellationToken) {
        let mut fast = tokio::time::interval(FAST_TICK);
        let mut permit = tokio::time::interval(PERMIT_TICK);
        let mut silence = tokio::time::interval(SILENCE_TICK);
        let mut reconcile = tokio::time::interval(RECONCILE_TICK);
        for tick in [&mut fast, &mut permit, &mut silence, &mut reconcile] {
            tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        }
        let (_, mut changes) = self.deps.consensus.read(|m| m.subscribe());
        loop {
            let is_idle = self.tasks.len() < TASKS_MAX;
            tokio::select! {
                () = stop.cancelled() => return,
                change = changes.recv() => self.on_change(change),
                Some(done) = self.tasks.join_next() => match done {
                    Ok(done) => self.on_done(done),
                    Err(error) => {
                        // What it would have reported back is lost, so the term is begun anew.
                        tracing::error!(%error, "a proposal of the leader panicked");
                        return;
                    }
                },
                Some(event) = events.recv(), if is_idle => self.on_event(event),
                _ = fast.tick() => self.on_fast_tick(),
                _ = reconcile.tick() => self.reconcile(),
                _ = permit.tick() => {
                    self.on_permit_tick();
                    self.raise_level();
                }
                _ = silence.tick() => self.on_silence_tick(),
            }
            self.flush_commits();
            self.flush_renewals();
        }
    }

    pub(crate) fn now(&self) -> MonotonicMs {
        MonotonicMs(self.deps.clock.monotonic_ms())
    }

    /// Workers heard at this time or later are there.
    pub(crate) fn heard_since(&self, now: MonotonicMs) -> MonotonicMs {
        MonotonicMs(now.0.saturating_sub(self.deps.options.silent_after_ms))
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Open {
                session,
                register,
                orders,
            } => self.on_open(session, register, orders),
            Event::Report {
                session,
                worker,
                report,
            } => self.on_report(session, NodeId(worker), report),
            Event::Closed { session, worker } => self.on_closed(session, NodeId(worker)),
            Event::Status { reply } => {
                let now = self.now();
                let status = self.observed.iter().map(|(id, w)| WorkerStatus {
                    id,
                    sandboxes: w.sandboxes,
                    free_memory_mib: w.free_memory_mib,
                    in_flight: w.pools.values().map(|pool| pool.in_flight).sum(),
                    draining: w.draining,
                    silent_ms: now.since(w.last_heard),
                });
                // Who asked may have gone.
                let _ = reply.send(status.collect());
            }
            Event::Provisioned {
                account,
                name,
                reply,
            } => {
                // Who asked may have gone.
                let _ = reply.send(self.provisioned_status(&account, &name));
            }
            Event::Need { request, reply } => self.on_need(request, reply),
        }
    }

    /// A lowered limit is carried out at the next fast tick, not when the slow one comes by.
    fn on_change(&mut self, change: Result<Change, RecvError>) {
        match change {
            Ok(Change::Function { account, name, .. }) => {
                let permits = &mut self.permits;
                // A reservation takes from the account's unreserved pool too.
                let pools = [
                    PoolKey::reserved(&account, &name),
                    PoolKey::unreserved(&account),
                ];
                let is_lower = self.deps.consensus.read(|m| {
                    let table = m.state().grants.table();
                    pools.map(|pool| permits.on_limit_changed(table, &pool))
                });
                self.is_move_wanted |= is_lower.contains(&true);
            }
            // Of no limit.
            Ok(Change::Iam { .. } | Change::Worker { .. } | Change::Drain { .. }) => {}
            // The state's end of the feed lives as long as this node's consensus.
            Ok(Change::Restored) | Err(RecvError::Lagged(_) | RecvError::Closed) => {
                self.is_move_wanted = true;
            }
        }
    }

    fn on_done(&mut self, done: Done) {
        match done {
            Done::Granted { changes, result } => self.on_granted(&changes, result),
            Done::Registered { session, result } => self.on_registered(session, result),
            Done::Confirmed {
                renewals,
                is_leader,
            } => self.on_confirmed(renewals, is_leader),
            Done::Proposed { what, result } => match result {
                Ok(_) => {}
                // Whatever it was about shows in the state and is proposed again by a tick.
                Err(error) => tracing::warn!(what, %error, "the leader's proposal failed"),
            },
        }
    }

    fn on_fast_tick(&mut self) {
        if !self.needs.is_empty() {
            self.plan_needs();
        }
        if std::mem::take(&mut self.is_move_wanted) {
            self.plan_shrinks();
        }
    }

    /// Proposes in the background; `make` turns the answer into what [`Self::on_done`] gets.
    pub(crate) fn propose(
        &mut self,
        command: &Command,
        make: impl FnOnce(Result<Reply, ProposeError>) -> Done + Send + 'static,
    ) {
        let consensus = self.deps.consensus.clone();
        let admitted = consensus.admit(command);
        self.deps.metrics.proposals.inc();
        self.tasks.spawn(async move {
            let proposed = match admitted {
                Ok(bytes) => consensus.propose(bytes).await,
                Err(error) => Err(error),
            };
            make(proposed.and_then(|proposed| proposals::answer(&proposed.reply)))
        });
    }
}
