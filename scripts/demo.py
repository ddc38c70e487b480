"""`make demo`: a cluster of three controllers, two workers and two gateways on this machine, a function deployed with
boto3 and with the AWS CLI, invoked cold and warm, updated, and still there after every process was killed."""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/e2e"))
import os

os.environ.setdefault("HEARTH_PROFILE", "release")
from harness import Cluster, active, hearth, invoke, until, zipped  # noqa: E402


def say(text):
    print(f"\n\033[1m== {text}\033[0m" if sys.stdout.isatty() else f"\n== {text}", flush=True)


def timed(client, payload):
    begin = time.perf_counter()
    answer, got = invoke(client, "hello", payload, LogType="Tail")
    took = (time.perf_counter() - begin) * 1000
    report = next(line for line in answer["Log"].splitlines() if line.startswith("REPORT"))
    return took, got, report


def main():
    data = pathlib.Path(tempfile.mkdtemp(prefix="hearth-demo-"))
    cluster = Cluster(data, controllers=3, workers=2, gateways=2)
    try:
        run(cluster, data)
    finally:
        cluster.stop()
        shutil.rmtree(data, ignore_errors=True)


def run(cluster, data):
    say("hearth up: 3 controllers, 2 workers, 2 gateways on loopback")
    begin = time.perf_counter()
    cluster.start()
    print(f"ready in {time.perf_counter() - begin:.1f} s")
    for node in cluster.info["nodes"]:
        print(f"  {node['role']:<10} {node['id']:>3}  {node['addr']:<21} pid {node['pid']}")
    client = cluster.client()
    source = (ROOT / "examples/functions/hello/app.py").read_text()

    say("boto3: create_function, wait, invoke")
    client.create_function(
        FunctionName="hello", Runtime="python3.11", Handler="app.handler", MemorySize=256,
        Role="arn:aws:iam::000000000000:role/demo", Code={"ZipFile": zipped({"app.py": source})},
    )
    client.get_waiter("function_active_v2").wait(FunctionName="hello")
    took, got, report = timed(client, {"name": "Hearth"})
    print(f"cold  {took:7.1f} ms  {json.dumps(got)}\n      {report.strip()}")
    warm = sorted(timed(client, {"name": "Hearth"})[0] for _ in range(50))
    print(f"warm  {warm[25]:7.1f} ms median of 50 (boto3's own time included)")

    say("AWS CLI: update-function-code, wait, invoke")
    package = data / "hello.zip"
    package.write_bytes(zipped({"app.py": source.replace('"Hello, ', '"Hello again, ')}))
    aws = [str(ROOT / ".venv/bin/aws"), "--endpoint-url", cluster.info["endpoint"], "lambda"]
    for words in (
        ["update-function-code", "--function-name", "hello", "--zip-file", f"fileb://{package}", "--query", "[LastUpdateStatus,CodeSha256]"],
        ["wait", "function-updated-v2", "--function-name", "hello"],
        ["invoke", "--function-name", "hello", "--payload", '{"name": "CLI"}', str(data / "out.json")],
    ):
        print("$ aws lambda", " ".join(words))
        done = subprocess.run([*aws, *words], env=cluster.env(), capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        print(done.stdout.strip())
    print((data / "out.json").read_text())

    say("an event invocation, and at once SIGKILL for every process; then hearth up again")
    event = client.invoke(FunctionName="hello", InvocationType="Event", Payload=b'{"name": "event"}')
    request_id = event["ResponseMetadata"]["RequestId"]
    print(f"accepted with {event['StatusCode']}: {request_id}")
    cluster.kill_everything()
    begin = time.perf_counter()
    cluster.start()
    print(f"ready in {time.perf_counter() - begin:.1f} s")
    client = cluster.client()
    active(client, "hello")
    took, got, _ = timed(client, {"name": "survivor"})
    print(f"cold  {took:7.1f} ms  {json.dumps(got)}")
    assert got["message"] == "Hello again, survivor!", got

    def ended():
        shown = hearth(cluster, "events", "show", request_id).stdout
        return shown if "Success" in shown else None

    # The gateway that had it may have been sent it: its lease is 30 s.
    print(until(ended, "the event has run", timeout=60).strip())
    say("done. To run a cluster of your own:")
    print("  target/release/hearth runtime install python3.11 && target/release/hearth up")


if __name__ == "__main__":
    main()
