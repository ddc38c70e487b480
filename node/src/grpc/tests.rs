//! Channel and server together, over TCP, with tonic's health service as the service.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::*;
use crate::config::assert_documented;
use crate::net::TcpNet;

const LONG: Duration = Duration::from_secs(10);

struct Node {
    addr: SocketAddr,
    token: CancellationToken,
    served: JoinHandle<Result<(), ServeError>>,
}

async fn start(identity: &ClusterIdentity) -> Node {
    let any = "127.0.0.1:0".parse().unwrap();
    let listener = TcpNet::shared().listen(any).await.unwrap();
    let addr = listener.local_addr();
    let token = CancellationToken::new();
    let (_, service) = tonic_health::server::health_reporter();
    let router = server(&ServerOptions::default(), identity).add_service(service);
    let served = tokio::spawn(serve(router, listener, token.clone()));
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
    tokio::spawn(serve(router, listener, CancellationToken::new()));
    client.check(HealthCheckRequest::default()).await.unwrap();
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
