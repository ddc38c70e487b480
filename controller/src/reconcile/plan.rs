//! Which worker prepares what, and when a creation or update has come to its end. Pure: time is an argument.
//!
//! ```text
//! seen -> Prepare to two workers -> first `Prepared ok` ----------------------> Settle(Successful)
//!             ^   |                                    not before 250 ms
//!             +---+ no answer for 5 s: again, to somebody else if there is one
//!                 | every answer a failure, and nobody else to ask -----------> Settle(Failed)
//! seen -> workers in session, and for 3 s none of them suits -----------------> Settle(Failed)
//! ```
//!
//! Without any worker in session it waits: a cluster that is starting says nothing of the function.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use hearth_core::function::StateReason;
use hearth_core::ids::{MonotonicMs, NodeId, VersionKey};

use crate::state::command::Settled;

/// "GetFunction straight after an update must still show InProgress even if the work took no time."
const SETTLE_AFTER_MS: u64 = 250;
/// A worker that has not answered by then is taken for slow or lost.
const ASK_AGAIN_MS: u64 = 5_000;
/// A version that no worker in session suits for so long is given up: long enough for the workers to come back to a
/// new leader one after the other, short for a person who waits.
const NOBODY_SUITS_MS: u64 = 3_000;
/// A settlement that is still not in the state by then is proposed again.
const PROPOSE_AGAIN_MS: u64 = 1_000;
/// Workers asked at a time: a second one so that a lost host does not hold up a deployment.
const WORKERS_ASKED: usize = 2;
/// Versions in preparation at a time; more wait. Bounds the messages of one tick.
const PREPARING_MAX: usize = 256;

/// A version that waits for a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Which.
    pub key: VersionKey,
    /// What runs it; `None` for images.
    pub runtime: Option<String>,
    /// Memory of a sandbox, MB.
    pub memory_mib: u32,
}

/// A worker that could prepare something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// Which.
    pub worker: NodeId,
    /// Memory not given to sandboxes, MB.
    pub free_memory_mib: u64,
    /// Memory it has for sandboxes, MB.
    pub memory_mib: u64,
    /// Runtimes it has.
    pub runtimes: Vec<String>,
}

impl Host {
    fn has_runtime(&self, wanted: &Wanted) -> bool {
        let runtime = wanted.runtime.as_ref();
        runtime.is_none_or(|runtime| self.runtimes.contains(runtime))
    }

    fn suits(&self, wanted: &Wanted) -> bool {
        self.has_runtime(wanted) && self.memory_mib >= u64::from(wanted.memory_mib)
    }
}

impl Wanted {
    /// What `hosts`, none of which suits, lack; and what to do.
    fn lacking(&self, hosts: &[Host]) -> StateReason {
        let runtime = self.runtime.as_deref().unwrap_or_default();
        if hosts.iter().any(|host| host.has_runtime(self)) {
            return StateReason {
                code: "InsufficientCapacity".to_owned(),
                message: format!(
                    "No worker has {} MB of memory for a sandbox. Lower MemorySize or add a larger worker.",
                    self.memory_mib
                ),
            };
        }
        StateReason {
            code: "InvalidRuntime".to_owned(),
            message: format!(
                "No worker has the runtime {runtime}. Run `hearth runtime install {runtime}` on the workers."
            ),
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Ask a worker to unpack and check a version.
    Prepare {
        /// Whom.
        worker: NodeId,
        /// What.
        key: VersionKey,
    },
    /// Propose the end of a creation or update.
    Settle {
        /// Of what.
        key: VersionKey,
        /// How it ended.
        outcome: Settled,
    },
}

#[derive(Clone, Debug)]
struct Asked {
    at: MonotonicMs,
    times: u32,
    answer: Option<Result<(), StateReason>>,
}

#[derive(Clone, Debug)]
struct Preparation {
    since: MonotonicMs,
    asked: BTreeMap<NodeId, Asked>,
    proposed: Option<MonotonicMs>,
}

/// The workers as one look finds them.
struct Hall<'a> {
    hosts: &'a [Host],
    present: BTreeSet<NodeId>,
    /// Preparations that each has been asked for and has not answered.
    preparing: BTreeMap<NodeId, usize>,
}

impl<'a> Hall<'a> {
    fn new<'p>(hosts: &'a [Host], under_way: impl Iterator<Item = &'p Preparation>) -> Self {
        let mut hall = Self {
            hosts,
            present: hosts.iter().map(|host| host.worker).collect(),
            preparing: BTreeMap::new(),
        };
        for preparation in under_way {
            let asked = preparation.asked.iter();
            for (worker, _) in asked.filter(|(_, asked)| asked.answer.is_none()) {
                hall.on_asked(*worker);
            }
        }
        hall
    }

    fn on_asked(&mut self, worker: NodeId) {
        *self.preparing.entry(worker).or_default() += 1;
    }

    fn preparing(&self, worker: NodeId) -> usize {
        self.preparing.get(&worker).copied().unwrap_or(0)
    }
}

/// A version that no worker in session suits.
#[derive(Clone, Debug)]
struct Unsuited {
    since: MonotonicMs,
    proposed: Option<MonotonicMs>,
}

/// Preparations under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Preparations {
    under_way: BTreeMap<VersionKey, Preparation>,
    /// At most [`PREPARING_MAX`] too: each is given up soon and makes room.
    unsuited: BTreeMap<VersionKey, Unsuited>,
}

impl Preparations {
    /// What is being prepared.
    pub(crate) fn under_way(&self) -> impl Iterator<Item = &VersionKey> {
        self.under_way.keys().chain(self.unsuited.keys())
    }

    /// A worker's answer. One for a version that does not wait any more is ignored.
    pub(crate) fn on_prepared(
        &mut self,
        worker: NodeId,
        key: &VersionKey,
        answer: Result<(), StateReason>,
    ) {
        let asked = self
            .under_way
            .get_mut(key)
            .and_then(|preparation| preparation.asked.get_mut(&worker));
        if let Some(asked) = asked {
            asked.answer = Some(answer);
        }
    }

    /// What is to be done now. `wanted` is everything that waits, `hosts` every worker in session.
    pub(crate) fn plan(
        &mut self,
        wanted: &[Wanted],
        hosts: &[Host],
        now: MonotonicMs,
    ) -> Vec<Action> {
        let keys: BTreeSet<&VersionKey> = wanted.iter().map(|w| &w.key).collect();
        self.under_way.retain(|key, _| keys.contains(key));
        self.unsuited
            .retain(|key, _| keys.contains(key) && !hosts.is_empty());
        let mut actions = Vec::new();
        let mut hall = Hall::new(hosts, self.under_way.values());
        for wanted in wanted {
            let is_suited = hosts.iter().any(|host| host.suits(wanted));
            if !is_suited && !self.under_way.contains_key(&wanted.key) {
                actions.extend(self.plan_unsuited(wanted, hosts, now));
                continue;
            }
            self.unsuited.remove(&wanted.key);
            let is_new = !self.under_way.contains_key(&wanted.key);
            if is_new && self.under_way.len() >= PREPARING_MAX {
                continue;
            }
            let preparation = self
                .under_way
                .entry(wanted.key.clone())
                .or_insert_with(|| Preparation::since(now));
            preparation.plan(wanted, &mut hall, now, &mut actions);
            // What nobody can prepare must not keep the places of what somebody can.
            if preparation.asked.is_empty() {
                self.under_way.remove(&wanted.key);
            }
        }
        actions
    }

    fn plan_unsuited(
        &mut self,
        wanted: &Wanted,
        hosts: &[Host],
        now: MonotonicMs,
    ) -> Option<Action> {
        let is_full = self.unsuited.len() >= PREPARING_MAX;
        if hosts.is_empty() || is_full && !self.unsuited.contains_key(&wanted.key) {
            return None;
        }
        let unsuited = self.unsuited.entry(wanted.key.clone()).or_insert(Unsuited {
            since: now,
            proposed: None,
        });
        let is_early = now.since(unsuited.since) < NOBODY_SUITS_MS;
        if is_early || is_proposed(unsuited.proposed, now) {
            return None;
        }
        unsuited.proposed = Some(now);
        Some(Action::Settle {
            key: wanted.key.clone(),
            outcome: Settled::Failed(wanted.lacking(hosts)),
        })
    }
}

/// Whether a proposal was made so lately that it may still show in the state.
fn is_proposed(at: Option<MonotonicMs>, now: MonotonicMs) -> bool {
    at.is_some_and(|at| now.since(at) < PROPOSE_AGAIN_MS)
}

impl Preparation {
    fn since(now: MonotonicMs) -> Self {
        Self {
            since: now,
            asked: BTreeMap::new(),
            proposed: None,
        }
    }

    fn plan(
        &mut self,
        wanted: &Wanted,
        hall: &mut Hall<'_>,
        now: MonotonicMs,
        actions: &mut Vec<Action>,
    ) {
        // A worker that left and has not answered never will.
        self.asked
            .retain(|id, a| a.answer.is_some() || hall.present.contains(id));
        let answers = || self.asked.values().filter_map(|a| a.answer.as_ref());
        if answers().any(Result::is_ok) {
            actions.extend(self.settle(wanted, Settled::Successful, now));
            return;
        }
        let waiting = self.waiting_for(now);
        let mut missing = WORKERS_ASKED.saturating_sub(waiting);
        if missing == 0 {
            return;
        }
        let suitable: Vec<&Host> = hall.hosts.iter().filter(|h| h.suits(wanted)).collect();
        if let Some(reason) = self.failure(&suitable, waiting) {
            actions.extend(self.settle(wanted, Settled::Failed(reason), now));
            return;
        }
        for host in self.in_order(suitable, hall, now) {
            if missing == 0 {
                break;
            }
            missing -= 1;
            let times = self.asked.get(&host.worker).map_or(0, |a| a.times);
            let asked = Asked {
                at: now,
                times: times.saturating_add(1),
                answer: None,
            };
            self.asked.insert(host.worker, asked);
            hall.on_asked(host.worker);
            actions.push(Action::Prepare {
                worker: host.worker,
                key: wanted.key.clone(),
            });
        }
    }

    /// Workers that may still answer in time.
    fn waiting_for(&self, now: MonotonicMs) -> usize {
        let is_waiting = |a: &&Asked| a.answer.is_none() && now.since(a.at) < ASK_AGAIN_MS;
        self.asked.values().filter(is_waiting).count()
    }

    /// Workers that can be asked now: never asked ones first, then those with the least to prepare, then by memory.
    fn in_order<'a>(
        &self,
        mut hosts: Vec<&'a Host>,
        hall: &Hall<'_>,
        now: MonotonicMs,
    ) -> Vec<&'a Host> {
        hosts.retain(|host| {
            self.asked
                .get(&host.worker)
                .is_none_or(|a| a.answer.is_none() && now.since(a.at) >= ASK_AGAIN_MS)
        });
        hosts.sort_by_cached_key(|host| {
            let times = self.asked.get(&host.worker).map_or(0, |a| a.times);
            let memory = Reverse(host.free_memory_mib);
            (times, hall.preparing(host.worker), memory, host.worker)
        });
        hosts
    }

    /// Why it cannot be made, when that is the last word.
    fn failure(&self, suitable: &[&Host], waiting: usize) -> Option<StateReason> {
        let answers = || self.asked.values().filter_map(|a| a.answer.as_ref());
        // One failure may be that worker's own; it counts when a second agrees or there is no other.
        let failures = answers().count();
        let nobody_else = suitable.iter().all(|h| self.asked.contains_key(&h.worker));
        let is_final = waiting == 0 && (failures >= WORKERS_ASKED || nobody_else);
        let reason = answers().find_map(|a| a.as_ref().err())?;
        is_final.then(|| reason.clone())
    }

    fn settle(&mut self, wanted: &Wanted, outcome: Settled, now: MonotonicMs) -> Option<Action> {
        let is_early = now.since(self.since) < SETTLE_AFTER_MS;
        if is_early || is_proposed(self.proposed, now) {
            return None;
        }
        self.proposed = Some(now);
        Some(Action::Settle {
            key: wanted.key.clone(),
            outcome,
        })
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
