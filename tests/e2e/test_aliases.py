"""Aliases: documents, texts, weights, and what an invocation through one sees."""

import collections

import pytest
from harness import active, create, invoke, zipped
from test_versions import app, arn, document, refused, update


@pytest.fixture
def two(client, name):
    """A function with the versions 1 and 2."""
    create(client, name, app("one"), Publish=True)
    update(client, name, "two", Publish=True)
    return name


def test_an_alias_is_shown_as_it_was_made(client, two):
    made = document(client.create_alias(FunctionName=two, Name="live", FunctionVersion="1"))
    revision = made.pop("RevisionId")
    expected = {"AliasArn": arn(client, two) + ":live", "Name": "live", "FunctionVersion": "1", "Description": ""}
    assert made == expected
    assert document(client.get_alias(FunctionName=two, Name="live")) == {**expected, "RevisionId": revision}
    updated = document(client.update_alias(
        FunctionName=two, Name="live", FunctionVersion="2", Description="now", RevisionId=revision,
        RoutingConfig={"AdditionalVersionWeights": {"1": 0.1}},
    ))
    assert updated.pop("RevisionId") != revision
    assert updated == {**expected, "FunctionVersion": "2", "Description": "now",
                       "RoutingConfig": {"AdditionalVersionWeights": {"1": 0.1}}}
    cleared = client.update_alias(FunctionName=two, Name="live", RoutingConfig={"AdditionalVersionWeights": {}})
    assert "RoutingConfig" not in cleared and cleared["Description"] == "now"
    shown = client.get_function_configuration(FunctionName=two, Qualifier="live")
    assert (shown["Version"], shown["FunctionArn"]) == ("2", expected["AliasArn"])
    for _ in range(2):
        assert client.delete_alias(FunctionName=two, Name="live")["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert refused(client.get_alias, FunctionName=two, Name="live") == (
        404, "ResourceNotFoundException", f"Cannot find alias arn: {expected['AliasArn']}")


def test_an_invocation_sees_the_version_and_the_alias(client, two):
    client.create_alias(FunctionName=two, Name="live", FunctionVersion="1")
    base = arn(client, two)
    for call in ({"FunctionName": two, "Qualifier": "live"}, {"FunctionName": f"{two}:live"}, {"FunctionName": f"{base}:live"}):
        answer, got = invoke(client, call.pop("FunctionName"), **call)
        assert (answer["ExecutedVersion"], got) == ("1", ["one", "1", f"{base}:live"])
    client.update_alias(FunctionName=two, Name="live", FunctionVersion="2")
    answer, got = invoke(client, two, Qualifier="live")
    assert (answer["ExecutedVersion"], got) == ("2", ["two", "2", f"{base}:live"]), "at once, through the same gateway"
    client.create_alias(FunctionName=two, Name="latest", FunctionVersion="$LATEST")
    assert invoke(client, two, Qualifier="latest")[0]["ExecutedVersion"] == "$LATEST"


def test_weights_share_the_invocations_out(client, two):
    client.create_alias(FunctionName=two, Name="live", FunctionVersion="1",
                        RoutingConfig={"AdditionalVersionWeights": {"2": 0.3}})
    count = 400
    seen = collections.Counter(invoke(client, two, Qualifier="live")[0]["ExecutedVersion"] for _ in range(count))
    assert set(seen) == {"1", "2"}
    # Six standard deviations of the binomial: one false alarm in 500 million runs.
    assert abs(seen["2"] - 0.3 * count) < 6 * (count * 0.3 * 0.7) ** 0.5, seen
    for weight, only in ((0.0, "1"), (1.0, "2")):
        client.update_alias(FunctionName=two, Name="live", RoutingConfig={"AdditionalVersionWeights": {"2": weight}})
        assert {invoke(client, two, Qualifier="live")[0]["ExecutedVersion"] for _ in range(20)} == {only}


def test_refusals_have_awss_texts(client, two):
    base = arn(client, two)
    client.create_alias(FunctionName=two, Name="live", FunctionVersion="1")

    def routed(**weights):
        return {"AdditionalVersionWeights": {key.strip("v"): value for key, value in weights.items()}}

    create_alias = {"FunctionName": two, "Name": "next", "FunctionVersion": "1"}
    for call, members, expected in (
        (client.create_alias, {**create_alias, "Name": "live"}, (409, "ResourceConflictException", f"Alias already exists: {base}:live")),
        (client.create_alias, {**create_alias, "FunctionVersion": "9"},
         (404, "ResourceNotFoundException", f"Function not found: {base}:9")),
        (client.create_alias, {**create_alias, "RoutingConfig": routed(v1=0.5)},
         (400, "InvalidParameterValueException", "Invalid function version 1. Function version 1 is already included in routing configuration.")),
        (client.create_alias, {**create_alias, "RoutingConfig": routed(v2=0.5, v3=0.1)},
         (400, "InvalidParameterValueException", "Number of items in AdditionalVersionWeights cannot be greater than 1")),
        (client.create_alias, {**create_alias, "FunctionVersion": "$LATEST", "RoutingConfig": routed(v2=0.5)},
         (400, "InvalidParameterValueException", "$LATEST is not supported for an alias pointing to more than 1 version")),
        (client.create_alias, {**create_alias, "RoutingConfig": routed(v9=0.5)},
         (404, "ResourceNotFoundException", f"Function not found: {base}:9")),
        (client.update_alias, {"FunctionName": two, "Name": "gone"}, (404, "ResourceNotFoundException", f"Alias not found: {base}:gone")),
        (client.update_alias, {"FunctionName": two, "Name": "live", "RevisionId": "x"},
         (412, "PreconditionFailedException",
          "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id")),
        (client.delete_function, {"FunctionName": two, "Qualifier": "1"},
         (409, "ResourceConflictException", "Unable to delete version because the following aliases reference it: [live]")),
        (client.delete_function, {"FunctionName": two, "Qualifier": "live"},
         (400, "InvalidParameterValueException", "Deletion of aliases is not currently supported.")),
        (client.invoke, {"FunctionName": two, "Qualifier": "gone"},
         (404, "ResourceNotFoundException", f"Function not found: {base}:gone")),
    ):
        assert refused(call, **members) == expected


def test_aliases_are_listed_page_by_page_and_by_version(client, two):
    for n in range(5):
        client.create_alias(FunctionName=two, Name=f"a{n}", FunctionVersion=str(1 + n % 2))
    pages = client.get_paginator("list_aliases").paginate(FunctionName=two, PaginationConfig={"PageSize": 2})
    assert [a["Name"] for page in pages for a in page["Aliases"]] == [f"a{n}" for n in range(5)]
    of_two = client.list_aliases(FunctionName=two, FunctionVersion="2")["Aliases"]
    assert [a["Name"] for a in of_two] == ["a1", "a3"]


def test_an_alias_made_through_one_gateway_is_known_to_the_others(cluster, client, two):
    """The push may be on its way: the other gateway asks before it says that there is none."""
    clients = [cluster.client(endpoint) for endpoint in cluster.info["endpoints"]]
    for n in range(10):
        clients[0].create_alias(FunctionName=two, Name=f"n{n}", FunctionVersion="1")
        assert invoke(clients[-1], two, Qualifier=f"n{n}")[0]["ExecutedVersion"] == "1"
        client.update_function_code(FunctionName=two, ZipFile=zipped(app(str(n))))
        active(client, two)
        number = clients[0].publish_version(FunctionName=two)["Version"]
        assert invoke(clients[-1], two, Qualifier=number)[1][0] == str(n)
