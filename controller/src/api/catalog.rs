//! The catalog as a stream: a full picture, then every change in log order, then silence broken once a
//! second so that silence means loss. A reader that falls too far behind is started anew.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hearth_core::function::Function;
use hearth_core::ids::NodeId;
use hearth_proto::convert;
use hearth_proto::internal::v1 as pb;
use pb::catalog_server::Catalog;
use pb::watch_catalog_request::Audience;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, mpsc};
use tokio::time::MissedTickBehavior;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::readers::Readers;
use crate::machine::{Change, ReplicatedState};
use crate::metrics::ControllerMetrics;
use crate::raft::Consensus;
use crate::state::command::Role;
use crate::state::nodes::Worker;

/// Documents in one update, bytes. Well below a gRPC message's limit, and large enough to be few.
const UPDATE_BYTES: usize = 256 * 1024;
/// Updates that wait for one reader: about 4 MB. What it does not read waits in the shared feed.
const UPDATES_MAX: usize = 16;
/// "An update without content every second so that silence means loss."
const IDLE: Duration = Duration::from_secs(1);
/// Readers at a time: every gateway and worker of a large cluster.
const READERS_MAX: i64 = 2_048;

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct CatalogService {
    pub(crate) consensus: Consensus<ReplicatedState>,
    /// The operator's, for gateways.
    pub(crate) limits: pb::AccountLimits,
    pub(crate) metrics: Arc<ControllerMetrics>,
    pub(crate) stop: CancellationToken,
    pub(crate) readers: Readers,
}

#[tonic::async_trait]
impl Catalog for CatalogService {
    type WatchStream = ReceiverStream<Result<pb::CatalogUpdate, Status>>;

    async fn watch(
        &self,
        request: Request<pb::WatchCatalogRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let audience = request.get_ref().audience();
        if audience == Audience::Unspecified {
            return Err(Status::invalid_argument("the audience is missing"));
        }
        let readers = Arc::clone(&self.metrics);
        if readers.catalog_readers.inc() >= READERS_MAX {
            readers.catalog_readers.dec();
            return Err(Status::resource_exhausted(
                "too many readers of the catalog",
            ));
        }
        let (updates, stream) = mpsc::channel(UPDATES_MAX);
        let feed = Feed {
            consensus: self.consensus.clone(),
            limits: self.limits,
            metrics: Arc::clone(&self.metrics),
            with_environment: audience == Audience::Worker,
            gateway: (audience == Audience::Gateway).then_some(NodeId(request.get_ref().node_id)),
            updates,
        };
        let reading = feed.gateway.map(|_| self.readers.begin(request.get_ref()));
        let stop = self.stop.clone();
        tokio::spawn(async move {
            let _reading = reading;
            tokio::select! {
                () = stop.cancelled() => {}
                () = feed.updates.closed() => {}
                () = feed.run() => {}
            }
            readers.catalog_readers.dec();
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// One reader.
struct Feed {
    consensus: Consensus<ReplicatedState>,
    limits: pb::AccountLimits,
    metrics: Arc<ControllerMetrics>,
    with_environment: bool,
    /// The reader, if it is a gateway.
    gateway: Option<NodeId>,
    updates: mpsc::Sender<Result<pb::CatalogUpdate, Status>>,
}

/// The reader has gone.
struct Gone;

/// What a reader was last told besides the catalog.
#[derive(Default)]
struct Told {
    controllers: Vec<String>,
    drain: bool,
}

impl Feed {
    async fn run(&self) {
        while self.picture_and_changes().await.is_ok() {
            self.metrics.catalog_restarts.inc();
        }
    }

    async fn send(&self, update: pb::CatalogUpdate) -> Result<(), Gone> {
        self.updates.send(Ok(update)).await.map_err(|_| Gone)
    }

    /// Adds what has changed besides the catalog; false if nothing has.
    fn note(&self, told: &mut Told, update: &mut pb::CatalogUpdate) -> bool {
        let members = self.consensus.members();
        let all = members
            .voters
            .into_values()
            .chain(members.learners.into_values());
        let addrs: Vec<String> = all.collect();
        let has_moved = !addrs.is_empty() && addrs != told.controllers;
        if has_moved {
            told.controllers.clone_from(&addrs);
            update.controllers = Some(pb::Controllers { addrs });
        }
        let drain = self.gateway.is_some_and(|id| {
            self.consensus
                .read(|m| m.state().nodes.is_drain_wanted(Role::Gateway, id))
        });
        let is_changed = drain != told.drain;
        if is_changed {
            told.drain = drain;
            update.drain = Some(drain);
        }
        has_moved || is_changed
    }

    /// Ends when the feed has lost changes or the state was replaced.
    async fn picture_and_changes(&self) -> Result<(), Gone> {
        let (index, mut changes, functions, workers) = self.consensus.read(|m| {
            let (index, changes) = m.subscribe();
            let functions: Vec<Function> = m.state().functions.iter().cloned().collect();
            let nodes = &m.state().nodes;
            let workers: Vec<(NodeId, Worker, bool)> = nodes
                .workers()
                .map(|(id, w)| (id, w.clone(), nodes.is_drain_wanted(Role::Worker, id)))
                .collect();
            (index, changes, functions, workers)
        });
        let mut update = pb::CatalogUpdate {
            index,
            restart: true,
            account_limits: Some(self.limits),
            ..pb::CatalogUpdate::default()
        };
        for (id, worker, drain) in workers {
            push_worker(&mut update, id, Some(&worker), drain);
        }
        let mut bytes = 0;
        for function in functions {
            bytes += self.push_function(&mut update, &function);
            if bytes >= UPDATE_BYTES {
                bytes = 0;
                let next = pb::CatalogUpdate {
                    index,
                    ..pb::CatalogUpdate::default()
                };
                self.send(std::mem::replace(&mut update, next)).await?;
            }
        }
        update.complete = true;
        let mut told = Told::default();
        self.note(&mut told, &mut update);
        self.send(update).await?;
        self.changes(&mut changes, &mut told).await
    }

    async fn changes(
        &self,
        changes: &mut broadcast::Receiver<Change>,
        told: &mut Told,
    ) -> Result<(), Gone> {
        let mut idle = tokio::time::interval(IDLE);
        idle.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let first = tokio::select! {
                change = changes.recv() => match change {
                    Ok(change) => change,
                    Err(RecvError::Lagged(_) | RecvError::Closed) => return Ok(()),
                },
                _ = idle.tick() => {
                    // Read before looking at the feed: changes up to it have arrived there by then.
                    let index = self.consensus.applied_index();
                    if changes.is_empty() {
                        let mut update = pb::CatalogUpdate { index, ..pb::CatalogUpdate::default() };
                        self.note(told, &mut update);
                        self.send(update).await?;
                    }
                    continue;
                }
            };
            let mut update = pb::CatalogUpdate::default();
            let mut bytes = 0;
            let mut next = Ok(first);
            loop {
                match next {
                    Ok(Change::Restored) | Err(TryRecvError::Lagged(_)) => return Ok(()),
                    Ok(change) => bytes += self.push(&mut update, change),
                    Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                }
                if bytes >= UPDATE_BYTES {
                    break;
                }
                next = changes.try_recv();
            }
            self.note(told, &mut update);
            self.send(update).await?;
        }
    }

    /// Adds a change; a later one about the same thing comes later in the update, or in a later one.
    fn push(&self, update: &mut pb::CatalogUpdate, change: Change) -> usize {
        match change {
            Change::Function {
                index,
                account,
                name,
                function,
            } => {
                update.index = index;
                let key = pb::FunctionKey {
                    account: account.as_str().to_owned(),
                    name: name.as_str().to_owned(),
                };
                // An update holds documents and deletions apart: the newest word on a function must be the
                // only one.
                update.deleted_functions.retain(|k| *k != key);
                match function {
                    Some(function) => self.push_function(update, &function),
                    None => {
                        update.functions.retain(|bytes| {
                            convert::decode_function(bytes)
                                .is_ok_and(|f| f.account != account || f.name != name)
                        });
                        update.deleted_functions.push(key);
                        0
                    }
                }
            }
            Change::Worker {
                index,
                id,
                worker,
                drain,
            } => {
                update.index = index;
                update.workers.retain(|w| w.id != id.0);
                update.deleted_workers.retain(|w| *w != id.0);
                push_worker(update, id, worker.as_deref(), drain);
                0
            }
            // Whom it is about is told by the caller.
            Change::Drain { index } => {
                update.index = index;
                0
            }
            // Handled by the caller.
            Change::Restored => 0,
        }
    }

    fn push_function(&self, update: &mut pb::CatalogUpdate, function: &Function) -> usize {
        let bytes: Bytes = if self.with_environment {
            convert::encode_function(function)
        } else {
            let mut function = function.clone();
            function.latest.config.environment = None;
            if let Some(serving) = &mut function.serving {
                serving.config.environment = None;
            }
            for version in function.versions.values_mut() {
                version.snapshot.config.environment = None;
            }
            convert::encode_function(&function)
        };
        let length = bytes.len();
        update.functions.push(bytes);
        length
    }
}

/// A worker that is not heard is not there, to whoever might send it something.
fn push_worker(update: &mut pb::CatalogUpdate, id: NodeId, worker: Option<&Worker>, drain: bool) {
    match worker.filter(|w| w.reachable) {
        Some(worker) => update.workers.push(pb::WorkerAddress {
            id: id.0,
            incarnation: worker.registration.incarnation.0,
            addr: worker.registration.addr.clone(),
            draining: worker.draining || drain,
        }),
        None => update.deleted_workers.push(id.0),
    }
}
