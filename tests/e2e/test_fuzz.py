"""Random requests over all operations of Lambda's model, with values at and beyond its bounds: every answer is one that
AWS's clients understand, none takes long, and the cluster lives on."""

import base64
import concurrent.futures
import http.client
import json
import os
import random
import string
import time
import urllib.parse

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.session
from harness import ROLE, Cluster, create, invoke, zipped

SEED = int(os.environ.get("HEARTH_FUZZ_SEED", "1"))
REQUESTS = int(os.environ.get("HEARTH_FUZZ_REQUESTS", "3000"))
CONNECTIONS = 8
# Above the gateway's queue_timeout: an invocation whose function is changed or deleted while it waits is answered then.
SLOWEST_S = 20
TOTAL_S = 120
MODEL = botocore.session.get_session().get_service_model("lambda")
IMPLEMENTED = [
    "CreateFunction", "GetFunction", "GetFunctionConfiguration", "ListFunctions", "UpdateFunctionCode",
    "UpdateFunctionConfiguration", "DeleteFunction", "Invoke", "PutFunctionConcurrency", "GetFunctionConcurrency",
    "DeleteFunctionConcurrency", "GetAccountSettings", "TagResource", "UntagResource", "ListTags",
    "PublishVersion", "ListVersionsByFunction", "CreateAlias", "GetAlias", "ListAliases", "UpdateAlias", "DeleteAlias",
    "PutProvisionedConcurrencyConfig", "GetProvisionedConcurrencyConfig", "ListProvisionedConcurrencyConfigs",
    "DeleteProvisionedConcurrencyConfig",
]
NAMES = ["fuzz-1", "nobody", "fuzz-2", "fuzz-3"]
ARN = "arn:aws:lambda:us-east-1:000000000000:function:"
APP = zipped({"app.py": "def handler(event, context):\n    return event\n"})
# What a parser, a key, a path or a log might choke on.
TEXTS = [
    "", " ", "a", "..", "../..", "a/b", "%00", "\x00", "\r\nx: y", "é", "\u2028", "🦀", "$LATEST", "0", "-1", "1e9", "true", "null",
    "{}", "a" * 63, "a" * 65, "a" * 257, "a" * 5000, "arn:aws:lambda:us-east-1:000000000000:function:fuzz-1:1",
    "arn:aws:lambda:eu-west-1:000000000000:function:fuzz-1", "arn:", ":::::::", "function:", "fuzz-1:$LATEST.PUBLISHED",
]
NUMBERS = [0, 1, -1, 2**31 - 1, 2**31, -(2**31), 2**63 - 1, 2**63, -(2**63), 10**30, 0.5, 1e308, -0.0]
WRONG = [None, True, False, 7, 1.5, "text", [], {}, [[]], [None], {"": None}, "A" * 100]


class Maker:
    """Random inputs of a shape."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        # How many values of this input are out of order. Without the tame ones nothing would ever be made or changed.
        self.wild = 0.0
        self.names = NAMES

    def input(self, shape, operation):
        # Few invocations wait for a function that is deleted meanwhile: `test_documents` says what becomes of them.
        self.names = {"Invoke": NAMES[:2], "DeleteFunction": NAMES[2:]}.get(operation, NAMES)
        self.wild = self.random.choice([0.0, 0.0, 0.05, 0.3])
        return self.structure(shape, "", 0) if shape else {}

    def value(self, shape, name="", depth=0):
        if self.random.random() < self.wild / 5:
            return self.random.choice(WRONG)
        make = getattr(self, shape.type_name, self.string)
        return make(shape, name, depth)

    def structure(self, shape, _name, depth):
        members = {}
        for name, member in shape.members.items():
            needed = name in shape.required_members or name in ("ZipFile", "Runtime", "Handler")
            chance = 1 - self.wild / 4 if needed else 0.05 + self.wild
            if depth > 6 or self.random.random() > chance:
                continue
            members[name] = self.value(member, name, depth + 1)
        return members

    def list(self, shape, name, depth):
        least, most = bounds(shape, 4)
        count = self.random.choice([0, 1, 1, 2, min(least, 60), min(most, 60), min(most + 1, 61)])
        return [self.value(shape.member, name, depth + 1) for _ in range(count)]

    def map(self, shape, _name, depth):
        count = self.random.choice([0, 1, 1, 2, 51])
        keys = [self.text(shape.key, "") + str(n) for n in range(count)]
        return {key: self.value(shape.value, "", depth + 1) for key in keys}

    def string(self, shape, name, _depth):
        return self.text(shape, name)

    def text(self, shape, name):
        dice = 1 - self.wild * 2 * self.random.random()
        if name in ("FunctionName", "Resource", "Name") and dice > 0.9:
            one = self.random.choice(self.names)
            forms = [one, one, ARN + one, "000000000000:function:" + one, one + ":$LATEST", one + ":7", one + ":live"]
            return ARN + one if name == "Resource" else self.random.choice(forms)
        if name in ("Qualifier", "FunctionVersion", "AdditionalVersion") and dice > 0.9:
            return self.random.choice(["1", "1", "2", "7", "$LATEST", "fuzz-1", "live"])
        if name == "Alias" and dice > 0.9:
            return "live"
        if name == "Role" and dice > 0.9:
            return ROLE
        if name == "Runtime" and dice > 0.9:
            return self.random.choice(["python3.11", "python3.11", "provided.al2023", "java21", "java8"])
        if getattr(shape, "enum", None) and dice > 0.9:
            return self.random.choice(shape.enum)
        least, most = bounds(shape, 40)
        if dice > 0.95:
            return "".join(self.random.choices(string.ascii_letters, k=max(least, min(8, most))))
        if dice > 0.7:
            return self.random.choice(TEXTS)
        length = self.random.choice([max(least - 1, 0), least, least + 1, most, most + 1, 8])
        letters = string.ascii_letters + string.digits + "-_.:/$ ü"
        return "".join(self.random.choices(letters if dice < 0.6 else letters[:62], k=min(length, 3000)))

    def integer(self, shape, name, _depth):
        least, most = bounds(shape, 100)
        if self.random.random() > self.wild * 2:
            if name == "ProvisionedConcurrentExecutions":
                # Each is a sandbox that is started.
                return self.random.randint(1, 3)
            return self.random.randint(least, min(most, least + 50))
        near = [least - 1, least, least + 1, most - 1, most, most + 1]
        return self.random.choice(near * 2 + NUMBERS)

    long = double = float = integer

    def boolean(self, _shape, _name, _depth):
        return self.random.choice([True, False])

    def timestamp(self, _shape, _name, _depth):
        return self.random.choice([0, 1.7e9, -1, 1e18, "2020-01-01T00:00:00Z", "yesterday"])

    def blob(self, _shape, _name, _depth):
        if self.random.random() > self.wild * 2:
            return APP
        return self.random.choice([b"", b"{}", b"\xff\xfe", b"null", b"{", APP[:40], self.random.randbytes(300)])


def bounds(shape, default):
    about = shape.metadata
    return int(about.get("min", 0)), int(about.get("max", default))


class Blobs(json.JSONEncoder):
    def default(self, value):
        return base64.b64encode(value).decode()


def request(maker, operation):
    """(method, path with query, headers, body) of one request with an input for the operation."""
    at = operation.http
    shape = operation.input_shape
    members = maker.input(shape, operation.name)
    path, query = at["requestUri"].partition("?")[::2]
    query, headers, body, payload = query.split("&") if query else [], {}, {}, None
    for name, value in members.items():
        about = shape.members[name].serialization
        where, wire = about.get("location"), about.get("name", name)
        if where == "uri":
            path = path.replace("{%s}" % wire, quoted(value)).replace("{%s+}" % wire, quoted(value))
        elif where == "querystring":
            values = value if isinstance(value, list) else [value]
            query += [f"{wire}={quoted(one)}" for one in values[:60]]
        elif where == "header":
            headers[wire] = "".join(c for c in text(value) if c.isprintable() and ord(c) < 127).strip()[:3000]
        elif name == shape.serialization.get("payload"):
            payload = value
        else:
            body[name] = value
    if payload is None:
        sent = json.dumps(body, cls=Blobs).encode() if body else b""
    else:
        sent = payload if isinstance(payload, bytes) else json.dumps(payload, cls=Blobs).encode()
    return (*spoiled(maker.random, at["method"], path, sent), "&".join(query), headers)


def spoiled(dice, method, path, body):
    """Mostly as it was; now and then another method, another path, or a body cut off or overwritten."""
    chance = dice.random()
    if chance < 0.01:
        method = dice.choice(["GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "QUERY"])
    elif chance < 0.03:
        path = dice.choice([path + "/", path + "/x", "/" + path, path.upper(), "/", path[: len(path) // 2]])
    elif chance < 0.06 and body:
        body = body[: dice.randrange(len(body))]
    elif chance < 0.08 and body:
        body = bytearray(body)
        body[dice.randrange(len(body))] = dice.randrange(256)
        body = bytes(body)
    elif chance < 0.09:
        body = b"[" * 200_000
    return method, path, body


def text(value):
    return value if isinstance(value, str) else json.dumps(value, cls=Blobs)


def quoted(value):
    return urllib.parse.quote(text(value), safe="")


class Sender:
    """A signed connection."""

    def __init__(self, info):
        self.info = info
        self.keys = botocore.credentials.Credentials(info["access_key_id"], info["secret_access_key"])
        self.host = urllib.parse.urlparse(info["endpoint"]).netloc
        self.connection = http.client.HTTPConnection(self.host, timeout=SLOWEST_S)

    def send(self, method, path, body, query, headers):
        target = path + ("?" + query if query else "")
        signed = botocore.awsrequest.AWSRequest(method, self.info["endpoint"] + target, data=body, headers=headers)
        botocore.auth.SigV4Auth(self.keys, "lambda", self.info["region"]).add_auth(signed)
        for _ in range(2):
            try:
                self.connection.request(method, target, body, dict(signed.headers.items()))
                answer = self.connection.getresponse()
                return answer.status, answer.headers, answer.read()
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                # The gateway closed the connection after the answer before; a new one is needed.
                self.connection.close()
        raise AssertionError(f"no answer: {method} {target[:300]} {body[:300]!r}")


def complaint(operation, status, headers, body):
    """What is wrong with an answer, if anything."""
    if len(headers.get("x-amzn-requestid", "")) != 36:
        return "no request id"
    if status < 400:
        return None
    kind = headers.get("x-amzn-errortype")
    if status >= 500 and (status, kind) != (501, "NotImplemented"):
        return "a 5xx"
    try:
        document = json.loads(body)
    except ValueError:
        return "the error is no JSON"
    message = document.get("message", document.get("Message"))
    return None if kind and message else "no code or message"


def run(info, seed, count, deadline):
    maker, sender, seen = Maker(seed), Sender(info), set()
    for _ in range(count):
        operation = maker.random.choice(maker.random.choice([MODEL.operation_names, IMPLEMENTED]))
        made = request(maker, MODEL.operation_model(operation))
        started = time.monotonic()
        try:
            answer = sender.send(*made)
        except TimeoutError as error:
            raise AssertionError(f"a hang, seed {seed}: {operation} {repr(made)[:1500]}") from error
        took = time.monotonic() - started
        wrong = complaint(operation, *answer) or ("slow" if took > SLOWEST_S else None)
        assert not wrong, f"{wrong}, seed {seed}, {took:.1f} s: {operation} {repr(made)[:1500]} -> {answer[0]} {answer[2][:500]!r}"
        seen.add((operation, answer[0]))
        assert time.monotonic() < deadline, f"{TOTAL_S} s were not enough"
    return seen


def test_random_requests_get_answers_that_clients_understand(tmp_path):
    cluster = Cluster(tmp_path).start()
    try:
        for name in ("fuzz-1", "fuzz-2", "fuzz-3"):
            create(cluster.client(), name, {"app.py": "def handler(e, c):\n    return e\n"}, wait=False)
        deadline = time.monotonic() + TOTAL_S
        with concurrent.futures.ThreadPoolExecutor(CONNECTIONS) as pool:
            share = REQUESTS // CONNECTIONS
            runs = [pool.submit(run, cluster.info, SEED * 1000 + n, share, deadline) for n in range(CONNECTIONS)]
            seen = set().union(*(one.result() for one in runs))
        assert len({operation for operation, _ in seen}) == len(MODEL.operation_names)
        assert {200, 201, 204, 400, 404, 501} <= {status for _, status in seen}
        create(cluster.client(), "after", {"app.py": "def handler(e, c):\n    return e\n"})
        assert invoke(cluster.client(), "after", {"alive": True})[1] == {"alive": True}
    finally:
        cluster.stop()
    assert "panicked" not in cluster.output()
