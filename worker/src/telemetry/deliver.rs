//! Sends the events of one subscriber to its listener inside the sandbox, batch by batch, for as long as the sandbox lives.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use hearth_core::telemetry::batch::Rendered;
use hearth_core::telemetry::event::Record;
use hearth_core::telemetry::subscription::Destination;
use http::header::{CONNECTION, CONTENT_TYPE, HOST};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tracing::debug;

use super::Subscriber;
use crate::pool::sandbox::WeakSandbox;
use crate::sandbox::driver::RuntimeApiStream;

/// A listener that takes longer for one batch has lost it. Counted while the sandbox runs, in steps of [`TICK`].
const SEND_TICKS: u32 = 20;

/// See [`SEND_TICKS`].
const TICK: Duration = Duration::from_millis(250);

/// The rest of a listener's answer is not read, bytes.
const ANSWER_MAX_BYTES: usize = 64 * 1024;

/// Ends with the sandbox, whose keeper owns it.
pub(super) async fn deliver(subscriber: Arc<Subscriber>, sandbox: WeakSandbox) {
    loop {
        let batch = subscriber.next_batch().await;
        if let Err(error) = send_in_time(&subscriber, &sandbox, &batch).await {
            debug!(extension = subscriber.name, %error, events = batch.len(), "telemetry not delivered");
            subscriber.batcher().lose(&batch);
        }
        let dropped = subscriber.batcher().take_dropped();
        if let Some(dropped) = dropped {
            let event = Record::LogsDropped(dropped).render(subscriber.clock.unix_ms());
            subscriber.push_notice(event);
        }
    }
}

impl Subscriber {
    fn is_frozen(&self) -> bool {
        self.is_frozen.load(Ordering::Acquire)
    }

    /// Nothing is sent into a sandbox that is frozen: nobody would answer.
    async fn next_batch(&self) -> Vec<Rendered> {
        loop {
            let now = self.clock.monotonic_ms();
            if !self.is_frozen()
                && let Some(batch) = self.batcher().take(now)
            {
                return batch;
            }
            let due = self.batcher().due_ms().filter(|_| !self.is_frozen());
            match due {
                Some(due_ms) => {
                    let pause = Duration::from_millis(due_ms.saturating_sub(now).max(1));
                    tokio::select! {
                        () = self.wake.notified() => {}
                        () = tokio::time::sleep(pause) => {}
                    }
                }
                None => self.wake.notified().await,
            }
        }
    }
}

async fn send_in_time(
    subscriber: &Subscriber,
    sandbox: &WeakSandbox,
    batch: &[Rendered],
) -> io::Result<()> {
    let mut sending = pin!(send(subscriber, sandbox, batch));
    let mut left = SEND_TICKS;
    while left > 0 {
        tokio::select! {
            sent = &mut sending => return sent,
            () = tokio::time::sleep(TICK) => left -= u32::from(!subscriber.is_frozen()),
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

async fn send(
    subscriber: &Subscriber,
    sandbox: &WeakSandbox,
    batch: &[Rendered],
) -> io::Result<()> {
    let destination = &subscriber.subscription.destination;
    let sandbox = sandbox.upgrade().ok_or(io::ErrorKind::NotConnected)?;
    let control = sandbox.control.get().ok_or(io::ErrorKind::NotConnected)?;
    let mut stream = control.connect(destination.port()).await?;
    match destination {
        Destination::Http { path, port } => {
            post(stream, *port, path, joined(batch, b"[", b",", b"]")).await
        }
        Destination::Tcp { .. } => {
            stream.write_all(&joined(batch, b"", b"\n", b"\n")).await?;
            stream.shutdown().await
        }
    }
}

fn joined(batch: &[Rendered], before: &[u8], between: &[u8], after: &[u8]) -> Vec<u8> {
    let length: usize = batch.iter().map(|event| event.len() + between.len()).sum();
    let mut text = Vec::with_capacity(before.len() + length + after.len());
    text.extend_from_slice(before);
    for (place, event) in batch.iter().enumerate() {
        if place > 0 {
            text.extend_from_slice(between);
        }
        text.extend_from_slice(event);
    }
    text.extend_from_slice(after);
    text
}

async fn post(
    stream: Box<dyn RuntimeApiStream>,
    port: u16,
    path: &str,
    body: Vec<u8>,
) -> io::Result<()> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(HOST, format!("sandbox.localdomain:{port}"))
        .header(CONTENT_TYPE, "application/json")
        .header(CONNECTION, "close")
        .body(Full::new(Bytes::from(body)))
        .map_err(io::Error::other)?;
    let (mut sender, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let exchange = async {
        let answer = sender
            .send_request(request)
            .await
            .map_err(io::Error::other)?;
        let code = answer.status();
        let mut body = answer.into_body();
        let mut length = 0;
        while let Some(Ok(frame)) = body.frame().await {
            length += frame.data_ref().map_or(0, Bytes::len);
            if length > ANSWER_MAX_BYTES {
                break;
            }
        }
        Ok(code)
    };
    let (mut exchange, mut connection) = (pin!(exchange), pin!(connection));
    let mut is_open = true;
    let code = loop {
        tokio::select! {
            answered = &mut exchange => break answered,
            // Its error is the exchange's.
            _ = &mut connection, if is_open => is_open = false,
        }
    };
    match code {
        Ok(code) if code.as_u16() < 400 => Ok(()),
        Ok(code) => Err(io::Error::other(format!("the listener answered {code}"))),
        Err(error) => Err(error),
    }
}
