"""Requests that are wrong in ways no SDK makes: signatures, dates, bodies, slow clients."""

import datetime
import http.client
import json
import socket
import urllib.parse

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.exceptions
import pytest
from harness import create, until

APP = {"app.py": "def handler(e, c):\n    return 1\n"}


def signed(cluster, method, path, body=b"", **changes):
    info = {**cluster.info, **changes}
    request = botocore.awsrequest.AWSRequest(method, info["endpoint"] + path, data=body)
    keys = botocore.credentials.Credentials(info["access_key_id"], info["secret_access_key"])
    botocore.auth.SigV4Auth(keys, "lambda", info["region"]).add_auth(request)
    return dict(request.headers.items())


def send(cluster, method, path, headers, body=b""):
    connection = http.client.HTTPConnection(urllib.parse.urlparse(cluster.info["endpoint"]).netloc, timeout=30)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return answer.status, answer.headers.get("x-amzn-errortype", "").split(":")[0], answer.read()


LIST = "/2015-03-31/functions/"


def test_a_signed_request_is_accepted(cluster):
    assert send(cluster, "GET", LIST, signed(cluster, "GET", LIST))[0] == 200


def test_a_wrong_secret_is_refused(cluster):
    status, kind, _ = send(cluster, "GET", LIST, signed(cluster, "GET", LIST, secret_access_key="x" * 40))
    assert (status, kind) == (403, "InvalidSignatureException")


def test_an_unknown_key_is_refused(cluster):
    status, kind, _ = send(cluster, "GET", LIST, signed(cluster, "GET", LIST, access_key_id="AKIAAAAAAAAAAAAAAAAA"))
    assert (status, kind) == (403, "UnrecognizedClientException")


def test_no_signature_is_refused(cluster):
    status, kind, _ = send(cluster, "GET", LIST, {})
    assert (status, kind) == (403, "MissingAuthenticationTokenException")


def test_an_expired_date_is_refused(cluster, monkeypatch):
    old = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)

    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_, **__: old.replace(tzinfo=None), raising=False)
    headers = signed(cluster, "GET", LIST)
    assert headers["X-Amz-Date"] == old.strftime("%Y%m%dT%H%M%SZ")
    status, kind, body = send(cluster, "GET", LIST, headers)
    assert (status, kind) == (403, "InvalidSignatureException") and b"Signature expired" in body


def test_a_changed_body_is_refused(cluster, client, name):
    create(client, name, APP)
    path = f"/2015-03-31/functions/{name}/invocations"
    status, kind, _ = send(cluster, "POST", path, signed(cluster, "POST", path, b'{"a":1}'), b'{"a":2}')
    assert (status, kind) == (403, "InvalidSignatureException")


def test_a_truncated_body_does_no_harm(cluster, client, name):
    create(client, name, APP)
    path = f"/2015-03-31/functions/{name}/invocations"
    headers = signed(cluster, "POST", path, b'{"a":1}')
    host, port = urllib.parse.urlparse(cluster.info["endpoint"]).netloc.split(":")
    with socket.create_connection((host, int(port)), 30) as connection:
        head = f"POST {path} HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-length: 100\r\n"
        head += "".join(f"{k}: {v}\r\n" for k, v in headers.items())
        connection.sendall(head.encode() + b"\r\n" + b'{"a":1}')
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(4096)
    assert answer == b"" or answer.split()[1] in (b"400", b"408"), answer
    assert client.invoke(FunctionName=name, Payload=b"{}")["StatusCode"] == 200


def test_a_client_that_dribbles_its_head_is_let_go(cluster):
    host, port = urllib.parse.urlparse(cluster.info["endpoint"]).netloc.split(":")
    with socket.create_connection((host, int(port)), 60) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n")
        connection.settimeout(40)
        answer = connection.recv(4096)
    assert answer == b"" or answer.split()[1] in (b"400", b"408"), answer


def test_an_unknown_path_is_an_unknown_operation(cluster):
    status, kind, _ = send(cluster, "GET", "/nowhere", signed(cluster, "GET", "/nowhere"))
    assert (status, kind) == (404, "UnknownOperationException")


def test_a_document_that_is_not_json_is_told(cluster):
    status, kind, body = send(cluster, "POST", LIST, signed(cluster, "POST", LIST, b"{"), b"{")
    assert status == 400 and kind in ("InvalidRequestContentException", "SerializationException"), (kind, body)


def test_one_date_header(cluster):
    connection = http.client.HTTPConnection(urllib.parse.urlparse(cluster.info["endpoint"]).netloc, timeout=30)
    connection.request("GET", LIST, headers=signed(cluster, "GET", LIST))
    answer = connection.getresponse()
    answer.read()
    assert len(answer.headers.get_all("date")) == 1
    assert len(answer.headers["x-amzn-requestid"]) == 36


def test_a_presigned_request_is_accepted_and_one_after_its_time_is_not(cluster):
    info = cluster.info
    keys = botocore.credentials.Credentials(info["access_key_id"], info["secret_access_key"])
    request = botocore.awsrequest.AWSRequest("GET", info["endpoint"] + LIST)
    botocore.auth.SigV4QueryAuth(keys, "lambda", info["region"], expires=60).add_auth(request)
    url = urllib.parse.urlparse(request.url)
    assert send(cluster, "GET", f"{url.path}?{url.query}", {})[0] == 200
    changed = url.query.replace("X-Amz-Expires=60", "X-Amz-Expires=61")
    assert send(cluster, "GET", f"{url.path}?{changed}", {})[0] == 403


def test_node_pages_tell_the_truth(cluster):
    for node in cluster.info["nodes"]:
        connection = http.client.HTTPConnection(node["admin_addr"], timeout=10)
        for path in ("/healthz", "/readyz", "/metrics"):
            connection.request("GET", path)
            answer = connection.getresponse()
            text = answer.read().decode()
            assert answer.status == 200, (node, path, text)
        assert "hearth_" in text
