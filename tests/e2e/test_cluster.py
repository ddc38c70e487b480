"""Three controllers, two workers, two gateways as real processes, and what SIGKILL does to them."""

import concurrent.futures
import os
import signal
import threading
import time

import botocore.exceptions
import pytest
from harness import Cluster, Threads, active, alive, create, invoke, until, zipped

APP = "def handler(event, context):\n    return ['{tag}', event]\n"


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("three"), controllers=3, workers=2, gateways=2).start()
    yield cluster
    cluster.stop()


class Load(Threads):
    """Invokes and creates functions through all gateways until stopped; remembers every answer."""

    def __init__(self, cluster, name):
        super().__init__()
        self.cluster, self.name = cluster, name
        self.answered = self.failed = 0
        self.wrong, self.errors, self.acknowledged, self.gaps = [], [], [], []
        self.threads = [threading.Thread(target=self.invoking, args=(n,)) for n in range(3)]
        self.threads.append(threading.Thread(target=self.creating))

    def clients(self):
        return [self.cluster.client(endpoint) for endpoint in self.cluster.info["endpoints"]]

    def invoking(self, seed):
        clients, n, last = self.clients(), seed * 1_000_000, time.monotonic()
        while not self.stopping.is_set():
            n += 1
            try:
                answer, got = invoke(clients[n % len(clients)], self.name, n)
                if "FunctionError" in answer:
                    with self.lock:
                        self.failed += 1
                        self.errors.append(got)
                elif got != ["load", n]:
                    self.wrong.append((n, got))
                else:
                    with self.lock:
                        self.answered += 1
                        self.gaps.append(time.monotonic() - last)
                    last = time.monotonic()
            except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
                with self.lock:
                    self.failed += 1
                    self.errors.append(str(error))

    def creating(self):
        clients, n = self.clients(), 0
        while not self.stopping.is_set():
            n += 1
            name = f"made-{os.getpid()}-{id(self) % 9999}-{n}"
            try:
                create(clients[n % len(clients)], name, {"app.py": APP.format(tag=name)}, wait=False)
                self.acknowledged.append(name)
            except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
                with self.lock:
                    self.errors.append(str(error))
            self.stopping.wait(0.2)


def progress(load, count):
    start = load.answered
    until(lambda: load.answered >= start + count, f"{count} more answers; errors: {load.errors[-3:]}", 60)


def test_every_node_can_be_killed_under_load(three):
    client = three.client()
    create(client, "load", {"app.py": APP.format(tag="load")}, Timeout=10)
    with Load(three, "load") as load:
        progress(load, 50)
        for node in list(three.info["nodes"]):
            three.kill(node)
            progress(load, 20)
            three.wait_restarted(node)
            progress(load, 20)
    print(f"answered {load.answered}, failed {load.failed}, created {len(load.acknowledged)}, "
          f"longest gap {max(load.gaps):.2f} s, errors {sorted(set(map(str, load.errors)))[:8]}")
    assert not load.wrong, load.wrong[:5]
    assert load.failed <= 0.2 * load.answered, (load.failed, load.answered, load.errors[-5:])
    found = {
        f["FunctionName"]: f for page in client.get_paginator("list_functions").paginate() for f in page["Functions"]
    }
    lost = [name for name in load.acknowledged if name not in found]
    assert not lost, f"{len(lost)} acknowledged functions lost: {lost[:5]}"
    for name in load.acknowledged[:: max(1, len(load.acknowledged) // 5)]:
        active(client, name)
        assert invoke(client, name, 1)[1] == [name, 1]


def test_a_killed_leader_is_replaced_within_two_seconds(three):
    client = three.client()
    create(client, "moved", {"app.py": APP.format(tag="moved")})
    node = until(three.leader, "a leader")
    begin = time.monotonic()
    three.kill(node)

    def written():
        client.tag_resource(Resource="arn:aws:lambda:us-east-1:000000000000:function:moved", Tags={"t": str(begin)})
        return True

    until(written, "a write after the leader's death", 20)
    took = time.monotonic() - begin
    print(f"first write {took:.2f} s after the leader was killed")
    assert took < 2.0
    three.wait_restarted(node)


def test_with_every_controller_stopped_invocations_go_on(three):
    client = three.client()
    create(client, "steady", {"app.py": APP.format(tag="steady")}, Timeout=10)
    assert invoke(client, "steady", 0)[1] == ["steady", 0]
    controllers = three.nodes("controller")
    for node in controllers:
        os.kill(node["pid"], signal.SIGSTOP)
    try:
        for endpoint in three.info["endpoints"]:
            direct = three.client(endpoint)
            for n in range(20):
                assert invoke(direct, "steady", n)[1] == ["steady", n]
        # More at once than there are warm sandboxes: cold starts on workers that hold permits and code.
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            wide = three.client(max_pool_connections=6)
            assert all(pool.map(lambda n: invoke(wide, "steady", n)[1] == ["steady", n], range(60)))
    finally:
        for node in controllers:
            os.kill(node["pid"], signal.SIGCONT)
    until(lambda: client.tag_resource(
        Resource="arn:aws:lambda:us-east-1:000000000000:function:steady", Tags={"a": "b"}), "writes again")


def test_everything_is_there_after_every_process_was_killed(three):
    client = three.client()
    create(client, "kept", {"app.py": APP.format(tag="kept")}, Environment={"Variables": {"KEPT": "1"}})
    client.put_function_concurrency(FunctionName="kept", ReservedConcurrentExecutions=7)
    before = client.get_function(FunctionName="kept")
    three.kill_everything()
    three.start()
    client = three.client()
    after = client.get_function(FunctionName="kept")
    for key in ("CodeSha256", "RevisionId", "Environment", "LastModified", "FunctionArn"):
        assert before["Configuration"][key] == after["Configuration"][key]
    assert after["Concurrency"] == {"ReservedConcurrentExecutions": 7}
    assert until(lambda: invoke(client, "kept", 5)[1], "an answer") == ["kept", 5]


def test_nothing_is_left_after_a_stop(tmp_path):
    cluster = Cluster(tmp_path / "c", controllers=1, workers=2, gateways=1).start()
    client = cluster.client()
    create(client, "one", {"app.py": APP.format(tag="one")})
    assert invoke(client, "one", 1)[1] == ["one", 1]
    pids = [node["pid"] for node in cluster.info["nodes"]]
    cluster.stop()
    assert not any(alive(pid) for pid in pids)
    assert cluster.process.returncode == 0
    with open("/proc/self/mountinfo") as mounts:
        assert str(tmp_path) not in mounts.read()


def test_a_full_disk_refuses_code_and_corrupts_nothing(tmp_path):
    import subprocess
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "hearth-test", str(disk)], check=True)
    try:
        cluster = Cluster(disk / "c").start()
        try:
            client = cluster.client()
            create(client, "before", {"app.py": APP.format(tag="before")})
            free = os.statvfs(disk)
            with open(disk / "filler", "wb") as filler:
                filler.write(b"\0" * (free.f_bavail * free.f_frsize - (1 << 20)))
            with pytest.raises(botocore.exceptions.ClientError) as error:
                create(client, "toobig", {"app.py": APP.format(tag="x"), "data": os.urandom(8 << 20)})
            assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] >= 500, error.value
            os.unlink(disk / "filler")
            names = [f["FunctionName"] for f in client.list_functions()["Functions"]]
            assert names == ["before"]
            assert invoke(client, "before", 1)[1] == ["before", 1]
            create(client, "after", {"app.py": APP.format(tag="after"), "data": os.urandom(4 << 20)})
            assert invoke(client, "after", 1)[1] == ["after", 1]
        finally:
            cluster.stop()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_idle_sandboxes_give_way_when_the_memory_is_full(tmp_path):
    cluster = Cluster(tmp_path, extra=["--memory-mib", "512"]).start()
    try:
        client = cluster.client()
        for n in range(9):
            create(client, f"f{n}", {"app.py": APP.format(tag=n)})
            begin = time.monotonic()
            assert invoke(client, f"f{n}", 1)[1] == [str(n), 1]
            assert time.monotonic() - begin < 10, f"function {n} waited for memory"
    finally:
        cluster.stop()
