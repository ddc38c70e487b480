"""Signed calls to a gateway, without retries, so that every failure is counted as what it is."""

import http.client
import json
import socket
import threading
import time

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from nodes import ACCESS_KEY, SECRET_KEY

CREDENTIALS = Credentials(ACCESS_KEY, SECRET_KEY)


class Answer:
    """`status` 0 when there was none; `kind` says what became of the call in a word or two."""

    def __init__(self, status, body=b"", headers=None, kind=None):
        self.status, self.body, self.headers = status, body, headers or {}
        self.kind = kind or self._kind()

    def _kind(self):
        if self.status < 300:
            return "ok" if "x-amz-function-error" not in self.headers else f"function error {self.headers['x-amz-function-error']}"
        name = self.headers.get("x-amzn-errortype", "").split(":")[0]
        return f"{self.status} {name}" if self.status < 500 else f"{self.status} {name}: {self._message()}"

    def _message(self):
        try:
            return (self.json().get("Message") or self.json().get("message") or "")[:70]
        except (ValueError, AttributeError):
            return ""

    def json(self):
        return json.loads(self.body) if self.body else None


local = threading.local()


def call(endpoint, method, path, body=b"", headers=None, timeout=12.0):
    """One request on a connection of this thread's own. A connection that the gateway had closed while it was idle is made
    anew once, before anything was sent on it."""
    url = f"http://{endpoint}{path}"
    request = AWSRequest(method=method, url=url, data=body, headers={"Content-Type": "application/json", **(headers or {})})
    SigV4Auth(CREDENTIALS, "lambda", "us-east-1").add_auth(request)
    pool = local.__dict__.setdefault("connections", {})
    connection = pool.pop(endpoint, None)
    if connection and stale(connection):
        connection.close()
        connection = None
    sent = False
    try:
        if connection is None:
            connection = http.client.HTTPConnection(endpoint, timeout=2.0)
            connection.connect()
        connection.sock.settimeout(timeout)
        connection.request(method, path, body, dict(request.headers.items()))
        sent = True
        answer = connection.getresponse()
        content = answer.read()
        pool[endpoint] = connection
        return Answer(answer.status, content, {k.lower(): v for k, v in answer.getheaders()})
    except (OSError, http.client.HTTPException) as error:
        if connection:
            connection.close()
        kind = "client timeout" if isinstance(error, (socket.timeout, TimeoutError)) else "connection " + type(error).__name__
        return Answer(0, kind=kind if sent else f"not sent: {kind}")


def stale(connection):
    """Whether the other end has closed it."""
    try:
        connection.sock.setblocking(False)
        return connection.sock.recv(1, socket.MSG_PEEK) == b""
    except (BlockingIOError, InterruptedError):
        return False
    except OSError:
        return True
    finally:
        try:
            connection.sock.setblocking(True)
        except OSError:
            pass


FUNCTIONS = "/2015-03-31/functions"


def create(endpoint, name, zip_base64, runtime="python3.11", handler="app.handler", **members):
    body = {
        "FunctionName": name, "Runtime": runtime, "Role": "arn:aws:iam::000000000000:role/chaos", "Handler": handler,
        "Code": {"ZipFile": zip_base64}, "Timeout": 10, **members,
    }
    return call(endpoint, "POST", FUNCTIONS, json.dumps(body).encode())


def update(endpoint, name, **members):
    return call(endpoint, "PUT", f"{FUNCTIONS}/{name}/configuration", json.dumps(members).encode())


def delete(endpoint, name):
    return call(endpoint, "DELETE", f"{FUNCTIONS}/{name}")


def get(endpoint, name, timeout=12.0):
    return call(endpoint, "GET", f"{FUNCTIONS}/{name}/configuration", timeout=timeout)


def reserve(endpoint, name, executions):
    body = json.dumps({"ReservedConcurrentExecutions": executions}).encode()
    return call(endpoint, "PUT", f"/2017-10-31/functions/{name}/concurrency", body)


def tag(endpoint, name, **tags):
    arn = f"arn:aws:lambda:us-east-1:000000000000:function:{name}".replace(":", "%3A")
    return call(endpoint, "POST", f"/2017-03-31/tags/{arn}", json.dumps({"Tags": tags}).encode())


def invoke(endpoint, name, event, timeout=12.0):
    return call(endpoint, "POST", f"{FUNCTIONS}/{name}/invocations", json.dumps(event).encode(), timeout=timeout)


def wait_active(endpoint, name, timeout=60):
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        answer = get(endpoint, name)
        if answer.status == 200 and answer.json()["State"] == "Active":
            return
        time.sleep(0.1)
    raise TimeoutError(f"{name} is not active: {answer.kind} {answer.body[:200]}")
