"""The largest of everything that a function may ask for, for real: a quarter of an hour, ten gigabytes of memory and of disk.

Not part of `make test`: `make test-extremes` takes 16 minutes, and leaves out what the machine has no room for."""

import base64
import concurrent.futures
import errno
import json
import re
import shutil
import time

import pytest
from harness import Cluster, create, invoke

MIB = 1 << 20
OPTIONS = "[worker]\nmemory_mib = 12288\n"

APP = """
import errno, os, time
def handler(event, context):
    if "sleep" in event:
        time.sleep(event["sleep"])
        return {"left": context.get_remaining_time_in_millis()}
    if "touch" in event:
        memory = bytearray(event["touch"] << 20)
        memory[::4096] = b"x" * (len(memory) // 4096)
        return {"touched": sum(memory[:: 1 << 20]) // ord("x")}
    written, chunk = 0, os.urandom(1 << 20) * 8
    with open("/tmp/big", "wb", buffering=0) as file:
        try:
            while True:
                written += file.write(chunk)
        except OSError as error:
            code = error.errno
    os.unlink("/tmp/big")
    with open("/tmp/again", "w") as file:
        file.write("there is room again")
    return {"written": written, "errno": code}
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    directory = tmp_path_factory.mktemp("extremes")
    options = directory / "options.toml"
    options.write_text(OPTIONS)
    cluster = Cluster(directory, extra=["--options", str(options)]).start()
    # More patience than the longest function has time.
    yield cluster.client(read_timeout=960)
    cluster.stop()


@pytest.fixture(scope="module", autouse=True)
def quarter_hours(client):
    """Two invocations that go on beside the other tests: one that ends in time, one that does not."""
    patient = concurrent.futures.ThreadPoolExecutor(2)

    def run(name, seconds):
        create(client, name, {"app.py": APP}, Timeout=900)
        began = time.monotonic()
        answer = client.invoke(FunctionName=name, Payload=f'{{"sleep": {seconds}}}', LogType="Tail")
        return time.monotonic() - began, answer, answer["Payload"].read().decode()

    yield {name: patient.submit(run, name, seconds) for name, seconds in (("in-time", 896), ("too-long", 905))}
    patient.shutdown(cancel_futures=True)


def available_mib():
    """What the kernel could give without hurting anybody."""
    with open("/proc/meminfo") as file:
        return int(re.search(r"MemAvailable: +(\d+) kB", file.read()).group(1)) // 1024


def test_ten_gigabytes_of_memory_can_be_touched(client):
    if available_mib() < 13_000:
        pytest.skip(f"{available_mib()} MB of memory are available, 13,000 are needed")
    create(client, "memory", {"app.py": APP}, MemorySize=10_240, Timeout=300)
    answer, got = invoke(client, "memory", {"touch": 9_728}, LogType="Tail")
    assert got == {"touched": 9_728}, got
    used = int(re.search(r"Max Memory Used: (\d+) MB", answer["Log"]).group(1))
    print(answer["Log"])
    assert 9_728 <= used <= 10_240


def test_ten_gigabytes_of_disk_can_be_filled(client, tmp_path):
    free = shutil.disk_usage(tmp_path).free // MIB
    if free < 14_000:
        pytest.skip(f"{free} MB of disk are free, 14,000 are needed")
    create(client, "disk", {"app.py": APP}, MemorySize=1_769, Timeout=900, EphemeralStorage={"Size": 10_240})
    answer, got = invoke(client, "disk", {}, LogType="Tail")
    print(got, answer["Log"])
    assert got["errno"] == errno.ENOSPC, got
    # What a file system needs for itself is not the function's.
    assert 10_240 * 0.95 * MIB <= got["written"] <= 10_240 * MIB


def report(answer):
    """The end of the log, and the milliseconds it tells."""
    log = base64.b64decode(answer["LogResult"]).decode()
    return log, float(re.search(r"\tDuration: ([\d.]+) ms", log).group(1))


def test_a_function_may_run_for_a_quarter_of_an_hour(quarter_hours):
    took, answer, got = quarter_hours["in-time"].result(timeout=1_000)
    log, duration = report(answer)
    print(took, got, log)
    assert "FunctionError" not in answer, got
    assert 896_000 <= duration < 900_000 and 0 < json.loads(got)["left"] < 4_000
    assert took < 930, "with its cold start"


def test_a_function_is_stopped_after_a_quarter_of_an_hour(quarter_hours):
    took, answer, got = quarter_hours["too-long"].result(timeout=1_000)
    log, duration = report(answer)
    print(took, got, log)
    assert answer["FunctionError"] == "Unhandled"
    request_id = answer["ResponseMetadata"]["RequestId"]
    assert re.fullmatch(rf"\d{{4}}-\S+Z {request_id} Task timed out after 900\.00 seconds", json.loads(got)["errorMessage"]), got
    assert 900_000 <= duration < 902_000 and took < 930 and "Status: timeout" in log
