//! `kill -9` on a real process in the middle of writing: what it acknowledged must be there afterwards. The
//! child is this test binary itself, run with an environment variable. SIGKILL keeps the page cache: power
//! loss is not tested here.
#![expect(
    clippy::unwrap_used,
    clippy::tests_outside_test_module,
    reason = "this whole file is a test"
)]

#[path = "raft_support/journal.rs"]
mod journal;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use hearth_controller::raft::{Consensus, Options};
use journal::{Journal, until};

const CHILD_DIR: &str = "HEARTH_TEST_RAFT_KILL_DIR";
const ROUNDS: usize = 6;

fn options(dir: &Path) -> Options {
    let members = BTreeMap::from([(1, "127.0.0.1:1".to_owned())]);
    let mut options = Options::new(1, "kill", dir, members);
    // Snapshots and purges happen all the time.
    options.snapshot_every = 100;
    options.keep_applied = 20;
    options
}

async fn start(dir: &Path) -> Consensus<Journal> {
    let options = options(dir);
    let members = options.peers.clone();
    let node = Consensus::start(options, Journal::default()).await.unwrap();
    node.initialize(&members).await.unwrap();
    until("a leader", || node.leadership().is_leader).await;
    node
}

/// The child: proposes for ever and prints what is acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else {
        return;
    };
    let node = start(Path::new(&dir)).await;
    let first = node.read(Journal::len);
    for number in first.. {
        node.propose(format!("{number}")).await.unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "acknowledged {number}").unwrap();
        out.flush().unwrap();
    }
}

fn spawn(dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// Lets the child acknowledge `count` commands, kills it, and returns the last acknowledged one.
fn run_and_kill(dir: &Path, count: usize) -> usize {
    let mut child = spawn(dir);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = lines.map_while(Result::ok).filter_map(|line| {
        // The test runner's own output may stand before the first line.
        let (_, number) = line.split_once("acknowledged ")?;
        number.parse::<usize>().ok()
    });
    acknowledged.nth(count).expect("the child acknowledges");
    child.kill().unwrap();
    // Lines written before the kill are still in the pipe.
    let last = acknowledged.last().unwrap_or(0);
    child.wait().unwrap();
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut total = 0;
    for round in 0..ROUNDS {
        let path = dir.path().to_owned();
        let count = 40 + 97 * round;
        let killed = tokio::task::spawn_blocking(move || run_and_kill(&path, count));
        let last = killed.await.unwrap();
        let node = start(dir.path()).await;
        node.read_index().await.unwrap();
        let commands = node.read(Journal::commands);
        let expected: Vec<String> = (0..commands.len()).map(|n| n.to_string()).collect();
        assert_eq!(commands, expected, "round {round}");
        assert!(
            commands.len() > last,
            "round {round}: {last} was acknowledged"
        );
        if round > 2 {
            // The start was from a snapshot and the rest of the log.
            assert!(node.read(Journal::restored) == 1 && node.read(Journal::applied) < total);
        }
        total = commands.len();
        node.shutdown().await;
    }
    println!("{ROUNDS} kills, {total} commands, none lost");
}

/// A directory of another node or cluster is refused before anything is written to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_of_another_cluster_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    start(dir.path()).await.shutdown().await;
    let mut other = options(dir.path());
    other.cluster_id = "other".to_owned();
    let error = Consensus::start(other, Journal::default())
        .await
        .unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("cluster kill"), "{source}");
}
