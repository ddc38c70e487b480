//! The native gRPC API (`proto/hearth/v1`), with health and reflection. Its methods enter the same handlers and the
//! same invoke path as AWS's API; only the conversions are here, in `functions`, `invocation` and `cluster`.

mod aws;
mod cluster;
mod functions;
mod invocation;

use std::sync::Arc;

use hearth_core::limits::{
    CONTROL_REQUEST_MAX_BYTES, SYNC_REQUEST_MAX_BYTES, SYNC_RESPONSE_MAX_BYTES,
};
use hearth_proto::v1 as pb;
use pb::cluster_server::ClusterServer;
use pb::functions_server::FunctionsServer;
use pb::invocation_server::InvocationServer;
use tonic::service::{InterceptorLayer, Routes};
use tonic::{Request, Status};
use tower::Layer as _;

use crate::app::App;
use crate::budget::Share;
use crate::caller::Caller;

/// What a message has besides its payload.
const ENVELOPE_BYTES: usize = 64 << 10;

/// Why the services could not be put together.
#[derive(Debug, thiserror::Error)]
#[error("reflection of the gRPC services")]
pub(crate) struct RoutesError(#[source] tonic_reflection::server::Error);

/// All services. Health and reflection are open to everyone, as load balancers and tools expect; the others ask for
/// credentials.
pub(crate) async fn routes(app: &Arc<App>) -> Result<Routes, RoutesError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health
        .set_serving::<FunctionsServer<functions::Functions>>()
        .await;
    health
        .set_serving::<InvocationServer<invocation::Invocation>>()
        .await;
    health
        .set_serving::<ClusterServer<cluster::Cluster>>()
        .await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(RoutesError)?;
    let authenticated = {
        let app = Arc::clone(app);
        InterceptorLayer::new(move |request| authenticate(&app, request))
    };
    let functions = FunctionsServer::new(functions::Functions::new(Arc::clone(app)))
        .max_decoding_message_size(CONTROL_REQUEST_MAX_BYTES);
    let invocation = InvocationServer::new(invocation::Invocation::new(Arc::clone(app)))
        .max_decoding_message_size(SYNC_REQUEST_MAX_BYTES + ENVELOPE_BYTES)
        .max_encoding_message_size(SYNC_RESPONSE_MAX_BYTES + ENVELOPE_BYTES);
    let cluster = ClusterServer::new(cluster::Cluster::new(Arc::clone(app)));
    Ok(Routes::new(health_service)
        .add_service(reflection)
        .add_service(authenticated.layer(functions))
        .add_service(authenticated.layer(invocation))
        .add_service(authenticated.layer(cluster))
        .prepare())
}

fn authenticate(app: &App, mut request: Request<()>) -> Result<Request<()>, Status> {
    let value = request
        .metadata()
        .get("authorization")
        .and_then(|value| value.to_str().ok());
    let caller = app.auth.basic(value).ok_or_else(|| {
        Status::unauthenticated("send authorization: Basic base64(access_key_id:secret_access_key)")
    })?;
    request.extensions_mut().insert(caller);
    Ok(request)
}

/// The caller that the interceptor found.
fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    request
        .extensions()
        .get::<Caller>()
        .cloned()
        .ok_or_else(|| Status::unauthenticated("no credentials"))
}

/// A place among the requests in flight.
fn place(app: &App) -> Result<Share, Status> {
    app.requests.take(1).ok_or_else(|| {
        app.metrics.shed.inc();
        Status::unavailable("too many requests are in flight")
    })
}
