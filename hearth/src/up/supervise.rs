//! One child process per node: started, watched, restarted, ended in order. A child ends when its standard input does,
//! so that the death of the supervisor is the end of all.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use hearth_node::Seams;
use hearth_node::credentials::session_key;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::plan::{Node, Role};
use crate::credentials::{ACCESS_KEY_VAR, Credentials, SECRET_VAR, SESSION_KEY_VAR};

/// Threads of a node's async runtime; tokio reads it.
const THREADS_VAR: &str = "TOKIO_WORKER_THREADS";

/// A node that lived this long is restarted at once when it ends.
const STEADY_MS: u64 = 10_000;
/// Wait before a restart of a node that does not stay up.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// How long a node has to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(8);

/// A node as a child process.
#[derive(Clone, Debug)]
pub(crate) struct Supervised {
    pub(crate) node: Node,
    pub(crate) config: PathBuf,
    pub(crate) log: PathBuf,
}

/// The pids of all nodes, by position; 0 while a node is down.
#[derive(Clone, Debug)]
pub(crate) struct Pids {
    pids: Arc<Mutex<Vec<u32>>>,
}

impl Pids {
    /// All nodes are this process.
    pub(crate) fn of_one_process(count: usize) -> Self {
        let pids = Self::new(count);
        (0..count).for_each(|position| pids.set(position, std::process::id()));
        pids
    }

    fn new(count: usize) -> Self {
        Self {
            pids: Arc::new(Mutex::new(vec![0; count])),
        }
    }

    pub(crate) fn all(&self) -> Vec<u32> {
        self.pids
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, position: usize, pid: u32) {
        self.pids.lock().unwrap_or_else(PoisonError::into_inner)[position] = pid;
    }
}

/// All children.
#[derive(Debug)]
pub(crate) struct Supervisor {
    pub(crate) pids: Pids,
    tasks: TaskTracker,
    /// One for each role, in the order they are ended: gateways take no more requests, workers finish theirs.
    ends: [(Role, CancellationToken); 3],
}

impl Supervisor {
    /// Starts every node and keeps it running.
    pub(crate) fn start(
        nodes: Vec<Supervised>,
        credentials: &Credentials,
        seams: &Seams,
    ) -> anyhow::Result<Self> {
        let executable = std::env::current_exe().context("finding the hearth executable")?;
        let supervisor = Self {
            pids: Pids::new(nodes.len()),
            tasks: TaskTracker::new(),
            ends: [Role::Gateway, Role::Worker, Role::Controller]
                .map(|role| (role, CancellationToken::new())),
        };
        // The nodes share this machine's cores: threads beyond those cost wakeups and bring nothing.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = (cores / nodes.len().max(1)).max(1);
        for (position, node) in nodes.into_iter().enumerate() {
            let end = supervisor
                .ends
                .iter()
                .find(|(role, _)| *role == node.node.role)
                .map(|(_, end)| end.clone());
            let keeper = Keeper {
                executable: executable.clone(),
                node,
                credentials: credentials.clone(),
                pids: supervisor.pids.clone(),
                position,
                end: end.expect("every role has an end"),
                threads,
                seams: seams.clone(),
            };
            supervisor.tasks.spawn(keeper.keep());
        }
        supervisor.tasks.close();
        Ok(supervisor)
    }

    /// Ends all nodes, role by role.
    pub(crate) async fn stop(self) {
        for (role, end) in &self.ends {
            end.cancel();
            info!(role = role.as_str(), "ending");
        }
        self.tasks.wait().await;
    }
}

struct Keeper {
    executable: PathBuf,
    node: Supervised,
    credentials: Credentials,
    pids: Pids,
    position: usize,
    end: CancellationToken,
    threads: usize,
    seams: Seams,
}

impl Keeper {
    async fn keep(self) {
        let mut wait = BACKOFF_MIN;
        loop {
            let begun = self.seams.clock.monotonic_ms();
            match self.spawn() {
                Ok(mut child) => {
                    // Waiting for a child closes its input, which would end it: hold the other end here.
                    let _tie = child.stdin.take();
                    self.pids.set(self.position, child.id().unwrap_or(0));
                    if self.watch(&mut child).await {
                        return;
                    }
                    self.pids.set(self.position, 0);
                }
                Err(error) => error!(
                    role = self.node.node.role.as_str(),
                    id = self.node.node.id,
                    "cannot start: {error:#}"
                ),
            }
            if self.seams.clock.monotonic_ms().saturating_sub(begun) > STEADY_MS {
                wait = BACKOFF_MIN;
            }
            tokio::select! {
                () = self.end.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            wait = (wait * 2).min(BACKOFF_MAX);
        }
    }

    /// Whether the node ended because it was told to.
    async fn watch(&self, child: &mut Child) -> bool {
        tokio::select! {
            status = child.wait() => {
                let log = self.node.log.display();
                warn!(role = self.node.node.role.as_str(), id = self.node.node.id, ?status, %log, "node ended, starting it again");
                false
            }
            () = self.end.cancelled() => {
                end_child(child).await;
                true
            }
        }
    }

    fn spawn(&self) -> anyhow::Result<Child> {
        let log = open_log(&self.node.log)?;
        let mut command = Command::new(&self.executable);
        command
            .arg(self.node.node.role.as_str())
            .arg("--config")
            .arg(&self.node.config)
            .arg("--tied")
            .stdin(Stdio::piped())
            .stdout(log.try_clone().context("sharing the log")?)
            .stderr(log)
            // Ctrl-C is the supervisor's to handle.
            .process_group(0)
            .kill_on_drop(true);
        if std::env::var_os(THREADS_VAR).is_none() {
            command.env(THREADS_VAR, self.threads.to_string());
        }
        if self.node.node.role == Role::Gateway {
            command
                .env(ACCESS_KEY_VAR, &self.credentials.access_key_id)
                .env(SECRET_VAR, &self.credentials.secret_access_key);
        }
        let has_sessions = matches!(self.node.node.role, Role::Controller | Role::Gateway);
        if has_sessions && std::env::var_os(SESSION_KEY_VAR).is_none() {
            let key = session_key(&self.credentials.secret_access_key);
            command.env(SESSION_KEY_VAR, key);
        }
        command
            .spawn()
            .with_context(|| format!("starting {}", self.executable.display()))
    }
}

fn open_log(path: &Path) -> anyhow::Result<File> {
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("opening {}", path.display()))
}

async fn end_child(child: &mut Child) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // It may have ended since; then there is nothing to signal.
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::SIGTERM,
        );
    }
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        warn!(pid = child.id(), "did not end in time, killing it");
        let _ = child.kill().await;
    }
}
