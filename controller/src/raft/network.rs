//! What this node says to its peers on behalf of openraft. Every request has a deadline: a partition leaves
//! connections open and silent.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hearth_proto::internal::v1 as pb;
use hearth_proto::internal::v1::raft_peer_client::RaftPeerClient;
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{Backoff, RPCOption};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use super::codec::{self, CodecError};
use super::peers::{Lane, Peers, request};
use super::snapshot_file;
use super::types::{Snapshot, SnapshotData, TypeConfig, Vote};

/// Deadline of an append that carries entries: openraft's own is the heartbeat interval, less than one slow
/// fsync of the follower or one full request on a slow link.
const APPEND_TIMEOUT: Duration = Duration::from_secs(1);
/// Size of the pieces of a snapshot.
const SNAPSHOT_CHUNK_BYTES: usize = 256 * 1024;

type RpcError = RPCError<TypeConfig>;

/// Makes the clients openraft asks for.
#[derive(Debug, Clone)]
pub(super) struct Network {
    pub(super) peers: Arc<Peers>,
}

impl Network {
    fn peer(&self, target: u64, node: &BasicNode, lane: Lane) -> Peer {
        Peer {
            peers: Arc::clone(&self.peers),
            target,
            recorded: node.addr.clone(),
            lane,
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Peer {
        self.peer(target, node, Lane::Log)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &BasicNode) -> Peer {
        self.peer(target, node, Lane::Control)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &BasicNode) -> Peer {
        self.peer(target, node, Lane::Snapshot)
    }
}

/// One peer on one lane.
#[derive(Debug)]
pub(super) struct Peer {
    peers: Arc<Peers>,
    target: u64,
    recorded: String,
    lane: Lane,
}

impl Peer {
    fn client(&self, lane: Lane) -> Result<RaftPeerClient<Channel>, RpcError> {
        self.peers
            .client(self.target, &self.recorded, lane)
            .map_err(|error| Unreachable::from_string(error).into())
    }

    async fn within<T>(
        &self,
        action: RPCTypes,
        timeout: Duration,
        call: impl Future<Output = Result<Response<T>, Status>> + Send,
    ) -> Result<T, RpcError> {
        match tokio::time::timeout(timeout, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(rpc_error(&hearth_node::grpc::explained(status))),
            Err(_) => Err(Timeout {
                action,
                id: self.peers.node_id,
                target: self.target,
                timeout,
            }
            .into()),
        }
    }

    async fn ask_vote(
        &self,
        rpc: VoteRequest<TypeConfig>,
        option: &RPCOption,
        only_ask: bool,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let timeout = option.hard_ttl();
        let mut client = self.client(Lane::Control)?;
        let message = request(
            pb::VoteRequest {
                header: self.peers.header(self.target),
                vote: Some(codec::vote_to_pb(&rpc.vote)),
                last_log_id: rpc.last_log_id.as_ref().map(codec::log_id_to_pb),
                leadership_transfer: rpc.leadership_transfer,
            },
            timeout,
        );
        let call = async move {
            if only_ask {
                client.pre_vote(message).await
            } else {
                client.vote(message).await
            }
        };
        let reply = self.within(RPCTypes::Vote, timeout, call).await?;
        let vote = codec::vote_from_pb(reply.vote).map_err(malformed)?;
        let last = codec::opt_log_id_from_pb(reply.last_log_id).map_err(malformed)?;
        Ok(VoteResponse::new(vote, last, reply.granted))
    }
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RpcError> {
        let timeout = if rpc.entries.is_empty() {
            option.hard_ttl()
        } else {
            option.hard_ttl().max(APPEND_TIMEOUT)
        };
        let message = pb::AppendEntriesRequest {
            header: self.peers.header(self.target),
            vote: Some(codec::vote_to_pb(&rpc.vote)),
            prev_log_id: rpc.prev_log_id.as_ref().map(codec::log_id_to_pb),
            entries: rpc.entries.iter().map(codec::entry_to_pb).collect(),
            leader_commit: rpc.leader_commit.as_ref().map(codec::log_id_to_pb),
        };
        let mut client = self.client(self.lane)?;
        let call = async move { client.append_entries(request(message, timeout)).await };
        let reply = self.within(RPCTypes::AppendEntries, timeout, call).await?;
        append_reply(reply).map_err(malformed)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        self.ask_vote(rpc, &option, false).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        self.ask_vote(rpc, &option, true).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let timeout = option.hard_ttl();
        let start = pb::SnapshotStart {
            header: self.peers.header(self.target),
            vote: Some(codec::vote_to_pb(&vote)),
            snapshot: Some(snapshot_file::header(&snapshot.meta, &snapshot.snapshot)),
        };
        let mut client = self.client(Lane::Snapshot)?;
        let parts = snapshot_parts(start, snapshot.snapshot);
        let call = async move { client.install_snapshot(request(parts, timeout)).await };
        let reply = tokio::select! {
            closed = cancel => return Err(closed.into()),
            reply = self.within(RPCTypes::InstallSnapshot, timeout, call) => reply?,
        };
        let vote = codec::vote_from_pb(reply.vote).map_err(malformed)?;
        Ok(SnapshotResponse::new(vote))
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        let timeout = option.hard_ttl();
        let message = pb::TransferLeaderRequest {
            header: self.peers.header(self.target),
            from_leader: Some(codec::vote_to_pb(req.from_leader())),
            to_node: *req.to_node_id(),
            last_log_id: req.last_log_id().map(codec::log_id_to_pb),
        };
        let mut client = self.client(Lane::Control)?;
        let call = async move { client.transfer_leader(request(message, timeout)).await };
        let reply = self.within(RPCTypes::TransferLeader, timeout, call).await?;
        transfer_reply(reply).map_err(malformed)
    }

    fn backoff(&self) -> Option<Backoff> {
        None
    }
}

/// The start message, then the body in pieces.
fn snapshot_parts(
    start: pb::SnapshotStart,
    body: Bytes,
) -> impl futures::Stream<Item = pb::InstallSnapshotRequest> + Send + 'static {
    use pb::install_snapshot_request::Part;
    let mut rest = body;
    let chunks = std::iter::from_fn(move || {
        let length = rest.len().min(SNAPSHOT_CHUNK_BYTES);
        (length > 0).then(|| Part::Chunk(rest.split_to(length)))
    });
    let parts = std::iter::once(Part::Start(start)).chain(chunks);
    tokio_stream::iter(parts.map(|part| pb::InstallSnapshotRequest { part: Some(part) }))
}

fn append_reply(
    reply: pb::AppendEntriesReply,
) -> Result<AppendEntriesResponse<TypeConfig>, CodecError> {
    use pb::append_entries_reply::Result as Reply;
    let missing = CodecError::missing("append reply");
    Ok(match reply.result.ok_or(missing)? {
        Reply::Success(_) => AppendEntriesResponse::Success,
        Reply::Partial(partial) => {
            AppendEntriesResponse::PartialSuccess(codec::opt_log_id_from_pb(partial.log_id)?)
        }
        Reply::Conflict(_) => AppendEntriesResponse::Conflict,
        Reply::HigherVote(vote) => {
            AppendEntriesResponse::HigherVote(codec::vote_from_pb(Some(vote))?)
        }
    })
}

fn transfer_reply(
    reply: pb::TransferLeaderReply,
) -> Result<TransferLeaderResponse<TypeConfig>, CodecError> {
    use pb::transfer_leader_reply::Result as Reply;
    let missing = CodecError::missing("transfer reply");
    Ok(match reply.result.ok_or(missing)? {
        Reply::Accepted(_) => Ok(()),
        Reply::VoteChanged(votes) => Err(TransferLeaderError::VoteChanged {
            expected: codec::vote_from_pb(votes.expected)?,
            actual: codec::vote_from_pb(votes.actual)?,
        }),
        Reply::LogNotFlushed(logs) => Err(TransferLeaderError::LogNotFlushed {
            expected: codec::opt_log_id_from_pb(logs.expected)?,
            actual: codec::opt_log_id_from_pb(logs.actual)?,
        }),
    })
}

/// Unreachable makes openraft wait longer before the next try than other errors do.
fn rpc_error(status: &Status) -> RpcError {
    match status.code() {
        Code::Unavailable | Code::FailedPrecondition => {
            Unreachable::from_string(status.message()).into()
        }
        _ => NetworkError::from_string(status).into(),
    }
}

fn malformed(error: CodecError) -> RpcError {
    NetworkError::new(&error).into()
}
