//! `make bench-cold`: what starts cost, each number beside its reference in the same run. Prints a table, writes JSON and a
//! chart under `target/bench/`.
//!
//! [`first`] is seen by a client of a gateway; [`sandbox`] and [`memory`] drive the native driver alone; [`burst`] asks for
//! many starts at once.

mod burst;
mod chart;
pub(crate) mod first;
mod memory;
mod sandbox;

use anyhow::Context as _;
use hearth_tests::cluster::{TestCluster, repository};
use serde::Serialize;

use super::report::write_json;

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) what: &'static str,
    pub(crate) reference: &'static str,
    /// Of `value` and `reference_value`.
    pub(crate) unit: &'static str,
    pub(crate) rounds: usize,
    /// Median.
    pub(crate) value: f64,
    /// Median; 0 where the goal is an amount.
    pub(crate) reference_value: f64,
    /// What must hold of the ratio, or of `value` where there is no reference.
    pub(crate) must: f64,
    pub(crate) aim: f64,
}

impl Row {
    /// What is compared with the goals.
    pub(crate) fn score(&self) -> f64 {
        if self.reference_value > 0.0 {
            self.value / self.reference_value
        } else {
            self.value
        }
    }
}

/// Middle of what was measured, as a number for reading.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Microseconds as milliseconds.
#[expect(clippy::cast_precision_loss, reason = "a number for reading")]
pub(crate) fn ms(us: u64) -> f64 {
    us as f64 / 1_000.0
}

pub(crate) async fn bench() -> anyhow::Result<()> {
    let mut rows = sandbox::measure().await?;
    let dir = tempfile::tempdir().context("making a directory")?;
    let cluster = TestCluster::new(dir.path(), 1, 1, 1).start().await?;
    rows.extend(first::rows(&cluster).await?);
    drop(cluster);
    rows.extend(memory::measure().await?);
    rows.push(burst::measure().await?);
    let directory = repository().join("target/bench");
    println!("{}", table(&rows));
    write_json(&rows, &directory, "starts.json")?;
    let file = directory.join("starts.svg");
    std::fs::write(&file, chart::svg(&rows)).context("writing the chart")?;
    println!("chart: {}", file.display());
    Ok(())
}

fn table(rows: &[Row]) -> String {
    let mut out = String::from(
        "\nStarts: medians, and the ratio to the reference of the same run\n\
         what                                       rounds    value  reference  unit    score   must    aim\n",
    );
    for row in rows {
        let verdict = match row.score() {
            score if score <= row.aim => "aim met",
            score if score <= row.must => "met",
            _ => "MISSED",
        };
        out.push_str(&format!(
            "{:<42} {:>6} {:>8.3} {:>10.3}  {:<4} {:>8.3} {:>6} {:>6}  {verdict} (beside {})\n",
            row.what,
            row.rounds,
            row.value,
            row.reference_value,
            row.unit,
            row.score(),
            row.must,
            row.aim,
            row.reference,
        ));
    }
    out
}
