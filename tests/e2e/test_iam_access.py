"""Who may do what: users with access keys, sessions of roles, and what their policies let them do at Lambda, IAM and STS."""

import json
import uuid

import boto3
import botocore.auth
import botocore.awsrequest
import pytest
import urllib3
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from harness import Cluster, until, zipped

ACCOUNT = "000000000000"
HANDLER = {"f.py": "def handler(event, context):\n    return 'ran'\n"}


def document(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(action, resource="*", **more):
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def trust(principal):
    return document({"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"})


def as_somebody(cluster, service, credentials, endpoint=None):
    return boto3.client(
        service,
        endpoint_url=endpoint or cluster.info["endpoint"],
        region_name=cluster.info["region"],
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials.get("SessionToken"),
        config=Config(retries={"max_attempts": 0}),
    )


def refused(call, **arguments):
    with pytest.raises(ClientError) as error:
        call(**arguments)
    told = error.value.response
    return told["Error"]["Code"], told["Error"]["Message"], told["ResponseMetadata"]["HTTPStatusCode"]


@pytest.fixture(scope="module")
def iam(cluster):
    return cluster.client(service="iam")


@pytest.fixture
def unique():
    return uuid.uuid4().hex[:10]


@pytest.fixture
def user(iam, unique):
    """A user's name and access key."""
    name = f"u-{unique}"
    iam.create_user(UserName=name)
    return name, iam.create_access_key(UserName=name)["AccessKey"]


def test_a_user_may_do_what_a_policy_allows(cluster, iam, user):
    name, key = user
    arn = f"arn:aws:iam::{ACCOUNT}:user/{name}"
    assert as_somebody(cluster, "sts", key).get_caller_identity()["Arn"] == arn
    functions = as_somebody(cluster, "lambda", key)
    assert refused(functions.list_functions) == (
        "AccessDeniedException",
        f"User: {arn} is not authorized to perform: lambda:ListFunctions on resource: * because no identity-based policy"
        " allows the lambda:ListFunctions action",
        403,
    )
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=document(allow("lambda:List*")))
    functions.list_functions()
    iam.put_user_policy(
        UserName=name, PolicyName="q", PolicyDocument=document({"Effect": "Deny", "Action": "lambda:ListFunctions", "Resource": "*"})
    )
    assert "with an explicit deny in an identity-based policy" in refused(functions.list_functions)[1]
    code, text, status = refused(as_somebody(cluster, "iam", key).create_role, RoleName="r", AssumeRolePolicyDocument=trust("*"))
    assert (code, status) == ("AccessDenied", 403)
    assert f"iam:CreateRole on resource: arn:aws:iam::{ACCOUNT}:role/r because" in text


def test_a_function_is_made_and_invoked_by_those_who_may(cluster, client, iam, user, unique):
    name, key = user
    function = f"f-{unique}"
    own = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:{function}"
    role = f"arn:aws:iam::{ACCOUNT}:role/{unique}"
    functions = as_somebody(cluster, "lambda", key)
    create = dict(FunctionName=function, Role=role, Runtime="python3.11", Handler="f.handler", Code={"ZipFile": zipped(HANDLER)})
    assert f"lambda:CreateFunction on resource: {own} because" in refused(functions.create_function, **create)[1]
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=document(allow("lambda:*", [own, f"{own}:*"])))
    assert f"iam:PassRole on resource: {role} because" in refused(functions.create_function, **create)[1]
    passing = allow("iam:PassRole", role, Condition={"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}})
    iam.put_user_policy(UserName=name, PolicyName="pass", PolicyDocument=document(passing))
    functions.create_function(**create)
    functions.get_waiter("function_active_v2").wait(FunctionName=function, WaiterConfig={"Delay": 1})
    assert json.load(functions.invoke(FunctionName=function)["Payload"]) == "ran"
    assert refused(functions.get_function, FunctionName=f"{function}x")[0] == "AccessDeniedException"
    iam.delete_user_policy(UserName=name, PolicyName="p")
    assert f"lambda:InvokeFunction on resource: {own} because" in refused(functions.invoke, FunctionName=function)[1]
    # What the function's own policy gives to the user needs no other.
    client.add_permission(
        FunctionName=function, StatementId="s", Action="lambda:InvokeFunction", Principal=f"arn:aws:iam::{ACCOUNT}:user/{name}"
    )
    assert json.load(functions.invoke(FunctionName=function)["Payload"]) == "ran"
    client.delete_function(FunctionName=function)


def asked(cluster, key, method, path, body=b""):
    """Status and text of a request that no client would write."""
    url = cluster.info["endpoint"] + path
    request = botocore.awsrequest.AWSRequest(method, url, data=body)
    keys = Credentials(key["AccessKeyId"], key["SecretAccessKey"])
    botocore.auth.SigV4Auth(keys, "lambda", cluster.info["region"]).add_auth(request)
    answer = urllib3.request(method, url, body=body, headers=dict(request.headers), retries=False)
    return answer.status, answer.data.decode()


def test_what_is_asked_for_is_what_is_done(cluster, client, iam, user, unique):
    """A request that says a thing twice is about what its handler takes it for."""
    name, key = user
    function = f"f-{unique}"
    own = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:{function}"
    role = f"arn:aws:iam::{ACCOUNT}:role/let"
    client.create_function(FunctionName=function, Role=role, Runtime="python3.11", Handler="f.handler", Code={"ZipFile": zipped(HANDLER)})
    client.get_waiter("function_active_v2").wait(FunctionName=function, WaiterConfig={"Delay": 1})
    client.publish_version(FunctionName=function)
    iam.put_user_policy(
        UserName=name, PolicyName="p", PolicyDocument=document(allow("lambda:*", [own, f"{own}:two"]), allow("iam:PassRole", role))
    )
    configuration = f"/2015-03-31/functions/{function}/configuration"
    invocations = f"/2015-03-31/functions/{function}/invocations"
    twice = json.dumps({"Role": role})[:-1] + f', "Role": "{role}-not"}}'
    status, text = asked(cluster, key, "PUT", configuration, twice.encode())
    assert status == 403 and f"iam:PassRole on resource: {role}-not because" in text
    # Said twice: the first counts.
    for query in ["Qualifier=1", "Qualifier=1&Qualifier=two"]:
        status, text = asked(cluster, key, "POST", f"{invocations}?{query}")
        assert status == 403 and f"lambda:InvokeFunction on resource: {own}:1 because" in text, query
    # An operation that knows no qualifier is about the function.
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=document(allow("lambda:*", f"{own}:two")))
    status, text = asked(cluster, key, "PUT", f"{configuration}?Qualifier=two", b"{}")
    assert status == 403 and f"lambda:UpdateFunctionConfiguration on resource: {own} because" in text
    client.delete_function(FunctionName=function)


def test_groups_give_and_boundaries_take(cluster, iam, user, unique):
    name, key = user
    group = f"g-{unique}"
    functions = as_somebody(cluster, "lambda", key)
    iam.create_group(GroupName=group)
    iam.attach_group_policy(GroupName=group, PolicyArn="arn:aws:iam::aws:policy/AWSLambda_ReadOnlyAccess")
    iam.add_user_to_group(UserName=name, GroupName=group)
    functions.list_functions()
    boundary = iam.create_policy(PolicyName=f"b-{unique}", PolicyDocument=document(allow("lambda:Get*")))["Policy"]["Arn"]
    iam.put_user_permissions_boundary(UserName=name, PermissionsBoundary=boundary)
    assert "because no permissions boundary allows the lambda:ListFunctions action" in refused(functions.list_functions)[1]
    iam.create_policy_version(PolicyArn=boundary, PolicyDocument=document(allow("lambda:*")), SetAsDefault=True)
    functions.list_functions()


def test_a_key_that_is_off_or_gone_is_nobodys(cluster, iam, user):
    name, key = user
    sts = as_somebody(cluster, "sts", key)
    sts.get_caller_identity()
    assert [k["Status"] for k in iam.list_access_keys(UserName=name)["AccessKeyMetadata"]] == ["Active"]
    iam.update_access_key(UserName=name, AccessKeyId=key["AccessKeyId"], Status="Inactive")
    assert refused(sts.get_caller_identity)[0] == "InvalidClientTokenId"
    iam.update_access_key(UserName=name, AccessKeyId=key["AccessKeyId"], Status="Active")
    sts.get_caller_identity()
    wrong = as_somebody(cluster, "sts", {**key, "SecretAccessKey": "x" * 40})
    assert refused(wrong.get_caller_identity)[0] == "SignatureDoesNotMatch"
    iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
    assert refused(sts.get_caller_identity)[0] == "InvalidClientTokenId"
    assert refused(as_somebody(cluster, "lambda", key).list_functions)[0] == "UnrecognizedClientException"


def test_a_role_is_assumed_by_those_it_trusts(cluster, iam, user, unique):
    name, key = user
    me = f"arn:aws:iam::{ACCOUNT}:user/{name}"
    role = iam.create_role(RoleName=f"r-{unique}", AssumeRolePolicyDocument=trust({"Service": "lambda.amazonaws.com"}))["Role"]
    sts = as_somebody(cluster, "sts", key)
    assume = dict(RoleArn=role["Arn"], RoleSessionName="one")
    text = f"User: {me} is not authorized to perform: sts:AssumeRole on resource: {role['Arn']}"
    assert refused(sts.assume_role, **assume) == ("AccessDenied", text, 403)
    iam.update_assume_role_policy(RoleName=role["RoleName"], PolicyDocument=trust({"AWS": me}))
    iam.put_role_policy(RoleName=role["RoleName"], PolicyName="p", PolicyDocument=document(allow("lambda:List*")))
    assumed = sts.assume_role(**assume)
    session = assumed["Credentials"]
    assert assumed["AssumedRoleUser"]["AssumedRoleId"] == f"{role['RoleId']}:one" and session["AccessKeyId"].startswith("ASIA")
    arn = f"arn:aws:sts::{ACCOUNT}:assumed-role/{role['RoleName']}/one"
    assert as_somebody(cluster, "sts", session).get_caller_identity()["Arn"] == arn
    functions = as_somebody(cluster, "lambda", session)
    functions.list_functions()
    assert f"User: {arn} is not authorized" in refused(functions.get_account_settings)[1]
    narrow = sts.assume_role(**assume, Policy=document(allow("lambda:Get*")))["Credentials"]
    text = refused(as_somebody(cluster, "lambda", narrow).list_functions)[1]
    assert "because no session policy allows the lambda:ListFunctions action" in text
    forged = {**session, "SessionToken": session["SessionToken"][:-4] + "AAAA"}
    assert refused(as_somebody(cluster, "sts", forged).get_caller_identity)[0] == "InvalidClientTokenId"
    assert "MaxSessionDuration" in refused(sts.assume_role, **assume, DurationSeconds=43200)[1]
    # A role that is made anew under the name is somebody else.
    iam.delete_role_policy(RoleName=role["RoleName"], PolicyName="p")
    iam.delete_role(RoleName=role["RoleName"])
    iam.create_role(RoleName=role["RoleName"], AssumeRolePolicyDocument=trust({"AWS": me}))
    assert refused(as_somebody(cluster, "sts", session).get_caller_identity)[0] == "InvalidClientTokenId"


ENVIRONMENT = {
    "f.py": """import os
NAMES = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]
def handler(event, context):
    return [os.environ.get(name) for name in NAMES]
"""
}


def found(client, name):
    """The credentials that a function finds, as boto3 takes them."""
    keys = json.load(client.invoke(FunctionName=name)["Payload"])
    return dict(zip(["AccessKeyId", "SecretAccessKey", "SessionToken"], keys))


def test_a_function_finds_credentials_of_its_role(cluster, client, iam, unique):
    service = trust({"Service": "lambda.amazonaws.com"})
    role = iam.create_role(RoleName=f"r-{unique}", AssumeRolePolicyDocument=service)["Role"]
    name = f"f-{unique}"
    client.create_function(FunctionName=name, Role=role["Arn"], Runtime="python3.11", Handler="f.handler", Code={"ZipFile": zipped(ENVIRONMENT)})
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    keys = found(client, name)
    assert keys["AccessKeyId"].startswith("ASIA")
    arn = f"arn:aws:sts::{ACCOUNT}:assumed-role/{role['RoleName']}/{name}"
    assert as_somebody(cluster, "sts", keys).get_caller_identity()["Arn"] == arn
    functions = as_somebody(cluster, "lambda", keys)
    assert f"User: {arn} is not authorized" in refused(functions.list_functions)[1]
    iam.put_role_policy(RoleName=role["RoleName"], PolicyName="p", PolicyDocument=document(allow("lambda:ListFunctions")))
    functions.list_functions()
    client.delete_function(FunctionName=name)


def test_a_role_that_comes_later_counts_for_sandboxes_that_start_later(client, iam, unique):
    name, role = f"f-{unique}", f"arn:aws:iam::{ACCOUNT}:role/late-{unique}"
    client.create_function(FunctionName=name, Role=role, Runtime="python3.11", Handler="f.handler", Code={"ZipFile": zipped(ENVIRONMENT)})
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    assert found(client, name) == dict.fromkeys(["AccessKeyId", "SecretAccessKey", "SessionToken"])
    iam.create_role(RoleName=f"late-{unique}", AssumeRolePolicyDocument=trust({"Service": "lambda.amazonaws.com"}))

    def anew():
        client.update_function_configuration(FunctionName=name, Description=uuid.uuid4().hex)
        client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
        return found(client, name)["AccessKeyId"]

    assert until(anew, "credentials").startswith("ASIA")
    client.delete_function(FunctionName=name)


def test_a_session_of_a_user_is_the_user(cluster, user):
    name, key = user
    session = as_somebody(cluster, "sts", key).get_session_token(DurationSeconds=900)["Credentials"]
    again = as_somebody(cluster, "sts", session)
    assert again.get_caller_identity()["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/{name}"
    assert refused(again.get_session_token)[0] == "AccessDenied"


def test_other_gateways_know_too_and_roles_are_looked_for_where_the_operator_wants(tmp_path, unique):
    options = tmp_path / "options.toml"
    options.write_text("[gateway.iam]\nenforce_roles = true\n")
    cluster = Cluster(tmp_path / "c", gateways=2, extra=["--options", str(options)]).start()
    try:
        iam, functions = cluster.client(service="iam"), cluster.client()
        iam.create_user(UserName="u")
        key = iam.create_access_key(UserName="u")["AccessKey"]
        for gateway in cluster.nodes("gateway"):
            sts = as_somebody(cluster, "sts", key, endpoint=f"http://{gateway['addr']}")
            assert until(lambda: sts.get_caller_identity()["Arn"], "the key is known").endswith(":user/u")
        create = dict(FunctionName="f", Runtime="python3.11", Handler="f.handler", Code={"ZipFile": zipped(HANDLER)})
        text = "The role defined for the function cannot be assumed by Lambda."
        role = f"arn:aws:iam::{ACCOUNT}:role/r"
        assert refused(functions.create_function, Role=role, **create)[:2] == ("InvalidParameterValueException", text)
        iam.create_role(RoleName="r", AssumeRolePolicyDocument=trust({"Service": "ec2.amazonaws.com"}))
        assert refused(functions.create_function, Role=role, **create)[1] == text
        iam.update_assume_role_policy(RoleName="r", PolicyDocument=trust({"Service": "lambda.amazonaws.com"}))
        functions.create_function(Role=role, **create)
    finally:
        cluster.stop()
