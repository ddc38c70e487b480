//! Sessions of workers on the wire: reports to the leader's task, its orders back. What they mean is in
//! `leader`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hearth_node::grpc::check_claim;
use hearth_node::tls::NodeRole;
use hearth_proto::internal::v1 as pb;
use pb::worker_order::Order;
use pb::worker_registry_server::WorkerRegistry;
use pb::worker_report::Report;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Extensions, Request, Response, Status, Streaming};

use crate::leader::{Event, LeaderWatch, ORDERS_MAX};
use crate::machine::ReplicatedState;
use crate::raft::Consensus;

/// A worker that has not registered by then does not mean to.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(5);
/// Orders between this service and the connection.
const OUT_MAX: usize = 16;

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct RegistryService {
    consensus: Consensus<ReplicatedState>,
    leader: LeaderWatch,
    stop: CancellationToken,
    sessions: Arc<AtomicU64>,
}

type Out = mpsc::Sender<Result<pb::WorkerOrder, Status>>;

impl RegistryService {
    pub(crate) fn new(
        consensus: Consensus<ReplicatedState>,
        leader: LeaderWatch,
        stop: CancellationToken,
    ) -> Self {
        Self {
            consensus,
            leader,
            stop,
            sessions: Arc::default(),
        }
    }

    /// Where the worker should go.
    fn not_leader(&self) -> pb::WorkerOrder {
        let leader = self.consensus.leader();
        // This node's own id while its task for the term has not begun yet: come again.
        let (leader_id, leader_addr) = leader.unwrap_or_default();
        pb::WorkerOrder {
            order: Some(Order::NotLeader(pb::NotLeader {
                leader_id,
                leader_addr,
            })),
        }
    }

    async fn session(
        &self,
        caller: &Extensions,
        mut reports: Streaming<pb::WorkerReport>,
        out: &Out,
    ) {
        let leader = self.leader.borrow().clone();
        let Some(leader) = leader else {
            let _gone = out.send(Ok(self.not_leader())).await;
            return;
        };
        let first = tokio::time::timeout(REGISTER_TIMEOUT, reports.message()).await;
        let Ok(Ok(Some(pb::WorkerReport {
            report: Some(Report::Register(register)),
        }))) = first
        else {
            let status = Status::invalid_argument("a session begins with a registration");
            let _gone = out.send(Err(status)).await;
            return;
        };
        let worker = register.node_id;
        if let Err(status) = check_claim(caller, NodeRole::Worker, worker) {
            let _gone = out.send(Err(status)).await;
            return;
        }
        let session = self.sessions.fetch_add(1, Ordering::Relaxed);
        let (orders, mut inbox) = mpsc::channel(ORDERS_MAX);
        let open = Event::Open {
            session,
            register,
            orders,
        };
        let mut is_open = leader.send(open).await;
        while is_open {
            is_open = tokio::select! {
                order = inbox.recv() => match order {
                    Some(order) => out.send(Ok(order)).await.is_ok(),
                    None => break,
                },
                message = reports.message() => match message {
                    Ok(Some(pb::WorkerReport { report: Some(report) })) => {
                        leader.send(Event::Report { session, worker, report }).await
                    }
                    // A report of a later release.
                    Ok(Some(pb::WorkerReport { report: None })) => true,
                    Ok(None) | Err(_) => false,
                },
            };
        }
        leader.send(Event::Closed { session, worker }).await;
        let _gone = out.send(Ok(self.not_leader())).await;
    }
}

#[tonic::async_trait]
impl WorkerRegistry for RegistryService {
    type SessionStream = ReceiverStream<Result<pb::WorkerOrder, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<pb::WorkerReport>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (out, stream) = mpsc::channel(OUT_MAX);
        let service = self.clone();
        let caller = request.extensions().clone();
        let reports = request.into_inner();
        tokio::spawn(async move {
            tokio::select! {
                () = service.stop.cancelled() => {}
                () = out.closed() => {}
                () = Self::session(&service, &caller, reports, &out) => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}
