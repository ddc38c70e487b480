//! Channel and server together, over TCP, with tonic's health service as the service.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::*;
use crate::config::{HumanDuration, assert_documented};
use crate::listen::ListenError;
use crate::net::{Net, NetListener, NetStream, SharedNet, TcpNet};

const LONG: Duration = Duration::from_secs(10);

struct Node {
    addr: SocketAddr,
    token: CancellationToken,
    served: JoinHandle<Result<(), ServeError>>,
}

async fn start(identity: &ClusterIdentity) -> Node {
    start_with(identity, ServerOptions::default()).await
}

async fn start_with(identity: &ClusterIdentity, options: ServerOptions) -> Node {
    let any = "127.0.0.1:0".parse().unwrap();
    let listener = TcpNet::shared().listen(any).await.unwrap();
    let addr = listener.local_addr();
    let token = CancellationToken::new();
    let (_, service) = tonic_health::server::health_reporter();
    let router = server(&options, identity).add_service(service);
    let ended = token.clone();
    let served = tokio::spawn(async move { serve(router, listener, &options, ended).await });
    Node {
        addr,
        token,
        served,
    }
}

async fn call(addr: SocketAddr, identity: &ClusterIdentity) -> Result<(), Status> {
    let options = ChannelOptions::default();
    let channel = channel(&TcpNet::shared(), &addr.to_string(), &options, identity).unwrap();
    let mut client = HealthClient::new(channel);
    let request = HealthCheckRequest::default();
    with_deadline(client.check(request), LONG).await.map(drop)
}

fn of(id: &str) -> ClusterIdentity {
    ClusterIdentity::known(id).unwrap()
}

#[tokio::test]
async fn a_peer_of_another_cluster_is_refused() {
    let node = start(&of("c1")).await;
    call(node.addr, &of("c1")).await.unwrap();
    call(node.addr, &ClusterIdentity::unknown()).await.unwrap();
    let refused = call(node.addr, &of("c2"))
        .await
        .expect_err("of another cluster");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("`c1`"), "{refused}");
}

#[tokio::test]
async fn an_identity_is_set_once() {
    let identity = ClusterIdentity::unknown();
    assert_eq!(identity.get(), None);
    let node = start(&identity).await;
    call(node.addr, &of("c2")).await.unwrap();
    identity.set("c1").unwrap();
    identity.set("c1").unwrap();
    assert!(identity.set("c2").is_err());
    assert!(ClusterIdentity::known("").is_err());
    call(node.addr, &of("c2")).await.expect_err("known by now");
}

#[tokio::test]
async fn a_server_ends_when_told() {
    let identity = of("c1");
    let node = start(&identity).await;
    call(node.addr, &identity).await.unwrap();
    node.token.cancel();
    tokio::time::timeout(LONG, node.served)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let gone = call(node.addr, &identity)
        .await
        .expect_err("nobody listens");
    assert_eq!(gone.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_channel_reconnects_after_its_node_restarted() {
    let identity = of("c1");
    let node = start(&identity).await;
    let options = ChannelOptions::default();
    let addr = node.addr.to_string();
    let channel = channel(&TcpNet::shared(), &addr, &options, &identity).unwrap();
    let mut client = HealthClient::new(channel);
    client.check(HealthCheckRequest::default()).await.unwrap();
    node.token.cancel();
    node.served.await.unwrap().unwrap();
    client
        .check(HealthCheckRequest::default())
        .await
        .expect_err("down");
    let listener = TcpNet::shared().listen(node.addr).await.unwrap();
    let (_, service) = tonic_health::server::health_reporter();
    let router = server(&ServerOptions::default(), &identity).add_service(service);
    let token = CancellationToken::new();
    tokio::spawn(async move { serve(router, listener, &ServerOptions::default(), token).await });
    client.check(HealthCheckRequest::default()).await.unwrap();
}

/// A network whose peers take every byte and never answer, as a host that lost its power does.
#[derive(Debug, Default)]
struct SilentNet {
    peers: Mutex<Vec<DuplexStream>>,
}

#[async_trait]
impl Net for SilentNet {
    async fn connect(&self, _addr: &str) -> io::Result<NetStream> {
        let (own, peer) = tokio::io::duplex(1 << 20);
        self.peers.lock().unwrap().push(peer);
        Ok(NetStream::new(own, SocketAddr::from(([127, 0, 0, 1], 1))))
    }

    async fn listen(&self, addr: SocketAddr) -> Result<Box<dyn NetListener>, ListenError> {
        Err(ListenError::from_io(
            addr,
            io::ErrorKind::Unsupported.into(),
        ))
    }
}

#[tokio::test]
async fn keep_alive_fails_the_calls_of_a_silent_peer() {
    let net: SharedNet = Arc::new(SilentNet::default());
    let options = ChannelOptions {
        keep_alive_interval: HumanDuration::from_millis(10),
        keep_alive_timeout: HumanDuration::from_millis(10),
        ..ChannelOptions::default()
    };
    let channel = channel(&net, "silent:1", &options, &of("c1")).unwrap();
    let mut client = HealthClient::new(channel);
    let call = client.check(HealthCheckRequest::default());
    let status = with_deadline(call, LONG).await.expect_err("silence");
    assert_ne!(status.code(), Code::DeadlineExceeded, "{status}");
}

#[tokio::test]
async fn a_connection_above_the_limit_waits_for_a_place() {
    let identity = of("c1");
    let options = ServerOptions {
        max_connections: 1,
        ..ServerOptions::default()
    };
    let node = start_with(&identity, options).await;
    let (net, addr) = (TcpNet::shared(), node.addr.to_string());
    let open = || channel(&net, &addr, &ChannelOptions::default(), &identity).unwrap();
    let mut first = HealthClient::new(open());
    first.check(HealthCheckRequest::default()).await.unwrap();
    let mut second = HealthClient::new(open());
    let waiting = second.check(HealthCheckRequest::default());
    let late = with_deadline(waiting, Duration::from_millis(50)).await;
    assert_eq!(late.expect_err("no place").code(), Code::DeadlineExceeded);
    drop(first);
    let served = second.check(HealthCheckRequest::default());
    with_deadline(served, LONG).await.unwrap();
}

#[tokio::test]
async fn a_call_ends_at_its_deadline() {
    let endless = std::future::pending::<Result<(), Status>>();
    let status = with_deadline(endless, Duration::from_millis(1))
        .await
        .expect_err("late");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(status.message(), "no answer within 1 ms");
}

#[tokio::test]
async fn a_malformed_address_is_refused() {
    let identity = ClusterIdentity::unknown();
    let options = ChannelOptions::default();
    assert!(channel(&TcpNet::shared(), "a b", &options, &identity).is_err());
}

#[test]
fn options_are_documented() {
    assert_documented::<ChannelOptions>();
    assert_documented::<ServerOptions>();
}
