//! The warm path: a function that is there already, at 1, 8 and 64 connections, each round next to one of the echo.

use std::time::Duration;

use hearth_tests::cluster::Running;
use hearth_tests::http::{Connection, signed};
use serde::Serialize;

use super::functions::{Kind, deploy, invoke_path};
use super::load::{Round, drive};
use super::{cpu, echo};

const BODY: &[u8] = br#"{"hello":"world","n":1234567890}  "#;
/// Connections and the memory of the function, MB. A function has CPU in proportion to its memory, so few connections need
/// much of it for the platform to be what is measured; many connections must fit the machine.
const LOADS: [(usize, u32); 3] = [(1, 1_769), (8, 1_769), (64, 256)];
/// Rounds of Hearth and of the echo take turns, so that a noisy neighbour meets both.
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(800);

/// One number of connections: Hearth and the echo, by turns.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Warm {
    pub(crate) function: &'static str,
    pub(crate) hearth: Round,
    pub(crate) echo: Round,
    /// CPU microseconds a request cost each process.
    pub(crate) gateway_us: f64,
    pub(crate) worker_us: f64,
    pub(crate) echo_us: f64,
}

impl Warm {
    pub(crate) fn platform_ratio(&self) -> f64 {
        (self.gateway_us + self.worker_us) / self.echo_us
    }
}

pub(crate) async fn measure(cluster: &Running) -> anyhow::Result<Vec<Warm>> {
    let (mut echo, echo_addr) = echo::start().await?;
    let echo_pid = echo.id().unwrap_or(0);
    let mut rows = Vec::new();
    for kind in [Kind::Rust, Kind::Python] {
        for (connections, memory_mib) in LOADS {
            let name = format!("warm-{}-{connections}", kind.name());
            deploy(&cluster.ready, &name, kind, memory_mib, &[]).await?;
            let request = signed(&cluster.ready, "POST", &invoke_path(&name), BODY)?;
            eprintln!("warm path: {} with {connections} connections", kind.name());
            // Sandboxes for all connections exist before the round counts.
            warm_up(&cluster.ready.endpoint, &request, connections).await?;
            let pids = [cluster.pid("gateway")?, cluster.pid("worker")?, echo_pid];
            let addrs = [cluster.ready.endpoint.as_str(), &echo_addr];
            rows.push(alternate(kind, connections, &request, addrs, pids).await?);
        }
    }
    let _ = echo.kill().await;
    Ok(rows)
}

/// Rounds of Hearth and the echo by turns. `addrs` are theirs, `pids` of gateway, worker and echo.
async fn alternate(
    kind: Kind,
    connections: usize,
    request: &[u8],
    [hearth_addr, echo_addr]: [&str; 2],
    pids: [u32; 3],
) -> anyhow::Result<Warm> {
    let (mut hearth, mut echo) = (Vec::new(), Vec::new());
    let before = cpu_of(pids)?;
    for _ in 0..ROUNDS {
        hearth.push(drive(hearth_addr, request, connections, ROUND).await?);
        echo.push(drive(echo_addr, request, connections, ROUND / 2).await?);
    }
    let after = cpu_of(pids)?;
    let (hearth, echo) = (Round::of_all(hearth)?, Round::of_all(echo)?);
    let used = |n: usize, round: &Round| each(before[n], after[n], round);
    Ok(Warm {
        function: kind.name(),
        gateway_us: used(0, &hearth),
        worker_us: used(1, &hearth),
        echo_us: used(2, &echo),
        hearth,
        echo,
    })
}

fn cpu_of(pids: [u32; 3]) -> anyhow::Result<[u64; 3]> {
    let [gateway, worker, echo] = pids;
    Ok([
        cpu::micros(gateway)?,
        cpu::micros(worker)?,
        cpu::micros(echo)?,
    ])
}

/// CPU per request; the tenth of the round that warmed up is in the CPU time and so in the divisor.
#[expect(clippy::cast_precision_loss, reason = "a mean for reading")]
fn each(before: u64, after: u64, round: &Round) -> f64 {
    (after - before) as f64 / (round.requests as f64 * 1.1)
}

async fn warm_up(endpoint: &str, request: &[u8], connections: usize) -> anyhow::Result<()> {
    let tasks: Vec<_> = (0..connections)
        .map(|_| {
            let (endpoint, request) = (endpoint.to_owned(), request.to_vec());
            tokio::spawn(async move {
                let mut connection = Connection::open(&endpoint).await?;
                for _ in 0..20 {
                    connection.send(&request).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(())
}
