//! The gateway role: AWS's APIs and the native gRPC API on one port, routing, queueing. A gateway keeps soft state
//! only; nothing here is durable, and any number of gateways serve one cluster side by side.
//!
//! [`start`] is the whole interface: a caller gives [`Options`] and the seams (clock, chance, network) and gets a
//! running [`Gateway`]. Telemetry of the process is the caller's to set up, from `Options::telemetry`.

mod app;
mod auth;
mod blobs;
mod budget;
mod caller;
mod catalog;
mod channel;
mod controllers;
mod drain;
mod events;
mod grpc;
mod http;
mod iam;
mod invoke;
mod lambda;
mod links;
mod metrics;
mod options;
mod sharded;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod url;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hearth_core::ids::NodeId;
use hearth_node::Seams;
use hearth_node::admin::Admin;
use hearth_node::credentials::{self, Vault};
use hearth_node::grpc::ClusterIdentity;
use hearth_node::health::Health;
use hearth_node::listen::ListenError;
use hearth_node::shutdown::Shutdown;
use hearth_node::tls::{NodeRole, Tls, TlsError};
use hearth_registry::Registry;
use hearth_services::Services;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::app::App;
use crate::auth::Authenticator;
use crate::blobs::Blobs;
use crate::budget::Budget;
use crate::catalog::{Catalog, Lookups};
use crate::channel::Dialer;
use crate::controllers::Controllers;
use crate::drain::Drain;
use crate::events::{ControllerLog, Events};
use crate::iam::Iam;
use crate::invoke::{Capacity, Invoker, InvokerParts};
use crate::links::Links;
use crate::metrics::Metrics;

pub use crate::options::{Auth, EventOptions, IamOptions, Options, OptionsError};
pub use hearth_node::config::Secret;

/// Lines of versions that nobody invokes any more are swept this often.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// What tasks get beyond the time of the requests in flight.
const SHUTDOWN_SLACK: Duration = Duration::from_secs(5);

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An option cannot be.
    #[error("options of the gateway")]
    Options(#[source] OptionsError),
    /// A port cannot be had.
    #[error("listen for clients")]
    Listen(#[source] ListenError),
    /// TLS between nodes.
    #[error("TLS between nodes cannot be set up")]
    Tls(#[source] TlsError),
    /// The admin port cannot be had.
    #[error("listen for the admin port")]
    AdminListen(#[source] ListenError),
    /// A controller's address is none.
    #[error("addresses of the controllers")]
    Controllers(#[source] tonic::Status),
    /// The cluster's id is none.
    #[error("cluster id")]
    ClusterId(#[source] hearth_node::grpc::ClusterIdError),
    /// Clients of the services around the cluster.
    #[error("clients of destinations")]
    Services(#[source] hearth_services::ServicesOptionsError),
    /// A fault of the build.
    #[error("gRPC services")]
    Grpc(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    /// Where clients connect, with the port that was picked.
    pub addr: SocketAddr,
    /// Where the admin port is.
    pub admin_addr: SocketAddr,
    drain: Drain,
    grace: Duration,
    /// Falls first: streams to workers must outlive the requests in flight.
    serving: CancellationToken,
    served: CancellationToken,
    shutdown: Shutdown,
    limit: Duration,
}

impl Gateway {
    /// Drains, then takes no more connections and requests and lets those in flight end, up to the limits of the options.
    pub async fn shutdown(self) {
        self.drain.end(self.grace).await;
        self.serving.cancel();
        // Connections end themselves at the limit.
        let _ = tokio::time::timeout(self.limit + SHUTDOWN_SLACK, self.served.cancelled()).await;
        self.shutdown.start();
        if let Err(error) = self.shutdown.wait_with_deadline(SHUTDOWN_SLACK).await {
            warn!(%error, "gateway ended with tasks left");
        }
    }
}

/// Starts a gateway; its ports are bound when this returns. It is ready (`/readyz`) when it has the catalog and a
/// worker.
pub async fn start(options: Options, seams: Seams) -> Result<Gateway, StartError> {
    options.validate().map_err(StartError::Options)?;
    if options.auth == Auth::Any {
        warn!(
            "AUTHENTICATION IS OFF (auth = \"any\"): everyone who reaches {} owns every account",
            options.listen
        );
    }
    let tls = open_tls(&options, &seams)?;
    let listener = seams.net.listen(options.listen).await;
    let listener = listener.map_err(StartError::Listen)?;
    let admin = seams.net.listen(options.admin_listen).await;
    let admin = admin.map_err(StartError::AdminListen)?;
    let (addr, admin_addr) = (listener.local_addr(), admin.local_addr());
    let health = Health::new(seams.clock.clone());
    health.set_ready("catalog", false, "not yet received");
    health.set_ready("workers", false, "none connected");
    let shutdown = Shutdown::new(health.clone());
    let node_metrics = hearth_node::metrics::Metrics::new("gateway");
    tls.register(&node_metrics);
    shutdown.spawn("tls", tls.clone().watch(shutdown.token()));
    let app = Arc::new(assemble(
        &options,
        &seams,
        &tls,
        &health,
        &shutdown,
        &node_metrics,
    )?);
    let grpc = grpc::routes(&app)
        .await
        .map_err(|error| StartError::Grpc(Box::new(error)))?;
    Admin {
        health: health.clone(),
        metrics: node_metrics,
    }
    .spawn(admin, &shutdown);
    follow(&app, &health, addr, &shutdown);
    let (limit, grace) = (options.shutdown_timeout.0, options.drain_grace.0);
    let drain = app.drain.clone();
    let (serving, served) = (CancellationToken::new(), CancellationToken::new());
    let server = http::server::run(app, grpc, listener, serving.clone());
    let done = served.clone().drop_guard();
    shutdown.spawn("http", async move {
        let _done = done;
        server.await;
    });
    info!(%addr, %admin_addr, node = options.node_id, "gateway listens");
    Ok(Gateway {
        addr,
        admin_addr,
        drain,
        grace,
        serving,
        served,
        shutdown,
        limit,
    })
}

/// Starts what keeps the gateway's picture of the cluster current.
fn follow(app: &Arc<App>, health: &Health, addr: SocketAddr, shutdown: &Shutdown) {
    let watching = catalog::watch(
        catalog::Watching {
            catalog: Arc::clone(&app.catalog),
            directory: Arc::clone(&app.iam.directory),
            controllers: Arc::clone(&app.controllers),
            invoker: Arc::clone(&app.invoker),
            health: health.clone(),
            drain: app.drain.clone(),
            addr: addr.to_string(),
        },
        shutdown.token(),
    );
    shutdown.spawn("catalog", watching);
    let judging = Arc::clone(&app.invoker).watch_standing(shutdown.token());
    shutdown.spawn("standing of workers", judging);
    shutdown.spawn("sweep", sweep(Arc::clone(app), shutdown.token()));
    let dispatching = events::run(Arc::clone(app), shutdown.token());
    shutdown.spawn("events", dispatching);
}

/// Towards the other nodes; clients are served as ever.
fn open_tls(options: &Options, seams: &Seams) -> Result<Tls, StartError> {
    let me = (
        options.cluster_id.as_str(),
        NodeRole::Gateway,
        options.node_id,
    );
    Tls::open(&options.tls, None, me, &seams.clock).map_err(StartError::Tls)
}

fn assemble(
    options: &Options,
    seams: &Seams,
    tls: &Tls,
    health: &Health,
    shutdown: &Shutdown,
    node_metrics: &hearth_node::metrics::Metrics,
) -> Result<App, StartError> {
    let identity = match options.cluster_id.as_str() {
        "" => ClusterIdentity::unknown(),
        id => ClusterIdentity::known(id).map_err(StartError::ClusterId)?,
    };
    let dialer = |callee| Dialer::new(tls.net(&seams.net, callee), identity.clone());
    let to_controllers = dialer(NodeRole::Controller);
    let controllers = Controllers::new(
        &options.controllers,
        &to_controllers,
        seams,
        options.control_timeout.0,
    )
    .map_err(StartError::Controllers)?;
    let controllers = Arc::new(controllers);
    let metrics = Metrics::register(node_metrics);
    let catalog = Arc::new(Catalog::new(options.region.clone()));
    let root = options
        .account_id
        .parse()
        .map_err(|_| StartError::Options(OptionsError::Account(options.account_id.clone())))?;
    let invoker = Invoker::new(InvokerParts {
        node_id: NodeId(options.node_id),
        seams: seams.clone(),
        dialer: dialer(NodeRole::Worker),
        shutdown: shutdown.clone(),
        health: health.clone(),
        metrics: metrics.clone(),
        queue_timeout: options.queue_timeout.0,
        capacity: Capacity::new(Arc::clone(&controllers)),
        catalog: Arc::clone(&catalog),
    });
    let iam = iam(options, seams);
    let log = ControllerLog::new(
        Arc::clone(&controllers),
        NodeId(options.node_id),
        options.control_timeout.0,
    );
    let services = Services::new(&options.endpoints, &options.region, seams);
    Ok(App {
        auth: Authenticator::new(options, root, Arc::clone(&iam)),
        iam,
        lookups: Lookups::new(Arc::clone(&catalog), Arc::clone(&controllers)),
        registry: Registry::new(options.registries.clone()),
        blobs: Blobs::new(Arc::clone(&controllers), options.cluster_id.clone()),
        links: Links::new(&link_secret(options, seams), &options.cluster_id),
        events: Events {
            log: Arc::new(log),
            services: services.map_err(StartError::Services)?,
        },
        catalog,
        controllers,
        invoker: Arc::new(invoker),
        metrics,
        drain: Drain::new(health.clone()),
        requests: Budget::new(options.max_requests as usize),
        body_memory: Budget::new(options.max_body_memory.as_usize()),
        options: options.clone(),
        seams: seams.clone(),
    })
}

fn iam(options: &Options, seams: &Seams) -> Arc<Iam> {
    let key = match options.iam.key.0.as_str() {
        "" => link_secret(options, seams),
        key => key.to_owned(),
    };
    let session_key = match options.iam.session_key.0.as_str() {
        "" => credentials::session_key(&key),
        own => own.to_owned(),
    };
    let old = || options.iam.old_keys.iter().map(|key| key.0.clone());
    let old_sessions = old().map(|key| credentials::session_key(&key));
    let vault =
        |keys: Vec<String>| Vault::new(keys.iter().map(String::as_str), &options.cluster_id);
    Arc::new(Iam {
        directory: Arc::default(),
        vault: vault(std::iter::once(key).chain(old()).collect()),
        sessions: vault(std::iter::once(session_key).chain(old_sessions).collect()),
    })
}

/// Without credentials (`auth = "any"`) links, and what is sealed, are good at this gateway and until it ends.
fn link_secret(options: &Options, seams: &Seams) -> String {
    match options.secret_access_key.0.as_str() {
        "" => hex::encode(seams.random.bytes(32)),
        secret => secret.to_owned(),
    }
}

async fn sweep(app: Arc<App>, token: CancellationToken) {
    loop {
        tokio::select! {
            () = token.cancelled() => return,
            () = tokio::time::sleep(SWEEP_EVERY) => {}
        }
        app.invoker.sweep();
        app.metrics
            .functions
            .set(i64::try_from(app.catalog.len()).unwrap_or(i64::MAX));
    }
}
