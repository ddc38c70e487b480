//! Puts a controller together, starts it and ends it in order. What the parts do is theirs; the services it offers are in
//! `services`.

mod events;
mod services;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hearth_core::permits::PermitTiming;
use hearth_node::Seams;
use hearth_node::admin::Admin;
use hearth_node::data_dir::{DataDir, DataDirError, Identity};
use hearth_node::grpc::{self, ClusterIdError, ClusterIdentity};
use hearth_node::health::Health;
use hearth_node::listen::ListenError;
use hearth_node::metrics::Metrics;
use hearth_node::shutdown::{Shutdown, ShutdownTimeout};
use hearth_node::tls::{NodeRole, Tls, TlsError};
use tokio::sync::watch;

use crate::api::backup::Running;
use crate::blobs::{BlobError, BlobPeers, BlobStore, LocalBlobs, ObjectBlobs, ReplicatedBlobs};
use crate::collect::Collector;
use crate::events::machine::EventMachine;
use crate::leader::{self, Deps, LeaderOptions};
use crate::machine::ReplicatedState;
use crate::metrics::ControllerMetrics;
use crate::net_dialer::NetDialer;
use crate::options::{BlobStoreKind, Options, OptionsError};
use crate::raft::storage::{MachineStorage, Storage};
use crate::raft::{self, Consensus, Dialer};
use crate::state::State;
use crate::state::accounts::AccountLimits;

/// How long the end may take: calls that run, streams that end, the log's last flush.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);
/// How long a follower may take to become leader when this one ends; an election takes about as long.
const TRANSFER_LIMIT: Duration = Duration::from_secs(2);
/// How long a write waits here for a leader before its caller is to ask another controller: about an election.
const PATIENCE: Duration = Duration::from_secs(1);
/// Pause between two tries to form the cluster, while the others are not there yet.
const FORM_PAUSE: Duration = Duration::from_millis(500);

/// Why a controller did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting cannot be meant.
    #[error("the controller's options are wrong")]
    Options(#[source] OptionsError),
    /// The cluster's name cannot be sent.
    #[error("the cluster id is wrong")]
    ClusterId(#[source] ClusterIdError),
    /// The data directory cannot be used.
    #[error("the data directory cannot be used")]
    DataDir(#[source] DataDirError),
    /// An address cannot be listened on.
    #[error("cannot listen")]
    Listen(#[source] ListenError),
    /// TLS between nodes.
    #[error("TLS between nodes cannot be set up")]
    Tls(#[source] TlsError),
    /// The blob store cannot be opened.
    #[error("cannot open the blob store")]
    Blobs(#[source] BlobError),
    /// The secret of the blob store cannot be read.
    #[error("cannot read the secret access key in {path}")]
    Secret {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Consensus did not start.
    #[error("consensus did not start")]
    Consensus(#[source] raft::StartError),
}

/// A running controller. Dropping it does not end it; [`Controller::shutdown`] does.
#[derive(Debug)]
pub struct Controller {
    /// Where gRPC is served.
    pub addr: SocketAddr,
    /// Where `/metrics`, `/healthz` and `/readyz` are served.
    pub admin_addr: SocketAddr,
    consensus: Consensus<ReplicatedState>,
    events: Option<Consensus<EventMachine>>,
    shutdown: Shutdown,
    /// Holds the lock on the directory.
    _data_dir: DataDir,
}

impl Controller {
    /// Who leads, as far as this controller knows: node id and address.
    pub fn leader(&self) -> Option<(u64, String)> {
        self.consensus.leader()
    }

    /// Whether this controller leads.
    pub fn is_leader(&self) -> bool {
        self.consensus.leadership().is_leader
    }

    /// Looks at this controller's copy of the state and the index of the last command in it: for the simulation.
    pub fn inspect<T>(&self, look: impl FnOnce(u64, &State) -> T) -> T {
        let machine = |machine: &ReplicatedState| look(machine.applied(), machine.state());
        self.consensus.read(machine)
    }

    /// Ends with the reason for which the process must end at once, without flushing or answering anything.
    pub async fn fatal(&self) -> String {
        let broken = self.consensus.read(ReplicatedState::watch_broken);
        tokio::select! {
            reason = reason_of(self.consensus.watch_fatal()) => reason,
            reason = reason_of(broken) => reason,
            reason = self.events_fatal() => reason,
        }
    }

    /// Hands leadership over, takes no more calls, flushes.
    pub async fn shutdown(self) -> Result<(), ShutdownTimeout> {
        self.hand_over().await;
        if let Some(events) = &self.events {
            events.hand_over().await;
        }
        self.shutdown.start();
        let ended = self.shutdown.wait_with_deadline(SHUTDOWN_LIMIT).await;
        if let Some(events) = &self.events {
            events.shutdown().await;
        }
        self.consensus.shutdown().await;
        ended
    }

    /// To the voter that has most of the log: one that has just come back would have to catch up first.
    async fn hand_over(&self) {
        if !self.is_leader() || self.consensus.members().voters.len() < 2 {
            return;
        }
        self.consensus.hand_over().await;
        let mut leadership = self.consensus.watch_leadership();
        let handed = leadership.wait_for(|l| !l.is_leader && l.leader.is_some());
        // Without a taker there will be an election.
        drop(tokio::time::timeout(TRANSFER_LIMIT, handed).await);
    }
}

async fn reason_of(mut fatal: watch::Receiver<Option<String>>) -> String {
    match fatal.wait_for(Option::is_some).await {
        Ok(reason) => reason.clone().unwrap_or_default(),
        // The end was in order: nothing fatal comes any more.
        Err(_) => std::future::pending().await,
    }
}

/// Controllers as the membership knows them, for blobs.
#[derive(Debug)]
struct Membership {
    consensus: Consensus<ReplicatedState>,
    configured: BTreeMap<u64, String>,
}

impl BlobPeers for Membership {
    fn controllers(&self) -> BTreeMap<u64, String> {
        let mut voters = self.consensus.members().voters;
        for (id, addr) in &self.configured {
            if let Some(known) = voters.get_mut(id) {
                known.clone_from(addr);
            }
        }
        voters
    }
}

/// The blob store, and what of it this controller collects.
struct Stores {
    store: Arc<dyn BlobStore>,
    local: LocalBlobs,
    collected: Arc<dyn BlobStore>,
    backups: Running,
}

/// Starts a controller. Returns once it listens; the cluster is formed in the background.
pub async fn start(options: Options, seams: Seams) -> Result<Controller, StartError> {
    start_on(options, seams, Arc::new(MachineStorage)).await
}

/// As [`start`], with the log and the snapshots on another disk.
pub async fn start_on(
    mut options: Options,
    mut seams: Seams,
    storage: Arc<dyn Storage>,
) -> Result<Controller, StartError> {
    options.validate().map_err(StartError::Options)?;
    let listen = options.listen_addr().map_err(StartError::Options)?;
    let admin = options.admin_addr().map_err(StartError::Options)?;
    let identity = ClusterIdentity::known(&options.cluster_id).map_err(StartError::ClusterId)?;
    let data_dir = claim(&options).map_err(StartError::DataDir)?;
    let me = (
        options.cluster_id.as_str(),
        NodeRole::Controller,
        options.node_id,
    );
    let tls = Tls::open(&options.tls, Some(&options.data_dir), me, &seams.clock);
    let tls = tls.map_err(StartError::Tls)?;
    // Everything but the admin port is between nodes.
    let plain = seams.net.clone();
    seams.net = tls.net(&plain, NodeRole::Controller);
    let listener = seams.net.listen(listen).await;
    let listener = listener.map_err(StartError::Listen)?;
    let admin_listener = plain.listen(admin).await;
    let admin_listener = admin_listener.map_err(StartError::Listen)?;
    let (addr, admin_addr) = (listener.local_addr(), admin_listener.local_addr());
    name_itself(&mut options, addr);

    let dialer = NetDialer {
        net: seams.net.clone(),
    };
    let consensus = Consensus::start(
        raft_options(&options, dialer.clone(), Arc::clone(&storage), &seams),
        ReplicatedState::default(),
    )
    .await
    .map_err(StartError::Consensus)?;
    let events = events::start(&options, dialer.clone(), storage, &seams).await?;
    let stores = stores(&options, &consensus, dialer)?;
    let health = Health::new(seams.clock.clone());
    let registry = Metrics::new("controller");
    let metrics = Arc::new(ControllerMetrics::new(&registry));
    let shutdown = Shutdown::new(health.clone());
    tls.register(&registry);
    shutdown.spawn("tls", tls.clone().watch(shutdown.token()));
    Admin {
        health: health.clone(),
        metrics: registry,
    }
    .spawn(admin_listener, &shutdown);

    let parts = Parts {
        options,
        seams,
        tls,
        identity,
        consensus: consensus.clone(),
        events: events.clone(),
        metrics,
        shutdown: shutdown.clone(),
    };
    parts.spawn_leader_and_server(&stores, listener);
    parts.spawn_background(stores, health);
    Ok(Controller {
        addr,
        admin_addr,
        consensus,
        events,
        shutdown,
        _data_dir: data_dir,
    })
}

/// The data directory, which is this node's and no other's.
fn claim(options: &Options) -> Result<DataDir, DataDirError> {
    let data_dir = DataDir::open(&options.data_dir)?;
    data_dir.claim(&Identity {
        cluster_id: options.cluster_id.clone(),
        role: "controller".to_owned(),
        node: options.node_id.to_string(),
    })?;
    Ok(data_dir)
}

/// Where others reach this node: as it says, else as the others were told; alone, where it listens.
fn name_itself(options: &mut Options, addr: SocketAddr) {
    let is_alone = options.peers.len() == 1;
    if let Some(own) = options.peers.get_mut(&options.node_id) {
        if !options.advertise.is_empty() {
            own.clone_from(&options.advertise);
        } else if is_alone {
            *own = addr.to_string();
        }
    }
}

fn raft_options(
    options: &Options,
    dialer: NetDialer,
    storage: Arc<dyn Storage>,
    seams: &Seams,
) -> raft::Options {
    let mut raft = raft::Options::new(
        options.node_id,
        options.cluster_id.clone(),
        options.data_dir.join("raft"),
        options.peers.clone(),
    );
    raft.dialer = Arc::new(dialer);
    raft.storage = storage;
    raft.clock = seams.clock.clone();
    raft.random = seams.random.clone();
    raft.request_timeout = options.raft.request_timeout.0;
    raft.patience = PATIENCE.min(raft.request_timeout);
    raft.snapshot_every = options.raft.snapshot_every;
    raft.keep_applied = options.raft.keep_applied;
    raft
}

fn stores(
    options: &Options,
    consensus: &Consensus<ReplicatedState>,
    dialer: NetDialer,
) -> Result<Stores, StartError> {
    let local = LocalBlobs::open(options.data_dir.join("blobs")).map_err(StartError::Blobs)?;
    if options.blobs.store == BlobStoreKind::S3 {
        let s3 = options.blobs.s3.to_store();
        let s3 = s3.map_err(|source| StartError::Secret {
            path: options.blobs.s3.secret_access_key_file.clone(),
            source,
        })?;
        let store: Arc<dyn BlobStore> = Arc::new(ObjectBlobs::s3(&s3).map_err(StartError::Blobs)?);
        return Ok(Stores {
            collected: Arc::clone(&store),
            store,
            local,
            backups: Running::default(),
        });
    }
    let membership = Membership {
        consensus: consensus.clone(),
        configured: options.peers.clone(),
    };
    let dialer: Arc<dyn Dialer> = Arc::new(dialer);
    let store = ReplicatedBlobs::new(
        options.node_id,
        options.cluster_id.clone(),
        local.clone(),
        Arc::new(membership),
        dialer,
    );
    Ok(Stores {
        store: Arc::new(store),
        collected: Arc::new(local.clone()),
        local,
        backups: Running::default(),
    })
}

/// What the tasks are made from.
struct Parts {
    options: Options,
    seams: Seams,
    tls: Tls,
    identity: ClusterIdentity,
    consensus: Consensus<ReplicatedState>,
    events: Option<Consensus<EventMachine>>,
    metrics: Arc<ControllerMetrics>,
    shutdown: Shutdown,
}

impl Parts {
    fn deps(&self) -> Deps {
        let workers = self.options.workers;
        let timing = PermitTiming {
            worker_ttl_ms: workers.lease.as_millis(),
            margin_ms: workers.margin.as_millis(),
            ..PermitTiming::default()
        };
        Deps {
            consensus: self.consensus.clone(),
            clock: self.seams.clock.clone(),
            random: self.seams.random.clone(),
            options: LeaderOptions {
                timing,
                silent_after_ms: workers.silent_after.as_millis(),
            },
            region: self.options.region.clone(),
            limits: AccountLimits {
                concurrency: self.options.accounts.concurrency,
                code_storage_bytes: self.options.accounts.code_storage.0,
            },
            metrics: Arc::clone(&self.metrics),
        }
    }

    fn spawn_leader_and_server(
        &self,
        stores: &Stores,
        listener: Box<dyn hearth_node::net::NetListener>,
    ) {
        let (current, leader) = watch::channel(None);
        let task = leader::run(self.deps(), current, self.shutdown.token());
        self.shutdown.spawn("leader", task);
        let router = self.router(stores, &leader);
        let options = self.options.server.clone();
        let stop = self.shutdown.token();
        self.shutdown.spawn("grpc", async move {
            if let Err(error) = grpc::serve(router, listener, &options, stop).await {
                tracing::error!(%error, "the gRPC server ended");
            }
        });
    }

    fn spawn_background(&self, stores: Stores, health: Health) {
        let watch = crate::watch::run(
            self.consensus.clone(),
            health,
            Arc::clone(&self.metrics),
            self.shutdown.token(),
        );
        self.shutdown.spawn("watch", watch);
        if self.options.blobs.store == BlobStoreKind::Local {
            let mirror = crate::mirror::run(
                self.consensus.clone(),
                stores.local.clone(),
                Arc::clone(&stores.store),
                self.shutdown.token(),
            );
            self.shutdown.spawn("mirror", mirror);
        }
        let collector = Collector {
            consensus: self.consensus.clone(),
            clock: self.seams.clock.clone(),
            metrics: Arc::clone(&self.metrics),
            is_shared: self.options.blobs.store == BlobStoreKind::S3,
            store: stores.collected,
            backups: stores.backups,
            grace: self.options.blobs.grace.0,
            every: self.options.blobs.collect_every.0,
        };
        let stop = self.shutdown.token();
        self.shutdown.spawn("collect", collector.run(stop));
        let handing = crate::drain::run(self.consensus.clone(), self.shutdown.token());
        self.shutdown.spawn("drain", handing);
        self.spawn_forming();
    }

    /// The lowest id forms the cluster, on its first start or whenever that has not happened yet.
    fn spawn_forming(&self) {
        let members = self.options.peers.clone();
        if members.keys().next() != Some(&self.options.node_id) {
            return;
        }
        let (consensus, stop) = (self.consensus.clone(), self.shutdown.token());
        self.shutdown.spawn("form", async move {
            while let Err(error) = consensus.initialize(&members).await {
                tracing::info!(%error, "the cluster is not formed yet");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(FORM_PAUSE) => {}
                }
            }
        });
    }
}
