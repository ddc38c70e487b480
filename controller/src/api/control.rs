//! The service gateways and operators' commands call: one operation, one capacity question, the cluster's
//! status.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use hearth_core::control::{ClusterSummary, ControlReply, ControlRequest, NodeSummary};
use hearth_core::error::{Error, ErrorCode, Result};
use hearth_core::ids::{AccountId, NodeId};
use hearth_core::name::FunctionName;
use hearth_node::grpc;
use hearth_node::net::{Caller, Peer};
use hearth_node::tls::NodeRole;
use hearth_proto::internal::v1 as pb;
use hearth_proto::{convert, status};
use pb::cluster_admin_client::ClusterAdminClient;
use pb::control_client::ControlClient;
use pb::control_server::Control;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

use super::forward::{Controllers, forwarded};
use super::operations::Operations;
use crate::leader::{Event, LeaderWatch, NEED_DEADLINE_MS, WorkerStatus};
use crate::state::command::Role;
use crate::state::once::TOKEN_MAX;

/// Longer than the leader keeps a question.
const NEED_TIMEOUT: Duration = Duration::from_millis(NEED_DEADLINE_MS + 500);
/// How long a controller may take to show that it is alive.
const ALIVE_TIMEOUT: Duration = Duration::from_millis(500);
/// How long the leader may take to give the cluster's status.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct ControlService {
    pub(crate) cluster_id: String,
    pub(crate) operations: Operations,
    pub(crate) leader: LeaderWatch,
    pub(crate) controllers: Controllers,
}

#[tonic::async_trait]
impl Control for ControlService {
    async fn execute(
        &self,
        call: Request<pb::ControlCall>,
    ) -> Result<Response<pb::ControlAnswer>, Status> {
        let request = convert::decode_request(call.get_ref())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let takes_once = self.operations.takes_once();
        let said = |answer: pb::ControlAnswer| {
            Ok(Response::new(pb::ControlAnswer {
                takes_once,
                ..answer
            }))
        };
        if request == ControlRequest::ClusterStatus {
            return said(self.status(call).await?.into_inner());
        }
        if let ControlRequest::GetProvisioned { account, name } = request {
            return said(self.provisioned(call, account, name).await?.into_inner());
        }
        let call = call.into_inner();
        if call.once && (!takes_once || call.token.is_empty() || call.token.len() > TOKEN_MAX) {
            return Err(Status::failed_precondition(
                "a controller of this cluster cannot carry an operation out once, or the token cannot be one",
            ));
        }
        let token = call.once.then_some(call.token);
        let answer = self.operations.execute(request, token).await;
        said(convert::encode_answer(&answer))
    }

    async fn need_capacity(
        &self,
        request: Request<pb::NeedCapacityRequest>,
    ) -> Result<Response<pb::NeedCapacityReply>, Status> {
        if !is_of_controller(&request) {
            let gateway = request.get_ref().gateway_id;
            grpc::check_claim(request.extensions(), NodeRole::Gateway, gateway)?;
        }
        let leader = self.leader.borrow().clone();
        let Some(leader) = leader else {
            let channel = self.controllers.to_leader_once(&request)?;
            let mut client = ControlClient::new(channel);
            let call = client.need_capacity(forwarded(request.into_inner()));
            return grpc::with_deadline(call, NEED_TIMEOUT).await;
        };
        let (reply, answer) = oneshot::channel();
        let asked = leader.send(Event::Need {
            request: request.into_inner(),
            reply,
        });
        let answer = async {
            let lost = || Status::unavailable("the leader could not say in time, ask again");
            if !asked.await {
                return Err(lost());
            }
            answer.await.map_err(|_| lost())
        };
        let answer = grpc::with_deadline(answer, NEED_TIMEOUT).await?;
        Ok(Response::new(answer))
    }
}

impl ControlService {
    /// The leader knows how the workers are; without it this controller says what the state says.
    async fn status(
        &self,
        call: Request<pb::ControlCall>,
    ) -> Result<Response<pb::ControlAnswer>, Status> {
        let leader = self.leader.borrow().clone();
        if leader.is_none()
            && let Ok(channel) = self.controllers.to_leader_once(&call)
        {
            let mut client = ControlClient::new(channel);
            let call = client.execute(forwarded(call.into_inner()));
            if let Ok(answer) = grpc::with_deadline(call, STATUS_TIMEOUT).await {
                return Ok(answer);
            }
        }
        let workers = match leader {
            Some(leader) => {
                let (reply, answer) = oneshot::channel();
                leader.send(Event::Status { reply }).await;
                answer.await.unwrap_or_default()
            }
            None => Vec::new(),
        };
        let answer = Ok(ControlReply::Cluster(self.summary(workers).await));
        Ok(Response::new(convert::encode_answer(&answer)))
    }

    /// What was asked for is in the state; how it stands, the leader knows from the workers.
    async fn provisioned(
        &self,
        call: Request<pb::ControlCall>,
        account: AccountId,
        name: FunctionName,
    ) -> Result<Response<pb::ControlAnswer>, Status> {
        let leader = self.leader.borrow().clone();
        let Some(leader) = leader else {
            let channel = self.controllers.to_leader_once(&call)?;
            let mut client = ControlClient::new(channel);
            let call = client.execute(forwarded(call.into_inner()));
            return grpc::with_deadline(call, STATUS_TIMEOUT).await;
        };
        let request = ControlRequest::GetFunction {
            account: account.clone(),
            name: name.clone(),
        };
        let function = match self.operations.execute(request, None).await {
            Ok(ControlReply::Function(function)) => function,
            Ok(_) => {
                return Err(Status::internal(
                    "a function was answered with something else",
                ));
            }
            Err(error) => return Ok(Response::new(convert::encode_answer(&Err(error)))),
        };
        let (reply, answer) = oneshot::channel();
        let event = Event::Provisioned {
            account,
            name,
            reply,
        };
        leader.send(event).await;
        let lost = |_| unavailable("the leader has just changed");
        let status = answer.await.map_err(lost)?;
        let answer = Ok(ControlReply::Provisioned { function, status });
        Ok(Response::new(convert::encode_answer(&answer)))
    }

    async fn summary(&self, workers: Vec<WorkerStatus>) -> ClusterSummary {
        let consensus = &self.operations.consensus;
        let leadership = consensus.leadership();
        let members = consensus.members();
        let mut nodes = self
            .controller_and_gateway_summaries(members.voters.into_iter().chain(members.learners))
            .await;
        let status: BTreeMap<_, _> = workers.into_iter().map(|w| (w.id, w)).collect();
        nodes.extend(consensus.read(|m| {
            let known = &m.state().nodes;
            let summary = |(id, worker): (NodeId, &crate::state::nodes::Worker)| {
                let status = status.get(&id);
                let is_wanted = known.is_drain_wanted(Role::Worker, id);
                NodeSummary {
                    id: id.0,
                    role: "worker".to_owned(),
                    addr: worker.registration.addr.clone(),
                    alive: worker.reachable,
                    sandboxes: status.map_or(0, |s| s.sandboxes),
                    free_memory_mib: status.map_or(0, |s| s.free_memory_mib),
                    memory_mib: worker.registration.memory_mib,
                    in_flight: status.map_or(0, |s| s.in_flight),
                    draining: is_wanted || status.map_or(worker.draining, |s| s.draining),
                    silent_ms: status.map(|s| s.silent_ms),
                    release: String::new(),
                }
            };
            known.workers().map(summary).collect::<Vec<_>>()
        }));
        ClusterSummary {
            cluster_id: self.cluster_id.clone(),
            leader: leadership.leader.map(|(id, _)| id),
            term: leadership.term,
            applied: consensus.applied_index(),
            nodes,
        }
    }

    /// Controllers, each asked whether it is there, and the gateways that read the catalog from them.
    async fn controller_and_gateway_summaries(
        &self,
        members: impl Iterator<Item = (u64, String)>,
    ) -> Vec<NodeSummary> {
        let consensus = &self.operations.consensus;
        let wanted = |role, id| {
            let id = NodeId(id);
            consensus.read(|m| m.state().nodes.is_drain_wanted(role, id))
        };
        let asked = members.map(async |(id, addr)| {
            let said = self.ask_members(&addr).await;
            (id, addr, said)
        });
        let mut nodes = Vec::new();
        let mut gateways = BTreeMap::new();
        for (id, addr, said) in join_all(asked).await {
            nodes.push(NodeSummary {
                id,
                role: "controller".to_owned(),
                addr,
                alive: said.is_some() || id == consensus.node_id(),
                draining: wanted(Role::Controller, id),
                release: said
                    .as_ref()
                    .map_or_else(String::new, |s| s.release.clone()),
                ..NodeSummary::default()
            });
            for gateway in said.into_iter().flat_map(|said| said.gateways) {
                gateways.insert(gateway.id, gateway);
            }
        }
        nodes.extend(gateways.into_values().map(|gateway| NodeSummary {
            id: gateway.id,
            role: "gateway".to_owned(),
            addr: gateway.addr,
            alive: true,
            draining: wanted(Role::Gateway, gateway.id),
            release: gateway.release,
            ..NodeSummary::default()
        }));
        nodes
    }

    async fn ask_members(&self, addr: &str) -> Option<pb::MembersReply> {
        let channel = self.controllers.channel(addr).ok()?;
        let mut client = ClusterAdminClient::new(channel);
        let call = client.members(pb::MembersRequest {});
        let reply = grpc::with_deadline(call, ALIVE_TIMEOUT).await;
        reply.ok().map(Response::into_inner)
    }
}

/// Whether another controller sent it on, which has looked at who asks.
pub(crate) fn is_of_controller<T>(request: &Request<T>) -> bool {
    let peer = request.extensions().get::<Peer>();
    peer.is_some_and(
        |peer| matches!(&peer.caller, Caller::Node(name) if name.role == NodeRole::Controller),
    )
}

/// An operation that cannot be carried out now, as gRPC says it.
pub(super) fn unavailable(text: impl Into<String>) -> Status {
    status::to_status(&Error::new(ErrorCode::Unavailable, text))
}
