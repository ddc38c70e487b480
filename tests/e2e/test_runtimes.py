"""One function (tests/functions) on every runtime: event, context, log, state, errors, timeout, exit.

HEARTH_TEST_RUNTIMES names the runtimes, by spaces; their packs must be installed and compiled functions built
(scripts/build-functions). `go` is Go's client on provided.al2023."""

import base64
import json
import os
import re
import subprocess

import pytest
from harness import HEARTH, ROOT, RUNTIMES, create, invoke

FUNCTIONS = ROOT / "tests" / "functions"
BUILT = ROOT / "target" / "functions"
NAMES = os.environ.get("HEARTH_TEST_RUNTIMES", "python3.11 provided.al2023").split()
TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"


class Language:
    """What differs: the files, the handler, and the error of `raise` as the official client words it."""

    def __init__(self, runtime=None):
        self.runtime = runtime

    memory = 256

    def files(self):
        raise NotImplementedError

    def check_raised(self, got, request_id):
        raise NotImplementedError


class Python(Language):
    handler = "app.handler"
    missing = [("app.nope", "Runtime.HandlerNotFound", "Handler 'nope' missing on module 'app'"),
               ("nope.handler", "Runtime.ImportModuleError", "Unable to import module 'nope'")]

    def files(self):
        return {"app.py": (FUNCTIONS / "python/app.py").read_text()}

    def check_raised(self, got, request_id):
        assert list(got) == ["errorMessage", "errorType", "requestId", "stackTrace"], got
        assert (got["errorType"], got["requestId"]) == ("ValueError", request_id)
        assert re.fullmatch(r'  File "/var/task/app.py", line \d+, in handler\n    raise ValueError\("no way é"\)\n',
                            got["stackTrace"][0])


class Node(Language):
    handler = "index.handler"
    missing = [("index.nope", "Runtime.HandlerNotFound", "index.nope is undefined or not exported"),
               ("nope.handler", "Runtime.ImportModuleError", "Cannot find module 'nope'")]

    def files(self):
        return {"index.mjs": (FUNCTIONS / "nodejs/index.mjs").read_text()}

    def check_raised(self, got, request_id):
        assert list(got) == ["errorType", "errorMessage", "trace"], got
        assert got["errorType"] == "RangeError"
        assert got["trace"][0] == "RangeError: no way é"
        assert re.fullmatch(r"    at .*handler \(file:///var/task/index.mjs:\d+:\d+\)", got["trace"][1]), got


class Ruby(Language):
    handler = "app.handler"
    missing = [("nope.handler", "Init<LoadError>", "cannot load such file -- nope"),
               ("app", "Init<ArgumentError>", "Invalid handler app")]

    def files(self):
        return {"app.rb": (FUNCTIONS / "ruby/app.rb").read_text()}

    def check_raised(self, got, request_id):
        assert list(got) == ["errorMessage", "errorType", "stackTrace"], got
        assert got["errorType"] == "Function<ArgumentError>"
        assert re.fullmatch(r"/var/task/app.rb:\d+:in .*handler'", got["stackTrace"][0]), got
        assert len(got["stackTrace"]) == 1, "frames of the runtime itself are not told"


class Java(Language):
    handler = "App::handleRequest"
    memory = 512
    missing = [("Nope::handleRequest", "java.lang.ClassNotFoundException", "Class not found: Nope")]

    def files(self):
        return {path.name: path.read_bytes() for path in (BUILT / "java").glob("*.class")}

    def check_raised(self, got, request_id):
        assert list(got) == ["errorMessage", "errorType", "stackTrace"], got
        assert got["errorType"] == "java.lang.IllegalArgumentException"
        assert re.fullmatch(r"App.handleRequest\(App.java:\d+\)", got["stackTrace"][0]), got


class Bootstrap(Language):
    """A program of the user's: there is no handler to be missing, only the program."""

    handler = "any"
    missing = []

    def __init__(self, runtime, built):
        super().__init__(runtime)
        self.built = built

    def files(self):
        return {"bootstrap": (BUILT / self.built / "bootstrap").read_bytes()}


class Rust(Bootstrap):
    def check_raised(self, got, request_id):
        assert sorted(got) == ["errorMessage", "errorType"] and got["errorType"], got


class Go(Bootstrap):
    def check_raised(self, got, request_id):
        assert got == {"errorMessage": "no way é", "errorType": "errorString"}


class DotNet(Language):
    handler = "App::Functions.App::Handle"
    missing = [("App::Functions.Nope::Handle", "LambdaValidationException", "Functions.Nope"),
               ("Nope::Functions.App::Handle", "LambdaValidationException", "Nope")]

    def files(self):
        return {path.name: path.read_bytes() for path in (BUILT / "dotnet").iterdir()}

    def check_raised(self, got, request_id):
        assert list(got) == ["errorType", "errorMessage", "stackTrace"], got
        assert got["errorType"] == "ArgumentException"
        assert got["stackTrace"][0].startswith("at Functions.App.Handle("), got


def language(name):
    if name == "go":
        return Go("provided.al2023", "go")
    if name.startswith("provided"):
        return Rust(name, "rust")
    for prefix, kind in (("python", Python), ("nodejs", Node), ("ruby", Ruby), ("java", Java), ("dotnet", DotNet)):
        if name.startswith(prefix):
            return kind(name)
    raise AssertionError(f"no function for runtime {name}")


@pytest.fixture(scope="module", params=NAMES)
def what(request):
    return language(request.param)


@pytest.fixture(scope="module")
def function(client, what):
    """The function of this runtime; its timeout is long enough for any start."""
    name = "all-" + what.runtime.replace(".", "-") + "-" + type(what).__name__.lower()
    create(client, name, what.files(), runtime=what.runtime, handler=what.handler, Timeout=20, MemorySize=what.memory)
    return name


def traced(client, name, payload, **members):
    """An invocation with a trace header, as an upstream service sends it."""
    def add(request, **_):
        request.headers["X-Amzn-Trace-Id"] = TRACE
    client.meta.events.register("before-sign.lambda.Invoke", add)
    try:
        return invoke(client, name, payload, **members)
    finally:
        client.meta.events.unregister("before-sign.lambda.Invoke", add)


def test_event_context_and_log_arrive(client, what, function):
    version = client.publish_version(FunctionName=function)["Version"]
    custom = {"custom": {"key": "välue"}}
    context = base64.b64encode(json.dumps(custom).encode()).decode()
    event = {"do": "echo", "text": "é\u2028\U0001F525", "list": [1, 2.5, None, {"deep": True}]}
    answer, got = traced(client, function, event, Qualifier=version, LogType="Tail", ClientContext=context)
    assert "FunctionError" not in answer, got
    assert got["event"] == event
    assert got["id"] == answer["ResponseMetadata"]["RequestId"]
    assert 0 < got["left"] <= 20_000
    assert (got["name"], got["version"], got["memory"]) == (function, version, what.memory)
    assert got["arn"].endswith(f":function:{function}:{version}")
    assert got["custom"] == custom["custom"]
    assert got["trace"] == TRACE
    assert got["group"] == f"/aws/lambda/{function}"
    assert "a line from the function é\n" in answer["Log"]


def test_a_connection_lives_from_one_invocation_to_the_next(client, function):
    first = invoke(client, function, {"do": "echo"})[1]["count"]
    assert [invoke(client, function, {"do": "echo"})[1]["count"] for _ in range(3)] == [first + n for n in (1, 2, 3)]


def test_an_error_has_the_shape_of_the_official_client_and_the_sandbox_goes_on(client, what, function):
    before = invoke(client, function, {"do": "echo"})[1]["count"]
    answer, got = invoke(client, function, {"do": "raise"})
    assert answer["FunctionError"] == "Unhandled"
    assert got["errorMessage"] == "no way é", got
    what.check_raised(got, answer["ResponseMetadata"]["RequestId"])
    assert invoke(client, function, {"do": "echo"})[1]["count"] == before + 1


def test_a_handler_that_is_not_there_is_told(client, what, name):
    for number, (handler, error_type, message) in enumerate(what.missing):
        create(client, f"{name}-{number}", what.files(), runtime=what.runtime, handler=handler, Timeout=20,
               MemorySize=what.memory)
        answer, got = invoke(client, f"{name}-{number}", {})
        assert answer["FunctionError"] == "Unhandled", got
        assert (got["errorType"], message in got["errorMessage"]) == (error_type, True), got


def test_a_timeout_ends_the_invocation_and_the_next_one_works(client, what, name):
    create(client, name, what.files(), runtime=what.runtime, handler=what.handler, Timeout=3, MemorySize=what.memory)
    assert invoke(client, name, {"do": "echo"})[1]["count"] == 1
    answer, got = invoke(client, name, {"do": "sleep"})
    request_id = answer["ResponseMetadata"]["RequestId"]
    assert answer["FunctionError"] == "Unhandled"
    assert re.fullmatch(rf"\S+ {request_id} Task timed out after 3.00 seconds", got["errorMessage"]), got
    assert invoke(client, name, {"do": "echo"})[1]["count"] == 1


def test_an_exit_is_told_and_the_next_invocation_works(client, function):
    answer, got = invoke(client, function, {"do": "exit"})
    request_id = answer["ResponseMetadata"]["RequestId"]
    assert got == {"errorType": "Runtime.ExitError",
                   "errorMessage": f"RequestId: {request_id} Error: Runtime exited with error: exit status 3"}
    assert invoke(client, function, {"do": "echo"})[1]["count"] == 1


def test_a_shell_is_there_for_programs_that_run_one():
    for pack in RUNTIMES.glob("*/root"):
        assert (pack / "usr/bin/sh").exists(), pack


@pytest.mark.skipif("go" not in NAMES, reason="the Go function is not built")
def test_a_panic_of_go_has_a_stack(client, name):
    go = language("go")
    create(client, name, go.files(), runtime=go.runtime, handler=go.handler)
    answer, got = invoke(client, name, {"do": "panic"})
    assert (got["errorMessage"], got["errorType"]) == ("no way é", "string"), got
    assert {"path", "line", "label"} == set(got["stackTrace"][0]), got
    assert any(frame["label"] == "handler" for frame in got["stackTrace"]), got


@pytest.mark.skipif("ruby3.3" not in NAMES, reason="Ruby is not installed")
def test_a_ruby_handler_may_be_a_method_of_a_class(client, name):
    ruby = language("ruby3.3")
    create(client, name, ruby.files(), runtime="ruby3.3", handler="app.Things::Echo.process")
    assert invoke(client, name, {"do": "echo"})[1]["count"] == 1


def install(runtimes_dir, *names, **env):
    return subprocess.run([str(HEARTH), "runtime", "install", *names, "--runtimes-dir", str(runtimes_dir)],
                          capture_output=True, text=True, timeout=300, env={**os.environ, **env})


def test_a_registry_that_is_out_of_reach_is_told_in_one_line(tmp_path):
    # Nothing listens on port 9; a suite that the host does not run has lists of its own, so that nothing is cached.
    done = install(tmp_path, "python3.13", http_proxy="http://127.0.0.1:9", https_proxy="http://127.0.0.1:9")
    assert done.returncode != 0
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "cannot get the package lists from Debian's package archive: " in done.stderr, done.stderr
    assert "127.0.0.1" in done.stderr and "check the network" in done.stderr, done.stderr
    assert not list(tmp_path.glob(".building-*")) and not (tmp_path / "python3.13").exists()


def test_what_can_be_installed_is_listed(tmp_path):
    done = install(tmp_path, "--list")
    assert re.search(r"^python3\.11 +not installed +CPython", done.stdout, re.M), done.stdout
    done = install(RUNTIMES, "--list")
    assert re.search(r"^python3\.11 +installed +CPython", done.stdout, re.M), done.stdout
    done = install(tmp_path, "cobol74")
    assert done.returncode != 0 and "there is no recipe for runtime cobol74" in done.stderr


def test_a_pack_goes_to_another_machine_as_one_file(tmp_path):
    def hearth(*command):
        return subprocess.run([str(HEARTH), "runtime", *map(str, command)], capture_output=True, text=True, timeout=300)

    file = tmp_path / "pack.tar.gz"
    assert hearth("export", "provided.al2023", file, "--runtimes-dir", RUNTIMES).returncode == 0
    done = hearth("import", file, "--runtimes-dir", tmp_path / "there")
    assert done.returncode == 0, done.stderr
    done = install(tmp_path / "there", "provided.al2023")
    assert done.stdout == "provided.al2023 is installed already\n", (done.stdout, done.stderr)
    here, there = (subprocess.check_output(["find", ".", "-printf", "%p %m %s %l\n"], cwd=base / "provided.al2023")
                   for base in (RUNTIMES, tmp_path / "there"))
    assert sorted(here.splitlines()) == sorted(there.splitlines())
