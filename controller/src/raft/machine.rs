//! The replicated state machine as consensus sees it: bytes in, bytes out. The machine itself lives
//! elsewhere; here are the trait it implements and the cell in which consensus keeps it.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

/// A replicated state: pure, synchronous and deterministic, so that every controller that applies the
/// same commands in the same order holds the same state.
pub trait Machine: Send + Sync + 'static {
    /// Which commands this release can read; raised with each that its predecessor could not. A command of a level is
    /// proposed only when every member has it (`Consensus::level`).
    const LEVEL: u32 = 0;

    /// The highest level of the commands that are known to have been applied: every member can read them, or could not
    /// have applied the log. So a node that has just started need not hear all others first.
    fn proven_level(&self) -> u32 {
        0
    }

    /// Applies the command committed at `index` and returns its reply. A command it cannot read is
    /// answered with a reply that says so; it never panics, because the command is in every log.
    fn apply(&mut self, index: u64, command: &[u8]) -> Vec<u8>;

    /// The whole state, with a format version of its own.
    fn snapshot(&self) -> Vec<u8>;

    /// As [`Machine::snapshot`], in two steps: a copy of the state now, and its bytes later, while commands go on being
    /// applied. A copy takes milliseconds where the bytes take a large part of a second.
    fn freeze(&self) -> WriteSnapshot {
        let bytes = self.snapshot();
        Box::new(move || bytes)
    }

    /// Replaces the state by one that [`Machine::snapshot`] wrote. On error the state is as before.
    fn restore(&mut self, bytes: &[u8]) -> Result<(), RestoreError>;

    /// Called after a batch of commands (or a snapshot) was applied, before readers see the new applied
    /// index. For counters and the like; the state must not depend on it.
    fn after_apply(&self) {}
}

/// Makes the bytes of a snapshot; work for a thread that may be blocked.
pub type WriteSnapshot = Box<dyn FnOnce() -> Vec<u8> + Send + Sync>;

/// A snapshot the machine cannot read.
#[derive(Debug, thiserror::Error)]
#[error("snapshot cannot be read: {0}")]
pub struct RestoreError(pub String);

/// The machine and the index up to which it has applied, shared by the applier and the readers.
pub(super) struct MachineCell<M> {
    machine: RwLock<M>,
    applied: watch::Sender<u64>,
    panicked: watch::Sender<bool>,
}

/// Tells when a panic passes. openraft notices a machine that panicked only when it next has work for it.
struct PanicGuard<'a>(&'a watch::Sender<bool>);

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.send_replace(true);
        }
    }
}

impl<M: Machine> MachineCell<M> {
    pub(super) fn new(machine: M) -> Arc<Self> {
        Arc::new(Self {
            machine: RwLock::new(machine),
            applied: watch::Sender::new(0),
            panicked: watch::Sender::new(false),
        })
    }

    /// Runs `f` on the machine while no command is being applied. A machine that panicked in `apply`
    /// has ended the Raft core (and so the process) by then; its lock is not left poisoned.
    pub(super) fn read<T>(&self, f: impl FnOnce(&M) -> T) -> T {
        f(&self.machine.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn write<T>(&self, f: impl FnOnce(&mut M) -> T) -> T {
        let _guard = PanicGuard(&self.panicked);
        f(&mut self.machine.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells readers that the machine now contains everything up to `index`.
    pub(super) fn publish(&self, index: u64) {
        self.read(Machine::after_apply);
        self.applied.send_replace(index);
    }

    /// True once the machine panicked: what it contains is anyone's guess.
    pub(super) fn panicked(&self) -> watch::Receiver<bool> {
        self.panicked.subscribe()
    }

    pub(super) fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }
}

impl<M> fmt::Debug for MachineCell<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MachineCell")
            .field("applied", &*self.applied.borrow())
            .finish_non_exhaustive()
    }
}
