//! The network seam on turmoil's TCP. Every address is bound on all interfaces, so that a gateway that lets anyone in, and
//! so insists on a loopback address, can be reached.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use hearth_node::listen::ListenError;
use hearth_node::net::{Net, NetListener, NetStream, SharedNet};
use turmoil::net::{TcpListener, TcpStream};

/// The network as one host sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SimNet;

impl SimNet {
    pub(crate) fn shared() -> SharedNet {
        Arc::new(Self)
    }
}

#[async_trait]
impl Net for SimNet {
    async fn connect(&self, addr: &str) -> io::Result<NetStream> {
        let stream = TcpStream::connect(addr).await?;
        let peer = stream.peer_addr()?;
        Ok(NetStream::new(stream, peer))
    }

    async fn listen(&self, addr: SocketAddr) -> Result<Box<dyn NetListener>, ListenError> {
        let any = SocketAddr::from(([0, 0, 0, 0], addr.port()));
        let refused = |source| ListenError::from_io(addr, source);
        let listener = TcpListener::bind(any).await.map_err(refused)?;
        Ok(Box::new(SimListener {
            listener,
            local: any,
        }))
    }
}

struct SimListener {
    listener: TcpListener,
    local: SocketAddr,
}

#[async_trait]
impl NetListener for SimListener {
    async fn accept(&mut self) -> io::Result<NetStream> {
        let (stream, peer) = self.listener.accept().await?;
        Ok(NetStream::new(stream, peer))
    }

    fn local_addr(&self) -> SocketAddr {
        self.local
    }
}
