//! Network namespaces with the loopback device up and the Runtime API's listener bound.

use std::fs::File;
use std::io;
use std::net::TcpListener;

use async_trait::async_trait;
use nix::sched::{CloneFlags, unshare};

use super::prefab::Prefab;
use crate::sandbox::driver::{RUNTIME_API_ADDRESS, RuntimeApiListener, RuntimeApiStream};
use crate::sandbox::sys;

/// One namespace, not yet used. It lives as long as the descriptor, the listener or a process in it.
#[derive(Debug)]
pub(crate) struct Netns {
    pub(crate) descriptor: File,
    pub(crate) listener: TcpListener,
}

/// Keeps namespaces ready. The thread wanders from each new namespace into the next and never comes back to the
/// host's, which is why it is a thread of its own.
pub(crate) fn prefab(size: usize) -> io::Result<Prefab<Netns>> {
    Prefab::start("netns", size, make)
}

fn make() -> io::Result<Netns> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let descriptor = File::open("/proc/thread-self/ns/net")?;
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    sys::net::bring_loopback_up(&socket)?;
    // Made here and listening from the start, so that the first connection of a fast runtime is never refused.
    let address: std::net::SocketAddr = RUNTIME_API_ADDRESS.parse().map_err(io::Error::other)?;
    socket.bind(&address.into())?;
    socket.listen(128)?;
    socket.set_nonblocking(true)?;
    Ok(Netns {
        descriptor,
        listener: socket.into(),
    })
}

/// The listener of a running sandbox.
#[derive(Debug)]
pub(crate) struct NetnsListener(pub(crate) tokio::net::TcpListener);

#[async_trait]
impl RuntimeApiListener for NetnsListener {
    async fn accept(&mut self) -> io::Result<Box<dyn RuntimeApiStream>> {
        let (stream, _) = self.0.accept().await?;
        // The Runtime API answers in small pieces; waiting for more costs 40 ms with a delayed acknowledgement.
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}
