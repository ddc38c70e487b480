//! The replicated state as consensus carries it: JSON in the log entries, replies and snapshots, and the
//! stream of catalog changes that `apply` leaves behind on every controller. What commands do is in `state`.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hearth_core::iam::{IamEntity, IamKey};
use hearth_core::ids::{AccountId, NodeId};
use hearth_core::name::FunctionName;
use tokio::sync::{broadcast, watch};

use crate::document::Document;
use crate::raft::{Machine, RestoreError, WriteSnapshot};
use crate::state::State;
use crate::state::command::{self, Command, Role};
use crate::state::nodes::Worker;
use crate::state::reply::{Effect, Reply};
use crate::state::snapshot::Snapshot;

/// Changes a reader of the catalog may be behind before it is started anew with the full picture: a few
/// seconds of the busiest deploy, and at 4 KB a function at most 16 MB.
const CHANGES_KEPT: usize = 4_096;

/// A change of the catalog, in log order.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// A function as it is after `index`; `None` when it was deleted.
    Function {
        index: u64,
        account: AccountId,
        name: FunctionName,
        function: Option<Arc<Document>>,
    },
    /// A role, user, group or policy as it is after `index`; `None` when it was deleted.
    Iam {
        index: u64,
        account: AccountId,
        key: IamKey,
        entity: Option<Arc<IamEntity>>,
    },
    /// A worker as it is after `index`; `None` when it was forgotten.
    Worker {
        index: u64,
        id: NodeId,
        worker: Option<Arc<Worker>>,
        /// The operator wants it to drain.
        drain: bool,
    },
    /// The operator wants a gateway or a controller to drain, or no more.
    Drain { index: u64 },
    /// A snapshot took the place of what was known.
    Restored,
}

/// State and change feed.
#[derive(Debug)]
pub(crate) struct ReplicatedState {
    state: State,
    /// Index of the last command applied; what a full picture is as of.
    applied: u64,
    changes: broadcast::Sender<Change>,
    /// Of the current batch; published by `after_apply`, when readers may see them in the state too.
    pending: Mutex<Vec<Change>>,
    /// Why the state cannot be trusted any more.
    broken: watch::Sender<Option<String>>,
}

impl Default for ReplicatedState {
    fn default() -> Self {
        Self {
            state: State::default(),
            applied: 0,
            changes: broadcast::Sender::new(CHANGES_KEPT),
            pending: Mutex::default(),
            broken: watch::Sender::default(),
        }
    }
}

impl ReplicatedState {
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Index of the last command in it.
    pub(crate) fn applied(&self) -> u64 {
        self.applied
    }

    /// The feed from now on. Taken inside of one read together with a full picture, nothing is lost between
    /// the two; a change may be in both, which is harmless as changes are absolute.
    pub(crate) fn subscribe(&self) -> (u64, broadcast::Receiver<Change>) {
        (self.applied, self.changes.subscribe())
    }

    /// Becomes `Some(reason)` when the state has missed a command: the process must end.
    pub(crate) fn watch_broken(&self) -> watch::Receiver<Option<String>> {
        self.broken.subscribe()
    }

    /// Makes the state that of a new cluster which begins at `index`, after `term`; see [`State::detach`].
    pub(crate) fn detach(&mut self, index: u64, term: u64) {
        self.state.detach(index, term);
        self.applied = index;
    }

    fn change(&self, index: u64, effect: Effect) -> Change {
        match effect {
            Effect::Function(account, name) => {
                let function = self.state.functions.function(&account, &name);
                let function = function.cloned().map(|f| Arc::new(Document::new(f)));
                Change::Function {
                    index,
                    account,
                    name,
                    function,
                }
            }
            Effect::Iam(account, key) => Change::Iam {
                index,
                entity: self.state.iam.one(&account, &key).cloned().map(Arc::new),
                account,
                key,
            },
            Effect::Worker(id) => Change::Worker {
                index,
                id,
                worker: self.state.nodes.worker(id).cloned().map(Arc::new),
                drain: self.state.nodes.is_drain_wanted(Role::Worker, id),
            },
            Effect::Drain => Change::Drain { index },
        }
    }

    fn keep(&self, changes: impl IntoIterator<Item = Change>) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.extend(changes);
    }
}

impl Machine for ReplicatedState {
    const LEVEL: u32 = command::LEVEL;

    fn proven_level(&self) -> u32 {
        u32::from(!self.state.once.is_empty())
    }

    fn apply(&mut self, index: u64, command: &[u8]) -> Vec<u8> {
        self.applied = index;
        let reply = match serde_json::from_slice::<Command>(command) {
            Ok(command) => {
                let (reply, effects) = self.state.apply(index, &command);
                let changes: Vec<Change> = effects
                    .into_iter()
                    .map(|effect| self.change(index, effect))
                    .collect();
                self.keep(changes);
                reply
            }
            Err(error) => {
                // A newer leader knows commands this node does not: its state is wrong from here on.
                let reason = format!(
                    "log entry {index} is of a later release, upgrade this controller: {error}"
                );
                tracing::error!(index, reason, "a log entry cannot be read");
                self.broken.send_replace(Some(reason));
                Reply::Unreadable
            }
        };
        serde_json::to_vec(&reply).expect("replies have string keys and no failing serializers")
    }

    fn snapshot(&self) -> Vec<u8> {
        self.freeze()()
    }

    fn freeze(&self) -> WriteSnapshot {
        let stored = StoredMachine {
            applied: self.applied,
            snapshot: Snapshot::of(&self.state),
        };
        Box::new(move || {
            serde_json::to_vec(&stored)
                .expect("the state has string keys and no failing serializers")
        })
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        let stored: StoredMachine =
            serde_json::from_slice(bytes).map_err(|e| RestoreError(e.to_string()))?;
        let state = stored.snapshot.into_state();
        self.state = state.map_err(|e| RestoreError(e.to_string()))?;
        self.applied = stored.applied;
        self.keep([Change::Restored]);
        Ok(())
    }

    fn after_apply(&self) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        for change in pending.drain(..) {
            // Nobody may be listening.
            let _ = self.changes.send(change);
        }
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct StoredMachine {
    applied: u64,
    snapshot: Snapshot,
}

/// A command as it stands in the log.
pub(crate) fn encode(command: &Command) -> Bytes {
    serde_json::to_vec(command)
        .expect("commands have string keys and no failing serializers")
        .into()
}

/// The answer to a command.
pub(crate) fn decode(reply: &[u8]) -> Result<Reply, serde_json::Error> {
    serde_json::from_slice(reply)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::state::tests as sample;

    fn machine() -> ReplicatedState {
        let mut machine = ReplicatedState::default();
        for (index, command) in (1..).zip(sample::history()) {
            machine.apply(index, &encode(&command));
        }
        machine
    }

    /// The file was written by the first release with this format and is never written again: a snapshot on
    /// somebody's disk looks like it.
    #[test]
    fn snapshots_of_format_1_stay_readable() {
        let golden = include_bytes!("state/golden/format-1.json");
        let mut restored = ReplicatedState::default();
        restored.restore(golden).unwrap();
        assert_eq!(restored.state(), machine().state());
        assert_eq!(restored.applied, machine().applied);
    }

    /// Commands as the first release wrote them into logs, one a line. The first thirteen lead to the golden snapshot.
    #[test]
    fn commands_of_format_1_stay_readable() {
        let golden = include_str!("state/golden/commands-1.jsonl");
        let mut machine = ReplicatedState::default();
        for (index, line) in (1..).zip(golden.lines()) {
            let reply = decode(&machine.apply(index, line.as_bytes())).unwrap();
            assert!(
                !matches!(reply, Reply::Unreadable | Reply::Refused(_)),
                "{line}: {reply:?}"
            );
            if index == 13 {
                let mut restored = ReplicatedState::default();
                let snapshot = include_bytes!("state/golden/format-1.json");
                restored.restore(snapshot).unwrap();
                assert_eq!(machine.state(), restored.state());
            }
        }
        assert!(machine.applied > 13);
        assert!(machine.watch_broken().borrow().is_none());
    }

    #[test]
    fn what_is_written_now_is_what_the_golden_file_holds() {
        let now: serde_json::Value = serde_json::from_slice(&machine().snapshot()).unwrap();
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("state/golden/format-1.json")).unwrap();
        assert_eq!(now, golden, "{now:#}");
    }

    /// What a cluster of level 6 that did one of everything wrote into its log, a command a line after its index (the last three
    /// were added by hand), and the state that it led to. Neither is written again.
    #[test]
    fn logs_of_level_6_stay_readable_and_lead_to_the_same_state() {
        let mut machine = ReplicatedState::default();
        let mut levels = BTreeSet::new();
        for line in include_str!("state/golden/log-6.txt").lines() {
            let (index, command) = line.split_once(' ').unwrap();
            let read: Command = serde_json::from_str(command).unwrap();
            levels.insert(read.since_level());
            let reply = machine.apply(index.parse().unwrap(), command.as_bytes());
            let reply = decode(&reply).unwrap();
            assert!(
                !matches!(reply, Reply::Unreadable | Reply::Refused(_)),
                "{line}: {reply:?}"
            );
        }
        // Of level 3 is only the raising of a level below.
        assert_eq!(levels, BTreeSet::from([0, 1, 2, 4, 5, 6]));
        let now: serde_json::Value = serde_json::from_slice(&machine.snapshot()).unwrap();
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("state/golden/state-6.json")).unwrap();
        assert_eq!(now, golden, "{now:#}");
        let mut restored = ReplicatedState::default();
        restored.restore(golden.to_string().as_bytes()).unwrap();
        assert_eq!(restored.state(), machine.state());
    }

    #[test]
    fn a_later_format_is_refused_and_the_state_kept() {
        let mut machine = machine();
        let mut stored: serde_json::Value = serde_json::from_slice(&machine.snapshot()).unwrap();
        stored["snapshot"]["format_version"] = 2.into();
        let before = machine.state().clone();
        assert!(machine.restore(stored.to_string().as_bytes()).is_err());
        assert_eq!(machine.state(), &before);
    }

    #[test]
    fn a_command_of_a_later_release_is_answered() {
        let mut machine = machine();
        let reply = machine.apply(100, br#"{"Levitate":{}}"#);
        assert_eq!(decode(&reply).unwrap(), Reply::Unreadable);
        assert!(
            machine.watch_broken().borrow().is_some(),
            "the process must end"
        );
    }

    #[test]
    fn a_command_in_the_state_proves_that_every_member_can_read_it() {
        let mut machine = machine();
        assert_eq!(machine.proven_level(), 0);
        let command = Box::new(Command::BeginTerm { term: 9 });
        let token = "t".to_owned();
        machine.apply(100, &encode(&Command::Once { token, command }));
        assert_eq!(machine.proven_level(), 1);
        let mut restarted = ReplicatedState::default();
        restarted.restore(&machine.snapshot()).unwrap();
        assert_eq!(restarted.proven_level(), 1);
    }

    #[test]
    fn changes_are_published_once_they_can_be_read() {
        let mut machine = ReplicatedState::default();
        let (_, mut changes) = machine.subscribe();
        for (index, command) in (1..).zip(sample::history()) {
            machine.apply(index, &encode(&command));
        }
        assert!(changes.try_recv().is_err());
        machine.after_apply();
        assert!(matches!(
            changes.try_recv(),
            Ok(Change::Function {
                index: 2,
                function: Some(_),
                ..
            })
        ));
    }
}
