//! The native driver alone: an empty sandbox beside `runc run` of the same no-op, and what freezing adds to an invocation.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hearth_tests::cluster::{build_dir, repository};
use hearth_worker::sandbox::driver::{Driver as _, SandboxSpec};
use hearth_worker::sandbox::native::{NativeConfig, NativeDriver, SpawnerCommand};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::super::load::now;
use super::{Row, median};

const ROUNDS: usize = 41;

/// Pause between rounds: starts are sporadic, and find full pools and cold caches.
const PAUSE: Duration = Duration::from_millis(30);

/// The root of a runtime pack.
pub(crate) fn root(runtime: &str) -> PathBuf {
    repository()
        .join("target/runtimes")
        .join(runtime)
        .join("root")
}

/// A driver of its own, with its images in `dir`.
pub(crate) async fn driver(dir: &Path) -> anyhow::Result<NativeDriver> {
    let spawner = SpawnerCommand {
        program: build_dir()?.join("hearth-spawner"),
        args: Vec::new(),
    };
    let mut config = NativeConfig::new(spawner, &format!("bench-{}", std::process::id()));
    config.state_dir = dir.join("state");
    config.scratch_dir = Some(dir.join("scratch"));
    NativeDriver::open(config)
        .await
        .context("opening the driver: run as root, after `cargo build --release --bins`")
}

/// A sandbox of a runtime pack.
pub(crate) fn spec(runtime: &str, argv: &[&str], serial: usize) -> SandboxSpec {
    SandboxSpec {
        id: format!("bench-{serial}"),
        root: root(runtime),
        mounts: Vec::new(),
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        cwd: PathBuf::from("/"),
        memory_mib: 128,
        pids_max: 64,
        tmp_mib: 512,
        hostname: "lambda".into(),
        isolated: true,
        maker: None,
        extensions: Default::default(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a number for reading")]
fn millis(since: std::time::Instant) -> f64 {
    since.elapsed().as_micros() as f64 / 1_000.0
}

pub(crate) async fn measure() -> anyhow::Result<Vec<Row>> {
    let dir = tempfile::tempdir().context("making a directory")?;
    let driver = driver(dir.path()).await?;
    let bundle = bundle(dir.path()).await?;
    let (mut prepared, mut made, mut runc) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let waiting = driver
            .prepare(spec("provided.al2023", &[], 3 * round))
            .await?;
        tokio::time::sleep(PAUSE).await;
        let begin = now();
        let started = waiting
            .start(spec("provided.al2023", &["/usr/bin/true"], 3 * round + 1))
            .await?;
        prepared.push(millis(begin));
        started.control.wait().await;
        tokio::time::sleep(PAUSE).await;
        let begin = now();
        let started = driver
            .start(spec("provided.al2023", &["/usr/bin/true"], 3 * round + 2))
            .await?;
        made.push(millis(begin));
        started.control.wait().await;
        tokio::time::sleep(PAUSE).await;
        let name = format!("hearth-bench-{}-{round}", std::process::id());
        let begin = now();
        let status = Command::new("runc")
            .args(["run", "--bundle"])
            .arg(&bundle)
            .arg(name)
            .status()
            .await;
        ensure!(
            status
                .context("running runc: scripts/setup runc")?
                .success(),
            "runc failed"
        );
        runc.push(millis(begin));
    }
    let runc = median(runc);
    let row = |what, value| Row {
        what,
        reference: "runc run of the same no-op",
        unit: "ms",
        rounds: ROUNDS,
        value,
        reference_value: runc,
        must: 0.15,
        aim: 0.06,
    };
    let rows = vec![
        row("empty sandbox, create to exec", median(made)),
        row("empty sandbox, prepared, to exec", median(prepared)),
        freezing(&driver).await?,
    ];
    driver.shutdown().await;
    Ok(rows)
}

/// A bundle of the same root and program, as `runc spec` would have it but for the terminal.
async fn bundle(dir: &Path) -> anyhow::Result<PathBuf> {
    let bundle = dir.join("bundle");
    std::fs::create_dir_all(&bundle).context("making a bundle")?;
    let status = Command::new("runc")
        .arg("spec")
        .current_dir(&bundle)
        .status()
        .await;
    ensure!(
        status
            .context("running runc: scripts/setup runc")?
            .success(),
        "runc spec failed"
    );
    let file = bundle.join("config.json");
    let text = std::fs::read(&file).context("reading a bundle")?;
    let mut config: serde_json::Value =
        serde_json::from_slice(&text).context("reading a bundle")?;
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = serde_json::json!(["/usr/bin/true"]);
    config["root"]["path"] = root("provided.al2023")
        .to_string_lossy()
        .into_owned()
        .into();
    config["linux"]["resources"]["memory"] = serde_json::json!({"limit": 128 << 20});
    config["linux"]["resources"]["pids"] = serde_json::json!({"limit": 64});
    std::fs::write(&file, config.to_string()).context("writing a bundle")?;
    Ok(bundle)
}

/// An echo of a program inside, frozen between two echoes or not, in turn.
async fn freezing(driver: &NativeDriver) -> anyhow::Result<Row> {
    const ECHOES: usize = 201;
    let script = "import socket; s = socket.create_connection(('127.0.0.1', 9001))\nwhile True: s.sendall(s.recv(1))";
    let spec = spec(
        "python3.11",
        &["/usr/bin/python3.11", "-I", "-S", "-c", script],
        10_000,
    );
    let mut sandbox = driver.start(spec).await?;
    let mut stream = sandbox
        .runtime_api
        .accept()
        .await
        .context("hearing of the program")?;
    let mut byte = [7];
    let (mut frozen_ms, mut plain_ms) = (Vec::new(), Vec::new());
    for _ in 0..ECHOES {
        for frozen in [true, false] {
            let mut took = 0.0;
            if frozen {
                let begin = now();
                sandbox.control.freeze().context("freezing")?;
                took += millis(begin);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            let begin = now();
            if frozen {
                sandbox.control.thaw().context("thawing")?;
            }
            stream.write_all(&byte).await.context("writing")?;
            stream.read_exact(&mut byte).await.context("reading")?;
            took += millis(begin);
            (if frozen {
                &mut frozen_ms
            } else {
                &mut plain_ms
            })
            .push(took);
        }
    }
    Ok(Row {
        what: "freeze and thaw, added to an invocation",
        reference: "the same without",
        unit: "us",
        rounds: ECHOES,
        value: (median(frozen_ms) - median(plain_ms)) * 1_000.0,
        reference_value: 0.0,
        must: 200.0,
        aim: 30.0,
    })
}
