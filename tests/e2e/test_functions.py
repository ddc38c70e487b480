"""The life of a function through boto3 and the AWS CLI."""

import base64
import hashlib
import json
import re
import subprocess
import sys

import botocore.exceptions
import pytest
from harness import ROLE, ROOT, active, create, invoke, until, zipped

APP = {"app.py": "def handler(event, context):\n    return {'got': event}\n"}
SECOND = {"app.py": "def handler(event, context):\n    return 'second'\n"}


def code(error):
    return error.value.response["Error"]["Code"]


def test_create_answers_pending_and_becomes_active(client, name):
    package = zipped(APP)
    made = client.create_function(
        FunctionName=name, Runtime="python3.11", Role=ROLE, Handler="app.handler", Code={"ZipFile": package},
        Tags={"team": "core"},
    )
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert made["State"] == "Pending" and made["StateReasonCode"] == "Creating"
    assert "LastUpdateStatus" not in made
    assert made["CodeSha256"] == base64.b64encode(hashlib.sha256(package).digest()).decode()
    assert made["CodeSize"] == len(package)
    assert made["FunctionArn"] == f"arn:aws:lambda:us-east-1:000000000000:function:{name}"
    assert (made["Timeout"], made["MemorySize"], made["Version"]) == (3, 128, "$LATEST")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000", made["LastModified"])
    assert "Environment" not in made and "Layers" not in made
    client.get_waiter("function_active_v2").wait(FunctionName=name)
    got = client.get_function(FunctionName=name)
    assert got["Configuration"]["State"] == "Active" and got["Configuration"]["LastUpdateStatus"] == "Successful"
    assert got["Configuration"]["RevisionId"] != made["RevisionId"]
    assert got["Tags"] == {"team": "core"}
    assert got["Code"]["RepositoryType"] == "S3" and got["Code"]["Location"].startswith("http")


def test_a_name_is_taken_once(client, name):
    create(client, name, APP)
    with pytest.raises(botocore.exceptions.ClientError) as error:
        create(client, name, APP)
    assert code(error) == "ResourceConflictException"
    assert error.value.response["Error"]["Message"] == f"Function already exist: {name}"


def test_update_serves_the_new_code_when_successful(client, name):
    create(client, name, APP)
    before = client.get_function_configuration(FunctionName=name)
    answer = client.update_function_code(FunctionName=name, ZipFile=zipped(SECOND))
    assert answer["LastUpdateStatus"] == "InProgress"
    assert answer["CodeSha256"] != before["CodeSha256"] and answer["RevisionId"] != before["RevisionId"]
    with pytest.raises(botocore.exceptions.ClientError) as error:
        client.update_function_configuration(FunctionName=name, Timeout=9)
    assert code(error) == "ResourceConflictException"
    client.get_waiter("function_updated_v2").wait(FunctionName=name)
    _, payload = invoke(client, name, {})
    assert payload == "second"


def test_configuration_changes_reach_the_function(client, name):
    create(client, name, {"app.py": "import os\ndef handler(e, c):\n    return [os.environ.get('GREET'), c.memory_limit_in_mb]\n"})
    answer = client.update_function_configuration(
        FunctionName=name, Environment={"Variables": {"GREET": "7"}}, MemorySize=256, Timeout=10
    )
    assert answer["LastUpdateStatus"] == "InProgress" and answer["MemorySize"] == 256
    active(client, name)
    _, payload = invoke(client, name, {})
    assert payload == ["7", "256"] or payload == ["7", 256]


def test_revision_id_guards_an_update(client, name):
    create(client, name, APP)
    with pytest.raises(botocore.exceptions.ClientError) as error:
        client.update_function_code(FunctionName=name, ZipFile=zipped(SECOND), RevisionId="0" * 36)
    assert code(error) == "PreconditionFailedException"


def test_listing_pages_through_all(client, name):
    names = [f"{name}-{n}" for n in range(5)]
    for one in names:
        create(client, one, APP, wait=False)
    found = [
        f["FunctionName"]
        for page in client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 2})
        for f in page["Functions"]
    ]
    assert set(names) <= set(found) and len(found) == len(set(found))


def test_delete_ends_it(client, name):
    create(client, name, APP)
    assert client.delete_function(FunctionName=name)["ResponseMetadata"]["HTTPStatusCode"] == 204
    for call in (client.get_function, client.delete_function, client.invoke):
        with pytest.raises(botocore.exceptions.ClientError) as error:
            call(FunctionName=name)
        assert code(error) == "ResourceNotFoundException"
        assert f":function:{name}" in error.value.response["Error"]["Message"]


def test_a_deleted_name_can_be_taken_again_with_other_code(client, name):
    create(client, name, APP)
    assert invoke(client, name, 1)[1] == {"got": 1}
    client.delete_function(FunctionName=name)
    create(client, name, SECOND)
    assert invoke(client, name, 1)[1] == "second"


def test_tags(client, name):
    arn = create(client, name, APP)["FunctionArn"]
    client.tag_resource(Resource=arn, Tags={"a": "1", "b": "2"})
    client.untag_resource(Resource=arn, TagKeys=["a"])
    assert client.list_tags(Resource=arn)["Tags"] == {"b": "2"}


def test_reserved_concurrency(client, name):
    create(client, name, APP)
    assert client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=5)[
        "ReservedConcurrentExecutions"
    ] == 5
    assert client.get_function_concurrency(FunctionName=name)["ReservedConcurrentExecutions"] == 5
    settings = client.get_account_settings()
    assert settings["AccountLimit"]["ConcurrentExecutions"] == 1000
    assert settings["AccountLimit"]["UnreservedConcurrentExecutions"] <= 995
    with pytest.raises(botocore.exceptions.ClientError) as error:
        client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=901)
    assert code(error) == "InvalidParameterValueException"
    assert "[100]" in error.value.response["Error"]["Message"]
    client.delete_function_concurrency(FunctionName=name)
    assert "ReservedConcurrentExecutions" not in client.get_function_concurrency(FunctionName=name)


def test_reserved_zero_throttles(client, name):
    create(client, name, APP)
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)

    def throttled():
        try:
            invoke(client, name, {})
        except client.exceptions.TooManyRequestsException as error:
            return error.response
        return None

    response = until(throttled, "a throttle")
    assert response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    client.delete_function_concurrency(FunctionName=name)
    until(lambda: invoke(client, name, {})[0]["StatusCode"] == 200, "invocations after the reservation is gone")


def test_a_broken_archive_is_refused(client, name):
    with pytest.raises(botocore.exceptions.ClientError) as error:
        client.create_function(
            FunctionName=name, Runtime="python3.11", Role=ROLE, Handler="a.b", Code={"ZipFile": b"not a zip"}
        )
    assert code(error) == "InvalidParameterValueException"
    assert "Could not unzip uploaded file" in error.value.response["Error"]["Message"]


def test_model_constraints_give_the_exact_text(client, name):
    with pytest.raises(botocore.exceptions.ClientError) as error:
        client.update_function_configuration(FunctionName=name, MemorySize=100000)
    assert code(error) == "ValidationException"
    assert error.value.response["Error"]["Message"] == (
        "1 validation error detected: Value '100000' at 'memorySize' failed to satisfy constraint: "
        "Member must have value less than or equal to 32768"
    )


def test_other_operations_say_that_they_are_not_there(client, name):
    with pytest.raises(botocore.exceptions.ClientError) as error:
        client.list_capacity_providers()
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501
    assert "ListCapacityProviders" in error.value.response["Error"]["Message"]


def test_aws_cli_deploys_and_invokes(cluster, name, tmp_path):
    (tmp_path / "app.zip").write_bytes(zipped(APP))
    aws = [str(ROOT / ".venv/bin/aws"), "--endpoint-url", cluster.info["endpoint"], "lambda"]

    def run(*words):
        done = subprocess.run([*aws, *words], env=cluster.env(), capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    made = run("create-function", "--function-name", name, "--runtime", "python3.11", "--handler", "app.handler",
               "--role", ROLE, "--zip-file", f"fileb://{tmp_path}/app.zip")
    assert made["FunctionName"] == name
    run("wait", "function-active-v2", "--function-name", name)
    answer = run("invoke", "--function-name", name, "--payload", '{"k": "ü"}', str(tmp_path / "out.json"))
    assert answer["StatusCode"] == 200 and answer["ExecutedVersion"] == "$LATEST"
    assert json.loads((tmp_path / "out.json").read_text()) == {"got": {"k": "ü"}}
    (tmp_path / "app.zip").write_bytes(zipped(SECOND))
    run("update-function-code", "--function-name", name, "--zip-file", f"fileb://{tmp_path}/app.zip")
    run("wait", "function-updated-v2", "--function-name", name)
    run("invoke", "--function-name", name, str(tmp_path / "out.json"))
    assert json.loads((tmp_path / "out.json").read_text()) == "second"
    assert any(f["FunctionName"] == name for f in run("list-functions")["Functions"])
    run("delete-function", "--function-name", name)


def test_code_can_be_downloaded_from_its_location(client, name):
    import urllib.request

    package = zipped(APP)
    client.create_function(
        FunctionName=name, Runtime="python3.11", Role=ROLE, Handler="app.handler", Code={"ZipFile": package}
    )
    location = client.get_function(FunctionName=name)["Code"]["Location"]
    with urllib.request.urlopen(location, timeout=10) as answer:
        assert answer.read() == package


def test_grpc_example_client_creates_and_invokes(cluster, name):
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples/grpc_client.py"), name], env=cluster.env(), capture_output=True,
        text=True, timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "Hello, gRPC!" in done.stdout
