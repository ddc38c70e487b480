"""Records what botocore's signer makes of a set of requests, into signatures.json.

Run: python3 record_signatures.py   (any botocore; the vectors do not depend on its version)
The keys are those of AWS's published test suite. Nothing is sent anywhere.
"""

import datetime
import json
import pathlib
from unittest import mock

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

ACCESS_KEY = "AKIDEXAMPLE"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TIME = datetime.datetime(2015, 8, 30, 12, 36, 0)
HOST = "http://lambda.us-east-1.amazonaws.com:8080"
ARN = "arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Af%3A%24LATEST"

REQUESTS = [
    ("list_functions", "GET", "/2015-03-31/functions", {}, b"", None),
    ("list_functions_page", "GET", "/2015-03-31/functions?MaxItems=10&Marker=a%2Fb%3D", {}, b"", None),
    ("function_by_arn", "GET", f"/2015-03-31/functions/{ARN}", {}, b"", None),
    ("function_by_bare_arn", "GET", "/2015-03-31/functions/arn:aws:lambda:us-east-1:123456789012:function:f", {}, b"", None),
    ("tag_keys_repeat", "DELETE", f"/2017-03-31/tags/{ARN}?tagKeys=b&tagKeys=a%20c", {}, b"", None),
    ("durable_arn_with_slashes", "GET", f"/2025-12-01/durable-executions/{ARN}%2Fdurable-execution%2Fn%2Fi", {}, b"", None),
    ("unicode_path", "GET", "/2015-03-31/functions/%E1%88%B4", {}, b"", None),
    ("trailing_slash", "GET", "/2015-03-31/functions/", {}, b"", None),
    ("create_function", "POST", "/2015-03-31/functions", {"Content-Type": "application/json"}, b'{"FunctionName":"f"}', None),
    ("invoke_with_headers", "POST", "/2015-03-31/functions/f/invocations?Qualifier=%24LATEST",
     {"X-Amz-Invocation-Type": "Event", "X-Amz-Log-Type": "  Tail   twice  "}, b'{"a": 1}', None),
    ("binary_body", "POST", "/2015-03-31/functions/f/invocations", {}, bytes(range(256)), None),
    ("temporary_credentials", "POST", "/2015-03-31/functions/f/invocations", {}, b"{}", "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22=="),
    ("unsigned_payload", "POST", "/2015-03-31/functions/f/invocations", {"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}, b"any", None),
]


def sign(signer_class, name, method, path, headers, body, token, **options):
    request = AWSRequest(method=method, url=HOST + path, headers=dict(headers), data=body)
    credentials = Credentials(ACCESS_KEY, SECRET_KEY, token)
    signer = signer_class(credentials, "lambda", "us-east-1", **options)
    clock = mock.Mock(return_value=TIME)
    with mock.patch.object(botocore.auth, "get_current_datetime", clock):
        signer.add_auth(request)
    signed = {key.lower(): value for key, value in request.headers.items()}
    signed.setdefault("host", HOST.removeprefix("http://"))
    return {
        "name": name,
        "method": method,
        "path": request.url.removeprefix(HOST),
        "headers": signed,
        "body": body.hex(),
    }


vectors = [sign(botocore.auth.SigV4Auth, *request) for request in REQUESTS]
for name, method, path, headers, body, token in REQUESTS:
    if not headers and not body:  # botocore presigns requests without a body
        vectors.append(
            sign(botocore.auth.SigV4QueryAuth, f"{name}_presigned", method, path, headers, body, token, expires=3600)
        )
target = pathlib.Path(__file__).with_name("signatures.json")
target.write_text(json.dumps(vectors, indent=1) + "\n")
