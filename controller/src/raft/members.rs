//! Who belongs to the cluster, and changing that: one change at a time, learners before voters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use hearth_proto::internal::v1 as pb;
use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{ClientWriteError, InitializeError, RaftError};

use super::codec;
use super::consensus::Inner;
use super::error::MembershipError;
use super::machine::Machine;
use super::peers::{Lane, request};
use super::types::{Member, StoredMembership, TypeConfig};
use super::watcher::disks;

/// A learner has to catch up before its addition returns: a snapshot transfer, generously.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(60);
/// A hand-over that takes longer than an election is none.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a peer may take to say whether the cluster exists already.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);

/// The members of the cluster as this node knows them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    /// Nodes that vote, with their addresses.
    pub voters: BTreeMap<u64, String>,
    /// Nodes that only receive the log.
    pub learners: BTreeMap<u64, String>,
    /// True while a change of voters is under way.
    pub changing: bool,
}

impl Members {
    pub(super) fn of(stored: &StoredMembership) -> Self {
        let membership = stored.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let (voters, learners) = membership
            .nodes()
            .map(|(id, node)| (*id, node.addr.clone()))
            .partition(|(id, _)| voters.contains(id));
        Self {
            voters,
            learners,
            changing: membership.get_joint_config().len() > 1,
        }
    }
}

/// What a member said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heard {
    /// Which commands it can read.
    pub(super) level: u32,
    /// Id of its disk; empty: it is of a release that has none.
    pub(super) disk: String,
}

type WriteError = RaftError<TypeConfig, ClientWriteError<TypeConfig>>;

impl<M: Machine> Inner<M> {
    /// See [`super::Consensus::initialize`].
    pub(super) async fn initialize(
        &self,
        members: &BTreeMap<u64, String>,
    ) -> Result<bool, MembershipError> {
        let initialized = self.raft.is_initialized().await;
        if initialized.map_err(|error| MembershipError::Stopped(error.to_string()))? {
            return Ok(false);
        }
        // All must answer: one that is silent may be part of a cluster that this node has forgotten, and its disk is to be
        // known before it can vote.
        let asked = members.iter().map(async |(id, address)| {
            if *id == self.peers.node_id {
                return Some((*id, address, false, self.peers.disk.clone()));
            }
            let status = self.peer_status(*id, address, Lane::Control).await?;
            Some((*id, address, status.initialized, status.disk))
        });
        let answers = join_all(asked).await;
        if answers
            .iter()
            .flatten()
            .any(|(.., initialized, _)| *initialized)
        {
            // The leader will find this node if it is a member.
            return Ok(false);
        }
        if let Some(silent) = members
            .keys()
            .zip(&answers)
            .find(|(_, answer)| answer.is_none())
        {
            return Err(MembershipError::Silent { node: *silent.0 });
        }
        let nodes: BTreeMap<u64, Member> = answers
            .into_iter()
            .flatten()
            .map(|(id, addr, _, disk)| {
                let addr = addr.clone();
                (id, Member { addr, disk })
            })
            .collect();
        match self.raft.initialize(nodes).await {
            Ok(()) => Ok(true),
            // A peer was faster, and its vote or log has arrived here meanwhile.
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(false),
            Err(RaftError::APIError(InitializeError::NotInMembers(error))) => {
                Err(MembershipError::Refused(error.to_string()))
            }
            Err(RaftError::Fatal(error)) => Err(MembershipError::Stopped(error.to_string())),
        }
    }

    /// The lowest level of commands that all members can read, as far as they answered to this or an earlier question;
    /// what was heard of members is kept in `known`.
    pub(super) async fn level(&self, known: &mut BTreeMap<u64, Heard>) -> u32 {
        let members = self.members();
        let all: Vec<(u64, String)> = members.voters.into_iter().chain(members.learners).collect();
        known.retain(|id, _| all.iter().any(|(member, _)| member == id));
        let asked = all.iter().map(async |(id, address)| {
            if *id == self.peers.node_id {
                let disk = self.peers.disk.clone();
                return Some((
                    *id,
                    Heard {
                        level: M::LEVEL,
                        disk,
                    },
                ));
            }
            // On every lane that an election or what follows it needs: a connection that is there already saves the time it
            // takes to make it.
            let lanes = [Lane::Control, Lane::Log, Lane::Forward];
            let asked = lanes.map(|lane| self.peer_status(*id, address, lane));
            let replies = join_all(asked).await;
            let reply = replies.into_iter().flatten().next()?;
            let (level, disk) = (reply.level, reply.disk);
            Some((*id, Heard { level, disk }))
        });
        known.extend(join_all(asked).await.into_iter().flatten());
        let level = |(id, _): &(u64, String)| known.get(id).map_or(0, |heard| heard.level);
        all.iter().map(level).min().unwrap_or(0)
    }

    async fn peer_status(
        &self,
        node: u64,
        address: &str,
        lane: Lane,
    ) -> Option<pb::PeerStatusReply> {
        let mut client = self.peers.client(node, address, lane).ok()?;
        let message = pb::PeerStatusRequest {
            header: self.peers.header(node),
        };
        let call = client.peer_status(request(message, STATUS_TIMEOUT));
        let reply = tokio::time::timeout(STATUS_TIMEOUT, call).await.ok()?;
        reply.ok().map(tonic::Response::into_inner)
    }

    pub(super) async fn add_learner(&self, id: u64, address: &str) -> Result<(), MembershipError> {
        let status = self.peer_status(id, address, Lane::Control).await;
        let disk = status.ok_or(MembershipError::Silent { node: id })?.disk;
        let addr = address.to_owned();
        let node = Member { addr, disk };
        self.serialised(async {
            let added = self.raft.add_learner(id, node, true).await;
            added.map(drop).map_err(|error| self.refused(error))
        })
        .await
    }

    pub(super) async fn change_members(
        &self,
        change: ChangeMembers<u64, Member>,
        keep_as_learners: bool,
    ) -> Result<(), MembershipError> {
        self.serialised(async {
            let changed = self.raft.change_membership(change, keep_as_learners).await;
            changed.map(drop).map_err(|error| self.refused(error))
        })
        .await
    }

    /// Removes a node altogether, voter or learner.
    pub(super) async fn remove(&self, id: u64) -> Result<(), MembershipError> {
        let members = self.members();
        if members.voters.contains_key(&id) {
            let removal = ChangeMembers::RemoveVoters(BTreeSet::from([id]));
            return self.change_members(removal, false).await;
        }
        if members.learners.contains_key(&id) {
            let removal = ChangeMembers::RemoveNodes(BTreeSet::from([id]));
            return self.change_members(removal, false).await;
        }
        Ok(())
    }

    /// One change at a time on this node; openraft refuses those that overlap elsewhere (openraft #1351).
    async fn serialised(
        &self,
        change: impl Future<Output = Result<(), MembershipError>>,
    ) -> Result<(), MembershipError> {
        let _one = self.changing.lock().await;
        match tokio::time::timeout(CHANGE_TIMEOUT, change).await {
            Ok(result) => result,
            Err(_) => Err(MembershipError::Timeout {
                after_ms: u64::try_from(CHANGE_TIMEOUT.as_millis()).unwrap_or(u64::MAX),
            }),
        }
    }

    fn refused(&self, error: WriteError) -> MembershipError {
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => {
                MembershipError::NotLeader {
                    leader: self.leadership.borrow().leader.clone(),
                }
            }
            RaftError::APIError(error) => MembershipError::Refused(error.to_string()),
            RaftError::Fatal(error) => MembershipError::Stopped(error.to_string()),
        }
    }

    /// Takes up what this node's log says of its cluster, before anybody is answered; returns how many vote.
    pub(super) async fn learn_membership(&self) -> usize {
        let membership = self.raft.with_raft_state(|state| {
            let effective = state.membership_state.effective();
            (effective.voter_ids().count(), disks(effective.membership()))
        });
        // Raft that has stopped answers nobody.
        let (voters, disks) = membership.await.unwrap_or_default();
        self.peers.know_disks(disks);
        voters
    }

    /// On the leader: writes down the disks of members that were let in by a release that did not ask for them.
    pub(super) async fn adopt_disks(&self, known: &BTreeMap<u64, Heard>) {
        if !self.leadership.borrow().is_leader {
            return;
        }
        let stored = self
            .raft
            .metrics()
            .borrow_watched()
            .membership_config
            .clone();
        let nodes = stored.membership().nodes();
        let unknown = nodes.filter(|(_, member)| member.disk.is_empty());
        let adopted: BTreeMap<u64, Member> = unknown
            .filter_map(|(id, member)| {
                let heard = known.get(id).filter(|heard| !heard.disk.is_empty())?;
                let (addr, disk) = (member.addr.clone(), heard.disk.clone());
                Some((*id, Member { addr, disk }))
            })
            .collect();
        if adopted.is_empty() {
            return;
        }
        let ids: Vec<u64> = adopted.keys().copied().collect();
        let change = ChangeMembers::SetNodes(adopted);
        // Tried again when the members are asked again.
        match self.change_members(change, true).await {
            Ok(()) => tracing::info!(?ids, "disks of controllers are known now"),
            Err(error) => tracing::debug!(?ids, %error, "disks are not written down yet"),
        }
    }

    pub(super) fn members(&self) -> Members {
        let mut members = Members::of(&self.raft.metrics().borrow_watched().membership_config);
        for (id, address) in members.voters.iter_mut().chain(&mut members.learners) {
            *address = self.peers.address(*id, address);
        }
        members
    }

    /// Starts the second half of a membership change that a former leader began.
    pub(super) fn finish_joint_membership(self: &Arc<Self>) {
        let Ok(one) = Arc::clone(&self.changing).try_lock_owned() else {
            // A change of this node's own is under way, which has a second half too.
            return;
        };
        let inner = Arc::clone(self);
        self.tasks.spawn(async move {
            let _one = one;
            let metrics = inner.raft.metrics().borrow_watched().clone();
            let configs = metrics.membership_config.membership().get_joint_config();
            let [_, target] = configs.as_slice() else {
                return;
            };
            let change = ChangeMembers::ReplaceAllVoters(target.clone());
            let change = inner.raft.change_membership(change, false);
            match tokio::time::timeout(CHANGE_TIMEOUT, change).await {
                Ok(Ok(_)) => tracing::info!("finished the membership change of a former leader"),
                Ok(Err(error)) => tracing::warn!(%error, "membership change is not finished yet"),
                Err(_) => tracing::warn!("membership change is not finished yet"),
            }
        });
    }

    /// Before a stop in order: gives leadership to the voter that has most of the log, which takes
    /// milliseconds where an election takes a second. Best effort.
    pub(super) async fn hand_over(&self) {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let voters: BTreeSet<u64> = metrics.membership_config.membership().voter_ids().collect();
        let heir = metrics
            .replication
            .iter()
            .flatten()
            .filter(|(id, _)| **id != self.peers.node_id && voters.contains(id))
            .max_by_key(|(_, matched)| **matched)
            .map(|(id, _)| *id);
        let Some(heir) = heir.filter(|_| self.leadership.borrow().is_leader) else {
            return;
        };
        if self.raft.trigger().transfer_leader(heir).await.is_err() {
            return;
        }
        let mut leadership = self.leadership.clone();
        let moved = leadership.wait_for(|now| !now.is_leader);
        if tokio::time::timeout(HAND_OVER_TIMEOUT, moved)
            .await
            .is_err()
        {
            tracing::warn!(
                heir,
                "leadership was not taken over, an election will decide"
            );
        }
    }

    pub(super) fn status(&self, initialized: bool) -> pb::PeerStatusReply {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let leader = self.leadership.borrow().leader.clone();
        pb::PeerStatusReply {
            node_id: self.peers.node_id,
            initialized,
            leader: leader.map(codec::address_to_pb),
            term: metrics.current_term,
            last_log_index: metrics.last_log_index.unwrap_or(0),
            applied_index: metrics.last_applied.map_or(0, |last| last.index),
            level: M::LEVEL,
            membership: Some(codec::membership_to_pb(
                metrics.membership_config.membership(),
            )),
            disk: self.peers.disk.clone(),
        }
    }
}
