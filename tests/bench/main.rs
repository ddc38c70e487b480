//! `make bench`: the warm path beside a bare hyper echo, the cold path beside a bare exec of the same thing, in one run.
//! Prints a table and writes JSON under `target/bench/`. Numbers are for reading, never asserted.
//!
//! `bench cold`: everything about starts, beside their references. `bench events`: accepting event invocations. `bench overload`: ten times what a cluster can do, beside what it can do. `bench functions`: what an invocation costs
//! when there are many functions, beside one.

mod cpu;
mod echo;
mod events;
mod fake_runtime;
mod functions;
mod load;
mod many;
mod open;
mod overload;
mod report;
mod starts;
mod warm;

use anyhow::Context as _;
use hearth_tests::cluster::{TestCluster, repository};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting tokio")?;
    match arguments.next().as_deref() {
        Some("echo") => runtime.block_on(echo::serve()),
        Some("overload") => runtime.block_on(overload::bench()),
        Some("cold") => runtime.block_on(starts::bench()),
        Some("events") => runtime.block_on(events::bench()),
        Some("functions") => runtime.block_on(many::bench()),
        Some(other) => {
            anyhow::bail!(
                "unknown argument {other:?}; use cold, events, overload, functions or none"
            )
        }
        None => runtime.block_on(bench()),
    }
}

async fn bench() -> anyhow::Result<()> {
    let dir = tempfile::tempdir().context("making a directory")?;
    // Two gateways, so that every node is a process of its own and its CPU time can be read; one is driven.
    let cluster = TestCluster::new(dir.path(), 1, 1, 2).start().await?;
    let warm = warm::measure(&cluster).await?;
    let cold = starts::first::measure(&cluster).await?;
    drop(cluster);
    report::write(
        &report::Report { warm, cold },
        &repository().join("target/bench"),
    )
}
