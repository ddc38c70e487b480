//! What the command line asks for. Each seed is run in a process of its own: dependencies keep counters and caches for the
//! life of a process, and a panic ends only one run.

#[cfg(feature = "planted-bugs")]
#[path = "mutants.rs"]
mod mutants;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rand::SeedableRng as _;

use crate::tally::Histories;
use crate::world;

/// A run that takes more of a processor than this is ended: it does not end by itself. Wall time says nothing on a machine
/// that others use.
const CPU_SECONDS_A_RUN: &str = "180";

/// Runs what the arguments say.
#[must_use]
pub fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().ok();
    match words.as_slice() {
        ["one", seed] => number(seed).map_or_else(usage, |seed| one(seed, false)),
        ["one", seed, "--trace"] => number(seed).map_or_else(usage, |seed| one(seed, true)),
        #[cfg(feature = "planted-bugs")]
        ["one", seed, "--bug", bug] => match (number(seed), mutants::bug_named(bug)) {
            (Some(seed), Some(bug)) => {
                hearth_core::planted::plant(bug);
                one(seed, false)
            }
            _ => usage(),
        },
        #[cfg(feature = "planted-bugs")]
        ["mutants", most, jobs, only @ ..] => match (number(most), number(jobs)) {
            (Some(most), Some(jobs)) => mutants::run(most, jobs, only),
            _ => usage(),
        },
        ["many", from, count, jobs] => match (number(from), number(count), number(jobs)) {
            (Some(from), Some(count), Some(jobs)) => many(from, count, jobs),
            _ => usage(),
        },
        ["known", file, jobs] => number(jobs).map_or_else(usage, |jobs| known(file, jobs)),
        ["same", from, count, jobs] => match (number(from), number(count), number(jobs)) {
            (Some(from), Some(count), Some(jobs)) => same(from, count, jobs),
            _ => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!(
        "usage: hearth-sim one SEED [--trace] | many FROM COUNT JOBS | known FILE JOBS | same FROM COUNT JOBS"
    );
    ExitCode::from(2)
}

/// Runs a seed in this process.
fn one(seed: u64, trace: bool) -> ExitCode {
    // Before anything draws: hash maps and the dependencies' own generators take theirs from the system.
    mad_turmoil::rand::set_rng(rand::rngs::StdRng::seed_from_u64(seed));
    std::mem::forget(mad_turmoil::time::SimClocksGuard::init());
    if let Ok(filter) = std::env::var("HEARTH_SIM_LOG") {
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .without_time()
            .with_ansi(false)
            .init();
    }
    let dir = scratch(seed);
    let report = world::run(seed, &dir, trace);
    drop(std::fs::remove_dir_all(&dir));
    match report {
        Ok(report) => {
            println!(
                "seed {seed} hash {:016x} lines {} simulated {} ms, {} faults, {} invocations ({} ran), {} metadata calls, {} of {} histories undecided",
                report.hash,
                report.lines,
                report.simulated_ms,
                report.faults,
                report.invocations.0,
                report.invocations.1,
                report.calls,
                report.histories.1,
                report.histories.0
            );
            for violation in &report.violations {
                println!("seed {seed} BROKEN {violation}");
            }
            ExitCode::from(u8::from(!report.violations.is_empty()))
        }
        Err(error) => {
            println!(
                "seed {seed} BROKEN the scratch directory {}: {error}",
                dir.display()
            );
            ExitCode::from(3)
        }
    }
}

/// Memory, where there is some to write to: the files of a run are synced often and kept never.
fn scratch(seed: u64) -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let base = if memory.is_dir() {
        memory
    } else {
        std::env::temp_dir()
    };
    base.join(format!("hearth-sim-{}-{seed}", std::process::id()))
}

/// What a run in a process of its own said.
struct Ran {
    is_good: bool,
    text: String,
}

fn run_apart(seed: u64, more: &[&str]) -> Ran {
    let exe = std::env::current_exe().unwrap_or_else(|_| "hearth-sim".into());
    let output = Command::new("sh")
        .args([
            "-c",
            "ulimit -t \"$1\"; shift; exec \"$@\"",
            "sh",
            CPU_SECONDS_A_RUN,
        ])
        .arg(exe)
        .args(["one", &seed.to_string()])
        .args(more)
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) => {
            let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
            let is_good = output.status.success();
            if !is_good && !text.contains("BROKEN") {
                let errors = String::from_utf8_lossy(&output.stderr);
                let tail: Vec<&str> = errors.lines().rev().take(12).collect();
                let tail: Vec<&str> = tail.into_iter().rev().collect();
                text = format!(
                    "seed {seed} BROKEN a run ends by itself: {}: {}\n",
                    output.status,
                    tail.join("\n")
                );
            }
            Ran { is_good, text }
        }
        Err(error) => Ran {
            is_good: false,
            text: format!("seed {seed} BROKEN cannot be run: {error}\n"),
        },
    }
}

/// Runs seeds side by side; `each` gets what they said, in the order in which they end, until it has heard enough.
fn side_by_side(seeds: &[u64], jobs: u64, more: &[&str], each: impl Fn(u64, Ran) -> bool + Sync) {
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let index = usize::try_from(index).unwrap_or(usize::MAX);
                    let Some(seed) = seeds.get(index) else { return };
                    if !each(*seed, run_apart(*seed, more)) {
                        return next.store(u64::MAX / 2, Ordering::Relaxed);
                    }
                }
            });
        }
    });
}

fn repeat(seed: u64) -> String {
    format!("repeat with: make sim-one SEED={seed}")
}

fn many(from: u64, count: u64, jobs: u64) -> ExitCode {
    let seeds: Vec<u64> = (from..from.saturating_add(count)).collect();
    every(&seeds, jobs, &format!("{count} seeds from {from}"))
}

/// Seeds that once failed, as a file lists them: a seed a line, and after it what it was.
fn known(file: &str, jobs: u64) -> ExitCode {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("{file}: {error}");
            return ExitCode::from(2);
        }
    };
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let words = lines.filter_map(|line| line.split_whitespace().next());
    match words.map(str::parse).collect::<Result<Vec<u64>, _>>() {
        Ok(seeds) => every(
            &seeds,
            jobs,
            &format!("{} seeds that once failed", seeds.len()),
        ),
        Err(error) => {
            eprintln!("{file}: a line does not begin with a seed: {error}");
            ExitCode::from(2)
        }
    }
}

fn every(seeds: &[u64], jobs: u64, what: &str) -> ExitCode {
    let heard = Mutex::new((Vec::new(), Histories::default()));
    side_by_side(seeds, jobs, &[], |seed, ran| {
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.1.add(&ran.text);
        if !ran.is_good {
            print!("{}", ran.text);
            println!("{}", repeat(seed));
            heard.0.push(seed);
        }
        true
    });
    let (mut failed, histories) = heard.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.sort_unstable();
    println!(
        "{what}: {} failed {failed:?}; {} of {} histories undecided",
        failed.len(),
        histories.undecided,
        histories.all
    );
    let is_bad = !failed.is_empty() || histories.are_too_many_undecided();
    ExitCode::from(u8::from(is_bad))
}

fn same(from: u64, count: u64, jobs: u64) -> ExitCode {
    let seeds: Vec<u64> = (from..from.saturating_add(count))
        .flat_map(|seed| [seed, seed])
        .collect();
    let said: Mutex<BTreeMap<u64, Vec<String>>> = Mutex::default();
    side_by_side(&seeds, jobs, &[], |seed, ran| {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.entry(seed).or_default().push(ran.text);
        true
    });
    let said = said.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut differ = 0;
    for (seed, texts) in &said {
        let is_same = texts.windows(2).all(|pair| pair[0] == pair[1]);
        if !is_same {
            differ += 1;
            println!("seed {seed} differs:\n{}", texts.join(""));
        }
    }
    println!("{count} seeds from {from} run twice: {differ} differ");
    ExitCode::from(u8::from(differ > 0))
}
