"""Network namespaces: one for each node, joined by a bridge in one more, which the harness lives in. Names carry the
harness's pid; those of a harness that is gone are removed at the next start."""

import ctypes
import os
import pathlib
import re
import subprocess

CLONE_NEWNET = 0x40000000
RUN = pathlib.Path("/run/netns")
PREFIX = "hearthchaos"
HUB_ADDRESS = "10.77.0.254"


def sh(*words):
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, timeout=30)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, words))}: {done.stderr.strip()}")
    return done.stdout


def remove_stale():
    """What a harness left that was killed."""
    for path in RUN.glob(f"{PREFIX}*") if RUN.exists() else ():
        pid = re.match(rf"{PREFIX}(\d+)", path.name)
        if pid and not pathlib.Path("/proc", pid[1]).exists():
            subprocess.run(["ip", "netns", "del", path.name], capture_output=True)


class Net:
    def __init__(self):
        self.tag = f"{PREFIX}{os.getpid()}"
        self.hub = f"{self.tag}-hub"
        self.names = {}
        self.made = []
        remove_stale()

    def start(self):
        """Makes the hub and moves this process's main thread, and what it starts from now on, into it."""
        self._make(self.hub)
        for words in (
            ("link", "set", "lo", "up"), ("link", "add", "bridge", "type", "bridge"),
            ("addr", "add", f"{HUB_ADDRESS}/24", "dev", "bridge"), ("link", "set", "bridge", "up"),
        ):
            sh("ip", "-n", self.hub, *words)
        libc = ctypes.CDLL(None, use_errno=True)
        with open(RUN / self.hub) as namespace:
            if libc.setns(namespace.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        return self

    def _make(self, name):
        sh("ip", "netns", "add", name)
        self.made.append(name)

    def add(self, node, address):
        name = f"{self.tag}-{node}"
        port = f"v-{node}"
        self._make(name)
        sh("ip", "-n", self.hub, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
        sh("ip", "-n", self.hub, "link", "set", port, "master", "bridge")
        sh("ip", "-n", self.hub, "link", "set", port, "up")
        sh("ip", "-n", name, "link", "set", "lo", "up")
        sh("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
        sh("ip", "-n", name, "link", "set", "eth0", "up")
        self.inside(node, "nft", "add table ip chaos; add chain ip chaos in { type filter hook input priority 0; };"
                                 " add chain ip chaos out { type filter hook output priority 0; }")
        self.names[node] = address

    def enter(self, node):
        """Words before a command that make it run in the node's namespace and leave its mounts (and cgroups) alone."""
        return ["nsenter", f"--net={RUN / f'{self.tag}-{node}'}"]

    def inside(self, node, *words):
        return sh(*self.enter(node), *words)

    def drop(self, node, others, incoming=True, outgoing=True):
        """Packets between the node and the others vanish, in the directions named (seen from the node)."""
        addresses = ", ".join(self.names[other] for other in others)
        if incoming:
            self.inside(node, "nft", f"add rule ip chaos in ip saddr {{ {addresses} }} drop")
        if outgoing:
            self.inside(node, "nft", f"add rule ip chaos out ip daddr {{ {addresses} }} drop")

    def slow(self, node, rate):
        """Both directions of the node's link carry `rate` (as tc has it) and queue up to half a second."""
        shape = ("root", "tbf", "rate", rate, "burst", "16k", "latency", "500ms")
        self.inside(node, "tc", "qdisc", "add", "dev", "eth0", *shape)
        sh("tc", "-n", self.hub, "qdisc", "add", "dev", f"v-{node}", *shape)

    def heal(self, node):
        self.inside(node, "nft", "flush table ip chaos")
        for words in (
            [*self.enter(node), "tc", "qdisc", "del", "dev", "eth0", "root"],
            ["tc", "-n", self.hub, "qdisc", "del", "dev", f"v-{node}", "root"],
        ):
            subprocess.run(words, capture_output=True)

    def stop(self):
        for name in reversed(self.made):
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
        self.made.clear()
