//! What happened in a run, as seen from outside the product: from inside the fake sandboxes and from the clients. The
//! invariants look at it; the trace of it is hashed, so that two runs of a seed can be compared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::history::Call;

/// A function of an account.
pub type Key = (String, String);

/// The key of an alias, under which it has its own values.
#[must_use]
pub fn qualified(key: &Key, alias: &str) -> Key {
    (key.0.clone(), format!("{}:{alias}", key.1))
}

/// An event in a sandbox.
#[derive(Clone, Debug)]
pub struct Running {
    /// The worker's host.
    pub worker: String,
    /// The sandbox, unique in the run.
    pub sandbox: String,
    /// The function that the sandbox was made for.
    pub function: Key,
    /// When it began, milliseconds of the run.
    pub since_ms: u64,
}

/// How an invocation ended for its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// 200 and no function error: the value of the configuration that ran.
    Ran {
        /// As the sandbox had it.
        value: u64,
    },
    /// 200 with a function error.
    Failed,
    /// Another status.
    Refused(u16),
    /// No answer: the connection broke, or the client gave up.
    NoAnswer,
}

/// An invocation as its client saw it.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Which gateway was asked.
    pub gateway: String,
    /// The function.
    pub function: Key,
    /// What was asked for: the function, or its alias ([`qualified`]).
    pub target: Key,
    /// When it was sent.
    pub began_ms: u64,
    /// When its answer came.
    pub ended_ms: Option<u64>,
    /// How often its event was in a sandbox.
    pub runs: u32,
    /// How it ended.
    pub ending: Option<Ending>,
}

/// An event invocation.
#[derive(Clone, Debug)]
pub struct EventSent {
    /// The function.
    pub function: Key,
    /// When its client was told that it is accepted; `None`: it was not, or the client has heard nothing.
    pub accepted_ms: Option<u64>,
    /// How often its event was in a sandbox.
    pub runs: u32,
    /// How often the function had done its work.
    pub done: u32,
}

/// A change of a function's value or limit by a client.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// What was written.
    pub value: u64,
    /// The value of the other version, of an alias with weights.
    pub also: Option<u64>,
    /// When it was sent.
    pub began_ms: u64,
    /// When it was known to be done; `None`: perhaps it was not.
    pub acked_ms: Option<u64>,
}

/// Everything seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Events in sandboxes now, by number.
    pub running: BTreeMap<u64, Running>,
    next: u64,
    /// Invocations by nonce.
    pub invocations: BTreeMap<u64, Invocation>,
    /// Event invocations by nonce.
    pub events: BTreeMap<u64, EventSent>,
    /// Reserved limits that were written, in order of sending; the first is the one from the beginning.
    pub limits: BTreeMap<Key, Vec<Written>>,
    /// Values that were written, in order of sending.
    pub values: BTreeMap<Key, Vec<Written>>,
    /// Most events at a time of each function, since the last look.
    pub peaks: BTreeMap<Key, usize>,
    /// Calls to the metadata, for the check of linearizability.
    pub calls: BTreeMap<Key, Vec<Call>>,
    /// Histories of which the check gave up.
    pub undecided: usize,
    /// Promises that were broken.
    pub violations: Vec<String>,
    /// Names of violations that were found, each told once.
    told: BTreeSet<String>,
    trace: Trace,
}

/// FNV-1a over the lines of the trace.
#[derive(Debug)]
struct Trace {
    hash: u64,
    lines: u64,
    print: bool,
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            hash: 0xCBF2_9CE4_8422_2325,
            lines: 0,
            print: false,
        }
    }
}

/// The shared ledger.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    seen: Arc<Mutex<Seen>>,
    /// What panicked; apart, as who panics may hold the rest.
    panics: Arc<Mutex<Vec<String>>>,
}

impl Ledger {
    /// What was seen until now.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A task panicked.
    pub fn panicked(&self, detail: &str) {
        let mut panics = self.panics.lock().unwrap_or_else(PoisonError::into_inner);
        panics.push(detail.to_owned());
    }

    /// Makes broken promises of panics.
    pub fn tell_panics(&self, at_ms: u64) {
        let panics =
            std::mem::take(&mut *self.panics.lock().unwrap_or_else(PoisonError::into_inner));
        for detail in panics {
            self.seen().violate("nothing panics", at_ms, &detail);
        }
    }

    /// Prints the trace as it grows.
    pub fn print_trace(&self) {
        self.seen().trace.print = true;
    }

    /// Adds a line to the trace.
    pub fn trace(&self, at_ms: u64, line: &str) {
        self.seen().trace(at_ms, line);
    }

    /// The hash of the trace and its length.
    #[must_use]
    pub fn fingerprint(&self) -> (u64, u64) {
        let seen = self.seen();
        (seen.trace.hash, seen.trace.lines)
    }
}

impl Seen {
    /// Adds a line to the trace.
    pub fn trace(&mut self, at_ms: u64, line: &str) {
        if self.trace.print {
            eprintln!("{at_ms:>7} {line}");
        }
        self.trace.lines += 1;
        for byte in at_ms.to_le_bytes().into_iter().chain(line.bytes()) {
            self.trace.hash ^= u64::from(byte);
            self.trace.hash = self.trace.hash.wrapping_mul(0x0100_0000_01B3);
        }
    }

    /// A promise is broken. The same `promise` is told once.
    pub fn violate(&mut self, promise: &str, at_ms: u64, detail: &str) {
        if self.told.insert(promise.to_owned()) {
            self.violations
                .push(format!("{promise}: {detail} (at {at_ms} ms)"));
            self.trace(at_ms, &format!("VIOLATION {promise}: {detail}"));
        }
    }

    /// An event enters a sandbox; the number is for [`Seen::leave`].
    pub fn enter(&mut self, running: Running) -> u64 {
        self.next += 1;
        let key = running.function.clone();
        self.running.insert(self.next, running);
        let count = self.count(&key);
        let peak = self.peaks.entry(key).or_default();
        *peak = count.max(*peak);
        self.next
    }

    /// The event has left, one way or the other.
    pub fn leave(&mut self, number: u64) {
        self.running.remove(&number);
    }

    /// Events of a function in sandboxes now.
    #[must_use]
    pub fn count(&self, key: &Key) -> usize {
        let of_it = self.running.values().filter(|r| r.function == *key);
        of_it.count()
    }
}
