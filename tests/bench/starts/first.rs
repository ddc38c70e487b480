//! The first answer of functions nobody invoked before, each next to a bare exec of the same program.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use hearth_tests::cluster::{Running, repository};
use hearth_tests::http::{Connection, signed};
use serde::Serialize;
use tokio::process::Command;

use super::super::fake_runtime::first_answer;
use super::super::functions::{Kind, bootstrap, deploy, invoke_path};
use super::super::load::now;
use super::{Row, median, ms};

/// Rounds of `make bench`.
const ROUNDS: usize = 21;

/// Rounds of `make bench-cold`.
const MANY_ROUNDS: usize = 15;

/// Starts are sporadic: what the last one took from the stock is there again.
const PAUSE: Duration = Duration::from_millis(400);

/// One kind of function.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cold {
    pub(crate) function: &'static str,
    pub(crate) rounds: usize,
    pub(crate) p50_us: u64,
    pub(crate) p90_us: u64,
    pub(crate) bare_p50_us: u64,
}

/// For `make bench`.
pub(crate) async fn measure(cluster: &Running) -> anyhow::Result<Vec<Cold>> {
    let mut rows = Vec::new();
    for kind in [Kind::Rust, Kind::Python] {
        let (mut hearth, mut bare) = interleaved(cluster, kind, kind.name(), &[], ROUNDS).await?;
        hearth.sort_unstable();
        bare.sort_unstable();
        rows.push(Cold {
            function: kind.name(),
            rounds: ROUNDS,
            p50_us: hearth[ROUNDS / 2],
            p90_us: hearth[ROUNDS * 9 / 10],
            bare_p50_us: bare[ROUNDS / 2],
        });
    }
    Ok(rows)
}

/// Variables of a function.
type Environment = [(&'static str, &'static str)];

/// For `make bench-cold`. A variable that the runtime reads as it starts keeps a function from being a stem's.
pub(crate) async fn rows(cluster: &Running) -> anyhow::Result<Vec<Row>> {
    let python_miss = [("AWS_LAMBDA_LOG_LEVEL", "INFO")];
    let node_miss = [("NODE_NO_WARNINGS", "0")];
    let bare_exec = "bare exec, first answer";
    let cases: [(Kind, &str, &'static str, &Environment, f64, f64); 5] = [
        (
            Kind::Rust,
            "rust",
            "Rust bootstrap, first response",
            &[],
            2.5,
            1.6,
        ),
        (
            Kind::Python,
            "python-hit",
            "python, from a stem",
            &[],
            0.15,
            0.08,
        ),
        (
            Kind::Python,
            "python-miss",
            "python, no stem",
            &python_miss,
            1.3,
            1.1,
        ),
        (Kind::Node, "node-hit", "node, from a stem", &[], 0.5, 0.35),
        (
            Kind::Node,
            "node-miss",
            "node, no stem",
            &node_miss,
            1.3,
            1.1,
        ),
    ];
    let mut rows = Vec::new();
    for (kind, name, what, env, must, aim) in cases {
        let (hearth, bare) = interleaved(cluster, kind, name, env, MANY_ROUNDS).await?;
        let middle = |times: Vec<u64>| median(times.into_iter().map(ms).collect());
        rows.push(Row {
            what,
            reference: bare_exec,
            unit: "ms",
            rounds: MANY_ROUNDS,
            value: middle(hearth),
            reference_value: middle(bare),
            must,
            aim,
        });
    }
    Ok(rows)
}

/// First answers of so many functions, and of so many bare programs, in turn.
async fn interleaved(
    cluster: &Running,
    kind: Kind,
    name: &str,
    env: &[(&str, &str)],
    rounds: usize,
) -> anyhow::Result<(Vec<u64>, Vec<u64>)> {
    eprintln!("cold path: {name}");
    let task = task_of(kind)?;
    for round in 0..rounds {
        deploy(
            &cluster.ready,
            &format!("cold-{name}-{round}"),
            kind,
            128,
            env,
        )
        .await?;
    }
    let (mut hearth, mut bare) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        tokio::time::sleep(PAUSE).await;
        hearth.push(first_invoke(cluster, &format!("cold-{name}-{round}")).await?);
        bare.push(first_answer(bare_command(kind, task.path())).await?);
    }
    Ok((hearth, bare))
}

/// The function's code as it is under /var/task.
pub(crate) fn task_of(kind: Kind) -> anyhow::Result<tempfile::TempDir> {
    let task = tempfile::tempdir().context("making a directory")?;
    let (name, content) = kind.file()?;
    std::fs::write(task.path().join(name), content).context("writing the handler")?;
    Ok(task)
}

async fn first_invoke(cluster: &Running, name: &str) -> anyhow::Result<u64> {
    let request = signed(&cluster.ready, "POST", &invoke_path(name), b"{}")?;
    let mut connection = Connection::open(&cluster.ready.endpoint).await?;
    let begin = now();
    let answer = connection.send(&request).await?;
    let took = begin.elapsed();
    ensure!(
        answer.status == 200,
        "{name}: {} {}",
        answer.status,
        String::from_utf8_lossy(&answer.body)
    );
    Ok(u64::try_from(took.as_micros()).unwrap_or(u64::MAX))
}

/// The same program as in the sandbox, with nothing around it.
pub(crate) fn bare_command(kind: Kind, task: &std::path::Path) -> Command {
    let packs = repository().join("target/runtimes");
    let mut command = match kind {
        Kind::Rust => Command::new(bootstrap()),
        Kind::Node => {
            let root = packs.join("nodejs22.x/root");
            let mut command = Command::new(root.join("usr/bin/node"));
            command
                .args(["--max-old-space-size=115", "--max-semi-space-size=6"])
                .arg(root.join("var/runtime/node_modules/aws-lambda-ric/index.mjs"))
                .arg("app.handler");
            command
        }
        Kind::Python | Kind::Sleeper | Kind::LongSleeper => {
            let client = packs.join("python3.11/root/var/runtime");
            let script = format!(
                "import sys; sys.path[:0] = ['{}', '{}']; from awslambdaric.__main__ import main; main(['x', 'app.handler'])",
                task.display(),
                client.display()
            );
            let mut command = Command::new("/usr/bin/python3");
            command.args(["-I", "-S", "-c", &script]);
            command
        }
    };
    for (name, value) in [
        ("AWS_LAMBDA_FUNCTION_NAME", "bench"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "bench"),
        ("AWS_LAMBDA_LOG_STREAM_NAME", "bench"),
        ("AWS_REGION", "us-east-1"),
        ("_HANDLER", "app.handler"),
    ] {
        command.env(name, value);
    }
    command.env("LAMBDA_TASK_ROOT", task).current_dir(task);
    command
}
