//! The mutation check: runs seeds with one rule broken until a promise is, for each rule.

use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use hearth_core::planted::Bug;

use super::side_by_side;

/// Those that the simulation of permits notices (`core/tests/permits_planted.rs`), which is a hundred times as fast: they are
/// looked for here only when named.
const OF_PERMITS: [Bug; 9] = [
    Bug::StaleGrantAccepted,
    Bug::ShrinkBaseIgnored,
    Bug::ShrinkBelowInFlight,
    Bug::ReleaseByHeartbeat,
    Bug::ReuseBeforeWait,
    Bug::NoSelfFence,
    Bug::IncarnationIgnored,
    Bug::SessionIgnored,
    Bug::GrantsAboveLimit,
];

/// A bug by its name in the code.
pub(super) fn bug_named(name: &str) -> Option<Bug> {
    Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == name)
}

/// The first broken promise of a run, and how many runs it took.
struct Found {
    seed: u64,
    promise: String,
}

fn promise_of(text: &str) -> String {
    let line = text.lines().find(|line| line.contains("BROKEN"));
    let rest = line
        .and_then(|line| line.split_once("BROKEN "))
        .map(|(_, rest)| rest);
    let promise = rest
        .and_then(|rest| rest.split_once(": "))
        .map(|(promise, _)| promise);
    promise.or(rest).unwrap_or("?").to_owned()
}

/// Looks for all bugs that are not of permits alone, or for those named, in at most `most` seeds each; prints the table of the README.
pub(super) fn run(most: u64, jobs: u64, only: &[&str]) -> ExitCode {
    let seeds: Vec<u64> = (1..=most).collect();
    let mut missed = 0;
    println!("| bug | seeds needed | promise that was broken |\n|---|---|---|");
    for bug in Bug::ALL {
        let name = format!("{bug:?}");
        let is_asked_for = if only.is_empty() {
            !OF_PERMITS.contains(&bug)
        } else {
            only.contains(&name.as_str())
        };
        if !is_asked_for {
            continue;
        }
        let found: Mutex<Option<Found>> = Mutex::new(None);
        side_by_side(&seeds, jobs, &["--bug", &name], |seed, ran| {
            if ran.is_good {
                return true;
            }
            let promise = promise_of(&ran.text);
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            if found.as_ref().is_none_or(|found| seed < found.seed) {
                *found = Some(Found { seed, promise });
            }
            false
        });
        match found.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(found) => println!("| {name} | {} | {} |", found.seed, found.promise),
            None => {
                missed += 1;
                println!("| {name} | not in {most} | |");
            }
        }
    }
    ExitCode::from(u8::from(missed > 0))
}
