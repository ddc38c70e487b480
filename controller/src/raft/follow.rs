//! Proposals and reads on any node: carried out here if this node leads, handed to the leader otherwise, and
//! tried again while it is certain that nothing happened.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hearth_proto::internal::v1 as pb;
use openraft::ReadPolicy;
use openraft::async_runtime::{Instant as _, watch::WatchReceiver as _};
use openraft::errors::{ClientWriteError, ForwardToLeader, LinearizableReadError, RaftError};
use tokio::sync::watch;

use super::codec;
use super::consensus::{Inner, Proposed};
use super::error::{ProposeError, ReadError};
use super::machine::Machine;
use super::peers::{Lane, never_sent, request};
use super::types::{Command, TypeConfig};
use super::watcher::Leadership;

/// Pause between two tries: a new leader needs a few milliseconds for its first heartbeat round, an election
/// several hundred.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LAST_PAUSE: Duration = Duration::from_millis(50);
/// What a leader that handed over gets for the answers it still owes.
const LAST_WORD: Duration = Duration::from_millis(100);

/// Why a node did not do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It does not lead (or its lease has run out). Nothing happened: try the leader.
    NotLeader(Option<(u64, String)>),
    /// Nothing happened, and trying again will not help.
    TooLarge(usize),
    /// Nothing happened: the node is stopping, or cannot be reached.
    Unavailable(String),
    /// It may or may not have happened.
    Unknown(String),
}

impl Refusal {
    /// Nothing happened, and it may be different soon.
    fn is_temporary(&self) -> bool {
        match self {
            Self::NotLeader(_) | Self::Unavailable(_) => true,
            Self::TooLarge(_) | Self::Unknown(_) => false,
        }
    }
}

/// The pauses between tries.
struct Tries {
    pause: Duration,
    leadership: watch::Receiver<Leadership>,
}

impl Tries {
    fn new(leadership: watch::Receiver<Leadership>) -> Self {
        Self {
            pause: FIRST_PAUSE,
            leadership,
        }
    }

    fn begin(&mut self) {
        self.leadership.mark_unchanged();
    }

    /// A change of leadership since [`Tries::begin`] ends the pause early.
    async fn pause(&mut self) {
        drop(tokio::time::timeout(self.pause, self.leadership.changed()).await);
        self.pause = (self.pause * 2).min(LAST_PAUSE);
    }
}

impl<M: Machine> Inner<M> {
    /// Proposes on whichever node leads, until the deadline.
    pub(super) async fn propose(
        &self,
        command: Bytes,
        repeatable: bool,
    ) -> Result<Proposed, ProposeError> {
        if command.len() > self.max_command_bytes {
            return Err(self.too_large(command.len()));
        }
        // Set while a command is on its way: a deadline that passes then leaves its fate open.
        let sent = AtomicBool::new(false);
        let tries = self.propose_somewhere(command, repeatable, &sent);
        match tokio::time::timeout(self.request_timeout, tries).await {
            Ok(Ok(proposed)) => Ok(proposed),
            Ok(Err(Refusal::TooLarge(bytes))) => Err(self.too_large(bytes)),
            Ok(Err(Refusal::Unknown(detail))) => Err(ProposeError::OutcomeUnknown(detail)),
            Ok(Err(Refusal::NotLeader(leader))) => Err(ProposeError::NotLeader { leader }),
            Ok(Err(Refusal::Unavailable(detail))) => Err(ProposeError::Unavailable(detail)),
            Err(_) if sent.load(Ordering::Relaxed) => Err(ProposeError::OutcomeUnknown(format!(
                "no answer within {:?}",
                self.request_timeout
            ))),
            Err(_) => Err(ProposeError::NotLeader {
                leader: self.leadership.borrow().leader.clone(),
            }),
        }
    }

    /// Waits until this node has applied everything that was committed when the call began.
    pub(super) async fn read_index(&self) -> Result<u64, ReadError> {
        let tries = self.read_index_somewhere();
        let no_leader = || ReadError::NoLeader {
            leader: self.leadership.borrow().leader.clone(),
        };
        let needed = match tokio::time::timeout(self.request_timeout, tries).await {
            Ok(Ok(index)) => index,
            Ok(Err(Refusal::Unavailable(detail))) if self.stop.is_cancelled() => {
                return Err(ReadError::Stopped(detail));
            }
            Ok(Err(_)) | Err(_) => return Err(no_leader()),
        };
        let mut applied = self.cell.applied();
        let caught_up = applied.wait_for(|applied| *applied >= needed);
        match tokio::time::timeout(self.request_timeout, caught_up).await {
            Ok(Ok(_)) => Ok(needed),
            Ok(Err(_)) | Err(_) => Err(ReadError::Behind {
                needed,
                applied: *self.cell.applied().borrow(),
            }),
        }
    }

    /// Tries until a leader took the command. The caller sets the deadline.
    async fn propose_somewhere(
        &self,
        command: Bytes,
        repeatable: bool,
        sent: &AtomicBool,
    ) -> Result<Proposed, Refusal> {
        let mut tries = Tries::new(self.leadership.clone());
        let mut patience = std::pin::pin!(tokio::time::sleep(self.patience));
        let mut unknown = None;
        loop {
            tries.begin();
            sent.store(true, Ordering::Relaxed);
            let result = match self.leader_elsewhere() {
                None => self.propose_here(command.clone()).await,
                Some(leader) => {
                    let id = leader.0;
                    let forward = self.forward(leader, command.clone());
                    let late = || Refusal::Unknown(format!("node {id} leads no more"));
                    // What may be repeated need not wait.
                    let grace = if repeatable {
                        Duration::ZERO
                    } else {
                        LAST_WORD
                    };
                    let answer = self.unless_deposed(id, grace, forward).await;
                    answer.unwrap_or_else(|| Err(late()))
                }
            };
            sent.store(false, Ordering::Relaxed);
            let may_repeat = |refusal: &Refusal| {
                refusal.is_temporary() || (repeatable && matches!(refusal, Refusal::Unknown(_)))
            };
            match result {
                Err(refusal) if may_repeat(&refusal) && !self.stop.is_cancelled() => {
                    if matches!(refusal, Refusal::Unknown(_)) {
                        unknown = Some(refusal.clone());
                    }
                    tokio::select! {
                        // What an earlier try may have done is not taken back by a later one that did nothing.
                        () = &mut patience => return Err(unknown.unwrap_or(refusal)),
                        () = tries.pause() => {}
                    }
                }
                other => return other,
            }
        }
    }

    /// Tries until a leader with a quorum answered. The caller sets the deadline.
    async fn read_index_somewhere(&self) -> Result<u64, Refusal> {
        let mut tries = Tries::new(self.leadership.clone());
        loop {
            tries.begin();
            let result = match self.leader_elsewhere() {
                None => self.read_index_here().await,
                Some(leader) => {
                    let id = leader.0;
                    let answer =
                        self.unless_deposed(id, Duration::ZERO, self.ask_read_index(leader));
                    let answer = answer.await;
                    answer.unwrap_or_else(|| {
                        Err(Refusal::Unavailable(format!("node {id} leads no more")))
                    })
                }
            };
            match result {
                Err(refusal) if refusal.is_temporary() && !self.stop.is_cancelled() => {}
                other => return other,
            }
            tries.pause().await;
        }
    }

    /// The answer of a leader, or `None` when another node leads by now and the answer has not come soon after: a leader
    /// that was stopped or cut off answers nobody.
    async fn unless_deposed<T>(
        &self,
        id: u64,
        grace: Duration,
        answer: impl Future<Output = T>,
    ) -> Option<T> {
        let mut leadership = self.leadership.clone();
        let deposed = async {
            let is_other = |l: &Leadership| l.leader.as_ref().is_some_and(|(now, _)| *now != id);
            if leadership.wait_for(is_other).await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(grace).await;
        };
        tokio::select! {
            answer = answer => Some(answer),
            () = deposed => None,
        }
    }

    fn too_large(&self, bytes: usize) -> ProposeError {
        let limit = self.max_command_bytes;
        ProposeError::TooLarge { bytes, limit }
    }

    fn leader_elsewhere(&self) -> Option<(u64, String)> {
        let leadership: Leadership = self.leadership.borrow().clone();
        leadership
            .leader
            .filter(|(id, _)| *id != self.peers.node_id)
    }

    /// Proposes if this node leads.
    pub(super) async fn propose_here(&self, command: Bytes) -> Result<Proposed, Refusal> {
        if command.len() > self.max_command_bytes {
            return Err(Refusal::TooLarge(command.len()));
        }
        if self.stop.is_cancelled() {
            return Err(Refusal::Unavailable("this node is stopping".to_owned()));
        }
        // It could be written here but not committed, and the caller would wait for nothing.
        if self.has_lost_quorum() {
            return Err(Refusal::NotLeader(None));
        }
        match self.raft.client_write(Command(command)).await {
            Ok(written) => Ok(Proposed {
                index: written.log_id.index,
                reply: written.data,
            }),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => {
                Err(self.not_leader(to))
            }
            Err(error) => Err(Refusal::Unknown(error.to_string())),
        }
    }

    /// Whether this node leads as far as it knows, and yet has not heard a majority for so long that another may lead.
    fn has_lost_quorum(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let is_alone = metrics.membership_config.membership().voter_ids().count() < 2;
        let acked = metrics.last_quorum_acked.as_ref();
        !is_alone && acked.is_some_and(|acked| acked.elapsed() > self.lease)
    }

    /// The index a linearizable read needs, if this node leads and a quorum says so.
    pub(super) async fn read_index_here(&self) -> Result<u64, Refusal> {
        match self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
            Ok(linearizer) => Ok(linearizer.read_log_id().index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
                Err(self.not_leader(to))
            }
            Err(error) => Err(Refusal::Unavailable(error.to_string())),
        }
    }

    fn not_leader(&self, to: ForwardToLeader<TypeConfig>) -> Refusal {
        let leader = to.leader_id.and_then(|id| {
            let recorded = to.leader_node.as_ref().map(|node| node.addr.as_str());
            Some((id, self.peers.known_address(id, recorded)?))
        });
        Refusal::NotLeader(leader)
    }

    async fn forward(&self, leader: (u64, String), command: Bytes) -> Result<Proposed, Refusal> {
        use pb::forward_reply::Result as Reply;
        let (node, address) = leader;
        let mut client = self
            .peers
            .client(node, &address, Lane::Forward)
            .map_err(Refusal::Unavailable)?;
        let message = pb::ForwardRequest {
            header: self.peers.header(node),
            command,
        };
        match client.forward(request(message, self.request_timeout)).await {
            Ok(reply) => match reply.into_inner().result {
                Some(Reply::Applied(applied)) => Ok(Proposed {
                    index: applied.index,
                    reply: applied.reply.into(),
                }),
                Some(Reply::Refusal(refusal)) => Err(refusal_from_pb(refusal)),
                None => Err(Refusal::Unknown("the leader's answer is empty".to_owned())),
            },
            Err(status) if never_sent(&status) => {
                Err(Refusal::Unavailable(status.message().to_owned()))
            }
            Err(status) => Err(Refusal::Unknown(format!(
                "node {node} did not answer: {}",
                status.message()
            ))),
        }
    }

    async fn ask_read_index(&self, leader: (u64, String)) -> Result<u64, Refusal> {
        use pb::read_index_reply::Result as Reply;
        let (node, address) = leader;
        let mut client = self
            .peers
            .client(node, &address, Lane::Forward)
            .map_err(Refusal::Unavailable)?;
        let message = pb::ReadIndexRequest {
            header: self.peers.header(node),
        };
        // Shorter than the whole deadline: a read may be asked again of the next leader.
        let timeout = self.request_timeout / 2;
        let reply = client
            .read_index(request(message, timeout))
            .await
            .map_err(|status| Refusal::Unavailable(status.message().to_owned()))?;
        match reply.into_inner().result {
            Some(Reply::Index(index)) => Ok(index),
            Some(Reply::Refusal(refusal)) => Err(refusal_from_pb(refusal)),
            None => Err(Refusal::Unavailable("the answer is empty".to_owned())),
        }
    }
}

/// A refusal on the wire.
pub(super) fn refusal_to_pb(refusal: Refusal) -> pb::ForwardRefusal {
    use pb::forward_refusal::Kind;
    let (kind, leader, detail) = match refusal {
        Refusal::NotLeader(leader) => (Kind::NotLeader, leader, String::new()),
        Refusal::TooLarge(bytes) => (Kind::TooLarge, None, bytes.to_string()),
        Refusal::Unavailable(detail) => (Kind::Unavailable, None, detail),
        Refusal::Unknown(detail) => (Kind::OutcomeUnknown, None, detail),
    };
    pb::ForwardRefusal {
        kind: kind.into(),
        leader: leader.map(codec::address_to_pb),
        detail,
    }
}

/// A refusal of a newer release that this one does not know is taken for an unknown outcome.
fn refusal_from_pb(refusal: pb::ForwardRefusal) -> Refusal {
    use pb::forward_refusal::Kind;
    match refusal.kind() {
        Kind::NotLeader => Refusal::NotLeader(
            refusal
                .leader
                .map(|leader| (leader.node_id, leader.address)),
        ),
        Kind::TooLarge => Refusal::TooLarge(refusal.detail.parse().unwrap_or(usize::MAX)),
        Kind::Unavailable => Refusal::Unavailable(refusal.detail),
        Kind::OutcomeUnknown | Kind::Unspecified => Refusal::Unknown(refusal.detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_survive_the_wire() {
        for refusal in [
            Refusal::NotLeader(None),
            Refusal::NotLeader(Some((3, "host:1".to_owned()))),
            Refusal::TooLarge(70_000),
            Refusal::Unavailable("stopping".to_owned()),
            Refusal::Unknown("lost".to_owned()),
        ] {
            assert_eq!(refusal_from_pb(refusal_to_pb(refusal.clone())), refusal);
        }
    }
}
