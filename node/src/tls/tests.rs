//! TLS between a server and a client over TCP, with tonic's health service as the service.

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::*;
use crate::clock::{Clock as _, ManualClock};
use crate::grpc::{self, ChannelOptions, ClusterIdentity, ServerOptions, with_deadline};
use crate::net::{Caller, TcpNet};

const NOW: u64 = 1_700_000_000_000;
const LIFE: Duration = Duration::from_secs(3_000);
const LONG: Duration = Duration::from_secs(10);

struct World {
    clock: Arc<ManualClock>,
    ca: Authority,
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self {
            clock: Arc::new(ManualClock::new(NOW)),
            ca: Authority::generate("c", NOW).unwrap(),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn clock(&self) -> SharedClock {
        Arc::clone(&self.clock) as SharedClock
    }

    fn bundle(&self) -> Bundle {
        Bundle::of(&[self.ca.certificate()])
    }

    fn issue(&self, cluster: &str, role: NodeRole) -> Credentials {
        let name = NodeName::new(cluster, role, 1).unwrap();
        let now = self.clock.unix_ms();
        self.ca.issue(&self.bundle(), &name, now, LIFE).unwrap()
    }

    fn tls(&self, role: NodeRole) -> Tls {
        Tls::of(self.issue("c", role), &self.clock()).unwrap()
    }

    /// The TLS of a node that has its credentials in files.
    fn filed(&self, role: NodeRole) -> (Tls, TlsFiles) {
        let dir: PathBuf = self.dir.path().join(role.as_str());
        let files = TlsFiles::in_dir(&dir);
        self.issue("c", role).save(&dir).unwrap();
        let options = TlsOptions {
            mode: TlsMode::On,
            dir,
            ..TlsOptions::default()
        };
        let tls = Tls::open(&options, None, ("c", role, 1), &self.clock()).unwrap();
        (tls, files)
    }
}

fn dir_of(files: &TlsFiles) -> &Path {
    files.ca.parent().unwrap()
}

/// Serves on TLS; tonic's health service is not in the table of who may call what, so a call that passes TLS is
/// refused by name.
async fn serve(tls: &Tls) -> (SocketAddr, JoinHandle<()>) {
    let net = tls.net(&TcpNet::shared(), NodeRole::Controller);
    let any = "127.0.0.1:0".parse().unwrap();
    let listener = net.listen(any).await.unwrap();
    let addr = listener.local_addr();
    let (_, service) = tonic_health::server::health_reporter();
    let options = ServerOptions::default();
    let router = grpc::server(&options, &ClusterIdentity::unknown()).add_service(service);
    let token = CancellationToken::new();
    let served = tokio::spawn(async move {
        grpc::serve(router, listener, &options, token)
            .await
            .unwrap();
    });
    (addr, served)
}

async fn call(net: &SharedNet, addr: SocketAddr) -> Status {
    let options = ChannelOptions::default();
    let identity = ClusterIdentity::unknown();
    let channel = grpc::channel(net, &addr.to_string(), &options, &identity).unwrap();
    let mut client = HealthClient::new(channel);
    let asked = client.check(HealthCheckRequest::default());
    match with_deadline(asked, LONG).await {
        Ok(_) => Status::ok("answered"),
        Err(status) => status,
    }
}

fn calling(tls: &Tls) -> SharedNet {
    tls.net(&TcpNet::shared(), NodeRole::Controller)
}

#[tokio::test]
async fn a_node_of_the_cluster_is_known_by_name_to_the_services() {
    let world = World::new();
    let (addr, _served) = serve(&world.tls(NodeRole::Controller)).await;
    let status = call(&calling(&world.tls(NodeRole::Worker)), addr).await;
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    assert!(
        status
            .message()
            .contains("hearth://c/worker/1 may not call")
    );
}

#[tokio::test]
async fn callers_that_are_refused_are_told_why() {
    let world = World::new();
    let (addr, _served) = serve(&world.tls(NodeRole::Controller)).await;
    let stranger = World::new().issue("c", NodeRole::Worker);
    // It trusts the cluster's CA, so that the refusal is the server's.
    let stranger = Credentials {
        bundle: world.bundle(),
        ..stranger
    };
    let other_cluster = Credentials {
        name: NodeName::new("c", NodeRole::Worker, 1).unwrap(),
        ..world.issue("d", NodeRole::Worker)
    };
    let old = world.issue("c", NodeRole::Worker);
    for (shown, reason) in [
        (stranger, "does not know the CA"),
        (other_cluster, "does not take this node"),
    ] {
        let tls = Tls::of(shown, &world.clock()).unwrap();
        let status = call(&calling(&tls), addr).await;
        assert!(status.message().contains(reason), "{status}");
    }
    // An hour later: the server has a new certificate, the caller has not.
    world.clock.advance_ms(3_600_000);
    let (addr, _served) = serve(&world.tls(NodeRole::Controller)).await;
    let tls = Tls::of(old, &world.clock()).unwrap();
    let status = call(&calling(&tls), addr).await;
    assert!(status.message().contains("has expired"), "{status}");
}

#[tokio::test]
async fn callees_that_are_refused_are_named_with_the_reason() {
    let world = World::new();
    let caller = calling(&world.tls(NodeRole::Worker));
    let (addr, _served) = serve(&world.tls(NodeRole::Gateway)).await;
    let status = call(&caller, addr).await;
    let reason = "it is hearth://c/gateway/1, and a controller was to be there";
    assert!(status.message().contains(reason), "{status}");
    let (addr, _served) = serve(&World::new().tls(NodeRole::Controller)).await;
    let status = call(&caller, addr).await;
    assert!(status.message().contains("unknown CA"), "{status}");
    let controller = world.tls(NodeRole::Controller);
    let (addr, _served) = serve(&controller).await;
    world.clock.advance_ms(3_600_000);
    let caller = calling(&world.tls(NodeRole::Worker));
    let status = call(&caller, addr).await;
    assert!(
        status
            .message()
            .contains("its certificate expired at 2023-11-14T23:03:20Z"),
        "{status}"
    );
}

#[tokio::test]
async fn plaintext_and_tls_do_not_meet_and_say_so() {
    let world = World::new();
    let (secure, _served) = serve(&world.tls(NodeRole::Controller)).await;
    let status = call(&calling(&Tls::off()), secure).await;
    assert!(status.message().contains("the peer speaks TLS"), "{status}");
    let (plain, _served) = serve(&Tls::off()).await;
    let status = call(&calling(&world.tls(NodeRole::Worker)), plain).await;
    assert!(status.message().contains("TLS"), "{status}");
    // A plaintext client of any kind gets an alert and nothing more.
    let mut raw = tokio::net::TcpStream::connect(secure).await.unwrap();
    raw.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = raw.read_to_end(&mut answer).await;
    assert!(
        answer.len() < 16 && answer.first() == Some(&21),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_caller_without_a_certificate_may_only_join_and_only_at_a_controller() {
    let world = World::new();
    let pinned = |pin: &str| joining_net(&TcpNet::shared(), pin, "c", &world.clock()).unwrap();
    let pin = world.ca.fingerprint();
    let (controller, _served) = serve(&world.tls(NodeRole::Controller)).await;
    let status = call(&pinned(&pin), controller).await;
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    assert!(status.message().contains("without a certificate"));
    let status = call(&pinned(&"0".repeat(64)), controller).await;
    assert!(status.message().contains("unknown CA"), "{status}");
    // A worker wants a certificate of everybody.
    let net = TlsNetOf(&world.tls(NodeRole::Worker)).listen().await;
    let (mut listener, addr) = net;
    let accepting = tokio::spawn(async move { listener.accept().await });
    let refused = pinned(&pin).connect(&addr.to_string()).await;
    assert!(refused.is_err());
    accepting.abort();
}

struct TlsNetOf<'a>(&'a Tls);

impl TlsNetOf<'_> {
    async fn listen(&self) -> (Box<dyn crate::net::NetListener>, SocketAddr) {
        let net = self.0.net(&TcpNet::shared(), NodeRole::Controller);
        let listener = net.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let addr = listener.local_addr();
        (listener, addr)
    }
}

#[tokio::test]
async fn a_silent_caller_holds_up_nobody() {
    let world = World::new();
    let (addr, _served) = serve(&world.tls(NodeRole::Controller)).await;
    let _silent = tokio::net::TcpStream::connect(addr).await.unwrap();
    let status = call(&calling(&world.tls(NodeRole::Worker)), addr).await;
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
}

#[tokio::test]
async fn replaced_files_are_taken_up_and_running_connections_go_on() {
    let world = World::new();
    let (server, server_files) = world.filed(NodeRole::Controller);
    let (worker, worker_files) = world.filed(NodeRole::Worker);
    let (mut listener, addr) = TlsNetOf(&server).listen().await;
    let connect = async |tls: &Tls| calling(tls).connect(&addr.to_string()).await;
    let (client, accepted) = tokio::join!(connect(&worker), listener.accept());
    let (mut client, mut accepted) = (client.unwrap(), accepted.unwrap());
    let named = Caller::Node(Arc::new(NodeName::new("c", NodeRole::Worker, 1).unwrap()));
    assert_eq!(
        tonic::transport::server::Connected::connect_info(&accepted).caller,
        named
    );

    // Both expire and get new certificates; the CA is the same.
    world.clock.advance_ms(3_600_000);
    assert!(
        server
            .certificate()
            .unwrap()
            .0
            .seconds_left(world.clock.unix_ms())
            < 0
    );
    world
        .issue("c", NodeRole::Controller)
        .save(dir_of(&server_files))
        .unwrap();
    world
        .issue("c", NodeRole::Worker)
        .save(dir_of(&worker_files))
        .unwrap();
    server.reload();
    worker.reload();
    let left = server
        .certificate()
        .unwrap()
        .0
        .seconds_left(world.clock.unix_ms());
    assert_eq!(left, 3_000);

    let mut buffer = [0; 4];
    client.write_all(b"ping").await.unwrap();
    client.flush().await.unwrap();
    accepted.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"ping");
    let (again, accepted) = tokio::join!(connect(&worker), listener.accept());
    again.unwrap();
    accepted.unwrap();
}

#[test]
fn unusable_files_leave_the_old_certificate_in_use() {
    let world = World::new();
    let (tls, files) = world.filed(NodeRole::Worker);
    let before = tls.certificate().unwrap();
    std::fs::write(&files.key, "half a key").unwrap();
    tls.reload();
    assert_eq!(tls.certificate().unwrap(), before);
    world
        .issue("c", NodeRole::Gateway)
        .save(dir_of(&files))
        .unwrap();
    tls.reload();
    assert_eq!(tls.certificate().unwrap(), before, "another node's");
}

#[test]
fn a_node_starts_with_its_own_certificate_alone() {
    let world = World::new();
    let (_, files) = world.filed(NodeRole::Worker);
    let options = TlsOptions {
        dir: files.ca.parent().unwrap().to_owned(),
        ..TlsOptions::default()
    };
    let open = |id| Tls::open(&options, None, ("c", NodeRole::Worker, id), &world.clock());
    assert!(open(1).unwrap().is_on());
    let error = open(2).expect_err("another worker's").to_string();
    assert!(error.contains("hearth://c/worker/1"), "{error}");
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(&files.key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn metrics_tell_how_long_the_certificate_lasts_and_whose_it_is() {
    let world = World::new();
    let metrics = Metrics::new("worker");
    world.tls(NodeRole::Worker).register(&metrics);
    let text = metrics.render();
    assert!(
        text.contains("hearth_tls_certificate_seconds_left 3000"),
        "{text}"
    );
    assert!(
        text.contains(&format!("issuer=\"{}\"", world.ca.fingerprint())),
        "{text}"
    );
}
