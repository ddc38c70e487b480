"""`make chaos`: a 3/2/2 cluster of real processes, each in its own network namespace, under steady load, hit by one fault
after the other for CHAOS_MINUTES. Prints a table, writes target/chaos/<pid>/report.json, ends with 1 if a promise was broken.
Root. CHAOS_ONLY=text runs only the faults with the text in their names."""

import json
import os
import pathlib
import signal
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import aws  # noqa: E402
import report  # noqa: E402
from faults import FAULTS  # noqa: E402
from load import PYTHON, RESERVED, ColdStream, Stream, python_right, rust_right, zipped  # noqa: E402
from metadata import Histories, Metronome  # noqa: E402
from net import Net  # noqa: E402
from nodes import ROOT, Cluster  # noqa: E402

HEAL_TIMEOUT_S = 60
CALM_S = 4
BOOTSTRAP = ROOT / "target" / "examples" / "bootstrap"


class Load:
    def __init__(self, endpoints):
        self.endpoints, self.stop = endpoints, threading.Event()
        self.streams = [
            Stream("warm", "warm", 10, 20, endpoints, python_right),
            Stream("rust", "rust", 5, 0, endpoints, rust_right),
            Stream("quota", "quota", 20, 300, endpoints, python_right),
        ]
        self.cold = ColdStream(3.0, endpoints, ahead=10)
        self.metronome, self.histories = Metronome(endpoints), Histories(endpoints)
        self.parts = [*self.streams, self.cold, self.metronome, self.histories]

    def prepare(self):
        first = self.endpoints[0]
        python = zipped("app.py", PYTHON)
        for name in ("warm", "quota", "metronome"):
            expect(aws.create(first, name, python), 201)
        expect(aws.create(first, "rust", zipped("bootstrap", BOOTSTRAP.read_bytes()), runtime="provided.al2023"), 201)
        for name in ("warm", "quota", "metronome", "rust"):
            aws.wait_active(first, name)
        expect(aws.reserve(first, "quota", RESERVED), 200)
        self.cold.prepare()

    def start(self):
        for part in self.parts:
            part.start(self.stop)

    def end(self):
        self.stop.set()
        for part in self.parts:
            part.join()


def expect(answer, status):
    if answer.status != status:
        raise RuntimeError(f"{answer.kind}: {answer.body[:300]}")


def healed(cluster, endpoints):
    """Seconds until every node is ready, writes go through and functions answer at each gateway; none if that is not within
    the limit."""
    begun = time.monotonic()
    while time.monotonic() - begun < HEAL_TIMEOUT_S:
        fine = all(node.ready() for node in cluster.nodes.values()) and all(
            aws.tag(e, "warm", healed="1").status == 204 and aws.invoke(e, "warm", {"n": -1}).kind == "ok" for e in endpoints
        )
        if fine:
            return time.monotonic() - begun
        time.sleep(0.2)
    return None


def hit(cluster, load, name, fault, seconds):
    with fault(cluster) as effect:
        time.sleep(seconds)
    took = healed(cluster, load.endpoints)
    dead = [node.name for node in cluster.nodes.values() if not node.is_alive()]
    for node in dead:
        cluster.nodes[node].start()
    return {
        "fault": name, "node": effect.node.name, "note": effect.note, "leader_lost": effect.leader_lost,
        "at": effect.at, "until": time.monotonic(), "healed_after_s": took, "died": dead,
    }


def final_reads(load):
    """What every acknowledged function says of itself at the end."""
    found = {}
    for name in load.cold.acknowledged:
        answer = aws.get(load.endpoints[1], name)
        found[name] = answer.json()["Description"] if answer.status == 200 else answer.kind
    return found


def inflict(cluster, load, minutes):
    only = os.environ.get("CHAOS_ONLY", "")
    faults = [f for f in FAULTS if only in f[0]]
    deadline = time.monotonic() + minutes * 60
    windows = []
    while time.monotonic() < deadline:
        for name, fault, seconds in faults:
            if time.monotonic() + seconds > deadline:
                return windows
            time.sleep(CALM_S)
            window = hit(cluster, load, name, fault, seconds)
            windows.append(window)
            print(f"chaos: {name} ({window['node']}): healed after {window['healed_after_s']}", file=sys.stderr, flush=True)
            if window["healed_after_s"] is None:
                return windows
    return windows


def main():
    if os.geteuid() != 0:
        raise SystemExit("chaos: namespaces and sandboxes need root")
    minutes = float(os.environ.get("CHAOS_MINUTES", "10"))
    base = ROOT / "target" / "chaos" / str(os.getpid())
    base.mkdir(parents=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    net = Net()
    cluster = None
    try:
        net.start()
        cluster = Cluster(net, base)
        cluster.start()
        load = Load(cluster.endpoints())
        load.prepare()
        load.start()
        begun = time.monotonic()
        windows = inflict(cluster, load, minutes)
        time.sleep(CALM_S)
        load.end()
        ended = time.monotonic()
        found = final_reads(load)
    finally:
        if cluster:
            cluster.stop()
        net.stop()
    result = report.judge(cluster, load, windows, found, begun, ended)
    with open(base / "failures.json", "w") as file:
        for stream in (*load.streams, load.cold):
            for sample in stream.samples:
                if sample.kind != "ok" and not sample.kind.startswith("429"):
                    print(json.dumps(vars(sample)), file=file)
    (base / "report.json").write_text(json.dumps(result, indent=1))
    print(report.table(result))
    print(f"\n{base / 'report.json'}")
    sys.exit(1 if result["broken"] else 0)


if __name__ == "__main__":
    main()
