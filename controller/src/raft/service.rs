//! What this node answers to its peers.

use std::fmt;
use std::sync::Arc;

use bytes::BytesMut;
use hearth_core::ErrorCode;
use hearth_node::grpc::check_claim;
use hearth_node::tls::NodeRole;
use hearth_proto::internal::v1 as pb;
use hearth_proto::internal::v1::raft_peer_server::RaftPeer;
use openraft::errors::{Fatal, RaftError};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest,
    VoteRequest,
};
use tonic::{Extensions, Request, Response, Status, Streaming};

use super::codec::{self, CodecError};
use super::consensus::Inner;
use super::follow;
use super::machine::Machine;
use super::peers::{DiskLost, refusal};
use super::snapshot_file::{self, FormatError};
use super::types::{Snapshot, TypeConfig};

/// The peer service of one node. Served by `RaftPeerServer`; see [`super::Consensus::peer_service`].
pub struct PeerService<M: Machine> {
    pub(super) inner: Arc<Inner<M>>,
}

impl<M: Machine> Clone for PeerService<M> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<M: Machine> fmt::Debug for PeerService<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerService").finish_non_exhaustive()
    }
}

impl<M: Machine> PeerService<M> {
    /// The message of a peer that may send it.
    fn open<T>(
        &self,
        request: Request<T>,
        header: impl Fn(&T) -> Option<&pb::PeerHeader>,
    ) -> Result<T, Status> {
        let (_, caller, message) = request.into_parts();
        self.check(&caller, header(&message))?;
        Ok(message)
    }

    /// Whether the header is of this cluster, for this node, and of whom the connection is.
    fn check(&self, caller: &Extensions, header: Option<&pb::PeerHeader>) -> Result<(), Status> {
        let header = self.inner.peers.check(header)?;
        check_claim(caller, NodeRole::Controller, header.from_node)?;
        self.inner.peers.check_disks(header).map_err(|lost| {
            let text = match lost {
                DiskLost::Theirs(text) => text,
                DiskLost::Ours(text) => {
                    self.inner.disk_lost.send_replace(Some(text.clone()));
                    text
                }
            };
            refusal(ErrorCode::PreconditionFailed, text)
        })
    }

    /// As [`PeerService::check`], for a question that nodes with any disk are asked.
    fn check_name(
        &self,
        caller: &Extensions,
        header: Option<&pb::PeerHeader>,
    ) -> Result<(), Status> {
        let header = self.inner.peers.check(header)?;
        check_claim(caller, NodeRole::Controller, header.from_node)
    }
}

#[tonic::async_trait]
impl<M: Machine> RaftPeer for PeerService<M> {
    async fn append_entries(
        &self,
        request: Request<pb::AppendEntriesRequest>,
    ) -> Result<Response<pb::AppendEntriesReply>, Status> {
        use pb::append_entries_reply::Result as Reply;
        let message = self.open(request, |message| message.header.as_ref())?;
        let rpc = append_request(message).map_err(malformed)?;
        let leader = rpc.vote;
        let response = self.inner.raft.append_entries(rpc).await.map_err(stopped)?;
        if !matches!(response, AppendEntriesResponse::HigherVote(_)) {
            self.inner.pulse.hear(leader);
        }
        let result = match response {
            AppendEntriesResponse::Success => Reply::Success(pb::RaftBlank {}),
            AppendEntriesResponse::PartialSuccess(last) => Reply::Partial(pb::PartialSuccess {
                log_id: last.as_ref().map(codec::log_id_to_pb),
            }),
            AppendEntriesResponse::Conflict => Reply::Conflict(pb::RaftBlank {}),
            AppendEntriesResponse::HigherVote(vote) => Reply::HigherVote(codec::vote_to_pb(&vote)),
        };
        Ok(Response::new(pb::AppendEntriesReply {
            result: Some(result),
        }))
    }

    async fn vote(
        &self,
        request: Request<pb::VoteRequest>,
    ) -> Result<Response<pb::VoteReply>, Status> {
        let message = self.open(request, |message| message.header.as_ref())?;
        let rpc = vote_request(message).map_err(malformed)?;
        let response = self.inner.raft.vote(rpc).await.map_err(stopped)?;
        if response.vote_granted {
            self.inner.pulse.voted();
        }
        Ok(Response::new(vote_reply(&response)))
    }

    async fn pre_vote(
        &self,
        request: Request<pb::VoteRequest>,
    ) -> Result<Response<pb::VoteReply>, Status> {
        let message = self.open(request, |message| message.header.as_ref())?;
        let rpc = vote_request(message).map_err(malformed)?;
        let response = self.inner.raft.pre_vote(rpc).await.map_err(stopped)?;
        Ok(Response::new(vote_reply(&response)))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<pb::InstallSnapshotRequest>>,
    ) -> Result<Response<pb::InstallSnapshotReply>, Status> {
        use pb::install_snapshot_request::Part;
        let (_, caller, mut parts) = request.into_parts();
        let first = parts.message().await?.and_then(|message| message.part);
        let Some(Part::Start(start)) = first else {
            return Err(refusal(
                ErrorCode::InvalidParameterValue,
                "a snapshot begins with its header",
            ));
        };
        self.check(&caller, start.header.as_ref())?;
        let vote = codec::vote_from_pb(start.vote).map_err(malformed)?;
        let header = start.snapshot.ok_or_else(|| {
            refusal(
                ErrorCode::InvalidParameterValue,
                "snapshot header is missing",
            )
        })?;
        let meta = snapshot_file::check_header(&header).map_err(bad_snapshot)?;
        let body = receive_body(&header, parts).await?;
        let snapshot = Snapshot {
            meta,
            snapshot: body.freeze(),
        };
        let installed = self.inner.raft.install_full_snapshot(vote, snapshot).await;
        let response = installed.map_err(fatal)?;
        Ok(Response::new(pb::InstallSnapshotReply {
            vote: Some(codec::vote_to_pb(&response.vote)),
        }))
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::TransferLeaderRequest>,
    ) -> Result<Response<pb::TransferLeaderReply>, Status> {
        use pb::transfer_leader_reply::Result as Reply;
        let message = self.open(request, |message| message.header.as_ref())?;
        let from = codec::vote_from_pb(message.from_leader).map_err(malformed)?;
        let last = codec::opt_log_id_from_pb(message.last_log_id).map_err(malformed)?;
        let rpc = TransferLeaderRequest::new(from, message.to_node, last);
        let answered = self.inner.raft.handle_transfer_leader(rpc).await;
        let result = match answered.map_err(fatal)? {
            Ok(()) => Reply::Accepted(pb::RaftBlank {}),
            Err(TransferLeaderError::VoteChanged { expected, actual }) => {
                Reply::VoteChanged(pb::VoteChanged {
                    expected: Some(codec::vote_to_pb(&expected)),
                    actual: Some(codec::vote_to_pb(&actual)),
                })
            }
            Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
                Reply::LogNotFlushed(pb::LogNotFlushed {
                    expected: expected.as_ref().map(codec::log_id_to_pb),
                    actual: actual.as_ref().map(codec::log_id_to_pb),
                })
            }
        };
        Ok(Response::new(pb::TransferLeaderReply {
            result: Some(result),
        }))
    }

    async fn forward(
        &self,
        request: Request<pb::ForwardRequest>,
    ) -> Result<Response<pb::ForwardReply>, Status> {
        use pb::forward_reply::Result as Reply;
        let message = self.open(request, |message| message.header.as_ref())?;
        let result = match self.inner.propose_here(message.command).await {
            Ok(proposed) => Reply::Applied(pb::Applied {
                index: proposed.index,
                reply: proposed.reply.into(),
            }),
            Err(refusal) => Reply::Refusal(follow::refusal_to_pb(refusal)),
        };
        Ok(Response::new(pb::ForwardReply {
            result: Some(result),
        }))
    }

    async fn read_index(
        &self,
        request: Request<pb::ReadIndexRequest>,
    ) -> Result<Response<pb::ReadIndexReply>, Status> {
        use pb::read_index_reply::Result as Reply;
        self.open(request, |message| message.header.as_ref())?;
        let result = match self.inner.read_index_here().await {
            Ok(index) => Reply::Index(index),
            Err(refusal) => Reply::Refusal(follow::refusal_to_pb(refusal)),
        };
        Ok(Response::new(pb::ReadIndexReply {
            result: Some(result),
        }))
    }

    async fn peer_status(
        &self,
        request: Request<pb::PeerStatusRequest>,
    ) -> Result<Response<pb::PeerStatusReply>, Status> {
        self.check_name(request.extensions(), request.get_ref().header.as_ref())?;
        let initialized = self.inner.raft.is_initialized().await.map_err(fatal)?;
        Ok(Response::new(self.inner.status(initialized)))
    }
}

async fn receive_body(
    header: &pb::RaftSnapshotHeader,
    mut parts: Streaming<pb::InstallSnapshotRequest>,
) -> Result<BytesMut, Status> {
    use pb::install_snapshot_request::Part;
    let mut body = BytesMut::new();
    while let Some(message) = parts.message().await? {
        let Some(Part::Chunk(chunk)) = message.part else {
            return Err(refusal(
                ErrorCode::InvalidParameterValue,
                "a snapshot has one header",
            ));
        };
        if (body.len() + chunk.len()) as u64 > header.length {
            return Err(refusal(
                ErrorCode::InvalidParameterValue,
                "the snapshot is longer than its header says",
            ));
        }
        body.extend_from_slice(&chunk);
    }
    snapshot_file::check_body(header, &body).map_err(bad_snapshot)?;
    Ok(body)
}

fn append_request(
    message: pb::AppendEntriesRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, CodecError> {
    Ok(AppendEntriesRequest {
        vote: codec::vote_from_pb(message.vote)?,
        prev_log_id: codec::opt_log_id_from_pb(message.prev_log_id)?,
        entries: message
            .entries
            .into_iter()
            .map(codec::entry_from_pb)
            .collect::<Result<_, _>>()?,
        leader_commit: codec::opt_log_id_from_pb(message.leader_commit)?,
    })
}

fn vote_request(message: pb::VoteRequest) -> Result<VoteRequest<TypeConfig>, CodecError> {
    Ok(VoteRequest {
        vote: codec::vote_from_pb(message.vote)?,
        last_log_id: codec::opt_log_id_from_pb(message.last_log_id)?,
        leadership_transfer: message.leadership_transfer,
    })
}

fn vote_reply(response: &openraft::raft::VoteResponse<TypeConfig>) -> pb::VoteReply {
    pb::VoteReply {
        vote: Some(codec::vote_to_pb(&response.vote)),
        granted: response.vote_granted,
        last_log_id: response.last_log_id.as_ref().map(codec::log_id_to_pb),
    }
}

fn malformed(error: CodecError) -> Status {
    refusal(ErrorCode::InvalidParameterValue, error.to_string())
}

fn bad_snapshot(error: FormatError) -> Status {
    refusal(
        ErrorCode::InvalidParameterValue,
        format!("snapshot: {error}"),
    )
}

fn stopped(error: RaftError<TypeConfig>) -> Status {
    refusal(ErrorCode::Unavailable, error.to_string())
}

fn fatal(error: Fatal<TypeConfig>) -> Status {
    refusal(ErrorCode::Unavailable, error.to_string())
}
