"""A cluster is backed up while it is written to, destroyed, and made again from the file."""

import hashlib
import json
import os
import pathlib
import random
import shutil
import stat
import subprocess
import threading

import pytest

from harness import HEARTH, ROLE, Cluster, active, create, invoke, until, zipped
from test_members import Joining, controllers, roles

CODE = "def handler(e, c):\n    return {name!r}\n"


def hearth(*words, check=True):
    done = subprocess.run([str(HEARTH), *map(str, words)], capture_output=True, text=True, timeout=150)
    if check:
        assert done.returncode == 0, done.stderr
    return done


def refused(done, *words):
    """A refusal is one line and a code."""
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line]
    assert len(lines) == 1 and lines[0].startswith("hearth: "), done.stderr
    for word in words:
        assert word in lines[0], done.stderr


class Writer(threading.Thread):
    """Makes and changes functions until told to stop; remembers what was acknowledged, and when a call began."""

    def __init__(self, client):
        super().__init__(daemon=True)
        self.client, self.stopping, self.acknowledged, self.errors = client, threading.Event(), [], []

    def run(self):
        number = 0
        while not self.stopping.is_set():
            name = f"load-{number:04}"
            try:
                self.client.create_function(
                    FunctionName=name, Runtime="python3.11", Role=ROLE, Handler="app.handler",
                    Code={"ZipFile": zipped({"app.py": CODE.format(name=name)})}, Tags={"number": str(number)},
                )
                self.acknowledged.append(name)
            except Exception as error:  # told by the test
                self.errors.append(repr(error))
            number += 1

    def stop(self):
        self.stopping.set()
        self.join(30)


def described(client, name):
    document = client.get_function(FunctionName=name)
    return (
        document["Configuration"]["CodeSha256"],
        document["Configuration"].get("Environment"),
        document.get("Tags", {}),
        document.get("Concurrency", {}),
    )


def make_functions(client):
    names = [f"kept-{number}" for number in range(6)]
    for number, name in enumerate(names):
        create(
            client, name, {"app.py": CODE.format(name=name), "filler": os.urandom(200_000 * number)},
            Tags={"team": f"t{number}"}, Environment={"Variables": {"NUMBER": str(number)}},
        )
    client.put_function_concurrency(FunctionName=names[0], ReservedConcurrentExecutions=7)
    client.put_function_concurrency(FunctionName=names[1], ReservedConcurrentExecutions=0)
    client.update_function_code(FunctionName=names[2], ZipFile=zipped({"app.py": CODE.format(name="second")}))
    active(client, names[2])
    client.delete_function(FunctionName=names[5])
    return names[:5]


def start_restored(data, tmp_path):
    restored = Cluster(tmp_path / "restored-run")
    restored.command = lambda: [
        str(HEARTH), "up", "--data-dir", str(data), "--listen", "127.0.0.1:0", "--network", "isolated",
        "--ready-file", str(restored.ready_file), "--runtimes-dir", str(pathlib.Path(os.environ.get("HEARTH_RUNTIMES", HEARTH.parents[1] / "runtimes"))),
    ]
    return restored.start()


def test_everything_acknowledged_before_the_backup_is_there_after_a_restore(tmp_path):
    cluster = Cluster(tmp_path / "c", controllers=3, workers=2, gateways=1).start()
    file = tmp_path / "backup.tar"
    writer = None
    try:
        client = cluster.client()
        names = make_functions(client)
        writer = Writer(cluster.client())
        writer.start()
        until(lambda: len(writer.acknowledged) >= 10, "the load writes")
        before = list(writer.acknowledged)
        done = hearth("backup", file, "--data-dir", tmp_path / "c" / "data")
        until(lambda: len(writer.acknowledged) > len(before) + 2, "the load goes on during and after the backup")
        writer.stop()
        assert not writer.errors, writer.errors[:3]
        assert "every digest is right" in done.stdout, done.stdout
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert [p.name for p in tmp_path.iterdir() if "backup.tar" in p.name] == ["backup.tar"]
        then = {name: described(client, name) for name in names + before}
        old_id = json.loads((tmp_path / "c" / "data" / "cluster.json").read_text())["cluster_id"]
    finally:
        if writer:
            writer.stop()
        cluster.kill_everything()
    shutil.rmtree(tmp_path / "c")

    assert "every digest is right" in hearth("backup", "verify", file).stdout
    data = tmp_path / "restored"
    hearth("restore", file, "--data-dir", data)
    new_id = json.loads((data / "cluster.json").read_text())["cluster_id"]
    assert new_id != old_id, "nodes of the old cluster cannot mix with the new"
    restored = start_restored(data, tmp_path)
    joining = []
    try:
        client = restored.client()
        assert {name: described(client, name) for name in then} == then
        for name in names + random.sample(before, 5):
            if name == names[1]:
                with pytest.raises(client.exceptions.TooManyRequestsException):
                    invoke(client, name)
                continue
            until(lambda: client.get_function_configuration(FunctionName=name)["State"] == "Active", f"{name} active")
            answer, payload = invoke(client, name)
            expected = "second" if name == names[2] else name
            assert (answer["StatusCode"], payload) == (200, expected)
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            client.get_function(FunctionName="kept-5")

        joining = [Joining(tmp_path, id, new_id, data) for id in (2, 3)]
        for one in joining:
            code, text, error = controllers("add", one.id, one.addr, "--data-dir", data)
            assert code == 0 and roles(text)[one.id] == "voter", (text, error)
        create(client, "after", {"app.py": CODE.format(name="after")})
        assert invoke(client, "after")[1] == "after"
        again = tmp_path / "again.tar"
        hearth("backup", again, "--controller", joining[0].addr, "--data-dir", data)
        assert "every digest is right" in hearth("restore", again, "--dry-run").stdout
    finally:
        for one in joining:
            one.stop()
        restored.stop()


def test_what_is_no_backup_is_refused_with_one_line(tmp_path):
    cluster = Cluster(tmp_path / "c").start()
    file = tmp_path / "backup.tar"
    try:
        client = cluster.client()
        create(client, "f", {"app.py": CODE.format(name="f"), "filler": os.urandom(300_000)})
        hearth("backup", file, "--data-dir", tmp_path / "c" / "data")
        # Asked twice of a cluster that stands still, the state and the code are the same.
        other = tmp_path / "other.tar"
        hearth("backup", other, "--data-dir", tmp_path / "c" / "data")
        names = subprocess.run(["tar", "tf", file], capture_output=True, text=True, check=True).stdout.splitlines()
        assert names[:2] == ["manifest.json", "metadata.json"] and names[-1] == "digest.sha256", names
    finally:
        cluster.stop()
    good = file.read_bytes()
    assert hashlib.sha256(good[:-2048]).hexdigest().encode() in good[-2048:]

    bad = tmp_path / "bad.tar"
    offsets = random.Random(7).sample(range(len(good)), 40)
    for offset in [0, 512, len(good) - 1, *offsets]:
        changed = bytearray(good)
        changed[offset] ^= 1 << (offset % 8)
        bad.write_bytes(changed)
        done = hearth("backup", "verify", bad, check=False)
        assert done.returncode != 0, f"the bit flipped at {offset} is noticed"
    refused(done, "bad.tar")
    data = tmp_path / "data"
    refused(hearth("restore", bad, "--data-dir", data, check=False), "bad.tar")
    bad.write_bytes(good[: len(good) // 2])
    refused(hearth("restore", bad, "--data-dir", data, check=False), "truncated")
    bad.write_bytes(good.replace(b'"format_version": 1', b'"format_version": 9', 1))
    refused(hearth("restore", bad, "--data-dir", data, check=False), "format 9")
    assert not data.exists(), "nothing is left of what failed"
    data.mkdir()
    (data / "precious").write_text("x")
    refused(hearth("restore", file, "--data-dir", data, check=False), "not empty")
    refused(hearth("backup", tmp_path / "none.tar", "--data-dir", tmp_path / "c" / "data", check=False), "no controller answers")
    assert not (tmp_path / "none.tar").exists()


def test_a_disaster_is_recovered_from_with_the_same_cluster_id(tmp_path):
    cluster = Cluster(tmp_path / "c").start()
    try:
        client = cluster.client()
        create(client, "f", {"app.py": CODE.format(name="f")})
        hearth("backup", tmp_path / "b", "--data-dir", tmp_path / "c" / "data")
        create(client, "g", {"app.py": CODE.format(name="g")})
        cluster_id = json.loads((tmp_path / "c" / "data" / "cluster.json").read_text())["cluster_id"]
    finally:
        cluster.kill_everything()
    data = tmp_path / "restored"
    hearth("restore", tmp_path / "b", "--data-dir", data, "--same-cluster")
    assert json.loads((data / "cluster.json").read_text())["cluster_id"] == cluster_id
    # The worker's data dir of before the disaster is used again.
    shutil.copytree(tmp_path / "c" / "data" / "worker-101", data / "worker-101", symlinks=True)
    restored = start_restored(data, tmp_path)
    try:
        client = restored.client()
        assert invoke(client, "f")[1] == "f"
        create(client, "g", {"app.py": CODE.format(name="a new g")})
        assert invoke(client, "g")[1] == "a new g"
    finally:
        restored.stop()
