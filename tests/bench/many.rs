//! What an invocation costs when there are many functions: the CPU time of each role for one, 100 and 1,000 functions of
//! which some are popular and most are not (Zipf).

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures::StreamExt as _;
use hearth_tests::cluster::{Running, TestCluster, repository};
use hearth_tests::http::{Connection, signed};
use serde::Serialize;

use super::cpu;
use super::functions::{Kind, deploy, invoke_path};
use super::load::now;
use super::report::write_json;

/// Each measured in a cluster of its own, so that none pays for another's.
const COUNTS: [usize; 3] = [1, 100, 1_000];
const EXPONENT: f64 = 1.1;
const CONNECTIONS: usize = 8;
const WARM_UP: Duration = Duration::from_secs(8);
const SPAN: Duration = Duration::from_secs(10);
/// Deployments and first invocations at a time.
const AT_A_TIME: usize = 16;
/// More than the machine has: the sandboxes of the static bootstrap use little of what is promised to them.
const MEMORY_MIB: &str = "400000";

/// One number of functions.
#[derive(Clone, Debug, Serialize)]
struct Row {
    functions: usize,
    invocations: usize,
    rps: f64,
    p50_us: u64,
    p99_us: u64,
    /// CPU microseconds an invocation cost each role.
    gateway_us: f64,
    worker_us: f64,
    controller_us: f64,
    /// CPU milliseconds a second of each role while nothing is invoked.
    idle_gateway_ms: f64,
    idle_worker_ms: f64,
    idle_controller_ms: f64,
}

impl Row {
    fn cpu_us(&self) -> f64 {
        self.gateway_us + self.worker_us + self.controller_us
    }
}

pub(crate) async fn bench() -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for count in COUNTS {
        let dir = tempfile::tempdir().context("making a directory")?;
        let cluster = TestCluster::new(dir.path(), 1, 1, 2)
            .with(&["--memory-mib", MEMORY_MIB])
            .start()
            .await?;
        rows.push(measure(&cluster, count).await?);
        drop(cluster);
    }
    println!("{}", table(&rows));
    write_json(&rows, &repository().join("target/bench"), "functions.json")
}

async fn measure(cluster: &Running, count: usize) -> anyhow::Result<Row> {
    eprintln!("{count} functions: deploying");
    let names: Vec<String> = (0..count).map(|n| format!("many-{n}")).collect();
    let deploying = names.iter().map(|name| async move {
        deploy(&cluster.ready, name, Kind::Rust, 128, &[]).await?;
        let request = signed(&cluster.ready, "POST", &invoke_path(name), b"{}")?;
        let mut connection = Connection::open(&cluster.ready.endpoint).await?;
        let answer = connection.send(&request).await?;
        let text = String::from_utf8_lossy(&answer.body);
        ensure!(answer.status == 200, "{name}: {} {text}", answer.status);
        Ok(())
    });
    let done: Vec<anyhow::Result<()>> = futures::stream::iter(deploying)
        .buffer_unordered(AT_A_TIME)
        .collect()
        .await;
    done.into_iter().collect::<anyhow::Result<()>>()?;
    let requests = names
        .iter()
        .map(|name| signed(&cluster.ready, "POST", &invoke_path(name), b"{}"))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let load = Arc::new(Load {
        requests,
        popularity: popularity(count),
    });
    eprintln!("{count} functions: invoking");
    let addr = cluster.ready.endpoint.as_str();
    drive(addr, &load, WARM_UP).await?;
    let pids = ["gateway", "worker", "controller"].map(|role| cluster.pid(role));
    let [gateway, worker, controller] = pids;
    let pids = [gateway?, worker?, controller?];
    let before = cpu_of(pids)?;
    let mut latencies = drive(addr, &load, SPAN).await?;
    let after = cpu_of(pids)?;
    tokio::time::sleep(SPAN / 2).await;
    let idle = cpu_of(pids)?;
    latencies.sort_unstable();
    let invocations = latencies.len();
    let used = |role: usize| quotient(after[role] - before[role], invocations);
    let unused = |role: usize| {
        let span = usize::try_from(SPAN.as_millis() / 2).unwrap_or(1);
        quotient(idle[role] - after[role], span)
    };
    let at = |per_mille: usize| latencies[(invocations - 1) * per_mille / 1_000];
    Ok(Row {
        functions: count,
        invocations,
        rps: quotient(u64::try_from(invocations)?, 1) / SPAN.as_secs_f64(),
        p50_us: at(500),
        p99_us: at(990),
        gateway_us: used(0),
        worker_us: used(1),
        controller_us: used(2),
        idle_gateway_ms: unused(0),
        idle_worker_ms: unused(1),
        idle_controller_ms: unused(2),
    })
}

fn cpu_of(pids: [u32; 3]) -> anyhow::Result<[u64; 3]> {
    let [a, b, c] = pids;
    Ok([cpu::micros(a)?, cpu::micros(b)?, cpu::micros(c)?])
}

#[expect(clippy::cast_precision_loss, reason = "a mean for reading")]
fn quotient(part: u64, of: usize) -> f64 {
    part as f64 / of.max(1) as f64
}

struct Load {
    requests: Vec<Vec<u8>>,
    /// Sums of the shares up to each function; the last is 1.
    popularity: Vec<f64>,
}

/// Zipf: the n-th function gets a share in proportion to n to the power of minus the exponent.
#[expect(clippy::cast_precision_loss, reason = "a thousand functions")]
fn popularity(count: usize) -> Vec<f64> {
    let share = |n: usize| ((n + 1) as f64).powf(-EXPONENT);
    let all: f64 = (0..count).map(share).sum();
    let mut sum = 0.0;
    (0..count)
        .map(|n| {
            sum += share(n) / all;
            sum
        })
        .collect()
}

/// Closed loop; the latencies, microseconds.
async fn drive(addr: &str, load: &Arc<Load>, span: Duration) -> anyhow::Result<Vec<u64>> {
    let end = now() + span;
    let mut tasks = Vec::new();
    for seed in 0..CONNECTIONS {
        let connection = Connection::open(addr).await?;
        let load = Arc::clone(load);
        tasks.push(tokio::spawn(one(connection, load, seed, end)));
    }
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.context("a load task")??);
    }
    ensure!(!latencies.is_empty(), "no request was answered");
    Ok(latencies)
}

async fn one(
    mut connection: Connection,
    load: Arc<Load>,
    seed: usize,
    end: Instant,
) -> anyhow::Result<Vec<u64>> {
    // A linear congruential generator (Knuth's MMIX): the same draws in every run.
    let mut state = (seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut latencies = Vec::new();
    loop {
        let sent = now();
        if sent >= end {
            return Ok(latencies);
        }
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        #[expect(clippy::cast_precision_loss, reason = "a uniform draw of 53 bits")]
        let draw = (state >> 11) as f64 / (1_u64 << 53) as f64;
        let chosen = load.popularity.partition_point(|sum| *sum < draw);
        let request = &load.requests[chosen.min(load.requests.len() - 1)];
        let answer = connection.send(request).await?;
        ensure!(
            answer.status == 200,
            "answer {}: {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
        latencies.push(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
}

fn table(rows: &[Row]) -> String {
    let mut out = format!(
        "\nMany functions: {CONNECTIONS} connections, functions drawn by Zipf {EXPONENT}; CPU microseconds for each invocation\n\
         functions       rps  p50 ms  p99 ms  gateway   worker  controller      all  ratio  idle ms/s: gateway worker controller\n"
    );
    let base = rows.first().map_or(1.0, Row::cpu_us);
    for row in rows {
        out.push_str(&format!(
            "{:>9} {:>9.0} {:>7.2} {:>7.2} {:>8.1} {:>8.1} {:>11.1} {:>8.1} {:>5.2}x {:>19.1} {:>6.1} {:>10.1}\n",
            row.functions,
            row.rps,
            quotient(row.p50_us, 1_000),
            quotient(row.p99_us, 1_000),
            row.gateway_us,
            row.worker_us,
            row.controller_us,
            row.cpu_us(),
            row.cpu_us() / base,
            row.idle_gateway_ms,
            row.idle_worker_ms,
            row.idle_controller_ms,
        ));
    }
    out
}
