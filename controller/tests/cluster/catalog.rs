//! The catalog's stream.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hearth_core::function::{Function, State};
use hearth_node::grpc::ClusterChannel;
use hearth_proto::convert;
use hearth_proto::internal::v1 as pb;
use pb::catalog_client::CatalogClient;
use pb::watch_catalog_request::Audience;
use sha2::Digest as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::Streaming;

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

/// Says what is followed, and keeps what is heard.
struct Follower {
    say: mpsc::Sender<pb::FollowRequest>,
    heard: Streaming<pb::FollowUpdate>,
}

impl Follower {
    async fn start(channel: ClusterChannel) -> Self {
        let (say, requests) = mpsc::channel(8);
        let mut client = CatalogClient::new(channel);
        let follow = client.follow(ReceiverStream::new(requests));
        let heard = follow.await.unwrap().into_inner();
        Self { say, heard }
    }

    async fn follow(&self, name: &str, digest: &[u8]) {
        let key = Some(named(name));
        let digest = digest.to_vec().into();
        let request = pb::FollowRequest {
            follow: vec![pb::FollowedFunction { key, digest }],
            ..pb::FollowRequest::default()
        };
        self.say.send(request).await.unwrap();
    }

    /// The next update that says something.
    async fn next(&mut self) -> pb::FollowUpdate {
        loop {
            let next = tokio::time::timeout(Duration::from_secs(30), self.heard.message());
            let update = next.await.expect("an update in time").unwrap().unwrap();
            if !update.functions.is_empty() || !update.absent.is_empty() {
                return update;
            }
        }
    }

    async fn next_document(&mut self) -> bytes::Bytes {
        self.next().await.functions.pop().expect("a document")
    }
}

fn named(name: &str) -> pb::FunctionKey {
    pb::FunctionKey {
        account: crate::harness::account().as_str().to_owned(),
        name: name.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_hears_of_what_it_follows_and_of_nothing_else() {
    let cluster = Cluster::start(3).await;
    cluster.function(1, &create("f")).await;
    let mut worker = Follower::start(cluster.channel(2)).await;
    worker.follow("f", &[]).await;
    let mut document = worker.next().await.functions;
    // That controller may have been behind.
    if document.is_empty() {
        document = worker.next().await.functions;
    }
    let first = convert::decode_function(&document[0]).unwrap();
    assert!(first.latest.config.environment.is_some());

    cluster.function(1, &create("g")).await;
    cluster.function(1, &reserve("f", Some(5))).await;
    let reserved = worker.next_document().await;
    let function = convert::decode_function(&reserved).unwrap();
    assert_eq!(
        (function.name.as_str(), function.reserved_concurrency),
        ("f", Some(5))
    );

    // One that has the document is not sent it again, and hears of the next change.
    let mut other = Follower::start(cluster.channel(2)).await;
    let digest = sha2::Sha256::digest(&reserved);
    other.follow("f", &digest).await;
    other.follow("missing", &[]).await;
    let update = other.next().await;
    assert_eq!(
        (update.functions.len(), update.absent),
        (0, vec![named("missing")])
    );
    cluster.function(1, &create("missing")).await;
    assert_eq!(
        convert::decode_function(&other.next_document().await)
            .unwrap()
            .name
            .as_str(),
        "missing"
    );

    cluster.ask(1, &delete("f")).await.unwrap();
    for follower in [&mut worker, &mut other] {
        assert_eq!(follower.next().await.absent, [named("f")]);
    }
}
