//! What is invocable, as controllers push it: every version with its code and configuration, by its key. Rules of
//! what a version is are in `hearth_core::function`; nothing here decides whether it may run.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hearth_core::function::{Function, FunctionVersion};
use hearth_core::ids::{AccountId, PoolKey, Version, VersionKey};
use hearth_core::name::FunctionName;
use hearth_core::versions::Pools;
use hearth_node::Seams;
use hearth_proto::convert::decode_function;
use hearth_proto::internal::v1 as pb;
use pb::catalog_client::CatalogClient;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::controllers::Controllers;

/// A controller that says nothing for so long is gone; it speaks every second.
const SILENCE: Duration = Duration::from_secs(4);

/// Longest and shortest pause before the next controller is asked.
const BACKOFF_MAX: Duration = Duration::from_secs(2);
const BACKOFF_MIN: Duration = Duration::from_millis(50);

/// Largest update taken, bytes: many function documents.
const UPDATE_MAX_BYTES: usize = 64 << 20;

/// A version that may be run here.
#[derive(Debug)]
pub(crate) struct Runnable {
    pub(crate) version: Arc<FunctionVersion>,
    /// What its invocations are counted over.
    pub(crate) pools: Pools,
}

type FunctionKey = (AccountId, FunctionName);

/// A clonable handle.
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalog {
    state: Arc<RwLock<State>>,
}

#[derive(Debug, Default)]
struct State {
    runnable: HashMap<VersionKey, Arc<Runnable>>,
    /// Keys of each function: those it has now, and those of the picture before, which gateways may still ask for.
    keys: HashMap<FunctionKey, Keys>,
    /// Functions named by a full picture that is still coming in.
    picture: Option<HashSet<FunctionKey>>,
}

#[derive(Debug, Default)]
struct Keys {
    now: Vec<VersionKey>,
    before: Vec<VersionKey>,
}

impl Catalog {
    pub(crate) fn find(&self, key: &VersionKey) -> Option<Arc<Runnable>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.runnable.get(key).cloned()
    }

    /// The version whose provisioned concurrency a pool is.
    pub(crate) fn find_provisioned(&self, pool: &PoolKey) -> Option<(VersionKey, Arc<Runnable>)> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let name = (pool.account.clone(), pool.function.clone()?);
        let version = Version::Number(pool.provisioned?);
        let mut keys = state.keys.get(&name)?.now.iter();
        let key = keys.find(|key| key.version == version)?;
        let runnable = state.runnable.get(key)?;
        Some((key.clone(), Arc::clone(runnable)))
    }

    pub(crate) fn contains(&self, key: &VersionKey) -> bool {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.runnable.contains_key(key)
    }

    /// Takes a function as it is now.
    pub(crate) fn put(&self, function: &Function) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.put(function);
    }

    fn apply(&self, update: &pb::CatalogUpdate) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if update.restart {
            state.picture = Some(HashSet::new());
        }
        for bytes in &update.functions {
            match decode_function(bytes) {
                Ok(function) => state.put(&function),
                Err(error) => warn!(%error, "function of the catalog skipped"),
            }
        }
        for deleted in &update.deleted_functions {
            if let (Ok(account), Ok(name)) = (deleted.account.parse(), deleted.name.parse()) {
                state.delete(&(account, name));
            }
        }
        if update.complete {
            state.complete();
        }
    }
}

impl State {
    fn put(&mut self, function: &Function) {
        let name = (function.account.clone(), function.name.clone());
        if let Some(picture) = &mut self.picture {
            picture.insert(name.clone());
        }
        let published = function.versions.values().map(|v| &v.snapshot);
        let versions = std::iter::once(&function.latest)
            .chain(&function.serving)
            .chain(published);
        let mut now: Vec<VersionKey> = Vec::new();
        for version in versions {
            let key = function.version_key(version);
            self.put_version(&key, version, function.pools(key.version));
            now.push(key);
        }
        let keys = self.keys.entry(name).or_default();
        if keys.now != now {
            let older = std::mem::replace(&mut keys.before, std::mem::replace(&mut keys.now, now));
            let stale = older
                .iter()
                .filter(|key| !keys.now.contains(key) && !keys.before.contains(key));
            for key in stale {
                self.runnable.remove(key);
            }
        }
        // The pool may have changed for the generation before as well.
        for key in &keys.before {
            if let Some(old) = self.runnable.get_mut(key) {
                *old = Arc::new(Runnable {
                    version: Arc::clone(&old.version),
                    pools: function.pools(key.version),
                });
            }
        }
    }

    /// A published version is never another under the same key, and mostly in the same pools.
    fn put_version(&mut self, key: &VersionKey, version: &FunctionVersion, pools: Pools) {
        let known = self.runnable.get(key);
        if known.is_some_and(|known| known.pools == pools && *known.version == *version) {
            return;
        }
        let version = Arc::new(version.clone());
        self.runnable
            .insert(key.clone(), Arc::new(Runnable { version, pools }));
    }

    fn delete(&mut self, name: &FunctionKey) {
        if let Some(keys) = self.keys.remove(name) {
            for key in keys.now.iter().chain(&keys.before) {
                self.runnable.remove(key);
            }
        }
    }

    /// The full picture is there: what it did not name is no more.
    fn complete(&mut self) {
        let Some(picture) = self.picture.take() else {
            return;
        };
        let gone: Vec<FunctionKey> = self
            .keys
            .keys()
            .filter(|name| !picture.contains(*name))
            .cloned()
            .collect();
        for name in &gone {
            self.delete(name);
        }
    }
}

/// Keeps the catalog current until told to stop. While no controller answers, it stays as it is.
pub(crate) async fn watch(
    catalog: Catalog,
    controllers: Controllers,
    node_id: u64,
    seams: Seams,
    token: CancellationToken,
) {
    let mut pause = BACKOFF_MIN;
    while !token.is_cancelled() {
        for controller in controllers.in_random_order(&seams) {
            let watching = watch_one(&catalog, &controllers, &controller, node_id);
            let ended = tokio::select! {
                () = token.cancelled() => return,
                ended = watching => ended,
            };
            match ended {
                Ok(()) => pause = BACKOFF_MIN,
                Err(error) => info!(%controller, error, "catalog not followed"),
            }
        }
        tokio::select! {
            () = token.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(BACKOFF_MAX);
    }
}

/// Follows one controller until it falls silent; an error when it never spoke.
async fn watch_one(
    catalog: &Catalog,
    controllers: &Controllers,
    addr: &str,
    node_id: u64,
) -> Result<(), String> {
    let channel = controllers.channel(addr).map_err(|e| e.to_string())?;
    let mut client = CatalogClient::new(channel).max_decoding_message_size(UPDATE_MAX_BYTES);
    let request = pb::WatchCatalogRequest {
        node_id,
        audience: pb::watch_catalog_request::Audience::Worker.into(),
        ..pb::WatchCatalogRequest::default()
    };
    let opened = hearth_node::grpc::with_deadline(client.watch(request), SILENCE).await;
    let mut updates = opened.map_err(|e| e.message().to_owned())?.into_inner();
    let mut spoke = false;
    loop {
        match hearth_node::grpc::with_deadline(updates.message(), SILENCE).await {
            Ok(Some(update)) => {
                spoke = true;
                if let Some(all) = &update.controllers {
                    controllers.learn(all.addrs.clone());
                }
                catalog.apply(&update);
            }
            Ok(None) | Err(_) if spoke => return Ok(()),
            Ok(None) => return Err("ended at once".to_owned()),
            Err(status) => return Err(status.message().to_owned()),
        }
    }
}

#[cfg(test)]
#[path = "catalog_tests.rs"]
mod tests;
