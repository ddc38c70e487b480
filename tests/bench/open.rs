//! Open-loop load: requests leave at their times whether or not earlier ones were answered, as from many clients.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hearth_tests::http::Connection;
use tokio::task::JoinSet;

use super::load::now;

/// Requests in flight; beyond it a client would run out of sockets and the bench would measure itself.
const IN_FLIGHT_MAX: usize = 8_000;

/// One request: when it left, since the beginning, and how it ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) at: Duration,
    pub(crate) took: Duration,
    pub(crate) outcome: Outcome,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// 200 within the deadline.
    Good,
    /// 429.
    Throttled,
    /// Another status.
    Failed,
    /// No answer within the deadline: the client hung up.
    Late,
    /// It did not leave: too many were in flight.
    NotSent,
}

type Idle = Arc<Mutex<Vec<Connection>>>;

/// Sends `rate` requests a second for `span`, each given up after `deadline`.
pub(crate) async fn drive(
    addr: &str,
    request: &[u8],
    rate: f64,
    span: Duration,
    deadline: Duration,
) -> anyhow::Result<Vec<Sent>> {
    let (addr, request): (Arc<str>, Arc<[u8]>) = (addr.into(), request.into());
    let idle = Idle::default();
    let begin = now();
    let (mut tasks, mut sent, mut count) = (JoinSet::new(), Vec::new(), 0_u32);
    loop {
        let at = Duration::from_secs_f64(f64::from(count) / rate);
        if at >= span {
            break;
        }
        while let Some(done) = tasks.try_join_next() {
            sent.push(done.context("a request")?);
        }
        let early = at.saturating_sub(begin.elapsed());
        if !early.is_zero() {
            tokio::time::sleep(early).await;
        }
        count += 1;
        if tasks.len() >= IN_FLIGHT_MAX {
            let (took, outcome) = (Duration::ZERO, Outcome::NotSent);
            sent.push(Sent { at, took, outcome });
            // The other tasks must run.
            tokio::task::yield_now().await;
            continue;
        }
        let (addr, request, idle) = (Arc::clone(&addr), Arc::clone(&request), Arc::clone(&idle));
        tasks.spawn(async move { one(&addr, &request, &idle, at, begin, deadline).await });
    }
    while let Some(done) = tasks.join_next().await {
        sent.push(done.context("a request")?);
    }
    sent.sort_by_key(|sent| sent.at);
    Ok(sent)
}

async fn one(
    addr: &str,
    request: &[u8],
    idle: &Idle,
    at: Duration,
    begin: Instant,
    deadline: Duration,
) -> Sent {
    let exchange = async {
        let known = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match known {
            Some(connection) => connection,
            None => Connection::open(addr).await?,
        };
        let answer = connection.send(request).await?;
        anyhow::Ok((connection, answer.status))
    };
    let outcome = match tokio::time::timeout(deadline, exchange).await {
        Ok(Ok((connection, status))) => {
            idle.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(connection);
            match status {
                200 => Outcome::Good,
                429 => Outcome::Throttled,
                _ => Outcome::Failed,
            }
        }
        Ok(Err(_)) => Outcome::Failed,
        Err(_) => Outcome::Late,
    };
    // From when it should have left: a client that is itself late is no excuse.
    let took = begin.elapsed().saturating_sub(at);
    Sent { at, took, outcome }
}
