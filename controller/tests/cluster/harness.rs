//! A cluster of controllers, a network with names, and clients.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hearth_controller::blobs::Digest as BlobDigest;
use hearth_controller::{Controller, Options, Seams};
use hearth_core::control::{ControlReply, ControlRequest};
use hearth_core::error::Result;
use hearth_core::function::{CodeRef, Function, FunctionConfig};
use hearth_core::ids::{AccountId, Digest};
use hearth_node::grpc::{self, ChannelOptions, ClusterChannel, ClusterIdentity};
use hearth_node::listen::ListenError;
use hearth_node::net::{Net, NetListener, NetStream, SharedNet, TcpNet};
use hearth_proto::convert;
use hearth_proto::internal::v1 as pb;
use hearth_proto::internal::v1::blobs_client::BlobsClient;
use hearth_proto::internal::v1::cluster_admin_client::ClusterAdminClient;
use hearth_proto::internal::v1::control_client::ControlClient;
use pb::put_blob_request::Part;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

/// Longer than any step of a test takes, two elections included, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const CLUSTER: &str = "test";
/// What [`code`] names is there for these.
const CODES: [u8; 2] = [1, 2];

/// Loopback with names: controllers listen on free ports and are known by name before they have one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names(Arc<Mutex<BTreeMap<String, SocketAddr>>>);

#[async_trait]
impl Net for Names {
    async fn connect(&self, addr: &str) -> io::Result<NetStream> {
        let known = self.0.lock().unwrap().get(addr).copied();
        match known {
            Some(known) => TcpNet.connect(&known.to_string()).await,
            None => Err(io::Error::new(io::ErrorKind::ConnectionRefused, addr)),
        }
    }

    async fn listen(&self, addr: SocketAddr) -> Result<Box<dyn NetListener>, ListenError> {
        TcpNet.listen(addr).await
    }
}

/// Waits until `condition` gives something.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut condition: impl FnMut() -> F,
) -> T {
    let tries = async {
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, tries).await {
        Ok(value) => value,
        Err(_) => panic!("not within {PATIENCE:?}: {what}"),
    }
}

/// A controller and what it runs on.
pub(crate) struct Node {
    controller: Option<Controller>,
    runtime: Option<Runtime>,
}

impl Node {
    pub(crate) fn controller(&self) -> &Controller {
        self.controller.as_ref().expect("taken only when stopped")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub(crate) struct Cluster {
    pub(crate) names: Names,
    pub(crate) nodes: BTreeMap<u64, Node>,
    dirs: BTreeMap<u64, tempfile::TempDir>,
    first: Vec<u64>,
    edit: fn(&mut Options),
}

pub(crate) fn name(id: u64) -> String {
    format!("controller-{id}:1")
}

impl Cluster {
    /// Controllers 1 to `size`, formed.
    pub(crate) async fn start(size: u64) -> Self {
        Self::start_with(size, |_| {}).await
    }

    /// The same with other options.
    pub(crate) async fn start_with(size: u64, edit: fn(&mut Options)) -> Self {
        let mut cluster = Self {
            edit,
            names: Names::default(),
            nodes: BTreeMap::new(),
            dirs: BTreeMap::new(),
            first: (1..=size).collect(),
        };
        for id in 1..=size {
            cluster.start_node(id, true).await;
        }
        let leader = cluster.leader().await;
        for byte in CODES {
            cluster.put_code(leader, byte).await;
        }
        cluster
    }

    /// Starts a controller, on its old data if it had some. One that is not `first` waits to be added.
    pub(crate) async fn start_node(&mut self, id: u64, first: bool) {
        let dir = self
            .dirs
            .entry(id)
            .or_insert_with(|| tempfile::tempdir().unwrap());
        let peers = self.first.iter().map(|id| (*id, name(*id)));
        let mut options = Options {
            node_id: id,
            cluster_id: CLUSTER.into(),
            listen: "127.0.0.1:0".into(),
            advertise: name(id),
            admin_listen: "127.0.0.1:0".into(),
            data_dir: dir.path().join("data"),
            peers: if first {
                peers.collect()
            } else {
                BTreeMap::new()
            },
            ..Options::default()
        };
        (self.edit)(&mut options);
        let seams = Seams {
            net: self.net(),
            ..Seams::system()
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let started = runtime.spawn(hearth_controller::start(options, seams));
        let controller = started.await.unwrap().unwrap();
        self.names
            .0
            .lock()
            .unwrap()
            .insert(name(id), controller.addr);
        let node = Node {
            controller: Some(controller),
            runtime: Some(runtime),
        };
        self.nodes.insert(id, node);
    }

    /// Status and body of a page of the admin port.
    pub(crate) async fn admin_page(&self, id: u64, path: &str) -> String {
        let addr = self.nodes[&id].controller().admin_addr;
        let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).await.unwrap();
        page
    }

    pub(crate) fn net(&self) -> SharedNet {
        Arc::new(self.names.clone())
    }

    /// As `kill -9` does: no handing over, no goodbye.
    pub(crate) fn kill(&mut self, id: u64) {
        self.names.0.lock().unwrap().remove(&name(id));
        self.nodes.remove(&id);
    }

    /// In order.
    pub(crate) async fn stop(&mut self, id: u64) {
        let mut node = self.nodes.remove(&id).unwrap();
        let runtime = node.runtime.take().unwrap();
        let controller = node.controller.take().unwrap();
        let ended = runtime.spawn(controller.shutdown());
        ended.await.unwrap().unwrap();
        self.names.0.lock().unwrap().remove(&name(id));
        runtime.shutdown_background();
    }

    /// The leader all living controllers agree on.
    pub(crate) async fn leader(&self) -> u64 {
        until("a leader all agree on", async || {
            let mut leaders = self
                .nodes
                .values()
                .map(|n| n.controller().leader().map(|(id, _)| id));
            let first = leaders.next()??;
            let is_alive = self.nodes.get(&first)?.controller().is_leader();
            (is_alive && leaders.all(|l| l == Some(first))).then_some(first)
        })
        .await
    }

    /// A living controller that does not lead.
    pub(crate) async fn follower(&self) -> u64 {
        let leader = self.leader().await;
        *self.nodes.keys().find(|id| **id != leader).unwrap()
    }

    pub(crate) fn channel(&self, id: u64) -> ClusterChannel {
        let identity = ClusterIdentity::known(CLUSTER).unwrap();
        grpc::channel(
            &self.net(),
            &name(id),
            &ChannelOptions::default(),
            &identity,
        )
        .unwrap()
    }

    pub(crate) fn control(&self, id: u64) -> ControlClient<ClusterChannel> {
        ControlClient::new(self.channel(id))
    }

    pub(crate) fn admin(&self, id: u64) -> ClusterAdminClient<ClusterChannel> {
        ClusterAdminClient::new(self.channel(id))
    }

    /// Puts what [`code`] names, as gateways do before a function names it.
    async fn put_code(&self, id: u64, byte: u8) {
        let start = Part::Start(pb::BlobStart {
            sha256: code(byte).digest.0.to_vec().into(),
            ..pb::BlobStart::default()
        });
        let parts = [start, Part::Chunk(content(byte).into())];
        let parts = parts.map(|part| pb::PutBlobRequest { part: Some(part) });
        let mut client = BlobsClient::new(self.channel(id));
        client.put(tokio_stream::iter(parts)).await.unwrap();
    }

    /// One operation through controller `id`.
    pub(crate) async fn ask(&self, id: u64, request: &ControlRequest) -> Result<ControlReply> {
        let call = convert::encode_request(request);
        let answer = self.control(id).execute(call).await.unwrap();
        convert::decode_answer(answer.get_ref())
    }

    pub(crate) async fn function(&self, id: u64, request: &ControlRequest) -> Function {
        match self.ask(id, request).await {
            Ok(ControlReply::Function(function)) => *function,
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn account() -> AccountId {
    "123456789012".parse().unwrap()
}

pub(crate) fn code(byte: u8) -> CodeRef {
    CodeRef {
        digest: Digest(*BlobDigest::of(&content(byte)).as_bytes()),
        size_bytes: 100,
        unpacked_bytes: 0,
        image: None,
    }
}

/// What [`code`] names.
fn content(byte: u8) -> Vec<u8> {
    vec![byte; 100]
}

pub(crate) fn create(name: &str) -> ControlRequest {
    let mut config = FunctionConfig::with_defaults("arn:aws:iam::123456789012:role/r".into());
    config.runtime = Some("python3.11".into());
    config.environment = Some(BTreeMap::from([("SECRET".into(), "s".into())]));
    ControlRequest::CreateFunction {
        account: account(),
        name: name.parse().unwrap(),
        config,
        code: code(1),
        tags: BTreeMap::new(),
        code_signing: None,
    }
}

pub(crate) fn get(name: &str) -> ControlRequest {
    ControlRequest::GetFunction {
        account: account(),
        name: name.parse().unwrap(),
    }
}

pub(crate) fn delete(name: &str) -> ControlRequest {
    ControlRequest::DeleteFunction {
        account: account(),
        name: name.parse().unwrap(),
    }
}

pub(crate) fn update_code(name: &str, byte: u8) -> ControlRequest {
    ControlRequest::UpdateFunctionCode {
        account: account(),
        name: name.parse().unwrap(),
        code: code(byte),
        architectures: None,
        revision_id: None,
        dry_run: false,
    }
}

pub(crate) fn reserve(name: &str, reserved: Option<u32>) -> ControlRequest {
    ControlRequest::SetReservedConcurrency {
        account: account(),
        name: name.parse().unwrap(),
        reserved,
    }
}
