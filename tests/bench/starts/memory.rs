//! Memory of sandboxes that do nothing: what the host has less for each, and what is private to the processes inside.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use hearth_tests::cluster::repository;
use hearth_worker::sandbox::driver::Driver as _;
use tokio::process::Command;

use super::sandbox::{driver, spec};
use super::{Row, median};

/// Empty sandboxes at a time.
const EMPTY: usize = 256;

const ROUNDS: usize = 5;

/// For counters of the kernel that are behind.
const SETTLE: Duration = Duration::from_millis(1_500);

pub(crate) async fn measure() -> anyhow::Result<Vec<Row>> {
    let dir = tempfile::tempdir().context("making a directory")?;
    let driver = driver(dir.path()).await?;
    let mut each = Vec::new();
    for round in 0..=ROUNDS {
        tokio::time::sleep(SETTLE).await;
        let before = available_mib()?;
        let mut waiting = Vec::new();
        for number in 0..EMPTY {
            waiting.push(
                driver
                    .prepare(spec("provided.al2023", &[], round * EMPTY + number))
                    .await?,
            );
        }
        tokio::time::sleep(SETTLE).await;
        let during = available_mib()?;
        drop(waiting);
        tokio::time::sleep(SETTLE).await;
        // What else goes on on the host drifts: it is taken to be as fast before as after.
        let around = f64::midpoint(before, available_mib()?);
        let one = (around - during) / EMPTY as f64;
        // The first fills caches of the kernel.
        if round > 0 {
            each.push(one);
        }
    }
    let mut rows = vec![Row {
        what: "memory of an empty sandbox",
        reference: "-",
        unit: "MB",
        rounds: ROUNDS,
        value: median(each),
        reference_value: 0.0,
        must: 0.5,
        aim: 0.3,
    }];
    rows.push(python(&driver).await?);
    driver.shutdown().await;
    Ok(rows)
}

/// The client, loaded and waiting, in a sandbox with its init and bare; what is private to the processes.
async fn python(driver: &hearth_worker::sandbox::native::NativeDriver) -> anyhow::Result<Row> {
    const LOAD: &str = "import sys; sys.path[:0] = [PATH]; import awslambdaric.lambda_literals, awslambdaric.__main__, os\n";
    let inside = format!(
        "{}os.write(3, b'r'); os.read(3, 1)",
        LOAD.replace("PATH", "'/var/runtime'")
    );
    let client = repository().join("target/runtimes/python3.11/root/var/runtime");
    let outside = format!(
        "{}os.read(0, 1)",
        LOAD.replace("PATH", &format!("'{}'", client.display()))
    );
    let (mut boxed, mut bare) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let before = processes()?;
        let argv = ["/usr/bin/python3.11", "-I", "-S", "-c", &inside];
        let waiting = driver
            .prepare(spec("python3.11", &argv, 100_000 + round))
            .await?;
        let new = processes()?.into_iter().filter(|pid| !before.contains(pid));
        let all: f64 = new.filter(|pid| is_below_us(*pid)).map(private_mib).sum();
        boxed.push(all);
        drop(waiting);
        let mut child = Command::new("/usr/bin/python3")
            .args(["-I", "-S", "-c", &outside])
            .stdin(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting python")?;
        tokio::time::sleep(SETTLE).await;
        bare.push(private_mib(child.id().context("it runs")?));
        child.kill().await.context("ending python")?;
    }
    Ok(Row {
        what: "idle python sandbox",
        reference: "private memory of the bare process",
        unit: "MB",
        rounds: ROUNDS,
        value: median(boxed),
        reference_value: median(bare),
        must: 1.15,
        aim: 1.0,
    })
}

fn processes() -> anyhow::Result<Vec<u32>> {
    let entries = fs::read_dir("/proc").context("reading /proc")?;
    let names = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    Ok(names.filter_map(|name| name.parse().ok()).collect())
}

/// Whether this process is among its ancestors.
fn is_below_us(mut pid: u32) -> bool {
    while pid > 1 {
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
            return false;
        };
        let parent = stat
            .rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
        pid = parent.unwrap_or(0);
        if pid == std::process::id() {
            return true;
        }
    }
    false
}

fn private_mib(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let kib = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
            .unwrap_or(0.0)
    };
    kib("Private_Dirty:") / 1_024.0
}

fn available_mib() -> anyhow::Result<f64> {
    let text = fs::read_to_string("/proc/meminfo").context("reading the memory")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib: f64 = line
        .and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .context("the kernel tells its memory")?;
    Ok(kib / 1_024.0)
}
