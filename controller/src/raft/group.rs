//! The peer service of a group that is not a controller's first: the same service under a path of its own, so that a
//! controller of a release without the group refuses what is meant for it.

use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::task::{Context, Poll};

use hearth_proto::internal::v1::raft_peer_server::RaftPeerServer;
use http::uri::{PathAndQuery, Uri};
use http::{Request, Response};
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

use super::machine::Machine;
use super::service::PeerService;

/// See the module's text. `P` names the path.
pub struct GroupService<M: Machine, P> {
    inner: RaftPeerServer<PeerService<M>>,
    path: PhantomData<fn() -> P>,
}

impl<M: Machine, P> GroupService<M, P> {
    pub(super) fn new(inner: RaftPeerServer<PeerService<M>>) -> Self {
        let path = PhantomData;
        Self { inner, path }
    }
}

impl<M: Machine, P> Clone for GroupService<M, P> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone())
    }
}

impl<M: Machine, P> fmt::Debug for GroupService<M, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupService").finish_non_exhaustive()
    }
}

impl<M: Machine, P: NamedService> NamedService for GroupService<M, P> {
    const NAME: &'static str = P::NAME;
}

impl<M: Machine, P: NamedService> Service<Request<Body>> for GroupService<M, P> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = <RaftPeerServer<PeerService<M>> as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        <RaftPeerServer<PeerService<M>> as Service<Request<Body>>>::poll_ready(
            &mut self.inner,
            context,
        )
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(uri) = without(P::NAME, request.uri()) {
            *request.uri_mut() = uri;
        }
        self.inner.call(request)
    }
}

/// The address without the group's name at its front.
fn without(name: &str, uri: &Uri) -> Option<Uri> {
    let rest = uri.path().strip_prefix('/')?.strip_prefix(name)?;
    let path: PathAndQuery = rest.parse().ok()?;
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_goes_and_the_rest_stays() {
        let uri = Uri::from_static("http://host:1/events/hearth.internal.v1.RaftPeer/Vote");
        let plain = without("events", &uri).unwrap();
        assert_eq!(plain, "http://host:1/hearth.internal.v1.RaftPeer/Vote");
        assert_eq!(without("other", &uri), None);
        assert_eq!(without("events", &Uri::from_static("/events")), None);
    }
}
