//! The numbers as a table for people and as JSON for programs.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;

/// Everything one run measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) workers: u64,
    pub(crate) functions: usize,
    /// From the start of the fleet's process until all its workers are in session, milliseconds.
    pub(crate) fleet_ms: u64,
    pub(crate) create: Rate,
    /// From the last creation's acknowledgement until every function was active, milliseconds.
    pub(crate) active_ms: u64,
    pub(crate) reserve: Rate,
    pub(crate) decisions: Rate,
    pub(crate) cold_starts: Rate,
    pub(crate) catalog: Catalog,
    pub(crate) leader: Leader,
    pub(crate) fleet_bytes_per_worker: u64,
    pub(crate) gateway_bytes: u64,
}

/// Operations that ran beside each other.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Rate {
    pub(crate) count: usize,
    pub(crate) per_second: f64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
}

impl Rate {
    #[expect(clippy::cast_precision_loss, reason = "a rate for reading")]
    pub(crate) fn of(mut latencies: Vec<u64>, took: Duration) -> Self {
        latencies.sort_unstable();
        Self {
            count: latencies.len(),
            per_second: latencies.len() as f64 / took.as_secs_f64(),
            p50_us: at(&latencies, 500),
            p99_us: at(&latencies, 990),
        }
    }
}

/// The way of a change to the watchers of the catalog.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Catalog {
    pub(crate) changes: usize,
    /// Until the write was acknowledged, microseconds.
    pub(crate) acknowledged_p50_us: u64,
    /// Until the last of the timed watchers had it.
    pub(crate) everywhere_p50_us: u64,
    pub(crate) everywhere_max_us: u64,
}

impl Catalog {
    pub(crate) fn of(mut acknowledged: Vec<u64>, mut everywhere: Vec<u64>) -> Self {
        acknowledged.sort_unstable();
        everywhere.sort_unstable();
        Self {
            changes: everywhere.len(),
            acknowledged_p50_us: at(&acknowledged, 500),
            everywhere_p50_us: at(&everywhere, 500),
            everywhere_max_us: at(&everywhere, 1_000),
        }
    }
}

/// What the leader pays.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Leader {
    /// Terms that began during the run; with any, the numbers mix several leaders.
    pub(crate) changes: u64,
    pub(crate) bytes_per_worker: u64,
    pub(crate) bytes_per_function: u64,
    pub(crate) resident_bytes: u64,
    /// Share of one core, with all workers in session and nothing to do.
    pub(crate) quiet_cpu_share: f64,
    pub(crate) us_per_decision: u64,
    pub(crate) us_per_cold_start: u64,
}

fn at(sorted: &[u64], per_mille: usize) -> u64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get(last * per_mille / 1_000).copied().unwrap_or(0)
}

pub(crate) fn write(report: &Report, dir: &Path) -> anyhow::Result<()> {
    println!("{}", table(report));
    std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let file = dir.join("control.json");
    let json = serde_json::to_vec_pretty(report).context("encoding the report")?;
    std::fs::write(&file, json).with_context(|| format!("writing {}", file.display()))?;
    println!("JSON: {}", file.display());
    Ok(())
}

fn table(report: &Report) -> String {
    let mut out = format!(
        "\nControl plane: 3 controllers, 1 gateway, {} workers (fake driver) and {} functions on this machine\n\
         what                                     count  per second   p50 ms   p99 ms\n",
        report.workers, report.functions
    );
    for (what, rate) in [
        ("functions created", &report.create),
        ("reservations set", &report.reserve),
        ("cold-start decisions (grant taken)", &report.decisions),
        ("cold starts through the gateway", &report.cold_starts),
    ] {
        out.push_str(&format!(
            "{what:<38} {:>7} {:>11.0} {:>8.1} {:>8.1}\n",
            rate.count,
            rate.per_second,
            ms(rate.p50_us),
            ms(rate.p99_us)
        ));
    }
    let (catalog, leader) = (&report.catalog, &report.leader);
    out.push_str(&format!(
        "workers in session after {:.1} s; functions active {:.1} s after the last was created\n\
         change of the catalog: acknowledged {:.1} ms, with all watchers {:.1} ms (p50), {:.1} ms (max of {})\n\
         leader: {:.1} kB a worker, {:.1} kB a function, {:.0} MB in all; {:.0} % of a core when quiet; \
         {} us CPU a decision, {} us a cold start\n\
         fleet: {:.1} MB a worker; gateway: {:.0} MB; leadership moved {} times\n",
        seconds(report.fleet_ms),
        seconds(report.active_ms),
        ms(catalog.acknowledged_p50_us),
        ms(catalog.everywhere_p50_us),
        ms(catalog.everywhere_max_us),
        catalog.changes,
        ms(leader.bytes_per_worker),
        ms(leader.bytes_per_function),
        ms(leader.resident_bytes) / 1_000.0,
        leader.quiet_cpu_share * 100.0,
        leader.us_per_decision,
        leader.us_per_cold_start,
        ms(report.fleet_bytes_per_worker) / 1_000.0,
        ms(report.gateway_bytes) / 1_000.0,
        leader.changes,
    ));
    out
}

#[expect(clippy::cast_precision_loss, reason = "a number for reading")]
fn ms(thousandths: u64) -> f64 {
    thousandths as f64 / 1_000.0
}

fn seconds(millis: u64) -> f64 {
    ms(millis)
}
