//! Metadata operations: which command or read each is, and what its answer becomes.

use std::sync::Arc;

use hearth_core::control::{ControlReply, ControlRequest};
use hearth_core::error::{Error, ErrorCode, NOT_DONE, Result};
use hearth_core::function::Function;
use hearth_core::iam::IamPage;
use hearth_core::ids::{AccountId, UnixMs};
use hearth_core::layer::LayerChange;
use hearth_core::limits;
use hearth_core::name::FunctionName;
use hearth_core::planted::{self, Bug};
use hearth_core::resource::ResourcePage;
use hearth_node::clock::SharedClock;
use hearth_node::random::SharedRandom;
use hearth_proto::convert;

use crate::blobs::{self, BlobStore};
use crate::machine::ReplicatedState;
use crate::metrics::ControllerMetrics;
use crate::raft::{Consensus, ProposeError, ReadError};
use crate::state::State;
use crate::state::command::Command;
use crate::state::reply::Reply;

/// From this level on writes can be carried out once: `Command::Once`.
const ONCE_LEVEL: u32 = 1;
/// Functions in a page at most, whatever the gateway asks.
const PAGE_MAX: usize = 1_000;
/// Bytes of a page at most: half of the largest gRPC message.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Carries out metadata operations on any controller.
#[derive(Clone, Debug)]
pub(crate) struct Operations {
    pub(crate) consensus: Consensus<ReplicatedState>,
    pub(crate) clock: SharedClock,
    pub(crate) random: SharedRandom,
    pub(crate) metrics: Arc<ControllerMetrics>,
    /// Where code has to be before a function names it.
    pub(crate) blobs: Arc<dyn BlobStore>,
}

impl Operations {
    /// Whether operations can be carried out once however often they are asked for.
    pub(crate) fn takes_once(&self) -> bool {
        self.consensus.agreed_level() >= ONCE_LEVEL
    }

    /// Every operation but `ClusterStatus`, which needs the leader's soft state. With a token a write is carried out
    /// once.
    pub(crate) async fn execute(
        &self,
        request: ControlRequest,
        token: Option<String>,
    ) -> Result<ControlReply> {
        match (self.command(&request), token) {
            (Some(command), None) => {
                self.check_code(&command).await?;
                self.write(&command, false).await
            }
            (Some(command), Some(token)) => {
                self.check_code(&command).await?;
                let command = Box::new(command);
                self.write(&Command::Once { token, command }, true).await
            }
            (None, _) => self.read(request).await,
        }
    }

    /// A function never names code that is nowhere. What is there stays: collection spares young blobs.
    async fn check_code(&self, command: &Command) -> Result<()> {
        let first = match command {
            Command::ThenPublish { first, .. } => first,
            other => other,
        };
        let code = match first {
            Command::CreateFunction { code, .. } | Command::UpdateFunctionCode { code, .. } => code,
            Command::ChangeLayer { change, .. } => match &**change {
                LayerChange::Publish { content, .. } => content,
                LayerChange::Delete { .. }
                | LayerChange::Permit { .. }
                | LayerChange::Revoke { .. } => return Ok(()),
            },
            Command::Configure { .. }
            | Command::UpdateFunctionConfiguration { .. }
            | Command::DeleteFunction { .. }
            | Command::SettleFunction { .. }
            | Command::SetReservedConcurrency { .. }
            | Command::TagFunction { .. }
            | Command::ThenPublish { .. }
            | Command::ChangeVersions { .. }
            | Command::ChangeAttached { .. }
            | Command::ChangeResource { .. }
            | Command::ChangeIam { .. }
            | Command::RegisterWorker { .. }
            | Command::SetWorkerHealth { .. }
            | Command::ForgetWorker { .. }
            | Command::BeginTerm { .. }
            | Command::ChangeGrants { .. }
            | Command::Once { .. }
            | Command::SetDrain { .. }
            | Command::CreateJoinToken { .. }
            | Command::UseJoinToken { .. }
            | Command::RaiseLevel { .. } => return Ok(()),
        };
        // An image is its registry's; a worker finds out whether it can be had.
        if code.image.is_some() {
            return Ok(());
        }
        let digest = blobs::Digest::from_bytes(code.digest.0);
        match self.blobs.exists(digest).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::new(
                ErrorCode::InvalidParameterValue,
                format!(
                    "The cluster has no code with the SHA-256 digest {digest}. Put the code first, then name it."
                ),
            )),
            Err(error) => {
                tracing::warn!(%digest, %error, "code cannot be looked for");
                Err(Error::new(
                    ErrorCode::Unavailable,
                    format!("the code cannot be looked for: {error}"),
                ))
            }
        }
    }

    pub(super) async fn write(&self, command: &Command, once: bool) -> Result<ControlReply> {
        self.metrics.proposals.inc();
        let reply = if once {
            self.consensus.commit_again(command).await
        } else {
            self.consensus.commit(command).await
        };
        match reply.map_err(|error| propose_error(&error))? {
            Reply::Function(function) => Ok(ControlReply::Function(function)),
            Reply::Layer(version) => Ok(ControlReply::Layers {
                versions: vec![*version],
                more: false,
            }),
            Reply::Resource(resource) => Ok(ControlReply::Resources(ResourcePage {
                resources: vec![*resource],
                functions: Vec::new(),
                more: false,
            })),
            Reply::Iam(entity) => Ok(ControlReply::Iam(IamPage {
                entities: vec![*entity],
                ..IamPage::default()
            })),
            Reply::Done => Ok(ControlReply::Done),
            Reply::Refused(error) => Err(error),
            Reply::Grants(_) | Reply::Superseded | Reply::Unreadable => Err(Error::new(
                ErrorCode::Internal,
                "the controllers are of different releases; finish the upgrade",
            )),
        }
    }

    /// A linearizable read.
    pub(crate) async fn barrier(&self) -> Result<()> {
        if planted::is(Bug::ReadsUnconfirmed) {
            return Ok(());
        }
        let read = self.consensus.read_index().await;
        read.map(|_| ()).map_err(|error| read_error(&error))
    }

    async fn read(&self, request: ControlRequest) -> Result<ControlReply> {
        self.barrier().await?;
        self.consensus.read(|m| answer(m.state(), &request))
    }

    /// The command of a write; `None` for what only reads.
    fn command(&self, request: &ControlRequest) -> Option<Command> {
        match request.clone() {
            ControlRequest::UpdateFunctionCode { dry_run: true, .. }
            | ControlRequest::GetFunction { .. }
            | ControlRequest::QueryLayers { .. }
            | ControlRequest::QueryResources { .. }
            | ControlRequest::QueryIam { .. }
            | ControlRequest::GetProvisioned { .. }
            | ControlRequest::ListFunctions { .. }
            | ControlRequest::GetAccount { .. }
            | ControlRequest::ClusterStatus => None,
            ControlRequest::ThenPublish { first } => Some(Command::ThenPublish {
                first: Box::new(self.command(&first)?),
                revision_id: self.random.uuid(),
            }),
            ControlRequest::DeleteFunction { account, name } => {
                Some(Command::DeleteFunction { account, name })
            }
            ControlRequest::TagFunction {
                account,
                name,
                set,
                remove,
            } => Some(Command::TagFunction {
                account,
                name,
                set,
                remove,
            }),
            request @ (ControlRequest::ChangeVersions { .. }
            | ControlRequest::ChangeLayer { .. }
            | ControlRequest::ChangeAttached { .. }
            | ControlRequest::ChangeResource { .. }
            | ControlRequest::ChangeIam { .. }) => self.changing(request),
            request @ (ControlRequest::CreateFunction { .. }
            | ControlRequest::UpdateFunctionCode { dry_run: false, .. }
            | ControlRequest::UpdateFunctionConfiguration { .. }
            | ControlRequest::SetReservedConcurrency { .. }) => self.revising(request),
        }
    }

    /// The command of a change that `core` has a type for; the proposer fixes ids and time.
    fn changing(&self, request: ControlRequest) -> Option<Command> {
        let at = UnixMs(self.clock.unix_ms());
        let revision_id = self.random.uuid();
        match request {
            ControlRequest::ChangeLayer {
                account,
                name,
                change,
            } => Some(Command::ChangeLayer {
                account,
                name,
                change: Box::new(change),
                revision_id,
                at,
            }),
            ControlRequest::ChangeVersions {
                account,
                name,
                change,
            } => Some(Command::ChangeVersions {
                account,
                name,
                change: Box::new(change),
                revision_id,
                latest_revision_id: self.random.uuid(),
                at,
            }),
            ControlRequest::ChangeAttached {
                account,
                name,
                change,
            } => Some(Command::ChangeAttached {
                account,
                name,
                change,
                revision_id,
                at,
            }),
            ControlRequest::ChangeResource { account, change } => Some(Command::ChangeResource {
                account,
                change,
                id: revision_id,
                at,
            }),
            ControlRequest::ChangeIam { account, change } => Some(Command::ChangeIam {
                account,
                change,
                id: revision_id,
                at,
            }),
            _ => None,
        }
    }

    /// The command of a write that gives the function a new revision; the proposer fixes id and time.
    fn revising(&self, request: ControlRequest) -> Option<Command> {
        let at = UnixMs(self.clock.unix_ms());
        let revision_id = self.random.uuid();
        match request {
            ControlRequest::CreateFunction {
                account,
                name,
                config,
                code,
                tags,
                code_signing,
            } => Some(Command::CreateFunction {
                account,
                name,
                config: Box::new(config),
                code,
                tags,
                code_signing,
                revision_id,
                at,
            }),
            ControlRequest::UpdateFunctionCode {
                account,
                name,
                code,
                architectures,
                revision_id: expected_revision,
                dry_run: _,
            } => Some(Command::UpdateFunctionCode {
                account,
                name,
                code,
                architectures,
                expected_revision,
                revision_id,
                at,
            }),
            ControlRequest::UpdateFunctionConfiguration {
                account,
                name,
                patch,
                revision_id: expected_revision,
            } => Some(Command::UpdateFunctionConfiguration {
                account,
                name,
                patch: Box::new(patch),
                expected_revision,
                revision_id,
                at,
            }),
            ControlRequest::SetReservedConcurrency {
                account,
                name,
                reserved,
            } => Some(Command::SetReservedConcurrency {
                account,
                name,
                reserved,
                revision_id,
            }),
            _ => None,
        }
    }
}

/// The answer to a read.
fn answer(state: &State, request: &ControlRequest) -> Result<ControlReply> {
    match request {
        ControlRequest::GetFunction { account, name } => {
            let function = state.functions.find(&state.region, account, name)?;
            Ok(ControlReply::Function(Box::new(function.clone())))
        }
        ControlRequest::ListFunctions {
            account,
            after,
            limit,
        } => {
            let limit = (*limit).clamp(1, PAGE_MAX);
            let (functions, more) = state.functions.page(account, after.as_ref(), limit);
            Ok(within_message(functions, more))
        }
        ControlRequest::QueryLayers { account, query } => {
            let found = state.layers.query(account, query);
            let (versions, more) = found.ok_or_else(|| {
                let text = "The resource you requested does not exist.";
                Error::new(ErrorCode::NotFound, text)
            })?;
            Ok(ControlReply::Layers { versions, more })
        }
        ControlRequest::QueryResources { account, query } => {
            let page = state.query_resources(account, query)?;
            Ok(ControlReply::Resources(page))
        }
        ControlRequest::QueryIam { account, query } => {
            Ok(ControlReply::Iam(state.query_iam(account, query)?))
        }
        ControlRequest::GetAccount { account } => Ok(ControlReply::Account(state.account(account))),
        ControlRequest::UpdateFunctionCode {
            account,
            name,
            code,
            architectures,
            revision_id,
            dry_run: _,
        } => {
            let expected = revision_id.as_deref();
            dry_run(state, account, name, code, architectures.as_ref(), expected)
        }
        ControlRequest::CreateFunction { .. }
        | ControlRequest::UpdateFunctionConfiguration { .. }
        | ControlRequest::DeleteFunction { .. }
        | ControlRequest::SetReservedConcurrency { .. }
        | ControlRequest::TagFunction { .. }
        | ControlRequest::ThenPublish { .. }
        | ControlRequest::ChangeVersions { .. }
        | ControlRequest::ChangeAttached { .. }
        | ControlRequest::ChangeResource { .. }
        | ControlRequest::ChangeIam { .. }
        | ControlRequest::ChangeLayer { .. }
        | ControlRequest::GetProvisioned { .. }
        | ControlRequest::ClusterStatus => Err(Error::new(
            ErrorCode::Internal,
            "an operation that is not a read was taken for one",
        )),
    }
}

/// The page, cut where it would not fit a gRPC message.
fn within_message(mut functions: Vec<Function>, more: bool) -> ControlReply {
    let mut bytes = 0;
    let fitting = functions
        .iter()
        .take_while(|function| {
            bytes += convert::encode_function(function).len();
            bytes <= PAGE_BYTES
        })
        .count()
        .max(1);
    let more = more || fitting < functions.len();
    functions.truncate(fitting);
    ControlReply::Functions { functions, more }
}

/// "Set to true to validate the request parameters and access permissions without modifying the function code."
fn dry_run(
    state: &State,
    account: &AccountId,
    name: &FunctionName,
    code: &hearth_core::function::CodeRef,
    architectures: Option<&Vec<String>>,
    expected: Option<&str>,
) -> Result<ControlReply> {
    let function = state.check_code_update(account, name, code, expected)?;
    let mut function: Function = function.clone();
    function.latest.code = code.clone();
    if let Some(architectures) = architectures {
        function
            .latest
            .config
            .architectures
            .clone_from(architectures);
    }
    Ok(ControlReply::Function(Box::new(function)))
}

fn propose_error(error: &ProposeError) -> Error {
    match error {
        ProposeError::TooLarge { bytes, .. } => Error::new(
            ErrorCode::RequestTooLarge,
            format!(
                "The function's metadata is {bytes} bytes; it must be smaller than {} bytes",
                limits::COMMAND_MAX_BYTES
            ),
        ),
        // A cluster that has just begun agrees within a moment; gateways ask again until then.
        ProposeError::Level { .. }
        | ProposeError::NotLeader { .. }
        | ProposeError::Unavailable(_) => {
            Error::new(ErrorCode::Unavailable, error.to_string()).with_reason(NOT_DONE)
        }
        ProposeError::OutcomeUnknown(_) => Error::new(ErrorCode::Unavailable, error.to_string()),
    }
}

fn read_error(error: &ReadError) -> Error {
    Error::new(ErrorCode::Unavailable, error.to_string())
}
