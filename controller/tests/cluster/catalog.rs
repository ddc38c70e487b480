//! The catalog's stream.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use hearth_core::function::{Function, State};
use hearth_node::grpc::ClusterChannel;
use hearth_proto::convert;
use hearth_proto::internal::v1 as pb;
use pb::catalog_client::CatalogClient;
use pb::watch_catalog_request::Audience;
use tokio_util::task::AbortOnDropHandle;

use crate::harness::{Cluster, create, delete, reserve, until};
use crate::scripted_worker::ScriptedWorker;

/// A reader's copy.
#[derive(Default)]
pub(crate) struct Copy {
    pub(crate) functions: BTreeMap<String, Function>,
    pub(crate) workers: BTreeMap<u64, String>,
    pub(crate) index: u64,
    pub(crate) is_complete: bool,
    pub(crate) idle_updates: u32,
}

pub(crate) struct Reader {
    pub(crate) copy: Arc<Mutex<Copy>>,
    _task: AbortOnDropHandle<()>,
}

impl Reader {
    pub(crate) fn start(channel: ClusterChannel, audience: Audience) -> Self {
        let copy = Arc::<Mutex<Copy>>::default();
        let shared = Arc::clone(&copy);
        let task = tokio::spawn(async move {
            let request = pb::WatchCatalogRequest {
                node_id: 9,
                audience: audience.into(),
                ..pb::WatchCatalogRequest::default()
            };
            let mut updates = CatalogClient::new(channel)
                .watch(request)
                .await
                .unwrap()
                .into_inner();
            while let Ok(Some(update)) = updates.message().await {
                shared.lock().unwrap().take(update);
            }
        });
        Self {
            copy,
            _task: AbortOnDropHandle::new(task),
        }
    }

    pub(crate) async fn until(&self, what: &str, condition: impl Fn(&Copy) -> bool) {
        until(what, async || {
            condition(&self.copy.lock().unwrap()).then_some(())
        })
        .await;
    }
}

impl Copy {
    fn take(&mut self, update: pb::CatalogUpdate) {
        if update.restart {
            *self = Self::default();
        }
        assert!(update.index >= self.index, "updates are in log order");
        self.index = update.index;
        self.is_complete |= update.complete;
        let is_idle = !update.complete && update.functions.is_empty() && update.workers.is_empty();
        self.idle_updates += u32::from(is_idle);
        for bytes in update.functions {
            let function = convert::decode_function(&bytes).unwrap();
            self.functions.insert(function.name.to_string(), function);
        }
        for key in update.deleted_functions {
            self.functions.remove(&key.name);
        }
        for worker in update.workers {
            self.workers.insert(worker.id, worker.addr);
        }
        for id in update.deleted_workers {
            self.workers.remove(&id);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_the_picture_and_then_every_change() {
    let cluster = Cluster::start(3).await;
    cluster.function(1, &create("old")).await;
    let reader = Reader::start(cluster.channel(2), Audience::Gateway);
    let worker_view = Reader::start(cluster.channel(3), Audience::Worker);
    reader
        .until("the picture", |c| {
            c.is_complete && c.functions.contains_key("old")
        })
        .await;

    cluster.function(3, &create("new")).await;
    cluster.ask(1, &delete("old")).await.unwrap();
    cluster.function(1, &reserve("new", Some(5))).await;
    for reader in [&reader, &worker_view] {
        reader
            .until("the newest word", |c| {
                let new = c.functions.get("new");
                !c.functions.contains_key("old")
                    && new.is_some_and(|f| f.reserved_concurrency == Some(5))
            })
            .await;
    }
    let environment = |reader: &Reader| {
        let copy = reader.copy.lock().unwrap();
        copy.functions["new"].latest.config.environment.is_some()
    };
    assert!(!environment(&reader), "gateways learn no environments");
    assert!(environment(&worker_view));
    reader.until("a sign of life", |c| c.idle_updates > 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_worker_leaves_the_catalog_and_comes_back() {
    let cluster = Cluster::start(1).await;
    let reader = Reader::start(cluster.channel(1), Audience::Gateway);
    let worker = ScriptedWorker::start(&cluster, 11, 1).await;
    reader
        .until("the worker", |c| {
            c.workers.get(&11).is_some_and(|a| a == "worker-11:1")
        })
        .await;
    drop(worker);
    reader.until("its absence", |c| c.workers.is_empty()).await;
    let _worker = ScriptedWorker::start(&cluster, 11, 2).await;
    reader
        .until("its return", |c| c.workers.contains_key(&11))
        .await;
    cluster.function(1, &create("f")).await;
    reader
        .until("an active function", |c| {
            c.functions
                .get("f")
                .is_some_and(|f| f.state == State::Active)
        })
        .await;
}
