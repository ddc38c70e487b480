"""Answers member by member and text by text: how functions are named, what is refused and in which words."""

import concurrent.futures
import http.client
import json
import socket
import urllib.parse

import botocore.exceptions
import pytest
from harness import ROLE, active, create, zipped
from test_requests import signed

APP = {"app.py": "def handler(e, c):\n    return e\n"}
FUNCTIONS = "/2015-03-31/functions"
ARN = "arn:aws:lambda:us-east-1:000000000000:function:"
CONCURRENCY = "/2017-10-31/functions/{}/concurrency"
FUNCTIONS_ONLY = (
    "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. "
    "Please specify either a function name or an unqualified function ARN."
)


def ask(cluster, method, path, document=None, headers=()):
    """(status, error code, document) of a request that no SDK would make."""
    body = b"" if document is None else json.dumps(document).encode()
    connection = http.client.HTTPConnection(urllib.parse.urlparse(cluster.info["endpoint"]).netloc, timeout=30)
    connection.request(method, path, body, {**signed(cluster, method, path, body), **dict(headers)})
    answer = connection.getresponse()
    text = answer.read()
    assert len(answer.headers["x-amzn-requestid"]) == 36
    return answer.status, answer.headers.get("x-amzn-errortype"), json.loads(text) if text else None


@pytest.fixture(scope="module")
def function(client):
    create(client, "documents", APP)
    yield "documents"
    client.delete_function(FunctionName="documents")


@pytest.mark.parametrize(
    "form",
    ["{}", "function:{}", "000000000000:{}", "000000000000:function:{}", "us-east-1:000000000000:function:{}", ARN + "{}"],
)
def test_every_form_of_a_name_names_the_function(cluster, function, form):
    path = f"{FUNCTIONS}/{form.format(function)}"
    status, _, document = ask(cluster, "GET", f"{path}/configuration")
    assert (status, document["FunctionArn"]) == (200, ARN + function)
    status, _, document = ask(cluster, "GET", f"{path}:%24LATEST/configuration")
    assert (status, document["FunctionArn"]) == (200, f"{ARN}{function}:$LATEST")


@pytest.mark.parametrize("name", ["nobody", "nobody:7", "documents:7", "documents:01", "documents:live", "a.b", "x" * 65])
def test_what_does_not_exist_is_named_as_it_was_asked_for(cluster, function, name):
    for method, path in (("GET", ""), ("GET", "/configuration"), ("POST", "/invocations")):
        answer = ask(cluster, method, f"{FUNCTIONS}/{name}{path}")
        assert answer == (404, "ResourceNotFoundException", {"Type": "User", "Message": f"Function not found: {ARN}{name}"})


def test_versions_are_refused_where_only_functions_are_meant(cluster, function):
    refused = (400, "InvalidParameterValueException", {"Type": "User", "message": FUNCTIONS_ONLY})
    for name in (f"{function}:1", f"{function}:live"):
        assert ask(cluster, "PUT", CONCURRENCY.format(name), {"ReservedConcurrentExecutions": 1}) == refused
        assert ask(cluster, "PUT", f"{FUNCTIONS}/{name}/configuration", {"Timeout": 4}) == refused


def refused(call, **members):
    with pytest.raises(botocore.exceptions.ClientError) as error:
        call(**members)
    return error.value.response["Error"]["Code"], error.value.response["Error"]["Message"]


@pytest.mark.parametrize(
    ("members", "code", "text"),
    [
        ({"Layers": ["arn:aws:lambda:us-east-1:000000000000:layer:l:1"] * 6}, "InvalidParameterValueException",
         "Cannot reference more than 5 layers."),
        ({"EphemeralStorage": {"Size": 10241}}, "ValidationException",
         "1 validation error detected: Value '10241' at 'ephemeralStorage.size' failed to satisfy constraint: Member "
         "must have value less than or equal to 10240"),
        ({"SnapStart": {"ApplyOn": "PublishedVersions"}}, "InvalidParameterValueException",
         "python3.11 is not supported for SnapStart enabled functions."),
        ({"Runtime": "java8"}, "InvalidParameterValueException",
         "The runtime parameter of java8 is no longer supported for creating or updating AWS Lambda functions. We "
         "recommend you use a supported runtime while creating or updating functions."),
        ({"Tags": {str(n): "" for n in range(51)}}, "InvalidParameterValueException",
         "Number of tags exceeds resource tag limit."),
    ],
)
def test_refusals_of_a_new_function(client, name, members, code, text):
    request = {"FunctionName": name, "Runtime": "python3.11", "Role": ROLE, "Handler": "app.handler",
               "Code": {"ZipFile": zipped(APP)}, **members}
    assert refused(client.create_function, **request) == (code, text)


def test_a_new_functions_name_takes_no_qualifier(client, name):
    code, text = refused(client.create_function, FunctionName=f"{ARN}{name}:1", Runtime="python3.11", Role=ROLE,
                         Handler="app.handler", Code={"ZipFile": zipped(APP)})
    assert code == "ValidationException" and "Member must satisfy regular expression pattern" in text


def test_an_image_is_not_for_a_zip_function(client, function):
    assert refused(client.update_function_code, FunctionName=function, ImageUri="x") == (
        "InvalidParameterValueException",
        "Please don't provide ImageUri when updating a function with packageType Zip.",
    )
    assert refused(client.update_function_code, FunctionName="nobody", ImageUri="x")[0] == "ResourceNotFoundException"


def test_tags_of_what_there_is_not(client):
    arn = "arn:aws:lambda:us-east-1:000000000000:code-signing-config:csc-00000000000000000"
    assert refused(client.list_tags, Resource=arn) == (
        "ResourceNotFoundException", "The resource you requested does not exist.")


def test_environment_absent_empty_and_too_large(client, name):
    made = create(client, name, APP, Environment={})
    assert made["Environment"] == {"Variables": {}}
    code, text = refused(client.update_function_configuration, FunctionName=name,
                         Environment={"Variables": {"BIG": "x" * 4096}})
    assert code == "InvalidParameterValueException"
    assert text.endswith('exceeded the 4KB limit. String measured: {"BIG":"' + "x" * 4096 + '"}')


def test_of_parallel_creations_of_a_name_one_wins(cluster, name):
    client = cluster.client(max_pool_connections=25)
    package = zipped(APP)

    def one(_):
        try:
            client.create_function(FunctionName=name, Runtime="python3.11", Role=ROLE, Handler="app.handler",
                                   Code={"ZipFile": package})
            return "made"
        except botocore.exceptions.ClientError as error:
            return error.response["Error"]["Message"]

    with concurrent.futures.ThreadPoolExecutor(25) as pool:
        answers = list(pool.map(one, range(100)))
    assert answers.count("made") == 1 and answers.count(f"Function already exist: {name}") == 99
    active(client, name)


def test_invocations_that_wait_for_a_deleted_function_are_told(cluster, client, name):
    create(client, name, {"app.py": "import time\ntime.sleep(1)\ndef handler(e, c):\n    return e\n"})
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        path = f"{FUNCTIONS}/{name}/invocations"
        waiting = pool.submit(talk, cluster, head(cluster, "POST", path, {**signed(cluster, "POST", path), "connection": "close"}))
        with pytest.raises(concurrent.futures.TimeoutError):
            waiting.result(0.15)
        client.delete_function(FunctionName=name)
        assert b" 404 " in waiting.result(10).splitlines()[0]


def talk(cluster, *parts):
    """What the gateway says on one connection until it ends it."""
    host, port = urllib.parse.urlparse(cluster.info["endpoint"]).netloc.split(":")
    with socket.create_connection((host, int(port)), 20) as connection:
        connection.sendall(b"".join(parts))
        return b"".join(iter(lambda: connection.recv(65536), b""))


def head(cluster, method, path, headers):
    lines = [f"{method} {path} HTTP/1.1", f"host: {urllib.parse.urlparse(cluster.info['endpoint']).netloc}"]
    return "\r\n".join([*lines, *(f"{k}: {v}" for k, v in headers.items()), "", ""]).encode()


def test_pipelined_requests_are_answered_in_order(cluster):
    path = f"{FUNCTIONS}/?MaxItems=1"
    headers = signed(cluster, "GET", path)
    last = head(cluster, "GET", path, {**headers, "connection": "close"})
    assert talk(cluster, head(cluster, "GET", path, headers) * 4, last).count(b"HTTP/1.1 200") == 5


def test_a_chunked_body_is_read(cluster, function):
    path = f"{FUNCTIONS}/{function}/invocations"
    headers = {k: v for k, v in signed(cluster, "POST", path, b'{"a":1}').items() if k.lower() != "content-length"}
    sent = head(cluster, "POST", path, {**headers, "transfer-encoding": "chunked", "connection": "close"})
    assert b'{"a": 1}' in talk(cluster, sent, b'3\r\n{"a\r\n4\r\n":1}\r\n0\r\n\r\n')


def test_a_refused_client_is_not_asked_for_its_body(cluster):
    answer = talk(cluster, head(cluster, "POST", FUNCTIONS, {"expect": "100-continue", "content-length": "7"}))
    assert answer.startswith(b"HTTP/1.1 403"), answer


def test_a_client_that_asks_first_is_told_to_go_on(cluster, function):
    path = f"{FUNCTIONS}/{function}/invocations"
    headers = {k: v for k, v in signed(cluster, "POST", path, b"{}").items() if k.lower() != "content-length"}
    more = {"expect": "100-continue", "content-length": "2", "connection": "close"}
    answer = talk(cluster, head(cluster, "POST", path, {**headers, **more}), b"{}")
    assert b"HTTP/1.1 200" in answer, answer
