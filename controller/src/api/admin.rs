//! Operators' commands: which controllers there are, and a worker that is dead. Answered by any controller;
//! what only the leader can do is sent on to it.

use std::time::Duration;

use hearth_core::ids::NodeId;
use hearth_node::grpc;
use hearth_proto::internal::v1 as pb;
use pb::cluster_admin_client::ClusterAdminClient;
use pb::cluster_admin_server::ClusterAdmin;
use tonic::{Code, Request, Response, Status};

use super::control::unavailable;
use super::forward::{Controllers, forwarded, is_forwarded};
use super::readers::Readers;
use crate::events::machine::EventMachine;
use crate::events::members;
use crate::leader::LeaderWatch;
use crate::machine::ReplicatedState;
use crate::mirror::Copies;
use crate::raft::{Consensus, MembershipError, ProposeError};
use crate::state::command::{Command, Role};

/// A new controller has to catch up before its addition returns.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(120);
/// The event log's group follows within a second or two, and a new controller has to be sent what it holds.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(30);
/// More voters make every commit slower and bring no more safety than five.
const VOTERS_MAX: usize = 5;

/// The leader's answer to a question that was sent on.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause between two tries while no leader is known; a change of leadership ends it early.
const TRY_PAUSE: Duration = Duration::from_millis(100);
/// Tries of a change: ten seconds without a leader are no election any more.
const TRIES_MAX: u32 = 100;

/// A change of the controllers.
#[derive(Clone, Debug)]
enum Change {
    Add(pb::AddControllerRequest),
    Remove(pb::RemoveControllerRequest),
}

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct AdminService {
    pub(crate) consensus: Consensus<ReplicatedState>,
    pub(crate) controllers: Controllers,
    pub(crate) leader: LeaderWatch,
    pub(crate) readers: Readers,
    /// The event log's group, whose members follow; none if there is no event log.
    pub(crate) events: Option<Consensus<EventMachine>>,
    /// Where the controllers keep the code; none when it is elsewhere.
    pub(crate) copies: Option<Copies>,
}

impl AdminService {
    fn leads(&self) -> bool {
        self.consensus.leadership().is_leader
    }

    fn members_reply(&self) -> pb::MembersReply {
        let members = self.consensus.members();
        let leadership = self.consensus.leadership();
        let member = |voter| move |(id, addr): (u64, String)| pb::Member { id, addr, voter };
        pb::MembersReply {
            members: members
                .voters
                .into_iter()
                .map(member(true))
                .chain(members.learners.into_iter().map(member(false)))
                .collect(),
            leader_id: leadership.leader.map_or(0, |(id, _)| id),
            term: leadership.term,
            release: env!("CARGO_PKG_VERSION").to_owned(),
            gateways: self.readers.all(),
        }
    }

    /// Makes a change where the leader is. What did not reach one is tried again: a leader may just have been
    /// removed, and doing a change twice does no harm.
    async fn change(&self, change: Change, sent_on: bool) -> Result<pb::MembersReply, Status> {
        if sent_on {
            return self.change_as_leader(&change).await;
        }
        let mut leadership = self.consensus.watch_leadership();
        let mut last = Status::unavailable("no leader made the change");
        for _ in 0..TRIES_MAX {
            leadership.mark_unchanged();
            match self.change_at_leader(&change).await {
                Err(status) if status.code() == Code::Unavailable => last = status,
                done => return done,
            }
            drop(tokio::time::timeout(TRY_PAUSE, leadership.changed()).await);
        }
        Err(last)
    }

    async fn change_at_leader(&self, change: &Change) -> Result<pb::MembersReply, Status> {
        if self.leads() {
            return self.change_as_leader(change).await;
        }
        let mut client = ClusterAdminClient::new(self.controllers.to_leader()?);
        let reply = match change.clone() {
            Change::Add(add) => {
                let call = client.add_controller(forwarded(add));
                grpc::with_deadline(call, CHANGE_TIMEOUT).await
            }
            Change::Remove(remove) => {
                let call = client.remove_controller(forwarded(remove));
                grpc::with_deadline(call, CHANGE_TIMEOUT).await
            }
        };
        reply.map(Response::into_inner)
    }

    async fn change_as_leader(&self, change: &Change) -> Result<pb::MembersReply, Status> {
        if !self.leads() {
            return Err(Status::unavailable("the leader has just changed"));
        }
        match change {
            Change::Add(request) => self.add(request).await?,
            Change::Remove(request) => self.remove(request.id).await?,
        }
        self.events_follow().await?;
        Ok(self.members_reply())
    }

    /// Before the operator takes the next step, which may be to stop a controller that the event log still needs.
    async fn events_follow(&self) -> Result<(), Status> {
        let Some(events) = &self.events else {
            return Ok(());
        };
        let wanted = self.consensus.members().voters;
        if members::followed(events, &wanted, FOLLOW_TIMEOUT).await {
            return Ok(());
        }
        Err(Status::deadline_exceeded(
            "the controllers have changed, but the event log's group has not followed yet. It will while most of its former controllers \
             run: stop none of them before this command, given again, succeeds",
        ))
    }

    async fn add(&self, request: &pb::AddControllerRequest) -> Result<(), Status> {
        if request.id == 0 || request.addr.is_empty() {
            return Err(Status::invalid_argument("id and address are needed"));
        }
        let members = self.consensus.members();
        if members.voters.len() >= VOTERS_MAX && !members.voters.contains_key(&request.id) {
            return Err(Status::failed_precondition(format!(
                "there are {VOTERS_MAX} controllers already; remove one first"
            )));
        }
        let added = self.consensus.add_learner(request.id, &request.addr).await;
        added.map_err(|error| status(&error))?;
        self.has_copies(std::slice::from_ref(&request.addr)).await?;
        let mut voters: std::collections::BTreeSet<u64> =
            self.consensus.members().voters.into_keys().collect();
        voters.insert(request.id);
        let changed = self.consensus.change_membership(voters).await;
        changed.map_err(|error| status(&error))
    }

    async fn remove(&self, id: u64) -> Result<(), Status> {
        let members = self.consensus.members();
        if members.voters.len() == 1 && members.voters.contains_key(&id) {
            return Err(Status::failed_precondition(
                "the last controller cannot be removed",
            ));
        }
        let mut stay = members.voters;
        stay.remove(&id);
        self.has_copies(&Vec::from_iter(stay.into_values())).await?;
        let removed = self.consensus.remove(id).await;
        removed.map_err(|error| status(&error))
    }

    /// No change of members may leave code with a minority.
    async fn has_copies(&self, addrs: &[String]) -> Result<(), Status> {
        let Some(copies) = &self.copies else {
            return Ok(());
        };
        if copies.are_at_majority_of(addrs).await {
            return Ok(());
        }
        Err(Status::failed_precondition(format!(
            "the code of all functions is not yet with a majority of {}; try again",
            addrs.join(", ")
        )))
    }
}

#[tonic::async_trait]
impl ClusterAdmin for AdminService {
    async fn add_controller(
        &self,
        request: Request<pb::AddControllerRequest>,
    ) -> Result<Response<pb::MembersReply>, Status> {
        let sent_on = is_forwarded(&request);
        let change = Change::Add(request.into_inner());
        self.change(change, sent_on).await.map(Response::new)
    }

    async fn remove_controller(
        &self,
        request: Request<pb::RemoveControllerRequest>,
    ) -> Result<Response<pb::MembersReply>, Status> {
        let sent_on = is_forwarded(&request);
        let change = Change::Remove(request.into_inner());
        self.change(change, sent_on).await.map(Response::new)
    }

    async fn members(
        &self,
        _request: Request<pb::MembersRequest>,
    ) -> Result<Response<pb::MembersReply>, Status> {
        Ok(Response::new(self.members_reply()))
    }

    async fn snapshot(
        &self,
        _request: Request<pb::SnapshotRequest>,
    ) -> Result<Response<pb::SnapshotReply>, Status> {
        let triggered = self.consensus.trigger_snapshot().await;
        triggered.map_err(|error| status(&error))?;
        Ok(Response::new(pb::SnapshotReply {}))
    }

    async fn forget_worker(
        &self,
        request: Request<pb::ForgetWorkerRequest>,
    ) -> Result<Response<pb::ForgetWorkerReply>, Status> {
        let id = NodeId(request.get_ref().id);
        if self.leader.borrow().is_none() && !is_forwarded(&request) {
            let mut client = ClusterAdminClient::new(self.controllers.to_leader()?);
            let call = client.forget_worker(forwarded(request.into_inner()));
            return grpc::with_deadline(call, ASK_TIMEOUT).await;
        }
        let request = request.into_inner();
        let known = self.consensus.read(|m| {
            let worker = m.state().nodes.worker(id);
            worker.map(|worker| worker.reachable)
        });
        match known {
            None if request.check => {
                return Err(Status::not_found(format!("there is no worker {id}")));
            }
            Some(true) if request.check && !request.force => {
                return Err(Status::failed_precondition(format!(
                    "worker {id} is alive: drain and stop it first, or use --force"
                )));
            }
            Some(_) | None => {}
        }
        self.propose(&Command::ForgetWorker { worker: id }).await?;
        Ok(Response::new(pb::ForgetWorkerReply {}))
    }

    async fn drain(
        &self,
        request: Request<pb::DrainRequest>,
    ) -> Result<Response<pb::DrainReply>, Status> {
        let request = request.into_inner();
        let role = match request.role.as_str() {
            "controller" => Role::Controller,
            "worker" => Role::Worker,
            "gateway" => Role::Gateway,
            other => {
                return Err(Status::invalid_argument(format!(
                    "`{other}` is no role of a node"
                )));
            }
        };
        self.propose(&Command::SetDrain {
            role,
            node: NodeId(request.id),
            drain: !request.undo,
        })
        .await?;
        Ok(Response::new(pb::DrainReply {}))
    }
}

impl AdminService {
    /// Both commands may be carried out twice.
    async fn propose(&self, command: &Command) -> Result<(), Status> {
        let committed = self.consensus.commit_again(command).await;
        committed.map(drop).map_err(|error| match error {
            ProposeError::Level { .. } => Status::failed_precondition(error.to_string()),
            ProposeError::NotLeader { .. }
            | ProposeError::TooLarge { .. }
            | ProposeError::Unavailable(_)
            | ProposeError::OutcomeUnknown(_) => unavailable(error.to_string()),
        })
    }
}

fn status(error: &MembershipError) -> Status {
    match error {
        MembershipError::Refused(_) => Status::failed_precondition(error.to_string()),
        MembershipError::NotLeader { .. }
        | MembershipError::Silent { .. }
        | MembershipError::Timeout { .. }
        | MembershipError::Stopped(_) => unavailable(error.to_string()),
    }
}
