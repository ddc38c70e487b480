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
use openraft::{RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use super::codec::{self, CodecError};
use super::peers::{Lane, Peers, request};
use super::snapshot_file;
use super::store::LogStore;
use super::types::{LogId, Member, Snapshot, SnapshotData, TypeConfig, Vote};

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
    pub(super) log: LogStore,
}

impl Network {
    fn peer(&self, target: u64, node: &Member, lane: Lane) -> Peer {
        Peer {
            peers: Arc::clone(&self.peers),
            target,
            recorded: node.addr.clone(),
            lane,
            common: Common::Unknown,
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &Member) -> Peer {
        // openraft makes this client when a term begins, before the term's own entries.
        let common = self.log.last().map_or(Common::Unknown, Common::Guess);
        Peer {
            common,
            ..self.peer(target, node, Lane::Log)
        }
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Member) -> Peer {
        self.peer(target, node, Lane::Control)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &Member) -> Peer {
        self.peer(target, node, Lane::Snapshot)
    }
}

/// Up to which entry the peer's log is this leader's.
///
/// A new leader finds that out by halving: with some thousand entries it asks a dozen times, a few entries each, before the first
/// write of its term can be committed. Nearly always the peer has all that the leader had when it was elected. So that is asked
/// first, by an append of nothing after it; when the peer took that, what openraft asks next is answered from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Common {
    /// openraft finds it out.
    Unknown,
    /// Perhaps up to this one.
    Guess(LogId),
    /// The peer took an append after this one from the leader with this vote.
    Known(Vote, LogId),
}

impl Common {
    /// Whether the peer has said already that it has everything in this request.
    fn covers(&self, rpc: &AppendEntriesRequest<TypeConfig>) -> bool {
        let last = rpc.entries.last().map(|entry| entry.log_id);
        match self {
            Self::Known(vote, upto) => *vote == rpc.vote && last.is_some_and(|last| last <= *upto),
            Self::Unknown | Self::Guess(_) => false,
        }
    }
}

/// One peer on one lane.
#[derive(Debug)]
pub(super) struct Peer {
    peers: Arc<Peers>,
    target: u64,
    recorded: String,
    lane: Lane,
    common: Common,
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

    /// Asks whether the peer has what the leader had when it was elected. Some other answer than "no" is for openraft.
    async fn ask_common(
        &mut self,
        vote: Vote,
        option: &RPCOption,
    ) -> Result<Option<AppendEntriesResponse<TypeConfig>>, RpcError> {
        let Common::Guess(guess) = self.common else {
            return Ok(None);
        };
        let question = AppendEntriesRequest {
            vote,
            prev_log_id: Some(guess),
            entries: Vec::new(),
            leader_commit: None,
        };
        let timeout = option.hard_ttl().max(APPEND_TIMEOUT);
        let answer = self.send_append(question, timeout).await?;
        self.common = match answer {
            AppendEntriesResponse::Success => Common::Known(vote, guess),
            AppendEntriesResponse::PartialSuccess(_) | AppendEntriesResponse::Conflict => {
                Common::Unknown
            }
            AppendEntriesResponse::HigherVote(_) => return Ok(Some(answer)),
        };
        Ok(None)
    }

    async fn send_append(
        &self,
        rpc: AppendEntriesRequest<TypeConfig>,
        timeout: Duration,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RpcError> {
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
        if rpc.entries.is_empty() {
            return self.send_append(rpc, option.hard_ttl()).await;
        }
        if let Some(answer) = self.ask_common(rpc.vote, &option).await? {
            return Ok(answer);
        }
        if self.common.covers(&rpc) {
            return Ok(AppendEntriesResponse::Success);
        }
        let timeout = option.hard_ttl().max(APPEND_TIMEOUT);
        self.send_append(rpc, timeout).await
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use openraft::EntryPayload;

    use super::*;
    use crate::raft::types::{Command, Entry, LeaderId};

    fn log_id(index: u64) -> LogId {
        let leader_id = LeaderId {
            term: 2,
            node_id: 1,
        };
        LogId { leader_id, index }
    }

    fn append(vote: Vote, indexes: std::ops::Range<u64>) -> AppendEntriesRequest<TypeConfig> {
        let entry = |index| Entry {
            log_id: log_id(index),
            payload: EntryPayload::Normal(Command(Bytes::new())),
        };
        AppendEntriesRequest {
            vote,
            prev_log_id: indexes.start.checked_sub(1).map(log_id),
            entries: indexes.map(entry).collect(),
            leader_commit: None,
        }
    }

    #[test]
    fn only_what_the_peer_said_to_this_very_leader_is_answered_for_it() {
        let (vote, later) = (Vote::new_committed(3, 1), Vote::new_committed(4, 1));
        let known = Common::Known(vote, log_id(9));
        assert!(known.covers(&append(vote, 4..8)));
        assert!(known.covers(&append(vote, 4..10)));
        assert!(!known.covers(&append(vote, 4..11)), "the last one is new");
        assert!(!known.covers(&append(later, 4..8)), "another term");
        assert!(!known.covers(&append(vote, 4..4)), "a heartbeat goes out");
        assert!(!Common::Guess(log_id(9)).covers(&append(vote, 4..8)));
        assert!(!Common::Unknown.covers(&append(vote, 4..8)));
    }
}
