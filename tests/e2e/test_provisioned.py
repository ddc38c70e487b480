"""Provisioned concurrency: texts, status, sandboxes that are there before anybody asks, spilling over, and what it
outlives."""

import concurrent.futures
import os
import signal
import time

import botocore.exceptions
import pytest
from harness import Cluster, create, invoke, nodes, until
from test_versions import arn, document, refused, update

APP = """
import os, time, uuid
SANDBOX = uuid.uuid4().hex
def handler(event, context):
    time.sleep((event or {}).get("sleep", 0))
    return {"sandbox": SANDBOX, "kind": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"], "version": context.function_version}
"""


def wait_ready(client, name, qualifier, timeout=60):
    def ready():
        now = client.get_provisioned_concurrency_config(FunctionName=name, Qualifier=qualifier)
        assert now["Status"] != "FAILED", now
        return now["Status"] == "READY" and now

    return until(ready, f"{name}:{qualifier} ready", timeout)


def put(client, name, qualifier, count):
    return client.put_provisioned_concurrency_config(
        FunctionName=name, Qualifier=qualifier, ProvisionedConcurrentExecutions=count)


def unreserved(client):
    return client.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"]


@pytest.fixture
def published(client, name):
    create(client, name, {"app.py": APP}, Publish=True, Timeout=20)
    yield name
    client.delete_function(FunctionName=name)


def at_once(client, name, count, **members):
    """As many invocations at a time; answers, and throttles by their reason."""

    def one(_):
        try:
            answer, got = invoke(client, name, {"sleep": 1.5}, LogType="Tail", **members)
            return answer, got
        except botocore.exceptions.ClientError as error:
            return error.response, None

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_a_provisioned_sandbox_is_there_before_anybody_asks(client, published):
    before = unreserved(client)
    made = document(put(client, published, "1", 2))
    last_modified = made.pop("LastModified")
    assert made == {
        "RequestedProvisionedConcurrentExecutions": 2, "AvailableProvisionedConcurrentExecutions": 0,
        "AllocatedProvisionedConcurrentExecutions": 0, "Status": "IN_PROGRESS",
    }
    ready = document(wait_ready(client, published, "1"))
    assert ready == {
        "RequestedProvisionedConcurrentExecutions": 2, "AvailableProvisionedConcurrentExecutions": 2,
        "AllocatedProvisionedConcurrentExecutions": 2, "Status": "READY", "LastModified": last_modified,
    }
    assert unreserved(client) == before - 2
    listed = client.list_provisioned_concurrency_configs(FunctionName=published)["ProvisionedConcurrencyConfigs"]
    assert listed == [{"FunctionArn": arn(client, published) + ":1", **ready}]
    answer, got = invoke(client, published, {}, Qualifier="1", LogType="Tail")
    assert got["kind"] == "provisioned-concurrency" and got["version"] == "1"
    assert "REPORT" in answer["Log"] and "Init Duration" not in answer["Log"], "no cold start"
    answer, got = invoke(client, published, {}, LogType="Tail")
    assert got["kind"] == "on-demand" and "Init Duration" in answer["Log"], "$LATEST has none"
    assert client.delete_provisioned_concurrency_config(FunctionName=published, Qualifier="1")
    assert unreserved(client) == before
    assert refused(client.get_provisioned_concurrency_config, FunctionName=published, Qualifier="1") == (
        404, "ProvisionedConcurrencyConfigNotFoundException", "No Provisioned Concurrency Config found for this function")


def test_what_is_over_spills_to_on_demand(client, published):
    put(client, published, "1", 2)
    wait_ready(client, published, "1")
    answers = at_once(client, published, 4, Qualifier="1")
    kinds = sorted(got["kind"] for _, got in answers)
    assert kinds == ["on-demand", "on-demand", "provisioned-concurrency", "provisioned-concurrency"]
    assert len({got["sandbox"] for _, got in answers}) == 4


def test_with_all_that_is_reserved_provisioned_nothing_spills(client, published):
    client.put_function_concurrency(FunctionName=published, ReservedConcurrentExecutions=2)
    put(client, published, "1", 2)
    wait_ready(client, published, "1")
    answers = at_once(client, published, 5, Qualifier="1")
    served = [got["kind"] for _, got in answers if got]
    throttled = [answer for answer, got in answers if got is None]
    assert served == ["provisioned-concurrency"] * 2
    assert {(t["ResponseMetadata"]["HTTPStatusCode"], t["Reason"]) for t in throttled} == {
        (429, "ReservedFunctionConcurrentInvocationLimitExceeded")}
    status, _, _ = refused(client.invoke, FunctionName=published)
    assert status == 429, "$LATEST has nothing left"


def test_raising_and_lowering_keeps_the_sandboxes_that_stay(client, published):
    put(client, published, "1", 1)
    wait_ready(client, published, "1")
    first = invoke(client, published, {}, Qualifier="1")[1]["sandbox"]
    put(client, published, "1", 3)
    wait_ready(client, published, "1")
    sandboxes = {got["sandbox"] for _, got in at_once(client, published, 3, Qualifier="1")}
    assert first in sandboxes and len(sandboxes) == 3
    put(client, published, "1", 1)

    def lowered():
        now = client.get_provisioned_concurrency_config(FunctionName=published, Qualifier="1")
        return now["Status"] == "READY" and now["AllocatedProvisionedConcurrentExecutions"] == 1

    until(lowered, "lowered to one")


def test_an_alias_takes_its_provisioned_concurrency_along(client, published):
    update(client, published, "two", Publish=True)
    client.create_alias(FunctionName=published, Name="live", FunctionVersion="1")
    put(client, published, "live", 1)
    wait_ready(client, published, "live")
    got = invoke(client, published, {}, Qualifier="live")[1]
    assert (got["kind"], got["version"]) == ("provisioned-concurrency", "1")
    assert refused(put, client=client, name=published, qualifier="1", count=1) == (
        409, "ResourceConflictException", "Version is pointed by a Provisioned Concurrency alias")
    client.update_alias(FunctionName=published, Name="live", FunctionVersion="2")
    wait_ready(client, published, "live")
    client.delete_alias(FunctionName=published, Name="live")
    assert client.list_provisioned_concurrency_configs(FunctionName=published)["ProvisionedConcurrencyConfigs"] == []
    put(client, published, "1", 1)
    wait_ready(client, published, "1")


def test_refusals_have_awss_texts(client, published):
    base = arn(client, published)
    client.create_alias(FunctionName=published, Name="latest", FunctionVersion="$LATEST")
    unpublished = "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
    neither = "The function resource provided must be an alias or a published version."
    limit = client.get_account_settings()["AccountLimit"]["ConcurrentExecutions"]
    for qualifier, count, expected in (
        ("$LATEST", 1, (400, "InvalidParameterValueException", unpublished)),
        ("latest", 1, (400, "InvalidParameterValueException", unpublished)),
        ("9", 1, (404, "ResourceNotFoundException", f"Function not found: {base}:9")),
        ("gone", 1, (404, "ResourceNotFoundException", f"Cannot find alias arn: {base}:gone")),
        ("1", limit, (400, "InvalidParameterValueException",
                      "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution "
                      "below its minimum value of [100].")),
        ("1", limit + 1, (400, "InvalidParameterValueException",
                          f"Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [{limit}].")),
    ):
        assert refused(put, client=client, name=published, qualifier=qualifier, count=count) == expected
    for call in (client.get_provisioned_concurrency_config, client.delete_provisioned_concurrency_config):
        assert refused(call, FunctionName=published, Qualifier="$LATEST") == (400, "InvalidParameterValueException", neither)
    client.put_function_concurrency(FunctionName=published, ReservedConcurrentExecutions=2)
    assert refused(put, client=client, name=published, qualifier="1", count=3) == (
        400, "InvalidParameterValueException",
        "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function")
    put(client, published, "1", 2)
    status, code, _ = refused(client.put_function_concurrency, FunctionName=published, ReservedConcurrentExecutions=1)
    assert (status, code) == (400, "InvalidParameterValueException")


def test_a_function_that_does_not_initialise_says_so(client, name):
    create(client, name, {"app.py": "raise RuntimeError('never')\n"}, Publish=True)
    put(client, name, "1", 1)

    def failed():
        now = client.get_provisioned_concurrency_config(FunctionName=name, Qualifier="1")
        return now["Status"] == "FAILED" and now

    now = until(failed, "the allocation fails")
    assert now["StatusReason"] == "FUNCTION_ERROR_INIT_FAILURE" and now["AvailableProvisionedConcurrentExecutions"] == 0
    client.delete_function(FunctionName=name)


def test_a_sandbox_that_ends_is_made_again(client, name):
    create(client, name, {"app.py": APP.replace("time.sleep(", "os._exit(1) if (event or {}).get('exit') else time.sleep(")},
           Publish=True)
    put(client, name, "1", 1)
    wait_ready(client, name, "1")
    first = invoke(client, name, {}, Qualifier="1")[1]["sandbox"]
    assert "FunctionError" in invoke(client, name, {"exit": True}, Qualifier="1")[0]

    def again():
        got = invoke(client, name, {}, Qualifier="1")[1]
        return got["kind"] == "provisioned-concurrency" and got["sandbox"] != first

    until(again, "another provisioned sandbox")
    client.delete_function(FunctionName=name)


def test_it_outlives_workers_and_controllers(tmp_path):
    """Two workers share four; one is killed and its share goes to whoever lives; every controller is killed, and what
    was there goes on."""
    cluster = Cluster(tmp_path, controllers=3, workers=2).start()
    try:
        client = cluster.client(retries=8)
        create(client, "f", {"app.py": APP}, Publish=True, Timeout=5)
        put(client, "f", "1", 4)
        wait_ready(client, "f", "1")
        even = [2, 2]

        def spread():
            # Also if a worker was silent while the shares were given: what lies unevenly moves.
            seen = [node["sandboxes"] for (role, _), node in nodes(cluster).items() if role == "worker"]
            return seen == even

        until(spread, "two on each worker", 30)
        wait_ready(client, "f", "1")
        before = {got["sandbox"] for _, got in at_once(client, "f", 4, Qualifier="1")}
        assert len(before) == 4
        victim = cluster.nodes("worker")[0]
        os.kill(victim["pid"], signal.SIGKILL)
        killed = time.monotonic()

        def lost():
            now = client.get_provisioned_concurrency_config(FunctionName="f", Qualifier="1")
            return now["AvailableProvisionedConcurrentExecutions"] < 4

        until(lost, "the loss is noticed")
        wait_ready(client, "f", "1")
        print(f"ready again {time.monotonic() - killed:.1f} s after the kill of a worker")
        until(spread, "two on each worker", 30)
        wait_ready(client, "f", "1")
        answers = at_once(client, "f", 4, Qualifier="1")
        assert [got["kind"] for _, got in answers] == ["provisioned-concurrency"] * 4
        after = {got["sandbox"] for _, got in answers}
        assert len(after) == 4 and len(before & after) == 2, "those of the other worker are the same"
        for node in cluster.nodes("controller"):
            cluster.kill(node)
        got = invoke(client, "f", {}, Qualifier="1")[1]
        assert got["kind"] == "provisioned-concurrency" and got["sandbox"] in after
        for node in cluster.nodes("controller"):
            until(lambda: cluster.info, "info")
        wait_ready(client, "f", "1", 90)
        assert {got["sandbox"] for _, got in at_once(client, "f", 4, Qualifier="1")} == after, "none was made anew"
    finally:
        cluster.stop()
