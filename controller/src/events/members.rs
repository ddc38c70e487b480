//! The group has the members that the metadata has: its leader lets in who was let in there, and removes who left. Which
//! controller leads it is its own affair, except that one which the operator wants to drain hands over.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hearth_core::ids::NodeId;
use tokio_util::sync::CancellationToken;

use super::machine::EventMachine;
use crate::machine::ReplicatedState;
use crate::raft::{Consensus, Members};
use crate::state::command::Role;

/// How often it is looked whether there is something to do; also the pause after what failed.
const EVERY: Duration = Duration::from_millis(250);

/// How often a change that is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What the group's members lack to be those of the metadata.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// To be let in, first as a learner.
    Add(u64, String),
    /// These vote, and nobody else.
    Vote(BTreeSet<u64>),
    /// It left.
    Remove(u64),
}

/// The next step, if any: one at a time, and none while a change is under way.
fn next_step(wanted: &Members, found: &Members) -> Option<Step> {
    if wanted.voters.is_empty() || wanted.changing || found.changing {
        return None;
    }
    let is_member = |id: &u64| found.voters.contains_key(id) || found.learners.contains_key(id);
    if let Some((id, addr)) = wanted.voters.iter().find(|(id, _)| !is_member(id)) {
        return Some(Step::Add(*id, addr.clone()));
    }
    let voters: BTreeSet<u64> = wanted.voters.keys().copied().collect();
    if !voters.iter().eq(found.voters.keys()) {
        return Some(Step::Vote(voters));
    }
    let left = found.learners.keys().find(|id| !voters.contains(id));
    left.map(|id| Step::Remove(*id))
}

/// Whether the group's voters are these, or become so in time.
pub(crate) async fn followed(
    events: &Consensus<EventMachine>,
    wanted: &BTreeMap<u64, String>,
    limit: Duration,
) -> bool {
    let following = async {
        loop {
            let found = events.members();
            if found.voters.keys().eq(wanted.keys()) && !found.changing {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(limit, following).await.is_ok()
}

/// Runs until `stop`.
pub(crate) async fn run(
    metadata: Consensus<ReplicatedState>,
    events: Consensus<EventMachine>,
    stop: CancellationToken,
) {
    let own = events.node_id();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let wanted = metadata.members();
        let is_first = wanted.voters.keys().next() == Some(&own);
        if events.members().voters.is_empty() && is_first {
            match events.initialize(&wanted.voters).await {
                Ok(_) => tracing::info!("the event log's group is formed"),
                Err(error) => tracing::debug!(%error, "the event log's group is not formed yet"),
            }
            continue;
        }
        if !events.leadership().is_leader {
            continue;
        }
        let drains = |id: u64| {
            metadata.read(|m| {
                m.state()
                    .nodes
                    .is_drain_wanted(Role::Controller, NodeId(id))
            })
        };
        if drains(own) && wanted.voters.keys().any(|id| !drains(*id)) {
            events.hand_over().await;
            continue;
        }
        let Some(step) = next_step(&wanted, &events.members()) else {
            continue;
        };
        tracing::info!(?step, "the event log's group follows the cluster's members");
        let done = match step {
            Step::Add(id, addr) => events.add_learner(id, &addr).await,
            Step::Vote(voters) => events.change_membership(voters).await,
            Step::Remove(id) => events.remove(id).await,
        };
        if let Err(error) = done {
            tracing::warn!(%error, "the event log's members could not be changed yet");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(voters: &[u64], learners: &[u64]) -> Members {
        let named = |ids: &[u64]| ids.iter().map(|id| (*id, format!("h:{id}"))).collect();
        Members {
            voters: named(voters),
            learners: named(learners),
            changing: false,
        }
    }

    #[test]
    fn one_step_after_the_other_makes_them_the_same() {
        let wanted = members(&[1, 3, 4], &[9]);
        let mut found = members(&[1, 2, 3], &[]);
        assert_eq!(
            next_step(&wanted, &found),
            Some(Step::Add(4, "h:4".to_owned()))
        );
        found.learners.insert(4, "h:4".to_owned());
        assert_eq!(
            next_step(&wanted, &found),
            Some(Step::Vote([1, 3, 4].into()))
        );
        // Former voters leave with that; learners of nobody's are removed.
        let found = members(&[1, 3, 4], &[2]);
        assert_eq!(next_step(&wanted, &found), Some(Step::Remove(2)));
        assert_eq!(next_step(&wanted, &members(&[1, 3, 4], &[])), None);
    }

    #[test]
    fn nothing_is_done_while_something_is_under_way_or_unknown() {
        let (wanted, found) = (members(&[1, 2, 3], &[]), members(&[1], &[]));
        let changing = |members: &Members| Members {
            changing: true,
            ..members.clone()
        };
        assert_eq!(next_step(&changing(&wanted), &found), None);
        assert_eq!(next_step(&wanted, &changing(&found)), None);
        assert_eq!(next_step(&Members::default(), &found), None);
    }
}
