"""Resource policies of functions: statements as AWS writes them, revisions, refusals, and what they let other accounts do."""

import json

import pytest
from harness import Cluster, active, create, invoke
from test_layers import account
from test_versions import document, refused

APP = {"app.py": "def handler(e, c):\n    return c.invoked_function_arn\n"}
INVOKE = "lambda:InvokeFunction"
STALE = ("The Revision Id provided does not match the latest Revision Id. Call the GetPolicy API to retrieve the latest "
         "Revision Id")
GONE = (404, "ResourceNotFoundException", "The resource you requested does not exist.")


def arn(name):
    return f"arn:aws:lambda:us-east-1:000000000000:function:{name}"


def policy(client, name, **members):
    answer = document(client.get_policy(FunctionName=name, **members))
    assert answer.keys() == {"Policy", "RevisionId"}
    return json.loads(answer["Policy"]), answer["RevisionId"]


@pytest.fixture
def function(client, name):
    create(client, name, APP)
    return name


@pytest.mark.parametrize(
    ("members", "principal", "condition"),
    [
        ({"Principal": "s3.amazonaws.com", "SourceArn": "arn:aws:s3:::b", "SourceAccount": "123456789012"},
         {"Service": "s3.amazonaws.com"},
         {"StringEquals": {"AWS:SourceAccount": "123456789012"}, "ArnLike": {"AWS:SourceArn": "arn:aws:s3:::b"}}),
        ({"Principal": "123456789012"}, {"AWS": "arn:aws:iam::123456789012:root"}, None),
        ({"Principal": "arn:aws:iam::123456789012:role/r"}, {"AWS": "arn:aws:iam::123456789012:role/r"}, None),
        ({"Principal": "*", "PrincipalOrgID": "o-1234567890"}, "*", {"StringEquals": {"aws:PrincipalOrgID": "o-1234567890"}}),
        ({"Principal": "*", "Action": "lambda:InvokeFunctionUrl", "FunctionUrlAuthType": "NONE"}, "*",
         {"StringEquals": {"lambda:FunctionUrlAuthType": "NONE"}}),
        ({"Principal": "*", "InvokedViaFunctionUrl": True}, "*", {"Bool": {"lambda:InvokedViaFunctionUrl": "true"}}),
        ({"Principal": "alexa-appkit.amazon.com", "EventSourceToken": "t"}, {"Service": "alexa-appkit.amazon.com"},
         {"StringEquals": {"lambda:EventSourceToken": "t"}}),
    ],
)
def test_statements_are_written_as_aws_writes_them(client, function, members, principal, condition):
    request = {"Action": INVOKE, **members}
    added = client.add_permission(FunctionName=function, StatementId="s", **request)
    assert added["ResponseMetadata"]["HTTPStatusCode"] == 201
    expected = {"Sid": "s", "Effect": "Allow", "Principal": principal, "Action": request["Action"], "Resource": arn(function)}
    if condition:
        expected["Condition"] = condition
    assert document(added).keys() == {"Statement"} and json.loads(added["Statement"]) == expected
    assert list(json.loads(added["Statement"])) == list(expected), "in AWS's order"
    assert policy(client, function)[0] == {"Version": "2012-10-17", "Id": "default", "Statement": [expected]}


def test_each_version_and_alias_has_its_own_policy(client, function):
    client.publish_version(FunctionName=function)
    client.create_alias(FunctionName=function, Name="live", FunctionVersion="1")
    assert refused(client.get_policy, FunctionName=function) == GONE
    permission = {"StatementId": "s", "Action": INVOKE, "Principal": "events.amazonaws.com"}
    revisions = set()
    for qualifier in ({}, {"Qualifier": "1"}, {"Qualifier": "live"}):
        assert refused(client.get_policy, FunctionName=function, **qualifier) == GONE
        client.add_permission(FunctionName=function, **qualifier, **permission)
        found, revision = policy(client, function, **qualifier)
        suffix = "".join(f":{q}" for q in qualifier.values())
        assert [s["Resource"] for s in found["Statement"]] == [arn(function) + suffix]
        revisions.add(revision)
    assert len(revisions) == 3
    get = client.get_function_configuration
    assert policy(client, function)[1] == get(FunctionName=function)["RevisionId"]
    assert policy(client, function, Qualifier="1")[1] == get(FunctionName=function, Qualifier="1")["RevisionId"]
    assert policy(client, f"{function}:live")[1] == client.get_alias(FunctionName=function, Name="live")["RevisionId"]
    client.delete_alias(FunctionName=function, Name="live")
    client.create_alias(FunctionName=function, Name="live", FunctionVersion="1")
    assert refused(client.get_policy, FunctionName=function, Qualifier="live") == GONE


def test_revisions_of_policies(client, function):
    before = client.get_function_configuration(FunctionName=function)["RevisionId"]
    permission = {"Action": INVOKE, "Principal": "events.amazonaws.com"}
    stale = (412, "PreconditionFailedException", STALE)
    assert refused(client.add_permission, FunctionName=function, StatementId="a", RevisionId="old", **permission) == stale
    client.add_permission(FunctionName=function, StatementId="a", RevisionId=before, **permission)
    found, revision = policy(client, function)
    assert revision != before
    client.add_permission(FunctionName=function, StatementId="b", RevisionId=revision, **permission)
    assert [s["Sid"] for s in policy(client, function)[0]["Statement"]] == ["a", "b"]
    assert refused(client.remove_permission, FunctionName=function, StatementId="a", RevisionId=revision) == stale
    removed = client.remove_permission(FunctionName=function, StatementId="a", RevisionId=policy(client, function)[1])
    assert removed["ResponseMetadata"]["HTTPStatusCode"] == 204
    client.remove_permission(FunctionName=function, StatementId="b")
    assert refused(client.get_policy, FunctionName=function) == GONE


def test_refusals_in_awss_words(client, function):
    permission = {"StatementId": "s", "Action": INVOKE, "Principal": "events.amazonaws.com"}
    add, missing, invalid = client.add_permission, "ResourceNotFoundException", "InvalidParameterValueException"
    assert refused(add, FunctionName="nobody", **permission) == (404, missing, f"Function not found: {arn('nobody')}")
    assert refused(add, FunctionName=function, Qualifier="9", **permission) == (
        404, missing, f"Function not found: {arn(function)}:9")
    assert refused(add, FunctionName=function, Qualifier="next", **permission) == (
        404, missing, f"Cannot find alias arn: {arn(function)}:next")
    assert refused(add, FunctionName=function, Qualifier="$LATEST", **permission) == (
        400, invalid, "We currently do not support adding policies for $LATEST.")
    assert refused(add, FunctionName=function, **{**permission, "Principal": "invalid.nonaws.com"}) == (
        400, invalid, "The provided principal was invalid. Please check the principal and try again.")
    assert refused(add, FunctionName=function, **{**permission, "StatementId": "a.b"})[:2] == (400, "ValidationException")
    remove = client.remove_permission
    assert refused(remove, FunctionName="nobody", StatementId="s") == (404, missing, f"No policy found for: {arn('nobody')}")
    assert refused(remove, FunctionName=function, StatementId="s") == (
        404, missing, "No policy is associated with the given resource.")
    add(FunctionName=function, **permission)
    assert refused(add, FunctionName=function, **permission) == (
        409, "ResourceConflictException",
        "The statement id (s) provided already exists. Please provide a new statement id, or remove the existing statement.")
    assert refused(remove, FunctionName=function, StatementId="t") == (
        404, missing, "Statement t is not found in resource policy.")
    assert refused(client.get_policy, FunctionName="nobody") == GONE
    with pytest.raises(client.exceptions.PolicyLengthExceededException):
        for n in range(100):
            add(FunctionName=function, **{**permission, "StatementId": f"{n}-".ljust(100, "x")})


def test_whole_documents(client, function):
    resource = arn(function)
    text = json.dumps({"Version": "2012-10-17", "Statement": [
        {"Sid": "d", "Effect": "Deny", "Principal": {"AWS": "*"}, "Action": "lambda:*", "Resource": resource}]})
    assert refused(client.get_resource_policy, ResourceArn=resource) == GONE
    put = client.put_resource_policy(ResourceArn=resource, Policy=text)
    assert json.loads(put["Policy"]) == json.loads(text)
    assert document(client.get_resource_policy(ResourceArn=resource)) == document(put)
    assert policy(client, function) == (json.loads(text), put["RevisionId"])
    old = "00000000-0000-0000-0000-000000000000"
    assert refused(client.put_resource_policy, ResourceArn=resource, Policy=text, RevisionId=old)[:2] == (
        412, "PreconditionFailedException")
    for bad in ("{", json.dumps({"Statement": []}).replace("[]", '[{"Effect": "Allow"}]'), text.replace(function, "other")):
        assert refused(client.put_resource_policy, ResourceArn=resource, Policy=bad)[:2] == (
            400, "InvalidParameterValueException")
    client.delete_resource_policy(ResourceArn=resource, RevisionId=put["RevisionId"])
    assert refused(client.delete_resource_policy, ResourceArn=resource)[:2] == (404, "ResourceNotFoundException")
    assert refused(client.get_resource_policy, ResourceArn=arn("nobody")) == GONE


def test_another_account_invokes_what_a_policy_lets_it(tmp_path):
    cluster = Cluster(tmp_path, extra=["--auth", "any"]).start()
    try:
        owner, other = (account(cluster, n) for n in ("111111111111", "222222222222"))
        shared = create(owner, "f", APP)["FunctionArn"]
        owner.publish_version(FunctionName="f")
        owner.create_alias(FunctionName="f", Name="live", FunctionVersion="1")
        active(owner, "f")

        def denied(name):
            text = (f"User: arn:aws:iam::222222222222:root is not authorized to perform: {INVOKE} on resource: {name} "
                    f"because no resource-based policy allows the {INVOKE} action")
            assert refused(other.invoke, FunctionName=name) == (403, "AccessDeniedException", text)

        denied(shared)
        denied(shared.removesuffix("f") + "nobody")
        owner.add_permission(FunctionName="f", StatementId="s", Action=INVOKE, Principal="222222222222", Qualifier="live")
        assert invoke(other, f"{shared}:live")[1] == f"{shared}:live"
        denied(shared)
        denied(f"{shared}:1")
        owner.add_permission(FunctionName="f", StatementId="s", Action=INVOKE, Principal="*", SourceAccount="222222222222")
        denied(shared)
        owner.add_permission(FunctionName="f", StatementId="t", Action="lambda:*", Principal="*")
        assert invoke(other, shared)[1] == shared
        owner.remove_permission(FunctionName="f", StatementId="t")
        denied(shared)
        assert refused(other.get_function, FunctionName=shared)[:2] == (403, "AccessDeniedException")
    finally:
        cluster.stop()
