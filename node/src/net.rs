//! The network seam: a role connects and listens through [`Net`], so that a simulation can replace TCP.
//!
//! Not here: HTTP/2 and gRPC (`grpc.rs`), and the diagnosis of a failed bind (`listen.rs`).

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tonic::transport::server::Connected;

use crate::listen::{self, ListenError};
use crate::tls::NodeName;
use crate::tls::plain::{self, Told};

/// What a connection must be able to do.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// Where connections come from.
#[async_trait]
pub trait Net: fmt::Debug + Send + Sync + 'static {
    /// Connects to `host:port`; the caller sets the deadline.
    async fn connect(&self, addr: &str) -> io::Result<NetStream>;

    /// Listens; port 0 picks a free one.
    async fn listen(&self, addr: SocketAddr) -> Result<Box<dyn NetListener>, ListenError>;
}

/// How a network is passed around.
pub type SharedNet = Arc<dyn Net>;

/// Accepts connections until dropped.
#[async_trait]
pub trait NetListener: Send + 'static {
    /// The next connection. Cancel safe.
    async fn accept(&mut self) -> io::Result<NetStream>;

    /// The address, with the port that was picked.
    fn local_addr(&self) -> SocketAddr;
}

/// Who is at the other end of a connection, as far as it was proved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Caller {
    /// Anybody: the connection is plaintext.
    #[default]
    Unknown,
    /// A node without a certificate that wants to join.
    Joining,
    /// A node or operator of this cluster, by its certificate.
    Node(Arc<NodeName>),
}

/// A connection of any [`Net`].
pub struct NetStream {
    io: Box<dyn Io>,
    peer: SocketAddr,
    caller: Caller,
    /// Nothing was read yet, and TLS would be a mistake; who is told of it.
    unheard: Option<Option<Arc<Told>>>,
    /// A server's place for this connection; free again when the connection is dropped.
    place: Option<OwnedSemaphorePermit>,
}

impl NetStream {
    /// Wraps a connection; `peer` is for logs.
    pub fn new(io: impl Io, peer: SocketAddr) -> Self {
        Self {
            io: Box::new(io),
            peer,
            caller: Caller::Unknown,
            unheard: None,
            place: None,
        }
    }

    /// Says who has proved to be at the other end.
    #[must_use]
    pub(crate) fn of_caller(mut self, caller: Caller) -> Self {
        self.caller = caller;
        self
    }

    /// Fails the first read if the other end turns out to speak TLS.
    #[must_use]
    pub(crate) fn expecting_plaintext(mut self, told: Option<Arc<Told>>) -> Self {
        self.unheard = Some(told);
        self
    }

    /// Lets the connection hold one of a server's places.
    pub(crate) fn holding(mut self, place: OwnedSemaphorePermit) -> Self {
        self.place = Some(place);
        self
    }

    /// The other end.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }
}

impl fmt::Debug for NetStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetStream")
            .field("peer", &self.peer)
            .field("caller", &self.caller)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl AsyncRead for NetStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        let Some(&first) = buffer.filled().get(before) else {
            return read;
        };
        let Some(told) = self.unheard.take() else {
            return read;
        };
        let Some(error) = plain::is_tls(first) else {
            return read;
        };
        if let Some(told) = told {
            told.tell(self.peer, &error);
        }
        buffer.set_filled(before);
        Poll::Ready(Err(error))
    }
}

impl AsyncWrite for NetStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// What tonic hands to services as an extension of each request.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The other end, for logs.
    pub addr: SocketAddr,
    /// Who that is.
    pub caller: Caller,
}

impl Connected for NetStream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        Peer {
            addr: self.peer,
            caller: self.caller.clone(),
        }
    }
}

/// The machine's TCP.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpNet;

impl TcpNet {
    /// A network ready to be shared.
    pub fn shared() -> SharedNet {
        Arc::new(Self)
    }
}

#[async_trait]
impl Net for TcpNet {
    async fn connect(&self, addr: &str) -> io::Result<NetStream> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let peer = stream.peer_addr()?;
        Ok(NetStream::new(stream, peer))
    }

    async fn listen(&self, addr: SocketAddr) -> Result<Box<dyn NetListener>, ListenError> {
        let listener = listen::bind(addr)?;
        let local = listener
            .local_addr()
            .map_err(|source| ListenError::from_io(addr, source))?;
        Ok(Box::new(TcpNetListener { listener, local }))
    }
}

struct TcpNetListener {
    listener: TcpListener,
    local: SocketAddr,
}

#[async_trait]
impl NetListener for TcpNetListener {
    async fn accept(&mut self) -> io::Result<NetStream> {
        let (stream, peer) = self.listener.accept().await?;
        Ok(NetStream::new(stream, peer))
    }

    fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn bytes_pass_both_ways_over_tcp() {
        let net = TcpNet::shared();
        let addr = listen::parse_addr("127.0.0.1:0").unwrap();
        let mut listener = net.listen(addr).await.unwrap();
        let target = listener.local_addr().to_string();
        let (client, server) = tokio::join!(net.connect(&target), listener.accept());
        let (mut client, mut server) = (client.unwrap(), server.unwrap());
        let mut buffer = [0; 4];
        client.write_all(b"ping").await.unwrap();
        server.read_exact(&mut buffer).await.unwrap();
        server.write_all(&buffer).await.unwrap();
        client.read_exact(&mut buffer).await.unwrap();
        assert_eq!((&buffer, server.peer().port() > 0), (b"ping", true));
    }
}
