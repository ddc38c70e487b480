//! The floor of the warm path: the smallest hyper server that answers with the body it got.

use std::convert::Infallible;
use std::io::Write as _;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request
        .into_body()
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    Ok(Response::new(Full::new(body)))
}

/// Serves until killed; says its address on standard output.
pub(crate) async fn serve() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .context("listening")?;
    println!("{}", listener.local_addr().context("reading the address")?);
    std::io::stdout().flush().context("writing the address")?;
    loop {
        let (stream, _) = listener.accept().await.context("accepting")?;
        let _ = stream.set_nodelay(true);
        tokio::spawn(async move {
            let service = hyper::service::service_fn(answer);
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// The echo server as a process of its own: the process and its address.
pub(crate) async fn start() -> anyhow::Result<(Child, String)> {
    let mut child = Command::new(std::env::current_exe().context("finding this executable")?)
        .arg("echo")
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("starting the echo server")?;
    let output = child
        .stdout
        .take()
        .context("the echo server has an output")?;
    let addr = BufReader::new(output)
        .lines()
        .next_line()
        .await
        .context("reading its address")?;
    Ok((child, addr.context("the echo server ended")?))
}
