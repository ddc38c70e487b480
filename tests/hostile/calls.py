"""System calls that change the machine, make namespaces, or open much kernel to attack."""

import ctypes
import mmap
import os

from table import BLOCK, IS_X86, NUMBERS, attempt, calls, libc, number, syscall

NEW = dict(user=0x10000000, mount=0x20000, pid=0x20000000, net=0x40000000, uts=0x4000000, ipc=0x8000000, cgroup=0x2000000, time=0x80)
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18

calls(
    "mounts", "EPERM",
    mount_tmpfs=("mount", b"none", b"/tmp", b"tmpfs", 0, 0),
    mount_proc=("mount", b"proc", b"/tmp", b"proc", 0, 0),
    mount_bind=("mount", b"/proc", b"/tmp", 0, MS_BIND | MS_REC, 0),
    mount_remount_writable=("mount", b"none", b"/", 0, MS_REMOUNT | MS_BIND, 0),
    mount_block_device=("mount", b"/dev/vda", b"/tmp", b"ext4", MS_RDONLY, 0),
    mount_propagation=("mount", b"none", b"/", 0, MS_REC | MS_PRIVATE, 0),
    umount_proc=("umount2", b"/proc", 2),
    umount_mask=("umount2", b"/proc/kcore", 2),
    umount_tmp=("umount2", b"/tmp", 0),
    new_file_system=("fsopen", b"tmpfs", 0),
    configure_file_system=("fsconfig", 0, 6, 0, 0, 0),
    new_mount=("fsmount", 0, 0, 0),
    pick_file_system=("fspick", -100, b"/", 0),
    clone_tree=("open_tree", -100, b"/", 1),
    move_mount=("move_mount", -100, b"/proc", -100, b"/tmp", 0),
    mount_attributes=("mount_setattr", -100, b"/", 0, BLOCK, 32),
    pivot_root=("pivot_root", b"/tmp", b"/tmp"),
    chroot=("chroot", b"/tmp"),
    statmount=("statmount", BLOCK, BLOCK, 4096, 0),
    listmount=("listmount", BLOCK, BLOCK, 64, 0),
    quota=("quotactl", 0, b"/dev/vda", 0, BLOCK),
    quota_of_fd=("quotactl_fd", 0, 0, 0, BLOCK),
    handle_of_name=("name_to_handle_at", -100, b"/", BLOCK, BLOCK, 0),
    open_by_handle=("open_by_handle_at", 0, BLOCK, 0),
    watch_all_files=("fanotify_init", 0, 0),
)
calls("namespaces", "EPERM", **{f"unshare_{name}": ("unshare", flag) for name, flag in NEW.items()})
calls("namespaces", "EPERM", **{f"clone_new_{name}": ("clone", flag | 17, 0, 0, 0, 0) for name, flag in NEW.items() if name != "time"})
# Its flags are behind a pointer, so there is no such call; C libraries go on with clone.
calls("namespaces", "ENOSYS", clone3=("clone3", BLOCK, 64))
calls(
    "namespaces", "EPERM",
    enter_namespace=("setns", 0, 0),
    host_name=("sethostname", b"x", 1),
    domain_name=("setdomainname", b"x", 1),
)


@attempt("namespaces", "enter a namespace of init's", "EACCES", "EPERM")
def namespace_of_init(facts):
    syscall("setns", os.open("/proc/1/ns/mnt", os.O_RDONLY), 0)
    return "done"


calls(
    "kernel", "EPERM",
    bpf=("bpf", 0, BLOCK, 64),
    bpf_program=("bpf", 5, BLOCK, 128),
    perf_event=("perf_event_open", BLOCK, 0, -1, -1, 0),
    userfaultfd=("userfaultfd", 1),
    io_uring=("io_uring_setup", 8, BLOCK),
    io_uring_enter=("io_uring_enter", 0, 0, 0, 0, 0, 0),
    io_uring_register=("io_uring_register", 0, 0, 0, 0),
    keyctl=("keyctl", 0, -3, 1),
    keyctl_read_session=("keyctl", 11, -3, BLOCK, 4096),
    add_key=("add_key", b"user", b"x", b"y", 1, -3),
    request_key=("request_key", b"user", b"x", 0, -3),
    secret_memory=("memfd_secret", 0),
    personality=("personality", 0x0040000),
    lookup_dcookie=("lookup_dcookie", 0, BLOCK, 64),
    hang_up=("vhangup",),
    mbind=("mbind", 0, 0, 0, 0, 0, 0),
    memory_policy=("set_mempolicy", 0, 0, 0),
    move_pages=("move_pages", 0, 0, 0, 0, 0, 0),
    migrate_pages=("migrate_pages", 0, 0, 0, 0),
    kexec=("kexec_load", 0, 0, BLOCK, 0),
    kexec_file=("kexec_file_load", 0, 0, 0, 0, 0),
    load_module=("init_module", BLOCK, 16, b""),
    load_module_file=("finit_module", 0, b"", 0),
    remove_module=("delete_module", b"x", 0),
    reboot=("reboot", 0xFEE1DEAD - (1 << 32), 672274793, 0x1234567, 0),
    swap_on=("swapon", b"/tmp/x", 0),
    swap_off=("swapoff", b"/tmp/x"),
    accounting=("acct", b"/tmp/x"),
    kernel_log=("syslog", 3, BLOCK, 64),
    kernel_log_clear=("syslog", 5, 0, 0),
    time_of_day=("settimeofday", BLOCK, 0),
    clock=("clock_settime", 0, BLOCK),
    clock_adjust=("clock_adjtime", 0, BLOCK),
    adjtimex=("adjtimex", BLOCK),
)
if IS_X86:
    calls(
        "kernel", "EPERM",
        io_privilege=("iopl", 3),
        io_ports=("ioperm", 0x80, 1, 1),
        local_descriptors=("modify_ldt", 1, BLOCK, 16),
        old_library=("uselib", b"/tmp/x"),
        file_system_types=("sysfs", 3),
    )


@attempt("kernel", "calls of later kernels", "ENOSYS")
def later_calls(facts):
    for call in (463, 466, 467, 470, 999):
        try:
            number(call, 0, 0, 0, 0, 0, 0)
            return f"{call} exists"
        except OSError as error:
            if error.errno != 38:
                return f"{call}: {error}"
    raise OSError(38, "none of them")


@attempt("kernel", "a call number with bits above the lower 32", "EPERM")
def wide_call_number(facts):
    number((1 << 32) | NUMBERS["mount"], b"none", b"/tmp", b"tmpfs", 0, 0)
    return "done"


@attempt("kernel", "write back the disks of the host", "pretended")
def sync_host(facts):
    import time
    began = time.monotonic()
    for _ in range(2000):
        syscall("sync")
    # Each real one waits for the disk; 2000 take far longer than this.
    return "pretended" if time.monotonic() - began < 1 else "done"


@attempt("kernel", "a filter that allows everything, on top", "EPERM")
def filter_on_top(facts):
    allow = ctypes.create_string_buffer(bytes([6, 0, 0, 0, 0, 0, 0xFF, 0x7F]), 8)
    program = (ctypes.c_size_t * 2)(1, ctypes.addressof(allow))
    syscall("seccomp", 1, 0, program)
    syscall("mount", b"none", b"/tmp", b"tmpfs", 0, 0)
    return "done"


@attempt("kernel", "switch the filter off", "EINVAL", "EACCES", "EPERM")
def filter_off(facts):
    number(NUMBERS["prctl"], 22, 0, 0, 0, 0)
    return "done"


@attempt("kernel", "a Landlock ruleset that allows everything, on top", "EROFS", "EACCES")
def landlock_on_top(facts):
    handled = ctypes.create_string_buffer((1 << 13).to_bytes(8, "little"), 8)
    rules = syscall("landlock_create_ruleset", handled, 8, 0)
    syscall("landlock_restrict_self", rules, 0)
    os.open("/var/task/new", os.O_CREAT | os.O_WRONLY)
    return "done"


def run(code):
    """Executes machine code, as an exploit would: from a page that is writable and executable."""
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code + b"\xc3")
    at = ctypes.addressof(ctypes.c_char.from_buffer(page))
    return ctypes.CFUNCTYPE(ctypes.c_long)(at)()


if IS_X86:

    @attempt("kernel", "the 32-bit door, int 0x80", "signal 31")
    def call_32_bit(facts):
        # mov eax, 20 (getpid); int 0x80
        return f"pid {run(bytes.fromhex('b814000000cd80'))}"

    @attempt("kernel", "mount through the 32-bit door", "signal 31")
    def mount_32_bit(facts):
        # mov eax, 21 (mount); int 0x80
        return run(bytes.fromhex("b815000000cd80"))

    @attempt("kernel", "the x32 calls", "ENOSYS")
    def call_x32(facts):
        number(0x40000000 | NUMBERS["mount"], b"none", b"/tmp", b"tmpfs", 0, 0)
        return "done"

    @attempt("kernel", "ptrace through the x32 calls", "ENOSYS")
    def ptrace_x32(facts):
        number(0x40000000 | 521, 0, 0, 0, 0)
        return "done"

    @attempt("kernel", "read an I/O port", "signal 11")
    def port(facts):
        # mov edx, 0x70; in al, dx
        return run(bytes.fromhex("ba70000000ec"))

    @attempt("kernel", "a privileged instruction", "signal 11")
    def halt(facts):
        return run(bytes.fromhex("f4"))


@attempt("kernel", "a page at address zero", "EPERM", "EACCES")
def page_zero(facts):
    libc.mmap.restype = ctypes.c_void_p
    at = libc.mmap(ctypes.c_void_p(0), 4096, 3, 0x32, -1, 0)
    if at in (None, 0):
        return "mapped"
    raise OSError(ctypes.get_errno(), "mmap")
