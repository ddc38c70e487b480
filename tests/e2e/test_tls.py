"""TLS between nodes: on by default, who is refused and what they are told, joining with a token, renewals and a new CA under load."""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.request

import boto3
import pytest
from harness import HEARTH, RUNTIMES, Cluster, create, invoke, until

APP = {"app.py": "def handler(e, c):\n    return e\n"}


def hearth(*words, timeout=60):
    return subprocess.run([str(HEARTH), *map(str, words)], capture_output=True, text=True, timeout=timeout)


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def metrics(node):
    with urllib.request.urlopen(f"http://{node['admin_addr']}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    left = re.search(r"^hearth_tls_certificate_seconds_left (-?\d+)$", text, re.M)
    ca = re.search(r'^hearth_tls_ca_info\{issuer="(\w*)",trusted="([\w,]*)"\} 1$', text, re.M)
    return {"left": int(left[1]), "issuer": ca[1], "trusted": ca[2].split(",")}


def cluster_id(cluster):
    return json.loads((cluster.data_dir / "data" / "cluster.json").read_text())["cluster_id"]


class Node:
    """One process of a role, from a TOML file."""

    def __init__(self, directory, role, text):
        self.dir = directory
        self.dir.mkdir(parents=True, exist_ok=True)
        (self.dir / "node.toml").write_text(text)
        self.log = open(self.dir / "log", "wb")
        command = [str(HEARTH), role, "--config", str(self.dir / "node.toml")]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)

    def output(self):
        return (self.dir / "log").read_text(errors="replace")

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()


def worker_toml(directory, cluster, id, tls, name=None, allow="false"):
    controllers = json.dumps([node["addr"] for node in cluster.nodes("controller")])
    return (
        f'node_id = {id}\ncluster_id = "{name or cluster_id(cluster)}"\nlisten = "127.0.0.1:{free_port()}"\nadmin_listen = "127.0.0.1:{free_port()}"\n'
        f'data_dir = "{directory}/data"\ncontrollers = {controllers}\nruntimes_dir = "{RUNTIMES}"\nmemory_mib = 1024\n'
        f'[telemetry]\nlog_format = "json"\n[tls]\n{tls}\n'
    )


def token(cluster, *words):
    return hearth("token", "create", "--data-dir", cluster.data_dir / "data", *words)


def status(cluster):
    return hearth("status", "--data-dir", cluster.data_dir / "data").stdout


def alive_workers(cluster):
    rows = [line.split() for line in status(cluster).splitlines()]
    return {int(row[1]) for row in rows if row and row[0] == "worker" and row[3] == "yes"}


class Proxy:
    """Passes bytes on between a port of its own and `target`, and keeps them."""

    def __init__(self, target):
        host, port = target.rsplit(":", 1)
        self.target, self.seen = (host, int(port)), bytearray()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.addr = "127.0.0.1:%d" % self.socket.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            server = socket.create_connection(self.target)
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self.copy, args=(source, sink), daemon=True).start()

    def copy(self, source, sink):
        try:
            while data := source.recv(65536):
                self.seen += data
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, sink):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def close(self):
        self.socket.close()


@pytest.fixture(scope="module")
def tls_cluster(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("tls"), controllers=1, workers=1, gateways=2).start()
    yield cluster
    cluster.stop()


@pytest.fixture
def nodes():
    started = []
    yield started
    for node in started:
        node.stop()


def test_nodes_speak_tls_by_default_and_nobody_reads_along(tls_cluster, tmp_path, nodes):
    client = tls_cluster.client()
    create(client, "secret-name", APP)
    secret = "kept-between-nodes-" + os.urandom(8).hex()
    assert invoke(client, "secret-name", {"s": secret})[1] == {"s": secret}
    for node in tls_cluster.info["nodes"]:
        assert metrics(node)["left"] > 29 * 86_400, node

    # A worker that reaches the controller through a proxy: whatever passes there is no plaintext.
    proxy = Proxy(tls_cluster.nodes("controller")[0]["addr"])
    made = token(tls_cluster, "--role", "worker", "--id", 150)
    assert made.returncode == 0, made.stderr
    (tmp_path / "token").write_text(made.stdout)
    text = worker_toml(tmp_path / "w", tls_cluster, 150, f'join_token_file = "{tmp_path}/token"')
    text = re.sub(r"controllers = .*", f'controllers = ["{proxy.addr}"]', text)
    worker = Node(tmp_path / "w", "worker", text)
    nodes.append(worker)
    until(lambda: 150 in alive_workers(tls_cluster), "the worker behind the proxy is there")
    until(lambda: len(proxy.seen) > 4_000, "it has talked")
    for word in (b"secret-name", b"hearth.internal", cluster_id(tls_cluster).encode(), made.stdout.strip().split(".")[2].encode()):
        assert word not in proxy.seen, word
    proxy.close()


def test_plaintext_and_strangers_get_nothing_useful(tls_cluster):
    for node in tls_cluster.nodes("controller") + tls_cluster.nodes("worker"):
        host, port = node["addr"].rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=10) as raw:
            raw.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
            answer = b""
            while data := raw.recv(1024):
                answer += data
        assert len(answer) <= 7 and answer[:1] == b"\x15", f"an alert and no more: {answer!r}"
        # TLS without a certificate, as any TLS client speaks it.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with pytest.raises((ssl.SSLError, ConnectionError)):
            with socket.create_connection((host, int(port)), timeout=10) as raw, context.wrap_socket(raw) as secure:
                assert secure.version() == "TLSv1.3"
                secure.sendall(b"x")
                if not secure.recv(1):
                    raise ConnectionError
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ssl.SSLError, ConnectionError)):
            with socket.create_connection((host, int(port)), timeout=10) as raw:
                context.wrap_socket(raw)


def test_a_worker_joins_by_token_and_runs_an_invocation(tls_cluster, tmp_path, nodes):
    client = tls_cluster.client()
    create(client, "f", APP)
    made = token(tls_cluster, "--role", "worker")
    assert made.returncode == 0 and made.stdout.startswith("hearth1."), made.stderr
    (tmp_path / "token").write_text(made.stdout)
    tls = f'join_token_file = "{tmp_path}/token"'
    worker = Node(tmp_path / "w", "worker", worker_toml(tmp_path / "w", tls_cluster, 140, tls))
    nodes.append(worker)
    until(lambda: 140 in alive_workers(tls_cluster), "the worker is there")
    key = tmp_path / "w" / "data" / "tls" / "node.pem"
    assert key.stat().st_mode & 0o777 == 0o600 and "PRIVATE KEY" in key.read_text()
    # The other worker is stopped: only the new one can answer.
    first = tls_cluster.nodes("worker")[0]
    os.kill(first["pid"], signal.SIGSTOP)
    try:
        until(lambda: first["id"] not in alive_workers(tls_cluster), "the first worker is missed")
        assert invoke(client, "f", [1, 2])[1] == [1, 2]
    finally:
        os.kill(first["pid"], signal.SIGCONT)
    secret = made.stdout.strip().split(".")[2]
    assert secret not in worker.output(), "no secrets in logs"

    # The same token again, from another node.
    again = Node(tmp_path / "x", "worker", worker_toml(tmp_path / "x", tls_cluster, 141, tls))
    nodes.append(again)
    assert again.process.wait(60) != 0
    assert "was used already, by worker 140" in again.output(), again.output()
    # A restart needs no token.
    (tmp_path / "token").unlink()
    worker.stop()
    text = (tmp_path / "w" / "node.toml").read_text()
    nodes.append(Node(tmp_path / "w", "worker", text))
    until(lambda: 140 in alive_workers(tls_cluster), "the worker is back")


def test_tokens_that_are_not_good_are_refused(tls_cluster, tmp_path, nodes):
    made = token(tls_cluster, "--role", "worker", "--ttl", "1s")
    made_at = time.monotonic()
    good = token(tls_cluster, "--role", "gateway").stdout
    taken = token(tls_cluster, "--role", "worker").stdout
    until(lambda: time.monotonic() > made_at + 1.1, "the first token has expired")
    wrong_ca = "hearth1." + "0" * 64 + "." + good.strip().split(".")[2]
    cases = [
        ("expired", made.stdout, 160, "has expired"),
        ("role", good, 161, "is for a gateway, not for a worker"),
        ("taken", taken, tls_cluster.nodes("worker")[0]["id"], "already"),
        ("unknown", good[:-10] + "0123456789", 162, "unknown"),
        ("nonsense", "hearth1.abc", 163, "not a join token"),
    ]
    for name, text, id, reason in cases:
        (tmp_path / name).write_text(text)
        tls = f'join_token_file = "{tmp_path}/{name}"'
        node = Node(tmp_path / f"w-{name}", "worker", worker_toml(tmp_path / f"w-{name}", tls_cluster, id, tls))
        nodes.append(node)
        assert node.process.wait(60) != 0
        assert reason in node.output(), (name, node.output())
        assert not (tmp_path / f"w-{name}" / "data" / "tls" / "node.pem").exists()
    # A token of another cluster: the controller is not whom the node was told to expect.
    (tmp_path / "ca").write_text(wrong_ca)
    tls = f'join_token_file = "{tmp_path}/ca"'
    node = Node(tmp_path / "w-ca", "worker", worker_toml(tmp_path / "w-ca", tls_cluster, 164, tls))
    nodes.append(node)
    until(lambda: "unknown CA" in node.output(), "the reason is told")
    refused = token(tls_cluster, "--role", "king")
    assert refused.returncode != 0 and "not a role" in refused.stderr


def test_nodes_of_another_cluster_and_expired_ones_are_refused_with_the_reason(tls_cluster, tmp_path, nodes):
    own, other = tls_cluster.data_dir / "data" / "ca", tmp_path / "other"
    name = cluster_id(tls_cluster)
    assert hearth("ca", "init", "--dir", other, "--cluster-id", name).returncode == 0
    issue = lambda ca, out, *words: hearth("ca", "issue", "--ca", ca, "--role", "worker", "--out", out, *words)
    assert issue(other, tmp_path / "a", "--cluster-id", name, "--id", 170).returncode == 0
    assert issue(own, tmp_path / "b", "--cluster-id", "elsewhere", "--id", 171).returncode == 0
    assert issue(own, tmp_path / "c", "--cluster-id", name, "--id", 172, "--life", "1ms").returncode == 0
    # Certificates count whole seconds.
    issued = time.time()
    until(lambda: time.time() > issued + 2, "the certificate has expired")
    # Trusts the right CA, so that it is the controller that refuses.
    (tmp_path / "a" / "ca.pem").write_bytes((own / "ca.pem").read_bytes())
    controller_log = (tls_cluster.data_dir / "data" / "logs" / "controller-1.log").read_text
    cases = [
        ("a", 170, name, "does not know the CA", "unknown CA"),
        ("b", 171, "elsewhere", "and this node is of the cluster `elsewhere`", None),
        ("c", 172, name, "has expired", "expired at 20"),
    ]
    for directory, id, cluster, told, logged in cases:
        tls = f'mode = "on"\ndir = "{tmp_path / directory}"'
        node = Node(tmp_path / f"w{id}", "worker", worker_toml(tmp_path / f"w{id}", tls_cluster, id, tls, cluster))
        nodes.append(node)
        until(lambda: told in node.output(), f"worker {id} is told: {told}; {node.output()[-2000:]}", 30)
        if logged:
            until(lambda: logged in controller_log(), f"the controller tells: {logged}", 30)
        assert id not in alive_workers(tls_cluster)


def test_a_node_without_a_certificate_does_not_start_beyond_loopback(tls_cluster, tmp_path, nodes):
    text = worker_toml(tmp_path / "w", tls_cluster, 180, "").replace('listen = "127.0.0.1', 'listen = "0.0.0.0', 1)
    node = Node(tmp_path / "w", "worker", text)
    nodes.append(node)
    assert node.process.wait(30) != 0
    assert "join with a token" in node.output(), node.output()
    # Plaintext to a cluster with TLS gets nowhere.
    plain = Node(tmp_path / "p", "worker", worker_toml(tmp_path / "p", tls_cluster, 181, 'mode = "off"'))
    nodes.append(plain)
    log = tls_cluster.data_dir / "data" / "logs" / "controller-1.log"
    until(lambda: "does not speak TLS" in log.read_text(), "the controller tells of plaintext")
    assert 181 not in alive_workers(tls_cluster)


class Load:
    """Invokes all the time, and counts."""

    def __init__(self, cluster, name, threads=3):
        self.done, self.failed, self.stop = 0, [], threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(cluster.client(), name)) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def run(self, client, name):
        while not self.stop.is_set():
            try:
                assert invoke(client, name, 7)[1] == 7
                self.done += 1
            except Exception as error:
                self.failed.append(repr(error))

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()
        return self.done, self.failed


def test_certificates_are_renewed_under_load_without_a_failed_request(tmp_path):
    cluster = Cluster(tmp_path / "c", controllers=3, workers=2, gateways=1, extra=["--certificate-life", "30s"]).start()
    try:
        client = cluster.client()
        create(client, "f", APP)
        load = Load(cluster, "f")
        nodes = cluster.info["nodes"]
        files = {node["id"]: cluster.data_dir / "data" / f"{node['role']}-{node['id']}" / "tls" / "node.pem" for node in nodes}
        begun = time.monotonic()
        first = {id: file.read_bytes() for id, file in files.items()}
        until(lambda: all(file.read_bytes() != first[id] for id, file in files.items()), "every certificate is a new one", 60)
        second = {id: file.read_bytes() for id, file in files.items()}
        until(lambda: all(file.read_bytes() != second[id] for id, file in files.items()), "and again", 60)
        # The first ones have expired; a node that starts now has to make every connection anew.
        until(lambda: time.monotonic() - begun > 31, "the first certificates have expired")
        worker = cluster.nodes("worker")[0]
        done, failed = load.end()
        assert not failed and done > 100, (done, failed[:3])
        print(f"{done} requests, 0 failed, over two renewals of {len(nodes)} nodes")
        cluster.kill(worker)
        cluster.wait_restarted(worker)
        assert invoke(client, "f", 1)[1] == 1
        assert all(metrics(node)["left"] > 0 for node in cluster.info["nodes"])
        create(client, "g", APP)
    finally:
        cluster.stop()


def test_the_ca_is_replaced_under_load_without_a_failed_request(tmp_path):
    cluster = Cluster(tmp_path / "c", controllers=3, workers=2, gateways=1).start()
    try:
        client = cluster.client()
        create(client, "f", APP)
        load = Load(cluster, "f")
        nodes = cluster.info["nodes"]
        old = metrics(nodes[0])["issuer"]
        ca = cluster.data_dir / "data" / "ca"

        def rotate(step):
            done = hearth("ca", "rotate", "--dir", ca, "--cluster-id", cluster_id(cluster), step)
            assert done.returncode == 0, done.stderr

        everywhere = lambda holds: all(holds(metrics(node)) for node in nodes)
        rotate("begin")
        until(lambda: everywhere(lambda m: len(m["trusted"]) == 2 and m["issuer"] == old), "both CAs are trusted everywhere")
        rotate("switch")
        until(lambda: everywhere(lambda m: m["issuer"] != old), "every certificate is of the new CA")
        rotate("finish")
        until(lambda: everywhere(lambda m: m["trusted"] == [m["issuer"]]), "the old CA is trusted nowhere")
        done, failed = load.end()
        assert not failed and done > 100, (done, failed[:3])
        print(f"{done} requests, 0 failed, while the CA was replaced on {len(nodes)} nodes")
        for node in (cluster.nodes("worker")[0], cluster.nodes("controller")[0]):
            cluster.kill(node)
            cluster.wait_restarted(node)
        until(lambda: invoke(client, "f", 1)[1] == 1, "invoked after restarts")
        create(client, "g", APP)
        assert "leader" in status(cluster)
    finally:
        cluster.stop()


def test_a_data_dir_without_a_ca_gets_one(tmp_path):
    cluster = Cluster(tmp_path / "c", extra=["--tls", "off"]).start()
    create(cluster.client(), "f", APP)
    cluster.stop()
    assert not (tmp_path / "c" / "data" / "ca").exists()
    cluster.extra = []
    cluster.start()
    try:
        assert invoke(cluster.client(), "f", 1)[1] == 1
        assert all(metrics(node)["left"] > 0 for node in cluster.info["nodes"][:1])
    finally:
        cluster.stop()


class OwnCa:
    """A CA of the operator's, made by another tool: RSA, with an intermediate CA that signs for nodes."""

    def __init__(self, directory):
        self.dir = directory
        self.dir.mkdir()
        v3 = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n"
        self.openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "root.key", "-out", "root.pem", "-days", "30", "-subj", "/CN=Our root")
        self.sign("middle", "/CN=Our nodes", v3, "root")

    def openssl(self, *words):
        done = subprocess.run(["openssl", *words], cwd=self.dir, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def sign(self, name, subject, extensions, issuer):
        (self.dir / f"{name}.ext").write_text(extensions)
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", subject)
        self.openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key", "-CAcreateserial", "-days", "10",
            "-extfile", f"{name}.ext", "-out", f"{name}.pem",
        )

    def node(self, role, id):
        """Certificate and key for a node; a new pair at each call."""
        name = f"{role}-{id}"
        self.sign(name, f"/CN={name}", f"subjectAltName=URI:hearth://own/{role}/{id}\nextendedKeyUsage=clientAuth,serverAuth\n", "middle")
        chain = (self.dir / f"{name}.pem").read_text() + (self.dir / "middle.pem").read_text()
        (self.dir / f"{name}.chain").write_text(chain)
        return f'mode = "on"\nca = "{self.dir}/root.pem"\ncert = "{self.dir}/{name}.chain"\nkey = "{self.dir}/{name}.key"\ncheck_every = "200ms"\n'


def test_an_operator_brings_certificates_of_another_ca_and_replaces_them(tmp_path, nodes):
    ca = OwnCa(tmp_path / "ca")
    controller, worker, gateway, admin = (free_port() for _ in range(4))
    common = 'cluster_id = "own"\nadmin_listen = "127.0.0.1:%d"\n'
    nodes.append(Node(tmp_path / "c", "controller", (
        f'node_id = 1\nlisten = "127.0.0.1:{controller}"\ndata_dir = "{tmp_path}/c/data"\n' + common % admin
        + f'[peers]\n1 = "127.0.0.1:{controller}"\n[tls]\n' + ca.node("controller", 1)
    )))
    nodes.append(Node(tmp_path / "w", "worker", (
        f'node_id = 101\nlisten = "127.0.0.1:{worker}"\ndata_dir = "{tmp_path}/w/data"\ncontrollers = ["127.0.0.1:{controller}"]\n'
        f'runtimes_dir = "{RUNTIMES}"\nmemory_mib = 1024\n' + common % free_port() + "[tls]\n" + ca.node("worker", 101)
    )))
    nodes.append(Node(tmp_path / "g", "gateway", (
        f'node_id = 201\nlisten = "127.0.0.1:{gateway}"\ncontrollers = ["127.0.0.1:{controller}"]\naccess_key_id = "AKIAOWN"\n'
        f'secret_access_key = "own"\n' + common % free_port() + "[tls]\n" + ca.node("gateway", 201)
    )))
    client = boto3.client(
        "lambda", endpoint_url=f"http://127.0.0.1:{gateway}", region_name="us-east-1", aws_access_key_id="AKIAOWN", aws_secret_access_key="own",
    )
    until(lambda: client.list_functions() is not None, "the gateway answers")
    create(client, "f", APP)
    assert invoke(client, "f", 1)[1] == 1

    # The files are replaced, and taken up without a restart.
    before = metrics({"admin_addr": f"127.0.0.1:{admin}"})["left"]
    until(lambda: metrics({"admin_addr": f"127.0.0.1:{admin}"})["left"] < before, "time passes")
    ca.node("controller", 1)
    until(lambda: "certificate taken up" in nodes[0].output(), "the new certificate is in use")
    nodes.pop(1).stop()
    text = (tmp_path / "w" / "node.toml").read_text()
    nodes.append(Node(tmp_path / "w", "worker", text))
    until(lambda: invoke(client, "f", 2)[1] == 2, "invoked on a worker that connected anew")
