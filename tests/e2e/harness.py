"""Starts real clusters with `hearth up` and gives real clients for them. Waits for conditions, never for time."""

import base64
import glob
import http.client
import io
import json
import os
import pathlib
import signal
import subprocess
import threading
import time
import zipfile

import boto3
import botocore.config

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROFILE = os.environ.get("HEARTH_PROFILE", "debug")
HEARTH = ROOT / "target" / PROFILE / "hearth"
RUNTIMES = pathlib.Path(os.environ.get("HEARTH_RUNTIMES", ROOT / "target" / "runtimes"))
BOOTSTRAP = ROOT / "target" / "examples" / "bootstrap"
ROLE = "arn:aws:iam::000000000000:role/demo"


def until(condition, what, timeout=60.0, every=0.02):
    """The first true value of `condition()`; fails naming `what` when there is none in time."""
    deadline = time.monotonic() + timeout
    last = None
    while time.monotonic() < deadline:
        try:
            value = condition()
            if value:
                return value
        except Exception as error:  # the last one is told below
            last = error
        time.sleep(every)
    raise AssertionError(f"not within {timeout} s: {what}; last error: {last!r}")


def zipped(files):
    """A zip archive of {name: text or bytes}; `bootstrap` and extensions are executable."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0))
            info.external_attr = (0o755 if name == "bootstrap" or name.startswith("extensions/") else 0o644) << 16
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


class Cluster:
    """One `hearth up`."""

    def __init__(self, data_dir, controllers=1, workers=1, gateways=1, extra=(), network="isolated"):
        self.data_dir = pathlib.Path(data_dir)
        self.ready_file = self.data_dir / "ready.json"
        self.shape = (controllers, workers, gateways)
        self.extra = list(extra)
        # On loopback nobody is there to be reached, and tests leave the host's network alone.
        self.network = network
        self.process = None

    def command(self):
        controllers, workers, gateways = self.shape
        return [
            str(HEARTH), "up", "--data-dir", str(self.data_dir / "data"), "--listen", "127.0.0.1:0",
            "--controllers", str(controllers), "--workers", str(workers), "--gateways", str(gateways),
            "--ready-file", str(self.ready_file), "--runtimes-dir", str(RUNTIMES), "--network", self.network, *self.extra,
        ]

    def start(self, timeout=90):
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.ready_file.unlink(missing_ok=True)
        self.log = open(self.data_dir / "up.log", "ab")
        self.process = subprocess.Popen(self.command(), stdout=self.log, stderr=self.log)

        def ready():
            if self.process.poll() is not None:
                raise SystemExit(f"hearth up ended: {self.output()[-4000:]}")
            return self.ready_file.exists()

        try:
            until(ready, f"cluster ready; log: {self.data_dir}/up.log", timeout)
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise
        return self

    def output(self):
        return (self.data_dir / "up.log").read_text(errors="replace")

    @property
    def info(self):
        return json.loads(self.ready_file.read_text())

    def nodes(self, role):
        return [node for node in self.info["nodes"] if node["role"] == role]

    def client(self, endpoint=None, service="lambda", retries=0, **config):
        info = self.info
        return boto3.client(
            service,
            endpoint_url=endpoint or info["endpoint"],
            region_name=info["region"],
            aws_access_key_id=info["access_key_id"],
            aws_secret_access_key=info["secret_access_key"],
            config=botocore.config.Config(
                **{"retries": {"max_attempts": retries}, "read_timeout": 60, "connect_timeout": 5, **config}
            ),
        )

    def leader(self):
        """The controller that says it leads, or None."""
        for node in self.nodes("controller"):
            try:
                connection = http.client.HTTPConnection(node["admin_addr"], timeout=2)
                connection.request("GET", "/metrics")
                text = connection.getresponse().read().decode()
            except OSError:
                continue
            if any(line.startswith("hearth_raft_is_leader") and line.endswith(" 1") for line in text.splitlines()):
                return node
        return None

    def env(self):
        info = self.info
        return {
            **os.environ,
            "AWS_ENDPOINT_URL": info["endpoint"],
            "AWS_ACCESS_KEY_ID": info["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": info["secret_access_key"],
            "AWS_DEFAULT_REGION": info["region"],
            "AWS_PAGER": "",
        }

    def kill(self, node):
        """SIGKILL for one node; returns when the supervisor has it back and ready."""
        os.kill(node["pid"], signal.SIGKILL)

    def wait_restarted(self, node, timeout=60):
        def back():
            now = next(n for n in self.info["nodes"] if (n["role"], n["id"]) == (node["role"], node["id"]))
            return now["pid"] != node["pid"] and now.get("ready", True)

        until(back, f"{node['role']} {node['id']} back after a kill", timeout)

    def kill_everything(self):
        pids = [node["pid"] for node in self.info["nodes"]]
        os.kill(self.process.pid, signal.SIGKILL)
        for pid in set(pids):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()
        until(lambda: not any(alive(pid) for pid in pids), "every process gone", 20)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError("hearth up did not stop within 30 s of SIGINT")
        self.log.close()


class Threads:
    """What runs `self.threads` while it is entered; each of them ends soon after `self.stopping` is set."""

    def __init__(self):
        self.stopping, self.lock = threading.Event(), threading.Lock()
        self.threads = []

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(90)
            assert not thread.is_alive(), "a client hangs"


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False


def processes(marker):
    """Processes of this host, by pid, that are in the sandbox which has this file in its /tmp."""
    return [int(path.split("/")[2]) for path in glob.glob(f"/proc/[0-9]*/root/tmp/{marker}")]


def create(client, name, files, runtime="python3.11", handler="app.handler", wait=True, **members):
    answer = client.create_function(
        FunctionName=name, Runtime=runtime, Role=ROLE, Handler=handler, Code={"ZipFile": zipped(files)}, **members
    )
    if wait:
        active(client, name)
    return answer


def active(client, name):
    def settled():
        document = client.get_function_configuration(FunctionName=name)
        assert document["State"] != "Failed", document
        return document["State"] == "Active" and document["LastUpdateStatus"] == "Successful"

    until(settled, f"{name} active")


def invoke(client, name, payload=None, **members):
    """The answer with its payload read: (answer, parsed payload)."""
    body = payload if isinstance(payload, (bytes, str)) else json.dumps(payload)
    answer = client.invoke(FunctionName=name, Payload=body, **members)
    text = answer["Payload"].read()
    answer["Raw"] = text
    if "LogResult" in answer:
        answer["Log"] = base64.b64decode(answer["LogResult"]).decode()
    return answer, (json.loads(text) if text else None)


def hearth(cluster, *command, check=True):
    done = subprocess.run([str(HEARTH), *map(str, command), "--data-dir", str(cluster.data_dir / "data")],
                          capture_output=True, text=True, timeout=60)
    assert not check or done.returncode == 0, (command, done.stdout, done.stderr)
    return done


def nodes(cluster):
    return {(n["role"], n["id"]): n for n in json.loads(hearth(cluster, "nodes", "--json").stdout)["nodes"]}
