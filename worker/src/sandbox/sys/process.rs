//! Making, executing, signalling and confining processes.
//!
//! [`clone_process`] behaves like `fork`: the child goes on with a copy of the caller's memory. Both callers (the
//! spawner and a sandbox's init) are single-threaded, so that the child may allocate and lock as it likes.

use std::ffi::{CString, c_char};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

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

/// Moves `socket` to descriptor 3 and closes everything from 4 on, whoever owns it.
///
/// For a process that never returns to the owners of those descriptors.
pub(crate) fn keep_only(socket: OwnedFd) -> io::Result<OwnedFd> {
    const KEPT: RawFd = 3;
    let raw = socket.into_raw_fd();
    if raw != KEPT {
        // SAFETY: plain system call on a descriptor that was ours; what 3 was before is closed, its owner never runs.
        check(libc::c_long::from(unsafe {
            libc::dup3(raw, KEPT, libc::O_CLOEXEC)
        }))?;
    }
    // SAFETY: 3 is the socket, given up by its former owner above.
    let socket = unsafe { OwnedFd::from_raw_fd(KEPT) };
    let first = libc::c_uint::try_from(KEPT + 1).map_err(io::Error::other)?;
    // SAFETY: closes descriptors whose owners never run again, by this function's contract.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) })?;
    Ok(socket)
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
