"""Becoming somebody else: users, capabilities, priorities, limits."""

import ctypes
import os
import resource
import shutil
import stat
import subprocess
import sys

from table import attempt, calls, syscall

PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_CAPBSET_DROP, PR_SET_SECUREBITS, PR_SET_MM = 4, 8, 24, 28, 35
PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_SET_IO_FLUSHER = 38, 47, 57
# Version 3 of the header, this process; then effective, permitted, inheritable for 64 bits.
HEADER = (ctypes.c_uint32 * 2)(0x20080522, 0)
ALL = (ctypes.c_uint32 * 6)(*[0xFFFFFFFF] * 6)
CLOCK_HANDLERS = (ctypes.c_ulong * 12)(*[4096] * 12)

calls(
    "users", "EPERM",
    all_capabilities=("capset", HEADER, ALL),
    ambient_capability=("prctl", PR_CAP_AMBIENT, 2, 21, 0, 0),
    keep_securebits=("prctl", PR_SET_SECUREBITS, 0x2F, 0, 0, 0),
    drop_bounding=("prctl", PR_CAPBSET_DROP, 0, 0, 0, 0),
    io_flusher=("prctl", PR_SET_IO_FLUSHER, 1, 0, 0, 0),
    memory_map_fields=("prctl", PR_SET_MM, 1, 4096, 0, 0),
    real_time=("sched_setscheduler", 0, 1, ctypes.byref(ctypes.c_int(50))),
)
calls(
    "users", "EINVAL",
    new_privileges_again=("prctl", PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0),
    dumpable_by_root=("prctl", PR_SET_DUMPABLE, 2, 0, 0, 0),
)


@attempt("users", "become user 0", "EPERM")
def set_uid(facts):
    os.setuid(0)
    return "done"


@attempt("users", "become all of user 0", "EPERM")
def set_all_uids(facts):
    os.setresuid(0, 0, 0)
    return "done"


@attempt("users", "become group 0", "EPERM")
def set_gid(facts):
    os.setgid(0)
    return "done"


@attempt("users", "take groups", "EPERM")
def set_groups(facts):
    os.setgroups([0, 6])
    return "done"


@attempt("users", "become another sandbox's user", "EINVAL", "EPERM")
def set_neighbours_uid(facts):
    os.setuid(165_536 + 993)
    return "done"


@attempt("users", "user 0 for files alone", "unchanged")
def set_file_uid(facts):
    syscall("setfsuid", 0)
    # It answers with what was before, twice the same when nothing was changed.
    return "unchanged" if syscall("setfsuid", -1) == os.getuid() else "done"


@attempt("users", "a set-user-id program of the image", "unchanged")
def set_uid_program(facts):
    found = [p for p in ("/bin/su", "/usr/bin/su", "/bin/mount", "/usr/bin/passwd", "/usr/bin/chsh") if os.path.exists(p)]
    for program in found:
        if os.stat(program).st_mode & stat.S_ISUID and os.getuid() != 993:
            return f"{program} counts"
    mounts = [line for line in open("/proc/self/mounts").read().splitlines() if "nosuid" not in line]
    return "unchanged" if not mounts else f"a mount without nosuid: {mounts}"


@attempt("users", "a set-user-id program of one's own", "effective 993")
def own_set_uid_program(facts):
    shutil.copy(os.path.realpath(sys.executable), "/tmp/suid")
    os.chmod("/tmp/suid", 0o6755)
    script = "import os; print(os.geteuid())"
    done = subprocess.run(["/tmp/suid", "-I", "-S", "-c", script], capture_output=True, text=True,
                          env={"PYTHONHOME": sys.base_prefix})
    return f"effective {done.stdout.strip() or done.stderr[-200:]}"


@attempt("users", "capabilities on a file", "EPERM")
def file_capabilities(facts):
    open("/tmp/caps", "w").close()
    value = (0x02000001).to_bytes(4, "little") + (0xFFFFFFFF).to_bytes(4, "little") * 2 + bytes(8)
    os.setxattr("/tmp/caps", "security.capability", value)
    return "done"


@attempt("users", "trusted attributes", "EPERM")
def trusted_attribute(facts):
    open("/tmp/trusted", "w").close()
    os.setxattr("/tmp/trusted", "trusted.overlay.opaque", b"y")
    return "done"


@attempt("users", "give a file to root", "EPERM")
def give_away(facts):
    open("/tmp/mine", "w").close()
    os.chown("/tmp/mine", 0, 0)
    return "done"


@attempt("users", "own the code", "EROFS", "EPERM")
def own_code(facts):
    os.chown("/var/task", 993, 990)
    return "done"


@attempt("users", "a new map of users", "EPERM", "EACCES")
def uid_map(facts):
    with open("/proc/self/uid_map", "w") as file:
        file.write("0 0 4294967295")
    return "done"


@attempt("users", "be spared by the memory killer", "EACCES")
def spared(facts):
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("-1000")
    return "done"


@attempt("users", "a higher priority", "EACCES", "EPERM")
def priority(facts):
    os.setpriority(os.PRIO_PROCESS, 0, -5)
    return "done"


@attempt("users", "more open files", "ValueError: not allowed to raise maximum limit")
def more_files(facts):
    resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 20, 1 << 20))
    return "done"


@attempt("users", "core files, written by the host's kernel", "no core, signal 6")
def core_file(facts):
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (1 << 20, 1 << 20))
        return "raised"
    except ValueError:
        pid = os.fork()
        if pid == 0:
            os.chdir("/tmp")
            os.abort()
        _, status = os.waitpid(pid, 0)
        return f"{'a' if os.WCOREDUMP(status) else 'no'} core, signal {os.WTERMSIG(status)}"


@attempt("users", "what this process may, as the kernel says", "nothing")
def status(facts):
    said = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
    caps = {said[key].strip() for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
    uids = set((said["Uid"] + said["Gid"]).split())
    ok = caps == {"0" * 16} and said["NoNewPrivs"].strip() == "1" and said["Seccomp"].strip() == "2"
    return "nothing" if ok and uids == {"993", "990"} and said["Groups"].strip() == "" else str(said)


@attempt("users", "descriptors left open by the platform", "none")
def descriptors(facts):
    # 0 to 2, the pipe of this attempt, the listing itself, and the runtime's own connections (sockets of this namespace).
    odd = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if int(fd) > 2 and not target.startswith(("pipe:", "socket:", "/proc/", "anon_inode:", "/dev/null")):
            odd.append(target)
    return "none" if not odd else str(odd)
