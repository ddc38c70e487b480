"""How events are tried, URLs and runtime settings of functions: documents, lists, refusals."""

import re

import pytest
from harness import create
from test_versions import document, refused

APP = {"app.py": "def handler(e, c):\n    return e\n"}
MISSING, INVALID = "ResourceNotFoundException", "InvalidParameterValueException"
GONE = (404, MISSING, "The resource you requested does not exist.")
NO_FUNCTION = (404, MISSING, "The function doesn't exist.")
NO_URL_FUNCTION = (404, MISSING, "Function does not exist")
QUEUE = "arn:aws:sqs:us-east-1:000000000000:q"


def arn(name):
    return f"arn:aws:lambda:us-east-1:000000000000:function:{name}"


@pytest.fixture
def function(client, name):
    create(client, name, APP)
    client.publish_version(FunctionName=name)
    client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    return name


def test_how_events_are_tried_is_shown_as_aws_shows_it(client, function):
    put = client.put_function_event_invoke_config(FunctionName=function, MaximumRetryAttempts=1)
    assert document(put) == {
        "LastModified": put["LastModified"], "FunctionArn": f"{arn(function)}:$LATEST", "MaximumRetryAttempts": 1,
        "DestinationConfig": {"OnSuccess": {}, "OnFailure": {}}}
    assert document(client.get_function_event_invoke_config(FunctionName=function)) == document(put)
    updated = client.update_function_event_invoke_config(
        FunctionName=function, MaximumEventAgeInSeconds=60, DestinationConfig={"OnFailure": {"Destination": QUEUE}})
    assert document(updated) == {
        "LastModified": updated["LastModified"], "FunctionArn": f"{arn(function)}:$LATEST", "MaximumRetryAttempts": 1,
        "MaximumEventAgeInSeconds": 60, "DestinationConfig": {"OnSuccess": {}, "OnFailure": {"Destination": QUEUE}}}
    replaced = client.put_function_event_invoke_config(FunctionName=function, MaximumEventAgeInSeconds=61)
    assert document(replaced).keys() == {"LastModified", "FunctionArn", "MaximumEventAgeInSeconds", "DestinationConfig"}
    client.put_function_event_invoke_config(FunctionName=function, Qualifier="live", MaximumRetryAttempts=0)
    client.put_function_event_invoke_config(FunctionName=f"{function}:1", MaximumRetryAttempts=2)
    first = client.list_function_event_invoke_configs(FunctionName=function, MaxItems=2)
    rest = client.list_function_event_invoke_configs(FunctionName=function, MaxItems=2, Marker=first["NextMarker"])
    assert "NextMarker" not in rest
    listed = first["FunctionEventInvokeConfigs"] + rest["FunctionEventInvokeConfigs"]
    assert [one["FunctionArn"].rsplit(":", 1)[1] for one in listed] == ["$LATEST", "1", "live"]
    assert listed[0] == document(replaced)
    deleted = client.delete_function_event_invoke_config(FunctionName=function)
    assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert refused(client.get_function_event_invoke_config, FunctionName=function)[0] == 404


def test_refusals_of_how_events_are_tried(client, function):
    put, update = client.put_function_event_invoke_config, client.update_function_event_invoke_config
    get, delete = client.get_function_event_invoke_config, client.delete_function_event_invoke_config
    for name, qualifier in (("nobody", {}), (function, {}), (function, {"Qualifier": "live"})):
        named = f"{arn(name)}:{qualifier.get('Qualifier', '$LATEST')}"
        none = (404, MISSING, f"The function {named} doesn't have an EventInvokeConfig")
        assert refused(get, FunctionName=name, **qualifier) == none
        assert refused(delete, FunctionName=name, **qualifier) == none
    assert refused(update, FunctionName=function, MaximumRetryAttempts=1) == (
        404, MISSING, f"The function {arn(function)}:$LATEST doesn't have an EventInvokeConfig")
    for name, qualifier in (("nobody", {}), (function, {"Qualifier": "next"}), (function, {"Qualifier": "9"})):
        assert refused(put, FunctionName=name, MaximumRetryAttempts=1, **qualifier) == NO_FUNCTION
        assert refused(update, FunctionName=name, MaximumRetryAttempts=1, **qualifier) == NO_FUNCTION
    assert refused(client.list_function_event_invoke_configs, FunctionName="nobody") == NO_FUNCTION
    assert refused(put, FunctionName=function) == (
        400, INVALID, "You must specify at least one of error handling or destination setting.")

    def to(**destinations):
        config = {f"On{k.capitalize()}": {"Destination": v} for k, v in destinations.items()}
        return refused(put, FunctionName=function, DestinationConfig=config)

    table = "arn:aws:dynamodb:us-east-1:000000000000:table/t"
    assert to(success=table, failure=QUEUE) == (
        400, INVALID, f"The provided destination config DestinationConfig(onSuccess=OnSuccess(destination={table}), "
                      f"onFailure=OnFailure(destination={QUEUE})) is invalid.")
    assert to(failure=table)[2] == (
        f"The provided destination config DestinationConfig(onSuccess=null, onFailure=OnFailure(destination={table})) is invalid.")
    assert to(success=arn("nobody")) == (400, INVALID, f"The destination ARN {arn('nobody')} is invalid.")
    assert to(success=arn(function)) == (400, INVALID, "You can't specify the function as a destination for itself.")
    assert refused(put, FunctionName=function, MaximumRetryAttempts=3) == (
        400, "ValidationException", "1 validation error detected: Value '3' at 'maximumRetryAttempts' failed to satisfy "
                                    "constraint: Member must have value less than or equal to 2")


def test_urls_are_shown_as_aws_shows_them(client, function):
    made = client.create_function_url_config(FunctionName=function, AuthType="NONE")
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201
    url = made["FunctionUrl"]
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/_hearth/url/[0-9a-f]{32}/", url)
    said = {"FunctionUrl": url, "FunctionArn": arn(function), "AuthType": "NONE", "InvokeMode": "BUFFERED",
            "CreationTime": made["CreationTime"]}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", made["CreationTime"])
    assert document(made) == said
    assert document(client.get_function_url_config(FunctionName=function)) == {**said, "LastModifiedTime": made["CreationTime"]}
    cors = {"AllowOrigins": ["*"], "AllowMethods": ["GET"], "MaxAge": 5, "AllowCredentials": False}
    updated = document(client.update_function_url_config(FunctionName=function, AuthType="AWS_IAM", Cors=cors))
    assert updated == {**said, "AuthType": "AWS_IAM", "Cors": cors, "LastModifiedTime": updated["LastModifiedTime"]}
    alias = client.create_function_url_config(
        FunctionName=function, Qualifier="live", AuthType="NONE", InvokeMode="RESPONSE_STREAM")
    assert (alias["FunctionArn"], alias["InvokeMode"]) == (f"{arn(function)}:live", "RESPONSE_STREAM")
    assert alias["FunctionUrl"] != url
    first = client.list_function_url_configs(FunctionName=function, MaxItems=1)
    rest = client.list_function_url_configs(FunctionName=function, MaxItems=1, Marker=first["NextMarker"])
    assert first["FunctionUrlConfigs"] == [updated] and "NextMarker" not in rest
    assert [one["FunctionArn"] for one in rest["FunctionUrlConfigs"]] == [f"{arn(function)}:live"]
    assert client.delete_function_url_config(FunctionName=function)["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert refused(client.get_function_url_config, FunctionName=function) == GONE
    client.delete_alias(FunctionName=function, Name="live")
    assert client.list_function_url_configs(FunctionName=function)["FunctionUrlConfigs"] == []


def test_refusals_of_urls(client, function):
    create_url, update = client.create_function_url_config, client.update_function_url_config
    assert refused(create_url, FunctionName="nobody", AuthType="NONE") == NO_URL_FUNCTION
    assert refused(create_url, FunctionName=function, AuthType="NONE", Qualifier="next") == NO_URL_FUNCTION
    assert refused(update, FunctionName="nobody", AuthType="NONE") == NO_URL_FUNCTION
    assert refused(update, FunctionName=function, AuthType="NONE", Qualifier="next") == NO_URL_FUNCTION
    assert refused(update, FunctionName=function, AuthType="NONE") == GONE
    for call in (client.get_function_url_config, client.delete_function_url_config):
        assert refused(call, FunctionName="nobody") == GONE
        assert refused(call, FunctionName=function) == GONE
    assert refused(client.list_function_url_configs, FunctionName="nobody") == NO_URL_FUNCTION
    create_url(FunctionName=function, AuthType="NONE")
    assert refused(create_url, FunctionName=function, AuthType="NONE") == (
        409, "ResourceConflictException", f"Failed to create function url config for [functionArn = {arn(function)}]. Error "
                                          "message:  FunctionUrlConfig exists for this Lambda function")
    for qualifier in ("$LATEST", "1"):
        status, code, text = refused(create_url, FunctionName=function, AuthType="NONE", Qualifier=qualifier)
        assert (status, code) == (400, "ValidationException")
        assert text == (f"1 validation error detected: Value '{qualifier}' at 'qualifier' failed to satisfy constraint: Member "
                        "must satisfy regular expression pattern: ((?!^\\d+$)^[0-9a-zA-Z-_]+$)")


def test_recursion_and_runtime_management(client, function):
    get, put = client.get_function_recursion_config, client.put_function_recursion_config
    assert document(get(FunctionName=function)) == {"RecursiveLoop": "Terminate"}
    assert document(put(FunctionName=function, RecursiveLoop="Allow")) == {"RecursiveLoop": "Allow"}
    assert document(get(FunctionName=arn(function))) == {"RecursiveLoop": "Allow"}
    missing = (404, MISSING, f"Function not found: {arn('nobody')}")
    assert refused(get, FunctionName="nobody") == refused(put, FunctionName="nobody", RecursiveLoop="Allow") == missing
    get, put = client.get_runtime_management_config, client.put_runtime_management_config
    auto = {"UpdateRuntimeOn": "Auto", "FunctionArn": arn(function)}
    assert document(get(FunctionName=function)) == auto
    assert document(put(FunctionName=function, UpdateRuntimeOn="FunctionUpdate")) == {**auto, "UpdateRuntimeOn": "FunctionUpdate"}
    assert document(get(FunctionName=function, Qualifier="1")) == {**auto, "FunctionArn": f"{arn(function)}:1"}
    configuration = client.get_function_configuration(FunctionName=function)
    version = configuration["RuntimeVersionConfig"]["RuntimeVersionArn"]
    kept = {"UpdateRuntimeOn": "Manual", "RuntimeVersionArn": version}
    assert document(put(FunctionName=function, **kept)) == {**kept, "FunctionArn": arn(function)}
    assert document(get(FunctionName=function)) == {**kept, "FunctionArn": arn(function)}
    for bad in ({"UpdateRuntimeOn": "Manual"}, {**kept, "RuntimeVersionArn": f"{version}0"}, {**kept, "UpdateRuntimeOn": "Auto"}):
        assert refused(put, FunctionName=function, **bad)[:2] == (400, INVALID)
    assert refused(get, FunctionName=function, Qualifier="live")[:2] == (400, INVALID)
    assert refused(get, FunctionName=function, Qualifier="9") == (404, MISSING, f"Function not found: {arn(function)}:9")


def test_scaling_is_for_functions_with_a_capacity_provider(client, function):
    for call in (client.get_function_scaling_config, client.put_function_scaling_config):
        assert refused(call, FunctionName=function, Qualifier="1")[:2] == (400, INVALID)
        assert refused(call, FunctionName="nobody", Qualifier="1") == (404, MISSING, f"Function not found: {arn('nobody')}")
