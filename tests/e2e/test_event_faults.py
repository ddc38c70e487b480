"""Accepted events come to their end whatever is killed meanwhile: each exactly one end, at least once told.

`make soak-events` runs the same with EVENTS=50000 and a disk that fills once."""

import collections
import contextlib
import http.server
import json
import os
import random
import subprocess
import threading
import time

import botocore.exceptions
import pytest
from harness import Cluster, create, until

EVENTS = int(os.environ.get("EVENTS", "600"))
KILL_EVERY_S = 3
FULL_S = 5
APP = """
def handler(event, context):
    if event["n"] % 20 == 0:
        raise ValueError("as asked for")
    return event["n"]
"""


class Bus(http.server.ThreadingHTTPServer):
    """Takes what EventBridge would be sent, and keeps which event ended how."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.ends, self.lock = collections.defaultdict(list), threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        """A gateway that was killed."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for entry in body["Entries"]:
            context = json.loads(entry["Detail"])["requestContext"]
            with self.server.lock:
                self.server.ends[context["requestId"]].append(context["condition"])
        answer = json.dumps({"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


class Senders:
    """Clients that send events, each to one gateway after the other, until all are accepted."""

    def __init__(self, cluster, name, count, threads=8):
        self.cluster, self.name = cluster, name
        self.left, self.lock = iter(range(1, count + 1)), threading.Lock()
        self.accepted, self.refused, self.unknown, self.latencies = {}, 0, 0, []
        self.threads = [threading.Thread(target=self.send, args=(n,)) for n in range(threads)]

    def next(self):
        with self.lock:
            return next(self.left, None)

    def send(self, turn):
        clients = [self.cluster.client(node["addr"] if "://" in node["addr"] else f"http://{node['addr']}", read_timeout=20)
                   for node in self.cluster.nodes("gateway")]
        while (n := self.next()) is not None:
            while True:
                client = clients[turn % len(clients)]
                begun = time.monotonic()
                try:
                    answer = client.invoke(FunctionName=self.name, InvocationType="Event", Payload=json.dumps({"n": n}))
                except botocore.exceptions.ClientError:
                    self.refused += 1
                except botocore.exceptions.BotoCoreError:
                    # It may have been accepted.
                    self.unknown += 1
                else:
                    with self.lock:
                        self.accepted[answer["ResponseMetadata"]["RequestId"]] = n
                        self.latencies.append(time.monotonic() - begun)
                    break
                turn += 1
                time.sleep(0.05)

    def run(self, meanwhile):
        for thread in self.threads:
            thread.start()
        while any(thread.is_alive() for thread in self.threads):
            meanwhile()
        for thread in self.threads:
            thread.join()


@contextlib.contextmanager
def small_disk(path, mib=1_024):
    """A file system of its own at `path`, for a controller whose disk is to fill."""
    image = path.parent.parent / "disk.img"
    path.mkdir(parents=True)
    with open(image, "wb") as file:
        file.truncate(mib << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def fill(path):
    """Until nothing more can be written, and for a while."""
    filler = path / "filler"
    with open(filler, "wb") as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 20))
            file.flush()
    time.sleep(FULL_S)
    filler.unlink()


@pytest.fixture
def cluster(tmp_path):
    bus = Bus()
    extra = ["--event-retry-base-delay", "200ms", "--endpoint-for", f"events=http://127.0.0.1:{bus.server_port}"]
    cluster = Cluster(tmp_path, 3, 2, 2, extra=extra)
    cluster.bus = bus
    disk = tmp_path / "data" / "controller-2"
    with small_disk(disk):
        cluster.disk = disk
        cluster.start()
        yield cluster
        cluster.stop()
    bus.shutdown()


def test_every_accepted_event_has_one_end(cluster, name):
    client = cluster.client()
    create(client, name, {"app.py": APP})
    bus = "arn:aws:events:us-east-1:000000000000:event-bus/default"
    client.put_function_event_invoke_config(
        FunctionName=name, MaximumRetryAttempts=2,
        DestinationConfig={"OnSuccess": {"Destination": bus}, "OnFailure": {"Destination": bus}})
    chance, kills = random.Random(EVENTS), collections.Counter()
    senders = Senders(cluster, name, EVENTS)
    has_filled = threading.Event()

    def fault():
        if EVENTS >= 10_000 and len(senders.accepted) > EVENTS // 2 and not has_filled.is_set():
            has_filled.set()
            fill(cluster.disk)
            return
        node = chance.choice([node for role in ("controller", "worker", "gateway") for node in cluster.nodes(role)])
        with contextlib.suppress(ProcessLookupError):
            cluster.kill(node)
            kills[node["role"]] += 1
        time.sleep(KILL_EVERY_S)

    begun = time.monotonic()
    senders.run(fault)
    sent = time.monotonic() - begun
    ends = cluster.bus.ends
    until(lambda: all(request_id in ends for request_id in senders.accepted), "every event has an end", timeout=180, every=0.5)
    settled = time.monotonic() - begun

    wrong = {}
    for request_id, n in senders.accepted.items():
        wanted = "RetriesExhausted" if n % 20 == 0 else "Success"
        if set(ends[request_id]) != {wanted}:
            wrong[request_id] = ends[request_id]
    twice = sum(len(ends[request_id]) > 1 for request_id in senders.accepted)
    latencies = sorted(senders.latencies)
    print(f"\n{len(senders.accepted)} accepted in {sent:.0f} s, all settled after {settled:.0f} s; kills {dict(kills)}, disk filled: "
          f"{has_filled.is_set()}; told twice {twice}; {senders.refused} refused, {senders.unknown} unknown; accept "
          f"p50 {latencies[len(latencies) // 2] * 1000:.1f} ms, p99 {latencies[len(latencies) * 99 // 100] * 1000:.0f} ms; wrong ends {len(wrong)}")
    assert not wrong, wrong
