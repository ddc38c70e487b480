//! Binding TCP listeners, with refusals an operator can act on.
//!
//! Not here: what is spoken on the connections, and simulated networks (`net.rs`).

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use tokio::net::{TcpListener, TcpSocket};

/// Connections the kernel queues before `accept`; enough for a burst of new clients, the kernel caps it at
/// `net.core.somaxconn`.
const BACKLOG: u32 = 1024;

/// Why an address cannot be listened on; Display is one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process listens there.
    #[error(
        "{addr} is already in use; choose another with --listen or stop the process holding it"
    )]
    InUse {
        /// The address asked for.
        addr: String,
    },
    /// Ports below 1024 need a privilege.
    #[error(
        "no permission to listen on {addr}; choose a port of 1024 or above, or grant CAP_NET_BIND_SERVICE"
    )]
    Permission {
        /// The address asked for.
        addr: String,
    },
    /// The address is of another machine.
    #[error("{addr} is not an address of this machine; choose another with --listen")]
    NotLocal {
        /// The address asked for.
        addr: String,
    },
    /// The text is not an address.
    #[error("`{addr}` is not an address; write for example 127.0.0.1:9100")]
    BadAddress {
        /// The text given.
        addr: String,
    },
    /// Anything else.
    #[error("cannot listen on {addr}")]
    Other {
        /// The address asked for.
        addr: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl ListenError {
    /// Diagnoses the error of a bind.
    pub fn from_io(addr: impl ToString, source: io::Error) -> Self {
        let addr = addr.to_string();
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { addr },
            io::ErrorKind::PermissionDenied => Self::Permission { addr },
            io::ErrorKind::AddrNotAvailable => Self::NotLocal { addr },
            _ => Self::Other { addr, source },
        }
    }
}

/// Reads `host:port`; a name is resolved, the first address taken. Blocks on DNS: for start-up.
pub fn parse_addr(text: &str) -> Result<SocketAddr, ListenError> {
    text.to_socket_addrs()
        .ok()
        .and_then(|mut addrs| addrs.next())
        .ok_or_else(|| ListenError::BadAddress {
            addr: text.to_owned(),
        })
}

/// Listens, with SO_REUSEADDR so that a restarted node gets its port back at once. Port 0 picks a free one.
/// Must be called inside a tokio runtime.
pub fn bind(addr: SocketAddr) -> Result<TcpListener, ListenError> {
    let refused = |source| ListenError::from_io(addr, source);
    let socket = if addr.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }
    .map_err(refused)?;
    socket.set_reuseaddr(true).map_err(refused)?;
    // Accepted sockets inherit it; small replies must not wait for an acknowledgement.
    socket.set_nodelay(true).map_err(refused)?;
    socket.bind(addr).map_err(refused)?;
    socket.listen(BACKLOG).map_err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn port_in_use_is_said_in_one_line() {
        let first = bind(parse_addr("127.0.0.1:0").unwrap()).unwrap();
        let addr = first.local_addr().unwrap();
        let error = bind(addr).expect_err("taken");
        assert_eq!(
            error.to_string(),
            format!(
                "{addr} is already in use; choose another with --listen or stop the process holding it"
            )
        );
    }

    #[tokio::test]
    async fn foreign_and_malformed_addresses_are_refused() {
        let error = bind(parse_addr("192.0.2.1:0").unwrap()).expect_err("documentation address");
        assert!(matches!(error, ListenError::NotLocal { .. }), "{error}");
        for text in ["127.0.0.1", "127.0.0.1:99999", ":::", ""] {
            assert!(
                matches!(parse_addr(text), Err(ListenError::BadAddress { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn denied_permission_names_the_way_out() {
        let error = ListenError::from_io("0.0.0.0:80", io::ErrorKind::PermissionDenied.into());
        assert!(error.to_string().contains("1024"));
    }

    #[tokio::test]
    async fn accepted_connections_send_at_once() {
        let listener = bind(parse_addr("127.0.0.1:0").unwrap()).unwrap();
        let addr = listener.local_addr().unwrap();
        let (client, accepted) =
            tokio::join!(tokio::net::TcpStream::connect(addr), listener.accept());
        client.unwrap();
        assert!(accepted.unwrap().0.nodelay().unwrap());
    }
}
