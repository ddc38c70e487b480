"""Responses that come while the function makes them: InvokeWithResponseStream through boto3, functions through AWS's own
streaming client for Node.js (`awslambda.streamifyResponse`)."""

import base64
import json
import time

import botocore.exceptions
import pytest
from harness import create, until

RUNTIME = {"runtime": "nodejs22.x", "handler": "index.handler", "MemorySize": 256}

# Waits between parts until it is told to go on by nothing but time, so that parts are seen apart.
APP = """
export const handler = awslambda.streamifyResponse(async (event, stream, context) => {
  const pause = (ms) => new Promise((go) => setTimeout(go, ms));
  console.log("streaming", event.what);
  if (event.what === "parts") {
    for (let i = 0; i < event.count; i++) { stream.write(`part ${i};`); await pause(event.pause); }
  } else if (event.what === "many") {
    const block = Buffer.alloc(65536, 7);
    for (let i = 0; i < event.blocks; i++) {
      if (!stream.write(block)) await new Promise((go) => stream.once("drain", go));
    }
  } else if (event.what === "fails") {
    if (event.after) { stream.write("begun;"); await pause(200); }
    throw new RangeError("no way");
  } else if (event.what === "exits") {
    stream.write("begun;"); await pause(200); process.exit(3);
  } else if (event.what === "hangs") {
    stream.write("begun;"); await pause(60000);
  }
  stream.end();
});
"""
WHOLE = "export const handler = async (event) => ({ whole: event });\n"


@pytest.fixture(scope="module")
def streaming(cluster):
    client = cluster.client()
    create(client, "streaming", {"index.mjs": APP}, Timeout=20, **RUNTIME)
    create(client, "hasty", {"index.mjs": APP}, Timeout=1, **RUNTIME)
    return client


def stream(client, event, name="streaming", **members):
    answer = client.invoke_with_response_stream(FunctionName=name, Payload=json.dumps(event), **members)
    assert answer["StatusCode"] == 200 and answer["ExecutedVersion"] == "$LATEST"
    assert answer["ResponseStreamContentType"] == "application/vnd.amazon.eventstream"
    return answer["EventStream"]


def collect(events):
    """The bytes that came, when each part came, and how it ended."""
    parts, times, end = [], [], None
    for event in events:
        assert end is None, "something after the end"
        if "PayloadChunk" in event:
            parts.append(event["PayloadChunk"]["Payload"])
            times.append(time.monotonic())
        else:
            end = event["InvokeComplete"]
    return b"".join(parts), times, end


def test_parts_come_as_they_are_made(streaming):
    got, times, end = collect(stream(streaming, {"what": "parts", "count": 4, "pause": 300}, LogType="Tail"))
    assert got == b"part 0;part 1;part 2;part 3;"
    assert len(times) == 4 and times[-1] - times[0] > 0.8, times
    assert list(end) == ["LogResult"]
    log = base64.b64decode(end["LogResult"]).decode()
    assert "streaming parts" in log and "REPORT RequestId" in log


def test_a_large_response_passes_whole_and_a_reader_that_waits_holds_its_function_back(streaming):
    blocks = 480  # 30 MB: more than an answer in one piece may have
    events = stream(streaming, {"what": "many", "blocks": blocks})
    total, end = 0, None
    for n, event in enumerate(events):
        if "PayloadChunk" in event:
            total += len(event["PayloadChunk"]["Payload"])
        else:
            end = event["InvokeComplete"]
        if n == 3:
            # Others are served meanwhile.
            assert collect(stream(streaming, {"what": "parts", "count": 1, "pause": 1}))[0] == b"part 0;"
    assert (total, end) == (blocks * 65536, {})


def test_more_than_200_mb_are_cut_off_with_an_error(streaming):
    got, _, end = collect(stream(streaming, {"what": "many", "blocks": 3201}))
    assert len(got) <= 200 << 20
    assert end["ErrorCode"] == "Unhandled"
    assert json.loads(end["ErrorDetails"])["errorType"] == "Function.ResponseSizeTooLarge"
    assert "(209715200 bytes)" in end["ErrorDetails"]


@pytest.mark.parametrize("after", [True, False])
def test_an_error_is_told_at_the_end(streaming, after):
    got, _, end = collect(stream(streaming, {"what": "fails", "after": after}))
    assert got == (b"begun;" if after else b"")
    assert end["ErrorCode"] == "Unhandled", end
    details = json.loads(end["ErrorDetails"])
    assert (details["errorType"], details["errorMessage"]) == ("RangeError", "no way")


def test_an_exit_in_the_middle_is_told(streaming):
    got, _, end = collect(stream(streaming, {"what": "exits"}))
    assert got == b"begun;" and end["ErrorCode"] == "Unhandled"
    assert json.loads(end["ErrorDetails"])["errorType"] == "Runtime.ExitError"
    assert collect(stream(streaming, {"what": "parts", "count": 1, "pause": 1}))[0] == b"part 0;"


def test_a_timeout_in_the_middle_is_told(streaming):
    got, _, end = collect(stream(streaming, {"what": "hangs"}, name="hasty"))
    assert got == b"begun;" and end["ErrorCode"] == "Unhandled"
    assert "Task timed out after 1.00 seconds" in end["ErrorDetails"]


def test_a_client_that_leaves_frees_the_function(streaming, cluster):
    events = stream(streaming, {"what": "many", "blocks": 3000})
    next(iter(events))
    events.close()
    # With the function's only permit free again, another invocation runs.
    streaming.put_function_concurrency(FunctionName="streaming", ReservedConcurrentExecutions=1)
    try:
        def runs():
            return collect(stream(streaming, {"what": "parts", "count": 1, "pause": 1}))[0] == b"part 0;"
        until(runs, "the function serves again", 30)
    finally:
        streaming.delete_function_concurrency(FunctionName="streaming")


def test_a_function_that_does_not_stream_answers_in_one_part(streaming, name):
    create(streaming, name, {"index.mjs": WHOLE}, **RUNTIME)
    got, times, end = collect(stream(streaming, {"a": 1}, name=name))
    assert json.loads(got) == {"whole": {"a": 1}} and len(times) == 1 and end == {}


def test_a_streaming_function_that_is_invoked_as_any_other_answers_whole(streaming):
    payload = json.dumps({"what": "parts", "count": 3, "pause": 1})
    answer = streaming.invoke(FunctionName="streaming", Payload=payload)
    assert answer["Payload"].read() == b"part 0;part 1;part 2;"


def test_errors_before_the_first_part_are_those_of_invoke(streaming):
    with pytest.raises(botocore.exceptions.ClientError) as error:
        stream(streaming, {}, name="nobody")
    assert error.value.response["Error"]["Code"] == "ResourceNotFoundException"
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404
    streaming.put_function_concurrency(FunctionName="hasty", ReservedConcurrentExecutions=0)
    def stopped():
        with pytest.raises(botocore.exceptions.ClientError) as error:
            stream(streaming, {"what": "parts", "count": 1, "pause": 1}, name="hasty")
        return error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429
    until(stopped, "the function is stopped", 10)
    streaming.delete_function_concurrency(FunctionName="hasty")
    dry = streaming.invoke_with_response_stream(FunctionName="streaming", InvocationType="DryRun")
    assert dry["StatusCode"] == 204
