//! Workers in session: registration, heartbeats and their renewals, silence.

use std::collections::BTreeMap;

use hearth_core::function::StateReason;
use hearth_core::ids::{GrantSequence, Incarnation, MonotonicMs, NodeId, PoolKey};
use hearth_core::permits::{PoolReport, Renewal, RenewalReply, ShrinkAnswer};
use hearth_core::planted::{self, Bug};
use hearth_proto::convert;
use hearth_proto::internal::v1 as pb;
use pb::worker_order::Order;
use pb::worker_report::Report;
use tokio::sync::mpsc;

use super::term::{Done, Term};
use crate::raft::ProposeError;
use crate::reconcile::observed::{Kept, Worker};
use crate::state::command::{Command, Registration, Role};
use crate::state::reply::Reply;

/// A change of health that is still not in the state by then is proposed again.
const HEALTH_AGAIN_MS: u64 = 1_000;
/// Bounds of what a worker may say of itself, so that its registration fits a log entry.
const TEXT_MAX: usize = 256;
const LIST_MAX: usize = 64;

/// A worker's open connection.
#[derive(Debug)]
struct Session {
    number: u64,
    orders: mpsc::Sender<pb::WorkerOrder>,
}

/// A session whose worker's life is being committed.
#[derive(Debug)]
struct Opening {
    worker: NodeId,
    registration: Registration,
    orders: mpsc::Sender<pb::WorkerOrder>,
    /// Whether this life was in the state already.
    is_known: bool,
}

/// All connections of workers.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    open: BTreeMap<NodeId, Session>,
    opening: BTreeMap<u64, Opening>,
    /// When each worker was heard last in this term, sessions that ended included.
    last_heard: BTreeMap<NodeId, MonotonicMs>,
}

impl Sessions {
    fn is_current(&self, worker: NodeId, number: u64) -> bool {
        self.open.get(&worker).is_some_and(|s| s.number == number)
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }
}

impl Term {
    pub(super) fn on_open(
        &mut self,
        session: u64,
        register: pb::RegisterWorker,
        orders: mpsc::Sender<pb::WorkerOrder>,
    ) {
        let worker = NodeId(register.node_id);
        let Some(registration) = registration(register) else {
            tracing::warn!(%worker, "registration is malformed or too large");
            return;
        };
        let incarnation = registration.incarnation;
        let known = self
            .deps
            .consensus
            .read(|m| m.state().grants.table().incarnation(worker));
        let opening = Opening {
            worker,
            registration: registration.clone(),
            orders,
            is_known: known == Some(incarnation),
        };
        self.sessions.opening.insert(session, opening);
        let command = Command::RegisterWorker {
            worker,
            registration,
        };
        self.propose(&command, move |result| Done::Registered { session, result });
    }

    pub(super) fn on_registered(&mut self, session: u64, result: Result<Reply, ProposeError>) {
        let Some(opening) = self.sessions.opening.remove(&session) else {
            return;
        };
        let worker = opening.worker;
        match result {
            Ok(Reply::Done) => {}
            Ok(Reply::Superseded) => {
                tracing::warn!(%worker, "an older life of the worker was refused");
                let _gone = opening.orders.try_send(superseded());
                return;
            }
            // Dropping the orders ends the session; the worker comes back.
            Ok(other) => return tracing::warn!(%worker, ?other, "worker was not registered"),
            Err(error) => return tracing::warn!(%worker, %error, "worker was not registered"),
        }
        let now = self.now();
        let incarnation = opening.registration.incarnation;
        if !opening.is_known {
            self.permits.on_registered(worker, incarnation, now);
        }
        let observed = Worker {
            incarnation,
            memory_mib: opening.registration.memory_mib,
            free_memory_mib: opening.registration.memory_mib,
            sandboxes: 0,
            runtimes: opening.registration.runtimes,
            draining: false,
            told_to_drain: None,
            last_heard: now,
            pools: BTreeMap::new(),
            kept: BTreeMap::new(),
        };
        self.observed.insert(worker, observed);
        self.sessions.last_heard.insert(worker, now);
        let orders = opening.orders;
        let number = session;
        self.sessions
            .open
            .insert(worker, Session { number, orders });
        let lease_ms = self.deps.options.timing.worker_ttl_ms;
        self.order(worker, Order::Registered(pb::Registered { lease_ms }));
        tracing::info!(%worker, %incarnation, "worker in session");
    }

    pub(super) fn on_closed(&mut self, session: u64, worker: NodeId) {
        self.sessions.opening.remove(&session);
        if self.sessions.is_current(worker, session) {
            self.end_session(worker);
        }
    }

    fn end_session(&mut self, worker: NodeId) {
        self.sessions.open.remove(&worker);
        self.observed.remove(worker);
    }

    /// Sends, or ends the session of a worker that does not read: it comes back and is told again.
    pub(crate) fn order(&mut self, worker: NodeId, order: Order) {
        let Some(session) = self.sessions.open.get(&worker) else {
            return;
        };
        let order = pb::WorkerOrder { order: Some(order) };
        if let Err(error) = session.orders.try_send(order) {
            tracing::warn!(%worker, %error, "worker does not read its orders");
            self.end_session(worker);
        }
    }

    pub(super) fn on_report(&mut self, session: u64, worker: NodeId, report: Report) {
        if !self.sessions.is_current(worker, session) {
            return;
        }
        match report {
            // A second registration on one stream says nothing new.
            Report::Register(_) => {}
            Report::Heartbeat(heartbeat) => self.on_heartbeat(worker, &heartbeat),
            Report::GrantTaken(taken) => self.on_grant_taken(worker, &taken),
            Report::ShrinkAnswer(answer) => self.on_shrink_answer(worker, &answer),
            Report::Prepared(prepared) => self.on_prepared(worker, &prepared),
        }
    }

    fn on_heartbeat(&mut self, worker: NodeId, heartbeat: &pb::Heartbeat) {
        let now = self.now();
        let pools = pools(&heartbeat.pools);
        self.sessions.last_heard.insert(worker, now);
        let Some(observed) = self.observed.worker_mut(worker) else {
            return;
        };
        observed.last_heard = now;
        observed.free_memory_mib = heartbeat.free_memory_mib;
        observed.sandboxes = heartbeat.sandboxes;
        let is_drain_wanted = self
            .deps
            .consensus
            .read(|m| m.state().nodes.is_drain_wanted(Role::Worker, worker));
        observed.draining = heartbeat.draining || is_drain_wanted;
        let draining = observed.draining;
        let is_news = observed.told_to_drain != Some(is_drain_wanted);
        observed.told_to_drain = Some(is_drain_wanted);
        if let Some(runtimes) = &heartbeat.runtimes
            && are_runtimes(&runtimes.names)
        {
            tracing::info!(%worker, runtimes = ?runtimes.names, "worker's runtimes changed");
            observed.runtimes.clone_from(&runtimes.names);
        }
        observed.kept = kept(&heartbeat.kept);
        let incarnation = observed.incarnation;
        self.observed.on_pools(worker, pools.clone());
        self.permits.set_draining(worker, draining);
        let renewal = Renewal {
            worker,
            incarnation,
            session: heartbeat.session,
            sent_at: MonotonicMs(heartbeat.sent_at_ms),
            pools: pools.into_iter().collect(),
        };
        let permits = &mut self.permits;
        let reply = self
            .deps
            .consensus
            .read(|m| permits.on_renewal(m.state().grants.table(), &renewal, now));
        match reply {
            Some(RenewalReply::Renewed { session, sent_at }) => {
                let renewal = pb::Renewal {
                    sent_at_ms: sent_at.0,
                    session,
                    superseded: false,
                };
                self.renewals.push((worker, renewal));
            }
            Some(RenewalReply::Superseded) => {
                self.order(worker, superseded().order.expect("made with an order"));
                self.permits.on_forgotten(worker);
                self.end_session(worker);
            }
            None => {}
        }
        self.note_health(worker, incarnation, true, heartbeat.draining, now);
        if is_news {
            let draining = is_drain_wanted;
            self.order(worker, Order::SetDraining(pb::SetDraining { draining }));
        }
    }

    /// Renewals leave only after leadership was confirmed later than they arrived, else a deposed leader
    /// could keep a worker alive that the new one believes silent.
    pub(super) fn flush_renewals(&mut self) {
        if self.is_confirming || self.renewals.is_empty() {
            return;
        }
        self.is_confirming = true;
        let renewals = std::mem::take(&mut self.renewals);
        let consensus = self.deps.consensus.clone();
        let term = self.term;
        self.tasks.spawn(async move {
            if planted::is(Bug::RenewalUnconfirmed) {
                let is_leader = true;
                return Done::Confirmed {
                    renewals,
                    is_leader,
                };
            }
            let read = consensus.read_index().await;
            // The barrier may have been another leader's; this node knew that by then.
            let leadership = consensus.leadership();
            Done::Confirmed {
                renewals,
                is_leader: read.is_ok() && leadership.is_leader && leadership.term == term,
            }
        });
    }

    pub(super) fn on_confirmed(&mut self, renewals: Vec<(NodeId, pb::Renewal)>, is_leader: bool) {
        self.is_confirming = false;
        if is_leader {
            for (worker, renewal) in renewals {
                self.order(worker, Order::Renewal(renewal));
            }
        }
    }

    fn on_grant_taken(&mut self, worker: NodeId, taken: &pb::GrantTaken) {
        let Ok(pool) = convert::required_pool(taken.pool.as_ref()) else {
            return;
        };
        let sequence = GrantSequence(taken.sequence);
        let granted = self
            .deps
            .consensus
            .read(|m| m.state().grants.table().granted(worker, &pool));
        // One that was overtaken will be followed by the newer one's.
        if granted.is_some_and(|g| g.sequence == sequence) {
            self.needs.on_taken(worker, &pool);
        }
    }

    fn on_shrink_answer(&mut self, worker: NodeId, answer: &pb::ShrinkAnswer) {
        let Ok(pool) = convert::required_pool(answer.pool.as_ref()) else {
            return;
        };
        let answer = ShrinkAnswer {
            worker,
            pool,
            n: answer.permits,
            base: GrantSequence(answer.base_sequence),
        };
        let permits = &self.permits;
        let change = self
            .deps
            .consensus
            .read(|m| permits.on_shrink_answer(m.state().grants.table(), &answer));
        self.push_commits(change);
    }

    fn on_prepared(&mut self, worker: NodeId, prepared: &pb::Prepared) {
        let key = convert::version_key(
            &prepared.account,
            &prepared.function,
            &prepared.version,
            prepared.generation,
        );
        let Ok(key) = key else {
            return;
        };
        let answer = if prepared.ok {
            Ok(())
        } else {
            Err(StateReason {
                code: prepared.reason_code.chars().take(TEXT_MAX).collect(),
                message: prepared.reason.chars().take(4 * TEXT_MAX).collect(),
            })
        };
        self.preparations.on_prepared(worker, &key, answer);
    }

    /// Workers that are gone, for gateways to know; and workers the operator has declared dead.
    pub(super) fn on_silence_tick(&mut self) {
        let now = self.now();
        let silent_after_ms = self.deps.options.silent_after_ms;
        let reachable = self.deps.consensus.read(|m| {
            let workers = m.state().nodes.workers().filter(|(_, w)| w.reachable);
            workers
                .map(|(id, w)| (id, w.registration.incarnation, w.draining))
                .collect::<Vec<_>>()
        });
        for (id, incarnation, draining) in reachable {
            let heard = self.sessions.last_heard.get(&id);
            let heard = heard.copied().unwrap_or(self.elected_at);
            if now.since(heard) > silent_after_ms {
                self.note_health(id, incarnation, false, draining, now);
            }
        }
        self.deps
            .metrics
            .workers
            .set(i64::try_from(self.sessions.len()).unwrap_or(i64::MAX));
    }

    fn note_health(
        &mut self,
        worker: NodeId,
        incarnation: Incarnation,
        reachable: bool,
        draining: bool,
        now: MonotonicMs,
    ) {
        let known = self.deps.consensus.read(|m| {
            let worker = m.state().nodes.worker(worker);
            worker
                .filter(|w| w.registration.incarnation == incarnation)
                .map(|w| (w.reachable, w.draining))
        });
        let is_recent = self
            .health_proposed
            .get(&worker)
            .is_some_and(|at| now.since(*at) < HEALTH_AGAIN_MS);
        if known.is_none_or(|known| known == (reachable, draining)) || is_recent {
            return;
        }
        self.health_proposed.insert(worker, now);
        let command = Command::SetWorkerHealth {
            worker,
            incarnation,
            reachable,
            draining,
        };
        tracing::info!(%worker, reachable, draining, "worker's health changed");
        self.propose(&command, |result| Done::Proposed {
            what: "worker health",
            result,
        });
    }
}

fn superseded() -> pb::WorkerOrder {
    let renewal = pb::Renewal {
        sent_at_ms: 0,
        session: 0,
        superseded: true,
    };
    pb::WorkerOrder {
        order: Some(Order::Renewal(renewal)),
    }
}

fn is_text(text: &str) -> bool {
    !text.is_empty() && text.len() <= TEXT_MAX
}

fn are_runtimes(names: &[String]) -> bool {
    names.len() <= LIST_MAX && names.iter().all(|name| is_text(name))
}

/// What is kept of a registration; `None` when it cannot be or is out of bounds.
fn registration(register: pb::RegisterWorker) -> Option<Registration> {
    let fits = register.node_id != 0
        && is_text(&register.addr)
        && are_runtimes(&register.runtimes)
        && register.labels.len() <= LIST_MAX
        && register
            .labels
            .iter()
            .all(|(k, v)| is_text(k) && v.len() <= TEXT_MAX);
    fits.then(|| Registration {
        incarnation: Incarnation(register.incarnation),
        addr: register.addr,
        memory_mib: register.memory_mib,
        runtimes: register.runtimes,
        labels: register.labels.into_iter().collect(),
    })
}

/// Kept sandboxes of a report.
fn kept(kept: &[pb::Kept]) -> BTreeMap<PoolKey, Kept> {
    kept.iter()
        .filter_map(|kept| {
            let pool = convert::required_pool(kept.pool.as_ref()).ok()?;
            let failure = kept.failure.chars().take(TEXT_MAX).collect::<String>();
            let kept = Kept {
                ready: kept.ready,
                starting: kept.starting,
                failure: Some(failure).filter(|text| !text.is_empty()),
            };
            Some((pool, kept))
        })
        .collect()
}

/// Pools of a report; one that cannot be read is left out.
fn pools(uses: &[pb::PoolUse]) -> BTreeMap<PoolKey, PoolReport> {
    uses.iter()
        .filter_map(|used| {
            let pool = convert::required_pool(used.pool.as_ref()).ok()?;
            let report = PoolReport {
                ceiling: used.ceiling,
                in_flight: used.in_flight,
                sequence: GrantSequence(used.sequence),
            };
            Some((pool, report))
        })
        .collect()
}
