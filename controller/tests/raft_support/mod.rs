//! A cluster of consensus nodes in one process.
#![expect(
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "tests measure real time; this is a module of test binaries"
)]

pub mod journal;

use std::collections::BTreeMap;
use std::time::Instant;

use hearth_controller::raft::{Consensus, Options};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

use self::journal::{Journal, PATIENCE, until};

pub fn started() -> Instant {
    Instant::now()
}

/// A node lives in a runtime of its own, so that it can die with all its tasks and connections at once.
struct Node {
    consensus: Consensus<Journal>,
    runtime: Runtime,
}

async fn end(runtime: Runtime) {
    let ended = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(PATIENCE));
    ended.await.unwrap();
}

/// Proposes until it is certain that the command was applied, perhaps more than once.
pub async fn insist(node: &Consensus<Journal>, command: &str) {
    let wait = async {
        while let Err(error) = node.propose(command.to_owned()).await {
            println!("{command}: {error}");
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
}

pub struct Cluster {
    addresses: BTreeMap<u64, String>,
    dirs: BTreeMap<u64, TempDir>,
    running: BTreeMap<u64, Node>,
    snapshot_every: u64,
}

impl Cluster {
    pub async fn start(size: u64) -> Self {
        Self::with_snapshots_every(size, 5_000).await
    }

    pub async fn with_snapshots_every(size: u64, snapshot_every: u64) -> Self {
        let mut cluster = Self {
            addresses: BTreeMap::new(),
            dirs: BTreeMap::new(),
            running: BTreeMap::new(),
            snapshot_every,
        };
        let mut listeners = Vec::new();
        for id in 1..=size {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            cluster.addresses.insert(id, address);
            listeners.push((id, listener));
        }
        for (id, listener) in listeners {
            cluster.run(id, listener).await;
        }
        let members = cluster.members();
        let formed = cluster
            .running
            .values()
            .map(|node| node.consensus.initialize(&members));
        for result in futures::future::join_all(formed).await {
            result.unwrap();
        }
        cluster.leader().await;
        cluster
    }

    /// Starts a node that is not a member yet; returns its address.
    pub async fn spawn(&mut self, id: u64) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        self.addresses.insert(id, address.clone());
        self.run(id, listener).await;
        address
    }

    async fn run(&mut self, id: u64, listener: TcpListener) {
        let listener = listener.into_std().unwrap();
        let dir = self
            .dirs
            .entry(id)
            .or_insert_with(|| tempfile::tempdir().unwrap());
        let mut options = Options::new(id, "test", dir.path(), self.addresses.clone());
        options.patience = std::time::Duration::from_secs(1);
        options.snapshot_every = self.snapshot_every;
        options.keep_applied = self.snapshot_every.min(2_000) / 5;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let started = runtime.spawn(async move {
            let consensus = Consensus::start(options, Journal::default()).await.unwrap();
            let router = Server::builder().add_service(consensus.peer_service());
            // The listener was made in another runtime, whose reactor it would depend on.
            let listener = TcpListener::from_std(listener).unwrap();
            let incoming = TcpListenerStream::new(listener);
            tokio::spawn(async move { router.serve_with_incoming(incoming).await.unwrap() });
            consensus
        });
        let consensus = started.await.unwrap();
        self.running.insert(id, Node { consensus, runtime });
    }

    /// Ends a node without any goodbye: its tasks vanish, its peers see connections reset.
    pub async fn kill(&mut self, id: u64) {
        let node = self.running.remove(&id).unwrap();
        end(node.runtime).await;
    }

    /// Stops a node in order.
    pub async fn stop(&mut self, id: u64) {
        let node = self.running.remove(&id).unwrap();
        node.consensus.shutdown().await;
        end(node.runtime).await;
    }

    pub async fn restart(&mut self, id: u64) {
        let address = &self.addresses[&id];
        let listener = TcpListener::bind(address).await.unwrap();
        self.run(id, listener).await;
    }

    /// The next start of the node is on an empty disk.
    pub fn lose_disk(&mut self, id: u64) {
        self.dirs.insert(id, tempfile::tempdir().unwrap());
    }

    pub async fn leader(&self) -> (u64, Consensus<Journal>) {
        until("a leader", || {
            self.running
                .values()
                .any(|node| node.consensus.leadership().is_leader)
        })
        .await;
        let mut leaders: Vec<_> = self
            .running
            .iter()
            .map(|(id, node)| (node.consensus.leadership(), *id, node))
            .filter(|(leadership, ..)| leadership.is_leader)
            .collect();
        leaders.sort_by_key(|(leadership, ..)| leadership.term);
        let (_, id, node) = leaders.pop().expect("a leader was just seen");
        (id, node.consensus.clone())
    }

    pub fn node(&self, id: u64) -> &Consensus<Journal> {
        &self.running[&id].consensus
    }

    pub fn any(&self) -> &Consensus<Journal> {
        &self.running.values().next().unwrap().consensus
    }

    pub fn nodes(&self) -> impl Iterator<Item = (&u64, &Consensus<Journal>)> {
        self.running.iter().map(|(id, node)| (id, &node.consensus))
    }

    pub fn members(&self) -> BTreeMap<u64, String> {
        self.addresses.clone()
    }

    pub async fn shutdown(mut self) {
        let ids: Vec<u64> = self.running.keys().copied().collect();
        for id in ids {
            self.stop(id).await;
        }
    }
}
