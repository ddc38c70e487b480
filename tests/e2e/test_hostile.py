"""Functions that attack: the host, their neighbours, the worker. Each attack has the refusal it must meet."""

import concurrent.futures
import io
import json
import os
import pathlib
import signal
import socket
import sys
import time
import uuid
import zipfile

import botocore.exceptions
import pytest
from harness import ROLE, ROOT, alive, create, invoke, processes, until

sys.path.append(str(ROOT / "tests" / "hostile"))
import app as attackers  # noqa: E402

# What the functions below have at hand; the table of attempts brings its own.
ATTACKS = """
import errno, os, socket, threading, time, urllib.request

def tried(action, *arguments):
    try:
        return repr(action(*arguments)) if action is not None else None
    except OSError as error:
        return errno.errorcode.get(error.errno, type(error).__name__)
    except Exception as error:
        return type(error).__name__
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


SECRET = "the-neighbours-secret"
KEY = 0x48454152

# Has something of every kind that an attacker may look for, and proves that it has.
VICTIM = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
kept = socket.socket(socket.AF_UNIX)
kept.bind("\\0neighbour")
kept.listen()
with open("/tmp/neighbour", "w") as file:
    file.write(os.environ["SECRET"])
with open("/dev/shm/neighbour", "w") as file:
    file.write(os.environ["SECRET"])
made = [libc.shmget(KEY, 4096, 0o1666), libc.msgget(KEY, 0o1666), libc.semget(KEY, 1, 0o1666)]

def handler(e, c):
    peer = socket.socket(socket.AF_UNIX)
    peer.connect("\\0neighbour")
    return [number >= 0 for number in made], open("/tmp/neighbour").read()
""".replace("KEY", str(KEY))


def address_of_host():
    """The address that the host would send from; where there is no route, one that nobody has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return probe.getsockname()[0]
        except OSError:
            return "192.0.2.2"


@pytest.fixture(scope="module")
def outcomes(client, cluster, hostile):
    """How every attempt of the table ended; all are made by one function, each in a process of its own."""
    victim = hostile(VICTIM, Environment={"Variables": {"SECRET": SECRET}})
    assert invoke(client, victim)[1] == [[True] * 3, SECRET]
    worker = cluster.nodes("worker")[0]
    admin = worker["admin_addr"]
    facts = {
        "ready_file": str(cluster.ready_file), "worker_pid": worker["pid"], "secret": SECRET, "key": KEY,
        "gateway_port": int(cluster.info["endpoint"].rsplit(":", 1)[1]), "admin_port": int(admin.rsplit(":", 1)[1]),
        "host_address": address_of_host(),
    }
    name = f"hostile-{uuid.uuid4().hex[:8]}"
    files = {path.name: path.read_text() for path in (ROOT / "tests" / "hostile").glob("*.py")}
    create(client, name, files, MemorySize=1769, Timeout=60)
    answer, got = invoke(client, name, facts)
    assert "FunctionError" not in answer, got
    # Nobody was harmed: neither the attacker's own sandbox, nor the neighbour, nor the worker.
    assert invoke(client, victim)[1] == [[True] * 3, SECRET]
    assert alive(worker["pid"]) and cluster.nodes("worker")[0]["pid"] == worker["pid"]
    client.delete_function(FunctionName=name)
    return got


def test_the_table_has_every_kind_of_attempt_and_no_name_twice():
    names = [name for name, *_ in attackers.TABLE]
    assert len(set(names)) == len(names) >= 300
    kinds = {kind for _, kind, *_ in attackers.TABLE}
    assert kinds == {"mounts", "namespaces", "kernel", "users", "devices", "proc", "file systems", "host files", "own image",
                     "processes", "other tenants", "network", "sockets"}


@pytest.mark.parametrize("name, what, expected", [(name, what, expected) for name, _, what, expected, _ in attackers.TABLE],
                         ids=[f"{kind}: {name}" for name, kind, *_ in attackers.TABLE])
def test_an_attempt_meets_its_refusal(outcomes, name, what, expected):
    assert outcomes[name] in expected, f"{what}: {outcomes[name]}"


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
    """Of processes and of descriptors; those of memory are below, those of disk in test_limits.py."""
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
        # Else the sandbox is frozen with the process between still there.
        os.wait()
        return "started"
    if e == "mark":
        open("/tmp/" + os.environ["AWS_LAMBDA_FUNCTION_NAME"], "w").close()
        return "marked"
    os._exit(3)
""")
    assert invoke(client, name, json.dumps("mark"))[1] == "marked"
    before = len(processes(name))
    assert before > 0
    assert invoke(client, name, json.dumps("daemon"))[1] == "started"
    until(lambda: len(processes(name)) == before + 1, "the daemon besides the runtime", 5)
    assert invoke(client, name, json.dumps("exit"))[0]["FunctionError"] == "Unhandled"
    until(lambda: not processes(name), "every process of the sandbox gone", 10)


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


# Memory that is not the process's own, and the end it must meet: its own limit, or the function's.
BOMBS = {
    "shm file": ("""
    fd = os.open("/dev/shm/x", os.O_CREAT | os.O_WRONLY)
    while True:
        if os.write(fd, bytes(1 << 20)) < 1 << 20:
            return "ENOSPC"
""", "ENOSPC"),
    "memfd": ("""
    fd = os.memfd_create("x")
    while True:
        os.write(fd, bytes(1 << 20))
""", "killed"),
    "shared memory": ("""
    import ctypes
    libc = ctypes.CDLL(None)
    libc.shmat.restype = ctypes.c_void_p
    while True:
        at = libc.shmat(libc.shmget(0, 16 << 20, 0o1600), None, 0)
        ctypes.memset(at, 1, 16 << 20)
""", "killed"),
    "pipes": ("""
    kept = []
    while True:
        reader, writer = os.pipe()
        kept.append((reader, writer))
        os.set_blocking(writer, False)
        while tried(os.write, writer, bytes(65536)) != "EAGAIN":
            pass
""", "EMFILE"),
    "socket buffers": ("""
    kept = []
    while True:
        pair = socket.socketpair()
        kept.append(pair)
        pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        pair[0].setblocking(False)
        while tried(pair[0].send, bytes(65536)) != "EAGAIN":
            pass
""", "killed EMFILE"),
    "threads": ("""
    while True:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
""", "killed RuntimeError"),
    "files mapped for writing": ("""
    import mmap
    kept = []
    while True:
        kept.append(mmap.mmap(-1, 16 << 20))
        kept[-1][:] = b"x" * (16 << 20)
""", "killed"),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_memory_in_every_disguise_is_the_functions_own(client, cluster, hostile, neighbour, kind):
    body, expected = BOMBS[kind]
    name = hostile(f"""
def explode():{body}
def handler(e, c):
    try:
        return explode()
    except OSError as error:
        return errno.errorcode[error.errno]
    except RuntimeError:
        return "RuntimeError"
""", MemorySize=256)
    pid = cluster.nodes("worker")[0]["pid"]
    answer, got = invoke(client, name)
    if "FunctionError" in answer:
        assert got["errorType"] == "Runtime.OutOfMemory", got
        got = "killed"
    assert got in expected.split(), got
    assert alive(pid) and invoke(client, neighbour, 7)[1] == 7


def entry(name, content, mode):
    info = zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0))
    info.create_system, info.external_attr = 3, mode << 16
    return info, content


def package(*entries):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("app.py", "import os\ndef handler(e, c):\n    return sorted(f'{os.lstat(p).st_mode:o} {p}' for p in os.listdir('.'))\n")
        for name, content in entries:
            archive.writestr(name, content)
    return out.getvalue()


LINK, FILE, BLOCK_DEVICE = 0o120777, 0o100644, 0o060666
PACKAGES = {
    "too deep": [("d/" * 20_000 + "f", "x")],
    "too long a name": [("n" * 300, "x")],
    "dots": [("../../etc/cron.d/x", "x")],
    "dots within": [("a/../../../etc/cron.d/x", "x")],
    "absolute": [("/etc/cron.d/x", "x")],
    "absolute link": [entry("shadow", "/etc/shadow", LINK)],
    "link out": [entry("out", "../../../../etc", LINK)],
    "link out by a link": [entry("a", "b/..", LINK), entry("b", "../..", LINK)],
    "file through a link": [entry("d", "/tmp", LINK), ("d/x", "x")],
    "file through a link inside": [entry("d", "e", LINK), ("d/x", "x"), ("e/x", "x")],
    "link over a directory": [("x/y", "x"), entry("x", "app.py", LINK)],
    "link without a target": [entry("x", "", LINK)],
    "link with a NUL": [entry("x", "a\0b", LINK)],
    "file and directory": [("x", "x"), ("x/y", "x")],
}


def failed(client, cluster, name):
    pid = cluster.nodes("worker")[0]["pid"]

    def look():
        document = client.get_function_configuration(FunctionName=name)
        assert alive(pid), cluster.output()[-2000:]
        return document["State"] == "Failed" and document

    document = until(look, "the function failed", 20)
    client.delete_function(FunctionName=name)
    return document


def upload(client, content):
    name = f"hostile-{uuid.uuid4().hex[:8]}"
    client.create_function(FunctionName=name, Runtime="python3.11", Role=ROLE, Handler="app.handler", Code={"ZipFile": content})
    return name


@pytest.mark.parametrize("kind", PACKAGES)
def test_a_hostile_package_fails_and_the_worker_lives(client, cluster, neighbour, kind):
    before = set(os.listdir("/etc/cron.d")), set(os.listdir("/tmp"))
    document = failed(client, cluster, upload(client, package(*PACKAGES[kind])))
    assert document["StateReasonCode"] == "InvalidZipFileException", document
    assert invoke(client, neighbour, 4)[1] == 4
    assert set(os.listdir("/etc/cron.d")) == before[0] and "x" not in set(os.listdir("/tmp")) - before[1]


def test_a_package_that_unfolds_to_much_more_is_stopped(client, cluster, neighbour):
    """300 MB of zeros in 300 kB, told truly; and the same told as one byte."""
    bomb = package(("zeros", bytes(300 << 20)))
    size = (300 << 20).to_bytes(4, "little")
    lie = bomb.replace(size, (1).to_bytes(4, "little"))
    assert len(bomb) < 1 << 20 and lie != bomb
    for content in (bomb, lie):
        try:
            document = failed(client, cluster, upload(client, content))
            assert document["StateReasonCode"] == "InvalidZipFileException", document
        except botocore.exceptions.ClientError as error:
            assert error.response["Error"]["Code"] == "InvalidParameterValueException", error
        assert invoke(client, neighbour, 8)[1] == 8


def test_modes_and_devices_of_a_package_do_not_survive(client):
    name = upload(client, package(entry("suid", "x", 0o106755), entry("open", "x", 0o100777), entry("disk", "x", BLOCK_DEVICE),
                                  entry("pipe", "x", 0o010666), entry("link", "app.py", LINK), entry("secret", "x", 0o100000)))
    until(lambda: client.get_function_configuration(FunctionName=name)["State"] == "Active", "active")
    got = [line for line in invoke(client, name)[1] if line != "40755 __pycache__"]  # byte code is the worker's
    assert got == ["100644 app.py", "100644 disk", "100644 pipe", "100644 secret", "100755 open", "100755 suid", "120777 link"], got
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
    def is_spawner(process, of):
        try:
            return (alive(int(process.name)) and f"\nPPid:\t{of}\n" in (process / "status").read_text()
                    and b"__spawner" in (process / "cmdline").read_bytes())
        except OSError:  # it ended meanwhile
            return False

    def children(of):
        return [int(process.name) for process in pathlib.Path("/proc").glob("[0-9]*") if is_spawner(process, of)]

    worker = cluster.nodes("worker")[0]["pid"]
    (spawner,) = children(worker)
    os.kill(spawner, signal.SIGKILL)
    until(lambda: invoke(client, neighbour, 6)[1] == 6, "the neighbour served again", 15)
    assert children(worker) != [spawner]
