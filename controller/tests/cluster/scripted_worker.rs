//! A worker that does what the protocol asks and runs nothing: real permits, real session, no sandboxes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use hearth_core::ids::{GrantSequence, Incarnation, MonotonicMs, NodeId, PoolKey};
use hearth_core::permits::{Acquire, Grant, Permit, RenewalReply, Shrink, WorkerPermits};
use hearth_node::clock::{Clock, SystemClock};
use hearth_node::grpc::ClusterChannel;
use hearth_proto::convert;
use hearth_proto::internal::v1 as pb;
use pb::worker_order::Order;
use pb::worker_registry_client::WorkerRegistryClient;
use pb::worker_report::Report;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::harness::{Cluster, name, until};

const HEARTBEAT: Duration = Duration::from_millis(50);

/// What the worker knows.
pub(crate) struct Known {
    permits: WorkerPermits,
    held: Vec<(PoolKey, Permit)>,
    /// In the order they came.
    pub(crate) prepared: Vec<pb::Prepare>,
    /// The controller the session is with.
    pub(crate) leader: Option<u64>,
    pub(crate) is_superseded: bool,
    /// Answer to `Prepare`; `None` stays silent.
    pub(crate) answer: Option<Result<(), String>>,
}

/// Ends when dropped, without goodbye.
pub(crate) struct ScriptedWorker {
    pub(crate) known: Arc<Mutex<Known>>,
    _stop: DropGuard,
}

fn now() -> MonotonicMs {
    MonotonicMs(SystemClock.monotonic_ms())
}

impl ScriptedWorker {
    /// Starts one and waits for its session.
    pub(crate) async fn start(cluster: &Cluster, id: u64, incarnation: u64) -> Self {
        Self::start_with(cluster, id, incarnation, 30_000).await
    }

    /// The same with another TTL_w.
    pub(crate) async fn start_with(
        cluster: &Cluster,
        id: u64,
        incarnation: u64,
        ttl_ms: u64,
    ) -> Self {
        let permits = WorkerPermits::new(NodeId(id), Incarnation(incarnation), ttl_ms, now());
        let known = Arc::new(Mutex::new(Known {
            permits,
            held: Vec::new(),
            prepared: Vec::new(),
            leader: None,
            is_superseded: false,
            answer: Some(Ok(())),
        }));
        let stop = CancellationToken::new();
        let task = Task {
            register: pb::RegisterWorker {
                node_id: id,
                incarnation,
                addr: format!("worker-{id}:1"),
                memory_mib: 4_096,
                runtimes: vec!["python3.11".into()],
                ..pb::RegisterWorker::default()
            },
            channels: cluster
                .nodes
                .keys()
                .map(|id| (*id, cluster.channel(*id)))
                .collect(),
            known: Arc::clone(&known),
        };
        let token = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = token.cancelled() => {}
                () = task.run() => {}
            }
        });
        let worker = Self {
            known,
            _stop: stop.drop_guard(),
        };
        until("a session", async || {
            let known = worker.known();
            (known.leader.is_some() || known.is_superseded).then_some(())
        })
        .await;
        worker
    }

    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap()
    }

    /// Takes a permit and keeps it.
    pub(crate) fn acquire(&self, pool: &PoolKey) -> bool {
        Self::acquire_of(&self.known, pool)
    }

    /// The same of a worker whose connection is gone.
    pub(crate) fn acquire_of(known: &Mutex<Known>, pool: &PoolKey) -> bool {
        let mut known = known.lock().unwrap();
        match known.permits.try_acquire(pool, now()) {
            Acquire::Permit(permit) => {
                known.held.push((pool.clone(), permit));
                true
            }
            Acquire::NoPermit | Acquire::Fenced => false,
        }
    }

    pub(crate) fn ceiling(&self, pool: &PoolKey) -> u32 {
        self.known().permits.report(pool, now()).ceiling
    }
}

struct Task {
    register: pb::RegisterWorker,
    channels: BTreeMap<u64, ClusterChannel>,
    known: Arc<Mutex<Known>>,
}

impl Task {
    /// Tries one controller after the other until one of them leads.
    async fn run(self) {
        loop {
            for (id, channel) in &self.channels {
                self.session(*id, channel.clone()).await;
                let mut known = self.known.lock().unwrap();
                known.leader = None;
                if known.is_superseded {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn session(&self, controller: u64, channel: ClusterChannel) {
        let (reports, stream) = mpsc::channel(64);
        let send = async |report| {
            let report = pb::WorkerReport {
                report: Some(report),
            };
            // The session ends with its stream of orders.
            let _ = reports.send(report).await;
        };
        send(Report::Register(self.register.clone())).await;
        let mut client = WorkerRegistryClient::new(channel);
        let Ok(orders) = client.session(ReceiverStream::new(stream)).await else {
            return;
        };
        let mut orders = orders.into_inner();
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        let mut is_registered = false;
        loop {
            tokio::select! {
                order = orders.message() => {
                    let Ok(Some(pb::WorkerOrder { order: Some(order) })) = order else {
                        return;
                    };
                    match &order {
                        Order::NotLeader(hint) => {
                            assert!(hint.leader_id == 0 || hint.leader_addr == name(hint.leader_id));
                            return;
                        }
                        Order::Registered(_) => {
                            is_registered = true;
                            self.known.lock().unwrap().leader = Some(controller);
                        }
                        _ => {}
                    }
                    if let Some(report) = self.on_order(order) {
                        send(report).await;
                    }
                }
                _ = heartbeat.tick(), if is_registered => {
                    let heartbeat = self.heartbeat();
                    send(Report::Heartbeat(heartbeat)).await;
                }
            }
        }
    }

    fn heartbeat(&self) -> pb::Heartbeat {
        let renewal = self.known.lock().unwrap().permits.renewal(now());
        let pools = renewal.pools.iter().map(|(pool, report)| pb::PoolUse {
            pool: Some(pool.into()),
            ceiling: report.ceiling,
            in_flight: report.in_flight,
            sequence: report.sequence.0,
            admitted: 0,
        });
        pb::Heartbeat {
            sent_at_ms: renewal.sent_at.0,
            free_memory_mib: 4_096,
            sandboxes: 0,
            pools: pools.collect(),
            draining: false,
            session: renewal.session,
            runtimes: None,
            kept: Vec::new(),
        }
    }

    fn on_order(&self, order: Order) -> Option<Report> {
        let mut known = self.known.lock().unwrap();
        match order {
            Order::NotLeader(_) | Order::Registered(_) | Order::SetDraining(_) => None,
            Order::Renewal(renewal) => {
                known.is_superseded |= renewal.superseded;
                let reply = if renewal.superseded {
                    RenewalReply::Superseded
                } else {
                    RenewalReply::Renewed {
                        session: renewal.session,
                        sent_at: MonotonicMs(renewal.sent_at_ms),
                    }
                };
                known.permits.on_reply(&reply, now());
                None
            }
            Order::Grant(grant) => {
                let taken = pb::GrantTaken {
                    pool: grant.pool.clone(),
                    sequence: grant.sequence,
                };
                let grant = Grant {
                    pool: convert::required_pool(grant.pool.as_ref()).unwrap(),
                    n: grant.permits,
                    sequence: GrantSequence(grant.sequence),
                    incarnation: Incarnation(grant.incarnation),
                    session: grant.session,
                };
                let is_news = known.permits.on_grant(&grant, now());
                is_news.then_some(Report::GrantTaken(taken))
            }
            Order::Shrink(shrink) => {
                let shrink = Shrink {
                    pool: convert::required_pool(shrink.pool.as_ref()).unwrap(),
                    n: shrink.permits,
                    base: GrantSequence(shrink.base_sequence),
                    incarnation: Incarnation(shrink.incarnation),
                    session: shrink.session,
                };
                let answer = known.permits.on_shrink(&shrink, now())?;
                Some(Report::ShrinkAnswer(pb::ShrinkAnswer {
                    pool: Some((&answer.pool).into()),
                    permits: answer.n,
                    base_sequence: answer.base.0,
                }))
            }
            Order::Prepare(prepare) => {
                known.prepared.push(prepare.clone());
                let answer = known.answer.clone()?;
                Some(Report::Prepared(pb::Prepared {
                    account: prepare.account,
                    function: prepare.function,
                    version: prepare.version,
                    generation: prepare.generation,
                    ok: answer.is_ok(),
                    reason_code: "InvalidZipFileException".into(),
                    reason: answer.err().unwrap_or_default(),
                }))
            }
        }
    }
}
