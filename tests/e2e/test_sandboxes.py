"""OCI runtimes as makers of sandboxes, asked for by a function's tag: Debian's runc, and gVisor, which is a kernel of its own."""

import glob
import os
import pathlib

import pytest
from harness import Cluster, create, invoke, until

RUNTIMES = {"runc": "/usr/sbin/runc", "gvisor": "/usr/bin/runsc"}

OPTIONS = """
[worker.oci.runc]
program = "/usr/sbin/runc"
[worker.oci.gvisor]
program = "/usr/bin/runsc"
args = ["--platform=ptrace", "--network=host"]
user_namespace = false
exit_status = "run"
"""

APP = """
import os, time
warm = 0
def handler(event, context):
    global warm
    warm += 1
    if event.get("sleep"):
        time.sleep(event["sleep"])
    if event.get("exit"):
        os._exit(event["exit"])
    if event.get("fill"):
        x = bytearray(event["fill"] << 20)
        for i in range(0, len(x), 4096): x[i] = 1
    with open("/tmp/x", "w") as out: out.write("y")
    try:
        open("/var/task/x", "w"); wrote = True
    except OSError:
        wrote = False
    return {"warm": warm, "kernel": open("/proc/version").read(), "uid": os.getuid(), "wrote": wrote, "memory": context.memory_limit_in_mb}
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    for program in RUNTIMES.values():
        assert os.path.exists(program), f"{program} is not here: make test installs it"
    directory = tmp_path_factory.mktemp("sandboxes")
    options = directory / "options.toml"
    options.write_text(OPTIONS)
    # Two gateways: each node is a process of its own.
    cluster = Cluster(directory, gateways=2, extra=["--options", str(options)]).start()
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def client(cluster):
    return cluster.client()


@pytest.mark.parametrize("maker", RUNTIMES)
def test_a_function_runs_in_the_sandbox_that_its_tag_asks_for(client, maker):
    create(client, maker, {"app.py": APP}, Tags={"hearth:sandbox": maker}, MemorySize=256)
    answer, got = invoke(client, maker, {}, LogType="Tail")
    assert "FunctionError" not in answer, got
    assert (got["warm"], got["uid"], got["wrote"], got["memory"]) == (1, 993, False, "256")
    is_hosts = got["kernel"] == open("/proc/version").read()
    assert is_hosts == (maker != "gvisor"), got["kernel"]
    assert "Max Memory Used: " in answer["Log"]
    assert invoke(client, maker, {})[1]["warm"] == 2, "the sandbox is kept"


@pytest.mark.parametrize("maker", RUNTIMES)
def test_limits_and_ends_are_told_as_from_the_native_sandbox(client, maker):
    name = f"{maker}-ends"
    create(client, name, {"app.py": APP}, Tags={"hearth:sandbox": maker}, Timeout=3)
    answer, got = invoke(client, name, {"sleep": 30})
    assert "Task timed out after 3.00 seconds" in got["errorMessage"]
    answer, got = invoke(client, name, {"exit": 3})
    assert (got["errorType"], answer["FunctionError"]) == ("Runtime.ExitError", "Unhandled")
    assert "exit status 3" in got["errorMessage"]
    # Memory is filled slowly behind some walls, on a busy host above all.
    client.update_function_configuration(FunctionName=name, Timeout=60)
    until(lambda: client.get_function_configuration(FunctionName=name)["LastUpdateStatus"] == "Successful", "updated")
    answer, got = invoke(client, name, {"fill": 500})
    assert got["errorType"] == "Runtime.OutOfMemory", got
    assert invoke(client, name, {})[1]["warm"] == 1


def test_a_tag_that_no_worker_knows_is_told_to_who_invokes_and_can_be_mended(client):
    create(client, "unknown", {"app.py": APP}, Tags={"hearth:sandbox": "gvisr"})
    with pytest.raises(client.exceptions.ClientError) as refused:
        invoke(client, "unknown", {})
    assert "gvisr" in str(refused.value) and "native, gvisor, runc" in str(refused.value)
    arn = client.get_function_configuration(FunctionName="unknown")["FunctionArn"]
    client.tag_resource(Resource=arn, Tags={"hearth:sandbox": "native"})

    def answers():
        return invoke(client, "unknown", {})[1]["warm"] >= 1

    until(answers, "the function to run once its tag is mended")


def processes(mark):
    """Ids of the processes whose environment has the mark: those of one function's sandboxes, and gVisor's of them."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as line, open(f"/proc/{pid}/environ", "rb") as environment:
                if mark in environment.read() or b"__oci-shim" in line.read():
                    found.append(pid)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            pass
    return found


@pytest.mark.parametrize("maker", RUNTIMES)
def test_sandboxes_end_with_their_worker_however_it_ends(cluster, client, maker):
    name = f"{maker}-orphan"
    mark = f"orphans of {maker}"
    create(client, name, {"app.py": APP}, Tags={"hearth:sandbox": maker}, Environment={"Variables": {"MARK": mark}})
    assert invoke(client, name, {})[1]["warm"] == 1
    assert processes(mark.encode())
    (worker,) = cluster.nodes("worker")
    cluster.kill(worker)
    until(lambda: not processes(mark.encode()), "no process of a sandbox left", 20)
    cluster.wait_restarted(worker)
    until(lambda: invoke(client, name, {})[1]["warm"] == 1, "a new sandbox")


def frozen():
    """Frozen groups of sandboxes on this machine."""
    files = [file for root in ("", "unified/", "freezer/") for name in ("cgroup.freeze", "freezer.state")
             for file in glob.glob(f"/sys/fs/cgroup/{root}hearth/*/*/{name}")]
    return sum(pathlib.Path(file).read_text().strip() in ("1", "FROZEN") for file in files if os.path.exists(file))


def test_frozen_sandboxes_end_when_nobody_starts_their_worker_again(cluster, client):
    for maker in RUNTIMES:
        create(client, f"{maker}-last", {"app.py": APP}, Tags={"hearth:sandbox": maker},
               Environment={"Variables": {"MARK": "the last"}})
        assert invoke(client, f"{maker}-last", {})[1]["warm"] == 1
    assert len(processes(b"the last")) >= 2
    until(lambda: frozen() >= 2, "idle sandboxes to be frozen")
    cluster.kill_everything()
    try:
        until(lambda: not processes(b"the last"), "no process of a sandbox left", 20)
    finally:
        cluster.start()
