//! Making, executing, signalling and confining processes.
//!
//! [`clone_process`] behaves like `fork`: the child goes on with a copy of the caller's memory. Both callers (the
//! spawner and a sandbox's init) are single-threaded, so that the child may allocate and lock as it likes.

use std::ffi::{CString, c_char};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use nix::unistd::Pid;

/// libc's constant is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of a clone this is.
#[derive(Debug)]
pub(crate) enum Cloned {
    /// The new process.
    Child,
    /// The old one, with the new one's id and descriptor.
    Parent(Pid, OwnedFd),
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// `clone3` with these namespace flags, a pid descriptor and, if given, a birth inside a cgroup of version 2.
pub(crate) fn clone_process(
    namespaces: libc::c_int,
    cgroup: Option<BorrowedFd<'_>>,
) -> io::Result<Cloned> {
    let mut pidfd: RawFd = -1;
    // SAFETY: `clone_args` is plain data for which all zeroes is a value.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = u64::from((namespaces | libc::CLONE_PIDFD).cast_unsigned());
    arguments.pidfd = (&raw mut pidfd) as u64;
    arguments.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    // SAFETY: without CLONE_VM the child runs on a copy of this stack and memory, so no state is shared; `arguments`
    // and `pidfd` outlive the call. The caller is single-threaded, so no lock is held by a thread that is not copied.
    let pid = check(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<libc::clone_args>(),
        )
    })?;
    if pid == 0 {
        return Ok(Cloned::Child);
    }
    // SAFETY: CLONE_PIDFD stored a descriptor that only we know.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned::Parent(
        Pid::from_raw(i32::try_from(pid).map_err(io::Error::other)?),
        pidfd,
    ))
}

/// Forks with the parent held until the child executes a program or ends; `None` in the child.
///
/// The old `clone` call, as the sandbox's seccomp filter knows no `clone3`.
pub(crate) fn fork_and_hold() -> io::Result<Option<Pid>> {
    let flags = libc::c_long::from(libc::CLONE_VFORK | libc::SIGCHLD);
    // SAFETY: no CLONE_VM: the child has its own copy of memory and stack, a null stack pointer keeps the current one.
    // The remaining three arguments are unused with these flags, in whichever order the architecture takes them.
    let pid =
        check(unsafe { libc::syscall(libc::SYS_clone, flags, 0usize, 0usize, 0usize, 0usize) })?;
    if pid == 0 {
        return Ok(None);
    }
    Ok(Some(Pid::from_raw(
        i32::try_from(pid).map_err(io::Error::other)?,
    )))
}

/// Replaces this process. Returns only on failure.
pub(crate) fn execute(program: &CString, argv: &[CString], env: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const c_char> {
        strings
            .iter()
            .map(|string| string.as_ptr())
            .chain([std::ptr::null()])
            .collect()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: both arrays end with a null pointer and point to NUL-terminated strings that outlive the call.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Ends this process without running the destructors and exit hooks copied from the parent.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Moves these to the descriptors from 3 on, in their order, and closes all others behind them, whoever owns them.
///
/// For a process that never returns to the owners of those descriptors.
pub(crate) fn keep_only<const COUNT: usize>(
    kept: [OwnedFd; COUNT],
) -> io::Result<[OwnedFd; COUNT]> {
    const FIRST: RawFd = 3;
    let past = FIRST + RawFd::try_from(COUNT).map_err(io::Error::other)?;
    // Out of the way first, so that none is overwritten before it is moved.
    let mut moved = [-1; COUNT];
    for (place, descriptor) in moved.iter_mut().zip(kept) {
        let raw = descriptor.into_raw_fd();
        *place = if COUNT == 1 {
            raw
        } else {
            // SAFETY: plain system call on a descriptor that was ours.
            let copy = unsafe { libc::fcntl(raw, libc::F_DUPFD_CLOEXEC, past) };
            check(libc::c_long::from(copy))?;
            copy
        };
    }
    for (to, from) in (FIRST..past).zip(moved) {
        if from != to {
            // SAFETY: plain system call on a descriptor that was ours; what `to` was before is closed, its owner never
            // runs.
            check(libc::c_long::from(unsafe {
                libc::dup3(from, to, libc::O_CLOEXEC)
            }))?;
        }
    }
    let first = libc::c_uint::try_from(past).map_err(io::Error::other)?;
    // SAFETY: closes descriptors whose owners never run again, by this function's contract.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) })?;
    let mut next = FIRST;
    Ok(std::array::from_fn(|_| {
        next += 1;
        // SAFETY: one of those that were moved here, given up by its former owner above, and each once.
        unsafe { OwnedFd::from_raw_fd(next - 1) }
    }))
}

/// Takes ownership of a descriptor which the kernel has just returned and nobody else knows.
pub(crate) fn adopt(raw: RawFd) -> OwnedFd {
    // SAFETY: by the contract above; used on the result of `fcntl(F_DUPFD_CLOEXEC)` only.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

/// Waits for one child, or any; its id and raw wait status.
///
/// Not nix's: that one knows no real-time signals.
pub(crate) fn wait_for(pid: Option<Pid>) -> io::Result<(Pid, i32)> {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    let pid = unsafe { libc::waitpid(pid.map_or(-1, Pid::as_raw), &raw mut status, 0) };
    check(libc::c_long::from(pid))?;
    Ok((Pid::from_raw(pid), status))
}

/// A child that has ended, if there is one: its id and raw wait status.
pub(crate) fn reap() -> io::Result<Option<(Pid, i32)>> {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    check(libc::c_long::from(pid))?;
    Ok((pid > 0).then(|| (Pid::from_raw(pid), status)))
}

/// The program that [`hand_on_terminations`] hands signals on to; 0 is none.
static PROGRAM: AtomicI32 = AtomicI32::new(0);

/// From now on this process, which is the first of its pid namespace, hands a SIGTERM from outside on to `program`. One
/// from inside is ignored as before: the kernel names its sender.
pub(crate) fn hand_on_terminations(program: Pid) {
    extern "C" fn hand_on(signal: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
        // SAFETY: the kernel passes a valid record to a handler installed with SA_SIGINFO, and SIGTERM's has a sender.
        let sender = unsafe { (*info).si_pid() };
        let program = PROGRAM.load(Ordering::Relaxed);
        if sender == 0 && program > 0 {
            // SAFETY: `kill` is safe in a handler, and so is saving errno, which is the interrupted thread's.
            unsafe {
                let errno = libc::__errno_location();
                let before = *errno;
                libc::kill(program, signal);
                *errno = before;
            }
        }
    }
    PROGRAM.store(program.as_raw(), Ordering::Relaxed);
    // SAFETY: `sigaction` and `sigset_t` are plain data for which all zeroes is a value; the handler calls only what is
    // safe in one, and lives as long as the process.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = hand_on;
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        libc::sigaction(libc::SIGTERM, &raw const action, std::ptr::null_mut());
        let mut mask: libc::sigset_t = std::mem::zeroed();
        libc::sigaddset(&raw mut mask, libc::SIGTERM);
        // The spawner blocks it.
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const mask, std::ptr::null_mut());
    }
}

/// Sends a signal to the process behind a pid descriptor; a process that is gone is no error.
pub(crate) fn signal_process(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    let pidfd = pidfd.as_fd().as_raw_fd();
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null `siginfo_t` is allowed; the descriptor is borrowed.
    match check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd, signal, no_info, 0) }) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        other => other.map(drop),
    }
}

/// Takes every capability out of the bounding set; needs `CAP_SETPCAP`.
pub(crate) fn drop_bounding_set() -> io::Result<()> {
    for capability in 0..64_u64 {
        // SAFETY: PR_CAPBSET_DROP takes integers only.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } < 0 {
            let error = io::Error::last_os_error();
            // The first number the kernel does not know ends the list.
            return if error.raw_os_error() == Some(libc::EINVAL) {
                Ok(())
            } else {
                Err(error)
            };
        }
    }
    Ok(())
}

/// Gives every signal its default action back. `execve` resets handlers, but hands on what is ignored: SIGPIPE by
/// Rust's start-up code, others by whoever started the worker.
pub(crate) fn default_signals() {
    // All zeroes is the kernel's `sigaction` with SIG_DFL, no flags, no restorer and an empty mask.
    let default = [0_u64; 4];
    for signal in 1..=64_u64 {
        let (no_old, mask_bytes) = (std::ptr::null_mut::<u64>(), 8_usize);
        // SAFETY: installs no handler; `default` outlives the call. The raw call, as the C library hides 32 and 33.
        // SIGKILL and SIGSTOP are refused, which is as well.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                no_old,
                mask_bytes,
            )
        };
    }
}
