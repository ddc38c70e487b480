"""Event invocations: accepted, run, tried again, told of; looked up and taken up again by an operator."""

import base64
import json
import re
import sys
import urllib.parse

import grpc
import pytest
from harness import ROOT, Cluster, active, create, hearth, invoke, until, zipped
from stand_in import Queue, StandIn
from test_versions import refused

APP = """
import time
def handler(event, context):
    time.sleep(event.get("sleep", 0) if isinstance(event, dict) else 0)
    if isinstance(event, dict) and event.get("fail"):
        raise ValueError("no such thing")
    return {"got": event, "id": context.aws_request_id}
"""
RECORD = {"version", "timestamp", "requestContext", "requestPayload", "responseContext", "responsePayload"}


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    stand_in = StandIn(tmp_path_factory.mktemp("services"))
    yield stand_in
    stand_in.stop()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, services):
    path = tmp_path_factory.mktemp("events")
    options = path / "options.toml"
    options.write_text(services.options())
    cluster = Cluster(path, extra=["--options", str(options), "--event-retry-base-delay", "200ms"]).start()
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def client(cluster):
    return cluster.client()


@pytest.fixture
def queue(services, name):
    return Queue(services, name)


def destinations(client, name, retries=2, **by_end):
    client.put_function_event_invoke_config(
        FunctionName=name, MaximumRetryAttempts=retries,
        DestinationConfig={end: {"Destination": arn} for end, arn in by_end.items()})


def send(client, name, payload=None, **members):
    """The request id of an accepted event."""
    answer, _ = invoke(client, name, payload, InvocationType="Event", **members)
    assert (answer["StatusCode"], answer["Raw"]) == (202, b"")
    assert "ExecutedVersion" not in answer and "FunctionError" not in answer
    return answer["ResponseMetadata"]["RequestId"]


def arn(name, qualifier="$LATEST"):
    return f"arn:aws:lambda:us-east-1:000000000000:function:{name}:{qualifier}"


def test_an_event_runs_and_its_success_is_told(client, name, queue):
    create(client, name, {"app.py": APP})
    destinations(client, name, OnSuccess=queue.arn)
    request_id = send(client, name, {"n": 1})
    [record] = queue.records()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record.pop("timestamp"))
    assert record == {
        "version": "1.0",
        "requestContext": {"requestId": request_id, "functionArn": arn(name), "condition": "Success", "approximateInvokeCount": 1},
        "requestPayload": {"n": 1},
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST"},
        "responsePayload": {"got": {"n": 1}, "id": request_id},
    }


def test_a_failure_is_tried_again_and_then_told_to_both(client, name, services, queue):
    letters = Queue(services, f"{name}-letters")
    create(client, name, {"app.py": APP}, DeadLetterConfig={"TargetArn": letters.arn})
    client.publish_version(FunctionName=name)
    client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    client.put_function_event_invoke_config(
        FunctionName=name, Qualifier="live", DestinationConfig={"OnFailure": {"Destination": queue.arn}})
    request_id = send(client, name, {"fail": True}, Qualifier="live")
    [record] = queue.records()
    assert record.keys() == RECORD
    assert record["requestContext"] == {
        "requestId": request_id, "functionArn": arn(name, "live"), "condition": "RetriesExhausted", "approximateInvokeCount": 3}
    assert record["responseContext"] == {"statusCode": 200, "executedVersion": "1", "functionError": "Unhandled"}
    assert (record["responsePayload"]["errorMessage"], record["responsePayload"]["errorType"]) == ("no such thing", "ValueError")
    [letter] = letters.wait()
    assert json.loads(letter["Body"]) == {"fail": True}
    attributes = {key: (value["DataType"], value["StringValue"]) for key, value in letter["MessageAttributes"].items()}
    assert attributes == {"RequestID": ("String", request_id), "ErrorCode": ("Number", "200"), "ErrorMessage": ("String", "no such thing")}


def test_a_function_of_no_concurrency_fails_its_events_at_once(client, name, queue):
    create(client, name, {"app.py": APP})
    destinations(client, name, OnFailure=queue.arn)
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    request_id = send(client, name, {})
    [record] = queue.records()
    assert record.keys() == RECORD - {"responseContext", "responsePayload"}
    assert record["requestContext"] == {
        "requestId": request_id, "functionArn": arn(name), "condition": "ZeroReservedConcurrency", "approximateInvokeCount": 0}


def test_throttles_burn_no_attempt(client, name, queue):
    create(client, name, {"app.py": APP})
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    destinations(client, name, retries=0, OnSuccess=queue.arn, OnFailure=queue.arn)
    sent = {send(client, name, {"sleep": 0.4, "n": n}) for n in range(4)}
    contexts = [record["requestContext"] for record in queue.records(4)]
    assert {context["requestId"] for context in contexts} == sent
    assert {(context["condition"], context["approximateInvokeCount"]) for context in contexts} == {("Success", 1)}


def test_topics_buckets_buses_and_functions_are_told(client, name, services, queue):
    create(client, name, {"app.py": APP})
    topic = services.client("sns").create_topic(Name=name)["TopicArn"]
    services.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue.arn)
    destinations(client, name, OnSuccess=topic)
    request_id = send(client, name, {"to": "topic"})
    [notice] = queue.records()
    assert json.loads(notice["Message"])["requestContext"]["requestId"] == request_id

    bus = Queue(services, f"{name}-bus")
    events = services.client("events")
    events.put_rule(Name=name, EventPattern=json.dumps({"source": ["lambda"], "detail": {"requestPayload": {"to": ["bus"]}}}))
    events.put_targets(Rule=name, Targets=[{"Id": "1", "Arn": bus.arn}])
    default = "arn:aws:events:us-east-1:000000000000:event-bus/default"
    destinations(client, name, OnSuccess=default)
    send(client, name, {"to": "bus"})
    [event] = bus.records()
    assert (event["source"], event["detail-type"]) == ("lambda", "Lambda Function Invocation Result - Success")
    assert event["resources"] == [default, arn(name)]
    assert event["detail"]["responsePayload"]["got"] == {"to": "bus"}

    s3 = services.client("s3")
    s3.create_bucket(Bucket=name)
    destinations(client, name, retries=0, OnFailure=f"arn:aws:s3:::{name}")
    send(client, name, {"fail": True})
    [found] = until(lambda: s3.list_objects_v2(Bucket=name).get("Contents"), "the object")
    assert re.fullmatch(rf"aws/lambda/async/{name}/\d{{4}}/\d\d/\d\d/\d{{4}}-\d\d-\d\dT\d\d\.\d\d\.\d\d-[0-9a-f-]{{36}}", found["Key"])
    record = json.load(s3.get_object(Bucket=name, Key=found["Key"])["Body"])
    assert record["requestContext"]["condition"] == "RetriesExhausted"

    told = Queue(services, f"{name}-told")
    create(client, f"{name}-next", {"app.py": APP})
    destinations(client, f"{name}-next", OnSuccess=told.arn)
    destinations(client, name, OnSuccess=arn(f"{name}-next"))
    request_id = send(client, name, {"to": "function"})
    [record] = told.records()
    assert record["requestPayload"]["requestContext"]["requestId"] == request_id
    assert record["requestPayload"]["responsePayload"]["got"] == {"to": "function"}


def test_what_cannot_be_told_is_said_and_counted(cluster, client, name):
    create(client, name, {"app.py": APP})
    destinations(client, name, OnSuccess=f"arn:aws:sqs:us-east-1:000000000000:{name}-none")
    request_id = send(client, name, {})
    line = until(lambda: [line for line in cluster.output().splitlines() if "could not be told" in line and request_id in line], "the log")
    assert "NonExistentQueue" in line[0] or "QueueDoesNotExist" in line[0], line


def test_what_is_not_taken(client, name):
    create(client, name, {"app.py": APP})
    large = json.dumps("x" * (1_048_576 - 1))
    message = "Request must be smaller than 1048576 bytes for the InvokeFunction operation"
    assert refused(client.invoke, FunctionName=name, InvocationType="Event", Payload=large) == (413, "RequestEntityTooLargeException", message)
    assert refused(client.invoke, FunctionName=name, InvocationType="Event", Payload="{")[:2] == (400, "InvalidRequestContentException")
    assert refused(client.invoke, FunctionName="nobody", InvocationType="Event")[:2] == (404, "ResourceNotFoundException")
    gone = {"FunctionName": name, "Qualifier": "none", "InvocationType": "Event"}
    assert refused(client.invoke, **gone)[:2] == (404, "ResourceNotFoundException")


def test_a_large_event_and_its_record_come_whole(cluster, client, name):
    create(client, name, {"app.py": "def handler(event, context):\n    return len(event)\n"}, MemorySize=512)
    check = "def handler(event, context):\n    assert (len(event['requestPayload']), event['responsePayload']) == (1_000_000, 1_000_000)\n"
    create(client, f"{name}-next", {"app.py": check}, MemorySize=512)
    destinations(client, name, OnSuccess=arn(f"{name}-next"))
    send(client, name, json.dumps("x" * 1_000_000))

    def ended():
        events = json.loads(hearth(cluster, "events", "list", "--function", f"{name}-next", "--json").stdout)
        return [event["phase"]["Settled"]["end"] for event in events] == [{"Delivered": "Success"}]

    until(ended, "the record is taken")


def test_the_deprecated_way(client, name, queue):
    create(client, name, {"app.py": APP})
    destinations(client, name, OnSuccess=queue.arn)
    answer = client.invoke_async(FunctionName=name, InvokeArgs=b'{"old": true}')
    assert (answer["Status"], answer["ResponseMetadata"]["HTTPStatusCode"]) == (202, 202)
    assert queue.records()[0]["requestPayload"] == {"old": True}


def test_events_over_grpc(cluster, client, name, queue):
    create(client, name, {"app.py": APP})
    destinations(client, name, OnSuccess=queue.arn)
    sys.path.insert(0, str(ROOT / "proto/proto"))
    messages, services = grpc.protos_and_services("hearth/v1/invoke.proto")
    env = cluster.env()
    keys = f"{env['AWS_ACCESS_KEY_ID']}:{env['AWS_SECRET_ACCESS_KEY']}"
    auth = [("authorization", "Basic " + base64.b64encode(keys.encode()).decode())]
    stub = services.InvocationStub(grpc.insecure_channel(urllib.parse.urlparse(env["AWS_ENDPOINT_URL"]).netloc))
    sent = stub.InvokeEvent(messages.InvokeRequest(function_name=name, payload=b'{"by": "grpc"}'), metadata=auth, timeout=30)
    [record] = queue.records()
    assert (record["requestContext"]["requestId"], record["requestPayload"]) == (sent.request_id, {"by": "grpc"})


def test_an_operator_sees_events_and_runs_failed_ones_again(cluster, client, name, queue):
    create(client, name, {"app.py": "def handler(event, context):\n    raise ValueError('not yet')\n"})
    destinations(client, name, retries=0, OnSuccess=queue.arn)
    request_id = send(client, name, {"n": 7})

    def shown():
        return json.loads(hearth(cluster, "events", "show", request_id, "--json").stdout)[0]

    until(lambda: "Settled" in shown()["phase"], "it failed")
    assert shown()["phase"]["Settled"]["end"] == {"Delivered": "RetriesExhausted"}
    listed = hearth(cluster, "events", "list", "--failed", "--function", name).stdout
    assert request_id in listed and "RetriesExhausted" in listed

    client.update_function_code(FunctionName=name, ZipFile=zipped({"app.py": APP}))
    active(client, name)
    assert hearth(cluster, "events", "redrive", request_id).stdout == f"{request_id} waits again\n"
    assert queue.records()[0]["requestContext"]["requestId"] == request_id
    until(lambda: shown()["phase"]["Settled"]["end"] == {"Delivered": "Success"}, "it is settled")
    again = hearth(cluster, "events", "redrive", request_id, check=False)
    assert again.returncode == 1 and "has not failed" in again.stderr
    nobody = hearth(cluster, "events", "show", "nobody", check=False)
    assert nobody.returncode == 1 and "there is no event nobody" in nobody.stderr


def test_events_of_a_deleted_function_are_dropped(cluster, client, name):
    create(client, name, {"app.py": APP})
    client.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=2)
    # It fails, and is gone when it is to be tried again.
    request_id = send(client, name, {"fail": True})
    client.delete_function(FunctionName=name)

    def dropped():
        shown = json.loads(hearth(cluster, "events", "show", request_id, "--json").stdout)[0]
        return shown["phase"].get("Settled", {}).get("end") == "Dropped"

    until(dropped, "it is dropped")
