"""Other processes, other sandboxes, and the network around them."""

import ctypes
import glob
import os
import signal
import socket
import struct

from table import BLOCK, attempt, calls, paths, syscall

REFUSED = ("EPERM", "EACCES")
NO_WAY = ("ENETUNREACH", "EHOSTUNREACH", "ECONNREFUSED", "ETIMEDOUT", "EACCES", "EPERM")
VECTOR = (ctypes.c_size_t * 2)(ctypes.addressof(BLOCK), 64)
REMOTE = (ctypes.c_size_t * 2)(0x400000, 64)

calls(
    "processes", "EPERM",
    trace_me=("ptrace", 0, 0, 0, 0),
    attach_to_init=("ptrace", 16, 1, 0, 0),
    seize_init=("ptrace", 0x4206, 1, 0, 0),
    read_init=("process_vm_readv", 1, VECTOR, 1, REMOTE, 1, 0),
    write_init=("process_vm_writev", 1, VECTOR, 1, REMOTE, 1, 0),
    descriptor_of_init=("pidfd_getfd", 0, 3, 0),
    compare_with_init=("kcmp", 1, 2, 0, 0, 0),
    advise_init=("process_madvise", 0, VECTOR, 1, 21, 0),
)


@attempt("processes", "read a child of one's own as a debugger", "EPERM")
def read_child(facts):
    pid = os.fork()
    if pid == 0:
        signal.pause()
    try:
        syscall("process_vm_readv", pid, VECTOR, 1, REMOTE, 1, 0)
    finally:
        os.kill(pid, signal.SIGKILL)
    return "done"


# The init of a sandbox that was prepared is another user's; else it is the function's own, and the kernel shields it.
@attempt("processes", "kill init, by every signal", "alive", "EPERM")
def kill_init(facts):
    for number in range(1, 65):
        try:
            os.kill(1, number)
        except OSError:
            pass
    # The end of init would be the end of this process.
    os.kill(1, 0)
    return "alive"


@attempt("processes", "stop init", "runs", "EPERM")
def stop_init(facts):
    os.kill(1, signal.SIGSTOP)
    state = open("/proc/1/stat").read().rsplit(")", 1)[1].split()[0]
    return "runs" if state in "SRD" else state


@attempt("processes", "a signal that pretends to come from the kernel", *REFUSED)
def forged_signal(facts):
    info = struct.pack("iii", signal.SIGKILL, 0, 128).ljust(128, b"\0")
    syscall("rt_sigqueueinfo", 1, signal.SIGKILL, info)
    return "done"


@attempt("processes", "signal the worker", "ESRCH")
def kill_worker(facts):
    os.kill(facts["worker_pid"], signal.SIGKILL)
    return "done"


@attempt("processes", "a descriptor of the worker", "ESRCH", "EINVAL")
def worker_descriptor(facts):
    syscall("pidfd_open", facts["worker_pid"], 0)
    return "done"


@attempt("processes", "processes of others in sight", "own")
def processes_in_sight(facts):
    seen = {}
    for path in glob.glob("/proc/[0-9]*/stat"):
        seen[path] = open(path).read()
    # Init, the runtime, this attempt; attempts before it may have left children, which are this sandbox's own.
    users = {os.stat(path).st_uid for path in seen}
    return "own" if len(seen) < 40 and users <= {993, 65534, 0} and "hearth-init" in seen["/proc/1/stat"] else str(seen)


@attempt("other tenants", "the neighbour's environment", "not found")
def neighbours_environment(facts):
    for path in glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/cmdline"):
        try:
            if facts["secret"].encode() in open(path, "rb").read():
                return path
        except OSError:
            pass
    return "not found" if facts["secret"] not in str(os.environ) else "own environment"


@attempt("other tenants", "the neighbour's files in /tmp and /dev/shm", "not found")
def neighbours_files(facts):
    for top in ("/tmp", "/dev/shm", "/var/tmp"):
        for path in glob.glob(top + "/**", recursive=True):
            if "neighbour" in path:
                return path
    return "not found"


@attempt("other tenants", "the neighbour's shared memory", "ENOENT")
def neighbours_shared_memory(facts):
    syscall("shmget", facts["key"], 4096, 0o600)
    return "done"


@attempt("other tenants", "the neighbour's message queue", "ENOENT")
def neighbours_queue(facts):
    syscall("msgget", facts["key"], 0o600)
    return "done"


@attempt("other tenants", "the neighbour's semaphores", "ENOENT")
def neighbours_semaphores(facts):
    syscall("semget", facts["key"], 1, 0o600)
    return "done"


@attempt("other tenants", "POSIX queues of anybody", "ENOSYS")
def posix_queue(facts):
    syscall("mq_open", b"neighbour", os.O_RDWR, 0o600, 0)
    return "done"


@attempt("other tenants", "lists of System V objects", "empty")
def list_of_objects(facts):
    lines = [line for kind in ("shm", "msg", "sem") for line in open(f"/proc/sysvipc/{kind}").read().splitlines()[1:]]
    return "empty" if not lines else str(lines)


@attempt("other tenants", "the neighbour's abstract socket", "ECONNREFUSED", "EPERM")
def neighbours_abstract_socket(facts):
    socket.socket(socket.AF_UNIX).connect("\0neighbour")
    return "connected"


@attempt("other tenants", "abstract sockets in sight", "none")
def abstract_sockets(facts):
    found = [line for line in open("/proc/net/unix").read().splitlines()[1:] if "@" in line]
    return "none" if not found else str(found)


@attempt("other tenants", "sockets of others in sight", "own")
def sockets_in_sight(facts):
    listening = [line.split()[1] for line in open("/proc/net/tcp").read().splitlines()[1:] if line.split()[3] == "0A"]
    return "own" if listening == ["0100007F:2329"] else str(listening)


def connect(address, family=socket.AF_INET):
    with socket.socket(family, socket.SOCK_STREAM) as peer:
        peer.settimeout(1)
        try:
            peer.connect(address)
        except TimeoutError:
            return "timed out"
    return "connected"


@attempt("network", "the neighbour's Runtime API", *NO_WAY)
def neighbours_runtime_api(facts):
    return connect(("127.0.0.2", 9001))


@attempt("network", "the gateway's port on loopback", *NO_WAY)
def gateway_port(facts):
    return connect(("127.0.0.1", facts["gateway_port"]))


@attempt("network", "the worker's admin port", *NO_WAY)
def admin_port(facts):
    return connect(("127.0.0.1", facts["admin_port"]))


@attempt("network", "an address of the host", *NO_WAY, "timed out")
def host_address(facts):
    return connect((facts["host_address"], facts["gateway_port"]))


@attempt("network", "metadata of the host's cloud", *NO_WAY, "timed out")
def metadata(facts):
    return connect(("169.254.169.254", 80))


@attempt("network", "credentials of the host's containers", *NO_WAY, "timed out")
def container_credentials(facts):
    return connect(("169.254.170.2", 80))


@attempt("network", "metadata over IPv6", *NO_WAY, "EADDRNOTAVAIL", "EAFNOSUPPORT", "timed out")
def metadata_v6(facts):
    return connect(("fd00:ec2::254", 80), socket.AF_INET6)


def make(family, kind, protocol=0):
    socket.socket(family, kind, protocol).close()
    return "made"


FAMILIES = dict(packet=17, vsock=40, crypto=38, key=15, bluetooth=31, can=29, tipc=30, rds=21, xdp=44, kcm=41, x25=9, ax25=3,
                appletalk=5, ipx=4, smc=43, qipcrtr=42, nfc=39, ieee802154=36, caif=37, phonet=35, iucv=32, decnet=12, llc=26)
NETLINK = dict(usersock=2, firewall=3, sock_diag=4, nflog=5, xfrm=6, selinux=7, iscsi=8, audit=9, fib_lookup=10, connector=11,
               netfilter=12, kobject_uevent=15, generic=16, crypto=21)
paths("sockets", "make a socket of", lambda name: make(FAMILIES[name], socket.SOCK_RAW), ("EAFNOSUPPORT",), *FAMILIES)
paths("sockets", "make a netlink socket of", lambda name: make(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK[name]), ("EAFNOSUPPORT",),
      *NETLINK)


@attempt("sockets", "a raw socket", "EPERM")
def raw_socket(facts):
    return make(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)


@attempt("sockets", "a raw socket of IPv6", "EPERM", "EAFNOSUPPORT")
def raw_socket_v6(facts):
    return make(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)


@attempt("sockets", "a raw socket with headers of one's own", "EPERM")
def raw_headers(facts):
    return make(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)


@attempt("sockets", "a low port", "EACCES")
def low_port(facts):
    socket.socket().bind(("0.0.0.0", 80))
    return "bound"


@attempt("sockets", "the Runtime API's own port", "EADDRINUSE")
def runtime_api_port(facts):
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        peer.bind(("127.0.0.1", 9001))
        peer.listen()
    return "bound"


def option(level, name, value):
    with socket.socket() as peer:
        peer.setsockopt(level, name, value)
    return "done"


@attempt("sockets", "marks of the firewall", "EPERM")
def mark(facts):
    return option(socket.SOL_SOCKET, 36, 1)


@attempt("sockets", "receive buffers beyond the limit", "EPERM")
def forced_buffer(facts):
    return option(socket.SOL_SOCKET, 33, 1 << 30)


@attempt("sockets", "addresses of others", "EPERM")
def transparent(facts):
    return option(socket.IPPROTO_IP, 19, 1)


@attempt("sockets", "firewall rules by socket option", "EPERM", "ENOPROTOOPT")
def firewall_rules(facts):
    return option(socket.IPPROTO_IP, 64, bytes(128))


@attempt("sockets", "take the loopback device down", "EPERM")
def loopback_down(facts):
    import fcntl
    with socket.socket() as peer:
        fcntl.ioctl(peer, 0x8914, struct.pack("16sh14x", b"lo", 0))
    return "done"


def ask(kind, body):
    """One request of netlink; the kernel's answer is an errno."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as peer:
        peer.settimeout(2)
        peer.send(struct.pack("IHHII", 16 + len(body), kind, 0x605, 1, 0) + body)
        answer = peer.recv(4096)
    code = -struct.unpack_from("i", answer, 16)[0]
    if code:
        raise OSError(code, os.strerror(code))
    return "done"


@attempt("sockets", "a new network device", "EPERM", "EOPNOTSUPP")
def new_device(facts):
    kind = struct.pack("HH8s", 9, 1, b"dummy")
    info = struct.pack("HH", 4 + len(kind) + 3, 18) + kind + bytes(3)
    return ask(16, struct.pack("BxHiII", 0, 0, 0, 0, 0) + info)


@attempt("sockets", "a new address", "EPERM")
def new_address(facts):
    return ask(20, struct.pack("BBBBI", 2, 24, 0, 0, 1) + struct.pack("HH4s", 8, 2, bytes([10, 1, 1, 1])))


@attempt("sockets", "a new route", "EPERM")
def new_route(facts):
    return ask(24, struct.pack("BBBBBBBBI", 2, 0, 0, 0, 254, 3, 0, 1, 0))


@attempt("sockets", "credentials of root in a message", "EPERM")
def forged_credentials(facts):
    here, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    here.sendmsg([b"x"], [(socket.SOL_SOCKET, 2, struct.pack("iii", 1, 0, 0))])
    return "sent"
