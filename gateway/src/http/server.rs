//! Accepts connections and serves them until the gateway ends; requests in flight may finish then. What a request
//! goes through is in `service`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hearth_node::net::{NetListener, NetStream};
use http::{Request, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tracing::debug;

use super::patience::{InRequest, Patient};
use super::service;
use crate::app::App;

/// Pause after a failed accept (out of file descriptors, mostly), so that it is not retried in a busy loop.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// An idle HTTP/1.1 connection is closed after this; longer than the idle time of AWS's SDKs' pools.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// HTTP/2 pings find clients that vanished.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests at a time on one HTTP/2 connection.
const STREAMS_PER_CONNECTION: u32 = 1_024;
/// Windows for 6 MB payloads.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
/// Largest head: signed URLs and session tokens are a few KB.
const HEAD_MAX_BYTES: usize = 64 << 10;

/// Serves until `token` falls and the connections have ended, or their time is over.
pub(crate) async fn run(
    app: Arc<App>,
    grpc: Routes,
    mut listener: Box<dyn NetListener>,
    token: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(app.options.max_connections as usize));
    let connections = TaskTracker::new();
    let builder = Arc::new(builder());
    loop {
        let accepted = tokio::select! {
            () = token.cancelled() => break,
            accepted = accept(&mut listener, &places) => accepted,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                debug!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
                continue;
            }
        };
        let (app, grpc, builder, token) = (
            Arc::clone(&app),
            grpc.clone(),
            Arc::clone(&builder),
            token.clone(),
        );
        connections.spawn(async move {
            let _place = place;
            connection(app, grpc, &builder, stream, token).await;
        });
    }
    drop(listener);
    connections.close();
    // Each connection ends itself when its time is over.
    connections.wait().await;
}

async fn accept(
    listener: &mut Box<dyn NetListener>,
    places: &Arc<Semaphore>,
) -> std::io::Result<(NetStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places)
        .acquire_owned()
        .await
        .expect("the semaphore is never closed");
    Ok((listener.accept().await?, place))
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        .max_buf_size(HEAD_MAX_BYTES * 4);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(u32::try_from(HEAD_MAX_BYTES).unwrap_or(u32::MAX));
    builder
}

async fn connection(
    app: Arc<App>,
    grpc: Routes,
    builder: &auto::Builder<TokioExecutor>,
    stream: NetStream,
    token: CancellationToken,
) {
    let _open = app.drain.open();
    let drain = app.drain.clone();
    let in_request = InRequest::default();
    let is_http2 = Arc::new(AtomicBool::new(false));
    let speaks_http2 = Arc::clone(&is_http2);
    let peer = stream.peer().ip();
    let stream = Patient::new(stream, app.options.header_timeout.0, in_request.clone());
    let last_minute = app.options.shutdown_timeout.0;
    let service = service_fn(move |request: Request<Incoming>| {
        if request.version() >= Version::HTTP_2 {
            speaks_http2.store(true, Ordering::Relaxed);
        }
        let (app, grpc, in_request) = (Arc::clone(&app), grpc.clone(), in_request.clone());
        async move {
            in_request.begin();
            let response = service::serve(app, grpc, request, peer).await;
            in_request.end();
            response
        }
    });
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let mut is_told = false;
    let ended = loop {
        tokio::select! {
            ended = serving.as_mut() => break Some(ended),
            () = token.cancelled() => {
                serving.as_mut().graceful_shutdown();
                break tokio::time::timeout(last_minute, serving).await.ok();
            }
            () = drain.begun(), if !is_told => {
                is_told = true;
                // HTTP/2 loses no request by it. An HTTP/1.1 connection would be closed under a request that is on its
                // way; it is closed after its next answer instead.
                if is_http2.load(Ordering::Relaxed) {
                    serving.as_mut().graceful_shutdown();
                }
            }
        }
    };
    if let Some(Err(error)) = ended {
        debug!(%error, "connection ended");
    }
}
