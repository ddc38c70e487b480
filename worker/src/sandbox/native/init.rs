//! A sandbox's first process: builds the sandbox from inside, starts the function's program, reaps what it leaves.
//!
//! ```text
//! spawner --clone3(all namespaces)--> init (pid 1) --vfork--> program
//!    join cgroups . wait for uid map . root in the user namespace . mounts . limits . Landlock . drop privileges .
//!    seccomp
//! ```
//!
//! The program is not pid 1 itself: the kernel ignores signals to pid 1 that have no handler, so `SIGTERM` would not
//! stop a Python program and `os.kill(os.getpid(), SIGKILL)` would do nothing. Init holds no privilege once the
//! program runs (same uid, no capabilities, same seccomp filter) and is not dumpable, so there is nothing to win by
//! attacking it; from inside it cannot be killed, from outside its death kills everything in the pid namespace.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use hearth_core::limits::SANDBOX_DESCRIPTORS;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{
    Gid, Pid, Uid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, setgroups, sethostname, setresgid,
    setresuid, setsid, write,
};

use super::access::{self, Signals};
use super::held;
use super::rootfs::{self, Trees};
use super::step::{Named, StepError};
use super::supervise::{self, Supervised};
use super::wire::{Failure, InitReport, ProgramEnd, encode};
use crate::sandbox::driver::{SANDBOX_GID, SANDBOX_UID};
use crate::sandbox::sys;

/// The most a function's processes may have of these, whatever the worker was started with. What else there is to limit
/// (processes, memory) is the control group's.
const LIMITS: [(Resource, u64); 7] = [
    (Resource::RLIMIT_NOFILE, SANDBOX_DESCRIPTORS),
    // A core file is written by the host's kernel, with a path or a program of the host.
    (Resource::RLIMIT_CORE, 0),
    // No priority over other sandboxes.
    (Resource::RLIMIT_NICE, 0),
    (Resource::RLIMIT_RTPRIO, 0),
    // Kernel memory or pages that cannot be reclaimed: the kernel's own defaults.
    (Resource::RLIMIT_MEMLOCK, 8 << 20),
    (Resource::RLIMIT_MSGQUEUE, 819_200),
    (Resource::RLIMIT_SIGPENDING, 16_384),
];

/// Everything init needs, made by the spawner before the clone.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) trees: Trees,
    pub(crate) tasks: Vec<OwnedFd>,
    pub(crate) output: OwnedFd,
    pub(crate) hostname: String,
    pub(crate) cwd: CString,
    pub(crate) argv: Vec<CString>,
    pub(crate) env: Vec<CString>,
    /// Whether the spawner has a negative `oom_score_adj`.
    pub(crate) is_protected: bool,
    pub(crate) filter: std::rc::Rc<Vec<seccompiler::sock_filter>>,
    /// Where there are extensions.
    pub(crate) supervised: Option<Supervised>,
    /// Where its owner is not known yet: whence it comes.
    pub(crate) held: Option<OwnedFd>,
}

/// The life of init. `socket` leads to the spawner.
pub(crate) fn run(mut plan: Plan, socket: OwnedFd) -> ! {
    if let Err(error) = build(&plan, &socket) {
        fail(&socket, error.step, error.errno)
    }
    if let Some(worker) = plan.held.take() {
        held::run(&plan, worker, socket)
    }
    if let Err(error) = surrender(&plan, &socket, Signals::Nobody) {
        fail(&socket, error.step, error.errno)
    }
    if let Some(supervised) = plan.supervised.take() {
        supervise::run(&plan, supervised, socket)
    }
    let Ok([socket]) = sys::process::keep_only([socket]) else {
        sys::process::exit_now(1)
    };
    confine(&plan, &socket);
    match sys::process::fork_and_hold() {
        Ok(None) => run_program(&plan, &socket),
        Ok(Some(program)) => {
            sys::process::hand_on_terminations(program);
            report(&socket, &InitReport::Started);
            watch(program, &socket)
        }
        Err(error) => fail(
            &socket,
            "fork".to_owned(),
            error.raw_os_error().unwrap_or(Errno::EIO as i32),
        ),
    }
}

/// The last step before programs run.
pub(super) fn confine(plan: &Plan, socket: &OwnedFd) {
    if let Err(error) = seccompiler::apply_filter(&plan.filter) {
        fail(
            socket,
            format!("install the seccomp filter: {error}"),
            Errno::last_raw(),
        )
    }
}

pub(super) fn fail(socket: &OwnedFd, step: String, errno: i32) -> ! {
    report(socket, &InitReport::Failed(Failure::Setup { step, errno }));
    sys::process::exit_now(1)
}

pub(super) fn report(socket: &OwnedFd, message: &InitReport) {
    // A spawner that is gone cannot be told; PDEATHSIG then ends this process.
    let _ = sys::net::send(socket, &encode(message), &[]);
}

/// Builds the sandbox, with the privileges that this takes.
fn build(plan: &Plan, socket: &OwnedFd) -> Result<(), StepError> {
    // A worker protected from the host's memory killer must not hand that on: a group in which nobody may be killed
    // hangs at its limit. First of all, while this process still owns the file.
    if plan.is_protected {
        std::fs::write("/proc/self/oom_score_adj", "0")
            .step(|| "reset oom_score_adj".to_owned())?;
    }
    for tasks in &plan.tasks {
        write(tasks, b"0").step(|| "join a cgroup".to_owned())?;
    }
    await_maps(socket)?;
    become_user(0, 0)?;
    unshare(CloneFlags::CLONE_NEWCGROUP).step(|| "unshare the cgroup namespace".to_owned())?;
    sethostname(&plan.hostname).step(|| "set the host name".to_owned())?;
    rootfs::assemble(&plan.trees)?;
    redirect(plan)
}

/// Gives up everything that a function may not have.
pub(super) fn surrender(plan: &Plan, socket: &OwnedFd, signals: Signals) -> Result<(), StepError> {
    confine_user(plan, signals)?;
    prctl::set_dumpable(false).step(|| "become undumpable".to_owned())?;
    prctl::set_name(c"hearth-init").step(|| "set the process name".to_owned())?;
    die_with_spawner(socket)
}

/// Of that, what programs inherit.
pub(super) fn confine_user(plan: &Plan, signals: Signals) -> Result<(), StepError> {
    access::confine(plan.trees.writable(), signals)?;
    // Only now: of a spawner of many sandboxes this process inherits more descriptors than a function may have.
    for (resource, most) in LIMITS {
        limit(resource, most).step(|| format!("limit {resource:?}"))?;
    }
    sys::process::drop_bounding_set().step(|| "drop the bounding set".to_owned())?;
    // Leaving uid 0 of the user namespace gives up every capability.
    become_user(SANDBOX_UID, SANDBOX_GID)
}

/// Never raises what the worker itself may not go beyond.
fn limit(resource: Resource, most: u64) -> nix::Result<()> {
    let (_, hard) = getrlimit(resource)?;
    let most = most.min(hard);
    setrlimit(resource, most, most)
}

fn await_maps(socket: &OwnedFd) -> Result<(), StepError> {
    let mut go = [0; 8];
    match sys::net::receive(socket, &mut go) {
        Ok((0, _)) => sys::process::exit_now(1),
        other => other.map(drop).step(|| "wait for the id maps".to_owned()),
    }
}

fn become_user(uid: u32, gid: u32) -> Result<(), StepError> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    setgroups(&[]).step(|| "drop groups".to_owned())?;
    setresgid(gid, gid, gid).step(|| "set the group".to_owned())?;
    setresuid(uid, uid, uid).step(|| "set the user".to_owned())
}

/// A change of user forgets the parent-death signal, so this comes last; a spawner that died before it shows as a
/// closed socket.
pub(super) fn die_with_spawner(socket: &OwnedFd) -> Result<(), StepError> {
    prctl::set_pdeathsig(Signal::SIGKILL).step(|| "set the parent death signal".to_owned())?;
    let mut sockets = [PollFd::new(socket.as_fd(), PollFlags::empty())];
    poll(&mut sockets, PollTimeout::ZERO).step(|| "look for the spawner".to_owned())?;
    if sockets[0]
        .revents()
        .is_some_and(|events| events.contains(PollFlags::POLLHUP))
    {
        sys::process::exit_now(1);
    }
    Ok(())
}

fn redirect(plan: &Plan) -> Result<(), StepError> {
    let null = open(
        c"/dev/null",
        OFlag::O_RDONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .step(|| "open /dev/null".to_owned())?;
    dup2_stdin(&null).step(|| "redirect standard input".to_owned())?;
    dup2_stdout(&plan.output).step(|| "redirect standard output".to_owned())?;
    dup2_stderr(&plan.output).step(|| "redirect standard error".to_owned())
}

/// The vforked child.
fn run_program(plan: &Plan, socket: &OwnedFd) -> ! {
    let errno = match prepare_program(&plan.cwd) {
        Ok(()) => {
            let error = sys::process::execute(&plan.argv[0], &plan.argv, &plan.env);
            error.raw_os_error().unwrap_or(Errno::EIO as i32)
        }
        Err(errno) => errno as i32,
    };
    report(socket, &InitReport::Failed(Failure::Exec { errno }));
    sys::process::exit_now(127)
}

pub(super) fn prepare_program(cwd: &CStr) -> nix::Result<()> {
    setsid()?;
    umask(Mode::from_bits_truncate(0o022));
    SigSet::empty().thread_set_mask()?;
    chdir(cwd)
}

/// Reaps orphans until the program ends; init's own end takes the others along.
pub(super) fn watch(program: Pid, socket: &OwnedFd) -> ! {
    let status = loop {
        match sys::process::wait_for(None) {
            Ok((pid, status)) if pid == program => break status,
            Ok(_orphan) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => sys::process::exit_now(1),
        }
    };
    report(socket, &InitReport::Ended(end_of(status)));
    sys::process::exit_now(0)
}

/// What a wait status says.
pub(super) fn end_of(status: i32) -> ProgramEnd {
    if libc::WIFSIGNALED(status) {
        ProgramEnd::Signaled(libc::WTERMSIG(status))
    } else {
        ProgramEnd::Exited(libc::WEXITSTATUS(status))
    }
}
