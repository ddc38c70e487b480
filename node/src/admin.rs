//! The admin port: `/metrics`, `/healthz` and `/readyz` over HTTP/1.1.
//!
//! Not here: anything a user of the cluster calls. The port has no authentication; bind it to a private address.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;
use tracing::debug;

use crate::health::{Health, HealthReport};
use crate::metrics::{CONTENT_TYPE, Metrics};
use crate::net::{NetListener, NetStream};
use crate::shutdown::Shutdown;

/// Connections served at a time: probes and a few scrapers. More wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 64;

/// A client that has not sent its headers by then is cut off (slow loris, idle connections).
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest life of one connection; a client that does not read its answer holds its place no longer.
const CONNECTION_LIMIT: Duration = Duration::from_secs(300);

/// Pause after a failed accept (out of file descriptors, mostly), so that it is not retried in a busy loop.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// What the admin port shows.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Answers `/healthz` and `/readyz`.
    pub health: Health,
    /// Answers `/metrics`.
    pub metrics: Metrics,
}

impl Admin {
    /// Serves until `shutdown` starts, as a task of it.
    pub fn spawn(self, listener: Box<dyn NetListener>, shutdown: &Shutdown) {
        let token = shutdown.token();
        shutdown.spawn("admin", async move {
            tokio::select! {
                () = token.cancelled() => {}
                () = self.serve(listener, HEADER_READ_TIMEOUT) => {}
            }
        });
    }

    async fn serve(self, mut listener: Box<dyn NetListener>, header_timeout: Duration) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        // Dropped with this future, which ends the connections.
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let place = Arc::clone(&places)
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            while connections.try_join_next().is_some() {}
            let stream = match listener.accept().await {
                Ok(stream) => stream,
                Err(error) => {
                    debug!(%error, "admin accept failed");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                    continue;
                }
            };
            let admin = self.clone();
            connections.spawn(async move {
                let _place = place;
                let serving = admin.serve_connection(stream, header_timeout);
                let _ = tokio::time::timeout(CONNECTION_LIMIT, serving).await;
            });
        }
    }

    async fn serve_connection(self, stream: NetStream, header_timeout: Duration) {
        let service = service_fn(move |request: Request<Incoming>| {
            let response = self.answer(request.method(), request.uri().path());
            async move { Ok::<_, Infallible>(response) }
        });
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(header_timeout)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = served {
            debug!(%error, "admin connection ended");
        }
    }

    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if method != Method::GET && method != Method::HEAD {
            return response(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "GET only\n");
        }
        match path {
            "/metrics" => response(StatusCode::OK, CONTENT_TYPE, self.metrics.render()),
            "/healthz" => report(&self.health.liveness()),
            "/readyz" => report(&self.health.readiness()),
            _ => response(
                StatusCode::NOT_FOUND,
                "text/plain",
                "try /metrics, /healthz or /readyz\n",
            ),
        }
    }
}

fn report(report: &HealthReport) -> Response<Full<Bytes>> {
    let status = if report.ok {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = serde_json::to_vec(report).expect("a map of strings serialises");
    response(status, "application/json", body)
}

fn response(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(content_type),
    );
    response
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::clock::SystemClock;
    use crate::net::{Net, TcpNet};

    async fn start(header_timeout: Duration) -> (Health, SocketAddr) {
        let health = Health::new(SystemClock::shared());
        let admin = Admin {
            health: health.clone(),
            metrics: Metrics::new("worker"),
        };
        let any = "127.0.0.1:0".parse().unwrap();
        let listener = TcpNet.listen(any).await.unwrap();
        let addr = listener.local_addr();
        tokio::spawn(admin.serve(listener, header_timeout));
        (health, addr)
    }

    async fn exchange(addr: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn fetch(addr: SocketAddr, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        exchange(addr, &request).await
    }

    #[tokio::test]
    async fn probes_and_metrics_are_served() {
        let (health, addr) = start(HEADER_READ_TIMEOUT).await;
        assert!(fetch(addr, "/readyz").await.starts_with("HTTP/1.1 200"));
        health.set_ready("catalog", false, "not yet received");
        let unready = fetch(addr, "/readyz").await;
        assert!(unready.starts_with("HTTP/1.1 503"));
        assert!(unready.contains("not yet received"));
        assert!(fetch(addr, "/healthz").await.starts_with("HTTP/1.1 200"));
        assert!(fetch(addr, "/metrics").await.contains("hearth_build_info"));
        assert!(fetch(addr, "/other").await.starts_with("HTTP/1.1 404"));
    }

    #[tokio::test]
    async fn a_client_that_stalls_in_its_headers_is_cut_off() {
        let (_, addr) = start(Duration::from_millis(20)).await;
        let answer = exchange(addr, "GET /metrics HTTP/1.1\r\nhost:").await;
        assert!(!answer.contains("200"), "{answer}");
    }

    #[tokio::test]
    async fn shutdown_ends_the_server() {
        let health = Health::new(SystemClock::shared());
        let shutdown = Shutdown::new(health.clone());
        let listener = TcpNet.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let metrics = Metrics::new("worker");
        Admin { health, metrics }.spawn(listener, &shutdown);
        shutdown.start();
        shutdown
            .wait_with_deadline(Duration::from_secs(10))
            .await
            .unwrap();
    }
}
