//! The network seam with TLS on top: every connection a role makes or takes through it is mutual TLS.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::task::JoinSet;
use tokio_rustls::{LazyConfigAcceptor, TlsConnector, client, server};
use tracing::warn;

use super::configs::{self, ALPN_JOIN};
use super::credentials::facts;
use super::name::NodeRole;
use super::refusal::explain;
use super::verify::{Trust, Verifier};
use super::{Inner, TlsError};
use crate::clock::SharedClock;
use crate::listen::ListenError;
use crate::net::{Caller, Net, NetListener, NetStream, SharedNet};

/// A caller that has not finished its handshake by then is cut off.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// Handshakes at a time; more callers wait in the kernel's queue.
const HANDSHAKES_MAX: usize = 128;
/// How long a refused caller may take to read why. Closing at once could take the alert away from it.
const REFUSAL_LIMIT: Duration = Duration::from_secs(1);
/// A complaint about the same peer for the same reason is not repeated sooner.
const COMPLAINT_EVERY_MS: u64 = 30_000;
/// Peers whose last complaint is remembered.
const COMPLAINTS_MAX: usize = 64;

/// Sent to nobody (no SNI): names are in the certificates' URIs.
const SERVER_NAME: &str = "node.hearth.invalid";

/// TLS on top of another network.
#[derive(Debug)]
pub(super) struct TlsNet {
    pub(super) plain: SharedNet,
    pub(super) tls: Arc<Inner>,
    pub(super) callee: NodeRole,
}

#[async_trait]
impl Net for TlsNet {
    async fn connect(&self, addr: &str) -> io::Result<NetStream> {
        let stream = self.plain.connect(addr).await?;
        let config = self.tls.now.load().configs.client(self.callee);
        let own = self.tls.name.to_string();
        let peer = Peer {
            own,
            addr: addr.to_owned(),
            tls: Some(Arc::clone(&self.tls)),
        };
        connect(config, stream, peer).await
    }

    async fn listen(&self, addr: SocketAddr) -> Result<Box<dyn NetListener>, ListenError> {
        Ok(Box::new(TlsListener {
            plain: self.plain.listen(addr).await?,
            tls: Arc::clone(&self.tls),
            handshakes: JoinSet::new(),
        }))
    }
}

/// For a node that has a join token and no certificate: it believes a controller of `cluster` whose CA has the
/// fingerprint `pin`, and shows nothing itself.
pub fn joining_net(
    plain: &SharedNet,
    pin: &str,
    cluster: &str,
    clock: &SharedClock,
) -> Result<SharedNet, TlsError> {
    let verifier = Verifier::new(
        Trust::Pinned(pin.to_owned()),
        cluster,
        Some(NodeRole::Controller),
        configs::provider(),
    );
    Ok(Arc::new(JoiningNet {
        plain: SharedNet::clone(plain),
        config: configs::client(Arc::new(verifier), None, clock)?,
    }))
}

#[derive(Debug)]
struct JoiningNet {
    plain: SharedNet,
    config: Arc<ClientConfig>,
}

#[async_trait]
impl Net for JoiningNet {
    async fn connect(&self, addr: &str) -> io::Result<NetStream> {
        let stream = self.plain.connect(addr).await?;
        let peer = Peer {
            own: "about to join".to_owned(),
            addr: addr.to_owned(),
            tls: None,
        };
        connect(Arc::clone(&self.config), stream, peer).await
    }

    async fn listen(&self, addr: SocketAddr) -> Result<Box<dyn NetListener>, ListenError> {
        let unsupported = io::ErrorKind::Unsupported.into();
        Err(ListenError::from_io(addr, unsupported))
    }
}

/// For messages about a connection that this node made.
struct Peer {
    own: String,
    addr: String,
    /// Where complaints are counted; none: the caller tells its user at once.
    tls: Option<Arc<Inner>>,
}

impl Peer {
    /// The error with its reason in words, which is logged too.
    fn explained(&self, error: &io::Error) -> io::Error {
        let reason = format!("TLS to {}: {}", self.addr, explain(error, &self.own));
        if let Some(tls) = &self.tls {
            tls.complain(&self.addr, &reason, "a connection to another node failed");
        }
        io::Error::new(error.kind(), reason)
    }
}

async fn connect(
    config: Arc<ClientConfig>,
    stream: NetStream,
    peer: Peer,
) -> io::Result<NetStream> {
    let addr = stream.peer();
    let name = ServerName::try_from(SERVER_NAME).expect("a DNS name");
    match TlsConnector::from(config).connect(name, stream).await {
        Ok(stream) => Ok(NetStream::new(Explained { stream, peer }, addr)),
        Err(error) => Err(peer.explained(&error)),
    }
}

/// A connection this node made. In TLS 1.3 the caller is done before the callee has seen its certificate: a refusal comes
/// with the first read.
struct Explained {
    stream: client::TlsStream<NetStream>,
    peer: Peer,
}

impl AsyncRead for Explained {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        read.map_err(|error| match error.kind() {
            // What TLS itself has to say.
            io::ErrorKind::InvalidData => self.peer.explained(&error),
            _ => error,
        })
    }
}

impl AsyncWrite for Explained {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Hands out connections whose handshake is done; a slow or silent caller holds up nobody.
struct TlsListener {
    plain: Box<dyn NetListener>,
    tls: Arc<Inner>,
    /// Ended with the listener.
    handshakes: JoinSet<Option<NetStream>>,
}

#[async_trait]
impl NetListener for TlsListener {
    async fn accept(&mut self) -> io::Result<NetStream> {
        loop {
            tokio::select! {
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(stream)) = done {
                        return Ok(stream);
                    }
                }
                accepted = self.plain.accept(), if self.handshakes.len() < HANDSHAKES_MAX => {
                    let (stream, tls) = (accepted?, Arc::clone(&self.tls));
                    self.handshakes.spawn(async move {
                        let done = tokio::time::timeout(HANDSHAKE_LIMIT, handshake(&tls, stream));
                        done.await.ok().flatten()
                    });
                }
            }
        }
    }

    fn local_addr(&self) -> SocketAddr {
        self.plain.local_addr()
    }
}

/// The connection with who is at its other end; none if that is nobody of this cluster.
async fn handshake(tls: &Inner, stream: NetStream) -> Option<NetStream> {
    let addr = stream.peer();
    let mut hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream);
    let start = match (&mut hello).await {
        Ok(start) => start,
        Err(error) => {
            tls.refused(addr, &error);
            if let Some(stream) = hello.take_io() {
                linger(stream).await;
            }
            return None;
        }
    };
    let wants_to_join = start
        .client_hello()
        .alpn()
        .is_some_and(|mut protocols| protocols.any(|protocol| protocol == ALPN_JOIN));
    let now = tls.now.load_full();
    let joining = now.configs.joining.as_ref().filter(|_| wants_to_join);
    let is_joining = joining.is_some();
    let config = Arc::clone(joining.unwrap_or(&now.configs.server));
    match start.into_stream(config).into_fallible().await {
        Ok(stream) if is_joining => Some(NetStream::new(stream, addr).of_caller(Caller::Joining)),
        Ok(stream) => {
            let caller = caller(&stream)?;
            Some(NetStream::new(stream, addr).of_caller(caller))
        }
        Err((error, stream)) => {
            tls.refused(addr, &error);
            linger(stream).await;
            None
        }
    }
}

fn caller(stream: &server::TlsStream<NetStream>) -> Option<Caller> {
    let certificate = stream.get_ref().1.peer_certificates()?.first()?;
    // The verifier has read it before.
    let (name, _) = facts(certificate).ok()?;
    Some(Caller::Node(Arc::new(name)))
}

/// Reads what the refused caller still sends, so that closing does not take away the alert it was sent.
async fn linger(mut stream: NetStream) {
    let mut scrap = [0u8; 1024];
    let reading = async {
        let _ = stream.shutdown().await;
        while !matches!(stream.read(&mut scrap).await, Ok(0) | Err(_)) {}
    };
    let _ = tokio::time::timeout(REFUSAL_LIMIT, reading).await;
}

/// What was last said about each peer, and when.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    last: Mutex<BTreeMap<String, (String, u64)>>,
}

impl Complaints {
    fn is_new(&self, peer: &str, reason: &str, now_ms: u64) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let said = last
            .get(peer)
            .is_some_and(|(text, at)| text == reason && now_ms < at + COMPLAINT_EVERY_MS);
        if said {
            return false;
        }
        if last.len() >= COMPLAINTS_MAX {
            last.clear();
        }
        last.insert(peer.to_owned(), (reason.to_owned(), now_ms));
        true
    }
}

impl Inner {
    fn complain(&self, peer: &str, reason: &str, what: &str) {
        if self
            .complaints
            .is_new(peer, reason, self.clock.monotonic_ms())
        {
            warn!(peer, reason, "{what}");
        }
    }

    fn refused(&self, peer: SocketAddr, error: &io::Error) {
        if is_probe(error) {
            return;
        }
        let reason = explain(error, &self.name.to_string());
        // Callers' ports change with each connection.
        self.complain(&peer.ip().to_string(), &reason, "a caller was refused");
    }
}

/// A connection that was closed before anything was said: a check whether somebody listens.
fn is_probe(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof
}
