"""Controllers that join and leave a running cluster, from the command line."""

import json
import os
import shutil
import signal
import socket
import subprocess

from harness import HEARTH, Cluster, create, invoke, until


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Joining:
    """One `hearth controller` that belongs to no cluster yet."""

    def __init__(self, directory, id, cluster_id, data):
        nodes = json.loads((data / "cluster.json").read_text())["nodes"]
        first = next(node["addr"] for node in nodes if node["role"] == "controller")
        self.id, self.addr, self.dir = id, f"127.0.0.1:{free_port()}", directory / f"controller-{id}"
        self.dir.mkdir()
        made = subprocess.run(
            [str(HEARTH), "token", "create", "--role", "controller", "--data-dir", str(data)],
            capture_output=True, text=True, check=True,
        )
        (self.dir / "token").write_text(made.stdout)
        config = self.dir / "controller.toml"
        config.write_text(
            f'node_id = {id}\ncluster_id = "{cluster_id}"\nlisten = "{self.addr}"\nadmin_listen = "127.0.0.1:0"\n'
            f'data_dir = "{self.dir}/data"\n[peers]\n'
            f'[tls]\njoin_token_file = "{self.dir}/token"\njoin_at = ["{first}"]\n'
        )
        self.log = open(self.dir / "log", "wb")
        self.process = subprocess.Popen([str(HEARTH), "controller", "--config", str(config)], stdout=self.log, stderr=self.log)
        until(lambda: socket.create_connection(self.addr.split(":")).close() is None, f"controller {id} listens")

    def blobs(self):
        return [p.name for p in (self.dir / "data" / "blobs").rglob("*") if p.is_file()]

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


def controllers(*words):
    done = subprocess.run([str(HEARTH), "controllers", *map(str, words)], capture_output=True, text=True, timeout=150)
    return done.returncode, done.stdout, done.stderr


def roles(text):
    return {int(line.split()[0]): line.split()[2] for line in text.splitlines()[1:]}


def test_a_cluster_grows_to_three_controllers_and_one_leaves(tmp_path):
    cluster = Cluster(tmp_path / "c").start()
    joining = []
    try:
        data = tmp_path / "c" / "data"
        client = cluster.client()
        create(client, "f", {"app.py": "def handler(e, c):\n    return e\n"})
        code, text, _ = controllers("list", "--data-dir", data)
        assert code == 0 and roles(text) == {1: "leader"}, text
        cluster_id = json.loads((data / "cluster.json").read_text())["cluster_id"]
        joining = [Joining(tmp_path, id, cluster_id, data) for id in (2, 3)]
        for one in joining:
            code, text, error = controllers("add", one.id, one.addr, "--data-dir", data)
            assert code == 0 and roles(text)[one.id] == "voter", (text, error)
            assert one.blobs(), "it has the code of every function before it counts"
        create(client, "g", {"app.py": "def handler(e, c):\n    return e\n"})

        # Asked of the new one: it knows who leads.
        code, text, error = controllers("remove", 3, "--controller", joining[0].addr, "--data-dir", data)
        assert code == 0 and sorted(roles(text)) == [1, 2], (text, error)
        joining[1].stop()
        create(client, "h", {"app.py": "def handler(e, c):\n    return [e]\n"})
        assert invoke(client, "f", 1)[1] == 1
        assert invoke(client, "h", 1)[1] == [1]
        assert {f["FunctionName"] for f in client.list_functions()["Functions"]} == {"f", "g", "h"}

        code, text, error = controllers("remove", 1, "--controller", joining[0].addr, "--data-dir", data)
        assert code == 0 and sorted(roles(text)) == [2], (text, error)
        code, _, error = controllers("remove", 2, "--controller", joining[0].addr, "--data-dir", data)
        assert code != 0 and "last controller" in error, error
        code, _, error = controllers("list", "--data-dir", tmp_path / "none")
        assert code != 0 and "--controller" in error, error
    finally:
        for one in joining:
            one.stop()
        cluster.stop()


def test_a_controller_that_lost_its_disk_says_so_and_joins_as_a_new_one(tmp_path):
    """Its data directory is gone but for the certificate, as after a replaced disk. It may have acknowledged what it has lost."""
    cluster = Cluster(tmp_path / "c", controllers=3).start()
    joined = None
    try:
        data = tmp_path / "c" / "data"
        client = cluster.client()
        create(client, "f", {"app.py": "def handler(e, c):\n    return e\n"})
        code, text, error = controllers("list", "--data-dir", data)
        assert code == 0, error
        lost = next(id for id, role in roles(text).items() if role == "voter")
        node = next(n for n in cluster.nodes("controller") if n["id"] == lost)
        lost_data = data / f"controller-{lost}"
        for path in lost_data.iterdir():
            if path.name != "tls":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        os.kill(node["pid"], signal.SIGKILL)
        log = data / "logs" / f"controller-{lost}.log"
        advice = f"controller {lost} has lost its data"
        until(lambda: advice in log.read_text(errors="replace"), "the diagnosis")
        line = next(line for line in log.read_text(errors="replace").splitlines() if advice in line)
        assert f"hearth controllers remove {lost}" in line and "new node id" in line, line

        # The others go on, and know who is missing.
        create(client, "g", {"app.py": "def handler(e, c):\n    return [e]\n"})
        assert invoke(client, "g", 1)[1] == [1]

        def ask(*words):
            # The lost one's port is tried too, and its supervisor keeps starting it.
            others = [n["addr"] for n in json.loads((data / "cluster.json").read_text())["nodes"] if n["role"] == "controller" and n["id"] != lost]
            return controllers(*words, "--controller", others[0], "--data-dir", data)

        code, text, error = ask("remove", lost)
        assert code == 0 and lost not in roles(text), (text, error)
        cluster_id = json.loads((data / "cluster.json").read_text())["cluster_id"]
        joined = Joining(tmp_path, 4, cluster_id, data)
        code, text, error = ask("add", 4, joined.addr)
        assert code == 0 and roles(text)[4] == "voter", (text, error)
        create(client, "h", {"app.py": "def handler(e, c):\n    return e\n"})
        assert {f["FunctionName"] for f in client.list_functions()["Functions"]} == {"f", "g", "h"}
    finally:
        if joined:
            joined.stop()
        cluster.stop()
