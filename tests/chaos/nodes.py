"""The processes: three controllers, two workers, two gateways, each in its namespace, restarted as a supervisor would."""

import json
import mmap
import os
import pathlib
import signal
import struct
import subprocess
import threading
import time
import urllib.request

from net import sh

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROFILE = os.environ.get("HEARTH_PROFILE", "debug")
HEARTH = ROOT / "target" / PROFILE / "hearth"
RUNTIMES = pathlib.Path(os.environ.get("HEARTH_RUNTIMES", ROOT / "target" / "runtimes"))
ACCESS_KEY, SECRET_KEY = "AKIDCHAOSCHAOSCHAOS0", "chaos-secret-of-this-run-only"
SMALL_DISK_MIB = 192
LOG = "info,hearth::function=debug"
# Which have a small disk of their own.
SMALL_DISKS = ("c3", "w2")


class Node:
    def __init__(self, name, id, role, address, base, net, clock):
        self.name, self.id, self.role, self.address, self.net, self.clock = name, id, role, address, net, clock
        self.dir = base / name
        self.dir.mkdir()
        self.data = self.dir / "data"
        self.config = self.dir / "node.toml"
        self.log = open(self.dir / "log", "ab")
        self.process = None
        self.deaths = []
        self.mounted = False

    @property
    def pid(self):
        return self.process.pid

    def spawn(self):
        env = {**os.environ, "HEARTH_ACCESS_KEY_ID": ACCESS_KEY, "HEARTH_SECRET_ACCESS_KEY": SECRET_KEY}
        if self.clock:
            env |= {"LD_PRELOAD": str(self.clock.library), "CHAOS_CLOCK": str(self.clock.file(self.name))}
        words = [*self.net.enter(self.name), str(HEARTH), self.role, "--config", str(self.config), "--tied"]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=self.log, stderr=self.log, env=env)

    def start(self, timeout=60):
        """Returns when it says that it is ready; one whose port is still held is started again."""
        deadline = time.monotonic() + timeout
        self.spawn()
        while not self.ready():
            if self.process.poll() is not None:
                self.spawn()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} is not ready within {timeout} s; see {self.log.name}")
            time.sleep(0.1)

    def ready(self):
        try:
            with urllib.request.urlopen(f"http://{self.address}:7480/readyz", timeout=0.5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def signal(self, number):
        os.kill(self.process.pid, number)

    def kill(self):
        self.signal(signal.SIGKILL)
        self.process.wait()
        self.deaths.append(time.monotonic_ns())

    def is_alive(self):
        return self.process is not None and self.process.poll() is None

    def small_disk(self):
        self.data.mkdir()
        sh("mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_MIB}m,mode=0700", PREFIX_FS, self.data)
        self.mounted = True

    def fill(self):
        """Until not one block is left."""
        with open(self.data / "filler", "wb", buffering=0) as filler:
            for size in (1 << 20, 4096):
                try:
                    while True:
                        filler.write(b"\xff" * size)
                except OSError:
                    pass

    def unfill(self):
        (self.data / "filler").unlink(missing_ok=True)

    def stop(self):
        if self.is_alive():
            try:
                self.signal(signal.SIGCONT)
                self.signal(signal.SIGTERM)
                self.process.wait(15)
            except (subprocess.TimeoutExpired, ProcessLookupError):
                self.process.kill()
                self.process.wait()
        self.log.close()
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.data)], capture_output=True)


PREFIX_FS = "hearthchaos"


class Clock:
    """Steps the wall clock of single nodes; none where the compiler is missing or the preload has no effect."""

    def __init__(self, base):
        self.library, self.base, self.maps = base / "clock.so", base, {}
        source = pathlib.Path(__file__).parent / "clock.c"
        sh("cc", "-O2", "-shared", "-fPIC", "-o", self.library, source, "-ldl")

    def file(self, name):
        path = self.base / f"clock-{name}"
        if name not in self.maps:
            path.write_bytes(bytes(8))
            with open(path, "r+b") as file:
                self.maps[name] = mmap.mmap(file.fileno(), 8)
        return path

    def step(self, name, seconds):
        self.maps[name][:] = struct.pack("<q", seconds)


class Cluster:
    def __init__(self, net, base):
        self.net, self.base = net, base
        self.clock = Clock(base)
        self.nodes = {}
        for role, count, octet, first in (("controller", 3, 10, 1), ("worker", 2, 20, 101), ("gateway", 2, 30, 201)):
            for n in range(1, count + 1):
                name, address = f"{role[0]}{n}", f"10.77.0.{octet + n}"
                net.add(name, address)
                clock = self.clock if role != "worker" else None
                self.nodes[name] = Node(name, first + n - 1, role, address, base, net, clock)

    def of(self, role):
        return [node for node in self.nodes.values() if node.role == role]

    def certify(self):
        """A CA, and a certificate of it for each node and for the operator, as on machines of their own."""
        ca = ["--cluster-id", self.net.tag]
        sh(HEARTH, "ca", "init", "--dir", self.base / "ca", *ca)
        for node in self.nodes.values():
            sh(HEARTH, "ca", "issue", "--ca", self.base / "ca", *ca, "--role", node.role, "--id", node.id, "--out", node.dir / "tls")
        sh(HEARTH, "ca", "issue", "--ca", self.base / "ca", *ca, "--role", "operator", "--out", self.base / "operator")

    def start(self):
        self.certify()
        for node in self.nodes.values():
            if node.name in SMALL_DISKS:
                node.small_disk()
            node.config.write_text(self.toml(node))
        starting = [threading.Thread(target=node.start, args=(120,)) for node in self.nodes.values()]
        for thread in starting:
            thread.start()
        for thread in starting:
            thread.join()
        # Each was ready once; on a busy machine one may be too slow to say so at any one moment.
        deadline = time.monotonic() + 30
        while not all(node.ready() for node in self.nodes.values()):
            if time.monotonic() > deadline:
                raise RuntimeError(f"the cluster did not start; see {self.base}/*/log")
            time.sleep(0.2)

    def toml(self, node):
        controllers = {c.id: f"{c.address}:7400" for c in self.of("controller")}
        port = 9100 if node.role == "gateway" else 7400
        lines = [
            f"node_id = {node.id}", f'cluster_id = "{self.net.tag}"', f'listen = "{node.address}:{port}"',
            f'admin_listen = "{node.address}:7480"',
        ]
        if node.role != "gateway":
            lines.append(f'data_dir = "{node.data}"')
        if node.role != "controller":
            lines.append(f"controllers = {json.dumps(list(controllers.values()))}")
        if node.role == "worker":
            lines += [f'runtimes_dir = "{RUNTIMES}"', "memory_mib = 3072"]
        if node.role == "controller":
            lines += ["[peers]", *(f'{id} = "{address}"' for id, address in controllers.items())]
        lines += ["[tls]", 'mode = "on"', f'dir = "{node.dir}/tls"']
        lines += ["[telemetry]", f'log_filter = "{LOG}"']
        return "\n".join(lines) + "\n"

    def endpoints(self):
        return [f"{g.address}:9100" for g in self.of("gateway")]

    def leader(self, timeout=20):
        """The controller that leads, by the word of a majority's members listing."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            for controller in self.of("controller"):
                if not controller.is_alive():
                    continue
                words = [str(HEARTH), "controllers", "list", "--controller", f"{controller.address}:7400"]
                words += ["--tls-dir", str(self.base / "operator")]
                try:
                    done = subprocess.run(words, capture_output=True, text=True, timeout=5)
                except subprocess.TimeoutExpired:
                    continue
                for line in done.stdout.splitlines():
                    if line.split()[2:] == ["leader"]:
                        return self.nodes[f"c{line.split()[0]}"]
            time.sleep(0.1)
        raise TimeoutError("no controller knows a leader")

    def stop(self):
        for node in reversed(list(self.nodes.values())):
            node.stop()
