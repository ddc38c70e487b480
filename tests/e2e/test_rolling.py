"""Every node restarted, one after the other, under steady load: no request fails. What a failed request is: an answer that
is an error, or none. Clients do what a load balancer with a health check does: they ask /readyz of the gateways ten times a
second and send to one that is ready; they do not repeat a request."""

import http.client
import os
import signal
import threading
import time

import botocore.exceptions
import pytest
from harness import Cluster, Threads, create, invoke, until

APP = "import time\n\ndef handler(event, context):\n    time.sleep(0.02)\n    return ['ok', event]\n"
CLIENTS = 4


def is_ready(node):
    try:
        connection = http.client.HTTPConnection(node["admin_addr"], timeout=1)
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False


class Balanced(Threads):
    """Steady load over the gateways that are ready."""

    def __init__(self, cluster, name, writes=True):
        super().__init__()
        self.cluster, self.name = cluster, name
        self.gateways = cluster.nodes("gateway")
        self.ready = list(self.gateways)
        self.answered, self.failed = 0, []
        self.writes, self.failed_writes = 0, []
        self.threads = [threading.Thread(target=self.watch)]
        self.threads += [threading.Thread(target=self.invoking, args=(n,)) for n in range(CLIENTS)]
        self.threads += [threading.Thread(target=self.writing)] if writes else []

    def watch(self):
        while not self.stopping.wait(0.1):
            self.ready = [node for node in self.gateways if is_ready(node)]

    def pick(self, turn, clients):
        ready = self.ready or self.gateways
        node = ready[turn % len(ready)]
        if node["id"] not in clients:
            clients[node["id"]] = self.cluster.client(f"http://{node['addr']}")
        return clients[node["id"]]

    def invoking(self, turn):
        clients, n = {}, turn * 1_000_000
        while not self.stopping.is_set():
            n += 1
            begun = time.monotonic()
            try:
                answer, got = invoke(self.pick(turn, clients), self.name, n)
                error = None if got == ["ok", n] and "FunctionError" not in answer else f"wrong: {got}"
            except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as failure:
                error = str(failure)
            with self.lock:
                self.answered += error is None
                if error:
                    self.failed.append((round(begun - self.begun, 2), round(time.monotonic() - begun, 2), error))

    def writing(self):
        clients, n = {}, 0
        while not self.stopping.wait(0.1):
            n += 1
            try:
                client = self.pick(n, clients)
                client.update_function_configuration(FunctionName="written", Description=str(n))
                self.writes += 1
                until(lambda: client.get_function_configuration(FunctionName="written")["LastUpdateStatus"]
                      == "Successful", "the update settled", 30)
            except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError, AssertionError) as failure:
                self.failed_writes.append((round(time.monotonic() - self.begun, 2), str(failure)))

    def __enter__(self):
        self.begun = time.monotonic()
        return super().__enter__()

    def more(self, count):
        begin = self.answered
        until(lambda: self.answered >= begin + count, f"{count} more answers; {self.failed[-3:]}", 60)

    def tell(self, what):
        print(f"{what}: answered {self.answered}, failed {len(self.failed)} {self.failed[:4]}, "
              f"writes {self.writes}, failed {len(self.failed_writes)} {self.failed_writes[:4]}")


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("rolling"), controllers=3, workers=2, gateways=2).start()
    create(cluster.client(), "load", {"app.py": APP}, Timeout=10)
    create(cluster.client(), "written", {"app.py": APP})
    yield cluster
    cluster.stop()


def restart(cluster, node):
    os.kill(node["pid"], signal.SIGTERM)
    cluster.wait_restarted(node)
    until(lambda: is_ready(node), f"{node['role']} {node['id']} ready")


@pytest.mark.parametrize("role", ["worker", "gateway", "controller"])
def test_a_role_is_restarted_node_by_node_without_a_failed_request(three, role):
    with Balanced(three, "load") as load:
        load.more(50)
        for node in three.nodes(role):
            restart(three, node)
            load.more(50)
    load.tell(role)
    assert not load.failed, load.failed[:5]
    assert not load.failed_writes, load.failed_writes[:5]


def test_all_roles_are_restarted_one_after_the_other_without_a_failed_request(three):
    with Balanced(three, "load") as load:
        load.more(50)
        for role in ("controller", "worker", "gateway"):
            for node in three.nodes(role):
                restart(three, node)
                load.more(20)
    load.tell("all")
    assert not load.failed, load.failed[:5]
    assert not load.failed_writes, load.failed_writes[:5]
