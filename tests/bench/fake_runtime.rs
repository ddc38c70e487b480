//! The floor of the cold path: the smallest Runtime API, which hands one event to a program and sees its answer.

use std::convert::Infallible;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::Notify;

async fn answer(
    request: Request<Incoming>,
    answered: Arc<Notify>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let is_next = request.method() == Method::GET;
    let _ = request.into_body().collect().await;
    if !is_next {
        answered.notify_one();
        return Ok(Response::builder()
            .status(202)
            .body(Full::new(Bytes::new()))
            .expect("a fixed response"));
    }
    let response = Response::builder()
        .header("content-type", "application/json")
        .header(
            "lambda-runtime-aws-request-id",
            "8476a536-e9f4-11e8-9739-2dfe598c3fcd",
        )
        .header("lambda-runtime-deadline-ms", "4102444800000")
        .header(
            "lambda-runtime-invoked-function-arn",
            "arn:aws:lambda:us-east-1:000000000000:function:bench",
        )
        .header(
            "lambda-runtime-trace-id",
            "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0",
        )
        .body(Full::new(Bytes::from_static(b"{}")))
        .expect("a fixed response");
    Ok(response)
}

/// Starts `command` against a Runtime API and gives the microseconds until its first answer.
pub(crate) async fn first_answer(mut command: Command) -> anyhow::Result<u64> {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .context("listening")?;
    let addr = listener.local_addr().context("reading the address")?;
    let answered = Arc::new(Notify::new());
    let begin = super::load::now();
    let mut child = command
        .env("AWS_LAMBDA_RUNTIME_API", addr.to_string())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("starting the program")?;
    let serve = {
        let answered = answered.clone();
        async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answered = answered.clone();
                let service =
                    hyper::service::service_fn(move |request| answer(request, answered.clone()));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        }
    };
    let took = tokio::select! {
        () = answered.notified() => begin.elapsed(),
        () = serve => anyhow::bail!("the listener ended"),
        status = child.wait() => anyhow::bail!("the program ended without an answer: {status:?}"),
        () = tokio::time::sleep(std::time::Duration::from_secs(20)) => anyhow::bail!("no answer in 20 s"),
    };
    let _ = child.kill().await;
    Ok(u64::try_from(took.as_micros()).unwrap_or(u64::MAX))
}
