//! The cold path: the first answer of functions nobody invoked before, each next to a bare exec of the same program.

use anyhow::{Context as _, ensure};
use hearth_tests::cluster::{Running, repository};
use hearth_tests::http::{Connection, signed};
use serde::Serialize;
use tokio::process::Command;

use super::fake_runtime::first_answer;
use super::functions::{Kind, PYTHON_SOURCE, bootstrap, deploy, invoke_path};
use super::load::now;

const ROUNDS: usize = 21;

/// One kind of function.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cold {
    pub(crate) function: &'static str,
    pub(crate) rounds: usize,
    pub(crate) p50_us: u64,
    pub(crate) p90_us: u64,
    pub(crate) bare_p50_us: u64,
}

pub(crate) async fn measure(cluster: &Running) -> anyhow::Result<Vec<Cold>> {
    let task = tempfile::tempdir().context("making a directory")?;
    std::fs::write(task.path().join("app.py"), PYTHON_SOURCE).context("writing the handler")?;
    let mut rows = Vec::new();
    for kind in [Kind::Rust, Kind::Python] {
        eprintln!("cold path: {}", kind.name());
        for round in 0..ROUNDS {
            deploy(&cluster.ready, &cold_name(kind, round), kind, 128).await?;
        }
        let mut hearth = Vec::new();
        let mut bare = Vec::new();
        for round in 0..ROUNDS {
            hearth.push(first_invoke(cluster, &cold_name(kind, round)).await?);
            bare.push(first_answer(bare_command(kind, task.path())).await?);
        }
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

fn cold_name(kind: Kind, round: usize) -> String {
    format!("cold-{}-{round}", kind.name())
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
fn bare_command(kind: Kind, task: &std::path::Path) -> Command {
    match kind {
        Kind::Rust => {
            let mut command = Command::new(bootstrap());
            command
                .env("AWS_LAMBDA_FUNCTION_NAME", "bench")
                .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128");
            command.env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST");
            command
                .env("AWS_LAMBDA_LOG_GROUP_NAME", "bench")
                .env("AWS_LAMBDA_LOG_STREAM_NAME", "bench");
            command
        }
        Kind::Python | Kind::Sleeper => {
            let client = repository().join("target/runtimes/python3.11/root/var/runtime");
            let mut command = Command::new("/usr/bin/python3");
            command.args(["-S", "-m", "awslambdaric", "app.handler"]);
            command.env(
                "PYTHONPATH",
                format!("{}:{}", task.display(), client.display()),
            );
            command
                .env("LAMBDA_TASK_ROOT", task)
                .env("PYTHONDONTWRITEBYTECODE", "1")
                .current_dir(task);
            command
        }
    }
}
