//! Conversions between openraft's types and our protobufs, which are what disk and wire carry. openraft's
//! own serialisation is never used: it moves with every release.

use std::collections::{BTreeMap, BTreeSet};

use hearth_proto::internal::v1 as pb;
use openraft::EntryPayload;
use openraft::vote::RaftVote;

use super::types::{
    Command, Entry, LeaderId, LogId, Member, Membership, SnapshotMeta, StoredMembership, Vote,
};

/// A message that lacks what it must have, or contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed {what}: {problem}")]
pub(crate) struct CodecError {
    what: &'static str,
    problem: String,
}

impl CodecError {
    pub(crate) fn missing(what: &'static str) -> Self {
        Self {
            what,
            problem: "a field is missing".to_owned(),
        }
    }

    pub(crate) fn invalid(what: &'static str, problem: impl ToString) -> Self {
        Self {
            what,
            problem: problem.to_string(),
        }
    }
}

pub(crate) fn log_id_to_pb(log_id: &LogId) -> pb::RaftLogId {
    pb::RaftLogId {
        leader: Some(pb::RaftLeaderId {
            term: log_id.leader_id.term,
            node_id: log_id.leader_id.node_id,
        }),
        index: log_id.index,
    }
}

pub(crate) fn log_id_from_pb(log_id: pb::RaftLogId) -> Result<LogId, CodecError> {
    let leader = log_id.leader.ok_or_else(|| CodecError::missing("log id"))?;
    Ok(LogId {
        leader_id: leader_from_pb(leader),
        index: log_id.index,
    })
}

pub(crate) fn opt_log_id_from_pb(
    log_id: Option<pb::RaftLogId>,
) -> Result<Option<LogId>, CodecError> {
    log_id.map(log_id_from_pb).transpose()
}

fn leader_from_pb(leader: pb::RaftLeaderId) -> LeaderId {
    LeaderId {
        term: leader.term,
        node_id: leader.node_id,
    }
}

pub(crate) fn vote_to_pb(vote: &Vote) -> pb::RaftVote {
    pb::RaftVote {
        leader: Some(pb::RaftLeaderId {
            term: vote.leader_id().term,
            node_id: vote.leader_id().node_id,
        }),
        committed: vote.is_committed(),
    }
}

pub(crate) fn vote_from_pb(vote: Option<pb::RaftVote>) -> Result<Vote, CodecError> {
    let vote = vote.ok_or_else(|| CodecError::missing("vote"))?;
    let leader = vote.leader.ok_or_else(|| CodecError::missing("vote"))?;
    Ok(Vote::from_leader_id(leader_from_pb(leader), vote.committed))
}

/// Where a node is, without its disk.
pub(crate) fn address_to_pb((node_id, address): (u64, String)) -> pb::RaftMember {
    pb::RaftMember {
        node_id,
        address,
        disk: String::new(),
    }
}

pub(crate) fn membership_to_pb(membership: &Membership) -> pb::RaftMembership {
    pb::RaftMembership {
        configs: membership
            .get_joint_config()
            .iter()
            .map(|voters| pb::RaftVoterSet {
                node_ids: voters.iter().copied().collect(),
            })
            .collect(),
        members: membership
            .nodes()
            .map(|(id, node)| pb::RaftMember {
                node_id: *id,
                address: node.addr.clone(),
                disk: node.disk.clone(),
            })
            .collect(),
    }
}

pub(crate) fn membership_from_pb(membership: pb::RaftMembership) -> Result<Membership, CodecError> {
    let configs: Vec<BTreeSet<u64>> = membership
        .configs
        .into_iter()
        .map(|set| set.node_ids.into_iter().collect())
        .collect();
    let nodes: BTreeMap<u64, Member> = membership
        .members
        .into_iter()
        .map(|member| {
            let (addr, disk) = (member.address, member.disk);
            (member.node_id, Member { addr, disk })
        })
        .collect();
    if configs.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, nodes).map_err(|error| CodecError::invalid("membership", error))
}

pub(crate) fn stored_membership_to_pb(stored: &StoredMembership) -> pb::RaftStoredMembership {
    pb::RaftStoredMembership {
        log_id: stored.log_id().as_ref().map(log_id_to_pb),
        membership: Some(membership_to_pb(stored.membership())),
    }
}

pub(crate) fn stored_membership_from_pb(
    stored: Option<pb::RaftStoredMembership>,
) -> Result<StoredMembership, CodecError> {
    let Some(stored) = stored else {
        return Ok(StoredMembership::default());
    };
    Ok(StoredMembership::new(
        opt_log_id_from_pb(stored.log_id)?,
        membership_from_pb(stored.membership.unwrap_or_default())?,
    ))
}

pub(crate) fn entry_to_pb(entry: &Entry) -> pb::RaftEntry {
    use pb::raft_entry::Payload;
    pb::RaftEntry {
        log_id: Some(log_id_to_pb(&entry.log_id)),
        payload: Some(match &entry.payload {
            EntryPayload::Blank => Payload::Blank(pb::RaftBlank {}),
            EntryPayload::Normal(command) => Payload::Command(command.0.clone()),
            EntryPayload::Membership(membership) => {
                Payload::Membership(membership_to_pb(membership))
            }
        }),
    }
}

pub(crate) fn entry_from_pb(entry: pb::RaftEntry) -> Result<Entry, CodecError> {
    use pb::raft_entry::Payload;
    let log_id = log_id_from_pb(entry.log_id.ok_or_else(|| CodecError::missing("entry"))?)?;
    let payload = match entry.payload.ok_or_else(|| CodecError::missing("entry"))? {
        Payload::Blank(_) => EntryPayload::Blank,
        Payload::Command(command) => EntryPayload::Normal(Command(command)),
        Payload::Membership(membership) => {
            EntryPayload::Membership(membership_from_pb(membership)?)
        }
    };
    Ok(Entry { log_id, payload })
}

/// The part of a snapshot's header that openraft knows; length and checksum are the file's business.
pub(crate) fn snapshot_meta_from_pb(
    header: &pb::RaftSnapshotHeader,
) -> Result<SnapshotMeta, CodecError> {
    Ok(SnapshotMeta {
        last_log_id: opt_log_id_from_pb(header.last_log_id)?,
        last_membership: stored_membership_from_pb(header.last_membership.clone())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_id(term: u64, node_id: u64, index: u64) -> LogId {
        LogId {
            leader_id: LeaderId { term, node_id },
            index,
        }
    }

    fn joint() -> Membership {
        let nodes: BTreeMap<u64, Member> = (1..=4)
            .map(|id| (id, Member::at(format!("host-{id}:7000"))))
            .collect();
        Membership::new(vec![BTreeSet::from([1, 2]), BTreeSet::from([1, 3])], nodes).unwrap()
    }

    #[test]
    fn entries_survive_the_round_trip() {
        for payload in [
            EntryPayload::Blank,
            EntryPayload::Normal(Command(bytes::Bytes::from_static(b"hello"))),
            EntryPayload::Membership(joint()),
        ] {
            let entry = Entry {
                log_id: log_id(3, 2, 17),
                payload,
            };
            assert_eq!(entry_from_pb(entry_to_pb(&entry)).unwrap(), entry);
        }
    }

    #[test]
    fn votes_and_memberships_survive_the_round_trip() {
        for committed in [false, true] {
            let vote = Vote::from_leader_id(
                LeaderId {
                    term: 9,
                    node_id: 4,
                },
                committed,
            );
            assert_eq!(vote_from_pb(Some(vote_to_pb(&vote))).unwrap(), vote);
        }
        for stored in [
            StoredMembership::default(),
            StoredMembership::new(Some(log_id(1, 1, 5)), joint()),
        ] {
            let back = stored_membership_from_pb(Some(stored_membership_to_pb(&stored))).unwrap();
            assert_eq!(back, stored);
        }
    }

    #[test]
    fn what_is_missing_is_an_error() {
        assert!(vote_from_pb(None).is_err());
        assert!(log_id_from_pb(pb::RaftLogId::default()).is_err());
        assert!(entry_from_pb(pb::RaftEntry::default()).is_err());
    }
}
