"""The faults a data centre knows, each a context: it begins with what is broken and ends with it mended."""

import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

HOUR = 3_600


@dataclass
class Hit:
    """What was done to whom, and when it took effect."""

    node: object
    at: float = field(default_factory=time.monotonic)
    note: str = ""
    # Whether metadata writes had to find a new leader.
    leader_lost: bool = False


def other_than(cluster, role, *nodes):
    return next(n for n in cluster.of(role) if n not in nodes)


def everyone_but(cluster, node):
    return [name for name in cluster.nodes if name != node.name]


def killed(choose, leader_lost=False):
    @contextmanager
    def fault(cluster):
        node = choose(cluster)
        hit = Hit(node, leader_lost=leader_lost)
        node.kill()
        yield hit
        node.start()
    return fault


def stopped(choose, leader_lost=False):
    @contextmanager
    def fault(cluster):
        node = choose(cluster)
        hit = Hit(node, leader_lost=leader_lost)
        node.signal(signal.SIGSTOP)
        try:
            yield hit
        finally:
            node.signal(signal.SIGCONT)
    return fault


def cut_off(choose, others=everyone_but, leader_lost=False, **directions):
    """From the other nodes; what they and the clients share with the hub stays."""
    @contextmanager
    def fault(cluster):
        node = choose(cluster)
        names = others(cluster, node)
        hit = Hit(node, leader_lost=leader_lost)
        cluster.net.drop(node.name, names, **directions)
        try:
            yield hit
        finally:
            cluster.net.heal(node.name)
    return fault


def slow(choose, rate):
    @contextmanager
    def fault(cluster):
        node = choose(cluster)
        cluster.net.slow(node.name, rate)
        try:
            yield Hit(node, note=rate)
        finally:
            cluster.net.heal(node.name)
    return fault


def full_disk(name):
    @contextmanager
    def fault(cluster):
        node = cluster.nodes[name]
        leads = node.role == "controller" and cluster.leader() is node
        node.fill()
        hit = Hit(node, note="leader" if leads else "")
        try:
            yield hit
        finally:
            node.unfill()
            if not node.is_alive():
                hit.note = f"{hit.note} ended itself, restarted".strip()
                node.start()
    return fault


def clock_step(choose, seconds):
    @contextmanager
    def fault(cluster):
        node = choose(cluster)
        cluster.clock.step(node.name, seconds)
        try:
            yield Hit(node, note=f"{seconds:+} s")
        finally:
            cluster.clock.step(node.name, 0)
    return fault


def leader(cluster):
    return cluster.leader()


def follower(cluster):
    return other_than(cluster, "controller", cluster.leader())


def worker(cluster):
    return cluster.nodes["w1"]


def gateway(cluster):
    return cluster.nodes["g1"]


def controllers_only(cluster, node):
    return [n.name for n in cluster.of("controller") if n is not node]


# (name, fault, seconds it lasts)
FAULTS = [
    ("kill -9 leader", killed(leader, leader_lost=True), 8),
    ("kill -9 worker", killed(worker), 8),
    ("kill -9 follower", killed(follower), 8),
    ("kill -9 gateway", killed(gateway), 6),
    ("SIGSTOP leader", stopped(leader, leader_lost=True), 10),
    ("SIGSTOP worker", stopped(worker), 10),
    ("SIGSTOP gateway", stopped(gateway), 6),
    ("partition leader", cut_off(leader, leader_lost=True), 12),
    ("partition follower", cut_off(follower), 12),
    ("partition worker", cut_off(worker), 12),
    ("worker cut from controllers", cut_off(worker, controllers_only), 45),
    ("leader hears nobody", cut_off(leader, controllers_only, leader_lost=True, outgoing=False), 12),
    ("leader is heard by nobody", cut_off(leader, controllers_only, leader_lost=True, incoming=False), 12),
    ("worker is not heard by controllers", cut_off(worker, controllers_only, incoming=False), 12),
    ("slow link of leader", slow(leader, "512kbit"), 15),
    ("slow link of worker", slow(worker, "512kbit"), 15),
    ("full disk of a controller", full_disk("c3"), 12),
    ("full disk of a worker", full_disk("w2"), 12),
    ("clock of leader forward", clock_step(leader, HOUR), 8),
    ("clock of leader back", clock_step(leader, -HOUR), 8),
    ("clock of gateway forward", clock_step(gateway, 120), 6),
]
