//! The event log as gateways see it: [`EventLog`] is what any implementation promises, [`ControllerLog`] the controllers' own
//! (`controller/src/events`).

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt as _;
use hearth_core::error::{Error, ErrorCode, Result};
use hearth_core::events::{EventEntry, FunctionKey, LeaseId, Settlement};
use hearth_core::ids::NodeId;
use hearth_core::name::Qualifier;
use hearth_node::grpc::ClusterChannel as Channel;
use hearth_proto::internal::v1 as pb;
use hearth_proto::status::from_status;
use pb::event_log_client::EventLogClient;
use tonic::{Code, Response, Status};

use crate::channel::MESSAGE_MAX_BYTES;
use crate::controllers::Controllers;

/// One attempt at one controller: longer than an election.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
/// Pause before the controllers are asked all over again.
const ROUND_PAUSE: Duration = Duration::from_millis(100);

/// An event to be kept.
#[derive(Clone, Debug)]
pub(crate) struct NewEvent {
    /// The same again is the same event.
    pub(crate) request_id: String,
    pub(crate) function: FunctionKey,
    /// As asked for.
    pub(crate) qualifier: Option<Qualifier>,
    pub(crate) payload: Bytes,
}

/// An event that this gateway is to run.
#[derive(Clone, Debug)]
pub(crate) struct Leased {
    pub(crate) entry: EventEntry,
    pub(crate) payload: Bytes,
}

impl Leased {
    /// The lease.
    pub(crate) fn id(&self) -> LeaseId {
        LeaseId {
            request_id: self.entry.request_id.clone(),
            epoch: self.entry.epoch,
        }
    }
}

/// See the module's text. What an event has been through is decided by `hearth_core::events`, whoever keeps it.
#[async_trait]
pub(crate) trait EventLog: Debug + Send + Sync {
    /// Keeps an event: when this returns it survives the loss of any machine. Once for each request id.
    async fn append(&self, event: NewEvent) -> Result<()>;

    /// Due events, at most `count`, each given to nobody else for `lease`, with the attempt counted. Waits for the first for as
    /// long as `wait`.
    async fn lease(&self, count: u32, lease: Duration, wait: Duration) -> Result<Vec<Leased>>;

    /// Ends leases. One that is over already changes nothing.
    async fn settle(&self, settlements: &[Settlement]) -> Result<()>;

    /// Keeps leases for so long from now on.
    async fn renew(&self, leases: &[LeaseId], lease: Duration) -> Result<()>;
}

/// The controllers' log.
#[derive(Debug)]
pub(crate) struct ControllerLog {
    controllers: Arc<Controllers>,
    holder: NodeId,
    /// For an operation as a whole.
    timeout: Duration,
}

impl ControllerLog {
    pub(crate) fn new(controllers: Arc<Controllers>, holder: NodeId, timeout: Duration) -> Self {
        Self {
            controllers,
            holder,
            timeout,
        }
    }

    /// Asks one controller after the other until one could say. All questions may be asked several times.
    async fn ask<T, F>(&self, call: impl Fn(EventLogClient<Channel>) -> F) -> Result<T>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let asking = async {
            loop {
                for channel in self.controllers.channels() {
                    match tokio::time::timeout(ATTEMPT_TIMEOUT, call(client(channel))).await {
                        Ok(Ok(reply)) => return Ok(reply.into_inner()),
                        Ok(Err(status)) if !is_temporary(&status) => return Err(refused(&status)),
                        Ok(Err(_)) | Err(_) => {}
                    }
                }
                tokio::time::sleep(ROUND_PAUSE).await;
            }
        };
        tokio::time::timeout(self.timeout, asking)
            .await
            .unwrap_or_else(|_| {
                let text = "the event log did not answer in time";
                Err(Error::new(ErrorCode::Unavailable, text))
            })
    }
}

#[async_trait]
impl EventLog for ControllerLog {
    async fn append(&self, event: NewEvent) -> Result<()> {
        let request = pb::AppendEventRequest {
            request_id: event.request_id,
            account: event.function.account.to_string(),
            function: event.function.function.to_string(),
            qualifier: event.qualifier.map(|q| q.to_string()).unwrap_or_default(),
            payload: event.payload,
        };
        let append =
            async |mut client: EventLogClient<Channel>| client.append(request.clone()).await;
        self.ask(append).await.map(drop)
    }

    async fn lease(&self, count: u32, lease: Duration, wait: Duration) -> Result<Vec<Leased>> {
        let request = pb::LeaseEventsRequest {
            holder: self.holder.0,
            count,
            lease_ms: millis(lease),
            wait_ms: millis(wait),
        };
        let mut last = Error::new(ErrorCode::Unavailable, "no controller answered");
        for channel in self.controllers.channels() {
            let leasing = async {
                let answer = client(channel).lease(request).await?;
                answer.into_inner().try_collect::<Vec<_>>().await
            };
            // What one controller leased and could not say any more comes back when its lease is over.
            match tokio::time::timeout(wait + ATTEMPT_TIMEOUT, leasing).await {
                Ok(Ok(events)) => return events.into_iter().map(leased).collect(),
                Ok(Err(status)) => last = refused(&status),
                Err(_) => {}
            }
        }
        Err(last)
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<()> {
        let settlement = |one: &Settlement| {
            let decision = serde_json::to_vec(&one.decision);
            let decision = decision.map_err(|e| Error::new(ErrorCode::Internal, e.to_string()))?;
            Ok(pb::EventSettlement {
                lease: Some(lease_id(&one.lease)),
                decision: decision.into(),
            })
        };
        let settlements = settlements.iter().map(settlement).collect::<Result<_>>()?;
        let request = pb::SettleEventsRequest { settlements };
        let settle =
            async |mut client: EventLogClient<Channel>| client.settle(request.clone()).await;
        self.ask(settle).await.map(drop)
    }

    async fn renew(&self, leases: &[LeaseId], lease: Duration) -> Result<()> {
        let request = pb::RenewEventsRequest {
            leases: leases.iter().map(lease_id).collect(),
            lease_ms: millis(lease),
        };
        let renew = async |mut client: EventLogClient<Channel>| client.renew(request.clone()).await;
        self.ask(renew).await.map(drop)
    }
}

fn client(channel: Channel) -> EventLogClient<Channel> {
    EventLogClient::new(channel).max_decoding_message_size(MESSAGE_MAX_BYTES)
}

fn leased(event: pb::LeasedEvent) -> Result<Leased> {
    let entry = serde_json::from_slice(&event.entry).map_err(|error| {
        let text = format!("an event of the log cannot be read: {error}");
        Error::new(ErrorCode::Internal, text)
    })?;
    Ok(Leased {
        entry,
        payload: event.payload,
    })
}

fn lease_id(lease: &LeaseId) -> pb::EventLease {
    pb::EventLease {
        request_id: lease.request_id.clone(),
        epoch: lease.epoch,
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// Whether another controller, or the same one later, may say something else.
fn is_temporary(status: &Status) -> bool {
    !matches!(
        status.code(),
        Code::ResourceExhausted | Code::InvalidArgument | Code::Unimplemented | Code::Internal
    )
}

fn refused(status: &Status) -> Error {
    match status.code() {
        Code::ResourceExhausted => Error::new(ErrorCode::Throttled, status.message()),
        Code::InvalidArgument => Error::new(ErrorCode::InvalidParameterValue, status.message()),
        Code::Internal => Error::new(ErrorCode::Internal, status.message()),
        Code::Unimplemented => Error::new(
            ErrorCode::NotImplemented,
            "This cluster takes no event invocations: its controllers have no event log ([events] enabled), or are of an earlier release.",
        ),
        _ => from_status(status),
    }
}
