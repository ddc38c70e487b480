"""Network namespaces of a test's own: one is the machine of a cluster, one the world outside."""

import contextlib
import ctypes
import os
import subprocess

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


def run(*command):
    subprocess.run(command, check=True, capture_output=True)


@contextlib.contextmanager
def inside(namespace):
    """The calling thread, and what it starts, is in the namespace."""
    with open("/proc/thread-self/ns/net") as before, open(f"/run/netns/{namespace}") as wanted:
        assert LIBC.setns(wanted.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        try:
            yield
        finally:
            assert LIBC.setns(before.fileno(), CLONE_NEWNET) == 0


@contextlib.contextmanager
def linked(name, further=()):
    """The names of a machine, 192.0.2.1, and of the world, 192.0.2.2 and the further addresses, to which its default route leads."""
    machine, outside = f"hearth-m{name}{os.getpid()}", f"hearth-w{name}{os.getpid()}"
    for namespace in (machine, outside):
        run("ip", "netns", "add", namespace)
        run("ip", "-n", namespace, "link", "set", "lo", "up")
    try:
        run("ip", "-n", machine, "link", "add", "out0", "type", "veth", "peer", "name", "in0", "netns", outside)
        run("ip", "-n", machine, "addr", "add", "192.0.2.1/24", "dev", "out0")
        for address in ("192.0.2.2/24", *further):
            run("ip", "-n", outside, "addr", "add", address, "dev", "in0")
        run("ip", "-n", machine, "link", "set", "out0", "up")
        run("ip", "-n", outside, "link", "set", "in0", "up")
        run("ip", "-n", machine, "route", "add", "default", "via", "192.0.2.2")
        yield machine, outside
    finally:
        for namespace in (machine, outside):
            run("ip", "netns", "del", namespace)
