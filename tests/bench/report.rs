//! The numbers as a table for people and as JSON for programs.

use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use super::starts::first::Cold;
use super::warm::Warm;

/// Everything one run measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) warm: Vec<Warm>,
    pub(crate) cold: Vec<Cold>,
}

pub(crate) fn write(report: &Report, dir: &Path) -> anyhow::Result<()> {
    println!("{}", table(report));
    write_json(report, dir, "bench.json")
}

/// The numbers for programs.
pub(crate) fn write_json<T: Serialize>(report: &T, dir: &Path, name: &str) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let file = dir.join(name);
    let json = serde_json::to_vec_pretty(report).context("encoding the report")?;
    std::fs::write(&file, json).with_context(|| format!("writing {}", file.display()))?;
    println!("JSON: {}", file.display());
    Ok(())
}

fn table(report: &Report) -> String {
    let mut out = String::from(
        "\nWarm path: HTTP client -> gateway -> worker -> function and back; echo = bare hyper server, same client, same run\n\
         function  conns      rps  echo rps  ratio  p50 ms  p99 ms  echo p50  gateway us  worker us  echo us  platform/echo\n",
    );
    for row in &report.warm {
        out.push_str(&format!(
            "{:<8} {:>6} {:>8.0} {:>9.0} {:>6.3} {:>7.2} {:>7.2} {:>9.2} {:>11.1} {:>10.1} {:>8.1} {:>13.1}x\n",
            row.function,
            row.hearth.connections,
            row.hearth.rps,
            row.echo.rps,
            row.hearth.rps / row.echo.rps,
            ms(row.hearth.p50_us),
            ms(row.hearth.p99_us),
            ms(row.echo.p50_us),
            row.gateway_us,
            row.worker_us,
            row.echo_us,
            row.platform_ratio(),
        ));
    }
    out.push_str(
        "\nCold path: first answer of a new function, seen by the HTTP client; bare = exec of the same program against a bare Runtime API\n\
         function  rounds  p50 ms  p90 ms  bare p50 ms  ratio\n",
    );
    for row in &report.cold {
        out.push_str(&format!(
            "{:<8} {:>7} {:>7.2} {:>7.2} {:>12.2} {:>5.2}x\n",
            row.function,
            row.rounds,
            ms(row.p50_us),
            ms(row.p90_us),
            ms(row.bare_p50_us),
            ms(row.p50_us) / ms(row.bare_p50_us),
        ));
    }
    out
}

#[expect(clippy::cast_precision_loss, reason = "a number for reading")]
fn ms(micros: u64) -> f64 {
    micros as f64 / 1000.0
}
