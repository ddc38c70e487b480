"""`hearth nodes`, `hearth drain`, `hearth forget` against a real cluster under load."""

import json
import os
import signal
import subprocess

import pytest
from harness import Cluster, create, hearth, invoke, nodes, until
from test_rolling import APP, Balanced, is_ready


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("operators"), controllers=3, workers=2, gateways=2).start()
    create(cluster.client(), "load", {"app.py": APP}, Timeout=10)
    create(cluster.client(), "written", {"app.py": APP})
    yield cluster
    cluster.stop()


def test_all_nodes_are_listed_with_role_state_and_release(three):
    until(lambda: len(nodes(three)) == 7, "seven nodes", 20)
    assert all(node["alive"] and not node["draining"] for node in nodes(three).values())
    text = hearth(three, "nodes").stdout
    print(text)
    assert len(text.splitlines()) == 8 and "alive, leads" in text


def test_a_worker_is_drained_and_comes_back_without_a_failed_request(three):
    worker = three.nodes("worker")[0]
    with Balanced(three, "load") as load:
        load.more(50)
        hearth(three, "drain", worker["id"], "--wait", "--timeout-s", 60)
        node = nodes(three)["worker", worker["id"]]
        assert (node["draining"], node["sandboxes"], node["in_flight"]) == (True, 0, 0), node
        load.more(50)
        # The wish survives the process.
        os.kill(worker["pid"], signal.SIGKILL)
        three.wait_restarted(worker)
        load.more(50)
        node = nodes(three)["worker", worker["id"]]
        assert (node["draining"], node["sandboxes"]) == (True, 0), node
        hearth(three, "drain", worker["id"], "--undo")
        # The load may stay where it is warm; with the other one drained, the first must take it over.
        other = three.nodes("worker")[1]
        hearth(three, "drain", other["id"], "--wait", "--timeout-s", 60)
        load.more(50)
        assert nodes(three)["worker", worker["id"]]["sandboxes"] > 0
        hearth(three, "drain", other["id"], "--undo")
    load.tell("worker drained")
    assert not load.failed, load.failed[:5]
    assert not nodes(three)["worker", worker["id"]]["draining"]


def test_a_gateway_and_the_leader_are_drained_without_a_failed_request(three):
    gateway = three.nodes("gateway")[0]
    with Balanced(three, "load") as load:
        load.more(50)
        hearth(three, "drain", gateway["id"])
        until(lambda: not is_ready(gateway), "the gateway is not ready", 10)
        load.more(50)
        hearth(three, "drain", gateway["id"], "--undo")
        until(lambda: is_ready(gateway), "the gateway is ready", 10)
        leader = json.loads(hearth(three, "nodes", "--json").stdout)["leader"]
        hearth(three, "drain", leader, "--wait", "--timeout-s", 30)
        load.more(50)
        assert json.loads(hearth(three, "nodes", "--json").stdout)["leader"] != leader
        hearth(three, "drain", leader, "--undo")
    load.tell("gateway and leader drained")
    assert not load.failed and not load.failed_writes, (load.failed[:5], load.failed_writes[:5])


def test_a_worker_is_forgotten_only_when_it_is_silent_or_by_force(three):
    worker = three.nodes("worker")[1]
    refused = hearth(three, "forget", worker["id"], check=False)
    assert refused.returncode == 1 and "is alive" in refused.stderr, refused
    assert hearth(three, "forget", 999, check=False).returncode == 1
    os.kill(worker["pid"], signal.SIGSTOP)
    try:
        until(lambda: not nodes(three)["worker", worker["id"]]["alive"], "it is silent", 20)
        hearth(three, "forget", worker["id"])
        assert ("worker", worker["id"]) not in nodes(three)
        assert invoke(three.client(), "load", 1)[1] == ["ok", 1]
    finally:
        os.kill(worker["pid"], signal.SIGCONT)
    # It was not dead, but its life is over: another one is welcome.
    os.kill(worker["pid"], signal.SIGKILL)
    three.wait_restarted(worker)
    until(lambda: nodes(three)["worker", worker["id"]]["alive"], "it is back", 30)
