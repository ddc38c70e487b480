"""Workers that stop or are starved, as real processes under load: who waits for them, and what is answered."""

import http.client
import os
import signal
import threading
import time

import botocore.exceptions
import pytest
from harness import Cluster, Threads, create, invoke, until

APP = "import time\n\ndef handler(event, context):\n    time.sleep(0.01)\n    return ['ok', event]\n"
CLIENTS = 6


def metric(node, name):
    """The value of a metric without labels, or the sum over its labels, of a node's admin port."""
    connection = http.client.HTTPConnection(node["admin_addr"], timeout=2)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    lines = [line for line in text.splitlines() if line.split("{")[0].split(" ")[0] == name]
    assert lines, f"{name} is not among the metrics of {node['role']} {node['id']}"
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


class Load(Threads):
    """Clients that invoke one function as fast as they are answered, retries off; remembers every request."""

    def __init__(self, cluster, name):
        super().__init__()
        self.cluster, self.name = cluster, name
        self.done = []  # (begun, took, error or None)
        self.threads = [threading.Thread(target=self.run, args=(n,)) for n in range(CLIENTS)]

    def run(self, seed):
        client, n = self.cluster.client(), seed * 1_000_000
        while not self.stopping.is_set():
            n += 1
            begun, error = time.monotonic(), None
            try:
                answer, got = invoke(client, self.name, n)
                if "FunctionError" in answer or got != ["ok", n]:
                    error = f"wrong: {got}"
            except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as failure:
                error = str(failure)
            self.done.append((begun, time.monotonic() - begun, error))

    def more(self, count, timeout=60):
        begin = len(self.done)
        until(lambda: len(self.done) >= begin + count, f"{count} more answers", timeout)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    # Neither worker has memory for a sandbox for every client: the load needs both.
    memory = ["--memory-mib", "1024"]
    cluster = Cluster(tmp_path_factory.mktemp("pair"), controllers=1, workers=2, gateways=1, extra=memory).start()
    create(cluster.client(), "load", {"app.py": APP}, Timeout=10)
    yield cluster
    cluster.stop()


def both_work(cluster, load):
    def working():
        before = [metric(node, "hearth_invocations_total") for node in cluster.nodes("worker")]
        load.more(50)
        after = [metric(node, "hearth_invocations_total") for node in cluster.nodes("worker")]
        return all(b > a for a, b in zip(before, after))

    until(working, "both workers get invocations", 60)


def report(name, load, since):
    after = [(begun - since, took, error) for begun, took, error in load.done if begun + took > since]
    failed = [(round(b, 2), round(t, 2), e) for b, t, e in after if e]
    waited = [round(t, 2) for b, t, e in after if b < 0.5 and t > 0.3]
    late = [round(t, 2) for b, t, e in after if b >= 2.0]
    print(f"{name}: {len(after)} answers after it, {len(failed)} failed {failed[:3]}; "
          f"waited at first {waited}; slowest of those begun 2 s later {max(late, default=0)} s")
    return after


def test_a_stopped_worker_costs_half_a_second_and_fails_only_what_it_was_running(pair):
    stopped = pair.nodes("worker")[0]
    with Load(pair, "load") as load:
        both_work(pair, load)
        os.kill(stopped["pid"], signal.SIGSTOP)
        begin = time.monotonic()
        try:
            until(lambda: time.monotonic() > begin + 6, "six seconds of the fault", 10)
        finally:
            os.kill(stopped["pid"], signal.SIGCONT)
        after = report("stopped", load, begin)
        both_work(pair, load)
        print(f"gets invocations again {time.monotonic() - begin - 6:.1f} s after it goes on")
    gateway = pair.nodes("gateway")[0]
    print(f"taken back: {metric(gateway, 'hearth_gateway_recalled_total'):.0f}")
    failed = [done for done in after if done[2]]
    # A client has one request in flight, and what the worker had begun is not repeated.
    assert len(failed) <= CLIENTS, failed
    assert all(begun < 0.5 for begun, _, _ in failed), failed
    assert all(took < 1.0 for begun, took, _ in after if begun >= 2.0), "somebody waited for the stopped worker"
    assert not [done for done in load.done if done[0] > begin + 6 and done[2]], "failures after it went on"


def test_a_killed_worker_fails_only_what_it_was_running(pair):
    killed = pair.nodes("worker")[1]
    with Load(pair, "load") as load:
        both_work(pair, load)
        begin = time.monotonic()
        pair.kill(killed)
        pair.wait_restarted(killed)
        both_work(pair, load)
        after = report("killed", load, begin)
    failed = [done for done in after if done[2]]
    assert len(failed) <= CLIENTS, failed
    assert all(begun < 0.5 for begun, _, _ in failed), failed


def test_a_starved_worker_loses_traffic_and_gets_it_back(pair):
    """Stopped for 400 of every 420 ms: something has nearly all of the worker's time."""
    starved = pair.nodes("worker")[0]
    gateway = pair.nodes("gateway")[0]
    enough = threading.Event()

    def steal():
        while not enough.is_set():
            os.kill(starved["pid"], signal.SIGSTOP)
            enough.wait(0.4)
            os.kill(starved["pid"], signal.SIGCONT)
            enough.wait(0.02)

    thief = threading.Thread(target=steal)
    try:
        with Load(pair, "load") as load:
            both_work(pair, load)
            begin = time.monotonic()
            thief.start()
            until(lambda: metric(gateway, "hearth_gateway_workers_ejected") > 0, "the starved worker is ejected", 20)
            print(f"ejected after {time.monotonic() - begin:.2f} s")
            assert time.monotonic() - begin < 2.0
            load.more(100)
            report("starved", load, begin)
            enough.set()
            thief.join()
            begin = time.monotonic()
            until(lambda: metric(gateway, "hearth_gateway_workers_ejected") == 0, "it is trusted again", 20)
            both_work(pair, load)
            print(f"works again after {time.monotonic() - begin:.2f} s")
        assert not [done for done in load.done if done[2]], [d for d in load.done if d[2]][:3]
    finally:
        enough.set()
        os.kill(starved["pid"], signal.SIGCONT)
