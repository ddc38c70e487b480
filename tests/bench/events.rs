//! Event invocations: what it costs to accept one with three controllers, beside a plain loop of writes and syncs on the same
//! disk in the same run; and the databases that could hold the log (docs/adr/0019).

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hearth_controller::raft::storage::{LogEngine, LogKey, MachineStorage, Storage as _};
use hearth_tests::cluster::{Ready, Running, TestCluster, repository};
use hearth_tests::http::{Connection, signed};
use serde::Serialize;

use super::functions::{Kind, deploy};
use super::load::{Round, drive, now, until};
use super::report;

const SMALL: usize = 1_024;
const LARGE: usize = 1_024 * 1_024;
/// The log cuts an entry into values of this size.
const VALUE: usize = 4 * 1_024;
const SMALL_WRITES: u64 = 400;
const LARGE_WRITES: u64 = 40;
const CONNECTIONS: [usize; 3] = [1, 16, 64];
const ROUND: Duration = Duration::from_secs(3);

/// Writes of one size, each synced before the next.
#[derive(Debug, Serialize)]
struct Writes {
    to: &'static str,
    bytes: usize,
    writes: u64,
    p50_us: u64,
    p99_us: u64,
    /// What the files take when all of it has been deleted again.
    left_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Report {
    disk: Vec<Writes>,
    accepted: Vec<Round>,
    /// Events run to their end, a second, while no more came.
    drained_per_s: f64,
}

pub(crate) async fn bench() -> anyhow::Result<()> {
    // On the disk of the checkout: /tmp may be memory.
    let dir = tempfile::tempdir_in(repository().join("target")).context("making a directory")?;
    let disk = disk(dir.path())?;
    let cluster = TestCluster::new(dir.path(), 3, 1, 1).start().await?;
    let (accepted, drained_per_s) = accept(&cluster).await?;
    drop(cluster);
    let report = Report {
        disk,
        accepted,
        drained_per_s,
    };
    println!("{}", table(&report));
    report::write_json(&report, &repository().join("target/bench"), "events.json")
}

fn disk(dir: &Path) -> anyhow::Result<Vec<Writes>> {
    let mut rows = Vec::new();
    for (bytes, writes) in [(SMALL, SMALL_WRITES), (LARGE, LARGE_WRITES)] {
        let path = dir.join(format!("plain-{bytes}"));
        let mut file = std::fs::File::create(&path).context("making a file")?;
        let content = vec![7; bytes];
        let plain = each(writes, |_| {
            file.write_all(&content)?;
            file.sync_data()
        });
        rows.push(row("plain file", bytes, plain?, 0));
        std::fs::remove_file(&path).context("removing a file")?;
        for name in ["sled", "fjall"] {
            let path = dir.join(format!("{name}-{bytes}"));
            let engine = open(name, &path)?;
            let times = each(writes, |index| append(&*engine, index, &content))?;
            for index in 0..writes {
                delete(&*engine, index, bytes)?;
            }
            engine.sync().context("syncing")?;
            drop(engine);
            rows.push(row(name, bytes, times, size_of(&path)?));
        }
    }
    Ok(rows)
}

fn open(name: &str, path: &Path) -> anyhow::Result<Arc<dyn LogEngine>> {
    let opened = match name {
        "sled" => MachineStorage.open_log(path),
        _ => MachineStorage.open_event_log(path),
    };
    opened.with_context(|| format!("opening {name}"))
}

/// Latencies in microseconds, sorted.
fn each(
    writes: u64,
    mut write: impl FnMut(u64) -> std::io::Result<()>,
) -> anyhow::Result<Vec<u64>> {
    let mut times = Vec::new();
    for index in 0..writes {
        let begun = now();
        write(index).context("writing")?;
        times.push(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    times.sort_unstable();
    Ok(times)
}

fn key(index: u64, part: usize) -> LogKey {
    let mut key = LogKey::default();
    key[..8].copy_from_slice(&index.to_be_bytes());
    key[8..].copy_from_slice(&u16::try_from(part).unwrap_or(u16::MAX).to_be_bytes());
    key
}

fn append(engine: &dyn LogEngine, index: u64, content: &[u8]) -> std::io::Result<()> {
    let values = content.chunks(VALUE).enumerate();
    let changes = values.map(|(part, value)| (key(index, part), Some(value.to_vec())));
    engine.write(changes.collect())?;
    engine.sync()
}

fn delete(engine: &dyn LogEngine, index: u64, bytes: usize) -> anyhow::Result<()> {
    let parts = 0..bytes.div_ceil(VALUE);
    let changes = parts.map(|part| (key(index, part), None)).collect();
    engine.write(changes).context("deleting")
}

fn row(to: &'static str, bytes: usize, times: Vec<u64>, left_bytes: u64) -> Writes {
    let at = |per_mille: usize| times[(times.len() - 1) * per_mille / 1_000];
    Writes {
        to,
        bytes,
        writes: times.len() as u64,
        p50_us: at(500),
        p99_us: at(990),
        left_bytes,
    }
}

/// What is allotted to all files below.
fn size_of(path: &Path) -> anyhow::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut bytes = 0;
    for item in std::fs::read_dir(path).context("listing a database")? {
        let item = item.context("listing a database")?;
        let data = item.metadata().context("looking at a file")?;
        bytes += if data.is_dir() {
            size_of(&item.path())?
        } else {
            data.blocks() * 512
        };
    }
    Ok(bytes)
}

async fn accept(cluster: &Running) -> anyhow::Result<(Vec<Round>, f64)> {
    let ready = &cluster.ready;
    deploy(ready, "events", Kind::Rust, 1_769, &[]).await?;
    let body = [
        b"{\"padding\":\"",
        vec![b'x'; SMALL - 14].as_slice(),
        b"\"}",
    ]
    .concat();
    let path = "/2014-11-13/functions/events/invoke-async/";
    let request = signed(ready, "POST", path, &body)?;
    let mut rounds = Vec::new();
    for connections in CONNECTIONS {
        eprintln!("accepting events over {connections} connections");
        rounds.push(drive(&ready.endpoint, &request, connections, ROUND).await?);
    }
    let begun = now();
    let at_first = counters(ready).await?;
    until("every event has run", async || {
        let [accepted, attempts] = counters(ready).await?;
        Ok(attempts >= accepted)
    })
    .await?;
    let [_, attempts] = counters(ready).await?;
    #[expect(clippy::cast_precision_loss, reason = "a rate for reading")]
    let drained = (attempts - at_first[1]) as f64 / begun.elapsed().as_secs_f64();
    Ok((rounds, drained))
}

/// Events the gateway has accepted, and attempts it has made.
async fn counters(ready: &Ready) -> anyhow::Result<[u64; 2]> {
    let gateway = ready.nodes.iter().find(|node| node.role == "gateway");
    let addr = &gateway.context("there is a gateway")?.admin_addr;
    let mut connection = Connection::open(addr).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {addr}\r\n\r\n");
    let answer = connection.send(request.as_bytes()).await?;
    let page = String::from_utf8_lossy(&answer.body).into_owned();
    let value = |name: &str| -> anyhow::Result<u64> {
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        let Some(value) = line.and_then(|line| line.trim().parse().ok()) else {
            bail!("{name} is not on the gateway's page of metrics");
        };
        Ok(value)
    };
    Ok([
        value("hearth_gateway_events_accepted_total")?,
        value("hearth_gateway_event_attempts_total")?,
    ])
}

#[expect(clippy::cast_precision_loss, reason = "numbers for reading")]
fn table(report: &Report) -> String {
    let mut out = String::from(
        "\nOne write after the other, each synced (the log cuts 1 MB into values of 4 KiB)\n\
         to           bytes  p50 ms  p99 ms  left after deletion, MB\n",
    );
    for row in &report.disk {
        out.push_str(&format!(
            "{:<10} {:>7} {:>7.2} {:>7.2} {:>8.1}\n",
            row.to,
            row.bytes,
            row.p50_us as f64 / 1e3,
            row.p99_us as f64 / 1e3,
            row.left_bytes as f64 / 1e6,
        ));
    }
    out.push_str("\nEvents of 1 KB accepted by 3 controllers, 1 gateway\n  conns  events/s  p50 ms  p99 ms\n");
    for round in &report.accepted {
        out.push_str(&format!(
            "{:>7} {:>9.0} {:>7.2} {:>7.2}\n",
            round.connections,
            round.rps,
            round.p50_us as f64 / 1e3,
            round.p99_us as f64 / 1e3,
        ));
    }
    out.push_str(&format!(
        "run to their end afterwards: {:.0} a second\n",
        report.drained_per_s
    ));
    out
}
