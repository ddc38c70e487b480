"""The network of functions, in network namespaces of the test's own: one is the machine of the cluster, one the world.

    function -- router (the worker's) -- machine 192.0.2.1 -- 192.0.2.2 world, which also has 10.9.0.1 and 169.254.169.254
"""

import concurrent.futures
import http.server
import os
import socket
import socketserver
import struct
import subprocess
import threading
import time

import pytest
from harness import Cluster, create, invoke, until
from namespaces import inside, linked, run

APP = """
import socket, time, urllib.request
def attempt(host, port, timeout):
    try:
        with socket.create_connection((host, port), timeout=timeout) as connection:
            connection.settimeout(timeout)
            return connection.recv(100).decode() or "silence"
    except TimeoutError:
        return "timeout"
    except OSError as error:
        return error.strerror or str(error)
def handler(event, context):
    what = event["do"]
    if what == "connect":
        return attempt(event["host"], event["port"], event.get("timeout", 2))
    if what == "resolve":
        return socket.gethostbyname(event["name"])
    if what == "addresses":
        return [line.split()[-1] for line in open("/proc/net/fib_trie") if "32 host" in line or "|--" in line]
    if what == "listen":
        server = socket.create_server(("0.0.0.0", 8099))
        server.settimeout(event["for"])
        own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        own.connect(("192.0.2.2", 9))
        try:
            server.accept()
            return "somebody came"
        except TimeoutError:
            return own.getsockname()[0]
    if what == "download":
        # A sandbox that was quiet may take a second's worth at once.
        begin, count, free = None, 0, 12 * 2**20
        with socket.create_connection(("192.0.2.2", 7003)) as connection:
            while chunk := connection.recv(65536):
                count += len(chunk)
                if begin is None and count > free:
                    begin, count = time.monotonic(), 0
        return count / (time.monotonic() - begin)
    if what == "raw":
        try:
            socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)
        except OSError as error:
            return error.strerror
"""

class Greet(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(f"hello {self.client_address[0]}".encode())


class Stream(socketserver.BaseRequestHandler):
    def handle(self):
        for _ in range(160):
            self.request.sendall(b"x" * 262_144)


class Names(socketserver.BaseRequestHandler):
    """Every name is 192.0.2.2."""

    def handle(self):
        query, reply = self.request
        end = query.index(b"\0", 12) + 5
        header = query[:2] + struct.pack(">HHHHH", 0x8180, 1, 1, 0, 0)
        record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + socket.inet_aton("192.0.2.2")
        reply.sendto(header + query[12:end] + record, self.client_address)


def serve(namespace, kind, address, handler):
    with inside(namespace):
        kind.allow_reuse_address = True
        server = kind(address, handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture(scope="module")
def world():
    servers = []
    with linked("network", ("10.9.0.1/32", "169.254.169.254/32")) as (machine, outside):
        try:
            tcp = socketserver.ThreadingTCPServer
            for address in ("192.0.2.2", "10.9.0.1", "169.254.169.254"):
                servers.append(serve(outside, tcp, (address, 7001), Greet))
            servers.append(serve(outside, tcp, ("10.9.0.1", 7002), Greet))
            servers.append(serve(outside, tcp, ("192.0.2.2", 7003), Stream))
            servers.append(serve(outside, socketserver.ThreadingUDPServer, ("192.0.2.2", 53), Names))
            servers.append(serve(machine, tcp, ("192.0.2.1", 7001), Greet))
            yield machine, outside
        finally:
            for server in servers:
                server.shutdown()
                server.server_close()


OPTIONS = """
[worker.network]
dns = ["192.0.2.2"]
deny = ["10.9.0.0/16"]
allow = ["10.9.0.1:7002"]
bandwidth = "8MiB"
"""


@pytest.fixture(scope="module")
def function(world, tmp_path_factory):
    """A function on a cluster whose machine is the namespace, and how to call it."""
    directory = tmp_path_factory.mktemp("network")
    options = directory / "options.toml"
    options.write_text(OPTIONS)
    with inside(world[0]):
        cluster = Cluster(directory, workers=2, network="egress", extra=["--options", str(options)]).start()
        try:
            client = cluster.client()
            create(client, "f", {"app.py": APP}, Timeout=20)

            def call(do, **event):
                answer, got = invoke(client, "f", {"do": do, **event})
                assert "FunctionError" not in answer, got
                return got

            yield cluster, client, call
        finally:
            cluster.stop()


def connect(call, host, port):
    return call("connect", host=host, port=port)


def test_a_function_reaches_out_by_address_and_by_name(function):
    _, _, call = function
    assert connect(call, "192.0.2.2", 7001) == "hello 192.0.2.1", "as the machine"
    assert call("resolve", name="anything.example") == "192.0.2.2"
    assert connect(call, "anything.example", 7001).startswith("hello")


def test_a_function_whose_tag_says_so_has_loopback_alone(function):
    _, client, _ = function
    create(client, "alone", {"app.py": APP}, Timeout=20, Tags={"hearth:network": "isolated"})
    event = {"do": "connect", "host": "192.0.2.2", "port": 7001}
    assert invoke(client, "alone", event)[1] == "Network is unreachable"
    assert invoke(client, "alone", {"do": "addresses"})[1].count("127.0.0.1") >= 1


def test_what_is_the_clusters_or_nobodys_is_refused_at_once(function):
    cluster, _, call = function
    refused = {"No route to host", "Connection refused"}
    begin = time.monotonic()
    assert connect(call, "192.0.2.1", 7001) in refused, "a service of the machine"
    assert connect(call, "169.254.169.254", 7001) in refused, "metadata of clouds"
    for node in cluster.info["nodes"]:
        port = int(node["addr"].rsplit(":", 1)[1])
        for host in ("127.0.0.1", "192.0.2.1", "198.18.0.1", "198.18.0.5", "198.19.0.1"):
            assert connect(call, host, port) in refused | {"Network is unreachable"}, (host, node)
    assert time.monotonic() - begin < 20, "none waited"
    assert call("raw") == "Operation not permitted"


def test_the_operators_lists_are_kept(function):
    _, _, call = function
    assert connect(call, "10.9.0.1", 7001) == "No route to host", "denied"
    assert connect(call, "10.9.0.1", 7002).startswith("hello"), "one port of it is allowed"


def test_nobody_reaches_in_and_sandboxes_do_not_reach_each_other(function, world):
    _, _, call = function

    def within(do, **event):
        with inside(world[0]):
            return call(do, **event)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        listening = pool.submit(within, "listen", **{"for": 3})
        time_limit = time.monotonic() + 2.5
        # Every address that a sandbox of either worker may have.
        found = []
        while time.monotonic() < time_limit:
            for n in range(2, 12):
                got = within("connect", host=f"198.19.0.{n}", port=8099, timeout=0.2)
                found.append(got)
        own = listening.result()
    assert own.startswith("198.19.") and set(found) <= {"No route to host", "timeout", "Connection refused"}, set(found)
    with inside(world[1]):
        run("ip", "route", "add", "198.19.0.0/16", "via", "192.0.2.1")
        run("ip", "route", "add", "198.18.0.0/16", "via", "192.0.2.1")
        for target in (own, "198.18.0.2"):
            with pytest.raises(OSError):
                socket.create_connection((target, 8099), timeout=0.3)


def test_a_sandbox_has_no_more_than_its_bandwidth(function):
    _, _, call = function
    rate = call("download") / 2**20
    print(f"{rate:.1f} MiB/s of 8")
    assert 3 < rate < 9.5


def test_an_isolated_worker_gives_loopback_alone(world, tmp_path):
    with inside(world[0]):
        cluster = Cluster(tmp_path).start()
        try:
            client = cluster.client()
            create(client, "f", {"app.py": APP})
            assert invoke(client, "f", {"do": "connect", "host": "192.0.2.2", "port": 7001})[1] == "Network is unreachable"
        finally:
            cluster.stop()


def test_the_network_comes_back_after_the_worker_was_killed(function):
    cluster, _, call = function
    assert connect(call, "192.0.2.2", 7001).startswith("hello")
    for node in cluster.nodes("worker"):
        cluster.kill(node)
    for node in cluster.nodes("worker"):
        cluster.wait_restarted(node)
    until(lambda: connect(call, "192.0.2.2", 7001).startswith("hello"), "reached again", 30)
    links = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout
    assert links.count("hearth") == 2, links
