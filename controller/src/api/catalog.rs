//! The catalog as a stream: a full picture, then every change in log order, then silence broken once a
//! second so that silence means loss. A reader that falls too far behind is started anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hearth_core::iam::{IamKey, IamNews};
use hearth_core::ids::{AccountId, NodeId};
use hearth_core::name::FunctionName;
use hearth_node::grpc;
use hearth_node::tls::NodeRole;
use hearth_proto::internal::v1 as pb;
use pb::catalog_server::Catalog;
use pb::watch_catalog_request::Audience;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, mpsc};
use tokio::time::MissedTickBehavior;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::follow::{self, Followers};
use super::readers::Readers;
use super::roles::Issuer;
use crate::document::Document;
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
/// Readers at a time: every gateway and worker of a large cluster, when this controller is the last one.
const READERS_MAX: i64 = 8_192;

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct CatalogService {
    pub(crate) consensus: Consensus<ReplicatedState>,
    /// The operator's, for gateways.
    pub(crate) limits: pb::AccountLimits,
    pub(crate) metrics: Arc<ControllerMetrics>,
    pub(crate) stop: CancellationToken,
    pub(crate) readers: Readers,
    pub(crate) followers: Followers,
    pub(crate) issuer: Arc<Issuer>,
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
        // Functions' environments are for workers.
        let role = match audience {
            Audience::Worker => NodeRole::Worker,
            Audience::Gateway | Audience::Unspecified => NodeRole::Gateway,
        };
        grpc::check_claim(request.extensions(), role, request.get_ref().node_id)?;
        let place = self.place()?;
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
            let _held = (place, reading);
            tokio::select! {
                () = stop.cancelled() => {}
                () = feed.updates.closed() => {}
                () = feed.run() => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    type FollowStream = ReceiverStream<Result<pb::FollowUpdate, Status>>;

    async fn follow(
        &self,
        requests: Request<Streaming<pb::FollowRequest>>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let place = self.place()?;
        let (updates, stream) = mpsc::channel(follow::UPDATES_MAX);
        let feed = follow::Feed {
            consensus: self.consensus.clone(),
            followers: self.followers.clone(),
            issuer: Arc::clone(&self.issuer),
            updates: updates.clone(),
        };
        let stop = self.stop.clone();
        tokio::spawn(async move {
            let _held = place;
            tokio::select! {
                () = stop.cancelled() => {}
                () = updates.closed() => {}
                () = feed.run(requests.into_inner()) => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

impl CatalogService {
    /// One more reader, if there is a place for it.
    fn place(&self) -> Result<Place, Status> {
        let place = Place(Arc::clone(&self.metrics));
        if self.metrics.catalog_readers.inc() >= READERS_MAX {
            return Err(Status::resource_exhausted(
                "too many readers of the catalog",
            ));
        }
        Ok(place)
    }
}

/// A reader's place.
struct Place(Arc<ControllerMetrics>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.catalog_readers.dec();
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
        let (index, mut changes, functions, workers, iam) = self.consensus.read(|m| {
            let (index, changes) = m.subscribe();
            let functions: Vec<Document> = m
                .state()
                .functions
                .iter()
                .map(|f| Document::new(f.clone()))
                .collect();
            let nodes = &m.state().nodes;
            let workers: Vec<(NodeId, Worker, bool)> = nodes
                .workers()
                .map(|(id, w)| (id, w.clone(), nodes.is_drain_wanted(Role::Worker, id)))
                .collect();
            let iam: Vec<IamNews> = match self.gateway {
                Some(_) => m.state().iam.news().collect(),
                None => Vec::new(),
            };
            (index, changes, functions, workers, iam)
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
        let documents = functions
            .iter()
            .map(|function| (true, self.encoded(function)));
        let documents = documents.chain(iam.iter().map(|news| (false, encoded_news(news))));
        for (is_function, document) in documents {
            bytes += document.len();
            if is_function {
                update.functions.push(document);
            } else {
                update.iam.push(document);
            }
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
            let mut batch = Batch::default();
            let mut next = Ok(first);
            loop {
                match next {
                    Ok(Change::Restored) | Err(TryRecvError::Lagged(_)) => return Ok(()),
                    Ok(change) => self.push(&mut batch, change),
                    Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                }
                if batch.bytes >= UPDATE_BYTES {
                    break;
                }
                next = changes.try_recv();
            }
            let mut update = batch.into_update();
            self.note(told, &mut update);
            self.send(update).await?;
        }
    }

    /// Adds a change; the newest word on a function or a worker is the only one in an update.
    fn push(&self, batch: &mut Batch, change: Change) {
        match change {
            Change::Function {
                index,
                account,
                name,
                function,
            } => {
                batch.update.index = index;
                let document = function.map(|function| self.encoded(&function));
                batch.bytes += document.as_ref().map_or(0, Bytes::len);
                batch.functions.insert((account, name), document);
            }
            Change::Iam {
                index,
                account,
                key,
                entity,
            } => {
                batch.update.index = index;
                if self.gateway.is_some() {
                    let of = (account.clone(), key.clone());
                    let entity = entity.as_deref().cloned();
                    let news = encoded_news(&IamNews {
                        account,
                        key,
                        entity,
                    });
                    batch.bytes += news.len();
                    batch.iam.insert(of, news);
                }
            }
            Change::Worker {
                index,
                id,
                worker,
                drain,
            } => {
                let update = &mut batch.update;
                update.index = index;
                update.workers.retain(|w| w.id != id.0);
                update.deleted_workers.retain(|w| *w != id.0);
                push_worker(update, id, worker.as_deref(), drain);
            }
            // Whom it is about is told by the caller.
            Change::Drain { index } => batch.update.index = index,
            // Handled by the caller.
            Change::Restored => {}
        }
    }

    fn encoded(&self, function: &Document) -> Bytes {
        if self.with_environment {
            function.whole()
        } else {
            function.bare()
        }
    }
}

fn encoded_news(news: &IamNews) -> Bytes {
    serde_json::to_vec(news)
        .expect("news have string keys and no failing serializers")
        .into()
}

/// Changes that are told together.
#[derive(Default)]
struct Batch {
    update: pb::CatalogUpdate,
    /// Documents; `None` for what was deleted.
    functions: BTreeMap<(AccountId, FunctionName), Option<Bytes>>,
    /// News of roles, users, groups and policies.
    iam: BTreeMap<(AccountId, IamKey), Bytes>,
    /// Of the documents.
    bytes: usize,
}

impl Batch {
    fn into_update(self) -> pb::CatalogUpdate {
        let mut update = self.update;
        update.iam.extend(self.iam.into_values());
        for ((account, name), document) in self.functions {
            match document {
                Some(document) => update.functions.push(document),
                None => update.deleted_functions.push(pb::FunctionKey {
                    account: account.as_str().to_owned(),
                    name: name.as_str().to_owned(),
                }),
            }
        }
        update
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
