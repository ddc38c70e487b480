//! The seam between the worker and whatever makes sandboxes.
//!
//! The pool and the invoke path know only these traits. Implementations: [`super::native`] (Linux namespaces and
//! cgroups), [`super::oci`] (any OCI runtime) and [`super::fake`] (no process at all, for simulation). Nothing here does IO.

use std::fmt::Debug;
use std::io;
use std::path::PathBuf;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

/// The address the Runtime API listens on inside every sandbox.
///
/// Constant, since each sandbox has a network namespace of its own; `AWS_LAMBDA_RUNTIME_API` must carry it.
pub const RUNTIME_API_ADDRESS: &str = "127.0.0.1:9001";

/// User id of the function's processes, as they see it themselves (AWS's `sbx_user1051` is 993 too).
pub const SANDBOX_UID: u32 = 993;

/// Group id of the function's processes, as they see it themselves.
pub const SANDBOX_GID: u32 = 990;

/// Makes sandboxes. One per worker.
#[async_trait]
pub trait Driver: Send + Sync + Debug {
    /// Makes a sandbox and starts `spec.argv` in it.
    ///
    /// Returns once the program was executed (not: once it is initialised). On `Err` nothing is left behind.
    ///
    /// # Errors
    /// [`DriverError`], see its variants for whose fault it is.
    async fn start(&self, spec: SandboxSpec) -> Result<StartedSandbox, DriverError>;

    /// Builds a sandbox up to the point where it gets its owner, see [`Prepared`]. `spec.argv` is the program that waits in
    /// it, if any, and `spec.env` that program's environment; its limit of memory is set later.
    ///
    /// # Errors
    /// As [`Driver::start`]; [`DriverError::Unsupported`] where nothing can be prepared.
    async fn prepare(&self, spec: SandboxSpec) -> Result<Box<dyn Prepared>, DriverError> {
        let _ = spec;
        Err(DriverError::Unsupported(
            "this driver prepares no sandboxes".to_owned(),
        ))
    }

    /// Whether [`Driver::prepare`] makes what a specification without a maker would be made by.
    fn can_prepare(&self) -> bool {
        false
    }

    /// What this host lacks, one line each; empty when everything is there.
    fn diagnose(&self) -> Vec<Diagnosis>;

    /// Kills every sandbox and gives back what the driver holds; `start` fails from then on.
    async fn shutdown(&self);
}

/// A sandbox that is nobody's yet: everything is there but the code, and either no program, or one (a *stem cell*) that has
/// loaded what all functions of a runtime need and waits. Dropping it ends it.
#[async_trait]
pub trait Prepared: Send + Sync + Debug {
    /// Whether it may still be used; one whose program ended by itself may not.
    fn is_alive(&self) -> bool;

    /// Makes it the sandbox of `spec`, for life. What `spec` says of root, size of `/tmp`, host name and network must be what
    /// it was prepared with; it has no extensions.
    ///
    /// # Errors
    /// As [`Driver::start`]; nothing is left behind.
    async fn start(self: Box<Self>, spec: SandboxSpec) -> Result<StartedSandbox, DriverError>;
}

/// Everything a driver needs to know about one sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxSpec {
    /// Unique among the sandboxes of this worker's incarnation; ASCII letters, digits, `-` and `_`, at most 64.
    pub id: String,
    /// Root directory tree of the runtime pack; always mounted read-only. It must hold the directories `proc`, `dev`,
    /// `tmp` and every mount's target, as a read-only root cannot grow any.
    pub root: PathBuf,
    /// Further trees, mounted in this order: code at `/var/task`, layers at `/opt`.
    pub mounts: Vec<Mount>,
    /// Program and arguments; `argv[0]` is an absolute path inside the sandbox.
    pub argv: Vec<String>,
    /// The complete environment: nothing is inherited.
    pub env: Vec<(String, String)>,
    /// Absolute path inside the sandbox.
    pub cwd: PathBuf,
    /// Limit of memory; swap is none. Also gives the share of CPU.
    pub memory_mib: u32,
    /// Limit of processes and threads together.
    pub pids_max: u32,
    /// Size of the private, writable `/tmp`.
    pub tmp_mib: u32,
    /// Host name inside.
    pub hostname: String,
    /// Loopback alone, whatever others have.
    pub isolated: bool,
    /// Who is to make it, on a worker that has a choice; `None`: whoever does by default.
    pub maker: Option<String>,
    /// Programs that are started before `argv`, which then waits for [`Processes::start_runtime`]. Usually none.
    pub extensions: ExtensionsSpec,
}

/// Programs that run beside the runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtensionsSpec {
    /// Absolute paths inside the sandbox.
    pub programs: Vec<String>,
    /// Their complete environment.
    pub env: Vec<(String, String)>,
}

/// One directory of the host shown inside a sandbox, without set-uid programs and device files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Directory (or file) of the host.
    pub source: PathBuf,
    /// Absolute path inside; it must exist in the root (or in an earlier mount).
    pub target: PathBuf,
    /// False for code and layers. When true the owner inside is still the host's owner: uid 993 may write only where
    /// the tree's mode lets others write.
    pub writable: bool,
}

/// A running sandbox. Dropping `control` kills it.
#[derive(Debug)]
pub struct StartedSandbox {
    /// Accepts the connections that processes inside make to [`RUNTIME_API_ADDRESS`].
    pub runtime_api: Box<dyn RuntimeApiListener>,
    /// Standard output and standard error, interleaved as written; ends when no process inside holds it any more.
    pub output: Box<dyn OutputStream>,
    /// Its life.
    pub control: Box<dyn SandboxControl>,
    /// Where the specification has extensions.
    pub extensions: Option<StartedExtensions>,
}

/// The processes of a sandbox whose runtime is not its only one.
#[derive(Debug)]
pub struct StartedExtensions {
    /// Standard output and standard error of all extensions, interleaved.
    pub output: Box<dyn OutputStream>,
    /// Their lives, and the runtime's.
    pub processes: Box<dyn Processes>,
}

/// Names a process of a sandbox with extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Process {
    /// The program of [`SandboxSpec::argv`].
    Runtime,
    /// By its place in [`ExtensionsSpec::programs`].
    Extension(usize),
}

/// What becomes of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessEvent {
    /// Its program could not be executed; the error number says why.
    ExecFailed(Process, i32),
    /// It ended. The sandbox goes on: its owner ends it with [`SandboxControl::kill`].
    Ended(Process, ExitStatus),
}

/// Watches and steers the processes of a sandbox with extensions.
#[async_trait]
pub trait Processes: Send + Sync + Debug {
    /// The next event; `None` once the sandbox is gone. Safe to cancel.
    async fn next(&self) -> Option<ProcessEvent>;

    /// Starts the program of [`SandboxSpec::argv`].
    ///
    /// # Errors
    /// When the sandbox is gone.
    fn start_runtime(&self) -> io::Result<()>;

    /// SIGKILL to the runtime alone; nothing if it does not run.
    ///
    /// # Errors
    /// When the sandbox is gone.
    fn kill_runtime(&self) -> io::Result<()>;
}

/// Standard output and error of a sandbox.
pub trait OutputStream: AsyncRead + Send + Unpin + Debug {}
impl<T: AsyncRead + Send + Unpin + Debug> OutputStream for T {}

/// One connection to the Runtime API.
pub trait RuntimeApiStream: AsyncRead + AsyncWrite + Send + Unpin + Debug {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + Debug> RuntimeApiStream for T {}

/// The listening end of a sandbox's Runtime API.
#[async_trait]
pub trait RuntimeApiListener: Send + Debug {
    /// The next connection from inside. Safe to cancel. It may wait for ever once the sandbox has ended: watch
    /// [`SandboxControl::wait`] beside it.
    ///
    /// # Errors
    /// When the listener can give no more connections (the sandbox is gone, or the worker is out of descriptors).
    async fn accept(&mut self) -> io::Result<Box<dyn RuntimeApiStream>>;
}

/// Watches and steers one sandbox. All methods are safe to call after its end; they then do nothing.
#[async_trait]
pub trait SandboxControl: Send + Sync + Debug {
    /// Waits for the end of the sandbox: the started program ended and every other process inside was killed.
    /// Any number of callers may wait; later ones get the same report.
    async fn wait(&self) -> ExitReport;

    /// Kills every process inside, also when frozen; [`SandboxControl::wait`] tells when it is done.
    fn kill(&self);

    /// Sets the CPU quota in thousandths of a CPU. Call it after the init phase only: a quota during init makes a cold
    /// start ten times slower, and AWS boosts init too.
    ///
    /// # Errors
    /// When the kernel refuses; without cgroups it is `Ok` and has no effect.
    fn set_cpu(&self, cpu_millis: u32) -> io::Result<()>;

    /// Highest memory use so far in bytes; `None` without cgroups.
    fn memory_peak_bytes(&self) -> Option<u64>;

    /// Stops every process inside (between invocations). Returns at once; the last process stops a moment later.
    ///
    /// Not asynchronous, as is `thaw`: the caller puts both in order under a lock. They must take microseconds.
    ///
    /// # Errors
    /// When the kernel refuses; a host without any freezer is `Ok` and has no effect.
    fn freeze(&self) -> io::Result<()>;

    /// Lets every process inside run again.
    ///
    /// # Errors
    /// As [`SandboxControl::freeze`].
    fn thaw(&self) -> io::Result<()>;

    /// SIGTERM to the runtime; nothing if it does not run.
    ///
    /// # Errors
    /// When the driver cannot; the caller kills instead.
    fn terminate(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Whether the kernel has killed a process at the memory limit.
    fn was_out_of_memory(&self) -> bool {
        false
    }

    /// Connects to a listener on the sandbox's loopback.
    ///
    /// # Errors
    /// When nobody listens, or the driver cannot.
    async fn connect(&self, port: u16) -> io::Result<Box<dyn RuntimeApiStream>> {
        let _ = port;
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// How a sandbox ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitReport {
    /// Why it ended.
    pub status: ExitStatus,
    /// Highest memory use of its life in bytes, where known.
    pub memory_peak_bytes: Option<u64>,
}

/// Why a sandbox ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// The started program ended by itself with this code.
    Exited(i32),
    /// The started program, or the sandbox as a whole, was killed by this signal (9 after `kill`).
    Signaled(i32),
    /// The kernel killed it at its memory limit.
    OutOfMemory,
}

/// One thing this host lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// True if no sandbox can start because of it, false if a protection or a feature is missing.
    pub fatal: bool,
    /// One line for an operator: what is missing and what to do.
    pub message: String,
}

/// Why no sandbox was started.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The specification breaks a rule of [`SandboxSpec`]; the caller's fault, a retry is useless.
    #[error("invalid sandbox specification: {0}")]
    InvalidSpec(String),
    /// The program could not be executed inside (missing, not executable, wrong format); the function's fault
    /// (AWS: `Runtime.InvalidEntrypoint`).
    #[error("cannot execute {program}")]
    Exec {
        /// `argv[0]`.
        program: String,
        /// What `execve` said.
        #[source]
        source: io::Error,
    },
    /// A step of making the sandbox failed; the host's fault.
    #[error("sandbox setup failed at {step}")]
    Setup {
        /// What was being done, with its subject.
        step: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The worker holds as many sandboxes as it may.
    #[error("all {limit} sandbox slots of this worker are in use")]
    TooManySandboxes {
        /// The limit.
        limit: usize,
    },
    /// This host cannot run sandboxes; the text is a [`Diagnosis`].
    #[error("this host cannot run sandboxes: {0}")]
    Unsupported(String),
    /// The driver's helper process went away during the start, or the driver was shut down.
    #[error("the sandbox driver is shut down or lost its spawner process")]
    Gone,
}
