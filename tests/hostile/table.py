"""The table of attempts: who tries what, and how each must end. The same file is read by the test and runs in the sandbox.

An attempt is a function of `facts` (what the test knows of the host and of a neighbour, as an attacker might guess it). It
ends as the name of an errno, as `signal N` when it was killed, or as the word it returns; that end must be one of those it
is expected to have. None of them is a success.
"""

import ctypes
import errno
import os
import platform

TABLE = []

# The calls by number: the C library names few of them.
NUMBERS = {
    "x86_64": dict(
        _sysctl=156, acct=163, add_key=248, adjtimex=159, bpf=321, capset=126, chroot=161, clock_adjtime=305,
        clock_settime=227, clone=56, clone3=435, delete_module=176, fanotify_init=300, finit_module=313, fsconfig=431,
        fsmount=432, fsopen=430, fspick=433, init_module=175, io_uring_enter=426, io_uring_register=427, io_uring_setup=425,
        ioctl=16, ioperm=173, iopl=172, kcmp=312, kexec_file_load=320, kexec_load=246, keyctl=250, landlock_add_rule=445,
        landlock_create_ruleset=444, landlock_restrict_self=446, listmount=458, lookup_dcookie=212, mbind=237,
        memfd_secret=447, migrate_pages=256, modify_ldt=154, mount=165, mount_setattr=442, move_mount=429, move_pages=279,
        mq_open=240, msgget=68, name_to_handle_at=303, nfsservctl=180, open_by_handle_at=304, open_tree=428,
        perf_event_open=298, personality=135, pidfd_getfd=438, pidfd_open=434, pivot_root=155, prctl=157, process_madvise=440,
        process_vm_readv=310, process_vm_writev=311, ptrace=101, quotactl=179, quotactl_fd=443, reboot=169, request_key=249,
        rt_sigqueueinfo=129, sched_setscheduler=144, seccomp=317, semget=64, set_mempolicy=238, setdomainname=171,
        setfsuid=122, sethostname=170, setns=308, settimeofday=164, shmat=30, shmget=29, statmount=457, swapoff=168,
        swapon=167, sync=162, sysfs=139, syslog=103, umount2=166, unshare=272, uselib=134, userfaultfd=323, ustat=136,
        vhangup=153,
    ),
    "aarch64": dict(
        acct=89, add_key=217, adjtimex=171, bpf=280, capset=91, chroot=51, clock_adjtime=266, clock_settime=112, clone=220,
        clone3=435, delete_module=106, fanotify_init=262, finit_module=273, fsconfig=431, fsmount=432, fsopen=430, fspick=433,
        init_module=105, io_uring_enter=426, io_uring_register=427, io_uring_setup=425, ioctl=29, kcmp=272,
        kexec_file_load=294, kexec_load=104, keyctl=219, landlock_add_rule=445, landlock_create_ruleset=444,
        landlock_restrict_self=446, listmount=458, lookup_dcookie=18, mbind=235, memfd_secret=447, migrate_pages=238,
        mount=40, mount_setattr=442, move_mount=429, move_pages=239, mq_open=180, msgget=186, name_to_handle_at=264,
        nfsservctl=42, open_by_handle_at=265, open_tree=428, perf_event_open=241, personality=92, pidfd_getfd=438,
        pidfd_open=434, pivot_root=41, prctl=167, process_madvise=440, process_vm_readv=270, process_vm_writev=271,
        ptrace=117, quotactl=60, quotactl_fd=443, reboot=142, request_key=218, rt_sigqueueinfo=138, sched_setscheduler=119,
        seccomp=277, semget=190, set_mempolicy=237, setdomainname=162, setfsuid=151, sethostname=161, setns=268,
        settimeofday=170, shmat=196, shmget=194, statmount=457, swapoff=225, swapon=224, sync=81, syslog=116, umount2=39,
        unshare=97, userfaultfd=282, vhangup=58,
    ),
}[platform.machine()]
IS_X86 = platform.machine() == "x86_64"

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
BLOCK = ctypes.create_string_buffer(4096)


def number(call, *arguments):
    """Makes a call by its number: the result, or the OSError."""
    passed = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(call), *passed)
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def syscall(name, *arguments):
    return number(NUMBERS[name], *arguments)


def attempt(kind, what, *expected):
    """Puts a function into the table; `kind` groups attempts as docs/security.md does."""

    def put(action):
        TABLE.append((action.__name__, kind, what, expected, action))
        return action

    return put


def calls(kind, *expected, **attempts):
    """Attempts that are one call each: name = (call, arguments...)."""
    for name, (call, *arguments) in attempts.items():
        def action(facts, call=call, arguments=arguments):
            syscall(call, *arguments)
            return "done"

        TABLE.append((name, kind, f"the call {call}", expected, action))


def paths(kind, what, do, expected, *places):
    """The same attempt on several paths."""
    for place in places:
        def action(facts, place=place):
            return do(place) or "done"

        TABLE.append((f"{what} {place}", kind, f"{what} {place}", expected, action))


def read(path):
    """`empty` is what is covered; anything else is a leak and is shown."""
    with open(path, "rb") as file:
        got = file.read(64)
    return f"read {got!r}" if got else "empty"


def write(path):
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, b"1")
    finally:
        os.close(fd)
    return "written"


def ended(action, facts):
    """How an attempt ends, as one word or two."""
    try:
        return str(action(facts))
    except OSError as error:
        return errno.errorcode.get(error.errno, type(error).__name__)
    except Exception as error:  # a broken attempt must not look like a refusal
        return f"{type(error).__name__}: {error}"
