//! What worker and spawner say to each other, and a sandbox's init to the spawner.
//!
//! Worker and spawner are the same executable, so the format needs no versions. One message is one packet of a
//! `SOCK_SEQPACKET` unix socket; descriptors travel beside it.

use serde::{Deserialize, Serialize};

use crate::sandbox::driver::Process;

/// Longest message in bytes. The environment of a function is at most 4 KiB and a layer list is short; this is
/// below the default send buffer of a unix socket (208 KiB), which a packet must fit into.
pub(crate) const MESSAGE_MAX: usize = 128 * 1024;

/// The worker asks.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// First message: directories `dev` and `stage` below this one are the spawner's.
    Configure { state_dir: String },
    /// Make a sandbox. Descriptors: network namespace, output pipe, then `tasks` files to join, then, if
    /// `cgroup_dir`, the version 2 group to be born in, then, if `scratch`, the mount for `/tmp`, then, if there are
    /// `extensions`, the pipe for their output and the socket that [`Command`]s come by, then, if it is `held`, the socket
    /// that the [`Order`] comes by.
    Start(StartRequest),
}

/// One sandbox, checked by the driver.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StartRequest {
    /// Names the sandbox in replies.
    pub(crate) key: u64,
    pub(crate) root: String,
    pub(crate) mounts: Vec<MountRequest>,
    pub(crate) argv: Vec<String>,
    /// `NAME=value`.
    pub(crate) env: Vec<String>,
    pub(crate) cwd: String,
    pub(crate) hostname: String,
    pub(crate) tmp_mib: u32,
    /// First host uid (and gid) of the sandbox's range.
    pub(crate) uid_base: u32,
    /// How many `tasks` descriptors follow.
    pub(crate) tasks: usize,
    /// Whether a version 2 group follows.
    pub(crate) cgroup_dir: bool,
    /// Whether a detached mount for `/tmp` follows.
    pub(crate) scratch: bool,
    /// Programs that are started first; `argv` then waits for [`Command::StartRuntime`].
    pub(crate) extensions: Vec<String>,
    /// `NAME=value`, of the extensions.
    pub(crate) extension_env: Vec<String>,
    /// It waits for an [`Order`]; `argv`, if any, is what waits in it.
    pub(crate) held: bool,
}

/// The worker gives a held sandbox its owner, past the spawner. The trees for `targets` come along.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) argv: Vec<String>,
    /// `NAME=value`.
    pub(crate) env: Vec<String>,
    pub(crate) cwd: String,
    pub(crate) targets: Vec<String>,
}

/// What a held sandbox's init answers to its [`Order`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum OrderReport {
    Started,
    Failed(Failure),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MountRequest {
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) writable: bool,
}

/// The spawner answers and reports.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// Configured.
    Ready,
    /// Cannot work at all.
    Unusable { step: String, errno: i32 },
    /// The program was executed; the init's pid descriptor comes along.
    Started { key: u64 },
    /// Nothing runs and nothing is left.
    Failed { key: u64, failure: Failure },
    /// A started sandbox is gone. `None`: init was killed and could not say how the program ended.
    Exited { key: u64, end: Option<ProgramEnd> },
}

/// Why a start failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Failure {
    /// The program could not be executed.
    Exec { errno: i32 },
    /// A step before it failed.
    Setup { step: String, errno: i32 },
}

/// How the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ProgramEnd {
    Exited(i32),
    Signaled(i32),
}

/// What a sandbox's init tells the spawner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum InitReport {
    Started,
    Failed(Failure),
    Ended(ProgramEnd),
}

/// What the worker tells the init of a sandbox with extensions, past the spawner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Command {
    StartRuntime,
    KillRuntime,
}

/// What the init of a sandbox with extensions tells the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ProcessReport {
    ExecFailed(Process, i32),
    Ended(Process, ProgramEnd),
}

/// Longest [`InitReport`], [`Command`] and [`ProcessReport`] in bytes; step names are short.
pub(crate) const INIT_REPORT_MAX: usize = 1024;

/// Serialises a message.
pub(crate) fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    serde_json::to_vec(message).expect("plain structs with string keys always serialise")
}
