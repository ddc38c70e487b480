"""Published versions: documents, conditions, lists, invocation, deletion, and what outlives a restart of everything."""

import base64
import hashlib

import botocore.exceptions
import pytest
from harness import Cluster, active, create, invoke, until, zipped

APP = "def handler(event, context):\n    return ['{tag}', context.function_version, context.invoked_function_arn]\n"


def app(tag):
    return {"app.py": APP.format(tag=tag)}


def update(client, name, tag, **members):
    answer = client.update_function_code(FunctionName=name, ZipFile=zipped(app(tag)), **members)
    active(client, name)
    return answer


def refused(call, **members):
    with pytest.raises(botocore.exceptions.ClientError) as error:
        call(**members)
    answer = error.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"], answer["Error"]["Message"]


def arn(client, name):
    return client.get_function_configuration(FunctionName=name)["FunctionArn"]


def document(answer):
    return {key: value for key, value in answer.items() if key != "ResponseMetadata"}


def test_a_version_is_a_snapshot_and_shows_its_number(client, name):
    create(client, name, app("one"), Description="of the function", Environment={"Variables": {"AB": "1"}})
    latest = document(client.get_function_configuration(FunctionName=name))
    published = document(client.publish_version(FunctionName=name, Description="of the version"))
    assert published["FunctionArn"] == latest["FunctionArn"] + ":1" and published["Version"] == "1"
    differing = {"FunctionArn", "Version", "Description", "RevisionId", "LastModified"}
    assert published.keys() == latest.keys()
    assert {k: published[k] for k in published.keys() - differing} == {k: latest[k] for k in latest.keys() - differing}
    assert (published["State"], published["LastUpdateStatus"]) == ("Active", "Successful")
    assert published["Description"] == "of the version"
    assert len({published["RevisionId"], latest["RevisionId"], arn_revision(client, name)}) == 3, "both are new"
    for one in (client.get_function_configuration(FunctionName=name, Qualifier="1"),
                client.get_function_configuration(FunctionName=f"{name}:1"),
                client.get_function_configuration(FunctionName=latest["FunctionArn"] + ":1"),
                client.get_function(FunctionName=name, Qualifier="1")["Configuration"]):
        assert document(one) == published
    update(client, name, "two")
    client.update_function_configuration(FunctionName=name, Timeout=9)
    active(client, name)
    assert document(client.get_function_configuration(FunctionName=name, Qualifier="1")) == published
    assert invoke(client, name, Qualifier="1")[1] == ["one", "1", latest["FunctionArn"] + ":1"]
    answer, got = invoke(client, f"{name}:1")
    assert (answer["ExecutedVersion"], got[:2]) == ("1", ["one", "1"])
    assert invoke(client, name)[1] == ["two", "$LATEST", latest["FunctionArn"]]


def arn_revision(client, name):
    return client.get_function_configuration(FunctionName=name)["RevisionId"]


def test_the_code_of_a_version_can_be_fetched(client, name):
    import urllib.request
    create(client, name, app("one"))
    client.publish_version(FunctionName=name)
    update(client, name, "two")
    found = client.get_function(FunctionName=name, Qualifier="1")
    with urllib.request.urlopen(found["Code"]["Location"], timeout=10) as answer:
        package = answer.read()
    assert package == zipped(app("one"))
    digest = base64.b64encode(hashlib.sha256(package).digest()).decode()
    assert digest == found["Configuration"]["CodeSha256"]


def test_publishing_again_gives_the_same_version_and_numbers_are_not_reused(client, name):
    create(client, name, app("one"))
    assert client.publish_version(FunctionName=name)["Version"] == "1"
    assert client.publish_version(FunctionName=name, Description="again")["Version"] == "1"
    update(client, name, "two")
    assert client.publish_version(FunctionName=name)["Version"] == "2"
    answer = client.delete_function(FunctionName=name, Qualifier="2")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert client.publish_version(FunctionName=name)["Version"] == "3"
    versions = client.list_versions_by_function(FunctionName=name)["Versions"]
    assert [v["Version"] for v in versions] == ["$LATEST", "1", "3"]


def test_conditions_have_awss_texts(client, name):
    create(client, name, app("one"))
    latest = client.get_function_configuration(FunctionName=name)
    sha = latest["CodeSha256"]
    assert refused(client.publish_version, FunctionName=name, CodeSha256="x") == (
        400, "InvalidParameterValueException",
        f"CodeSHA256 (x) is different from current CodeSHA256 in $LATEST ({sha}). Please try again with the CodeSHA256 in $LATEST.",
    )
    assert refused(client.publish_version, FunctionName=name, RevisionId="x") == (
        412, "PreconditionFailedException",
        "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id",
    )
    published = client.publish_version(FunctionName=name, CodeSha256=sha, RevisionId=latest["RevisionId"])
    assert published["Version"] == "1"
    base = arn(client, name)
    for call in (client.get_function, client.get_function_configuration, client.invoke):
        assert refused(call, FunctionName=name, Qualifier="7") == (404, "ResourceNotFoundException", f"Function not found: {base}:7")
    assert refused(client.delete_function, FunctionName=name, Qualifier="$LATEST")[2] == (
        "$LATEST version cannot be deleted without deleting the function.")
    assert client.delete_function(FunctionName=name, Qualifier="7")["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert refused(client.publish_version, FunctionName="nobody")[0] == 404


def test_publish_comes_with_creation_and_with_code(client, name):
    made = create(client, name, app("one"), wait=False, Publish=True)
    assert (made["Version"], made["State"]) == ("1", "Pending") and made["FunctionArn"].endswith(f":function:{name}")
    assert "LastUpdateStatus" not in made
    active(client, name)
    until(lambda: client.get_function_configuration(FunctionName=name, Qualifier="1")["State"] == "Active", "version 1 active")
    updated = update(client, name, "two", Publish=True)
    assert updated["Version"] == "2" and updated["FunctionArn"].endswith(f":function:{name}:2")
    got = [invoke(client, name, Qualifier=q)[1][:2] for q in ("1", "2", "$LATEST")]
    assert got == [["one", "1"], ["two", "2"], ["two", "$LATEST"]]


def test_lists_have_every_version_page_by_page(client, name):
    create(client, name, app("0"), Publish=True)
    for n in range(1, 4):
        update(client, name, str(n), Publish=True)
    pages = client.get_paginator("list_versions_by_function").paginate(FunctionName=name, PaginationConfig={"PageSize": 2})
    versions = [v for page in pages for v in page["Versions"]]
    base = arn(client, name)
    assert [v["FunctionArn"] for v in versions] == [f"{base}:{v}" for v in ("$LATEST", "1", "2", "3", "4")]
    assert all("State" not in v and "LastUpdateStatus" not in v for v in versions)
    pages = client.get_paginator("list_functions").paginate(FunctionVersion="ALL", PaginationConfig={"PageSize": 3})
    every = [(f["FunctionName"], f["Version"]) for page in pages for f in page["Functions"]]
    assert [v for n, v in every if n == name] == ["$LATEST", "1", "2", "3", "4"]
    assert len(every) == len(set(every))
    plain = [f for page in client.get_paginator("list_functions").paginate() for f in page["Functions"]]
    assert [f["Version"] for f in plain if f["FunctionName"] == name] == ["$LATEST"]


def test_code_storage_counts_every_version(client, name):
    def used():
        return client.get_account_settings()["AccountUsage"]["TotalCodeSize"]

    before = used()
    create(client, name, app("one"))
    size = client.get_function_configuration(FunctionName=name)["CodeSize"]
    client.publish_version(FunctionName=name)
    assert used() == before + 2 * size
    client.delete_function(FunctionName=name, Qualifier="1")
    assert used() == before + size


def test_versions_and_their_code_outlive_a_restart_of_everything(tmp_path):
    cluster = Cluster(tmp_path, controllers=1, workers=1).start()
    try:
        create(cluster.client(), "f", app("one"))
        cluster.client().publish_version(FunctionName="f")
        update(cluster.client(), "f", "two", Publish=True)
        cluster.client().create_alias(FunctionName="f", Name="live", FunctionVersion="1")
        cluster.kill_everything()
        cluster.start()
        client = cluster.client()
        got = [invoke(client, "f", Qualifier=q)[1][:2] for q in ("1", "2", "live")]
        assert got == [["one", "1"], ["two", "2"], ["one", "1"]]
    finally:
        cluster.stop()
