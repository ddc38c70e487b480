"""Extensions and telemetry: real processes in real sandboxes, published as layers."""

import json
import re
import time

import pytest
from harness import Cluster, create, invoke, until, zipped

# What functions print, and short lives for those that do nothing.
LOG = ["--log", "info,hearth::function=debug"]
OPTIONS = '[worker]\nidle_timeout = "1s"\n'

APP = """
import json, os, socket, time, urllib.request
def handler(event, context):
    event = event or {}
    for _ in range(event.get("times", 1)):
        if event.get("print"):
            print(event["print"])
    if event.get("exit"):
        os._exit(event["exit"])
    time.sleep(event.get("sleep", 0))
    if event.get("raise"):
        raise ValueError("no")
    try:
        lines = [json.loads(line) for line in open("/tmp/said")]
    except FileNotFoundError:
        lines = []
    return {"id": context.aws_request_id, "arn": context.invoked_function_arn, "said": lines,
            "name": socket.gethostbyname("sandbox.localdomain")}
"""

# An external extension; MODE says what it does. What it sees is in /tmp/said and in its output.
EXTENSION = r"""#!/usr/bin/python3.11
import http.client, http.server, json, os, signal, sys, threading, time, urllib.request
NAME = os.path.basename(__file__)
MODE = os.environ.get("MODE", "")
API = os.environ["AWS_LAMBDA_RUNTIME_API"]
def call(method, path, body=None, **headers):
    connection = http.client.HTTPConnection(API)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    return answer.status, {name.title(): value for name, value in answer.getheaders()}, json.loads(answer.read() or b"null")
def said(**what):
    line = json.dumps({"by": NAME, "at": time.time() * 1000, **what})
    print("EXT " + line, flush=True)
    with open("/tmp/said", "a") as file:
        file.write(line + "\n")
BASE = "/2020-01-01/extension/"
if MODE == "exit-before":
    sys.exit(3)
if MODE == "errors":
    said(unnamed=call("POST", BASE + "register", "{}"))
    said(malformed=call("POST", BASE + "register", "x", Lambda_Extension_Name=NAME)[0])
    said(start=call("POST", BASE + "register", '{"events": ["START"]}', Lambda_Extension_Name=NAME))
status, headers, facts = call("POST", BASE + "register", json.dumps({"events": ["INVOKE", "SHUTDOWN"]}),
                              Lambda_Extension_Name=NAME, Lambda_Extension_Accept_Feature="accountId")
ID = headers["Lambda-Extension-Identifier"]
said(registered=status, facts=facts, env=sorted(os.environ), pid=os.getpid())
if MODE == "errors":
    said(twice=call("POST", BASE + "register", "{}", Lambda_Extension_Name=NAME))
    said(unknown=call("GET", BASE + "event/next", Lambda_Extension_Identifier="11111111-2222-3333-4444-555555555555"))
    said(invalid=call("GET", BASE + "event/next", Lambda_Extension_Identifier="me"))
    said(missing=call("GET", BASE + "event/next"))
    said(header=call("POST", BASE + "exit/error", "{}", Lambda_Extension_Identifier=ID))
    said(inner=call("POST", BASE + "register", '{"events": ["SHUTDOWN"]}', Lambda_Extension_Name="inner"))
    said(schema=call("PUT", "/2022-07-01/telemetry", '{"schemaVersion": "1999-01-01"}', Lambda_Extension_Identifier=ID))
    said(logs=call("PUT", "/2020-08-15/logs", "{}", Lambda_Extension_Identifier=ID))
if MODE == "init-error":
    said(posted=call("POST", BASE + "init/error", '{"errorMessage": "m"}', Lambda_Extension_Identifier=ID,
                     Lambda_Extension_Function_Error_Type="Extension.NoConfig")[0])
    sys.exit(1)
if MODE == "telemetry":
    class Take(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            for event in json.loads(self.rfile.read(int(self.headers["Content-Length"]))):
                print("EVENT " + json.dumps(event), flush=True)
                with open("/tmp/said", "a") as file:
                    file.write(json.dumps({"event": event}) + "\n")
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()
        def log_message(self, *_):
            pass
    server = http.server.ThreadingHTTPServer(("sandbox.localdomain", 4243), Take)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    said(subscribed=call("PUT", "/2022-07-01/telemetry", json.dumps({
        "schemaVersion": "2022-12-13", "types": ["platform", "function"],
        "buffering": {"maxItems": 1000, "maxBytes": 262144, "timeoutMs": 25},
        "destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:4243"}}), Lambda_Extension_Identifier=ID))
if MODE == "tcp":
    import socket
    listener = socket.create_server(("sandbox.localdomain", 4244))
    def take():
        while True:
            connection = listener.accept()[0]
            for line in connection.makefile("rb"):
                print("EVENT " + line.decode().rstrip("\n"), flush=True)
            connection.close()
    threading.Thread(target=take, daemon=True).start()
    said(subscribed=call("PUT", "/2022-07-01/telemetry", json.dumps({
        "schemaVersion": "2022-12-13", "types": ["platform", "function"],
        "buffering": {"maxItems": 1000, "maxBytes": 262144, "timeoutMs": 25},
        "destination": {"protocol": "TCP", "port": 4244}}), Lambda_Extension_Identifier=ID))
if MODE == "busy":
    # Takes connections from its backlog 7 s after the first came, and nothing before.
    import socket
    listener = socket.create_server(("sandbox.localdomain", 4245))
    def take():
        late = False
        while True:
            connection = listener.accept()[0]
            if not late:
                time.sleep(7)
                late = True
            request, length = connection.makefile("rb"), 0
            for line in request:
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
                if line == b"\r\n":
                    break
            try:
                events = json.loads(request.read(length) or b"[]")
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            except (ValueError, OSError):
                # Its sender has given up.
                events = []
            for event in events:
                if event["type"] == "platform.logsDropped":
                    print("EVENT " + json.dumps(event), flush=True)
            connection.close()
    threading.Thread(target=take, daemon=True).start()
    said(subscribed=call("PUT", "/2022-07-01/telemetry", json.dumps({
        "schemaVersion": "2022-12-13", "types": ["platform", "function"],
        "buffering": {"maxItems": 1000, "maxBytes": 262144, "timeoutMs": 25},
        "destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:4245"}}), Lambda_Extension_Identifier=ID))
if MODE == "slow-init":
    time.sleep(0.5)
while True:
    status, headers, event = call("GET", BASE + "event/next", Lambda_Extension_Identifier=ID)
    said(status=status, event=event, event_id=headers.get("Lambda-Extension-Event-Identifier"))
    if event["eventType"] == "SHUTDOWN":
        if MODE in ("telemetry", "tcp"):
            time.sleep({"telemetry": 0.3, "tcp": 0.8}[MODE])
        if MODE == "deaf":
            while True:
                time.sleep(0.1)
                print("EXT " + json.dumps({"by": NAME, "alive": time.time() * 1000}), flush=True)
        sys.exit(0)
    if MODE.startswith("post"):
        time.sleep(float(MODE[5:] or 0.7))
        said(done=event["requestId"])
    if MODE == "never":
        time.sleep(60)
    if MODE == "exit-in-invoke":
        sys.exit(4)
    if MODE == "exit-error":
        call("POST", BASE + "exit/error", "{}", Lambda_Extension_Identifier=ID, Lambda_Extension_Function_Error_Type="Extension.Broken")
        sys.exit(0)
"""

INTERNAL = """
import http.client, json, os, signal, sys, threading, time
API = os.environ["AWS_LAMBDA_RUNTIME_API"]
seen, who = [], os.urandom(4).hex()
def call(method, path, body=None, **headers):
    connection = http.client.HTTPConnection(API)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    return answer.status, {name.title(): value for name, value in answer.getheaders()}, json.loads(answer.read() or b"null")
answer = call("POST", "/2020-01-01/extension/register", '{"events": ["INVOKE"]}', Lambda_Extension_Name="inside")
def watch():
    while True:
        seen.append(call("GET", "/2020-01-01/extension/event/next",
                         Lambda_Extension_Identifier=answer[1]["Lambda-Extension-Identifier"])[2]["requestId"])
threading.Thread(target=watch, daemon=True).start()
# The main thread waits inside the runtime client, so that no handler of Python's runs: the signal is read from a pipe.
reading, writing = os.pipe()
os.set_blocking(writing, False)
signal.set_wakeup_fd(writing)
signal.signal(signal.SIGTERM, lambda *_: None)
def ending():
    assert os.read(reading, 1) == bytes([signal.SIGTERM])
    print("EXT " + json.dumps({"by": "inside", "who": who, "signal": time.time() * 1000}), flush=True)
    while True:
        time.sleep(0.05)
        print("EXT " + json.dumps({"by": "inside", "who": who, "alive": time.time() * 1000}), flush=True)
threading.Thread(target=ending, daemon=True).start()
def handler(event, context):
    time.sleep(0.3)
    late = call("POST", "/2020-01-01/extension/register", '{"events": []}', Lambda_Extension_Name="late")
    return {"id": context.aws_request_id, "registered": answer[0], "facts": answer[2], "seen": seen, "late": late}
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    path = tmp_path_factory.mktemp("extensions")
    options = path / "options.toml"
    options.write_text(OPTIONS)
    cluster = Cluster(path, extra=[*LOG, "--options", str(options)]).start()
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def client(cluster):
    return cluster.client()


def deploy(client, name, mode="", extensions=("one",), timeout=10, app=APP):
    files = {f"extensions/{one}": EXTENSION for one in extensions}
    layer = client.publish_layer_version(LayerName=name, Content={"ZipFile": zipped(files)})
    create(client, name, {"app.py": app}, Layers=[layer["LayerVersionArn"]], Timeout=timeout,
           Environment={"Variables": {"MODE": mode}})


def lines(cluster, name):
    """The log of this function, as far as it is known."""
    records = [json.loads(line) for line in cluster.output().splitlines() if '"hearth::function"' in line and name in line]
    return [record["message"] for record in records if name in record["version"]]


def printed(cluster, name, kind="EXT"):
    """What this function's extensions printed, in order."""
    return [json.loads(line[len(kind) + 1:]) for line in lines(cluster, name) if line.startswith(kind + " ")]


def end_of(cluster, name, key):
    until(lambda: [one for one in printed(cluster, name) if key(one)], f"the end of {name}", timeout=60)
    return [one for one in printed(cluster, name) if key(one)][0]


def is_shutdown(one):
    return one.get("event", {}).get("eventType") == "SHUTDOWN"


def test_an_extension_sees_every_invocation_and_the_end(cluster, client, name):
    deploy(client, name)
    before = time.time() * 1000
    # Long enough for the extension to write down what it got.
    _, first = invoke(client, name, {"sleep": 0.5})
    _, second = invoke(client, name, {"sleep": 0.5})
    registered, invoked = second["said"][0], second["said"][1:]
    assert registered["registered"] == 200
    assert registered["facts"] == {"functionName": name, "functionVersion": "$LATEST", "handler": "app.handler",
                                   "accountId": "000000000000"}
    assert {"MODE", "AWS_LAMBDA_RUNTIME_API", "AWS_REGION", "AWS_LAMBDA_FUNCTION_NAME"} <= set(registered["env"])
    assert not {"_HANDLER", "LAMBDA_TASK_ROOT", "AWS_EXECUTION_ENV", "AWS_LAMBDA_LOG_STREAM_NAME"} & set(registered["env"])
    assert [one["event"]["requestId"] for one in invoked] == [first["id"], second["id"]]
    for one in invoked:
        event = one["event"]
        assert one["status"] == 200 and re.fullmatch(r"[0-9a-f-]{36}", one["event_id"])
        assert event.keys() == {"eventType", "deadlineMs", "requestId", "invokedFunctionArn", "tracing"}
        assert event["eventType"] == "INVOKE" and event["invokedFunctionArn"] == second["arn"]
        assert before + 9_000 < event["deadlineMs"] < time.time() * 1000 + 10_500
        assert event["tracing"]["type"] == "X-Amzn-Trace-Id" and event["tracing"]["value"].startswith("Root=1-")
    assert second["name"] == "127.0.0.1", "sandbox.localdomain"
    # It is idle for its second.
    end = end_of(cluster, name, is_shutdown)
    assert end["event"]["shutdownReason"] == "spindown"
    assert 1_000 < end["event"]["deadlineMs"] - end["at"] <= 2_000
    said = lines(cluster, name)
    assert "EXTENSION\tName: one\tState: Ready\tEvents: [INVOKE, SHUTDOWN]" in said


def test_the_answer_does_not_wait_for_extensions_and_the_next_invocation_does(cluster, client, name):
    deploy(client, name, "post")
    invoke(client, name)
    began = time.monotonic()
    answer, first = invoke(client, name)
    took = time.monotonic() - began
    # The extension works for 0.7 s after the first one: the second found it at that, in the same sandbox or in another.
    answered = time.monotonic()
    _, second = invoke(client, name, LogType="Tail")
    assert took < 3 and time.monotonic() - answered < 5
    tail = invoke(client, name, LogType="Tail")[0]["Log"]
    report = [line for line in tail.splitlines() if line.startswith("REPORT ")]
    assert len(report) == 1 and float(re.search(r"Duration: ([0-9.]+) ms", report[0]).group(1)) > 700
    until(lambda: [one for one in printed(cluster, name) if one.get("done") == first["id"]], "post-processing")


def test_an_answer_comes_before_post_processing_ends(cluster, client, name):
    deploy(client, name, "post")
    invoke(client, name)
    until(lambda: [one for one in printed(cluster, name) if "done" in one], "first post-processing")
    time_before = time.time() * 1000
    _, answer = invoke(client, name)
    answered = time.time() * 1000
    until(lambda: [one for one in printed(cluster, name) if one.get("done") == answer["id"]], "second post-processing")
    done = [one for one in printed(cluster, name) if one.get("done") == answer["id"]][0]
    invoked = [one for one in printed(cluster, name) if one.get("event", {}).get("requestId") == answer["id"]][0]
    assert done["at"] - invoked["at"] >= 690 and answered < done["at"], (time_before, answered, done)


def test_an_environment_counts_until_its_extensions_are_done(cluster, client, name):
    """With a reserved concurrency of one, extensions at work after the answer keep the next invocation out."""
    deploy(client, name, "post 4")
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)

    def when_there_is_a_permit():
        try:
            return invoke(client, name)
        except client.exceptions.TooManyRequestsException:
            # Gateways learn a moment later that it is back.
            return None

    for _ in range(2):
        _, answer = until(when_there_is_a_permit, "a permit", timeout=5)
        answered = time.time() * 1000
        with pytest.raises(client.exceptions.TooManyRequestsException) as refused:
            client.invoke(FunctionName=name)
        assert refused.value.response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
        done = end_of(cluster, name, lambda one: one.get("done") == answer["id"])
        assert done["at"] - answered > 1_000, "the answer does not wait"
        until(lambda: any(f"REPORT RequestId: {answer['id']}" in line for line in lines(cluster, name)), "the end")
    # A sandbox that was made for an invocation to come has none at the same time.
    told = [(one["at"], "event" in one) for one in printed(cluster, name) if "done" in one or one.get("event", {}).get("requestId")]
    assert [is_begin for _, is_begin in sorted(told)] == [True, False] * 2, told


def test_errors_of_calls_have_the_statuses_and_types_of_aws(cluster, client, name):
    deploy(client, name, "errors")
    _, answer = invoke(client, name)
    said = {key: value for one in answer["said"] for key, value in one.items()}

    def check(key, status, error_type, message):
        got = said[key]
        assert (got[0], got[2]["errorType"]) == (status, error_type), (key, got)
        assert message in got[2]["errorMessage"], (key, got)

    check("unnamed", 403, "Extension.InvalidExtensionName", "Empty extension name")
    assert said["malformed"] == 403
    check("start", 403, "Extension.InvalidEventType", "START: ErrorInvalidEventType")
    check("twice", 403, "Extension.InvalidExtensionState", "State transition from Registered to Registered failed for extension one")
    check("unknown", 403, "Extension.UnknownExtensionIdentifier", "Unknown extension 11111111-2222-3333-4444-555555555555")
    check("invalid", 403, "Extension.InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier")
    check("missing", 403, "Extension.MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header")
    check("header", 403, "Extension.MissingHeader", "Lambda-Extension-Function-Error-Type not found")
    check("inner", 403, "Extension.InvalidEventType", "SHUTDOWN: ShutdownEventNotSupportedForInternalExtension")
    check("schema", 400, "ValidationError", "schemaVersion")
    check("logs", 202, "Logs.NotSupported", "Logs API is not supported")


@pytest.mark.parametrize("mode, kind, text", [
    ("exit-before", "Extension.Crash", "Error: exit status 3"),
    ("init-error", "Extension.InitError", "Error: exit status 1"),
    ("exit-in-invoke", "Extension.Crash", "Error: exit status 4"),
    ("exit-error", "Extension.ExitError", "Error: exit code 0"),
])
def test_an_extension_that_fails_fails_the_invocation(cluster, client, name, mode, kind, text):
    deploy(client, name, mode)
    # The function is still at work when its extension goes.
    answer, document = invoke(client, name, {"sleep": 2})
    assert answer["FunctionError"] == "Unhandled"
    assert document["errorType"] == kind and document["errorMessage"].startswith("RequestId: "), document
    assert document["errorMessage"].endswith(text)


def test_one_of_several_that_crashes_lets_the_others_know(cluster, client, name):
    deploy(client, name, extensions=("one", "two"))
    answer, document = invoke(client, name, {"exit": 5})
    assert document == {"errorType": "Runtime.ExitError",
                        "errorMessage": f"RequestId: {answer['ResponseMetadata']['RequestId']} Error: Runtime exited with error: exit status 5"}
    for one in ("one", "two"):
        end = end_of(cluster, name, lambda said: is_shutdown(said) and said["by"] == one)
        assert end["event"]["shutdownReason"] == "failure"


def test_a_timeout_is_told_and_the_deaf_are_killed_in_time(cluster, client, name):
    deploy(client, name, "deaf", timeout=1)
    answer, document = invoke(client, name, {"sleep": 30})
    assert document["errorMessage"].endswith("Task timed out after 1.00 seconds")
    end = end_of(cluster, name, is_shutdown)
    assert end["event"]["shutdownReason"] == "timeout"
    until(lambda: time.time() * 1000 > end["event"]["deadlineMs"] + 1_000, "the deadline is over")
    alive = [one["alive"] for one in printed(cluster, name) if "alive" in one]
    assert end["event"]["deadlineMs"] - 700 < max(alive) < end["event"]["deadlineMs"] + 400


def test_an_extension_that_never_comes_back_times_out_after_the_answer(cluster, client, name):
    deploy(client, name, "never", timeout=2)
    _, answer = invoke(client, name)
    assert answer["id"]
    until(lambda: any("Task timed out after 2.00 seconds" in line for line in lines(cluster, name)), "the timeout", timeout=20)
    _, again = invoke(client, name)
    assert len(again["said"]) <= 2, "a new sandbox"


def test_init_waits_for_extensions_and_its_duration_has_them(cluster, client, name):
    deploy(client, name, "slow-init")
    tail = invoke(client, name, LogType="Tail")[0]["Log"]
    assert float(re.search(r"Init Duration: ([0-9.]+) ms", tail).group(1)) > 500


def test_telemetry_comes_as_aws_sends_it(cluster, client, name):
    deploy(client, name, "telemetry")
    first = invoke(client, name, {"print": "hello there"})[1]
    until(lambda: any(e["type"] == "platform.runtimeDone" for e in printed(cluster, name, "EVENT")), "telemetry")
    second = invoke(client, name, {"raise": True})[0]
    end_of(cluster, name, is_shutdown)
    report = lambda: [e for e in printed(cluster, name, "EVENT") if e["type"] == "platform.report"]
    until(lambda: len(report()) == 2, "both reports")
    events = printed(cluster, name, "EVENT")
    kinds = [event["type"] for event in events]
    assert kinds[:7] == ["platform.initStart", "platform.telemetrySubscription", "platform.initRuntimeDone",
                         "platform.extension", "platform.initReport", "platform.start", "function"], kinds
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["time"]) for event in events)
    by = {}
    for event in events:
        by.setdefault(event["type"], event["record"])
    assert by["platform.initStart"] == {"initializationType": "on-demand", "phase": "init", "functionName": name,
                                        "functionVersion": "$LATEST"}
    assert by["platform.telemetrySubscription"] == {"name": "one", "state": "Subscribed", "types": ["platform", "function"]}
    assert by["platform.initRuntimeDone"] == {"initializationType": "on-demand", "phase": "init", "status": "success"}
    assert by["platform.extension"] == {"name": "one", "state": "Ready", "events": ["INVOKE", "SHUTDOWN"]}
    assert by["platform.initReport"]["metrics"]["durationMs"] > 0 and by["platform.initReport"]["status"] == "success"
    assert by["platform.start"]["requestId"] == first["id"] and by["platform.start"]["version"] == "$LATEST"
    assert by["function"] == "hello there"
    done = by["platform.runtimeDone"]
    assert done["requestId"] == first["id"] and done["status"] == "success" and done["metrics"]["producedBytes"] > 0
    assert [span["name"] for span in done["spans"]] == ["responseLatency", "responseDuration", "runtimeOverhead"]
    metrics = by["platform.report"]["metrics"]
    assert metrics.keys() == {"durationMs", "billedDurationMs", "memorySizeMB", "maxMemoryUsedMB", "initDurationMs"}
    assert metrics["memorySizeMB"] == 128 and metrics["durationMs"] >= done["metrics"]["durationMs"]
    assert [span["name"] for span in by["platform.report"]["spans"]] == ["extensionOverhead"]
    assert report()[1]["record"]["requestId"] == second["ResponseMetadata"]["RequestId"]
    assert "TELEMETRY\tName: one\tState: Subscribed\tTypes: [Platform, Function]" in lines(cluster, name)


def test_telemetry_over_tcp_is_a_line_for_each_event(cluster, client, name):
    deploy(client, name, "tcp")
    _, first = invoke(client, name, {"print": "one \\ two"})
    end_of(cluster, name, is_shutdown)
    report = lambda: [e for e in printed(cluster, name, "EVENT") if e["type"] == "platform.report"]
    until(report, "the report")
    events = printed(cluster, name, "EVENT")
    kinds = [event["type"] for event in events]
    assert kinds[:9] == ["platform.initStart", "platform.telemetrySubscription", "platform.initRuntimeDone",
                         "platform.extension", "platform.initReport", "platform.start", "function", "platform.runtimeDone",
                         "platform.report"], kinds
    assert events[6]["record"] == "one \\ two" and report()[0]["record"]["requestId"] == first["id"]


def test_what_a_subscriber_does_not_take_is_counted_and_told(cluster, client, name):
    """Its listener is silent for longer than a batch waits, while the function prints more than the queue holds."""
    deploy(client, name, "busy", timeout=30)
    invoke(client, name, {"print": "x" * 20, "times": 6_000, "sleep": 12})
    dropped = until(lambda: printed(cluster, name, "EVENT"), "the word that events were lost")
    first = dropped[0]["record"]
    # One batch under way for too long, two that waited, and what found no room.
    assert 2_000 <= first["droppedRecords"] <= 6_010 and first["droppedBytes"] > 50 * first["droppedRecords"], dropped
    assert first["reason"]
    assert sum(one["record"]["droppedRecords"] for one in dropped) < 6_010


@pytest.mark.parametrize("log_level", [None, "INFO"])
def test_an_internal_extension_sees_invocations_and_half_a_second_of_the_end(cluster, client, name, log_level):
    """From a stem, once there is one, and from no stem, which has no such variable."""
    variables = {"AWS_LAMBDA_LOG_LEVEL": log_level} if log_level else {}
    create(client, name, {"app.py": INTERNAL}, MemorySize=1769, Environment={"Variables": variables})
    first, second = [invoke(client, name)[1] for _ in range(2)]
    assert second["registered"] == 200 and second["facts"]["functionName"] == name
    assert first["id"] in second["seen"] and second["id"] in second["seen"]
    late = second["late"]
    assert (late[0], late[2]["errorType"]) == (403, "Extension.RegistrationClosed")
    end = end_of(cluster, name, lambda one: "signal" in one)
    until(lambda: time.time() * 1000 > end["signal"] + 1_500, "its time is over")
    # A sandbox made for an invocation that was expected ends later, by itself.
    alive = [one["alive"] for one in printed(cluster, name) if "alive" in one and one["who"] == end["who"]]
    assert 300 < max(alive) - end["signal"] < 800


def test_what_cannot_be_executed_fails_the_init(cluster, client, name):
    files = {"extensions/bad": "#!/no/such/program\n"}
    layer = client.publish_layer_version(LayerName=name, Content={"ZipFile": zipped(files)})
    create(client, name, {"app.py": APP}, Layers=[layer["LayerVersionArn"]])
    answer, document = invoke(client, name)
    assert document["errorType"] == "Extension.LaunchError", document
    assert "fork/exec /opt/extensions/bad: no such file or directory" in document["errorMessage"]


def test_eleven_are_too_many(cluster, client, name):
    deploy(client, name, extensions=[f"e{n:02}" for n in range(11)])
    _, document = invoke(client, name)
    assert document["errorType"] == "Extension.LaunchError", document
    assert "ErrTooManyExtensions" in document["errorMessage"]


def test_a_worker_that_stops_lets_extensions_know(tmp_path, name):
    cluster = Cluster(tmp_path, extra=LOG).start()
    client = cluster.client()
    deploy(client, name)
    invoke(client, name)
    cluster.stop()
    ends = [one for one in printed(cluster, name) if is_shutdown(one)]
    assert [end["event"]["shutdownReason"] for end in ends] == ["spindown"]
