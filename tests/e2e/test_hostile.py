"""Functions that attack: the host, their neighbours, the worker. Each attack has the refusal it must meet."""

import concurrent.futures
import json
import os
import pathlib
import signal
import time
import uuid

import pytest
from harness import alive, create, invoke, until

# The calls of attackers, by number where Python has no name for them.
ATTACKS = """
import ctypes, errno, glob, json, os, socket, subprocess, threading, time, urllib.request
libc = ctypes.CDLL(None, use_errno=True)
NUMBERS = {
    "x86_64": dict(ptrace=101, mount=165, umount2=166, pivot_root=155, chroot=161, unshare=272, setns=308, bpf=321, perf=298,
                   userfaultfd=323, io_uring=425, keyctl=250, kexec=246, init_module=175, reboot=169, swapon=167,
                   open_by_handle=304, vm_readv=310, clone3=435, open_tree=428, fsopen=430, sethostname=170, settime=227, syslog=103),
    "aarch64": dict(ptrace=117, mount=40, umount2=39, pivot_root=41, chroot=51, unshare=97, setns=268, bpf=280, perf=241,
                    userfaultfd=282, io_uring=425, keyctl=219, kexec=104, init_module=105, reboot=142, swapon=224,
                    open_by_handle=265, vm_readv=270, clone3=435, open_tree=428, fsopen=430, sethostname=161, settime=112, syslog=116),
}[os.uname().machine]
BLOCK = ctypes.create_string_buffer(4096)

def syscall(name, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(NUMBERS[name]), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    return "done" if result >= 0 else errno.errorcode[ctypes.get_errno()]

def tried(action, *arguments):
    try:
        return repr(action(*arguments)) if action is not None else None
    except OSError as error:
        return errno.errorcode.get(error.errno, type(error).__name__)
    except Exception as error:
        return type(error).__name__

def write(path, text="1"):
    with open(path, "w") as file:
        file.write(text)
    return "written"

def read(path):
    with open(path, "rb") as file:
        return file.read(64)
"""


@pytest.fixture(scope="module")
def hostile(client):
    """Makes a function that has the attacks above at hand."""
    names = []

    def make(body, **members):
        name = f"hostile-{uuid.uuid4().hex[:8]}"
        create(client, name, {"app.py": ATTACKS + body}, **{"Timeout": 20, **members})
        names.append(name)
        return name

    yield make
    for name in names:
        client.delete_function(FunctionName=name)


@pytest.fixture(scope="module")
def neighbour(client, hostile):
    """An innocent function on the same worker."""
    name = hostile("\ndef handler(e, c):\n    return e\n")
    assert invoke(client, name, 0)[1] == 0
    return name


def test_calls_that_reach_the_machine_are_refused(client, hostile):
    name = hostile("""
def handler(e, c):
    got = {call: syscall(call, *args) for call, args in {
        "mount": (b"none", b"/tmp", b"tmpfs", 0, 0), "umount2": (b"/proc", 2), "pivot_root": (b"/", b"/tmp"), "chroot": (b"/tmp",),
        "unshare": (0x10000000,), "setns": (0, 0), "ptrace": (16, 1, 0, 0), "bpf": (0, BLOCK, 64), "perf": (BLOCK, 0, -1, -1, 0),
        "userfaultfd": (0,), "io_uring": (8, BLOCK), "keyctl": (0, -3, 1), "kexec": (0, 0, BLOCK, 0), "init_module": (BLOCK, 16, b""),
        "reboot": (0xfee1dead - (1 << 32), 672274793, 0), "swapon": (b"/tmp/x", 0), "open_by_handle": (0, BLOCK, 0),
        "vm_readv": (1, BLOCK, 1, BLOCK, 1, 0), "open_tree": (-100, b"/", 1), "fsopen": (b"tmpfs", 0),
        "sethostname": (b"x", 1), "settime": (0, BLOCK), "syslog": (3, BLOCK, 64)}.items()}
    got["clone3"] = syscall("clone3", BLOCK, 64)
    return got
""")
    got = invoke(client, name)[1]
    assert got.pop("clone3") == "ENOSYS"
    assert set(got.values()) == {"EPERM"} and len(got) == 23, got


def test_files_devices_and_sockets_of_the_host_are_out_of_reach(client, hostile, cluster):
    secret = cluster.data_dir / "ready.json"
    assert secret.exists()
    name = hostile("""
def handler(secret, c):
    got = {}
    for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/vm/drop_caches", "/proc/sysrq-trigger",
                 "/proc/1/oom_score_adj", "/proc/1/mem", "/proc/self/uid_map", "/etc/passwd", "/var/task/app.py", "/new", "/dev/new"):
        got["write " + path] = tried(write, path)
    for path in ("/proc/1/environ", "/proc/1/mem", "/proc/1/exe", "/proc/1/root/etc/shadow", "/etc/shadow", "/proc/kcore", "/dev/mem",
                 "/dev/vda", "/dev/loop0", "/sys/fs/cgroup", "/sys/kernel", secret):
        got["read " + path] = tried(read, path)
    got["list init's files"] = tried(os.listdir, "/proc/1/fd")
    got["mknod"] = tried(os.mknod, "/tmp/vda", 0o60666, os.makedev(254, 0))
    got["raw socket"] = tried(socket.socket, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    got["packet socket"] = tried(socket.socket, socket.AF_PACKET, socket.SOCK_RAW)
    got["vsock"] = tried(socket.socket, 40, socket.SOCK_STREAM)
    got["setuid"] = tried(os.setuid, 0)
    got["chown"] = tried(os.chown, "/var/task", 993, 990)
    got["nice"] = tried(os.setpriority, os.PRIO_PROCESS, 0, -5)
    got["kill 1"] = tried(os.kill, 1, 9)
    status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
    state = {key: status[key].strip() for key in ("CapEff", "CapPrm", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Uid")}
    state["suid"] = [l for l in open("/proc/self/mounts").read().splitlines() if "nosuid" not in l]
    state["fds"] = sorted(int(fd) for fd in os.listdir("/proc/self/fd"))
    state["processes"] = sorted(int(p) for p in os.listdir("/proc") if p.isdigit())
    state["interfaces"] = [name for _, name in socket.if_nameindex()]
    return got, state
""")
    got, state = invoke(client, name, json.dumps(str(secret)))[1]
    # Read-only, not ours, not there, or covered by something empty; never "done", never bytes.
    refusals = {"EPERM", "EACCES", "EROFS", "ENOENT", "EAFNOSUPPORT", "EIO", "EISDIR"}
    covered = {"write /proc/sysrq-trigger": "'written'", "read /proc/kcore": "b''", "kill 1": "None"}
    leaks = {what: how for what, how in got.items() if how not in refusals and covered.get(what) != how}
    assert not leaks and len(got) == 32, (leaks, len(got))
    assert {state[key] for key in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {"0" * 16}, state
    assert state["NoNewPrivs"] == "1" and state["Seccomp"] == "2" and state["Uid"].split() == ["993"] * 4
    assert state["suid"] == [] and state["interfaces"] == ["lo"]
    assert state["processes"][0] == 1 and len(state["processes"]) == 2, state
    # Killing pid 1 had no effect: this very sandbox goes on.
    assert invoke(client, name, json.dumps(str(secret)))[0].get("FunctionError") is None


def test_another_functions_runtime_api_and_tmp_are_not_there(client, hostile, neighbour):
    """Every sandbox has 127.0.0.1:9001 for itself; nothing else answers, and /tmp is nobody else's."""
    name = hostile("""
def handler(e, c):
    def connect(address):
        with socket.create_connection(address, 0.5):
            return "connected"
    open("/tmp/mine", "w").write("x")
    return {
        "others": [tried(connect, a) for a in (("127.0.0.1", 9100), ("127.0.0.1", 22), ("127.0.0.2", 9002), ("10.0.0.1", 80))],
        "tmp": os.listdir("/tmp"), "shm": os.listdir("/dev/shm"),
        "abstract": [l for l in open("/proc/net/unix").read().splitlines()[1:] if "@" in l],
    }
""")
    got = invoke(client, name)[1]
    assert set(got["others"]) <= {"ECONNREFUSED", "ENETUNREACH", "TimeoutError"}, got
    assert got["tmp"] == ["mine"] and got["shm"] == [] and got["abstract"] == [], got


POST = """
def post(path, body, headers={}):
    request = urllib.request.Request(f"http://127.0.0.1:9001/2018-06-01/runtime/{path}", body, headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
"""


def test_the_runtime_api_takes_nothing_for_another_invocation(client, hostile):
    name = hostile(POST + """
import urllib.error
def handler(e, c):
    other = "00000000-0000-0000-0000-000000000000"
    return [post(f"invocation/{other}/response", b"1"), post(f"invocation/{other}/error", b"{}"), post("init/error", b"{}"),
            post("invocation/../../x/response", b"1"), post(f"invocation/{other}/response", b"x" * (7 << 20)),
            post(f"invocation/{c.aws_request_id}/response", b"y" * (7 << 20))]
""")
    got = invoke(client, name)
    # The last one is the caller's answer: too large.
    assert got[0]["FunctionError"] == "Unhandled" and got[1]["errorType"] == "Function.ResponseSizeTooLarge", got
    refused = hostile(POST + """
import urllib.error
def handler(e, c):
    other = "00000000-0000-0000-0000-000000000000"
    return [post(f"invocation/{other}/response", b"1"), post(f"invocation/{other}/error", b"{}"), post("init/error", b"{}"),
            post("invocation/../../x/response", b"1"), post(f"invocation/{other}/response", b"x" * (7 << 20))]
""")
    assert invoke(client, refused)[1] == [400, 400, 403, 404, 400]


def test_half_requests_and_endless_bodies_harm_the_function_alone(client, hostile, neighbour):
    name = hostile("""
def handler(e, c):
    kept = []
    for i in range(900):
        s = socket.socket()
        s.settimeout(0.05)
        try:
            s.connect(("127.0.0.1", 9001))
            s.sendall((b"POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\\r\\nHost: x\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n10\\r\\n"
                       % c.aws_request_id.encode()) if i % 2 else b"GET /2018-06-01/runtime/invoc")
        except OSError:
            s.close()
            if i > 40:
                break
            continue
        kept.append(s)
    globals()["kept"] = kept
    return len(kept)
""", Timeout=6)
    began = time.monotonic()
    invoke(client, name)
    # The runtime's own connection was there first, so it may well have answered; the neighbour must have no trouble.
    assert time.monotonic() - began < 15
    assert invoke(client, neighbour, 1)[1] == 1


def test_bombs_stop_at_their_limits_and_the_neighbour_goes_on(client, hostile, neighbour):
    forks = hostile("""
def handler(e, c):
    children = []
    try:
        while True:
            pid = os.fork()
            if pid == 0:
                time.sleep(60)
                os._exit(0)
            children.append(pid)
    except OSError as error:
        return errno.errorcode[error.errno], len(children)
""", MemorySize=1024)
    why, count = invoke(client, forks)[1]
    assert why == "EAGAIN" and count < 1024
    files = hostile("""
def handler(e, c):
    kept = []
    try:
        while True:
            kept.append(open("/dev/null"))
    except OSError as error:
        n = len(kept)
        del kept
        return errno.errorcode[error.errno], n
""")
    why, count = invoke(client, files)[1]
    assert why == "EMFILE" and count < 1024
    memory = hostile("\ndef handler(e, c):\n    return len(bytearray(1 << 30))\n")
    answer, got = invoke(client, memory)
    assert answer["FunctionError"] == "Unhandled" and "signal: killed" in got["errorMessage"], got
    disk = hostile("""
def handler(e, c):
    written = 0
    try:
        with open("/tmp/fill", "wb", buffering=0) as file:
            while written < 700 << 20:
                written += file.write(bytes(8 << 20))
    except OSError as error:
        return errno.errorcode[error.errno], written >> 20
    return "filled", written >> 20
""", MemorySize=512)
    why, written = invoke(client, disk)[1]
    assert why == "ENOSPC" and written <= 512
    assert invoke(client, neighbour, 2)[1] == 2


def test_a_flood_of_output_ends_with_its_invocation_in_time(client, hostile, neighbour, cluster):
    """A child that never stops printing neither holds the answer back, with the log wanted, nor fills the worker."""
    name = hostile("""
def handler(e, c):
    if os.fork() == 0:
        line = b"x" * 65535 + b"\\n"
        while True:
            os.write(1, line)
    time.sleep(0.2)
    return "answered"
""", MemorySize=3008)
    pid = cluster.nodes("worker")[0]["pid"]
    resident = lambda: int(open(f"/proc/{pid}/statm").read().split()[1]) * 4096  # noqa: E731
    before = resident()
    began = time.monotonic()
    answer, got = invoke(client, name, LogType="Tail")
    assert got == "answered" and time.monotonic() - began < 5, answer
    assert len(answer["Log"]) <= 4096
    assert invoke(client, neighbour, 3)[1] == 3
    assert resident() - before < 64 << 20


def test_what_outlives_its_invocation_dies_with_its_sandbox(client, hostile, neighbour):
    name = hostile("""
def handler(e, c):
    if e == "daemon":
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                for fd in (0, 1, 2):
                    os.close(fd)
                while True:
                    time.sleep(1)
            os._exit(0)
        return "started"
    os._exit(3)
""")
    marker = name.encode()

    def processes():
        found = 0
        for environ in pathlib.Path("/proc").glob("[0-9]*/environ"):
            try:
                found += marker in environ.read_bytes()
            except OSError:
                pass
        return found

    assert invoke(client, name, json.dumps("daemon"))[1] == "started"
    until(lambda: processes() == 2, "the runtime and its daemon", 5)
    assert invoke(client, name, json.dumps("exit"))[0]["FunctionError"] == "Unhandled"
    until(lambda: processes() == 0, "every process of the sandbox gone", 10)


def test_closing_standard_output_and_ignoring_signals_changes_nothing(client, hostile):
    name = hostile("""
import signal
def handler(e, c):
    for number in range(1, 32):
        tried(signal.signal, number, signal.SIG_IGN)
    if e == "hang":
        while True:
            time.sleep(1)
    os.close(1), os.close(2)
    # The numbers are taken again, else the runtime's next connection gets them.
    os.open("/dev/null", os.O_WRONLY), os.open("/dev/null", os.O_WRONLY)
    return "quiet"
""", Timeout=1)
    assert invoke(client, name)[1] == "quiet"
    answer, got = invoke(client, name, json.dumps("hang"))
    assert answer["FunctionError"] == "Unhandled" and "timed out" in got["errorMessage"]


@pytest.mark.parametrize("entry", ["d/" * 20_000 + "f", "n" * 300, "../../etc/cron.d/x", "/etc/cron.d/x"])
def test_a_hostile_package_fails_and_the_worker_lives(client, cluster, neighbour, entry):
    pid = cluster.nodes("worker")[0]["pid"]
    name = f"hostile-{uuid.uuid4().hex[:8]}"
    create(client, name, {"app.py": "x = 1\n", entry: "x"}, wait=False)

    def failed():
        document = client.get_function_configuration(FunctionName=name)
        assert alive(pid), cluster.output()[-2000:]
        return document["State"] == "Failed" and document

    assert until(failed, "the function failed", 20)["StateReasonCode"] == "InvalidZipFileException"
    assert invoke(client, neighbour, 4)[1] == 4
    client.delete_function(FunctionName=name)


def test_a_slow_init_does_not_stop_the_cold_starts_of_others(client, hostile):
    slow = hostile("\ntime.sleep(8)\ndef handler(e, c):\n    return e\n", Timeout=30)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(client.invoke, FunctionName=slow, Payload=b"1", InvocationType="RequestResponse") for _ in range(8)]
        other = hostile("\ndef handler(e, c):\n    return e\n")
        began = time.monotonic()
        assert invoke(client, other, 5)[1] == 5
        took = time.monotonic() - began
        assert took < 5, took
        for one in waiting:
            assert one.result()["StatusCode"] == 200


def test_a_killed_spawner_is_replaced_and_nothing_of_it_is_left(client, cluster, hostile, neighbour):
    def children(of):
        return [int(p.name) for p in pathlib.Path("/proc").iterdir() if p.name.isdigit()
                and alive(int(p.name)) and f"\nPPid:\t{of}\n" in (p / "status").read_text()
                and b"__spawner" in (p / "cmdline").read_bytes()]

    worker = cluster.nodes("worker")[0]["pid"]
    (spawner,) = children(worker)
    os.kill(spawner, signal.SIGKILL)
    until(lambda: invoke(client, neighbour, 6)[1] == 6, "the neighbour served again", 15)
    assert children(worker) != [spawner]
