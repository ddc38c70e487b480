"""IAM and STS with boto3 and the AWS CLI: what tools call when they prepare a function."""

import json
import subprocess
import uuid

import pytest
from botocore.exceptions import ClientError

from harness import ROOT, Cluster

ACCOUNT = "000000000000"
BASIC = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}],
    }
)


def document(action="s3:*", resource="*", effect="Allow", **more):
    statement = {"Effect": effect, "Action": action, "Resource": resource, **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def code(error):
    return error.value.response["Error"]["Code"]


@pytest.fixture(scope="session")
def iam(cluster):
    return cluster.client(service="iam")


@pytest.fixture
def unique():
    return uuid.uuid4().hex[:10]


def test_a_role_is_made_changed_and_taken_away(iam, unique):
    name = f"r-{unique}"
    role = iam.create_role(
        RoleName=name, Path="/app/", AssumeRolePolicyDocument=TRUST, Description="d", MaxSessionDuration=7200,
        Tags=[{"Key": "team", "Value": "a b"}],
    )["Role"]
    assert role["Arn"] == f"arn:aws:iam::{ACCOUNT}:role/app/{name}"
    assert role["RoleId"].startswith("AROA") and role["AssumeRolePolicyDocument"] == json.loads(TRUST)
    iam.get_waiter("role_exists").wait(RoleName=name, WaiterConfig={"Delay": 0, "MaxAttempts": 2})
    found = iam.get_role(RoleName=name)["Role"]
    assert found["CreateDate"] == role["CreateDate"] and found["Tags"] == [{"Key": "team", "Value": "a b"}]
    iam.update_role(RoleName=name, Description="e", MaxSessionDuration=3600)
    iam.update_assume_role_policy(RoleName=name, PolicyDocument=TRUST.replace("lambda", "ec2"))
    found = iam.get_role(RoleName=name)["Role"]
    assert (found["Description"], found["MaxSessionDuration"]) == ("e", 3600)
    principal = found["AssumeRolePolicyDocument"]["Statement"][0]["Principal"]
    assert principal == {"Service": "ec2.amazonaws.com"}
    iam.tag_role(RoleName=name, Tags=[{"Key": "x", "Value": "y"}])
    iam.untag_role(RoleName=name, TagKeys=["team"])
    assert iam.list_role_tags(RoleName=name)["Tags"] == [{"Key": "x", "Value": "y"}]

    iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=document())
    iam.attach_role_policy(RoleName=name, PolicyArn=BASIC)
    assert iam.get_role_policy(RoleName=name, PolicyName="own")["PolicyDocument"] == json.loads(document())
    assert iam.list_role_policies(RoleName=name)["PolicyNames"] == ["own"]
    attached = iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
    assert attached == [{"PolicyName": "AWSLambdaBasicExecutionRole", "PolicyArn": BASIC}]
    assert iam.list_instance_profiles_for_role(RoleName=name)["InstanceProfiles"] == []
    with pytest.raises(iam.exceptions.DeleteConflictException, match="must detach all policies first"):
        iam.delete_role(RoleName=name)
    iam.detach_role_policy(RoleName=name, PolicyArn=BASIC)
    with pytest.raises(iam.exceptions.DeleteConflictException, match="must delete policies first"):
        iam.delete_role(RoleName=name)
    iam.delete_role_policy(RoleName=name, PolicyName="own")
    iam.delete_role(RoleName=name)
    with pytest.raises(iam.exceptions.NoSuchEntityException, match=f"The role with name {name} cannot be found."):
        iam.get_role(RoleName=name)


def test_a_policy_has_versions_and_users_of_it(iam, unique):
    arn = iam.create_policy(PolicyName=f"p-{unique}", Path="/a/", PolicyDocument=document())["Policy"]["Arn"]
    assert arn == f"arn:aws:iam::{ACCOUNT}:policy/a/p-{unique}"
    iam.get_waiter("policy_exists").wait(PolicyArn=arn, WaiterConfig={"Delay": 0, "MaxAttempts": 2})
    version = iam.create_policy_version(PolicyArn=arn, PolicyDocument=document("s3:Get*"), SetAsDefault=True)
    assert version["PolicyVersion"]["VersionId"] == "v2"
    shown = iam.get_policy_version(PolicyArn=arn, VersionId="v2")["PolicyVersion"]
    assert shown["IsDefaultVersion"] and shown["Document"] == json.loads(document("s3:Get*"))
    assert [v["VersionId"] for v in iam.list_policy_versions(PolicyArn=arn)["Versions"]] == ["v2", "v1"]
    role = f"r-{unique}"
    iam.create_role(RoleName=role, AssumeRolePolicyDocument=TRUST, PermissionsBoundary=arn)
    iam.attach_role_policy(RoleName=role, PolicyArn=arn)
    policy = iam.get_policy(PolicyArn=arn)["Policy"]
    assert (policy["AttachmentCount"], policy["PermissionsBoundaryUsageCount"]) == (1, 1)
    entities = iam.list_entities_for_policy(PolicyArn=arn)
    assert [r["RoleName"] for r in entities["PolicyRoles"]] == [role] and entities["PolicyUsers"] == []
    with pytest.raises(iam.exceptions.DeleteConflictException, match="attached to entities"):
        iam.delete_policy(PolicyArn=arn)
    iam.detach_role_policy(RoleName=role, PolicyArn=arn)
    iam.delete_role_permissions_boundary(RoleName=role)
    with pytest.raises(iam.exceptions.DeleteConflictException, match="more than one version"):
        iam.delete_policy(PolicyArn=arn)
    iam.delete_policy_version(PolicyArn=arn, VersionId="v1")
    iam.delete_policy(PolicyArn=arn)
    iam.delete_role(RoleName=role)
    with pytest.raises(iam.exceptions.NoSuchEntityException):
        iam.get_policy(PolicyArn=arn)
    of_aws = iam.get_policy(PolicyArn=BASIC)["Policy"]
    assert of_aws["DefaultVersionId"] == "v1"
    logs = iam.get_policy_version(PolicyArn=BASIC, VersionId="v1")["PolicyVersion"]["Document"]
    assert "logs:PutLogEvents" in logs["Statement"][0]["Action"]


def test_lists_come_in_pages(iam, unique):
    names = [f"pages-{unique}-{n}" for n in range(5)]
    for name in names:
        iam.create_role(RoleName=name, Path=f"/{unique}/", AssumeRolePolicyDocument=TRUST)
        iam.create_policy(PolicyName=name, Path=f"/{unique}/", PolicyDocument=document())
    roles = iam.get_paginator("list_roles").paginate(PathPrefix=f"/{unique}/", PaginationConfig={"PageSize": 2})
    pages = [[role["RoleName"] for role in page["Roles"]] for page in roles]
    assert pages == [names[:2], names[2:4], names[4:]]
    paginate = iam.get_paginator("list_policies").paginate
    own = paginate(Scope="Local", PathPrefix=f"/{unique}/", PaginationConfig={"PageSize": 3})
    assert [policy["PolicyName"] for page in own for policy in page["Policies"]] == names
    every = [policy["Arn"] for page in paginate(PaginationConfig={"PageSize": 4}) for policy in page["Policies"]]
    assert len(every) == len(set(every)) and BASIC in every and f"arn:aws:iam::{ACCOUNT}:policy/{unique}/{names[0]}" in every
    for name in names:
        iam.delete_role(RoleName=name)
        iam.delete_policy(PolicyArn=f"arn:aws:iam::{ACCOUNT}:policy/{unique}/{name}")


def test_users_are_in_groups(iam, unique):
    user, group = f"u-{unique}", f"g-{unique}"
    assert iam.create_user(UserName=user)["User"]["UserId"].startswith("AIDA")
    iam.get_waiter("user_exists").wait(UserName=user, WaiterConfig={"Delay": 0, "MaxAttempts": 2})
    iam.create_group(GroupName=group)
    iam.add_user_to_group(UserName=user, GroupName=group)
    iam.put_group_policy(GroupName=group, PolicyName="own", PolicyDocument=document())
    iam.attach_user_policy(UserName=user, PolicyArn=BASIC)
    assert [u["UserName"] for u in iam.get_group(GroupName=group)["Users"]] == [user]
    assert [g["GroupName"] for g in iam.list_groups_for_user(UserName=user)["Groups"]] == [group]
    assert iam.list_group_policies(GroupName=group)["PolicyNames"] == ["own"]
    with pytest.raises(iam.exceptions.DeleteConflictException):
        iam.delete_user(UserName=user)
    iam.detach_user_policy(UserName=user, PolicyArn=BASIC)
    iam.remove_user_from_group(UserName=user, GroupName=group)
    iam.delete_user(UserName=user)
    iam.delete_group_policy(GroupName=group, PolicyName="own")
    iam.delete_group(GroupName=group)


def test_what_is_wrong_is_said_as_aws_says_it(iam, unique):
    name = f"r-{unique}"
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=TRUST)
    with pytest.raises(iam.exceptions.EntityAlreadyExistsException, match=f"Role with name {name} already exists."):
        iam.create_role(RoleName=name.upper(), AssumeRolePolicyDocument=TRUST)
    with pytest.raises(iam.exceptions.MalformedPolicyDocumentException, match="contains invalid Json"):
        iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument="{")
    with pytest.raises(iam.exceptions.MalformedPolicyDocumentException, match="prohibited field Resource"):
        iam.update_assume_role_policy(RoleName=name, PolicyDocument=document("sts:AssumeRole", Principal="*"))
    with pytest.raises(iam.exceptions.NoSuchEntityException, match="does not exist or is not attachable"):
        iam.attach_role_policy(RoleName=name, PolicyArn=f"arn:aws:iam::{ACCOUNT}:policy/none-{unique}")
    with pytest.raises(ClientError) as error:
        iam.create_role(RoleName="a b", AssumeRolePolicyDocument=TRUST)
    assert code(error) == "ValidationError" and "[\\w+=,.@-]+" in str(error.value)
    with pytest.raises(ClientError) as error:
        iam.list_mfa_devices()
    assert code(error) == "InvalidAction"
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    iam.delete_role(RoleName=name)


def test_the_caller_is_the_root_of_its_account(cluster):
    sts = cluster.client(service="sts")
    identity = sts.get_caller_identity()
    assert (identity["Account"], identity["Arn"]) == (ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root")
    assert identity["ResponseMetadata"]["RequestId"]
    wrong = cluster.client(service="sts")
    wrong._request_signer._credentials.secret_key = "wrong"
    with pytest.raises(ClientError) as error:
        wrong.get_caller_identity()
    assert code(error) == "SignatureDoesNotMatch"


def test_the_command_line_reads_what_it_is_told(cluster, unique):
    def aws(*arguments):
        command = [str(ROOT / ".venv/bin/aws"), *arguments, "--output", "json"]
        done = subprocess.run(command, env=cluster.env(), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    name = f"cli-{unique}"
    assert aws("sts", "get-caller-identity")["Account"] == ACCOUNT
    role = aws("iam", "create-role", "--role-name", name, "--assume-role-policy-document", TRUST)
    assert role["Role"]["AssumeRolePolicyDocument"] == json.loads(TRUST)
    aws("iam", "attach-role-policy", "--role-name", name, "--policy-arn", BASIC)
    assert aws("iam", "list-attached-role-policies", "--role-name", name)["AttachedPolicies"][0]["PolicyArn"] == BASIC
    aws("iam", "detach-role-policy", "--role-name", name, "--policy-arn", BASIC)
    aws("iam", "delete-role", "--role-name", name)


def test_everybody_is_there_after_a_restart(tmp_path, unique):
    cluster = Cluster(tmp_path).start()
    try:
        iam = cluster.client(service="iam")
        made = iam.create_role(RoleName=f"r-{unique}", AssumeRolePolicyDocument=TRUST)["Role"]
        cluster.stop()
        cluster.start()
        found = cluster.client(service="iam", retries=5).get_role(RoleName=f"r-{unique}")["Role"]
        assert (found["RoleId"], found["CreateDate"]) == (made["RoleId"], made["CreateDate"])
    finally:
        cluster.stop()
