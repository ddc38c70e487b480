"""What a function sees and what its caller gets: success, every kind of failure, limits."""

import json
import re
import subprocess

import botocore.exceptions
import pytest
from harness import BOOTSTRAP, ROLE, ROOT, active, create, invoke, zipped


def code(error):
    return error.value.response["Error"]["Code"]


def test_event_and_context_arrive(client, name):
    create(client, name, {"app.py": """
import os
def handler(event, context):
    print("line one")
    return {
        "event": event, "id": context.aws_request_id, "arn": context.invoked_function_arn,
        "name": context.function_name, "version": context.function_version, "left": context.get_remaining_time_in_millis(),
        "memory": context.memory_limit_in_mb, "custom": context.client_context.custom if context.client_context else None,
        "group": context.log_group_name, "cwd": os.getcwd(), "uid": os.getuid(),
        "env": {k: os.environ.get(k) for k in ("AWS_REGION", "_HANDLER", "LAMBDA_TASK_ROOT", "AWS_LAMBDA_FUNCTION_NAME",
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_EXECUTION_ENV", "TZ")},
    }
"""}, Timeout=5)
    import base64
    context = base64.b64encode(json.dumps({"custom": {"k": "v"}}).encode()).decode()
    answer, got = invoke(client, name, {"é": [1, None]}, LogType="Tail", ClientContext=context)
    request_id = answer["ResponseMetadata"]["RequestId"]
    assert got["event"] == {"é": [1, None]} and got["id"] == request_id
    assert got["arn"].endswith(f":function:{name}") and got["name"] == name and got["version"] == "$LATEST"
    assert 0 < got["left"] <= 5000 and got["memory"] in (128, "128") and got["custom"] == {"k": "v"}
    assert got["cwd"] == "/var/task" and got["uid"] != 0 and got["group"] == f"/aws/lambda/{name}"
    assert got["env"]["AWS_REGION"] == "us-east-1" and got["env"]["_HANDLER"] == "app.handler"
    assert got["env"]["LAMBDA_TASK_ROOT"] == "/var/task" and got["env"]["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "128"
    assert answer["ExecutedVersion"] == "$LATEST" and "FunctionError" not in answer
    log = answer["Log"]
    assert f"START RequestId: {request_id} Version: $LATEST\n" in log and "line one\n" in log
    assert f"END RequestId: {request_id}\n" in log
    assert re.search(rf"REPORT RequestId: {request_id}\tDuration: [\d.]+ ms\tBilled Duration: \d+ ms\tMemory Size: 128 MB"
                     r"\tMax Memory Used: \d+ MB\t(Init Duration: [\d.]+ ms\t)?\n", log), log


def test_warm_invocations_reuse_the_sandbox(client, name):
    create(client, name, {"app.py": "n = 0\ndef handler(e, c):\n    global n\n    n += 1\n    return n\n"})
    assert [invoke(client, name, {})[1] for _ in range(5)] == [1, 2, 3, 4, 5]


def test_dry_run_and_no_payload(client, name):
    create(client, name, {"app.py": "def handler(e, c):\n    return e\n"})
    assert client.invoke(FunctionName=name, InvocationType="DryRun")["StatusCode"] == 204
    answer = client.invoke(FunctionName=name)
    assert answer["StatusCode"] == 200 and json.loads(answer["Payload"].read()) == {}


def test_none_is_null(client, name):
    create(client, name, {"app.py": "def handler(e, c):\n    pass\n"})
    assert invoke(client, name, {})[0]["Raw"] == b"null"


def test_an_exception_is_a_function_error(client, name):
    create(client, name, {"app.py": "def handler(e, c):\n    raise ValueError('no ' + e['what'])\n"})
    answer, got = invoke(client, name, {"what": "way"})
    assert answer["StatusCode"] == 200 and answer["FunctionError"] == "Unhandled"
    assert (got["errorMessage"], got["errorType"]) == ("no way", "ValueError")
    assert got["requestId"] == answer["ResponseMetadata"]["RequestId"]
    assert "/var/task/app.py" in got["stackTrace"][0]


@pytest.mark.parametrize("files, handler, error_type, message", [
    ({"app.py": "def other(e, c):\n    pass\n"}, "app.handler", "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'app'"),
    ({"other.py": "x = 1\n"}, "app.handler", "Runtime.ImportModuleError", "Unable to import module 'app': No module named 'app'"),
    ({"app.py": "def handler(e, c:\n"}, "app.handler", "Runtime.UserCodeSyntaxError", "Syntax error in module 'app'"),
    ({"app.py": "import sys\nsys.exit(3)\n"}, "app.handler", "Runtime.ExitError", "exit status 3"),
    ({"app.py": "raise RuntimeError('at import')\n"}, "app.handler", "RuntimeError", "at import"),
])
def test_what_fails_at_init_is_told_to_the_caller(client, name, files, handler, error_type, message):
    create(client, name, files, handler=handler)
    for _ in range(2):
        answer, got = invoke(client, name, {})
        assert answer["FunctionError"] == "Unhandled", got
        assert got["errorType"] == error_type, got
        assert message in got["errorMessage"], got


def test_a_timeout_is_reported_and_the_next_invocation_works(client, name):
    create(client, name, {"app.py": "n = 0\ndef handler(e, c):\n    global n\n    n += 1\n    while e.get('loop'): pass\n    return n\n"}, Timeout=1)
    assert invoke(client, name, {})[1] == 1
    answer, got = invoke(client, name, {"loop": True})
    request_id = answer["ResponseMetadata"]["RequestId"]
    assert answer["FunctionError"] == "Unhandled"
    assert re.fullmatch(rf"\S+ {request_id} Task timed out after 1.00 seconds", got["errorMessage"]), got
    assert "errorType" not in got or got["errorType"] == "Sandbox.Timedout"
    assert invoke(client, name, {})[1] == 1


def test_an_infinite_loop_at_init_is_reported_as_a_timeout(client, name):
    create(client, name, {"app.py": "while True: pass\n"}, Timeout=1)
    answer, got = invoke(client, name, {})
    assert answer["FunctionError"] == "Unhandled"
    assert "timed out after 1.00 seconds" in got["errorMessage"].lower(), got


def test_code_that_exits_is_reported_and_the_next_invocation_works(client, name):
    create(client, name, {"app.py": "import os\ndef handler(e, c):\n    if e.get('die'): os._exit(0)\n    return 'alive'\n"})
    answer, got = invoke(client, name, {"die": True})
    assert answer["FunctionError"] == "Unhandled" and got["errorType"] == "Runtime.ExitError"
    assert got["errorMessage"] == f"RequestId: {answer['ResponseMetadata']['RequestId']} Error: Runtime exited without providing a reason"
    assert invoke(client, name, {})[1] == "alive"


def test_too_much_memory_is_reported(client, name):
    create(client, name, {"app.py": "def handler(e, c):\n    x = [bytearray(1 << 20) for _ in range(400)]\n    return len(x)\n"}, Timeout=20)
    answer, got = invoke(client, name, {})
    assert answer["FunctionError"] == "Unhandled" and got["errorType"] in ("Runtime.OutOfMemory", "Runtime.ExitError"), got
    assert "signal: killed" in got["errorMessage"], got


def test_a_response_over_the_limit_is_refused_and_the_function_stays_usable(client, name):
    create(client, name, {"app.py": "n = 0\ndef handler(e, c):\n    global n\n    n += 1\n    return 'x' * e if e else n\n"}, Timeout=20)
    answer, got = invoke(client, name, 7_000_000)
    assert got["errorType"] == "Function.ResponseSizeTooLarge", got
    assert got["errorMessage"].startswith("Response payload size exceeded maximum allowed payload size (6291556 bytes).")
    # awslambdaric takes the refusal as fatal and ends; other clients go on. Either way the next invocation is served.
    assert invoke(client, name, 0)[1] in (1, 2)


def test_six_megabytes_go_both_ways(client, name):
    create(client, name, {"app.py": "def handler(e, c):\n    return e\n"}, Timeout=20, MemorySize=512)
    big = "y" * 6_000_000
    assert invoke(client, name, big and json.dumps(big))[1] == big


def test_a_seven_megabyte_event_is_refused(client, name):
    create(client, name, {"app.py": "def handler(e, c):\n    return 1\n"})
    with pytest.raises(botocore.exceptions.ClientError) as error:
        client.invoke(FunctionName=name, Payload=json.dumps("z" * 7_000_000))
    assert code(error) == "RequestEntityTooLargeException"
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413


def test_an_event_that_is_not_json_is_refused(client, name):
    create(client, name, {"app.py": "def handler(e, c):\n    return 1\n"})
    with pytest.raises(botocore.exceptions.ClientError) as error:
        client.invoke(FunctionName=name, Payload=b"{not json")
    assert code(error) == "InvalidRequestContentException"
    assert "Could not parse request body into json" in error.value.response["Error"]["Message"]


def test_a_custom_runtime_runs(client, name):
    create(client, name, {"bootstrap": BOOTSTRAP.read_bytes()}, runtime="provided.al2023", handler="any")
    answer, got = invoke(client, name, {"n": 1}, LogType="Tail")
    assert got == {"event": {"n": 1}, "request_id": answer["ResponseMetadata"]["RequestId"]}
    assert "REPORT RequestId" in answer["Log"]


def test_a_shell_bootstrap_runs(client, name):
    script = """#!/bin/bash
set -euo pipefail
while true; do
  headers=$(mktemp)
  event=$(curl -sS -D "$headers" "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/next")
  id=$(grep -i lambda-runtime-aws-request-id "$headers" | tr -d '[:space:]' | cut -d: -f2)
  curl -sS -o /dev/null "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/$id/response" -d "{\\"sh\\": $event}"
done
"""
    create(client, name, {"bootstrap": script}, runtime="provided.al2023", handler="any", Timeout=10)
    assert invoke(client, name, [1, 2])[1] == {"sh": [1, 2]}


def test_a_missing_bootstrap_is_told(client, name):
    create(client, name, {"readme.txt": "nothing"}, runtime="provided.al2023", handler="any")
    answer, got = invoke(client, name, {})
    assert answer["FunctionError"] == "Unhandled" and got["errorType"] == "Runtime.InvalidEntrypoint", got


def test_concurrent_invocations_get_their_own_answers(client, cluster, name):
    from concurrent.futures import ThreadPoolExecutor

    create(client, name, {"app.py": "import time\ndef handler(e, c):\n    time.sleep(0.02)\n    return [e, c.aws_request_id]\n"}, Timeout=30)
    pooled = cluster.client(max_pool_connections=16)

    def one(n):
        answer, got = invoke(pooled, name, n)
        assert got == [n, answer["ResponseMetadata"]["RequestId"]], got

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(one, range(200)))


def test_boto3_is_in_the_python_runtime_as_on_aws(client, name):
    create(client, name, {"app.py": "import boto3\ndef handler(e, c):\n    return boto3.__version__\n"}, Timeout=20, MemorySize=512)
    assert re.fullmatch(r"[\d.]+", invoke(client, name, {})[1])


def test_an_unknown_function_is_not_found(client):
    with pytest.raises(botocore.exceptions.ClientError) as error:
        client.invoke(FunctionName="never-made")
    assert code(error) == "ResourceNotFoundException"
    assert error.value.response["Error"]["Message"] == (
        "Function not found: arn:aws:lambda:us-east-1:000000000000:function:never-made"
    )


def test_a_function_cannot_reach_the_host(client, name):
    create(client, name, {"app.py": """
import os, socket
def handler(e, c):
    def entries(path):
        try:
            return os.listdir(path)
        except OSError:
            return []
    seen = {"files": [p for p in ("/root", "/work", "/home", "/sys") if entries(p)], "pids": sorted(int(p) for p in os.listdir("/proc") if p.isdigit())}
    try:
        open("/var/task/new", "w"); seen["task"] = "written"
    except OSError as error:
        seen["task"] = error.strerror
    try:
        socket.create_connection(("127.0.0.1", e["port"]), 2); seen["port"] = "open"
    except OSError as error:
        seen["port"] = error.strerror
    open("/tmp/x", "w").write("1")
    return seen
"""})
    port = int(client.meta.endpoint_url.rsplit(":", 1)[1])
    _, got = invoke(client, name, {"port": port})
    assert got.get("files") == [] and len(got["pids"]) <= 3 and max(got["pids"]) < 20, got
    assert got["task"] == "Read-only file system" and got["port"] == "Connection refused", got
