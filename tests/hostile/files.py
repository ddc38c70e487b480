"""Files: device nodes, what the kernel shows in /proc and /sys, the host's files, and what a sandbox may not write."""

import fcntl
import os
import stat
import struct

from table import attempt, paths, read, write

# Not there at all.
paths("devices", "open", lambda p: os.close(os.open(p, os.O_RDWR)), ("ENOENT",),
      "/dev/mem", "/dev/kmem", "/dev/port", "/dev/kmsg", "/dev/vda", "/dev/sda", "/dev/loop0", "/dev/loop-control", "/dev/kvm",
      "/dev/fuse", "/dev/net/tun", "/dev/ptmx", "/dev/tty", "/dev/console", "/dev/vhost-net", "/dev/mapper/control", "/dev/rtc0",
      "/dev/userfaultfd", "/dev/hwrng", "/dev/uinput", "/dev/nvram", "/dev/snapshot", "/dev/autofs", "/dev/mqueue/x")
# Covered by something empty, or not to be read by this user.
paths("proc", "read", read, ("empty", "EACCES", "ENOENT", "EPERM", "EIO"),
      "/proc/kcore", "/proc/kmsg", "/proc/kallsyms", "/proc/keys", "/proc/key-users", "/proc/modules", "/proc/timer_list",
      "/proc/interrupts", "/proc/sched_debug", "/proc/slabinfo", "/proc/vmallocinfo", "/proc/pagetypeinfo", "/proc/kpageflags",
      "/proc/kpagecount", "/proc/cmdline", "/proc/diskstats", "/proc/partitions", "/proc/locks", "/proc/softirqs", "/proc/schedstat",
      "/proc/config.gz", "/proc/1/environ", "/proc/1/maps", "/proc/1/mem", "/proc/1/auxv", "/proc/1/stack", "/proc/1/syscall")
paths("proc", "list", lambda p: f"lists {os.listdir(p)}" if os.listdir(p) else "empty", ("empty", "EACCES", "ENOENT", "EPERM"),
      "/proc/1/fd", "/proc/1/root", "/proc/1/cwd", "/proc/1/map_files", "/proc/acpi", "/proc/bus", "/proc/fs", "/proc/irq",
      "/proc/scsi", "/sys", "/sys/kernel", "/sys/fs/cgroup", "/sys/firmware", "/proc/sys/fs/binfmt_misc")
paths("proc", "write", write, ("EACCES", "EROFS", "EPERM", "ENOENT"),
      "/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hostname",
      "/proc/sys/kernel/randomize_va_space", "/proc/sys/kernel/shmmax", "/proc/sys/kernel/ns_last_pid", "/proc/sys/vm/drop_caches",
      "/proc/sys/vm/overcommit_memory", "/proc/sys/vm/panic_on_oom", "/proc/sys/net/ipv4/ip_forward",
      "/proc/sys/net/ipv4/ip_unprivileged_port_start", "/proc/sys/fs/file-max", "/proc/sys/user/max_user_namespaces",
      "/proc/1/oom_score_adj", "/proc/1/mem", "/proc/1/clear_refs", "/proc/1/coredump_filter", "/proc/self/setgroups",
      "/proc/self/gid_map", "/proc/self/attr/current", "/proc/self/loginuid")
paths("host files", "read", read, ("ENOENT", "EACCES"),
      "/etc/shadow", "/root/.ssh/id_rsa", "/proc/1/root/etc/shadow", "/proc/self/root/../../etc/shadow", "/../../../etc/shadow",
      "/var/task/../../../../etc/shadow", "/var/run/docker.sock", "/run/hearth", "/var/lib/hearth", "/host/etc/shadow",
      "/.dockerenv/x", "/var/runtime/../../etc/gshadow")
paths("own image", "write", lambda p: os.close(os.open(p, os.O_CREAT | os.O_WRONLY, 0o666)), ("EROFS", "EACCES", "ENOENT"),
      "/var/task/app.py", "/var/task/new", "/var/runtime/new", "/opt/new", "/etc/passwd", "/etc/ld.so.preload", "/usr/lib/new", "/bin/sh",
      "/new", "/dev/new", "/var/tmp/new", "/run/new", "/lib64/ld-linux-x86-64.so.2", "/home/new", "/proc/new")


@attempt("devices", "make a character device", "EPERM", "EACCES")
def make_memory_device(facts):
    os.mknod("/tmp/mem", stat.S_IFCHR | 0o666, os.makedev(1, 1))
    return "done"


@attempt("devices", "make a block device", "EPERM", "EACCES")
def make_disk(facts):
    os.mknod("/tmp/vda", stat.S_IFBLK | 0o666, os.makedev(254, 0))
    return "done"


@attempt("devices", "anything but five harmless devices", "five")
def other_devices(facts):
    usual = {"null", "zero", "full", "random", "urandom"}
    found = {e.name for e in os.scandir("/dev") if stat.S_ISCHR(e.stat(follow_symlinks=False).st_mode) or stat.S_ISBLK(e.stat(follow_symlinks=False).st_mode)}
    return "five" if found == usual else str(found)


@attempt("devices", "add entropy, or take it away", "EPERM", "EACCES")
def entropy(facts):
    fcntl.ioctl(os.open("/dev/urandom", os.O_RDONLY), 0x5206)  # RNDCLEARPOOL
    return "done"


@attempt("devices", "type into a terminal", "EPERM")
def type_into_terminal(facts):
    fcntl.ioctl(0, 0x5412, b"x")
    return "done"


@attempt("devices", "type into a terminal, with high bits set", "EPERM")
def type_with_high_bits(facts):
    from table import NUMBERS, number
    number(NUMBERS["ioctl"], 0, (1 << 32) | 0x5412, b"x")
    return "done"


def tmp_ioctl(request, argument=bytes(64)):
    fd = os.open("/tmp", os.O_RDONLY)
    fcntl.ioctl(fd, request, argument)
    return "done"


REFUSED = ("EPERM", "ENOTTY", "EOPNOTSUPP", "EACCES")


@attempt("file systems", "shut the file system of /tmp down", *REFUSED)
def shut_down(facts):
    return tmp_ioctl(0x8004587D, struct.pack("I", 2))


@attempt("file systems", "resize the file system of /tmp", *REFUSED)
def resize(facts):
    return tmp_ioctl(0x40086610, struct.pack("Q", 1 << 20))


@attempt("file systems", "freeze the file system of /tmp", *REFUSED)
def freeze(facts):
    return tmp_ioctl(0xC0045877, struct.pack("i", 0))


@attempt("file systems", "trim the disk below /tmp", *REFUSED, "EINVAL")
def trim(facts):
    return tmp_ioctl(0xC0185879, struct.pack("QQQ", 0, 1 << 40, 0))


@attempt("file systems", "files that nobody can remove", *REFUSED)
def immutable(facts):
    open("/tmp/immutable", "w").close()
    fcntl.ioctl(os.open("/tmp/immutable", os.O_RDONLY), 0x40086602, struct.pack("l", 0x10))
    return "done"


@attempt("file systems", "what others left on the disk", "zeros")
def old_blocks(facts):
    fd = os.open("/tmp/old", os.O_CREAT | os.O_RDWR)
    os.posix_fallocate(fd, 0, 32 << 20)
    got = b"".join(iter(lambda: os.read(fd, 1 << 20), b""))
    os.unlink("/tmp/old")
    return "zeros" if got == bytes(len(got)) else "data"


@attempt("file systems", "hard link to a file of the image", "EXDEV", "EPERM", "EACCES")
def hard_link(facts):
    os.link("/etc/passwd", "/tmp/passwd")
    return "done"


@attempt("host files", "a symbolic link through init's root", "EACCES", "EPERM")
def link_through_init(facts):
    os.symlink("/proc/1/root/etc/shadow", "/tmp/shadow")
    return read("/tmp/shadow")


@attempt("host files", "a directory descriptor and many dots", "own root")
def dots(facts):
    fd = os.open("/", os.O_RDONLY)
    up = os.open("../" * 40, os.O_RDONLY, dir_fd=fd)
    return "own root" if os.path.samestat(os.fstat(up), os.stat("/")) else "another root"


@attempt("host files", "the cluster's own files", "ENOENT")
def cluster_files(facts):
    return read(facts["ready_file"])


@attempt("host files", "the worker's process", "ENOENT")
def worker_process(facts):
    return read(f"/proc/{facts['worker_pid']}/environ")


@attempt("host files", "where the host keeps its groups", "hidden")
def host_groups(facts):
    text = open("/proc/self/cgroup").read()
    return text if "hearth" in text else "hidden"


@attempt("own image", "anything writable but /tmp and /dev/shm", "nothing")
def writable_places(facts):
    found = []
    for top, directories, names in os.walk("/", followlinks=False):
        directories[:] = [d for d in directories if os.path.join(top, d) not in ("/tmp", "/dev/shm", "/proc")]
        found += [top] if os.access(top, os.W_OK) else []
        for name in names:
            path = os.path.join(top, name)
            if not os.path.islink(path) and not path.startswith("/dev/") and os.access(path, os.W_OK):
                found.append(path)
    return "nothing" if not found else str(found[:5])


@attempt("proc", "any sysctl that can be written", "none")
def writable_sysctls(facts):
    found = []
    for top, _, names in os.walk("/proc/sys"):
        for name in names:
            try:
                os.close(os.open(os.path.join(top, name), os.O_WRONLY))
                found.append(name)
            except OSError:
                pass
    return "none" if not found else str(found)


@attempt("proc", "any file of /proc that can be written", "none")
def writable_proc(facts):
    found = []
    for top, directories, names in os.walk("/proc"):
        # Links among the tasks lead round in circles.
        directories[:] = [d for d in directories if d not in ("task", "sys", "fd", "map_files", "cwd", "root", "net")]
        for name in names:
            path = os.path.join(top, name)
            try:
                if stat.S_ISREG(os.lstat(path).st_mode):
                    os.close(os.open(path, os.O_WRONLY))
                    found.append(path)
            except OSError:
                pass
    return "none" if not found else str(found)
