//! A real cluster: `hearth up` as a child process, ended with the value.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use hearth_node::Seams;
use serde::Deserialize;

/// How long a cluster may take until it answers.
const READY_MS: u64 = 90_000;

/// What `--ready-file` holds.
#[derive(Clone, Debug, Deserialize)]
pub struct Ready {
    /// URL of the first gateway.
    pub endpoint: String,
    /// URLs of all gateways.
    pub endpoints: Vec<String>,
    /// Root credentials.
    pub access_key_id: String,
    /// Root credentials.
    pub secret_access_key: String,
    /// Region.
    pub region: String,
    /// Account of the root credentials.
    pub account_id: String,
    /// All nodes.
    pub nodes: Vec<ReadyNode>,
}

/// A node in the ready file.
#[derive(Clone, Debug, Deserialize)]
pub struct ReadyNode {
    /// `controller`, `worker` or `gateway`.
    pub role: String,
    /// Node id.
    pub id: u64,
    /// Process id; 0 while it is down.
    pub pid: u32,
    /// Where it listens.
    pub addr: String,
    /// Where `/metrics` is.
    pub admin_addr: String,
}

/// Shape and place of a cluster.
#[derive(Clone, Debug)]
pub struct TestCluster {
    data_dir: PathBuf,
    command: Vec<String>,
}

/// A running cluster; dropping it ends every process of it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// What it said when it was ready.
    pub ready: Ready,
}

/// The directory of the executables of this build.
pub fn build_dir() -> anyhow::Result<PathBuf> {
    let mut dir = std::env::current_exe().context("finding this executable")?;
    dir.pop();
    if dir.ends_with("deps") {
        dir.pop();
    }
    Ok(dir)
}

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ has a parent")
}

impl TestCluster {
    /// A cluster of so many controllers, workers and gateways in `data_dir`.
    pub fn new(data_dir: &Path, controllers: u16, workers: u16, gateways: u16) -> Self {
        let words = |n: u16| n.to_string();
        let command = [
            "--listen",
            "127.0.0.1:0",
            "--controllers",
            &words(controllers),
            "--workers",
            &words(workers),
            "--gateways",
            &words(gateways),
        ];
        Self {
            data_dir: data_dir.to_owned(),
            command: command.map(str::to_owned).to_vec(),
        }
    }

    /// With further arguments of `hearth up`.
    #[must_use]
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.command
            .extend(arguments.iter().map(|&word| word.to_owned()));
        self
    }

    /// Starts it and waits until it answers.
    pub async fn start(&self) -> anyhow::Result<Running> {
        let hearth = build_dir()?.join("hearth");
        if !hearth.exists() {
            bail!(
                "{} is missing: build it with `cargo build --bin hearth`",
                hearth.display()
            );
        }
        let ready_file = self.data_dir.join("ready.json");
        let _ = std::fs::remove_file(&ready_file);
        let log =
            std::fs::File::create(self.data_dir.join("up.log")).context("creating the log")?;
        let child = Command::new(&hearth)
            .args(["up", "--network", "isolated"])
            .arg("--data-dir")
            .arg(self.data_dir.join("data"))
            .arg("--ready-file")
            .arg(&ready_file)
            .arg("--runtimes-dir")
            .arg(repository().join("target/runtimes"))
            .args(&self.command)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("sharing the log")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", hearth.display()))?;
        let mut running = Starting(Some(child));
        let clock = Seams::system().clock;
        let begin = clock.monotonic_ms();
        let ready = loop {
            if let Some(ready) = std::fs::read(&ready_file)
                .ok()
                .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            {
                break ready;
            }
            if running.ended() || clock.monotonic_ms() - begin > READY_MS {
                let log = std::fs::read_to_string(self.data_dir.join("up.log")).unwrap_or_default();
                bail!("the cluster did not come up:\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let child = running.0.take().context("the child is here until now")?;
        Ok(Running { child, ready })
    }
}

/// Ends the child if the start is given up.
struct Starting(Option<Child>);

impl Starting {
    fn ended(&mut self) -> bool {
        self.0
            .as_mut()
            .is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            end(child);
        }
    }
}

impl Running {
    /// Pid of the first node of a role.
    pub fn pid(&self, role: &str) -> anyhow::Result<u32> {
        self.ready
            .nodes
            .iter()
            .find(|n| n.role == role)
            .map(|n| n.pid)
            .with_context(|| format!("no {role}"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// SIGTERM ends `hearth up` and all its nodes; it bounds the time itself.
fn end(child: &mut Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::SIGTERM,
        );
    }
    let _ = child.wait();
}
