//! Many cold starts at once.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hearth_tests::cluster::TestCluster;
use hearth_tests::http::{Connection, signed};

use super::super::fake_runtime::first_answer;
use super::super::functions::{Kind, LONG_SLEEP_S, deploy, invoke_path};
use super::super::load::now;
use super::first::bare_command;
use super::{Row, median, ms};

const FUNCTIONS: usize = 50;
const EACH: usize = 10;

/// Bare runs before, and as many after.
const BARE: usize = 21;

/// Memory that the worker believes to have, MB: all sandboxes are to be there at the same time.
const MEMORY_MIB: &str = "80000";

pub(crate) async fn measure() -> anyhow::Result<Row> {
    eprintln!("burst of {} starts", FUNCTIONS * EACH);
    let dir = tempfile::tempdir().context("making a directory")?;
    let cluster = TestCluster::new(dir.path(), 1, 1, 1).with(&["--memory-mib", MEMORY_MIB]);
    let cluster = cluster.start().await?;
    for number in 0..FUNCTIONS {
        deploy(
            &cluster.ready,
            &format!("burst-{number}"),
            Kind::LongSleeper,
            128,
            &[],
        )
        .await?;
    }
    let mut bare = bare_runs().await?;
    let begin = now();
    let mut tasks = Vec::new();
    for number in 0..FUNCTIONS * EACH {
        let name = format!("burst-{}", number % FUNCTIONS);
        let request = signed(&cluster.ready, "POST", &invoke_path(&name), b"{}")?;
        let endpoint = cluster.ready.endpoint.clone();
        tasks.push(tokio::spawn(async move {
            let mut connection = Connection::open(&endpoint).await?;
            connection.send(&request).await
        }));
    }
    let mut sandboxes = BTreeSet::new();
    for task in tasks {
        let answer = task.await.context("an invocation")??;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        ensure!(answer.status == 200, "{}: {text}", answer.status);
        sandboxes.insert(text);
    }
    let took = begin.elapsed() - Duration::from_secs(LONG_SLEEP_S);
    ensure!(
        sandboxes.len() == FUNCTIONS * EACH,
        "{} of {} starts were cold",
        sandboxes.len(),
        FUNCTIONS * EACH
    );
    bare.extend(bare_runs().await?);
    let starts = (FUNCTIONS * EACH) as f64;
    Ok(Row {
        what: "500 python cold starts at once",
        reference: "500 bare execs, one after the other",
        unit: "ms",
        rounds: FUNCTIONS * EACH,
        value: took.as_secs_f64() * 1_000.0,
        reference_value: median(bare) * starts,
        must: 1.5,
        aim: 1.15,
    })
}

async fn bare_runs() -> anyhow::Result<Vec<f64>> {
    let task = super::first::task_of(Kind::Python)?;
    let mut took = Vec::new();
    for _ in 0..BARE {
        took.push(ms(
            first_answer(bare_command(Kind::Python, task.path())).await?
        ));
    }
    Ok(took)
}
