//! `make bench-control`: the control plane at the scale of a machine hall. Three real controllers and a real gateway, each
//! a process, and so many simulated workers (the real role with a fake sandbox driver) in one more process, over loopback.
//!
//! Measured: metadata writes, cold-start decisions with quotas that are durable on a quorum, cold starts end to end, how
//! fast a change reaches all watchers of the catalog, and what the leader pays in memory and CPU.

//!
//! On two cores shared by all of it, 300 workers and 3,000 functions run to the end. With 1,000 and 10,000 functions are
//! created, reserved and decided on, and the elections and ejected workers of starved processes end the run among the cold
//! starts through the gateway: that takes more cores.

mod client;
#[path = "../cpu.rs"]
mod cpu;
mod fleet;
mod measure;
mod nodes;
mod report;

use anyhow::Context as _;
use hearth_tests::cluster::repository;

/// How large the hall is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    pub(crate) workers: u64,
    pub(crate) functions: usize,
}

impl Scale {
    /// From `WORKERS` and `FUNCTIONS`, else 1,000 and 10,000.
    fn from_environment() -> anyhow::Result<Self> {
        fn number<T: std::str::FromStr>(name: &str, default: T) -> anyhow::Result<T> {
            match std::env::var(name) {
                Ok(text) => text
                    .parse()
                    .ok()
                    .with_context(|| format!("{name}={text} is not a number")),
                Err(_) => Ok(default),
            }
        }
        Ok(Self {
            workers: number("WORKERS", 1_000)?,
            functions: number("FUNCTIONS", 10_000)?,
        })
    }
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    nodes::raise_descriptor_limit()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting tokio")?;
    match arguments.next().as_deref() {
        Some("fleet") => {
            let file = arguments.next().context("fleet needs its file")?;
            runtime.block_on(fleet::run(std::path::Path::new(&file)))
        }
        Some(other) => anyhow::bail!("unknown argument {other:?}; run without arguments"),
        None => {
            let report = runtime.block_on(measure::run(Scale::from_environment()?))?;
            report::write(&report, &repository().join("target/bench"))
        }
    }
}
