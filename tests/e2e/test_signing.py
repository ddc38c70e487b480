"""Code signing configurations: documents, functions that keep them, what Enforce refuses, tags."""

import re

import pytest
from harness import ROLE, active, create, zipped
from test_versions import document, refused

APP = {"app.py": "def handler(e, c):\n    return e\n"}
PROFILE = "arn:aws:signer:us-east-1:000000000000:/signing-profiles/p/v"
NOWHERE = "arn:aws:lambda:us-east-1:000000000000:code-signing-config:csc-00000000000000000"
MISSING = "ResourceNotFoundException"
UNSIGNED = (400, "CodeVerificationFailedException",
            "Lambda cannot deploy the function. The function or layer might be signed using a signature that the client is not "
            "configured to accept. Check the provided signature for unsigned.")


def make(client, **members):
    return client.create_code_signing_config(AllowedPublishers={"SigningProfileVersionArns": [PROFILE]}, **members)


def no_config(arn):
    return 404, MISSING, f"The Lambda code signing configuration {arn} can not be found."


def test_a_configuration_is_shown_alike_everywhere(client):
    made = make(client)
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201
    config = made["CodeSigningConfig"]
    arn = config["CodeSigningConfigArn"]
    assert re.fullmatch(r"csc-[0-9a-f]{17}", config["CodeSigningConfigId"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000", config["LastModified"])
    assert config == {
        "CodeSigningConfigId": arn.rsplit(":", 1)[1], "CodeSigningConfigArn": arn, "LastModified": config["LastModified"],
        "AllowedPublishers": {"SigningProfileVersionArns": [PROFILE]},
        "CodeSigningPolicies": {"UntrustedArtifactOnDeployment": "Warn"}}
    assert document(client.get_code_signing_config(CodeSigningConfigArn=arn)) == {"CodeSigningConfig": config}
    policies = {"UntrustedArtifactOnDeployment": "Enforce"}
    updated = client.update_code_signing_config(CodeSigningConfigArn=arn, Description="d", CodeSigningPolicies=policies)
    updated = updated["CodeSigningConfig"]
    assert updated == {**config, "Description": "d", "CodeSigningPolicies": policies, "LastModified": updated["LastModified"]}
    pages = client.get_paginator("list_code_signing_configs").paginate(PaginationConfig={"PageSize": 1})
    assert updated in [one for page in pages for one in page["CodeSigningConfigs"]]
    client.tag_resource(Resource=arn, Tags={"a": "b"})
    assert client.list_tags(Resource=arn)["Tags"] == {"a": "b"}
    client.untag_resource(Resource=arn, TagKeys=["a"])
    assert client.list_tags(Resource=arn)["Tags"] == {}
    deleted = client.delete_code_signing_config(CodeSigningConfigArn=arn)
    assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    for call in (client.get_code_signing_config, client.update_code_signing_config, client.delete_code_signing_config,
                 client.list_functions_by_code_signing_config):
        assert refused(call, CodeSigningConfigArn=arn) == no_config(arn)
        assert refused(call, CodeSigningConfigArn=NOWHERE) == no_config(NOWHERE)


def test_functions_keep_a_configuration(client, name):
    arn = make(client)["CodeSigningConfig"]["CodeSigningConfigArn"]
    create(client, name, APP)
    other = create(client, f"{name}-made", APP, CodeSigningConfigArn=arn)["FunctionName"]
    get, put = client.get_function_code_signing_config, client.put_function_code_signing_config
    assert document(get(FunctionName=other)) == {"CodeSigningConfigArn": arn, "FunctionName": other}
    assert document(get(FunctionName=name)) == {}
    both = {"CodeSigningConfigArn": arn, "FunctionName": name}
    assert document(put(**both)) == both == document(get(FunctionName=name))
    listed = client.list_functions_by_code_signing_config(CodeSigningConfigArn=arn)
    assert listed["FunctionArns"] == [f"arn:aws:lambda:us-east-1:000000000000:function:{one}" for one in (name, other)]
    first = client.list_functions_by_code_signing_config(CodeSigningConfigArn=arn, MaxItems=1)
    rest = client.list_functions_by_code_signing_config(CodeSigningConfigArn=arn, MaxItems=1, Marker=first["NextMarker"])
    assert first["FunctionArns"] + rest["FunctionArns"] == listed["FunctionArns"] and "NextMarker" not in rest
    assert refused(client.delete_code_signing_config, CodeSigningConfigArn=arn)[:2] == (409, "ResourceConflictException")
    assert refused(put, FunctionName=name, CodeSigningConfigArn=NOWHERE) == (
        404, "CodeSigningConfigNotFoundException",
        f"The code signing configuration cannot be found. Check that the provided configuration is not deleted: {NOWHERE}.")
    nobody = (404, MISSING, "Function not found: arn:aws:lambda:us-east-1:000000000000:function:nobody")
    assert refused(put, FunctionName="nobody", CodeSigningConfigArn=arn) == nobody
    assert refused(get, FunctionName="nobody") == nobody
    assert refused(client.delete_function_code_signing_config, FunctionName="nobody") == nobody
    removed = client.delete_function_code_signing_config(FunctionName=name)
    assert removed["ResponseMetadata"]["HTTPStatusCode"] == 204 and document(get(FunctionName=name)) == {}
    client.delete_function(FunctionName=other)
    client.delete_code_signing_config(CodeSigningConfigArn=arn)


def test_enforce_refuses_code_that_is_not_signed(client, name):
    arn = make(client, CodeSigningPolicies={"UntrustedArtifactOnDeployment": "Enforce"})
    arn = arn["CodeSigningConfig"]["CodeSigningConfigArn"]
    package = zipped(APP)
    request = {"FunctionName": name, "Runtime": "python3.11", "Role": ROLE, "Handler": "app.handler",
               "Code": {"ZipFile": package}}
    assert refused(client.create_function, **request, CodeSigningConfigArn=arn) == UNSIGNED
    assert refused(client.create_function, **request, CodeSigningConfigArn=NOWHERE)[:2] == (
        404, "CodeSigningConfigNotFoundException")
    client.create_function(**request)
    active(client, name)
    client.put_function_code_signing_config(FunctionName=name, CodeSigningConfigArn=arn)
    assert refused(client.update_function_code, FunctionName=name, ZipFile=package) == UNSIGNED
    assert refused(client.update_function_code, FunctionName=name, ZipFile=package, DryRun=True) == UNSIGNED
    layer = client.publish_layer_version(LayerName=name, Content={"ZipFile": package})["LayerVersionArn"]
    assert refused(client.update_function_configuration, FunctionName=name, Layers=[layer]) == UNSIGNED
    client.update_function_configuration(FunctionName=name, Timeout=5)
    active(client, name)
    warn = {"UntrustedArtifactOnDeployment": "Warn"}
    client.update_code_signing_config(CodeSigningConfigArn=arn, CodeSigningPolicies=warn)
    client.update_function_code(FunctionName=name, ZipFile=package)
    active(client, name)


@pytest.mark.parametrize("kind", ["capacity-provider:p", "event-source-mapping:00000000-0000-4000-8000-000000000000"])
def test_tags_of_what_there_is_not(client, kind):
    arn = f"arn:aws:lambda:us-east-1:000000000000:{kind}"
    assert refused(client.list_tags, Resource=arn) == (404, MISSING, "The resource you requested does not exist.")
