//! Keeps clusters and roles apart: a node says whose it is in each call, and refuses a peer that belongs to another, or
//! whose certificate is of a role that may not make the call.
//!
//! Not here: authentication, which is `crate::tls`'s. The header protects from mistakes (a reused address, a wrong
//! configuration) where there is no TLS.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use futures::future::{Either, Ready, ready};
use tonic::body::Body;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};
use tower::{Layer, Service};
use tracing::instrument::Instrumented;
use tracing::{Instrument as _, Span, debug_span, warn};

use crate::net::Peer;
use crate::telemetry;
use crate::tls::access;

/// Metadata key that carries the caller's cluster id.
pub const CLUSTER_ID_HEADER: &str = "hearth-cluster-id";

/// Metadata key that carries the caller's place in a trace, as W3C has it.
const TRACEPARENT_HEADER: &str = "traceparent";

/// The cluster this node belongs to; unknown until it was founded or joined. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct ClusterIdentity {
    id: Arc<OnceLock<MetadataValue<Ascii>>>,
}

/// Why a cluster id was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClusterIdError {
    /// Not visible ASCII.
    #[error("`{0}` is not a cluster id")]
    Malformed(String),
    /// This node belongs to another cluster already.
    #[error("this node belongs to cluster `{known}`, not `{given}`")]
    Other {
        /// Where it belongs.
        known: String,
        /// What was to be set.
        given: String,
    },
}

impl ClusterIdentity {
    /// Nothing is sent and nothing is refused until [`ClusterIdentity::set`].
    pub fn unknown() -> Self {
        Self::default()
    }

    /// A node that belongs to a cluster.
    pub fn known(id: &str) -> Result<Self, ClusterIdError> {
        let identity = Self::default();
        identity.set(id)?;
        Ok(identity)
    }

    /// Fixes the cluster; the same id again is fine, another is refused.
    pub fn set(&self, id: &str) -> Result<(), ClusterIdError> {
        let value = MetadataValue::try_from(id)
            .ok()
            .filter(|_| !id.is_empty())
            .ok_or_else(|| ClusterIdError::Malformed(id.to_owned()))?;
        match self.id.get_or_init(|| value) {
            known if known == id => Ok(()),
            known => Err(ClusterIdError::Other {
                known: known.to_str().unwrap_or_default().to_owned(),
                given: id.to_owned(),
            }),
        }
    }

    /// The id, once known.
    pub fn get(&self) -> Option<&str> {
        self.id.get().and_then(|id| id.to_str().ok())
    }

    /// A peer which names no cluster passes: it may be about to join, or be a user's client.
    fn accepts(&self, peer: Option<&http::HeaderValue>) -> bool {
        match (self.id.get(), peer) {
            (Some(own), Some(peer)) => own.as_encoded_bytes() == peer.as_bytes(),
            (None, _) | (_, None) => true,
        }
    }
}

/// The span of a call that is part of a trace.
fn span(request: &http::Request<Body>) -> Span {
    let parent = request.headers().get(TRACEPARENT_HEADER);
    let Some(parent) = parent.and_then(|parent| parent.to_str().ok()) else {
        return Span::none();
    };
    let span = debug_span!("rpc", method = request.uri().path());
    telemetry::set_parent(&span, parent);
    span
}

/// Adds the cluster id, and the place in a trace if there is one, to each call of a client.
#[derive(Debug, Clone)]
pub struct AddClusterId {
    identity: ClusterIdentity,
}

impl AddClusterId {
    /// Says `identity` in each call.
    pub fn new(identity: ClusterIdentity) -> Self {
        Self { identity }
    }
}

impl Interceptor for AddClusterId {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(id) = self.identity.id.get() {
            request.metadata_mut().insert(CLUSTER_ID_HEADER, id.clone());
        }
        let parent = telemetry::traceparent(&Span::current());
        if let Some(parent) = parent.and_then(|parent| MetadataValue::try_from(parent).ok()) {
            request.metadata_mut().insert(TRACEPARENT_HEADER, parent);
        }
        Ok(request)
    }
}

/// Puts [`CheckClusterId`] before a server's services.
#[derive(Debug, Clone)]
pub struct CheckClusterIdLayer {
    identity: ClusterIdentity,
}

impl CheckClusterIdLayer {
    /// Refuses peers that are not of `identity`.
    pub fn new(identity: ClusterIdentity) -> Self {
        Self { identity }
    }
}

impl<S> Layer<S> for CheckClusterIdLayer {
    type Service = CheckClusterId<S>;

    fn layer(&self, inner: S) -> CheckClusterId<S> {
        CheckClusterId {
            inner,
            identity: self.identity.clone(),
        }
    }
}

/// Answers FAILED_PRECONDITION to a peer of another cluster and PERMISSION_DENIED to one of the wrong role, before its
/// message is read.
#[derive(Clone)]
pub struct CheckClusterId<S> {
    inner: S,
    identity: ClusterIdentity,
}

impl<S> fmt::Debug for CheckClusterId<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckClusterId")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl<S> Service<http::Request<Body>> for CheckClusterId<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Either<Instrumented<S::Future>, Ready<Result<Self::Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if let Err(status) = self.check(&request) {
            return Either::Right(ready(Ok(status.into_http())));
        }
        let span = span(&request);
        let call = span.in_scope(|| self.inner.call(request));
        Either::Left(call.instrument(span))
    }
}

impl<S> CheckClusterId<S> {
    fn check(&self, request: &http::Request<Body>) -> Result<(), Status> {
        if let Some(peer) = request.extensions().get::<Peer>() {
            let path = request.uri().path();
            access::check(&peer.caller, path).map_err(|refusal| {
                warn!(peer = %peer.addr, refusal, "a call was refused");
                Status::permission_denied(refusal)
            })?;
        }
        let peer = request.headers().get(CLUSTER_ID_HEADER);
        if self.identity.accepts(peer) {
            return Ok(());
        }
        let own = self.identity.get().unwrap_or_default();
        Err(Status::failed_precondition(format!(
            "the caller belongs to another cluster; this node is of `{own}`"
        )))
    }
}
