//! Properties of all histories: dispatchers that are slow, lost, or say things twice.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::command::*;
use super::entry::*;
use super::index::Index;
use super::retry::{AttemptEnd, RetryRules, after_attempt, before_attempt};
use super::state::{EventGroup, EventLimits};
use super::state_tests::{append, id, lease, settle, sweep};
use crate::ids::UnixMs;

const RETRIES: u32 = 2;
const KEEP_DONE_MS: u64 = 200;
const KEEP_FAILED_MS: u64 = 2_000;

/// What happens next. Numbers choose among what there is.
#[derive(Clone, Copy, Debug)]
enum Step {
    Append(usize),
    Lease(u32),
    /// A dispatcher tries the event of a lease that it was given at some time, and settles.
    Settle(usize, AttemptEnd),
    /// The same settlement is said again.
    SettleAgain(usize),
    Renew(usize),
    Redrive(usize),
    Sweep,
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let end = prop::sample::select(vec![
        AttemptEnd::Succeeded,
        AttemptEnd::FunctionError,
        AttemptEnd::FunctionError,
        AttemptEnd::FunctionError,
        AttemptEnd::Throttled,
        AttemptEnd::SystemError,
        AttemptEnd::ZeroConcurrency,
        AttemptEnd::FunctionGone,
    ]);
    let step = prop_oneof![
        4 => (0_usize..12).prop_map(Step::Append),
        5 => (1_u32..5).prop_map(Step::Lease),
        6 => (any::<usize>(), end).prop_map(|(which, end)| Step::Settle(which, end)),
        1 => any::<usize>().prop_map(Step::SettleAgain),
        1 => any::<usize>().prop_map(Step::Renew),
        2 => any::<usize>().prop_map(Step::Redrive),
        1 => Just(Step::Sweep),
        4 => (1_u64..80).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..150)
}

/// A lease as the world saw it.
#[derive(Clone, Debug)]
struct Given {
    entry: EventEntry,
    until: u64,
    /// Settled, or given to the next one.
    is_over: bool,
    /// The dispatcher was to try it, and the attempt counts.
    counts: bool,
}

#[derive(Default)]
struct World {
    group: EventGroup,
    /// The same commands, applied to what is written and read between them.
    twin: EventGroup,
    now: u64,
    given: Vec<Given>,
    said: Vec<EventCommand>,
    /// All that were promised and are not known to be forgotten.
    promised: BTreeSet<String>,
    /// Attempts of each, since it was last taken up, that count: those that failed, and those nobody knows the end of.
    runs: BTreeMap<String, u32>,
    /// Leases of each that nobody settled.
    lost: BTreeMap<String, u32>,
}

/// Three functions of two accounts, four events of each.
fn names(n: usize) -> (String, &'static str) {
    let function = ["1/f", "1/g", "2/f"].get(n % 3).copied().unwrap_or("2/f");
    (format!("r{n}"), function)
}

fn rules() -> RetryRules {
    RetryRules {
        retries_max: RETRIES,
        age_max_ms: 600,
        base_delay_ms: 60,
    }
}

impl World {
    fn apply(&mut self, command: &EventCommand) -> EventReply {
        let reply = self.group.apply(command);
        let twin_reply = self.twin.apply(command);
        assert_eq!(reply, twin_reply);
        reply
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append(n) => self.append(n),
            Step::Lease(count) => self.lease(count),
            Step::Settle(which, end) => self.settle(which, end),
            Step::SettleAgain(which) => self.settle_again(which),
            Step::Renew(which) => self.renew(which),
            Step::Redrive(which) => self.redrive(which),
            Step::Sweep => self.sweep(),
            Step::Wait(ms) => self.now += ms,
        }
    }

    fn append(&mut self, n: usize) {
        let (request_id, function) = names(n);
        let is_known = self.promised.contains(&request_id);
        let reply = self.apply(&append(&request_id, function, self.now));
        match reply {
            EventReply::Appended => {
                assert!(!is_known);
                self.runs.insert(request_id.clone(), 0);
                self.promised.insert(request_id);
            }
            EventReply::AlreadyAppended => assert!(is_known),
            reply => assert!(matches!(
                reply,
                EventReply::Refused(EventRefusal::FunctionFull { .. })
            )),
        }
    }

    fn lease(&mut self, count: u32) {
        let now = self.now;
        let EventReply::Leased(entries) = self.apply(&lease(1, count, now)) else {
            panic!("a lease has its time")
        };
        for entry in entries {
            // Invariant: never two valid leases of one event.
            let valid = self.given.iter().find(|given| {
                given.entry.request_id == entry.request_id && !given.is_over && given.until > now
            });
            assert!(valid.is_none(), "{valid:?} {entry:?}");
            for given in &mut self.given {
                if given.entry.request_id == entry.request_id && !given.is_over {
                    given.is_over = true;
                    *self.lost.entry(entry.request_id.clone()).or_default() += 1;
                }
            }
            let epochs = self.given.iter().map(|given| given.entry.epoch).max();
            assert!(epochs.is_none_or(|epoch| epoch <= entry.epoch));
            let counts = before_attempt(&entry.progress, &rules(), UnixMs(now)).is_none();
            *self.runs.entry(entry.request_id.clone()).or_default() += u32::from(counts);
            self.given.push(Given {
                until: now + 30,
                is_over: false,
                counts,
                entry,
            });
        }
    }

    /// Whether a lease of long ago is still the entry's.
    fn is_newest(&self, given: &Given) -> bool {
        let entry = self.group.entry(&given.entry.request_id);
        entry.is_some_and(|entry| {
            entry.epoch == given.entry.epoch && matches!(entry.phase, Phase::Leased { .. })
        })
    }

    fn settle(&mut self, which: usize, end: AttemptEnd) {
        if self.given.is_empty() {
            return;
        }
        let which = which % self.given.len();
        let given = self.given[which].clone();
        let (progress, now) = (given.entry.progress, UnixMs(self.now));
        let mut has_run = false;
        let decision = before_attempt(&progress, &rules(), now).unwrap_or_else(|| {
            has_run = true;
            after_attempt(end, &progress, &rules(), now, 77)
        });
        let lease = id(&given.entry.request_id, given.entry.epoch);
        let command = settle(lease, decision, self.now);
        let is_newest = self.is_newest(&given);
        let before = self.group.clone();
        let reply = self.apply(&command);
        self.said.push(command);
        if !is_newest {
            // Invariant: a stale settlement changes nothing.
            assert_eq!(reply, EventReply::Outcomes(vec![LeaseOutcome::Stale]));
            assert_eq!(self.group, before);
            return;
        }
        assert_eq!(reply, EventReply::Outcomes(vec![LeaseOutcome::Done]));
        self.given[which].is_over = true;
        let ran = [AttemptEnd::FunctionError, AttemptEnd::Succeeded].contains(&end);
        if given.counts && !(has_run && ran) {
            self.given[which].counts = false;
            *self.runs.entry(given.entry.request_id).or_default() -= 1;
        }
    }

    fn settle_again(&mut self, which: usize) {
        if self.said.is_empty() {
            return;
        }
        let command = self.said[which % self.said.len()].clone();
        let before = self.group.clone();
        let reply = self.apply(&command);
        // It was heard the first time, or was stale even then.
        assert_eq!(reply, EventReply::Outcomes(vec![LeaseOutcome::Stale]));
        assert_eq!(self.group, before);
    }

    fn renew(&mut self, which: usize) {
        if self.given.is_empty() {
            return;
        }
        let which = which % self.given.len();
        let given = self.given[which].clone();
        let until = self.now + 30;
        let command = EventCommand::Renew {
            leases: vec![id(&given.entry.request_id, given.entry.epoch)],
            until: UnixMs(until),
        };
        let is_newest = self.is_newest(&given);
        let reply = self.apply(&command);
        if is_newest {
            assert_eq!(reply, EventReply::Outcomes(vec![LeaseOutcome::Done]));
            self.given[which].until = given.until.max(until);
        } else {
            assert_eq!(reply, EventReply::Outcomes(vec![LeaseOutcome::Stale]));
        }
    }

    fn redrive(&mut self, which: usize) {
        let (request_id, _) = names(which % 12);
        let command = EventCommand::Redrive {
            request_ids: vec![request_id],
            now: UnixMs(self.now),
        };
        let EventReply::Redriven(redriven) = self.apply(&command) else {
            panic!("answered otherwise")
        };
        for request_id in redriven {
            self.runs.insert(request_id, 0);
        }
    }

    fn sweep(&mut self) {
        let before = self.group.clone();
        self.apply(&sweep(KEEP_DONE_MS, KEEP_FAILED_MS, self.now));
        for entry in before.entries() {
            if self.group.entry(&entry.request_id).is_some() {
                continue;
            }
            // Invariant: nothing is forgotten before it is over, and its time.
            let Phase::Settled { at, .. } = entry.phase else {
                panic!("lost: {entry:?}")
            };
            let keep_ms = if entry.has_failed() {
                KEEP_FAILED_MS
            } else {
                KEEP_DONE_MS
            };
            assert!(at.0 + keep_ms <= self.now);
            self.promised.remove(&entry.request_id);
        }
    }

    fn check(&mut self) {
        let entries: Vec<&EventEntry> = self.group.entries().collect();
        // Invariant: no event is lost; every one is queued, leased or settled until its time is over.
        let known: BTreeSet<String> = entries.iter().map(|e| e.request_id.clone()).collect();
        assert_eq!(known, self.promised);
        for entry in &entries {
            let of = |counts: &BTreeMap<String, u32>| {
                counts.get(&entry.request_id).copied().unwrap_or_default()
            };
            // Invariant: no event is run more often than it may; what was leased and lost may have been.
            assert!(of(&self.runs) <= 1 + RETRIES, "{entry:?}");
            if matches!(entry.phase, Phase::Settled { .. }) {
                let most = 1 + RETRIES + of(&self.lost);
                assert!(entry.progress.attempts <= most, "{entry:?}");
            }
        }
        // What follows from entries is what follows from them.
        assert_eq!(self.group.index, Index::of(entries.into_iter()));
    }

    /// Same commands give equal state, also when it is written and read in between.
    fn check_twin(&mut self) {
        let json = serde_json::to_string(&self.twin).expect("JSON");
        self.twin = serde_json::from_str(&json).expect("JSON");
        assert_eq!(self.twin, self.group);
    }
}

proptest! {
    #[test]
    fn all_histories_keep_the_invariants(steps in steps()) {
        let mut world = World::default();
        let limits = EventLimits { events_per_function: 3, bytes: 1 << 20 };
        world.apply(&EventCommand::Configure { limits });
        for (n, step) in steps.into_iter().enumerate() {
            world.step(step);
            world.check();
            if n % 16 == 0 {
                world.check_twin();
            }
        }
        world.check_twin();
    }

    /// When dispatchers are there again, everything that waits comes to an end.
    #[test]
    fn what_waits_comes_to_an_end(steps in steps()) {
        let mut world = World::default();
        for step in steps {
            world.step(step);
        }
        for _ in 0..200 {
            let Some(due) = world.group.due_at() else { break };
            world.now = world.now.max(due.0);
            let begin = world.given.len();
            world.lease(10);
            for which in begin..world.given.len() {
                world.settle(which, AttemptEnd::FunctionError);
            }
        }
        prop_assert!(world.group.entries().all(|entry| !entry.is_open()));
    }

    /// However long the lines: who is due is leased within a round of accounts, times its account's functions.
    #[test]
    fn nobody_waits_longer_than_a_round(
        lines in prop::collection::vec((0_usize..4, 0_usize..4, 1_u64..30), 1..10),
        count in 1_u32..20,
    ) {
        let mut group = EventGroup::default();
        for (line, (account, function, events)) in lines.iter().enumerate() {
            for n in 0..*events {
                group.apply(&append(&format!("{line}-{n}"), &format!("{account}/f{function}"), 0));
            }
        }
        let mut accounts: BTreeMap<_, BTreeMap<_, usize>> = BTreeMap::new();
        for key in group.functions() {
            accounts.entry(key.account).or_default().insert(key.function, 0);
        }
        let widest = accounts.values().map(BTreeMap::len).max().unwrap_or(0);
        let mut left: BTreeMap<FunctionKey, usize> = group.functions().map(|k| (k.clone(), group.counts(&k).queued)).collect();
        let mut waited: BTreeMap<FunctionKey, usize> = left.keys().map(|k| (k.clone(), 0)).collect();
        while left.values().any(|n| *n > 0) {
            let EventReply::Leased(entries) = group.apply(&lease(1, count, 0)) else { panic!("it has its time") };
            prop_assert!(!entries.is_empty());
            for entry in entries {
                for (key, waits) in &mut waited {
                    *waits = if *key == entry.function || left[key] == 0 { 0 } else { *waits + 1 };
                    prop_assert!(*waits < accounts.len() * widest, "{key:?}");
                }
                *left.entry(entry.function).or_default() -= 1;
            }
        }
    }
}
