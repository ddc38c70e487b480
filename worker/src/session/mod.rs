//! The session with the leader: registration, heartbeats, grants, preparation of code. The rules of grants are
//! `hearth_core::permits`, kept in [`crate::pool::gates`]. Losing the leader changes nothing here but the search for
//! one: what is held stays held.

pub(crate) mod incarnation;
mod prepare;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hearth_core::ids::{GrantSequence, Incarnation, MonotonicMs};
use hearth_core::permits::{Grant, RenewalReply, Shrink};
use hearth_node::grpc::{Backoff, with_deadline};
use hearth_node::health::Health;
use hearth_proto::convert::required_pool;
use hearth_proto::internal::v1 as pb;
use pb::worker_order::Order;
use pb::worker_registry_client::WorkerRegistryClient;
use pb::worker_report::Report;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tracing::{debug, error, info, warn};

use crate::controllers::Controllers;
use crate::invoke::pool_use;
use crate::pool::Engine;
use prepare::Preparing;

/// Time between heartbeats.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// A leader that answers nothing for so long is looked for again: longer than an election, during which no leader can
/// confirm a renewal, and short enough that the next leader hears the worker before it takes it for gone.
const SILENCE: Duration = Duration::from_millis(1_500);

/// Reports on their way to the leader; a few grants' answers and a heartbeat.
const REPORTS: usize = 256;

/// How long to wait between rounds over the controllers. An election takes a second or more, and a new leader tells gateways
/// to leave a worker that it has not heard for two seconds: the pause must have stayed well below that.
const SEARCH: Backoff = Backoff {
    first: Duration::from_millis(50),
    limit: Duration::from_millis(500),
    attempts: u32::MAX,
};

/// What the worker says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) node_id: u64,
    pub(crate) addr: String,
    pub(crate) memory_mib: u64,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) lease_ms: u64,
}

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// That one does not lead; perhaps this one does.
    NotLeader(Option<String>),
    /// The connection or the controller is gone. It had been a session if true.
    Lost(bool),
    /// This life of the worker is over.
    Superseded,
}

/// Keeps a session with whoever leads, until told to stop.
pub(crate) async fn run(
    engine: Arc<Engine>,
    controllers: Controllers,
    facts: Facts,
    health: Health,
    token: CancellationToken,
) {
    let seams = engine.seams.clone();
    let mut search = Search {
        engine,
        controllers,
        facts,
        health,
    };
    search.tell_health(false);
    let (mut hint, mut failed) = (None::<String>, 0_u32);
    while !token.is_cancelled() {
        // The hint first, then everybody.
        let mut addrs: Vec<String> = hint.take().into_iter().collect();
        addrs.extend(search.controllers.in_random_order(&seams));
        for addr in addrs {
            let ended = tokio::select! {
                () = token.cancelled() => return,
                ended = search.session(&addr) => ended,
            };
            search.tell_health(false);
            match ended {
                Ended::NotLeader(leader) => {
                    hint = leader.filter(|leader| *leader != addr);
                    if hint.is_some() {
                        break;
                    }
                }
                Ended::Lost(true) => failed = 0,
                Ended::Lost(false) => debug!(controller = addr, "no session"),
                Ended::Superseded => return search.superseded(),
            }
        }
        failed = failed.saturating_add(1);
        let pause = SEARCH
            .delay(failed, seams.random.u64())
            .unwrap_or(SEARCH.limit);
        tokio::select! {
            () = token.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

struct Search {
    engine: Arc<Engine>,
    controllers: Controllers,
    facts: Facts,
    health: Health,
}

impl Search {
    fn tell_health(&self, registered: bool) {
        let (ready, reason) = if registered {
            (true, "registered with the leader")
        } else if self.engine.gates.holds_grants() {
            (true, "no leader; serving on the grants held")
        } else {
            (false, "no leader found, no grants held")
        };
        self.health.set_ready("session", ready, reason);
    }

    fn superseded(&self) {
        error!(
            "another life of this worker is a member of the cluster; this one has to be restarted"
        );
        self.health
            .fail("session", "superseded by another life of this worker");
        // The fence lasts: nothing is accepted any more.
        self.engine.gates.on_reply(&RenewalReply::Superseded);
        self.engine.changes.next();
    }

    fn register(&self, runtimes: Vec<String>) -> pb::WorkerReport {
        let renewal = self.engine.gates.renewal();
        report(Report::Register(pb::RegisterWorker {
            node_id: self.facts.node_id,
            incarnation: self.engine.incarnation,
            addr: self.facts.addr.clone(),
            memory_mib: self.facts.memory_mib,
            runtimes,
            labels: self.facts.labels.clone().into_iter().collect(),
            pools: renewal.pools.iter().map(|(k, r)| pool_use(k, r)).collect(),
        }))
    }

    /// `told` are the runtimes the leader knows of.
    fn heartbeat(&self, told: &mut Vec<String>) -> pb::WorkerReport {
        let renewal = self.engine.gates.renewal();
        let names = self.engine.runtimes.installed();
        let runtimes = (names != *told).then(|| {
            told.clone_from(&names);
            pb::Runtimes { names }
        });
        report(Report::Heartbeat(pb::Heartbeat {
            sent_at_ms: renewal.sent_at.0,
            free_memory_mib: self.engine.memory.free_mib(),
            sandboxes: self.engine.sandbox_count(),
            pools: renewal.pools.iter().map(|(k, r)| pool_use(k, r)).collect(),
            draining: self.engine.is_draining(),
            session: renewal.session,
            runtimes,
            kept: self.engine.kept_report(),
        }))
    }

    async fn session(&mut self, addr: &str) -> Ended {
        let (reports, outgoing) = mpsc::channel(REPORTS);
        let runtimes = self.engine.runtimes.installed();
        // The channel is empty, so there is room.
        if reports.try_send(self.register(runtimes.clone())).is_err() {
            return Ended::Lost(false);
        }
        let Ok(channel) = self.controllers.channel(addr) else {
            return Ended::Lost(false);
        };
        let mut client = WorkerRegistryClient::new(channel);
        let opening = client.session(ReceiverStream::new(outgoing));
        match with_deadline(opening, SILENCE).await {
            Ok(orders) => {
                let orders = orders.into_inner();
                self.follow(addr, orders, &reports, runtimes).await
            }
            Err(status) => {
                debug!(controller = addr, status = status.message(), "no session");
                Ended::Lost(false)
            }
        }
    }

    async fn follow(
        &self,
        addr: &str,
        mut orders: Streaming<pb::WorkerOrder>,
        reports: &mpsc::Sender<pb::WorkerReport>,
        mut told: Vec<String>,
    ) -> Ended {
        let preparing = Preparing::new(Arc::clone(&self.engine), reports.clone());
        let mut beat = tokio::time::interval(HEARTBEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut registered, mut silent_since) = (false, self.engine.seams.clock.monotonic_ms());
        loop {
            let order = tokio::select! {
                order = orders.message() => order,
                _ = beat.tick() => {
                    let now = self.engine.seams.clock.monotonic_ms();
                    let silence = Duration::from_millis(now.saturating_sub(silent_since));
                    // A leader that does not take reports is as good as gone.
                    let full = registered && reports.try_send(self.heartbeat(&mut told)).is_err();
                    if full || silence > SILENCE {
                        info!(controller = addr, "leader fell silent");
                        return Ended::Lost(registered);
                    }
                    continue;
                }
            };
            silent_since = self.engine.seams.clock.monotonic_ms();
            let order = match order {
                Ok(Some(order)) => order.order,
                Ok(None) | Err(_) => return Ended::Lost(registered),
            };
            match order {
                Some(Order::NotLeader(not)) => {
                    return Ended::NotLeader(Some(not.leader_addr).filter(|a| !a.is_empty()));
                }
                Some(Order::Registered(answer)) => {
                    registered = true;
                    info!(controller = addr, "registered with the leader");
                    self.on_registered(&answer);
                }
                Some(Order::Renewal(renewal)) if renewal.superseded => return Ended::Superseded,
                Some(order) => self.on_order(order, reports, &preparing),
                None => {}
            }
        }
    }

    fn on_registered(&self, answer: &pb::Registered) {
        self.tell_health(true);
        if answer.lease_ms != 0 && answer.lease_ms != self.facts.lease_ms {
            warn!(
                own_ms = self.facts.lease_ms,
                leader_ms = answer.lease_ms,
                "the lease differs from the leader's: set the same on all nodes"
            );
        }
    }

    fn on_order(
        &self,
        order: Order,
        reports: &mpsc::Sender<pb::WorkerReport>,
        preparing: &Preparing,
    ) {
        let answered = match order {
            Order::Renewal(renewal) => {
                self.engine.gates.on_reply(&RenewalReply::Renewed {
                    session: renewal.session,
                    sent_at: MonotonicMs(renewal.sent_at_ms),
                });
                return;
            }
            Order::Grant(grant) => self.on_grant(&grant),
            Order::Shrink(shrink) => self.on_shrink(&shrink),
            Order::Prepare(prepare) => return preparing.begin(prepare),
            Order::SetDraining(order) => {
                info!(draining = order.draining, "the operator's wish");
                return self.engine.order_drain(order.draining);
            }
            // Taken by the caller.
            Order::NotLeader(_) | Order::Registered(_) => return,
        };
        if let Some(answer) = answered
            && reports.try_send(report(answer)).is_err()
        {
            // The leader asks again.
            debug!("report to the leader dropped");
        }
    }

    fn on_grant(&self, grant: &pb::Grant) -> Option<Report> {
        let pool = required_pool(grant.pool.as_ref())
            .inspect_err(|error| warn!(%error, "grant skipped"))
            .ok()?;
        self.engine.gates.on_grant(&Grant {
            pool,
            n: grant.permits,
            sequence: GrantSequence(grant.sequence),
            incarnation: Incarnation(grant.incarnation),
            session: grant.session,
        });
        Some(Report::GrantTaken(pb::GrantTaken {
            pool: grant.pool.clone(),
            sequence: grant.sequence,
        }))
    }

    fn on_shrink(&self, shrink: &pb::Shrink) -> Option<Report> {
        let pool = required_pool(shrink.pool.as_ref())
            .inspect_err(|error| warn!(%error, "shrink skipped"))
            .ok()?;
        let answer = self.engine.gates.on_shrink(&Shrink {
            pool,
            n: shrink.permits,
            base: GrantSequence(shrink.base_sequence),
            incarnation: Incarnation(shrink.incarnation),
            session: shrink.session,
        })?;
        Some(Report::ShrinkAnswer(pb::ShrinkAnswer {
            pool: shrink.pool.clone(),
            permits: answer.n,
            base_sequence: answer.base.0,
        }))
    }
}

fn report(report: Report) -> pb::WorkerReport {
    pb::WorkerReport {
        report: Some(report),
    }
}
