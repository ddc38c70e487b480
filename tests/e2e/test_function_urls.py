"""Requests at URLs of functions: real HTTP clients, botocore's signatures, functions in Python and Node.js."""

import base64
import http.client
import json
import re
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
from harness import Cluster, create, until
from test_layers import account

FORBIDDEN = {"Message": "Forbidden. For troubleshooting Function URL authorization issues, see: "
                        "https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"}

# Answers what the body asks for, else with its event.
APP = """
import json, os

def handler(event, context):
    asked = json.loads(event.get("body") or "{}") if not event.get("isBase64Encoded") else {}
    if "raise" in asked:
        raise RuntimeError(asked["raise"])
    if "answer" in asked:
        return asked["answer"]
    if "large" in asked:
        return "x" * asked["large"]
    return {"statusCode": 200, "headers": {"content-type": "application/json"},
            "body": json.dumps({"event": event, "id": context.aws_request_id, "arn": context.invoked_function_arn,
                                "version": context.function_version})}
"""

STREAM = """
const pause = (ms) => new Promise((go) => setTimeout(go, ms));
export const handler = awslambda.streamifyResponse(async (event, stream, context) => {
  const asked = JSON.parse(event.body ?? "{}");
  if (asked.head) stream = awslambda.HttpResponseStream.from(stream, asked.head);
  else if (asked.type) stream.setContentType(asked.type);
  if (asked.raw) stream.write(Buffer.from(asked.raw, "base64"));
  if (asked.failsFirst) throw new RangeError("no way");
  for (let i = 0; i < (asked.parts ?? 0); i++) { stream.write(`part ${i};`); await pause(asked.pause ?? 1); }
  const block = Buffer.alloc(65536, 7);
  for (let i = 0; i < (asked.blocks ?? 0); i++) {
    if (!stream.write(block)) await new Promise((go) => stream.once("drain", go));
  }
  if (asked.fails) throw new RangeError("no way");
  if (asked.exits) process.exit(3);
  if (asked.hangs) await pause(60000);
  stream.end();
});
"""


class Answer:
    def __init__(self, response):
        self.status, self.list = response.status, response.getheaders()
        self.headers = {name.lower(): value for name, value in self.list}
        self.body = response.read()

    def json(self):
        return json.loads(self.body)


def ask(url, path="", method="GET", body=None, headers=None, read=True):
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    body = json.dumps(body) if isinstance(body, (dict, list)) else body
    default = {"content-type": "application/json"} if body is not None else {}
    connection.request(method, parts.path + path, body, {**default, **(headers or {})})
    response = connection.getresponse()
    if not read:
        return connection, response
    try:
        return Answer(response)
    finally:
        connection.close()


def event(*args, **kwargs):
    answer = ask(*args, **kwargs)
    assert answer.status == 200, (answer.status, answer.body)
    return answer.json()["event"]


def permit(client, name, **members):
    members = {"StatementId": "url", "Action": "lambda:InvokeFunctionUrl", "Principal": "*", "FunctionUrlAuthType": "NONE", **members}
    client.add_permission(FunctionName=name, **members)


def public(client, name, **members):
    permit(client, name, **{k: v for k, v in members.items() if k == "Qualifier"})
    return client.create_function_url_config(FunctionName=name, AuthType="NONE", **members)["FunctionUrl"]


@pytest.fixture(scope="module")
def echo(client):
    create(client, "url-echo", {"app.py": APP}, Timeout=10)
    return public(client, "url-echo")


@pytest.fixture(scope="module")
def streaming(client):
    create(client, "url-stream", {"index.mjs": STREAM}, runtime="nodejs22.x", handler="index.handler", MemorySize=256, Timeout=10)
    return public(client, "url-stream", InvokeMode="RESPONSE_STREAM")


def answered(url, value, **kwargs):
    """What a client gets when the function answers this value."""
    return ask(url, method="POST", body={"answer": value}, **kwargs)


def test_the_event_is_payload_format_2(echo):
    headers = {"X-A": "1", "Cookie": "one=1; two=2", "User-Agent": "agent/1", "content-type": "text/plain; charset=utf-8"}
    before = time.time()
    answer = ask(echo, "my/p%20ath//%2Fx?b=2&a=1&a=x%2Fy+z", "PUT", '{"k": "\u00e4"}'.encode(), headers)
    seen = answer.json()
    got, id = seen["event"], urllib.parse.urlsplit(echo).path.split("/")[3]
    netloc = urllib.parse.urlsplit(echo).netloc
    context = got["requestContext"]
    assert abs(context["timeEpoch"] / 1000 - before) < 60
    assert re.fullmatch(r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000", context["time"])
    trace = got["headers"].pop("x-amzn-trace-id")
    assert trace.startswith("Root=1-") and answer.headers["x-amzn-trace-id"] == trace
    assert answer.headers["x-amzn-requestid"] == seen["id"] == context["requestId"]
    assert got == {
        "version": "2.0", "routeKey": "$default", "rawPath": "/my/p%20ath//%2Fx", "rawQueryString": "b=2&a=1&a=x%2Fy+z",
        "cookies": ["one=1", "two=2"],
        "headers": {"host": netloc, "accept-encoding": "identity", "content-length": "11", "x-a": "1", "user-agent": "agent/1",
                    "content-type": "text/plain; charset=utf-8", "x-forwarded-for": "127.0.0.1", "x-forwarded-proto": "http",
                    "x-forwarded-port": netloc.split(":")[1]},
        "queryStringParameters": {"b": "2", "a": "1,x/y z"},
        "requestContext": {
            "accountId": "anonymous", "apiId": id, "domainName": "127.0.0.1", "domainPrefix": id,
            "http": {"method": "PUT", "path": "/my/p%20ath//%2Fx", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1",
                     "userAgent": "agent/1"},
            "requestId": seen["id"], "routeKey": "$default", "stage": "$default", "time": context["time"],
            "timeEpoch": context["timeEpoch"]},
        "body": '{"k": "\u00e4"}', "isBase64Encoded": False,
    }


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "PURGE"])
def test_any_method_reaches_the_function(echo, method):
    answer = ask(echo, "x", method)
    assert answer.status == 200
    if method == "HEAD":
        assert answer.body == b"" and int(answer.headers["content-length"]) > 100
    else:
        got = answer.json()["event"]
        assert got["requestContext"]["http"]["method"] == method
        assert not {"body", "queryStringParameters", "cookies"} & got.keys()


def test_bodies_that_are_no_text_are_base64(echo):
    for kind, body in (("application/octet-stream", b"\x00\xff"), ("application/x-www-form-urlencoded", b"a=1&b=2"),
                       ("text/plain", b"\xff\xfe")):
        got = event(echo, method="POST", body=body, headers={"content-type": kind})
        assert got["isBase64Encoded"] is True and base64.b64decode(got["body"]) == body, kind


def test_hosts_name_urls_too(client, echo):
    parts = urllib.parse.urlsplit(echo)
    id = parts.path.split("/")[3]
    host = f"{id}.lambda-url.us-east-1.example.org"
    got = event(f"http://{parts.netloc}/", "2015-03-31/functions?x=1", headers={"Host": host})
    assert (got["rawPath"], got["headers"]["host"]) == ("/2015-03-31/functions", host)
    assert (got["requestContext"]["domainName"], got["requestContext"]["domainPrefix"]) == (host, id)
    # gRPC's type means nothing at a URL, nor do paths of the gateway.
    got = event(f"http://{parts.netloc}/", "_hearth/url/x", "POST", b"\x00", {"Host": host, "content-type": "application/grpc"})
    assert (got["rawPath"], got["body"]) == ("/_hearth/url/x", "AA==")
    stranger = ask(f"http://{parts.netloc}/", headers={"Host": f"{id}.lambda-url.eu-west-1.example.org"})
    assert stranger.status == 403 and b"Missing Authentication Token" in stranger.body


@pytest.mark.parametrize(
    ("value", "body"),
    [({"hello": "world"}, b'{"hello":"world"}'), (["hello", 3, True], b'["hello",3,true]'), ("hello", b"hello"), (3, b"3"),
     (3.1, b"3.1"), (True, b"true"), (None, b"null"), ({"body": "x"}, b'{"body":"x"}')])
def test_values_are_their_own_bodies(echo, value, body):
    answer = answered(echo, value)
    assert (answer.status, answer.headers["content-type"], answer.body) == (200, "application/json", body)


def test_responses_are_sent_as_they_say(echo):
    answer = answered(echo, {
        "statusCode": 201, "headers": {"Content-Type": "text/html", "My-Custom-Header": "Custom Value", "X-N": 7},
        "cookies": ["Cookie_1=Value1; Expires=21 Oct 2021 07:48 GMT", "Cookie_2=Value2; Max-Age=78000"], "body": "<p>"})
    assert (answer.status, answer.body) == (201, b"<p>")
    assert (answer.headers["content-type"], answer.headers["my-custom-header"], answer.headers["x-n"]) == ("text/html", "Custom Value", "7")
    assert [value for name, value in answer.list if name.lower() == "set-cookie"] == [
        "Cookie_1=Value1; Expires=21 Oct 2021 07:48 GMT", "Cookie_2=Value2; Max-Age=78000"]
    answer = answered(echo, {"statusCode": "418", "body": "/wA=", "isBase64Encoded": True})
    assert (answer.status, answer.body) == (418, b"\xff\x00")
    assert (answered(echo, {"statusCode": 204}).status, answered(echo, {"statusCode": 304}).body) == (204, b"")


@pytest.mark.parametrize("value", [
    {"statusCode": "abc"}, {"statusCode": 99}, {"statusCode": 200, "headers": {"a": "b\r\nc: d"}},
    {"statusCode": 200, "headers": {"a": []}}, {"statusCode": 200, "body": "%", "isBase64Encoded": True},
    {"statusCode": 200, "headers": {f"x-{n}": 1 for n in range(40000)}}])
def test_what_is_no_response_is_a_bad_gateway(echo, value):
    answer = answered(echo, value)
    assert (answer.status, answer.body) == (502, b"Internal Server Error")
    assert answer.headers["x-amzn-requestid"]


def test_errors_of_functions_are_bad_gateways(client, echo):
    for body in ({"raise": "no"}, {"large": 7 << 20}):
        answer = ask(echo, method="POST", body=body)
        assert (answer.status, answer.body) == (502, b"Internal Server Error")


def test_requests_of_more_than_6_mb_are_refused(echo):
    large = ask(echo, method="POST", body=b"x" * (6 << 20), headers={"content-type": "text/plain"})
    assert large.status == 413 and large.headers["x-amzn-errortype"] == "RequestEntityTooLargeException"
    larger = ask(echo, method="POST", body=b"x" * (7 << 20), headers={"content-type": "text/plain"})
    assert larger.status == 413
    # The limit is the event's, in which bytes become base64.
    encoded = ask(echo, method="POST", body=b"x" * (5 << 20), headers={"content-type": "application/octet-stream"})
    assert encoded.status == 413
    assert answered(echo, "x" * (5 << 20)).status == 200


def test_a_stopped_function_is_throttled(client, name):
    create(client, name, {"app.py": APP})
    url = public(client, name)
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    stopped = until(lambda: (answer := ask(url)).status == 429 and answer, "429", 15)
    assert stopped.json() == {"Reason": "ReservedFunctionConcurrentInvocationLimitExceeded", "Type": "User", "message": "Rate Exceeded."}


def test_a_url_lives_as_long_as_its_configuration(client, echo, name):
    create(client, name, {"app.py": APP})
    url = public(client, name)
    assert ask(url).status == 200
    client.delete_function_url_config(FunctionName=name)
    gone = ask(url)
    assert (gone.status, gone.body, gone.headers["x-amzn-errortype"]) == (403, b'{"Message":null}', "AccessDeniedException")
    again = client.create_function_url_config(FunctionName=name, AuthType="NONE")["FunctionUrl"]
    assert again != url and ask(again).status == 200
    client.delete_function(FunctionName=name)
    assert ask(again).body == b'{"Message":null}'
    assert ask(urllib.parse.urljoin(echo, "/_hearth/url/")).body == b'{"Message":null}'


def test_a_url_of_an_alias_is_the_aliass(client, name):
    create(client, name, {"app.py": APP})
    assert client.publish_version(FunctionName=name)["Version"] == "1"
    client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    permit(client, name)
    url = client.create_function_url_config(FunctionName=name, Qualifier="live", AuthType="NONE")["FunctionUrl"]
    assert ask(url).status == 403, "the function's policy is not the alias's"
    permit(client, name, Qualifier="live")
    seen = until(lambda: ask(url).json(), "the alias answers", 20)
    assert (seen["version"], seen["arn"].rsplit(":", 1)[1]) == ("1", "live")


def test_everybody_needs_a_policy(client, name):
    create(client, name, {"app.py": APP})
    url = client.create_function_url_config(FunctionName=name, AuthType="NONE")["FunctionUrl"]
    closed = ask(url)
    assert (closed.status, closed.json(), closed.headers["x-amzn-errortype"]) == (403, FORBIDDEN, "AccessDeniedException")
    permit(client, name, FunctionUrlAuthType="AWS_IAM")
    assert ask(url).status == 403
    permit(client, name, StatementId="open")
    assert ask(url).status == 200
    client.remove_permission(FunctionName=name, StatementId="open")
    assert ask(url).status == 403


def signed(cluster, url, path="", method="GET", body=b"", key=None, secret=None, service="lambda", headers=None):
    info = cluster.info
    credentials = botocore.credentials.Credentials(key or info["access_key_id"], secret or info["secret_access_key"])
    request = botocore.awsrequest.AWSRequest(method, url + path, data=body, headers={"content-type": "application/json", **(headers or {})})
    botocore.auth.SigV4Auth(credentials, service, info["region"]).add_auth(request)
    parts = urllib.parse.urlsplit(url + path)
    at = urllib.parse.urlunsplit(("", "", parts.path, parts.query, ""))
    return ask(f"http://{parts.netloc}", at, method, body or None, dict(request.headers))


def test_signatures_are_asked_for_and_checked(cluster, client, name):
    create(client, name, {"app.py": APP})
    permit(client, name)
    url = client.create_function_url_config(FunctionName=name, AuthType="AWS_IAM")["FunctionUrl"]
    unsigned = ask(url)
    assert (unsigned.status, unsigned.json()) == (403, FORBIDDEN)
    answer = signed(cluster, url, "a%20b/c?x=1&y=%2F", "POST", b'{"n": 1}')
    assert answer.status == 200, answer.body
    got = answer.json()["event"]
    assert (got["rawPath"], got["body"]) == ("/a%20b/c", '{"n": 1}')
    context, owner = got["requestContext"], "000000000000"
    assert (context["accountId"], context["authentication"]) == (owner, None)
    assert context["authorizer"] == {"iam": {
        "accessKey": cluster.info["access_key_id"], "accountId": owner, "callerId": owner, "cognitoIdentity": None,
        "principalOrgId": None, "userArn": f"arn:aws:iam::{owner}:root", "userId": owner}}
    for wrong in ({"secret": "x" * 40}, {"key": "AKIAOTHER"}, {"service": "execute-api"}):
        assert signed(cluster, url, **wrong).status == 403, wrong
    # A body that is not the one that was signed.
    info = cluster.info
    request = botocore.awsrequest.AWSRequest("POST", url, data=b"1", headers={})
    credentials = botocore.credentials.Credentials(info["access_key_id"], info["secret_access_key"])
    botocore.auth.SigV4Auth(credentials, "lambda", info["region"]).add_auth(request)
    assert ask(url, method="POST", body=b"2", headers=dict(request.headers)).status == 403


def test_other_accounts_need_a_policy_and_both_permissions_can_be_asked_for(tmp_path):
    options = tmp_path / "options.toml"
    options.write_text('[gateway]\nurl_needs_invoke = true\nurl_domain = "on.example"\n')
    cluster = Cluster(tmp_path / "any", extra=("--auth", "any", "--options", str(options))).start()
    try:
        owner, other = account(cluster, "111111111111"), "222222222222"
        create(owner, "f", {"app.py": APP})
        made = owner.create_function_url_config(FunctionName="f", AuthType="AWS_IAM")["FunctionUrl"]
        id = re.fullmatch(r"https://([0-9a-f]{32})\.lambda-url\.us-east-1\.on\.example/", made)[1]
        at, host = cluster.info["endpoint"] + "/", f"{id}.lambda-url.us-east-1.on.example"

        def by(key, at=at):
            return signed(cluster, at, key=key, secret="x", headers={"Host": host}).status

        assert (by("111111111111"), by(other)) == (200, 403)
        permit(owner, "f", Principal=other, FunctionUrlAuthType="AWS_IAM")
        assert by(other) == 403, "lambda:InvokeFunction is missing"
        owner.add_permission(FunctionName="f", StatementId="two", Action="lambda:InvokeFunction", Principal=other,
                             InvokedViaFunctionUrl=True)
        assert by(other) == 200
        assert ask(at, headers={"Host": f"{id}.lambda-url.us-east-1.other.example"}).status != 200
        assert by("111111111111", f"{at}_hearth/url/{id}/") == 200
    finally:
        cluster.stop()


CORS = {"AllowOrigins": ["https://a.example"], "AllowMethods": ["GET", "POST"], "AllowHeaders": ["content-type", "x-a"],
        "ExposeHeaders": ["date"], "MaxAge": 300, "AllowCredentials": True}


def test_browsers_are_answered_by_the_url(client, name):
    create(client, name, {"app.py": APP})
    permit(client, name)
    url = client.create_function_url_config(FunctionName=name, AuthType="NONE", Cors=CORS)["FunctionUrl"]
    asked = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-a"}

    def told(answer):
        return {name: value for name, value in answer.headers.items() if name.startswith("access-control") or name == "vary"}

    preflight = ask(url, method="OPTIONS", headers=asked)
    assert (preflight.status, preflight.body, told(preflight)) == (200, b"", {
        "access-control-allow-origin": "https://a.example", "access-control-allow-methods": "GET,POST",
        "access-control-allow-headers": "content-type,x-a", "access-control-max-age": "300",
        "access-control-allow-credentials": "true", "vary": "Origin"})
    stranger = ask(url, method="OPTIONS", headers={**asked, "Origin": "https://b.example"})
    assert (stranger.status, told(stranger)) == (200, {"vary": "Origin"})
    own = {"statusCode": 200, "headers": {"Access-Control-Allow-Origin": "*", "access-control-allow-credentials": "false"}}
    answer = ask(url, method="POST", body={"answer": own}, headers={"Origin": "https://a.example"})
    expected = {"access-control-allow-origin": "https://a.example", "access-control-allow-credentials": "true",
                "access-control-expose-headers": "date", "vary": "Origin"}
    assert told(answer) == expected
    assert len([name for name, _ in answer.list if name.lower() == "access-control-allow-origin"]) == 1
    assert told(ask(url)) == {}
    assert told(ask(url, method="POST", body={"raise": "x"}, headers={"Origin": "https://a.example"})) == expected
    # Without a configuration, or without a preflight's headers, the function is asked.
    assert ask(url, method="OPTIONS", headers={"Origin": "https://a.example"}).json()["event"]
    # A preflight is not signed.
    client.update_function_url_config(FunctionName=name, AuthType="AWS_IAM")
    assert ask(url, method="OPTIONS", headers=asked).status == 200
    assert told(ask(url, headers={"Origin": "https://a.example"})) == expected


def streamed(url, asked, **kwargs):
    return ask(url, method="POST", body=asked, **kwargs)


def test_a_streamed_response_says_its_head_first(streaming):
    head = {"statusCode": 207, "headers": {"Content-Type": "text/html", "X-A": "b"}, "cookies": ["a=1", "b=2"]}
    answer = streamed(streaming, {"head": head, "parts": 3})
    assert (answer.status, answer.body) == (207, b"part 0;part 1;part 2;")
    assert (answer.headers["content-type"], answer.headers["x-a"]) == ("text/html", "b")
    assert [value for name, value in answer.list if name.lower() == "set-cookie"] == ["a=1", "b=2"]
    assert answer.headers["x-amzn-requestid"] and answer.headers["x-amzn-trace-id"]
    # The client writes the head before the first part.
    assert streamed(streaming, {"head": {"statusCode": 404}, "parts": 1}).status == 404


def test_without_a_head_the_type_is_the_functions(streaming):
    answer = streamed(streaming, {"type": "text/event-stream", "parts": 2})
    assert (answer.status, answer.headers["content-type"], answer.body) == (200, "text/event-stream", b"part 0;part 1;")
    answer = streamed(streaming, {"parts": 1})
    assert (answer.status, answer.headers["content-type"], answer.body) == (200, "application/octet-stream", b"part 0;")


def test_parts_come_as_they_are_made(streaming):
    connection, response = streamed(streaming, {"head": {"statusCode": 200}, "parts": 4, "pause": 300}, read=False)
    times, got = [], b""
    while part := response.read1(65536):
        got += part
        times.append(time.monotonic())
    connection.close()
    assert got == b"part 0;part 1;part 2;part 3;" and times[-1] - times[0] > 0.8, times


def test_a_response_larger_than_6_mb_passes_whole(streaming):
    answer = streamed(streaming, {"head": {"statusCode": 200}, "blocks": 320})
    assert len(answer.body) == 320 * 65536


def test_a_reader_that_waits_holds_its_function_back(streaming):
    connection, response = streamed(streaming, {"head": {"statusCode": 200}, "blocks": 480}, read=False)
    assert len(response.read(65536)) == 65536
    # Others are served meanwhile.
    assert streamed(streaming, {"parts": 1}).body == b"part 0;"
    assert len(response.read()) == 479 * 65536
    connection.close()


@pytest.mark.parametrize("how", ["fails", "exits", "hangs"])
def test_an_end_in_the_middle_cuts_the_connection(streaming, how):
    with pytest.raises(http.client.IncompleteRead) as cut:
        streamed(streaming, {"head": {"statusCode": 200}, "parts": 3, "pause": 50, how: True})
    assert cut.value.partial.startswith(b"part 0;")
    assert streamed(streaming, {"parts": 1}).body == b"part 0;"


def test_more_than_200_mb_are_cut_off(streaming):
    connection, response = streamed(streaming, {"head": {"statusCode": 200}, "blocks": 3201}, read=False)
    got = 0
    with pytest.raises(http.client.IncompleteRead):
        while part := response.read(1 << 20):
            got += len(part)
    connection.close()
    assert got <= 200 << 20


def test_what_fails_before_the_head_is_a_bad_gateway(streaming):
    assert streamed(streaming, {"failsFirst": True}).status == 502
    kind = "application/vnd.awslambda.http-integration-response"
    for raw in (b"no head", b"x\0\0\0\0\0\0\0\0y", b"{" + b" " * (1 << 20), b'{"statusCode": 7}' + bytes(8)):
        answer = streamed(streaming, {"type": kind, "raw": base64.b64encode(raw).decode()})
        assert (answer.status, answer.body) == (502, b"Internal Server Error"), raw[:20]


def test_a_client_that_leaves_frees_the_function(client, streaming):
    connection, response = streamed(streaming, {"head": {"statusCode": 200}, "blocks": 3000}, read=False)
    response.read(65536)
    response.close()
    connection.close()
    client.put_function_concurrency(FunctionName="url-stream", ReservedConcurrentExecutions=1)
    try:
        until(lambda: streamed(streaming, {"parts": 1}).body == b"part 0;", "the function serves again", 30)
    finally:
        client.delete_function_concurrency(FunctionName="url-stream")


def test_a_function_that_streams_answers_whole_at_a_buffered_url(client, name):
    create(client, name, {"index.mjs": STREAM}, runtime="nodejs22.x", handler="index.handler", MemorySize=256)
    url = public(client, name)
    answer = streamed(url, {"head": {"statusCode": 201, "headers": {"Content-Type": "text/html"}}, "parts": 2})
    assert (answer.status, answer.headers["content-type"], answer.body) == (201, "text/html", b"part 0;part 1;")


def test_what_a_function_answers_whole_is_not_looked_at_where_it_may_stream(client, name):
    create(client, name, {"app.py": APP})
    url = public(client, name, InvokeMode="RESPONSE_STREAM")
    answer = answered(url, {"statusCode": 201, "body": "x"})
    assert (answer.status, answer.json()) == (200, {"statusCode": 201, "body": "x"})
    assert ask(url, method="POST", body={"raise": "x"}).status == 502


def exchange(url, data):
    """What comes back for these bytes."""
    parts = urllib.parse.urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as connection:
        connection.sendall(data)
        got = b""
        while part := connection.recv(65536):
            got += part
    return got


def test_hostile_requests_are_answered_and_the_gateway_lives(echo):
    path = urllib.parse.urlsplit(echo).path.encode()
    head = b"Host: x\r\nConnection: close\r\n"
    got = exchange(echo, b"GET " + path + b"?q=%ff%zz&=&&%00=1 HTTP/1.1\r\n" + head + b"X-A: \xff\xfe\r\nX-A: \xe4\r\nCookie: \xff=\xfe;;;\r\n"
                         b"X-Forwarded-For: \xff\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 200"), got[:200]
    seen = json.loads(got.split(b"\r\n\r\n", 1)[1])["event"]
    assert seen["headers"]["x-a"] == "\ufffd\ufffd,\ufffd" and seen["cookies"] == ["\ufffd=\ufffd"]
    for request in (
        b"GET " + path + b" HTTP/1.1\r\nHost: \xff.lambda-url.us-east-1.x\r\n" + head[9:] + b"\r\n",
        b"GET " + path + b"\xff HTTP/1.1\r\n" + head + b"\r\n",
        b"POST " + path + b" HTTP/1.1\r\n" + head + b"Content-Length: 9\r\nContent-Length: 8\r\n\r\nx",
        b"POST " + path + b" HTTP/1.1\r\n" + head + b"Content-Length: 100\r\n\r\nx",
        b"OPTIONS * HTTP/1.1\r\nHost: " + b"a" * 32 + b".lambda-url.us-east-1.x\r\nConnection: close\r\n\r\n",
        b"GET http://x.lambda-url.us-east-1.y/ HTTP/1.1\r\n" + head + b"\r\n",
    ):
        got = exchange(echo, request)
        assert got == b"" or got.startswith((b"HTTP/1.1 2", b"HTTP/1.1 4")), got[:200]
    assert ask(echo).status == 200


def test_many_at_once_are_kept_apart(echo):
    failures = []

    def one(n):
        for round in range(5):
            got = answered(echo, f"{n}-{round}").body.decode()
            if got != f"{n}-{round}":
                failures.append((n, round, got))

    threads = [threading.Thread(target=one, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_urllib_follows_what_a_function_says(echo):
    with urllib.request.urlopen(echo + "plain?x=1") as answer:
        assert json.loads(answer.read())["event"]["queryStringParameters"] == {"x": "1"}
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(
            echo, json.dumps({"answer": {"statusCode": 409, "body": "no"}}).encode(), {"content-type": "application/json"}))
    assert (refused.value.code, refused.value.read()) == (409, b"no")
