//! The service that gateways and operators' commands call. Writes are committed from any controller; leases are the leader's,
//! and sent on to it.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use hearth_core::error::{Error, ErrorCode};
use hearth_core::events::{
    EventCommand, EventEntry, EventReply, FunctionKey, LeaseId, LeaseOutcome, PayloadRef,
    Settlement,
};
use hearth_core::ids::{NodeId, UnixMs};
use hearth_core::limits::ASYNC_REQUEST_MAX_BYTES;
use hearth_node::clock::SharedClock;
use hearth_node::grpc;
use hearth_node::tls::NodeRole;
use hearth_proto::internal::v1 as pb;
use hearth_proto::status::to_status;
use pb::event_log_client::EventLogClient;
use pb::event_log_server::EventLog;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::lease::{Leases, Want};
use super::machine::EventMachine;
use crate::api::control::is_of_controller;
use crate::api::forward::{Controllers, forwarded, is_forwarded};
use crate::raft::Consensus;

/// Longest pause of an answer to a lease that was sent on, beyond what it was asked to wait.
const FORWARD_SLACK: Duration = Duration::from_secs(5);
/// Entries of one list.
const LIST_MAX: usize = 1_000;
/// Events taken up again, settled or renewed by one request.
const BATCH_MAX: usize = 1_000;

/// See the module's text.
#[derive(Clone, Debug)]
pub(crate) struct EventLogService {
    pub(crate) consensus: Consensus<EventMachine>,
    pub(crate) leases: Leases,
    pub(crate) controllers: Controllers,
    pub(crate) clock: SharedClock,
    pub(crate) stop: CancellationToken,
}

type LeasedEvents = Pin<Box<dyn Stream<Item = Result<pb::LeasedEvent, Status>> + Send>>;

#[tonic::async_trait]
impl EventLog for EventLogService {
    type LeaseStream = LeasedEvents;

    async fn append(
        &self,
        request: Request<pb::AppendEventRequest>,
    ) -> Result<Response<pb::AppendEventReply>, Status> {
        let asked = request.into_inner();
        if asked.payload.len() > ASYNC_REQUEST_MAX_BYTES {
            return Err(Status::invalid_argument("the event is too large"));
        }
        let function = function_key(&asked.account, &asked.function)?;
        let qualifier = match asked.qualifier.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| invalid("qualifier"))?),
        };
        let command = EventCommand::Append {
            request_id: asked.request_id,
            function,
            qualifier,
            payload: PayloadRef { index: 0, bytes: 0 },
            now: self.now(),
        };
        match self.commit(&command, asked.payload).await? {
            EventReply::Appended | EventReply::AlreadyAppended => {
                Ok(Response::new(pb::AppendEventReply {}))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn lease(
        &self,
        request: Request<pb::LeaseEventsRequest>,
    ) -> Result<Response<LeasedEvents>, Status> {
        if !is_of_controller(&request) {
            let gateway = request.get_ref().holder;
            grpc::check_claim(request.extensions(), NodeRole::Gateway, gateway)?;
        }
        if !self.consensus.leadership().is_leader {
            return self.lease_elsewhere(request).await;
        }
        let asked = request.into_inner();
        let leased = self.leases.next(Want {
            holder: NodeId(asked.holder),
            count: asked.count,
            lease_ms: u64::from(asked.lease_ms),
            wait: Duration::from_millis(u64::from(asked.wait_ms)),
        });
        let leased = leased.await.map_err(|error| to_status(&error))?;
        let events = leased.into_iter().map(|(entry, payload)| {
            let entry = document(&entry)?;
            Ok(pb::LeasedEvent { entry, payload })
        });
        Ok(Response::new(Box::pin(futures::stream::iter(events))))
    }

    async fn settle(
        &self,
        request: Request<pb::SettleEventsRequest>,
    ) -> Result<Response<pb::EventOutcomes>, Status> {
        let settlements = few(request.into_inner().settlements)?;
        let settlement = |one: pb::EventSettlement| {
            Ok(Settlement {
                lease: lease_id(one.lease.ok_or_else(|| invalid("lease"))?),
                decision: serde_json::from_slice(&one.decision).map_err(|_| invalid("decision"))?,
            })
        };
        let settlements = settlements.into_iter().map(settlement);
        let command = EventCommand::Settle {
            settlements: settlements.collect::<Result<_, Status>>()?,
            now: self.now(),
        };
        self.outcomes(&command).await
    }

    async fn renew(
        &self,
        request: Request<pb::RenewEventsRequest>,
    ) -> Result<Response<pb::EventOutcomes>, Status> {
        let asked = request.into_inner();
        let until = self.now().0.saturating_add(u64::from(asked.lease_ms));
        let command = EventCommand::Renew {
            leases: few(asked.leases)?.into_iter().map(lease_id).collect(),
            until: UnixMs(until),
        };
        self.outcomes(&command).await
    }

    async fn find(
        &self,
        request: Request<pb::FindEventRequest>,
    ) -> Result<Response<pb::FindEventReply>, Status> {
        self.current().await?;
        let request_id = &request.get_ref().request_id;
        let found = self
            .consensus
            .read(|m| m.group().entry(request_id).cloned());
        let entry = found.as_ref().map(document).transpose()?;
        Ok(Response::new(pb::FindEventReply { entry }))
    }

    async fn list(
        &self,
        request: Request<pb::ListEventsRequest>,
    ) -> Result<Response<pb::ListEventsReply>, Status> {
        self.current().await?;
        let asked = request.into_inner();
        let is_meant = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
        let is_asked = |entry: &&EventEntry| {
            is_meant(&asked.account, entry.function.account.as_str())
                && is_meant(&asked.function, entry.function.function.as_str())
                && (!asked.failed || entry.has_failed())
        };
        let limit = match usize::try_from(asked.limit).unwrap_or(LIST_MAX) {
            0 => LIST_MAX,
            limit => limit.min(LIST_MAX),
        };
        let found: Vec<EventEntry> = self.consensus.read(|machine| {
            let entries = machine.group().entries().filter(is_asked);
            entries.take(limit + 1).cloned().collect()
        });
        let entries = found.iter().take(limit).map(document);
        Ok(Response::new(pb::ListEventsReply {
            entries: entries.collect::<Result<_, _>>()?,
            truncated: found.len() > limit,
        }))
    }

    async fn redrive(
        &self,
        request: Request<pb::RedriveEventsRequest>,
    ) -> Result<Response<pb::RedriveEventsReply>, Status> {
        let command = EventCommand::Redrive {
            request_ids: few(request.into_inner().request_ids)?,
            now: self.now(),
        };
        match self.commit(&command, Bytes::new()).await? {
            EventReply::Redriven(request_ids) => {
                Ok(Response::new(pb::RedriveEventsReply { request_ids }))
            }
            other => Err(unexpected(&other)),
        }
    }
}

impl EventLogService {
    fn now(&self) -> UnixMs {
        UnixMs(self.clock.unix_ms())
    }

    /// Commits a command; a refusal is an error.
    async fn commit(&self, command: &EventCommand, payload: Bytes) -> Result<EventReply, Status> {
        let reply = self.consensus.commit_event(command, payload).await;
        match reply.map_err(|error| to_status(&error))? {
            EventReply::Refused(refusal) => Err(to_status(&refusal.to_error())),
            reply => Ok(reply),
        }
    }

    async fn outcomes(
        &self,
        command: &EventCommand,
    ) -> Result<Response<pb::EventOutcomes>, Status> {
        match self.commit(command, Bytes::new()).await? {
            EventReply::Outcomes(outcomes) => Ok(Response::new(pb::EventOutcomes {
                done: outcomes
                    .iter()
                    .map(|one| *one == LeaseOutcome::Done)
                    .collect(),
            })),
            other => Err(unexpected(&other)),
        }
    }

    /// After this, reads here see what was committed before.
    async fn current(&self) -> Result<(), Status> {
        let read = self.consensus.read_index().await;
        read.map(drop)
            .map_err(|error| Status::unavailable(error.to_string()))
    }

    async fn lease_elsewhere(
        &self,
        request: Request<pb::LeaseEventsRequest>,
    ) -> Result<Response<LeasedEvents>, Status> {
        let leader = self.consensus.leader();
        let leader = leader.filter(|(id, _)| *id != self.consensus.node_id());
        let Some((_, addr)) = leader.filter(|_| !is_forwarded(&request)) else {
            return Err(Status::unavailable("no leader of the event log is known"));
        };
        let asked = request.into_inner();
        let wait = Duration::from_millis(u64::from(asked.wait_ms)) + FORWARD_SLACK;
        let mut client = EventLogClient::new(self.controllers.channel(&addr)?);
        let answer = tokio::select! {
            answer = grpc::with_deadline(client.lease(forwarded(asked)), wait) => answer?,
            () = self.stop.cancelled() => return Err(Status::unavailable("this controller ends")),
        };
        Ok(Response::new(Box::pin(answer.into_inner())))
    }
}

fn function_key(account: &str, function: &str) -> Result<FunctionKey, Status> {
    Ok(FunctionKey {
        account: account.parse().map_err(|_| invalid("account"))?,
        function: function.parse().map_err(|_| invalid("function"))?,
    })
}

fn lease_id(lease: pb::EventLease) -> LeaseId {
    let (request_id, epoch) = (lease.request_id, lease.epoch);
    LeaseId { request_id, epoch }
}

fn few<T>(all: Vec<T>) -> Result<Vec<T>, Status> {
    if all.len() > BATCH_MAX {
        return Err(Status::invalid_argument(format!(
            "more than {BATCH_MAX} at once"
        )));
    }
    Ok(all)
}

fn document(entry: &EventEntry) -> Result<Bytes, Status> {
    let json = serde_json::to_vec(entry).map_err(|error| Status::internal(error.to_string()))?;
    Ok(json.into())
}

fn invalid(what: &str) -> Status {
    Status::invalid_argument(format!("the {what} is none"))
}

fn unexpected(reply: &EventReply) -> Status {
    let text = format!("the event log answered with {reply:?}");
    to_status(&Error::new(ErrorCode::Internal, text))
}
