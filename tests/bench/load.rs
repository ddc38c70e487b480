//! Closed-loop load: so many connections, each sending its next request when the last was answered.

use std::time::Duration;

use anyhow::{Context as _, bail};
use hearth_node::Seams;
use hearth_tests::http::Connection;
use serde::Serialize;

/// What one round of load measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Round {
    pub(crate) connections: usize,
    pub(crate) requests: usize,
    pub(crate) rps: f64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
}

impl Round {
    /// Several rounds of one kind as one: all requests, and the median of what each measured.
    pub(crate) fn of_all(mut rounds: Vec<Self>) -> anyhow::Result<Self> {
        let requests = rounds.iter().map(|round| round.requests).sum();
        rounds.sort_by(|a, b| a.rps.total_cmp(&b.rps));
        let middle = rounds.len() / 2;
        let median = |of: fn(&Self) -> u64| {
            let mut values: Vec<u64> = rounds.iter().map(of).collect();
            values.sort_unstable();
            values.get(middle).copied()
        };
        let (p50, p99) = (median(|round| round.p50_us), median(|round| round.p99_us));
        let round = rounds.get(middle).context("no round was driven")?;
        Ok(Self {
            requests,
            p50_us: p50.unwrap_or(round.p50_us),
            p99_us: p99.unwrap_or(round.p99_us),
            ..round.clone()
        })
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures with microseconds, which the clock seam does not give"
)]
pub(crate) fn now() -> std::time::Instant {
    std::time::Instant::now()
}

/// Drives `addr` with `request` over `connections` for `duration`, after a tenth of it to warm up.
pub(crate) async fn drive(
    addr: &str,
    request: &[u8],
    connections: usize,
    duration: Duration,
) -> anyhow::Result<Round> {
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(Connection::open(addr).await?);
    }
    let begin = now();
    let warm = begin + duration / 10;
    let end = warm + duration;
    let tasks: Vec<_> = open
        .into_iter()
        .map(|connection| tokio::spawn(one(connection, request.to_vec(), warm, end)))
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.context("a load task")??);
    }
    latencies.sort_unstable();
    let at = |per_mille: usize| latencies[(latencies.len() - 1) * per_mille / 1000];
    if latencies.is_empty() {
        bail!("no request was answered in {duration:?}");
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate for reading")]
    let rps = latencies.len() as f64 / duration.as_secs_f64();
    Ok(Round {
        connections,
        requests: latencies.len(),
        rps,
        p50_us: at(500),
        p99_us: at(990),
    })
}

async fn one(
    mut connection: Connection,
    request: Vec<u8>,
    warm: std::time::Instant,
    end: std::time::Instant,
) -> anyhow::Result<Vec<u64>> {
    let mut latencies = Vec::new();
    loop {
        let sent = now();
        if sent >= end {
            return Ok(latencies);
        }
        let answer = connection.send(&request).await?;
        if !(200..300).contains(&answer.status)
            || answer
                .head
                .to_ascii_lowercase()
                .contains("x-amz-function-error")
        {
            bail!(
                "answer {}: {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            );
        }
        if sent >= warm {
            latencies.push(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX));
        }
    }
}

/// Waits for a condition that a benchmark needs before it begins.
pub(crate) async fn until<F>(what: &str, mut condition: impl FnMut() -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<bool>>,
{
    let clock = Seams::system().clock;
    let begin = clock.monotonic_ms();
    while !condition().await? {
        if clock.monotonic_ms() - begin > 60_000 {
            bail!("not within a minute: {what}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
