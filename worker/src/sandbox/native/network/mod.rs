//! The network of functions: they reach out, nobody reaches in.
//!
//! ```text
//! sandbox eth0 --veth--> router namespace (one per worker) --veth "uplink"--> host --> the world
//!                        rules, masquerade, rate                 masquerade, no way to the host itself
//! ```
//!
//! A namespace of the worker's own between sandboxes and host keeps everything of a sandbox out of the host's tables: the
//! host sees one interface and one nftables table per worker. All of it but the table ends with the worker, and the table
//! is replaced by the next one of that name. Rules are text made by [`rules`]; [`router`] and [`attach`] carry them out.

mod attach;
mod resolv;
mod router;
mod rules;

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

pub use rules::{Destination, DestinationError};

use super::netns::{self, Netns};
use super::prefab::Prefab;
use rules::Policy;

/// What functions may reach.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// Name servers; empty: the host's.
    pub dns: Vec<Ipv4Addr>,
    /// Reachable although it is denied by default; wins over `deny`.
    pub allow: Vec<Destination>,
    /// Not reachable.
    pub deny: Vec<Destination>,
    /// Bytes a second of one sandbox, each way.
    pub bandwidth_bytes: u64,
}

/// Namespaces of both kinds, made beforehand, and what sandboxes with a network find in `/etc/resolv.conf`.
#[derive(Debug)]
pub(crate) struct Egress {
    pub(crate) netns: Prefab<Netns>,
    pub(crate) resolv_conf: PathBuf,
    /// The host's table.
    table: String,
}

/// The first error of the steps below, as one line.
fn named(step: impl std::fmt::Display) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{step}: {error}"))
}

impl Egress {
    /// Makes the router, then keeps `size` attached namespaces ready. `state_dir` is for the file that is mounted. Blocks.
    pub(crate) fn start(config: &NetworkConfig, state_dir: &Path, size: usize) -> io::Result<Self> {
        let dns = if config.dns.is_empty() {
            resolv::of_host()?
        } else {
            config.dns.clone()
        };
        std::fs::create_dir_all(state_dir).map_err(named(state_dir.display()))?;
        let resolv_conf = state_dir.join("resolv.conf");
        std::fs::write(&resolv_conf, resolv::text(&dns)).map_err(named(resolv_conf.display()))?;
        let policy = Policy {
            dns,
            allow: config.allow.clone(),
            deny: config.deny.clone(),
            bandwidth_bytes: config.bandwidth_bytes,
        };
        // The thread that makes namespaces makes the router too: it may go where it likes. It says how that went.
        let (told, heard) = mpsc::channel();
        let mut router = None;
        let mut serial = 0;
        let netns = Prefab::start("egress", size, move || {
            if router.is_none() {
                match router::make(&policy) {
                    Ok(made) => {
                        // Nobody listens any more if the start was given up.
                        let _ = told.send(Ok(made.table.clone()));
                        router = Some(made);
                    }
                    Err(error) => {
                        let again = io::Error::new(error.kind(), error.to_string());
                        let _ = told.send(Err(error));
                        return Err(again);
                    }
                }
            }
            let router = router.as_ref().ok_or(io::ErrorKind::NotFound)?;
            let netns = netns::make()?;
            attach::attach(router, &mut serial)?;
            Ok(netns)
        })?;
        let table = heard
            .recv()
            .map_err(|_| io::Error::other("the thread that makes networks is gone"))??;
        Ok(Self {
            netns,
            resolv_conf,
            table,
        })
    }

    /// Takes the host's table and the file away; the interface goes with the last descriptor. Blocks.
    pub(crate) fn remove(&self) {
        if let Err(error) = router::remove_table(&self.table) {
            tracing::warn!(%error, table = self.table, "the host keeps a table of rules that nothing uses");
        }
        // The next start writes it anew.
        let _ = std::fs::remove_file(&self.resolv_conf);
    }
}

/// The namespace the calling thread is in.
fn current_namespace() -> io::Result<File> {
    File::open("/proc/thread-self/ns/net")
}
