//! A worker against played controllers over real gRPC: one that does not lead and names the one that does; the leader
//! registers, grants, shrinks, prepares; both serve catalog and code.

use std::pin::Pin;
use std::sync::Mutex;

use futures::Stream;
use hearth_proto::convert::encode_function;
use hearth_proto::internal::v1 as pb;
use pb::blob_peer_server::{BlobPeer, BlobPeerServer};
use pb::catalog_server::{Catalog as CatalogApi, CatalogServer};
use pb::worker_order::Order;
use pb::worker_registry_server::{WorkerRegistry, WorkerRegistryServer};
use pb::worker_report::Report;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::*;
use crate::sandbox::driver::ExitStatus;
use crate::sandbox::fake::FakeDriver;
use crate::test_support::{ACCOUNT, code_of, fake_runtimes, function, version, zip_of};

type Orders = mpsc::Sender<Result<pb::WorkerOrder, Status>>;

type Out<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A played controller.
#[derive(Debug, Clone)]
struct Played {
    /// Empty: this one leads.
    leader_addr: String,
    function: bytes::Bytes,
    package: Vec<u8>,
    /// What the leader hears.
    heard: mpsc::Sender<Report>,
    /// Where the test puts what the leader says.
    say: Arc<Mutex<Option<Orders>>>,
}

fn order(order: Order) -> pb::WorkerOrder {
    pb::WorkerOrder { order: Some(order) }
}

#[tonic::async_trait]
impl WorkerRegistry for Played {
    type SessionStream = Out<pb::WorkerOrder>;

    async fn session(
        &self,
        request: Request<Streaming<pb::WorkerReport>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (say, orders) = mpsc::channel(16);
        if !self.leader_addr.is_empty() {
            let not_leader = pb::NotLeader {
                leader_id: 2,
                leader_addr: self.leader_addr.clone(),
            };
            say.send(Ok(order(Order::NotLeader(not_leader))))
                .await
                .unwrap();
            return Ok(Response::new(Box::pin(ReceiverStream::new(orders))));
        }
        *self.say.lock().unwrap() = Some(say.clone());
        let heard = self.heard.clone();
        let mut reports = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(report)) = reports.message().await {
                let report = report.report.unwrap();
                if let Report::Heartbeat(beat) = &report {
                    let renewal = pb::Renewal {
                        sent_at_ms: beat.sent_at_ms,
                        session: beat.session,
                        superseded: false,
                    };
                    let _ = say.send(Ok(order(Order::Renewal(renewal)))).await;
                }
                if heard.send(report).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(orders))))
    }
}

#[tonic::async_trait]
impl CatalogApi for Played {
    type WatchStream = Out<pb::CatalogUpdate>;

    async fn watch(
        &self,
        _: Request<pb::WatchCatalogRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented(""))
    }

    type FollowStream = Out<pb::FollowUpdate>;

    /// Tells of the one function there is, once it is asked for.
    async fn follow(
        &self,
        request: Request<Streaming<pb::FollowRequest>>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let function = self.function.clone();
        let updates = futures::StreamExt::map(request.into_inner(), move |request| {
            let is_asked = !request?.follow.is_empty();
            Ok(pb::FollowUpdate {
                index: 1,
                functions: is_asked.then(|| function.clone()).into_iter().collect(),
                ..Default::default()
            })
        });
        Ok(Response::new(Box::pin(updates)))
    }
}

#[tonic::async_trait]
impl BlobPeer for Played {
    type GetBlobStream = Out<pb::BlobChunk>;

    async fn put_blob(
        &self,
        _: Request<Streaming<pb::PutBlobRequest>>,
    ) -> Result<Response<pb::PutBlobReply>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_blob(
        &self,
        _: Request<pb::GetBlobRequest>,
    ) -> Result<Response<Self::GetBlobStream>, Status> {
        let chunks: Vec<_> = self
            .package
            .chunks(50)
            .map(|data| {
                Ok(pb::BlobChunk {
                    data: data.to_vec().into(),
                })
            })
            .collect();
        Ok(Response::new(Box::pin(futures::stream::iter(chunks))))
    }

    async fn has_blob(
        &self,
        _: Request<pb::HasBlobRequest>,
    ) -> Result<Response<pb::HasBlobReply>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn delete_blob(
        &self,
        _: Request<pb::DeleteBlobRequest>,
    ) -> Result<Response<pb::DeleteBlobReply>, Status> {
        Err(Status::unimplemented(""))
    }
}

async fn serve(played: Played) -> String {
    let seams = Seams::system();
    let listener = seams
        .net
        .listen("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let addr = listener.local_addr().to_string();
    let options = grpc::ServerOptions::default();
    let router = grpc::server(&options, &ClusterIdentity::unknown())
        .add_service(WorkerRegistryServer::new(played.clone()))
        .add_service(CatalogServer::new(played.clone()))
        .add_service(BlobPeerServer::new(played));
    tokio::spawn(
        async move { grpc::serve(router, listener, &options, CancellationToken::new()).await },
    );
    addr
}

struct Leader {
    say: Orders,
    heard: mpsc::Receiver<Report>,
}

impl Leader {
    async fn tell(&self, what: Order) {
        self.say.send(Ok(order(what))).await.unwrap();
    }

    /// The next report that `pick` takes.
    async fn hear<T>(&mut self, pick: impl Fn(Report) -> Option<T>) -> T {
        let hearing = async {
            loop {
                let report = self.heard.recv().await.expect("the worker reports");
                if let Some(found) = pick(report) {
                    return found;
                }
            }
        };
        let heard = tokio::time::timeout(Duration::from_secs(20), hearing).await;
        heard.expect("a report in time")
    }
}

/// A worker that knows a controller which does not lead, and the controller that does.
async fn worker_and_leader(dir: &std::path::Path) -> (Worker, Leader, VersionKey) {
    fake_runtimes(&dir.join("runtimes"));
    let package = zip_of(&[("app.py", b"print('hello')")]);
    let (key, mut version) = version("f", 1);
    version.code = code_of(&package);
    let (heard, mut reports) = mpsc::channel(64);
    let played = Played {
        leader_addr: String::new(),
        function: encode_function(&function("f", version)),
        package,
        heard,
        say: Arc::default(),
    };
    let say = Arc::clone(&played.say);
    let leader_addr = serve(played.clone()).await;
    let follower_addr = serve(Played {
        leader_addr,
        ..played
    })
    .await;
    let options = Options {
        cluster_id: "c".into(),
        node_id: 7,
        listen: "127.0.0.1:0".into(),
        admin_listen: "127.0.0.1:0".into(),
        data_dir: dir.join("data"),
        runtimes_dir: dir.join("runtimes"),
        controllers: vec![follower_addr],
        ..Options::default()
    };
    let driver = Arc::new(FakeDriver::new(|_| async { ExitStatus::Exited(0) }));
    let worker = start(options, Seams::system(), driver).await.unwrap();
    let first = tokio::time::timeout(Duration::from_secs(20), reports.recv()).await;
    let Some(Report::Register(register)) = first.unwrap() else {
        panic!("the first report is a registration");
    };
    assert_eq!(
        (register.node_id, register.incarnation),
        (7, worker.incarnation.0)
    );
    assert_eq!(register.addr, worker.addr.to_string());
    assert_eq!(register.runtimes, ["fake"]);
    let say = say.lock().unwrap().clone().unwrap();
    let leader = Leader {
        say,
        heard: reports,
    };
    let registered = pb::Registered { lease_ms: 30_000 };
    leader.tell(Order::Registered(registered)).await;
    (worker, leader, key)
}

fn session(report: Report) -> Option<u64> {
    match report {
        Report::Heartbeat(beat) => Some(beat.session),
        _ => None,
    }
}

fn shrink_answer(report: Report) -> Option<(u32, u64)> {
    match report {
        Report::ShrinkAnswer(answer) => Some((answer.permits, answer.base_sequence)),
        _ => None,
    }
}

#[tokio::test]
async fn a_worker_finds_the_leader_by_a_hint_and_takes_grants() {
    let dir = tempfile::tempdir().unwrap();
    let (worker, mut leader, _) = worker_and_leader(dir.path()).await;
    let session = leader.hear(session).await;
    let incarnation = worker.incarnation.0;
    let pool = Some(pb::Pool {
        account: ACCOUNT.into(),
        function: String::new(),
    });
    let grant = pb::Grant {
        pool: pool.clone(),
        permits: 3,
        sequence: 5,
        incarnation,
        session,
    };
    leader.tell(Order::Grant(grant)).await;
    let taken = |r| {
        if let Report::GrantTaken(t) = r {
            Some(t.sequence)
        } else {
            None
        }
    };
    assert_eq!(leader.hear(taken).await, 5);
    assert!(worker.engine.gates.holds_grants());
    let shrink = pb::Shrink {
        pool,
        permits: 1,
        base_sequence: 5,
        incarnation,
        session,
    };
    leader.tell(Order::Shrink(shrink)).await;
    assert_eq!(leader.hear(shrink_answer).await, (1, 5));
    worker.shutdown().await;
}

#[tokio::test]
async fn code_is_prepared_on_the_leaders_wish() {
    let dir = tempfile::tempdir().unwrap();
    let (worker, mut leader, key) = worker_and_leader(dir.path()).await;
    let prepare = pb::Prepare {
        account: ACCOUNT.into(),
        function: "f".into(),
        version: "$LATEST".into(),
        generation: 1,
    };
    leader.tell(Order::Prepare(prepare)).await;
    let prepared = |r| {
        if let Report::Prepared(p) = r {
            Some(p)
        } else {
            None
        }
    };
    let prepared = leader.hear(prepared).await;
    assert!(prepared.ok, "{prepared:?}");
    assert!(worker.engine.catalog.contains(&key));
    worker.shutdown().await;
}
