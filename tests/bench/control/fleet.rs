//! The simulated workers: the real worker role many times in one process, with a driver that plays a function instead of
//! making a sandbox. Code is fetched and unpacked as on a real worker.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use hearth_node::config::HumanDuration;
use hearth_worker::sandbox::driver::ExitStatus;
use hearth_worker::sandbox::fake::{FakeDriver, FakeSandbox};
use hearth_worker::{Options, Seams};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

/// Workers that start at a time.
const START_STEP: usize = 50;
/// Ids of workers begin here, as `hearth up` has it.
const FIRST_ID: u64 = 101;
/// What each worker offers, MB.
const MEMORY_MIB: u64 = 16_384;

/// What the process is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Fleet {
    pub(crate) dir: PathBuf,
    pub(crate) workers: u64,
    pub(crate) cluster_id: String,
    pub(crate) controllers: Vec<String>,
}

/// Runs until its standard input ends.
pub(crate) async fn run(file: &Path) -> anyhow::Result<()> {
    let text = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let fleet: Fleet = serde_json::from_slice(&text).context("reading the fleet's file")?;
    let runtimes = fleet.dir.join("runtimes");
    fake_pack(&runtimes).context("making a runtime pack")?;
    let ids: Vec<u64> = (FIRST_ID..FIRST_ID + fleet.workers).collect();
    let mut workers = Vec::new();
    for step in ids.chunks(START_STEP) {
        let starts = step.iter().map(|id| {
            let driver = Arc::new(FakeDriver::new(play));
            let options = options(&fleet, *id, &runtimes);
            hearth_worker::start(options, Seams::system(), driver)
        });
        workers.extend(futures::future::try_join_all(starts).await?);
    }
    let mut input = tokio::io::stdin();
    let mut byte = [0; 1];
    while input.read(&mut byte).await.context("waiting for the end")? > 0 {}
    drop(workers);
    Ok(())
}

fn options(fleet: &Fleet, id: u64, runtimes: &Path) -> Options {
    let mut options = Options {
        node_id: id,
        cluster_id: fleet.cluster_id.clone(),
        listen: "127.0.0.1:0".into(),
        admin_listen: "127.0.0.1:0".into(),
        data_dir: fleet.dir.join(format!("worker-{id}")),
        controllers: fleet.controllers.clone(),
        runtimes_dir: runtimes.to_owned(),
        memory_mib: Some(MEMORY_MIB),
        drain_timeout: HumanDuration::from_secs(1),
        ..Options::default()
    };
    // So many nodes on two cores are slower than a network: a ping is not to be what is measured.
    options.channel.connect_timeout = HumanDuration::from_secs(10);
    options.channel.keep_alive_interval = HumanDuration::from_secs(10);
    options.channel.keep_alive_timeout = HumanDuration::from_secs(20);
    options.server.keep_alive_interval = HumanDuration::from_secs(10);
    options.server.keep_alive_timeout = HumanDuration::from_secs(20);
    options
}

/// A pack for `provided.al2023`; what it starts is the driver's to play.
fn fake_pack(dir: &Path) -> std::io::Result<()> {
    let pack = dir.join("provided.al2023");
    std::fs::create_dir_all(pack.join("root/var/task"))?;
    let manifest = "name = 'provided.al2023'\nrecipe = '1'\nargv = ['/bootstrap']\n";
    std::fs::write(pack.join("runtime.toml"), manifest)
}

/// A function that answers every event with `{}`.
async fn play(sandbox: FakeSandbox) -> ExitStatus {
    match answer_events(&sandbox).await {
        Ok(()) => ExitStatus::Exited(0),
        Err(_) => ExitStatus::Exited(1),
    }
}

async fn answer_events(sandbox: &FakeSandbox) -> std::io::Result<()> {
    const NEXT: &str =
        "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nhost: 127.0.0.1:9001\r\n\r\n";
    let mut connection = sandbox.runtime_api.connect().await?;
    loop {
        let head = exchange(&mut connection, NEXT.as_bytes()).await?;
        let Some(id) = header(&head, "lambda-runtime-aws-request-id") else {
            return Ok(());
        };
        let answer = format!(
            "POST /2018-06-01/runtime/invocation/{id}/response HTTP/1.1\r\nhost: 127.0.0.1:9001\r\n\
             content-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}"
        );
        exchange(&mut connection, answer.as_bytes()).await?;
    }
}

/// Sends a request and reads its answer whole; the head comes back.
async fn exchange(connection: &mut DuplexStream, request: &[u8]) -> std::io::Result<String> {
    connection.write_all(request).await?;
    let mut buffer = Vec::with_capacity(1_024);
    let head_end = loop {
        if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        if connection.read_buf(&mut buffer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    };
    let head = String::from_utf8_lossy(&buffer[..head_end]).into_owned();
    let length: usize = header(&head, "content-length")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    while buffer.len() < head_end + length {
        if connection.read_buf(&mut buffer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(head)
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}
