//! Keeps the catalog current: watches one controller, and the next one when it falls silent. Functions go to the
//! catalog, workers to the invoker.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use hearth_core::function::Function;
use hearth_core::iam::IamNews;
use hearth_core::ids::{Incarnation, NodeId};
use hearth_node::health::Health;
use hearth_proto::convert::decode_function;
use hearth_proto::internal::v1 as pb;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::{debug, warn};

use super::{Catalog, FunctionKey};
use crate::controllers::Controllers;
use crate::drain::Drain;
use crate::iam::directory::{Directory, Place};
use crate::invoke::{Invoker, WorkerAddress};

/// "an update without content every second so that silence means loss": three of them missing.
const SILENCE: Duration = Duration::from_millis(3_500);
/// Bounds of the pause before another controller is watched.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// What a full picture has named so far.
#[derive(Debug, Default)]
struct Picture {
    functions: HashSet<FunctionKey>,
    workers: HashSet<NodeId>,
    entities: HashSet<Place>,
}

/// What the watch works with.
#[derive(Debug)]
pub(crate) struct Watching {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) controllers: Arc<Controllers>,
    pub(crate) invoker: Arc<Invoker>,
    pub(crate) health: Health,
    pub(crate) drain: Drain,
    /// Where clients reach this gateway, for operators.
    pub(crate) addr: String,
}

/// Runs until the gateway ends.
pub(crate) async fn run(watching: Watching, token: CancellationToken) {
    let mut backoff = BACKOFF_MIN;
    let mut turn = 0;
    let mut is_known = false;
    loop {
        let watched = tokio::select! {
            () = token.cancelled() => return,
            watched = watching.watch_one(turn) => watched,
        };
        turn += 1;
        match watched {
            Ok(()) => {
                backoff = BACKOFF_MIN;
                is_known = true;
            }
            Err(status) => {
                debug!(%status, "catalog watch ended");
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
        if is_known {
            // Invocations go on without controllers.
            let reason = "no controller; as last received";
            watching.health.set_ready("catalog", true, reason);
        }
        tokio::select! {
            () = token.cancelled() => return,
            () = tokio::time::sleep(backoff) => {}
        }
    }
}

impl Watching {
    /// Watches one controller until it is lost; `Ok` when it gave a full picture before.
    async fn watch_one(&self, turn: usize) -> Result<(), Status> {
        let request = pb::WatchCatalogRequest {
            node_id: self.invoker.node_id.0,
            audience: pb::watch_catalog_request::Audience::Gateway.into(),
            addr: self.addr.clone(),
            release: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let silent = |_| Status::deadline_exceeded("silent");
        let mut client = self.controllers.catalog_client(turn)?;
        let opened = tokio::time::timeout(SILENCE, client.watch(request)).await;
        let mut updates = opened.map_err(silent)??.into_inner();
        let mut picture = Picture::default();
        let mut was_complete = false;
        // A controller says so with its first picture only if this gateway is to drain.
        let mut drain = false;
        loop {
            let next = tokio::time::timeout(SILENCE, updates.message()).await;
            let update = match next.map_err(silent).flatten() {
                Ok(Some(update)) => update,
                Ok(None) if was_complete => return Ok(()),
                Ok(None) => return Err(Status::unavailable("the controller ended the watch")),
                Err(_) if was_complete => return Ok(()),
                Err(status) => return Err(status),
            };
            let is_picture = update.complete && !was_complete;
            was_complete |= update.complete;
            if let Some(all) = &update.controllers {
                self.controllers.learn(&all.addrs);
            }
            if is_picture || update.drain.is_some() {
                drain = update.drain.unwrap_or(drain);
                self.drain.wish(drain);
            }
            take_iam(&self.directory, &mut picture, &update);
            take(&self.catalog, &self.invoker, &mut picture, update);
            if was_complete {
                self.health.set_ready("catalog", true, "complete");
            }
        }
    }
}

/// Before the rest: when an update completes a picture, what that names is known.
fn take_iam(directory: &Directory, picture: &mut Picture, update: &pb::CatalogUpdate) {
    if update.restart {
        picture.entities.clear();
    }
    let all = update.iam.iter();
    let news = all.filter_map(|bytes| {
        serde_json::from_slice::<IamNews>(bytes)
            .inspect_err(|error| warn!(%error, "news of IAM in the catalog cannot be read"))
            .ok()
    });
    let news: Vec<IamNews> = news.collect();
    for one in &news {
        let place = Place::new(&one.account, &one.key);
        if one.entity.is_some() {
            picture.entities.insert(place);
        } else {
            picture.entities.remove(&place);
        }
    }
    directory.merge(news);
    if update.complete {
        let named = std::mem::take(&mut picture.entities);
        directory.completed(|place| named.contains(place));
    }
}

fn take(
    catalog: &Catalog,
    invoker: &Arc<Invoker>,
    picture: &mut Picture,
    update: pb::CatalogUpdate,
) {
    if update.restart {
        picture.functions.clear();
        picture.workers.clear();
    }
    if let Some(limits) = &update.account_limits {
        catalog.quotas.set_limits(limits);
    }
    let functions: Vec<Function> = update
        .functions
        .iter()
        .filter_map(|bytes| readable(bytes))
        .collect();
    picture
        .functions
        .extend(functions.iter().map(|function| FunctionKey {
            account: function.account.clone(),
            name: function.name.clone(),
        }));
    catalog.merge(&functions);
    let gone: Vec<FunctionKey> = update
        .deleted_functions
        .iter()
        .filter_map(function_key)
        .collect();
    gone.iter().for_each(|key| {
        picture.functions.remove(key);
    });
    if !gone.is_empty() {
        catalog.forget(gone);
    }
    for worker in update.workers {
        picture.workers.insert(NodeId(worker.id));
        invoker.set_worker(WorkerAddress {
            id: NodeId(worker.id),
            incarnation: Incarnation(worker.incarnation),
            addr: worker.addr,
            draining: worker.draining,
        });
    }
    for id in update.deleted_workers {
        picture.workers.remove(&NodeId(id));
        invoker.unlist_worker(NodeId(id));
    }
    if update.complete {
        let picture = std::mem::take(picture);
        catalog.completed(|key| picture.functions.contains(key));
        invoker.retain_workers(|id| picture.workers.contains(&id));
    }
}

/// A function of a newer version of Hearth that this one cannot read is left out.
fn readable(bytes: &[u8]) -> Option<Function> {
    decode_function(bytes)
        .inspect_err(|error| warn!(%error, "function in the catalog cannot be read"))
        .ok()
}

fn function_key(key: &pb::FunctionKey) -> Option<FunctionKey> {
    Some(FunctionKey {
        account: key.account.parse().ok()?,
        name: key.name.parse().ok()?,
    })
}
