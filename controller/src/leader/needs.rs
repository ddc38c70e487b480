//! Gateways that wait for capacity: coalesced per function, answered when a worker has taken a grant, when
//! the limit is reached, or not at all when it takes too long. Decisions are `hearth_core::permits`'.

use std::collections::{BTreeMap, BTreeSet};

use hearth_core::ids::{AccountId, MonotonicMs, NodeId, PoolKey};
use hearth_core::name::FunctionName;
use hearth_proto::internal::v1 as pb;
use pb::need_capacity_reply::Outcome;
use tokio::sync::oneshot;

/// A gateway that was not answered by then asks again.
pub(crate) const NEED_DEADLINE_MS: u64 = 2_000;
/// A grant that no worker has taken by then was lost: plan anew.
const TAKEN_WITHIN_MS: u64 = 500;
/// Gateways waiting at a time, over all functions. A gateway coalesces, so this is functions x gateways.
const WAITING_MAX: usize = 10_000;

/// A function somebody needs capacity for.
pub(crate) type NeedKey = (AccountId, FunctionName);

/// One gateway's question.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) wanted: u32,
    /// Memory of a sandbox, MB; zero: as the function's `$LATEST`.
    pub(crate) memory_mib: u32,
    pub(crate) refused_by: BTreeSet<NodeId>,
    /// Workers that this gateway sends nothing.
    pub(crate) ejected: BTreeSet<NodeId>,
    pub(crate) reply: oneshot::Sender<pb::NeedCapacityReply>,
    pub(crate) until: MonotonicMs,
}

#[derive(Debug, Default)]
struct Group {
    waiters: Vec<Waiter>,
    /// A grant of this pool was committed or is about to be; since when.
    awaiting: Option<(PoolKey, MonotonicMs)>,
}

impl Group {
    fn is_free(&self, now: MonotonicMs) -> bool {
        let awaiting = self.awaiting.as_ref();
        awaiting.is_none_or(|(_, since)| now.since(*since) >= TAKEN_WITHIN_MS)
    }

    fn wanted(&self) -> u32 {
        let wanted = self.waiters.iter().map(|w| w.wanted.max(1));
        wanted.fold(0, u32::saturating_add)
    }
}

/// All questions that are open.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    groups: BTreeMap<NeedKey, Group>,
    /// Those that await grants of a pool; follows from `groups`.
    awaiting: BTreeMap<PoolKey, BTreeSet<NeedKey>>,
    waiting: usize,
}

impl Needs {
    /// Adds a question. When there are too many it is dropped, which its asker notices.
    pub(crate) fn push(&mut self, key: NeedKey, waiter: Waiter) {
        if self.waiting < WAITING_MAX {
            self.waiting += 1;
            self.groups.entry(key).or_default().waiters.push(waiter);
        }
    }

    /// How many permits are lacked for a function, if that can be planned now.
    pub(crate) fn wanted(&self, key: &NeedKey, now: MonotonicMs) -> Option<u32> {
        let group = self.groups.get(key)?;
        group.is_free(now).then(|| group.wanted())
    }

    /// Functions whose questions can be planned now, and how many permits they lack. Late ones are dropped.
    pub(crate) fn plannable(&mut self, now: MonotonicMs) -> Vec<(NeedKey, u32)> {
        let awaiting = &mut self.awaiting;
        self.groups.retain(|key, group| {
            group
                .waiters
                .retain(|w| now < w.until && !w.reply.is_closed());
            let is_open = !group.waiters.is_empty();
            if !is_open {
                forget(awaiting, key, group.awaiting.as_ref());
            }
            is_open
        });
        self.waiting = self.groups.values().map(|g| g.waiters.len()).sum();
        let groups = self.groups.iter();
        groups
            .filter(|(_, group)| group.is_free(now))
            .map(|(key, group)| (key.clone(), group.wanted()))
            .collect()
    }

    /// The largest sandbox that somebody asks for, MB.
    pub(crate) fn memory_mib(&self, key: &NeedKey) -> Option<u32> {
        let waiters = &self.groups.get(key)?.waiters;
        let largest = waiters.iter().map(|w| w.memory_mib).max();
        largest.filter(|mib| *mib > 0)
    }

    /// Workers that none of those who ask would send to.
    pub(crate) fn ejected(&self, key: &NeedKey) -> BTreeSet<NodeId> {
        let mut waiters = self.groups.get(key).into_iter().flat_map(|g| &g.waiters);
        let mut ejected = waiters.next().map(|w| w.ejected.clone());
        for waiter in waiters {
            if let Some(ejected) = &mut ejected {
                ejected.retain(|worker| waiter.ejected.contains(worker));
            }
        }
        ejected.unwrap_or_default()
    }

    /// Grants of the pool are under way for this function.
    pub(crate) fn await_grant(&mut self, key: &NeedKey, pool: PoolKey, now: MonotonicMs) {
        if let Some(group) = self.groups.get_mut(key) {
            forget(&mut self.awaiting, key, group.awaiting.as_ref());
            let keys = self.awaiting.entry(pool.clone()).or_default();
            keys.insert(key.clone());
            group.awaiting = Some((pool, now));
        }
    }

    /// A commit for the pool failed: plan anew.
    pub(crate) fn on_commit_failed(&mut self, pool: &PoolKey) {
        for key in self.awaiting.remove(pool).unwrap_or_default() {
            if let Some(group) = self.groups.get_mut(&key) {
                group.awaiting = None;
            }
        }
    }

    /// A worker has taken a grant of the pool: whoever waited for one may send now.
    pub(crate) fn on_taken(&mut self, worker: NodeId, pool: &PoolKey) {
        for key in self.awaiting.remove(pool).unwrap_or_default() {
            self.answer(&key, |_| granted([worker]));
        }
    }

    /// Answers everybody who waits for the function.
    pub(crate) fn answer(
        &mut self,
        key: &NeedKey,
        reply: impl Fn(&Waiter) -> pb::NeedCapacityReply,
    ) {
        let Some(group) = self.groups.remove(key) else {
            return;
        };
        forget(&mut self.awaiting, key, group.awaiting.as_ref());
        self.waiting = self.waiting.saturating_sub(group.waiters.len());
        for waiter in group.waiters {
            let reply = reply(&waiter);
            // The gateway may have gone.
            let _ = waiter.reply.send(reply);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}

/// A function does not await a pool's grants any more.
fn forget(
    awaiting: &mut BTreeMap<PoolKey, BTreeSet<NeedKey>>,
    key: &NeedKey,
    awaited: Option<&(PoolKey, MonotonicMs)>,
) {
    let Some((pool, _)) = awaited else {
        return;
    };
    if let Some(keys) = awaiting.get_mut(pool) {
        keys.remove(key);
        if keys.is_empty() {
            awaiting.remove(pool);
        }
    }
}

/// These workers hold permits by now.
pub(crate) fn granted(workers: impl IntoIterator<Item = NodeId>) -> pb::NeedCapacityReply {
    pb::NeedCapacityReply {
        outcome: Outcome::Granted.into(),
        workers: workers.into_iter().map(|w| w.0).collect(),
        reason: String::new(),
    }
}

/// The 429, with the reason SDKs read.
pub(crate) fn at_limit(pool: &PoolKey) -> pb::NeedCapacityReply {
    let reason = if pool.function.is_some() {
        "ReservedFunctionConcurrentInvocationLimitExceeded"
    } else {
        "ConcurrentInvocationLimitExceeded"
    };
    pb::NeedCapacityReply {
        outcome: Outcome::AtLimit.into(),
        workers: Vec::new(),
        reason: reason.to_owned(),
    }
}

/// An answer without workers.
pub(crate) fn without(outcome: Outcome) -> pb::NeedCapacityReply {
    pb::NeedCapacityReply {
        outcome: outcome.into(),
        workers: Vec::new(),
        reason: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> NeedKey {
        ("123456789012".parse().unwrap(), "f".parse().unwrap())
    }

    fn pool() -> PoolKey {
        PoolKey {
            account: key().0,
            function: None,
            provisioned: None,
        }
    }

    fn ask(needs: &mut Needs, wanted: u32) -> oneshot::Receiver<pb::NeedCapacityReply> {
        let (reply, answer) = oneshot::channel();
        let waiter = Waiter {
            wanted,
            memory_mib: 0,
            refused_by: BTreeSet::new(),
            ejected: BTreeSet::new(),
            reply,
            until: MonotonicMs(NEED_DEADLINE_MS),
        };
        needs.push(key(), waiter);
        answer
    }

    #[test]
    fn questions_about_one_function_are_one_need() {
        let mut needs = Needs::default();
        let mut answers = [ask(&mut needs, 2), ask(&mut needs, 0), ask(&mut needs, 3)];
        assert_eq!(needs.plannable(MonotonicMs(0)), [(key(), 6)]);
        needs.await_grant(&key(), pool(), MonotonicMs(0));
        assert_eq!(needs.plannable(MonotonicMs(TAKEN_WITHIN_MS - 1)), []);
        needs.on_taken(NodeId(7), &pool());
        for answer in &mut answers {
            assert_eq!(answer.try_recv().unwrap(), granted([NodeId(7)]));
        }
        assert!(needs.is_empty());
    }

    #[test]
    fn a_grant_that_was_lost_is_planned_again() {
        let mut needs = Needs::default();
        let _answer = ask(&mut needs, 1);
        needs.await_grant(&key(), pool(), MonotonicMs(0));
        assert_eq!(needs.plannable(MonotonicMs(TAKEN_WITHIN_MS)).len(), 1);
        needs.await_grant(&key(), pool(), MonotonicMs(TAKEN_WITHIN_MS));
        needs.on_commit_failed(&pool());
        assert_eq!(needs.plannable(MonotonicMs(TAKEN_WITHIN_MS)).len(), 1);
    }

    #[test]
    fn late_questions_and_gone_askers_are_dropped() {
        let mut needs = Needs::default();
        let mut late = ask(&mut needs, 1);
        drop(ask(&mut needs, 1));
        assert_eq!(needs.plannable(MonotonicMs(0)), [(key(), 1)]);
        assert_eq!(needs.plannable(MonotonicMs(NEED_DEADLINE_MS)), []);
        assert!(late.try_recv().is_err());
        assert!(needs.is_empty());
    }

    #[test]
    fn what_awaits_a_pool_is_forgotten_with_its_function() {
        let mut needs = Needs::default();
        let _answer = ask(&mut needs, 1);
        assert_eq!(needs.wanted(&key(), MonotonicMs(0)), Some(1));
        needs.await_grant(&key(), pool(), MonotonicMs(0));
        assert_eq!(needs.wanted(&key(), MonotonicMs(0)), None);
        needs.await_grant(
            &key(),
            PoolKey::reserved(&key().0, &key().1),
            MonotonicMs(0),
        );
        assert_eq!(needs.awaiting.len(), 1);
        assert_eq!(needs.plannable(MonotonicMs(NEED_DEADLINE_MS)), []);
        assert!(needs.awaiting.is_empty());
    }
}
