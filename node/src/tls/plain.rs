//! Plaintext between nodes, with an eye for TLS at the other end: the two do not meet, and an operator should read why.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use tracing::warn;

use crate::listen::ListenError;
use crate::net::{Net, NetListener, NetStream, SharedNet};

/// First byte of a TLS record with an alert: how a TLS port answers plaintext. HTTP/2 from a server begins with a length below
/// 2^20, so with 0.
const ALERT: u8 = 21;
/// First byte of a TLS record with a handshake: how a TLS caller begins. HTTP/2 begins with `P`.
const HANDSHAKE: u8 = 22;

/// What the first byte from the other end says, if it is TLS's.
pub(crate) fn is_tls(first: u8) -> Option<io::Error> {
    let text = match first {
        ALERT => {
            "the peer speaks TLS, and this node plaintext: give it a certificate or a join token ([tls])"
        }
        HANDSHAKE => {
            "the caller speaks TLS, and this node plaintext: give it a certificate or a join token ([tls])"
        }
        _ => return None,
    };
    Some(io::Error::new(io::ErrorKind::InvalidData, text))
}

#[derive(Debug)]
pub(super) struct PlainNet(pub(super) SharedNet);

#[async_trait]
impl Net for PlainNet {
    async fn connect(&self, addr: &str) -> io::Result<NetStream> {
        Ok(self.0.connect(addr).await?.expecting_plaintext(None))
    }

    async fn listen(&self, addr: SocketAddr) -> Result<Box<dyn NetListener>, ListenError> {
        Ok(Box::new(PlainListener {
            plain: self.0.listen(addr).await?,
            told: Arc::default(),
        }))
    }
}

struct PlainListener {
    plain: Box<dyn NetListener>,
    told: Arc<Told>,
}

/// Whether a caller with TLS was told of; callers try again and again, so once is enough.
#[derive(Debug, Default)]
pub(crate) struct Told(AtomicBool);

impl Told {
    pub(crate) fn tell(&self, peer: SocketAddr, reason: &io::Error) {
        if !self.0.swap(true, Ordering::Relaxed) {
            warn!(%peer, %reason, "a caller was refused");
        }
    }
}

#[async_trait]
impl NetListener for PlainListener {
    async fn accept(&mut self) -> io::Result<NetStream> {
        let stream = self.plain.accept().await?;
        Ok(stream.expecting_plaintext(Some(Arc::clone(&self.told))))
    }

    fn local_addr(&self) -> SocketAddr {
        self.plain.local_addr()
    }
}
