//! Network namespaces with the loopback device up and the Runtime API's listener bound.

use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::time::Duration;

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

/// One more, with the calling thread in it.
pub(in crate::sandbox) fn make() -> io::Result<Netns> {
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

/// Pause before the next try when the worker or the host is out of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(20);

/// Whether the next connection may well be taken: this one was given up by its peer, or there is no room right now.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EPROTO
                | libc::EINTR
                | libc::EMFILE
                | libc::ENFILE
                | libc::ENOBUFS
                | libc::ENOMEM
        )
    )
}

/// The listener of a running sandbox.
#[derive(Debug)]
pub(crate) struct NetnsListener(pub(crate) tokio::net::TcpListener);

#[async_trait]
impl RuntimeApiListener for NetnsListener {
    async fn accept(&mut self) -> io::Result<Box<dyn RuntimeApiStream>> {
        loop {
            match self.0.accept().await {
                Ok((stream, _)) => {
                    // The Runtime API answers in small pieces; waiting for more costs 40 ms with a delayed
                    // acknowledgement. A connection that is gone already says so when it is read.
                    let _ = stream.set_nodelay(true);
                    return Ok(Box::new(stream));
                }
                Err(error) if is_passing(&error) => tokio::time::sleep(PAUSE).await,
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lasts_ends_a_listener() {
        let passing = |errno| is_passing(&io::Error::from_raw_os_error(errno));
        assert!(passing(libc::EMFILE) && passing(libc::ECONNABORTED));
        assert!(!passing(libc::EBADF) && !passing(libc::EINVAL));
    }
}
