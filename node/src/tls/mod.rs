//! Mutual TLS between nodes: whom a node believes, who it proves to be, and the network seam that carries it.
//!
//! | file | what |
//! |---|---|
//! | `name` | who a certificate says its holder is |
//! | `options` | the `[tls]` section |
//! | `credentials` | certificates and keys as files have them |
//! | `authority` | a CA that signs |
//! | `verify`, `refusal` | whether a certificate is believed, and why not |
//! | `access` | which role may call what |
//! | `configs`, `net` | rustls set up; TLS on top of any [`crate::net::Net`] |
//! | `plain` | plaintext, and the mistake of one side speaking TLS |
//! | `life` | when a certificate is renewed |
//!
//! A certificate is checked when a connection is made; a connection that stands goes on when it expires or is replaced.
//!
//! Not here: joining and renewing, which are calls to a controller (crate `hearth`).

pub mod access;
mod authority;
mod configs;
mod credentials;
mod life;
mod metrics;
mod name;
mod net;
mod options;
pub(crate) mod plain;
mod refusal;
mod verify;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

pub use authority::{Authority, AuthorityError, Request};
pub use credentials::{Bundle, Credentials, CredentialsError, KeyPem};
pub use life::Validity;
pub use name::{NameError, NodeName, NodeRole};
pub use net::joining_net;
pub use options::{TlsFiles, TlsMode, TlsOptions};
pub use refusal::{Refusal, fingerprint, rfc3339};
pub use verify::{Trust, Verifier};

use crate::clock::SharedClock;
use crate::metrics::Metrics;
use crate::net::SharedNet;
use configs::Configs;
use net::{Complaints, TlsNet};
use plain::PlainNet;

/// Why a node cannot speak TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The node cannot be named.
    #[error("the node cannot be named in a certificate")]
    Name(#[source] NameError),
    /// The files.
    #[error(
        "the node's certificate cannot be used; join with a token, or have one issued (`hearth ca issue`)"
    )]
    Credentials(#[source] CredentialsError),
    /// The certificate is another node's.
    #[error("the certificate is of {found}, and this node is {wanted}")]
    Foreign {
        /// This node.
        wanted: Box<NodeName>,
        /// Whose certificate it is.
        found: Box<NodeName>,
    },
    /// The library refused; the text holds no secret.
    #[error("certificate and key cannot be used together: {0}")]
    Library(String),
}

/// A node's TLS, or its absence. Clones share it.
#[derive(Clone, Default)]
pub struct Tls {
    inner: Option<Arc<Inner>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.inner.as_ref().map(|inner| &inner.name);
        f.debug_struct("Tls").field("name", &name).finish()
    }
}

/// What all connections of a node share.
struct Inner {
    name: NodeName,
    clock: SharedClock,
    /// Where the credentials are read anew; none when they are in memory alone.
    files: Option<TlsFiles>,
    check_every: Duration,
    now: ArcSwap<Loaded>,
    complaints: Complaints,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsInner")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What new connections are made with.
struct Loaded {
    credentials: Credentials,
    configs: Configs,
    stamp: Stamp,
}

/// Size and time of each file: what tells that one was replaced.
type Stamp = [Option<(u64, SystemTime)>; 3];

impl TlsFiles {
    fn stamp(&self) -> Stamp {
        [&self.ca, &self.cert, &self.key].map(|path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.len(), metadata.modified().ok()?))
        })
    }
}

impl Tls {
    /// Plaintext.
    pub fn off() -> Self {
        Self::default()
    }

    /// As the options say, for the node `id` of a role. Blocking: for the start.
    pub fn open(
        options: &TlsOptions,
        data_dir: Option<&Path>,
        (cluster, role, id): (&str, NodeRole, u64),
        clock: &SharedClock,
    ) -> Result<Self, TlsError> {
        if !options.is_on(data_dir) {
            return Ok(Self::off());
        }
        let name = NodeName::new(cluster, role, id).map_err(TlsError::Name)?;
        let files = options.files(data_dir);
        let loaded = Loaded::from_files(&files, &name, clock)?;
        let inner = Inner {
            name,
            clock: Arc::clone(clock),
            files: Some(files),
            check_every: options.check_every.0,
            now: ArcSwap::from_pointee(loaded),
            complaints: Complaints::default(),
        };
        inner.warn_of_expiry();
        Ok(Self {
            inner: Some(Arc::new(inner)),
        })
    }

    /// With credentials that are in no file.
    pub fn of(credentials: Credentials, clock: &SharedClock) -> Result<Self, TlsError> {
        let inner = Inner {
            name: credentials.name.clone(),
            clock: Arc::clone(clock),
            files: None,
            check_every: Duration::MAX,
            now: ArcSwap::from_pointee(Loaded::new(credentials, clock, Stamp::default())?),
            complaints: Complaints::default(),
        };
        Ok(Self {
            inner: Some(Arc::new(inner)),
        })
    }

    /// Whether there is TLS at all.
    pub fn is_on(&self) -> bool {
        self.inner.is_some()
    }

    /// TLS upon `plain`: callers must show a certificate of the cluster, and whoever is called must be a `callee`. Without
    /// TLS it is `plain`, which then tells of a peer that speaks TLS.
    pub fn net(&self, plain: &SharedNet, callee: NodeRole) -> SharedNet {
        match &self.inner {
            None => Arc::new(PlainNet(SharedNet::clone(plain))),
            Some(inner) => Arc::new(TlsNet {
                plain: SharedNet::clone(plain),
                tls: Arc::clone(inner),
                callee,
            }),
        }
    }

    /// How long the certificate in use is good, and the fingerprint of the CA that signed it.
    pub fn certificate(&self) -> Option<(Validity, String)> {
        let now = self.inner.as_ref()?.now.load();
        Some((now.credentials.validity, now.credentials.issuer.clone()))
    }

    /// The CAs that are trusted now.
    pub fn bundle(&self) -> Option<Bundle> {
        let now = self.inner.as_ref()?.now.load();
        Some(now.credentials.bundle.clone())
    }

    /// Takes up the files if they were replaced. Blocking, for three `stat`s mostly.
    pub fn reload(&self) {
        if let Some(inner) = &self.inner {
            inner.reload();
        }
    }

    /// Looks for replaced files until `stop` falls.
    pub async fn watch(self, stop: CancellationToken) {
        let Some(inner) = self.inner.filter(|inner| inner.files.is_some()) else {
            return;
        };
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(inner.check_every) => {}
            }
            let (inner, reloading) = (Arc::clone(&inner), tokio::runtime::Handle::current());
            // Small files on a local disk; the disk may be slow all the same.
            drop(reloading.spawn_blocking(move || inner.reload()).await);
        }
    }

    /// Shows the certificate's remaining life, and which CAs are in use, at each scrape.
    pub fn register(&self, metrics: &Metrics) {
        if let Some(inner) = &self.inner {
            metrics.register_collector(Box::new(metrics::TlsCollector::new(Arc::clone(inner))));
        }
    }
}

impl Inner {
    fn reload(&self) {
        let Some(files) = &self.files else {
            return;
        };
        if files.stamp() == self.now.load().stamp {
            return;
        }
        // Three files are not replaced at once: between two of them they may not fit, and the next look will do.
        match Loaded::from_files(files, &self.name, &self.clock) {
            Ok(loaded) => {
                let until = rfc3339(loaded.credentials.validity.not_after_ms);
                info!(%until, "certificate taken up");
                self.now.store(Arc::new(loaded));
                self.warn_of_expiry();
            }
            Err(error) => {
                let reason = chain(&error);
                warn!(
                    reason,
                    "new certificate files cannot be used; the ones before are kept"
                );
            }
        }
    }

    fn warn_of_expiry(&self) {
        let validity = self.now.load().credentials.validity;
        if !validity.is_good(self.clock.unix_ms()) {
            let (from, until) = (
                rfc3339(validity.not_before_ms),
                rfc3339(validity.not_after_ms),
            );
            error!(node = %self.name, from, until, "this node's certificate is not valid now: other nodes will refuse it");
        }
    }
}

impl Loaded {
    fn new(credentials: Credentials, clock: &SharedClock, stamp: Stamp) -> Result<Self, TlsError> {
        let configs = Configs::new(&credentials, clock)?;
        Ok(Self {
            credentials,
            configs,
            stamp,
        })
    }

    fn from_files(
        files: &TlsFiles,
        name: &NodeName,
        clock: &SharedClock,
    ) -> Result<Self, TlsError> {
        // Before the content: what is written meanwhile is read again.
        let stamp = files.stamp();
        let credentials = Credentials::load(files).map_err(TlsError::Credentials)?;
        if credentials.name != *name {
            return Err(TlsError::Foreign {
                wanted: Box::new(name.clone()),
                found: Box::new(credentials.name),
            });
        }
        Self::new(credentials, clock, stamp)
    }
}

/// An error with its causes, one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
