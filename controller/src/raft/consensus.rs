//! The handle to a running node: starting, stopping, and the operations others use. How they work is in
//! [`super::follow`] (proposals, reads) and [`super::members`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hearth_core::election;
use hearth_node::blocking;
use hearth_proto::internal::v1::raft_peer_server::RaftPeerServer;
use openraft::{ChangeMembers, Raft};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config;
use super::error::{MembershipError, ProposeError, ReadError, StartError};
use super::group::GroupService;
use super::machine::{Machine, MachineCell};
use super::members::Members;
use super::network::Network;
use super::options::Options;
use super::peers::{MAX_MESSAGE_BYTES, Peers};
use super::pulse::Pulse;
use super::service::PeerService;
use super::snapshot::Snapshots;
use super::state_machine::StateMachine;
use super::store::{LogStore, Owner};
use super::types::TypeConfig;
use super::watcher::{self, Leadership, Watched};

/// A command that was committed and applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposed {
    /// Its place in the log.
    pub index: u64,
    /// What the machine answered.
    pub reply: Vec<u8>,
}

/// A running node of the cluster. Clones are handles to the same node.
pub struct Consensus<M: Machine> {
    inner: Arc<Inner<M>>,
}

pub(super) struct Inner<M: Machine> {
    pub(super) raft: Raft<TypeConfig, StateMachine<M>>,
    pub(super) cell: Arc<MachineCell<M>>,
    pub(super) peers: Arc<Peers>,
    pub(super) log: LogStore,
    pub(super) pulse: Arc<Pulse>,
    /// A leader that hears no majority for so long leads no more.
    pub(super) lease: Duration,
    pub(super) leadership: watch::Receiver<Leadership>,
    fatal: watch::Receiver<Option<String>>,
    /// The cluster knows this node by another disk: the process must end.
    pub(super) disk_lost: watch::Sender<Option<String>>,
    pub(super) request_timeout: Duration,
    pub(super) max_command_bytes: usize,
    level: watch::Sender<u32>,
    pub(super) patience: Duration,
    /// Held while this node changes the membership.
    pub(super) changing: Arc<Mutex<()>>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl<M: Machine> Clone for Consensus<M> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<M: Machine> fmt::Debug for Consensus<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consensus")
            .field("node_id", &self.inner.peers.node_id)
            .field("leadership", &*self.inner.leadership.borrow())
            .finish_non_exhaustive()
    }
}

impl<M: Machine> Consensus<M> {
    /// Opens this node's data and starts Raft. The node takes part once its peers reach
    /// [`Consensus::peer_service`], and knows its cluster after [`Consensus::initialize`] or once a leader
    /// has contacted it.
    pub async fn start(options: Options, machine: M) -> Result<Self, StartError> {
        options.validate().map_err(StartError::Options)?;
        let cell = MachineCell::new(machine);
        let pulse = Pulse::new(Arc::clone(&options.clock));
        let (log, machine) = {
            let (options, cell, pulse) = (options.clone(), Arc::clone(&cell), Arc::clone(&pulse));
            blocking::run(move || open(&options, cell, &pulse))
                .await
                .map_err(|error| StartError::Raft(error.to_string()))??
        };
        let flush_ms = pulse.measured().flush_ms;
        let timing = election::timing(flush_ms);
        let (vote_ms, lease_ms) = (timing.vote_ms, timing.lease_ms);
        tracing::info!(flush_ms, vote_ms, lease_ms, "election times");
        let config = config::raft_config(&options, timing)
            .map_err(|error| StartError::Options(error.to_string()))?;
        let peers = Arc::new(Peers::new(
            options.node_id,
            (options.cluster_id, options.path),
            log.disk_id().to_owned(),
            options.peers,
            options.dialer,
        ));
        let network = Network {
            peers: Arc::clone(&peers),
            log: log.clone(),
        };
        let raft = Raft::new(options.node_id, config, network, log.clone(), machine)
            .await
            .map_err(|error| StartError::Raft(error.to_string()))?;
        let watched = Watched {
            leadership: watch::Sender::default(),
            fatal: watch::Sender::default(),
        };
        let inner = Arc::new(Inner {
            raft,
            cell,
            peers,
            log,
            pulse,
            lease: Duration::from_millis(lease_ms),
            leadership: watched.leadership.subscribe(),
            fatal: watched.fatal.subscribe(),
            disk_lost: watch::Sender::default(),
            request_timeout: options.request_timeout,
            max_command_bytes: options.max_command_bytes,
            level: watch::Sender::default(),
            patience: options.patience,
            changing: Arc::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        });
        inner
            .tasks
            .spawn(watcher::watch_metrics(Arc::clone(&inner), watched));
        inner.tasks.spawn(watch_level(Arc::clone(&inner)));
        let voters = inner.learn_membership().await;
        if voters > 1 {
            inner.pulse.began_anew();
        }
        inner.tasks.spawn(govern_elections(Arc::clone(&inner)));
        Ok(Self { inner })
    }

    /// The service for this controller's gRPC server through which peers reach this node.
    pub fn peer_service(&self) -> RaftPeerServer<PeerService<M>> {
        RaftPeerServer::new(PeerService {
            inner: Arc::clone(&self.inner),
        })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// As [`Consensus::peer_service`], under the path of [`Options::path`].
    pub fn peer_service_under<P: tonic::server::NamedService>(&self) -> GroupService<M, P> {
        GroupService::new(self.peer_service())
    }

    /// Forms the cluster of `members` (all voters, this node among them), unless it exists: does nothing if
    /// this node is part of a cluster or a member says that it is. So every member may call it on every
    /// start with the same configuration. True if this call formed the cluster.
    pub async fn initialize(
        &self,
        members: &BTreeMap<u64, String>,
    ) -> Result<bool, MembershipError> {
        self.inner.initialize(members).await
    }

    /// Commits and applies a command, on whichever controller leads.
    pub async fn propose(&self, command: impl Into<Bytes>) -> Result<Proposed, ProposeError> {
        self.inner.propose(command.into(), false).await
    }

    /// As [`Consensus::propose`], for a command that the machine carries out once however often it is in the log: it is
    /// proposed again when its fate is unknown.
    pub async fn propose_again(&self, command: impl Into<Bytes>) -> Result<Proposed, ProposeError> {
        self.inner.propose(command.into(), true).await
    }

    /// The highest level of commands that every member can read, as last heard of each, or as the log proves. Members
    /// are asked now and then.
    pub fn level(&self) -> u32 {
        let heard = *self.inner.level.borrow();
        heard.max(self.inner.cell.read(Machine::proven_level))
    }

    /// After this returns, [`Consensus::read`] on this node sees everything that was committed before the
    /// call. Returns the index it waited for.
    pub async fn read_index(&self) -> Result<u64, ReadError> {
        self.inner.read_index().await
    }

    /// Reads this node's copy of the state, which may be behind; see [`Consensus::read_index`]. No command is
    /// applied meanwhile, so `read` must be short and must not wait.
    pub fn read<T>(&self, read: impl FnOnce(&M) -> T) -> T {
        self.inner.cell.read(read)
    }

    /// Index of the last entry the state contains.
    pub fn applied_index(&self) -> u64 {
        *self.inner.cell.applied().borrow()
    }

    /// Follows the applied index.
    pub fn watch_applied(&self) -> watch::Receiver<u64> {
        self.inner.cell.applied()
    }

    /// Index up to which the log was purged: what is older is in snapshots only.
    pub fn purged_index(&self) -> u64 {
        self.inner.log.purged().map_or(0, |purged| purged.index)
    }

    /// This node's id.
    pub fn node_id(&self) -> u64 {
        self.inner.peers.node_id
    }

    /// Id and address of the leader, if one is known.
    pub fn leader(&self) -> Option<(u64, String)> {
        self.leadership().leader
    }

    /// Who leads, as far as this node knows.
    pub fn leadership(&self) -> Leadership {
        self.inner.leadership.borrow().clone()
    }

    /// Follows leadership.
    pub fn watch_leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// Becomes `Some(reason)` when this node can no longer keep its promises: the process must end at once,
    /// without flushing or answering anything.
    pub fn watch_fatal(&self) -> watch::Receiver<Option<String>> {
        self.inner.fatal.clone()
    }

    /// The members of the cluster.
    pub fn members(&self) -> Members {
        self.inner.members()
    }

    /// Adds a node that receives the log without voting; returns when it has caught up. Leader only.
    pub async fn add_learner(&self, id: u64, address: &str) -> Result<(), MembershipError> {
        self.inner.add_learner(id, address).await
    }

    /// Makes `voters` (members already) the voters; former voters leave. Leader only.
    pub async fn change_membership(&self, voters: BTreeSet<u64>) -> Result<(), MembershipError> {
        self.inner
            .change_members(ChangeMembers::ReplaceAllVoters(voters), false)
            .await
    }

    /// Removes a node, voter or learner. Leader only.
    pub async fn remove(&self, id: u64) -> Result<(), MembershipError> {
        self.inner.remove(id).await
    }

    /// Asks `to` to take over; watch leadership for whether it did. Leader only.
    pub async fn transfer_leader(&self, to: u64) -> Result<(), MembershipError> {
        if !self.inner.leadership.borrow().is_leader {
            return Err(MembershipError::NotLeader {
                leader: self.leader(),
            });
        }
        let transferred = self.inner.raft.trigger().transfer_leader(to).await;
        transferred.map_err(|error| MembershipError::Stopped(error.to_string()))
    }

    /// Gives leadership, if this node has it, to the voter that has most of the log; returns when that was done or could
    /// not be done soon.
    pub async fn hand_over(&self) {
        self.inner.hand_over().await;
    }

    /// Writes a snapshot soon, whatever the policy says.
    pub async fn trigger_snapshot(&self) -> Result<(), MembershipError> {
        let triggered = self.inner.raft.trigger().snapshot().await;
        triggered.map_err(|error| MembershipError::Stopped(error.to_string()))
    }

    /// Hands leadership over if this node has it, stops taking part, flushes, and lets go of the data
    /// directory.
    pub async fn shutdown(&self) {
        self.inner.hand_over().await;
        self.inner.stop.cancel();
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::error!(%error, "raft did not stop in order");
        }
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        if let Err(error) = self.inner.log.close().await {
            tracing::error!(%error, "raft log was not closed in order");
        }
    }
}

/// How often members are asked for their level: while one is not heard, and after.
const LEVEL_SOON: Duration = Duration::from_millis(200);
const LEVEL_EVERY: Duration = Duration::from_secs(2);

/// Keeps the level current until the node stops.
async fn watch_level<M: Machine>(inner: Arc<Inner<M>>) {
    let mut known = BTreeMap::new();
    loop {
        let level = inner.level(&mut known).await;
        inner.adopt_disks(&known).await;
        inner.level.send_if_modified(|before| {
            let has_changed = *before != level;
            *before = level;
            has_changed
        });
        let pause = if level < M::LEVEL {
            LEVEL_SOON
        } else {
            LEVEL_EVERY
        };
        tokio::select! {
            () = inner.stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// A node that lately missed heartbeats of a leader that is well waits longer than openraft would.
async fn govern_elections<M: Machine>(inner: Arc<Inner<M>>) {
    let may_elect = |may| inner.raft.runtime_config().elect(may);
    inner.pulse.govern(may_elect, inner.stop.clone()).await;
}

/// Opens what is on disk: snapshots first, because the log needs to know how far they reach.
fn open<M: Machine>(
    options: &Options,
    cell: Arc<MachineCell<M>>,
    pulse: &Arc<Pulse>,
) -> Result<(LogStore, StateMachine<M>), StartError> {
    let snapshot_dir = options.data_dir.join("snapshots");
    let log_dir = options.data_dir.join("log");
    let in_snapshots = |source| StartError::Snapshot {
        path: snapshot_dir.clone(),
        source,
    };
    let owner = Owner {
        node_id: options.node_id,
        cluster_id: options.cluster_id.clone(),
        new_disk: options.random.uuid(),
    };
    let files = options.storage.files();
    let snapshots = Snapshots::open(files, &snapshot_dir).map_err(in_snapshots)?;
    let log = LogStore::open(
        &options.storage,
        &log_dir,
        &owner,
        Some(snapshots.durable()),
        pulse,
    )
    .map_err(|source| StartError::Log {
        path: log_dir.clone(),
        source,
    })?;
    let snapshot = snapshots
        .load(log.purged().as_ref())
        .map_err(in_snapshots)?;
    let machine = StateMachine::load(cell, snapshots, snapshot)
        .map_err(|error| StartError::Raft(error.to_string()))?;
    Ok((log, machine))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::machine::RestoreError;

    #[derive(Debug)]
    struct Nothing;

    impl Machine for Nothing {
        fn apply(&mut self, _index: u64, _command: &[u8]) -> Vec<u8> {
            Vec::new()
        }
        fn snapshot(&self) -> Vec<u8> {
            Vec::new()
        }
        fn restore(&mut self, _bytes: &[u8]) -> Result<(), RestoreError> {
            Ok(())
        }
    }

    /// The compiler sees through the futures only where they are spawned; callers do that.
    #[test]
    fn all_operations_can_be_spawned() {
        fn is_send<T: Send>(_: &T) {}
        let _compiled = |node: Consensus<Nothing>, options: Options| {
            let members = BTreeMap::new();
            is_send(&Consensus::start(options, Nothing));
            is_send(&node.initialize(&members));
            is_send(&node.propose("x"));
            is_send(&node.read_index());
            is_send(&node.add_learner(1, ""));
            is_send(&node.change_membership(BTreeSet::new()));
            is_send(&node.remove(1));
            is_send(&node.transfer_leader(1));
            is_send(&node.shutdown());
        };
    }
}
