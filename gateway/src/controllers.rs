//! The client to the controllers: any of them answers; the next is tried when one cannot. What surely did not happen,
//! or may happen twice without harm, is tried again within a deadline; a write that may have happened is not. Code
//! packages travel in `blobs`.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use hearth_core::control::{ControlReply, ControlRequest, VersionChange};
use hearth_core::error::{Error, ErrorCode, Result};
use hearth_core::function::Function;
use hearth_node::grpc::ClusterChannel as Channel;
use hearth_proto::convert::{decode_answer, encode_request};
use hearth_proto::internal::v1 as pb;
use pb::catalog_client::CatalogClient;
use pb::control_client::ControlClient;
use tonic::{Code, Status};

use crate::channel::{Dialer, MESSAGE_MAX_BYTES};

/// One attempt at one controller: longer than a commit under load, shorter than an SDK's patience.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// The leader's word on permits; invocations wait for it.
const CAPACITY_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause before the controllers are asked all over again, while they elect a leader.
const ROUND_PAUSE: Duration = Duration::from_millis(100);

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Controllers {
    channels: Vec<Channel>,
    /// The one that answered last.
    preferred: AtomicUsize,
    /// For an operation as a whole.
    timeout: Duration,
}

/// What is known of a failed attempt.
enum Failed {
    /// The controller did not do it.
    NotDone,
    /// It may have done it.
    Unknown(Error),
}

impl Controllers {
    /// Connects when first used.
    pub(crate) fn new(
        addrs: &[String],
        dialer: &Dialer,
        timeout: Duration,
    ) -> Result<Self, Status> {
        let channels = addrs.iter().map(|addr| dialer.channel(addr));
        Ok(Self {
            channels: channels.collect::<Result<_, _>>()?,
            preferred: AtomicUsize::new(0),
            timeout,
        })
    }

    pub(crate) fn channels(&self) -> &[Channel] {
        &self.channels
    }

    /// The client to watch the catalog with, another one each turn.
    pub(crate) fn catalog_client(&self, turn: usize) -> CatalogClient<Channel> {
        let index = (self.preferred.load(Relaxed) + turn) % self.channels.len();
        CatalogClient::new(self.channels[index].clone())
            .max_decoding_message_size(MESSAGE_MAX_BYTES)
    }

    /// Runs an operation.
    pub(crate) async fn execute(&self, request: &ControlRequest) -> Result<ControlReply> {
        let work = self.execute_with_retries(request);
        tokio::time::timeout(self.timeout, work)
            .await
            .unwrap_or_else(|_| Err(unavailable("no controller answered in time")))
    }

    async fn execute_with_retries(&self, request: &ControlRequest) -> Result<ControlReply> {
        let call = encode_request(request);
        let first = self.preferred.load(Relaxed);
        let mut may_have_happened = false;
        // The deadline of the whole ends this.
        for attempt in 0_usize.. {
            let index = (first + attempt) % self.channels.len();
            match attempt_once(&self.channels[index], call.clone()).await {
                Ok(Err(error)) if may_have_happened => {
                    return own_result(request, error, self, index).await;
                }
                Ok(answer) => {
                    self.preferred.store(index, Relaxed);
                    return answer;
                }
                Err(Failed::NotDone) => {}
                Err(Failed::Unknown(_)) if is_repeatable(request) => may_have_happened = true,
                Err(Failed::Unknown(error)) => return Err(error),
            }
            if (attempt + 1) % self.channels.len() == 0 {
                tokio::time::sleep(ROUND_PAUSE).await;
            }
        }
        Err(unavailable("no controller answered"))
    }

    /// Asks the leader for permits, through any controller.
    pub(crate) async fn need_capacity(
        &self,
        request: pb::NeedCapacityRequest,
    ) -> Result<pb::NeedCapacityReply, Status> {
        let first = self.preferred.load(Relaxed);
        let asking = async {
            let mut last = Status::unavailable("there are no controllers");
            for attempt in 0..self.channels.len() {
                let index = (first + attempt) % self.channels.len();
                let mut client = ControlClient::new(self.channels[index].clone());
                match client.need_capacity(request.clone()).await {
                    Ok(reply) => {
                        self.preferred.store(index, Relaxed);
                        return Ok(reply.into_inner());
                    }
                    Err(status) => last = status,
                }
            }
            Err(last)
        };
        tokio::time::timeout(CAPACITY_TIMEOUT, asking)
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded("no leader answered in time")))
    }
}

fn unavailable(text: &str) -> Error {
    Error::new(ErrorCode::Unavailable, text)
}

async fn attempt_once(
    channel: &Channel,
    call: pb::ControlCall,
) -> Result<Result<ControlReply>, Failed> {
    let mut client =
        ControlClient::new(channel.clone()).max_decoding_message_size(MESSAGE_MAX_BYTES);
    let answer = tokio::time::timeout(ATTEMPT_TIMEOUT, client.execute(call)).await;
    match answer {
        Ok(Ok(answer)) => match decode_answer(answer.get_ref()) {
            Err(error) if error.code == ErrorCode::Unavailable => Err(Failed::Unknown(error)),
            answer => Ok(answer),
        },
        Ok(Err(status)) if is_connect_error(&status) => Err(Failed::NotDone),
        Ok(Err(status)) => Err(Failed::Unknown(hearth_proto::status::from_status(&status))),
        Err(_) => Err(Failed::Unknown(unavailable(
            "a controller did not answer in time",
        ))),
    }
}

/// Whether the request never left: tonic marks a failure to connect by its source.
fn is_connect_error(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return error.kind() == std::io::ErrorKind::ConnectionRefused;
        }
        source = error.source();
    }
    status.code() == Code::Unavailable && status.message().contains("tcp connect")
}

/// Whether the operation may be carried out twice, or its second answer tells whether the first was its own.
fn is_repeatable(request: &ControlRequest) -> bool {
    match request {
        ControlRequest::CreateFunction { .. }
        | ControlRequest::DeleteFunction { .. }
        | ControlRequest::GetFunction { .. }
        | ControlRequest::ListFunctions { .. }
        | ControlRequest::SetReservedConcurrency { .. }
        | ControlRequest::TagFunction { .. }
        | ControlRequest::GetAccount { .. }
        | ControlRequest::GetProvisioned { .. }
        | ControlRequest::ClusterStatus => true,
        ControlRequest::UpdateFunctionCode { dry_run, .. } => *dry_run,
        ControlRequest::ChangeVersions { change, .. } => match change {
            // The second finds nothing to be done and answers alike.
            VersionChange::Publish { revision_id, .. }
            | VersionChange::UpdateAlias { revision_id, .. } => revision_id.is_none(),
            VersionChange::Delete { .. }
            | VersionChange::DeleteAlias { .. }
            | VersionChange::PutProvisioned { .. }
            | VersionChange::DeleteProvisioned { .. } => true,
            VersionChange::CreateAlias { .. } => false,
        },
        ControlRequest::ThenPublish { .. } => false,
        // The second would meet the first, in progress, and say conflict.
        ControlRequest::UpdateFunctionConfiguration { .. } => false,
    }
}

/// The answer to a repeated operation was an error: perhaps because the first attempt had succeeded. A refusal promises
/// that nothing happened, which nobody knows here unless it was a read: what the first attempt did may have been changed
/// again before the second looked.
async fn own_result(
    request: &ControlRequest,
    error: Error,
    controllers: &Controllers,
    index: usize,
) -> Result<ControlReply> {
    match (request, error.code) {
        (ControlRequest::DeleteFunction { .. }, ErrorCode::NotFound) => Ok(ControlReply::Done),
        (ControlRequest::CreateFunction { account, name, .. }, ErrorCode::ResourceConflict) => {
            let get = ControlRequest::GetFunction {
                account: account.clone(),
                name: name.clone(),
            };
            let found = attempt_once(&controllers.channels[index], encode_request(&get)).await;
            match found {
                Ok(Ok(ControlReply::Function(function))) if is_made_by(&function, request) => {
                    Ok(ControlReply::Function(function))
                }
                _ => Err(perhaps_done(&error)),
            }
        }
        _ if is_read(request) => Err(error),
        _ => Err(perhaps_done(&error)),
    }
}

fn perhaps_done(error: &Error) -> Error {
    unavailable(&format!(
        "an answer was lost, the operation may have been carried out; repeated, it was refused: {}",
        error.message
    ))
}

fn is_read(request: &ControlRequest) -> bool {
    match request {
        ControlRequest::GetFunction { .. }
        | ControlRequest::GetProvisioned { .. }
        | ControlRequest::ListFunctions { .. }
        | ControlRequest::GetAccount { .. }
        | ControlRequest::ClusterStatus => true,
        ControlRequest::UpdateFunctionCode { dry_run, .. } => *dry_run,
        ControlRequest::CreateFunction { .. }
        | ControlRequest::DeleteFunction { .. }
        | ControlRequest::SetReservedConcurrency { .. }
        | ControlRequest::TagFunction { .. }
        | ControlRequest::ThenPublish { .. }
        | ControlRequest::ChangeVersions { .. }
        | ControlRequest::UpdateFunctionConfiguration { .. } => false,
    }
}

/// Whether the function is what this request would have made.
fn is_made_by(function: &Function, request: &ControlRequest) -> bool {
    let ControlRequest::CreateFunction {
        config, code, tags, ..
    } = request
    else {
        return false;
    };
    function.latest.code == *code && function.latest.config == *config && function.tags == *tags
}
