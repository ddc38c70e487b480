"""Stem cells and empty prepared sandboxes: who gets one, that nothing of it shows, that none is shared, and what is left of them."""

import http.client
import json
import os
import re
import shutil

import pytest
from harness import RUNTIMES, Cluster, alive, create, invoke, until

# What tells a function from one that was started for it: everything that it could know of its process.
PYTHON = """
import os, sys, time
START = time.monotonic()
def handler(event, context):
    cmdline = open("/proc/self/cmdline").read()
    return {
        "env": dict(os.environ), "fds": sorted(os.listdir("/proc/self/fd"))[:-1], "cwd": os.getcwd(), "argv": sys.argv, "path": sys.path,
        "orig": sys.orig_argv, "main": sys.modules["__main__"].__file__, "stem": "app.handler" not in cmdline,
        "pid": os.getpid(), "uid": os.getuid(), "boot": open("/proc/sys/kernel/random/uuid").read(),
        "status": [line for line in open("/proc/self/status") if line.startswith(("Cap", "NoNew", "Seccomp:", "Groups"))],
        "init": [line for line in open("/proc/1/status") if line.startswith(("Cap", "NoNew", "Seccomp:", "Uid"))],
        "tmp": os.listdir("/tmp"), "hash": hash("x"), "umask": os.umask(0o022), "module": __import__("sys").modules["app"].__file__,
    }
"""

NODE = """
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
export const handler = async () => ({
  env: { ...process.env }, cwd: process.cwd(), argv: process.argv, execArgv: process.execArgv,
  fds: readdirSync("/proc/self/fd").map((fd) => { try { return readlinkSync(`/proc/self/fd/${fd}`).replace(/[0-9]+/, ""); } catch { return ""; } }).sort(), stem: readFileSync("/proc/self/cmdline", "utf8").includes("stem.mjs"),
});
"""

# What differs between two sandboxes whatever they are made from, and what a tracing header sets.
OWN = {"AWS_LAMBDA_LOG_STREAM_NAME", "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_LOG_GROUP_NAME", "_X_AMZN_TRACE_ID"}


def starts(cluster):
    """Sandboxes so far by what they were made from."""
    node = cluster.nodes("worker")[0]
    host, port = node["admin_addr"].rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    found = dict(re.findall(r'^hearth_sandbox_starts_total\{.*?from="(\w+)".*?\} (\d+)$', text, re.M))
    return {name: int(found.get(name, 0)) for name in ("Stem", "Empty", "Nothing")}, text


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    """Runtime packs of our own, as one of them is replaced."""
    directory = tmp_path_factory.mktemp("packs")
    for name in ("python3.11", "nodejs22.x", "provided.al2023"):
        os.symlink(RUNTIMES / name, directory / name)
    return directory


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, packs):
    # Two gateways: each node is a process of its own.
    cluster = Cluster(tmp_path_factory.mktemp("stems"), gateways=2)
    command = cluster.command()
    place = command.index("--runtimes-dir") + 1
    cluster.command = lambda: [*command[:place], str(packs), *command[place + 1:]]
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def client(cluster):
    return cluster.client()


def descendants(pid):
    found, parents = [], {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                parents[int(name)] = int(open(f"/proc/{name}/stat").read().rsplit(")", 1)[1].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                pass
    wanted = {pid}
    while True:
        more = {p for p, parent in parents.items() if parent in wanted} - wanted
        if not more:
            return sorted(wanted - {pid})
        wanted |= more


def waiting(cluster, program):
    """Processes of the worker that are stems and wait for their owner, which is to say that they read from descriptor 3."""
    worker = cluster.nodes("worker")[0]["pid"]
    found = []
    for pid in descendants(worker):
        try:
            words = open(f"/proc/{pid}/cmdline").read().split("\0")
            reads = open(f"/proc/{pid}/syscall").read().startswith("0 0x3 ")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if reads and words[-2:-1] == [program]:
            found.append(pid)
    return found


def stems(cluster):
    return waiting(cluster, "/var/runtime/bootstrap.py")


def cold(cluster, client, name, source=PYTHON, expected="Stem", **members):
    """Creates a function, and invokes it once a stem waits; what it said."""
    create(client, name, source if isinstance(source, dict) else {"app.py": source}, **members)
    until(lambda: stems(cluster) and waiting(cluster, "/var/runtime/stem.mjs"), "stems wait")
    before, _ = starts(cluster)
    answer, got = invoke(client, name, {}, LogType="Tail")
    assert "FunctionError" not in answer, got
    after, text = starts(cluster)
    assert after[expected] == before[expected] + 1, (before, after, text)
    assert "Init Duration" in answer["Log"], answer["Log"]
    return got


def test_a_stem_becomes_a_function_that_knows_nothing_of_it(cluster, client):
    user = {"MINE": "1", "PATH": "/opt/bin:/usr/bin", "ODD": "a=b\nc"}
    hit = cold(cluster, client, "hit", Environment={"Variables": user})
    miss = cold(cluster, client, "miss", expected="Empty",
                Environment={"Variables": {**user, "AWS_LAMBDA_LOG_LEVEL": "INFO"}})
    assert (hit.pop("stem"), miss.pop("stem")) == (True, False)
    own, others = hit.pop("env"), miss.pop("env")
    assert others.pop("AWS_LAMBDA_LOG_LEVEL") == "INFO"
    assert own["MINE"] == "1" and own["ODD"] == "a=b\nc" and own["AWS_LAMBDA_INITIALIZATION_TYPE"] == "on-demand"
    assert {n: v for n, v in own.items() if n not in OWN} == {n: v for n, v in others.items() if n not in OWN}
    assert own.keys() == others.keys()
    assert hit.pop("hash") != miss.pop("hash") and hit.pop("boot") != miss.pop("boot")
    assert hit == miss


def test_variables_that_are_read_at_the_start_mean_a_start_of_its_own(cluster, client):
    for name, value in (("TZ", "Asia/Tokyo"), ("PYTHONHASHSEED", "0"), ("LD_LIBRARY_PATH", "/opt/lib")):
        got = cold(cluster, client, f"early-{name.lower().replace('_', '-')}", expected="Empty", Environment={"Variables": {name: value}})
        assert got["env"][name] == value and not got["stem"]


def test_a_module_of_the_functions_own_comes_before_one_that_a_stem_has_loaded(cluster, client):
    app = "import simplejson\ndef handler(event, context): return simplejson.OWN\n"
    own = "OWN = 1\nfrom json import *\nimport json, decimal\nclass JSONEncoder(json.JSONEncoder): pass\n"
    create(client, "shadow", {"app.py": app, "simplejson/__init__.py": own})
    until(lambda: stems(cluster), "a stem waits")
    before, _ = starts(cluster)
    answer, got = invoke(client, "shadow", {})
    request_id = answer["ResponseMetadata"]["RequestId"]
    assert starts(cluster)[0]["Stem"] == before["Stem"] + 1
    # What the client makes of such a module is its own matter; here it is as without a stem.
    client.update_function_configuration(FunctionName="shadow", Environment={"Variables": {"AWS_LAMBDA_LOG_LEVEL": "INFO"}})
    until(lambda: client.get_function_configuration(FunctionName="shadow")["LastUpdateStatus"] == "Successful", "updated")
    again, other = invoke(client, "shadow", {})
    other_id = again["ResponseMetadata"]["RequestId"]
    assert json.dumps(other).replace(other_id, "-") == json.dumps(got).replace(request_id, "-")


def test_a_node_stem_becomes_a_function(cluster, client):
    source = {"app.mjs": NODE}
    hit = cold(cluster, client, "node-hit", source, runtime="nodejs22.x")
    miss = cold(cluster, client, "node-miss", source, expected="Empty", runtime="nodejs22.x",
                Environment={"Variables": {"NODE_NO_WARNINGS": "0"}})
    assert (hit.pop("stem"), miss.pop("stem")) == (True, False)
    own, others = hit.pop("env"), miss.pop("env")
    del others["NODE_NO_WARNINGS"]
    # Loading the client opens the standard streams, which others do with their first line; nothing of another kind is open.
    assert set(hit.pop("fds")) == set(miss.pop("fds"))
    assert {n: v for n, v in own.items() if n not in OWN} == {n: v for n, v in others.items() if n not in OWN}
    assert hit == miss


def test_no_two_functions_share_a_stem(cluster, client):
    app = "import os, uuid\nOWN = str(uuid.uuid4())\nseen = []\ndef handler(event, context):\n" \
          "    seen.append(event)\n    return [OWN, seen, os.listdir('/tmp')]\n"
    names = [f"share-{n}" for n in range(6)]
    for name in names:
        create(client, name, {"app.py": app})
    got = {name: invoke(client, name, [name])[1] for name in names}
    assert len({own for own, _, _ in got.values()}) == len(names)
    assert all(seen == [[name]] and tmp == [] for name, (_, seen, tmp) in got.items())


def test_what_is_not_usual_gets_nothing_prepared(cluster, client):
    cold(cluster, client, "large-tmp", expected="Nothing", EphemeralStorage={"Size": 600})
    cold(cluster, client, "isolated", expected="Nothing", Tags={"hearth:network": "isolated"})


def test_limits_are_the_functions(cluster, client):
    app = "def handler(event, context):\n    x = bytearray(event << 20)\n    return len(x) >> 20\n"
    for memory in (128, 1024):
        create(client, f"memory-{memory}", {"app.py": app}, MemorySize=memory)
        until(lambda: stems(cluster), "a stem waits")
        answer, got = invoke(client, f"memory-{memory}", 300)
        assert ("FunctionError" in answer) == (memory == 128), got


def test_a_pack_that_is_replaced_has_new_stems(cluster, client, packs):
    before = until(lambda: stems(cluster), "a stem waits")
    new = packs / ".new"
    new.mkdir()
    shutil.copy(RUNTIMES / "python3.11" / "runtime.toml", new / "runtime.toml")
    # The tree but for the script, which says that it is another.
    root = new / "root"
    shutil.copytree(RUNTIMES / "python3.11" / "root", root, symlinks=True, copy_function=os.link)
    script = root / "var/runtime/bootstrap.py"
    text = script.read_text()
    script.unlink()
    script.write_text("import builtins\nbuiltins.REPLACED = 1\n" + text)
    os.rename(packs / "python3.11", packs / ".old")
    os.rename(new, packs / "python3.11")
    until(lambda: stems(cluster) and not set(before) & set(stems(cluster)), "new stems")
    app = "import builtins\ndef handler(event, context): return builtins.REPLACED\n"
    assert cold(cluster, client, "replaced", app) == 1


def test_sources_are_compiled_when_code_comes_and_hostile_ones_are_left_alone(cluster, client):
    files = {
        "app.py": "import deep.m\ndef handler(event, context):\n    import os, sys\n"
                  "    return [os.path.exists(sys.modules[m].__cached__) for m in ('app', 'deep.m')]\n",
        "deep/__init__.py": "", "deep/m.py": "x = 1\n",
        # What compilers have choked on.
        "bad/syntax.py": "def", "bad/nested.py": "(" * 100_000, "bad/null.py": "x = '\0'", "bad/power.py": "x = " + "-" * 200_000 + "1",
        "bad/__pycache__": "a file", "bad/late.py": "x = 1\n",
    }
    create(client, "compiled", files)

    def trees():
        return list((cluster.data_dir / "data").glob("**/code/*/deep/__pycache__/m.cpython-311.pyc"))

    made = until(trees, "byte code of the package")
    tree = made[0].parents[2]
    assert until(lambda: (tree / "__pycache__" / "app.cpython-311.pyc").is_file(), "byte code of the handler")
    assert made[0].stat().st_uid == 0 and made[0].stat().st_mode & 0o777 == 0o644
    assert (tree / "bad" / "__pycache__").read_text() == "a file"
    answer, got = invoke(client, "compiled", {})
    assert got == [True, True], got


def test_none_is_left_behind(cluster, client):
    worker = cluster.nodes("worker")[0]["pid"]
    until(lambda: stems(cluster), "a stem waits")
    below = descendants(worker)
    assert below
    cluster.stop()
    until(lambda: not any(alive(pid) for pid in below), "all processes ended")
