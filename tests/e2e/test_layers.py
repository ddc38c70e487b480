"""Layers: documents, lists, sharing, and what functions find under /opt."""

import base64
import hashlib
import json
import urllib.request

import boto3
import botocore.config
import pytest
from harness import Cluster, active, create, invoke, zipped
from test_versions import document, refused

APP = """
import os
def tree(root):
    return {os.path.join(at, name)[len(root) + 1:]: open(os.path.join(at, name)).read().strip()
            for at, _, names in os.walk(root) for name in names if not name.endswith(".pyc")}
def handler(event, context):
    if event and "import" in event:
        return __import__(event["import"]).VALUE
    if event and "write" in event:
        open("/opt/new", "w")
    return tree("/opt")
"""


def publish(client, name, files, **members):
    return client.publish_layer_version(LayerName=name, Content={"ZipFile": zipped(files)}, **members)


def layered(client, name, *arns):
    create(client, name, {"app.py": APP}, Layers=list(arns))


def test_a_published_version_is_shown_alike_everywhere(client, name):
    archive = zipped({"python/lib.py": "VALUE = 1\n"})
    made = client.publish_layer_version(
        LayerName=name, Content={"ZipFile": archive}, Description="of the layer", LicenseInfo="MIT",
        CompatibleRuntimes=["python3.11", "python3.12"], CompatibleArchitectures=["x86_64"])
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201
    arn = made["LayerArn"]
    assert arn == f"arn:aws:lambda:us-east-1:000000000000:layer:{name}"
    content = made["Content"]
    assert content["CodeSize"] == len(archive)
    assert content["CodeSha256"] == base64.b64encode(hashlib.sha256(archive).digest()).decode()
    assert urllib.request.urlopen(content["Location"]).read() == archive
    said = {"Description": "of the layer", "LicenseInfo": "MIT", "Version": 1, "LayerVersionArn": f"{arn}:1",
            "CompatibleRuntimes": ["python3.11", "python3.12"], "CompatibleArchitectures": ["x86_64"],
            "CreatedDate": made["CreatedDate"]}
    assert document(made) == {**said, "LayerArn": arn, "Content": content}
    for got in (client.get_layer_version(LayerName=name, VersionNumber=1),
                client.get_layer_version(LayerName=arn, VersionNumber=1),
                client.get_layer_version_by_arn(Arn=f"{arn}:1")):
        got = document(got)
        assert got.pop("Content").keys() == content.keys() and got == {**said, "LayerArn": arn}
    publish(client, name, {"x": "2"})
    bare = document(client.get_layer_version(LayerName=name, VersionNumber=2))
    assert bare["Description"] == "" and not bare.keys() & {"LicenseInfo", "CompatibleRuntimes", "CompatibleArchitectures"}
    versions = client.list_layer_versions(LayerName=name)["LayerVersions"]
    assert [v["Version"] for v in versions] == [2, 1] and versions[1] == said
    assert [v["Version"] for v in client.list_layer_versions(LayerName=name, CompatibleRuntime="python3.12")["LayerVersions"]] == [1]
    ours = [one for one in client.list_layers(CompatibleRuntime="python3.11")["Layers"] if one["LayerName"] == name]
    assert ours == [{"LayerName": name, "LayerArn": arn, "LatestMatchingVersion": said}]


def test_lists_come_in_pages(client, name):
    for _ in range(3):
        publish(client, name, {"x": "1"})
    first = client.list_layer_versions(LayerName=name, MaxItems=2)
    rest = client.list_layer_versions(LayerName=name, MaxItems=2, Marker=first["NextMarker"])
    assert [v["Version"] for v in first["LayerVersions"] + rest["LayerVersions"]] == [3, 2, 1]
    assert "NextMarker" not in rest
    pages = client.get_paginator("list_layers").paginate(PaginationConfig={"PageSize": 1})
    names = [layer["LayerName"] for page in pages for layer in page["Layers"]]
    assert names == sorted(set(names)) and name in names


def test_layers_lie_under_opt_in_their_order(client, name):
    one = publish(client, f"{name}-1", {"python/own.py": "VALUE = 'one'\n", "shared": "one", "bin/tool": "1"})
    two = publish(client, f"{name}-2", {"shared": "two", "extra/deep/file": "2"})
    arns = [one["LayerVersionArn"], two["LayerVersionArn"]]
    layered(client, name, *arns)
    shown = client.get_function_configuration(FunctionName=name)["Layers"]
    assert shown == [{"Arn": arn, "CodeSize": made["Content"]["CodeSize"]} for arn, made in zip(arns, (one, two))]
    assert invoke(client, name)[1] == {
        "python/own.py": "VALUE = 'one'", "shared": "two", "bin/tool": "1", "extra/deep/file": "2"}
    assert invoke(client, name, {"import": "own"})[1] == "one"
    assert "Read-only file system" in invoke(client, name, {"write": 1})[1]["errorMessage"]
    client.update_function_configuration(FunctionName=name, Layers=arns[::-1])
    active(client, name)
    assert invoke(client, name)[1]["shared"] == "one"
    # What functions have stays with them.
    client.delete_layer_version(LayerName=f"{name}-2", VersionNumber=1)
    client.delete_layer_version(LayerName=f"{name}-2", VersionNumber=1)
    assert refused(client.get_layer_version, LayerName=f"{name}-2", VersionNumber=1) == (
        404, "ResourceNotFoundException", "The resource you requested does not exist.")
    client.update_function_configuration(FunctionName=name, Timeout=5)
    active(client, name)
    assert invoke(client, name)[1]["extra/deep/file"] == "2"
    assert publish(client, f"{name}-2", {"x": "3"})["Version"] == 2, "no number is given twice"
    client.update_function_configuration(FunctionName=name, Layers=[])
    active(client, name)
    assert "Layers" not in client.get_function_configuration(FunctionName=name)
    assert invoke(client, name)[1] == {}


def test_what_no_function_can_have_is_refused_in_awss_words(client, name):
    made = publish(client, name, {"x": "1"})
    publish(client, name, {"x": "2"})
    arn = made["LayerArn"]
    create(client, name, {"app.py": APP})
    invalid = "InvalidParameterValueException"

    def update(*arns):
        return refused(client.update_function_configuration, FunctionName=name, Layers=list(arns))

    assert update(f"{arn}:9") == (400, invalid, f"Layer version {arn}:9 does not exist.")
    assert update(f"{arn}:1", f"{arn}:2") == (
        400, invalid, "Two different versions of the same layer are not allowed to be referenced in the same function. "
                      f"{arn}:1 and {arn}:2 are versions of the same layer.")
    elsewhere = f"{arn}:1".replace("us-east-1", "eu-west-1")
    assert update(elsewhere) == (
        400, invalid, "Layers are not in the same region as the function. Layers are expected to be in region us-east-1.")
    assert update(*[f"{arn}{n}:1" for n in range(6)])[:2] == (400, invalid)
    assert update(arn)[0] == 400
    assert refused(client.get_layer_version, LayerName=name, VersionNumber=0) == (
        400, invalid, "Layer Version Cannot be less than 1")
    big = publish(client, f"{name}-big", {"zeros": b"\0" * 200_000_000})["LayerVersionArn"]
    more = publish(client, f"{name}-more", {"zeros": b"\0" * 70_000_000})["LayerVersionArn"]
    status, code, text = update(big, more)
    assert (status, code) == (400, invalid)
    assert text.startswith("Function code combined with layers exceeds the maximum allowed size of 262144000 bytes. The actual size is 27000")
    assert refused(publish, client=client, name=name, files={}) [:2] == (400, invalid)


def test_another_account_uses_a_layer_when_its_policy_says_so(tmp_path):
    cluster = Cluster(tmp_path, extra=["--auth", "any"]).start()
    try:
        owner, other = (account(cluster, n) for n in ("111111111111", "222222222222"))
        made = publish(owner, "shared", {"python/lib.py": "VALUE = 'shared'\n"})
        arn = made["LayerVersionArn"]
        by_number = {"LayerName": made["LayerArn"], "VersionNumber": 1}
        own = {"LayerName": "shared", "VersionNumber": 1}
        text = (f"User: arn:aws:iam::222222222222:root is not authorized to perform: lambda:GetLayerVersion on resource: "
                f"{arn} because no resource-based policy allows the lambda:GetLayerVersion action")
        denied = (403, "AccessDeniedException", text)
        assert refused(other.get_layer_version, **by_number) == denied
        create(other, "f", {"app.py": APP})
        assert refused(other.update_function_configuration, FunctionName="f", Layers=[arn]) == denied
        assert refused(owner.get_layer_version_policy, **own) == (
            404, "ResourceNotFoundException", "No policy is associated with the given resource.")
        added = owner.add_layer_version_permission(
            **own, StatementId="s1", Action="lambda:GetLayerVersion", Principal="222222222222")
        statement = {"Sid": "s1", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::222222222222:root"},
                     "Action": "lambda:GetLayerVersion", "Resource": arn}
        assert json.loads(added["Statement"]) == statement
        policy = owner.get_layer_version_policy(**own)
        assert policy["RevisionId"] == added["RevisionId"]
        assert json.loads(policy["Policy"]) == {"Version": "2012-10-17", "Id": "default", "Statement": [statement]}
        assert refused(owner.add_layer_version_permission, **own, StatementId="s1", Action="lambda:GetLayerVersion",
                       Principal="*")[:2] == (409, "ResourceConflictException")
        assert refused(owner.remove_layer_version_permission, **own, StatementId="s2") == (
            404, "ResourceNotFoundException", "Statement s2 is not found in resource policy.")
        assert refused(owner.remove_layer_version_permission, **own, StatementId="s1", RevisionId="old")[:2] == (
            412, "PreconditionFailedException")
        assert other.get_layer_version(**by_number)["LayerVersionArn"] == arn
        other.update_function_configuration(FunctionName="f", Layers=[arn])
        active(other, "f")
        assert invoke(other, "f", {"import": "lib"})[1] == "shared"
        owner.remove_layer_version_permission(**own, StatementId="s1", RevisionId=policy["RevisionId"])
        assert refused(other.get_layer_version, **by_number) == denied
        assert invoke(other, "f", {"import": "lib"})[1] == "shared", "functions that have it keep it"
        assert refused(other.delete_layer_version, **by_number)[:2] == (403, "AccessDeniedException")
    finally:
        cluster.stop()


def account(cluster, number):
    return boto3.client("lambda", endpoint_url=cluster.info["endpoint"], region_name="us-east-1",
                        aws_access_key_id=number, aws_secret_access_key="x",
                        config=botocore.config.Config(retries={"max_attempts": 0}))


@pytest.mark.parametrize("workers", [2])
def test_layers_outlive_a_restart_of_everything(tmp_path, workers):
    cluster = Cluster(tmp_path, workers=workers).start()
    try:
        client = cluster.client(retries=8)
        made = publish(client, "kept", {"python/lib.py": "VALUE = 7\n"})
        create(client, "f", {"app.py": APP}, Layers=[made["LayerVersionArn"]])
        assert invoke(client, "f", {"import": "lib"})[1] == 7
        cluster.kill_everything()
        cluster.start()
        client = cluster.client(retries=8)
        assert client.get_layer_version(LayerName="kept", VersionNumber=1)["Content"]["CodeSize"] == made["Content"]["CodeSize"]
        assert invoke(client, "f", {"import": "lib"})[1] == 7
    finally:
        cluster.stop()
