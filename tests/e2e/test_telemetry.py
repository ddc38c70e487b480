"""What a cluster says of itself: metrics, health, traces, and functions that wait for something."""

import contextlib
import json
import os
import re
import shutil
import signal
import urllib.error
import urllib.request
from concurrent import futures

import grpc
from harness import RUNTIMES, Cluster, active, create, invoke, until
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as otlp_grpc

GATEWAY_PHASES = {"request", "auth", "route", "queue", "send", "function"}
WORKER_PHASES = {"sandbox_start", "init", "invoke"}


def page(cluster, node, path):
    """Status and text of a page of a node's admin port."""
    nodes = json.loads((cluster.data_dir / "data" / "cluster.json").read_text())["nodes"]
    admin = next(n["admin_addr"] for n in nodes if (n["role"].lower(), n["id"]) == (node["role"], node["id"]))
    try:
        with urllib.request.urlopen(f"http://{admin}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@contextlib.contextmanager
def stopped(*nodes):
    """The processes do not run meanwhile, as when their machines hang; the supervisor sees them alive."""
    for node in nodes:
        os.kill(node["pid"], signal.SIGSTOP)
    try:
        yield
    finally:
        for node in nodes:
            os.kill(node["pid"], signal.SIGCONT)


LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{{(?:{LABEL}(?:,{LABEL})*)?\}})? (\S+)")
SUFFIXES = {"counter": ("_total", "_created"), "gauge": ("",), "info": ("_info",),
            "histogram": ("_bucket", "_sum", "_count", "_created")}


def samples(text):
    """Samples of an OpenMetrics page as (name, value); fails where it is not one."""
    lines = text.split("\n")
    assert lines[-2:] == ["# EOF", ""], lines[-3:]
    types, found = {}, []
    for line in lines[:-2]:
        if line.startswith("# "):
            kind, name, rest = line[2:].split(" ", 2)
            assert kind in ("HELP", "TYPE", "UNIT"), line
            if kind == "TYPE":
                assert name not in types and rest in SUFFIXES, line
                types[name] = rest
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        name, value = match[1], float(match[2])
        assert any(name == family + suffix for family, kind in types.items() for suffix in SUFFIXES[kind]), line
        found.append((name, value))
    return found


def test_metrics_and_health_tell_the_truth(tmp_path):
    cluster = Cluster(tmp_path, 3, 1, 1).start()
    try:
        client = cluster.client()
        create(client, "f", {"app.py": "def handler(e, c):\n    return e\n"})
        invoke(client, "f", 1)
        controllers, [worker], [gateway] = (cluster.nodes(r) for r in ("controller", "worker", "gateway"))
        found = {}
        for node in cluster.info["nodes"]:
            status, text = page(cluster, node, "/metrics")
            assert status == 200
            found[node["role"], node["id"]] = dict(samples(text))
            assert all(name.startswith("hearth_") for name in found[node["role"], node["id"]]), text
        leaders = [node for node in controllers if found["controller", node["id"]]["hearth_raft_is_leader"] == 1]
        assert len(leaders) == 1
        for node in controllers:
            metrics = found["controller", node["id"]]
            assert metrics["hearth_raft_term"] >= 1 and metrics["hearth_raft_applied_index"] >= 1
        for node in cluster.info["nodes"]:
            assert page(cluster, node, "/readyz")[0] == page(cluster, node, "/healthz")[0] == 200

        left = next(node for node in controllers if node is not leaders[0])
        with stopped(*(node for node in controllers if node is not left)):
            reason = until(lambda: (p := page(cluster, left, "/readyz"))[0] == 503 and p[1], "no quorum, not ready")
            assert "consensus" in reason
            assert page(cluster, left, "/healthz")[0] == 200
        for node in cluster.info["nodes"]:
            until(lambda node=node: page(cluster, node, "/readyz")[0] == 200, "ready again")

        with stopped(*controllers):
            told = until(lambda: "no controller" in (p := page(cluster, gateway, "/readyz"))[1] and p, "it says so")
            assert told[0] == 200, f"invocations go on without controllers: {told}"
            assert invoke(client, "f", 2)[1] == 2
            with stopped(worker):
                reasons = until(lambda: (p := page(cluster, gateway, "/readyz"))[0] == 503 and p[1], "not ready")
                assert "0 of 1 workers connected" in reasons and "no controller" in reasons
                assert page(cluster, gateway, "/healthz")[0] == 200
        until(lambda: page(cluster, gateway, "/readyz")[0] == 200, "ready again")
        until(lambda: invoke(client, "f", 3)[1] == 3, "serving again")
    finally:
        cluster.stop()


class Collector(otlp_grpc.TraceServiceServicer):
    """Takes spans as an OTLP collector does; `spans` are (service, span)."""

    def __init__(self):
        self.spans = []
        self.server = grpc.server(futures.ThreadPoolExecutor(4))
        otlp_grpc.add_TraceServiceServicer_to_server(self, self.server)
        self.endpoint = f"http://127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def Export(self, request, context):  # the name gRPC gives it
        for resource in request.resource_spans:
            names = {a.key: a.value.string_value for a in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [(names["service.name"], span) for span in scope.spans]
        return otlp.ExportTraceServiceResponse()

    def of_invocation(self, request_id):
        """Every span of the trace the request is in."""
        def has(span):
            return any(a.key == "request_id" and a.value.string_value == request_id for a in span.attributes)

        traces = {span.trace_id for service, span in self.spans if service == "hearth-gateway" and has(span)}
        assert len(traces) <= 1, "one invocation is one trace"
        return [(service, span) for service, span in self.spans if span.trace_id in traces]

    def phases(self, request_id, *wanted):
        def complete():
            found = self.of_invocation(request_id)
            names = {(service, span.name) for service, span in found}
            return all((service, name) in names for service, names_ in wanted for name in names_) and found

        return until(complete, f"phases of {request_id}; there are {sorted({(s, p.name) for s, p in self.spans})}", 30)


@contextlib.contextmanager
def header(client, name, value):
    """Every request of the client has this header, unsigned as a proxy's would be."""
    def add(request, **_):
        request.headers[name] = value

    client.meta.events.register("before-send.lambda", add)
    try:
        yield
    finally:
        client.meta.events.unregister("before-send.lambda", add)


def test_an_invocation_is_one_trace_through_gateway_and_worker(tmp_path):
    collector = Collector()
    cluster = Cluster(tmp_path, 1, 2, 1, ["--otlp-endpoint", collector.endpoint])
    cluster.start()
    try:
        client = cluster.client()
        create(client, "f", {"app.py": "def handler(e, c):\n    return e\n"})
        cold = invoke(client, "f", 1)[0]["ResponseMetadata"]["RequestId"]
        found = collector.phases(cold, ("hearth-gateway", GATEWAY_PHASES), ("hearth-worker", WORKER_PHASES))
        ids = {span.span_id: span for _, span in found}
        [request] = [span for _, span in found if span.name == "request"]
        assert request.parent_span_id == b""
        for _, span in found:
            assert span is request or span.parent_span_id in ids, f"{span.name} hangs in the air"
            assert span.end_time_unix_nano >= span.start_time_unix_nano > 0
        [function] = [span for _, span in found if span.name == "function"]
        [run] = [span for service, span in found if service == "hearth-worker" and span.name == "invoke"]
        assert function.start_time_unix_nano <= run.start_time_unix_nano
        assert run.end_time_unix_nano <= function.end_time_unix_nano

        trace_id, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
        with header(client, "traceparent", f"00-{trace_id}-{parent}-01"):
            warm = invoke(client, "f", 2)[0]["ResponseMetadata"]["RequestId"]
        found = collector.phases(warm, ("hearth-gateway", {"request", "auth", "route", "send", "function"}),
                                 ("hearth-worker", {"invoke"}))
        [request] = [span for _, span in found if span.name == "request"]
        assert request.trace_id.hex() == trace_id
        assert request.parent_span_id.hex() == parent
        create(client, "g", {"app.py": "def handler(e, c):\n    return e\n"})

        def controllers():
            return [s for service, s in collector.spans if service == "hearth-controller" and s.name == "rpc"]

        until(controllers, "what the controller did is in the traces too", 30)
        assert not [span for service, span in collector.spans if span.name.startswith("h2")]
    finally:
        cluster.stop()
        collector.server.stop(None)


def test_a_runtime_installed_later_is_noticed(tmp_path):
    mine = tmp_path / "runtimes"
    mine.mkdir()
    cluster = Cluster(tmp_path / "c")
    command = cluster.command
    cluster.command = lambda: [str(mine) if word == str(RUNTIMES) else word for word in command()]
    cluster.start()
    try:
        client = cluster.client()
        create(client, "f", {"app.py": "def handler(e, c):\n    return e\n"}, wait=False)

        def failed():
            document = client.get_function_configuration(FunctionName="f")
            return document["State"] == "Failed" and document

        document = until(failed, "failed")
        assert document["StateReasonCode"] == "InvalidRuntime"
        shutil.copytree(RUNTIMES / "python3.11", mine / ".copy", symlinks=True)
        (mine / ".copy").rename(mine / "python3.11")
        until(lambda: "runtimes changed" in cluster.output(), "the worker tells")
        client.update_function_configuration(FunctionName="f", Timeout=5)
        until(lambda: client.get_function_configuration(FunctionName="f")["LastUpdateStatus"] == "Successful", "updated")
        active(client, "f")
        assert invoke(client, "f", 3)[1] == 3
    finally:
        cluster.stop()
