//! Policies that AWS brings along and functions' roles use. Their documents are AWS's as far as they can matter here: services
//! that a function calls elsewhere are named as AWS names them.

use std::collections::BTreeMap;

use super::{IamEntity, IamKind, PolicyVersion, unique_id};
use crate::ids::UnixMs;

const PREFIX: &str = "arn:aws:iam::aws:policy/";
/// When AWS made the first of them: 2015-02-06.
const CREATED: UnixMs = UnixMs(1_423_180_800_000);

/// The document of a policy of AWS's; `None` of those that are not known here.
pub fn aws_managed(arn: &str) -> Option<&'static str> {
    let path = arn.strip_prefix(PREFIX)?;
    let found = MANAGED.iter().find(|(name, _)| *name == path);
    found.map(|(_, document)| *document)
}

/// A policy of AWS's.
pub fn aws_policy(arn: &str) -> Option<IamEntity> {
    let document = aws_managed(arn)?;
    let rest = arn.strip_prefix(PREFIX)?;
    let (path, name) = match rest.rsplit_once('/') {
        Some((path, name)) => (format!("/{path}/"), name),
        None => ("/".to_owned(), rest),
    };
    let version = PolicyVersion {
        document: document.to_owned(),
        created: CREATED,
    };
    // FNV-1a: an id that is the same everywhere, and no two of them alike.
    let hash = arn.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Some(IamEntity {
        name: name.to_owned(),
        path,
        id: unique_id("ANPA", &format!("{:x}{hash:x}", hash.rotate_left(21))),
        created: CREATED,
        description: String::new(),
        tags: BTreeMap::new(),
        changed: 0,
        kind: IamKind::Policy {
            versions: [(1, version)].into(),
            default: 1,
            next: 2,
        },
    })
}

/// All of them by their ARNs, in the order of these.
pub fn aws_policies() -> impl Iterator<Item = (String, IamEntity)> {
    MANAGED.iter().filter_map(|(path, _)| {
        let arn = format!("{PREFIX}{path}");
        aws_policy(&arn).map(|policy| (arn, policy))
    })
}

/// Path and name, then the document.
const MANAGED: [(&str, &str); 17] = [
    (
        "AWSLambda_FullAccess",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["cloudformation:DescribeStacks","cloudformation:ListStackResources","cloudwatch:GetMetricData","cloudwatch:ListMetrics","ec2:DescribeSecurityGroups","ec2:DescribeSubnets","ec2:DescribeVpcs","iam:GetPolicy","iam:GetPolicyVersion","iam:GetRole","iam:GetRolePolicy","iam:ListAttachedRolePolicies","iam:ListRolePolicies","iam:ListRoles","kms:ListAliases","lambda:*","logs:DescribeLogGroups","states:DescribeStateMachine","states:ListStateMachines","tag:GetResources","xray:BatchGetTraces","xray:GetTraceSummaries"],"Resource":"*"}]}"#,
    ),
    (
        "AWSLambda_ReadOnlyAccess",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["cloudwatch:GetMetricData","cloudwatch:ListMetrics","iam:GetPolicy","iam:GetPolicyVersion","iam:GetRole","iam:GetRolePolicy","iam:ListAttachedRolePolicies","iam:ListRolePolicies","iam:ListRoles","lambda:Get*","lambda:List*","logs:DescribeLogGroups","tag:GetResources"],"Resource":"*"}]}"#,
    ),
    (
        "AWSXRayDaemonWriteAccess",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["xray:PutTraceSegments","xray:PutTelemetryRecords","xray:GetSamplingRules","xray:GetSamplingTargets","xray:GetSamplingStatisticSummaries"],"Resource":"*"}]}"#,
    ),
    (
        "AdministratorAccess",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#,
    ),
    (
        "IAMFullAccess",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iam:*"],"Resource":"*"}]}"#,
    ),
    (
        "IAMReadOnlyAccess",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iam:GenerateCredentialReport","iam:GenerateServiceLastAccessedDetails","iam:Get*","iam:List*","iam:SimulateCustomPolicy","iam:SimulatePrincipalPolicy"],"Resource":"*"}]}"#,
    ),
    (
        "PowerUserAccess",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","NotAction":["iam:*","organizations:*","account:*"],"Resource":"*"},{"Effect":"Allow","Action":["account:GetAccountInformation","account:GetPrimaryEmail","account:ListRegions","iam:CreateServiceLinkedRole","iam:DeleteServiceLinkedRole","iam:ListRoles","organizations:DescribeOrganization"],"Resource":"*"}]}"#,
    ),
    (
        "ReadOnlyAccess",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iam:Get*","iam:List*","lambda:Get*","lambda:List*","logs:Describe*","logs:Get*","s3:Get*","s3:List*","sqs:Get*","sqs:List*","sqs:ReceiveMessage","sts:Get*","dynamodb:BatchGet*","dynamodb:Describe*","dynamodb:Get*","dynamodb:List*","dynamodb:Query","dynamodb:Scan","kinesis:Describe*","kinesis:Get*","kinesis:List*","xray:BatchGet*","xray:Get*"],"Resource":"*"}]}"#,
    ),
    (
        "SecurityAudit",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iam:GenerateCredentialReport","iam:Get*","iam:List*","lambda:GetAccountSettings","lambda:GetFunctionConfiguration","lambda:GetLayerVersionPolicy","lambda:GetPolicy","lambda:List*"],"Resource":"*"}]}"#,
    ),
    (
        "service-role/AWSLambdaBasicExecutionRole",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["logs:CreateLogGroup","logs:CreateLogStream","logs:PutLogEvents"],"Resource":"*"}]}"#,
    ),
    (
        "service-role/AWSLambdaDynamoDBExecutionRole",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["dynamodb:DescribeStream","dynamodb:GetRecords","dynamodb:GetShardIterator","dynamodb:ListStreams","logs:CreateLogGroup","logs:CreateLogStream","logs:PutLogEvents"],"Resource":"*"}]}"#,
    ),
    (
        "service-role/AWSLambdaENIManagementAccess",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["ec2:CreateNetworkInterface","ec2:DescribeNetworkInterfaces","ec2:DeleteNetworkInterface","ec2:AssignPrivateIpAddresses","ec2:UnassignPrivateIpAddresses"],"Resource":"*"}]}"#,
    ),
    (
        "service-role/AWSLambdaKinesisExecutionRole",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["kinesis:DescribeStream","kinesis:DescribeStreamSummary","kinesis:GetRecords","kinesis:GetShardIterator","kinesis:ListShards","kinesis:ListStreams","kinesis:SubscribeToShard","logs:CreateLogGroup","logs:CreateLogStream","logs:PutLogEvents"],"Resource":"*"}]}"#,
    ),
    (
        "service-role/AWSLambdaMSKExecutionRole",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["kafka:DescribeCluster","kafka:DescribeClusterV2","kafka:GetBootstrapBrokers","ec2:CreateNetworkInterface","ec2:DescribeNetworkInterfaces","ec2:DescribeVpcs","ec2:DeleteNetworkInterface","ec2:DescribeSubnets","ec2:DescribeSecurityGroups","logs:CreateLogGroup","logs:CreateLogStream","logs:PutLogEvents"],"Resource":"*"}]}"#,
    ),
    (
        "service-role/AWSLambdaRole",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["lambda:InvokeFunction"],"Resource":"*"}]}"#,
    ),
    (
        "service-role/AWSLambdaSQSQueueExecutionRole",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["sqs:ReceiveMessage","sqs:DeleteMessage","sqs:GetQueueAttributes","logs:CreateLogGroup","logs:CreateLogStream","logs:PutLogEvents"],"Resource":"*"}]}"#,
    ),
    (
        "service-role/AWSLambdaVPCAccessExecutionRole",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["logs:CreateLogGroup","logs:CreateLogStream","logs:PutLogEvents","ec2:CreateNetworkInterface","ec2:DescribeNetworkInterfaces","ec2:DescribeSubnets","ec2:DeleteNetworkInterface","ec2:AssignPrivateIpAddresses","ec2:UnassignPrivateIpAddresses"],"Resource":"*"}]}"#,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;

    #[test]
    fn every_document_is_a_policy_of_an_identity() {
        for (name, document) in MANAGED {
            assert!(Policy::of_identity(document).is_ok(), "{name}");
            let arn = format!("arn:aws:iam::aws:policy/{name}");
            assert_eq!(aws_managed(&arn), Some(document));
        }
        assert!(MANAGED.is_sorted());
        let ids: std::collections::BTreeSet<String> = aws_policies().map(|(_, p)| p.id).collect();
        assert_eq!(ids.len(), MANAGED.len());
        let basic = aws_policy("arn:aws:iam::aws:policy/service-role/AWSLambdaRole").unwrap();
        assert_eq!(
            (basic.path.as_str(), basic.name.as_str()),
            ("/service-role/", "AWSLambdaRole")
        );
        assert_eq!(aws_managed("arn:aws:iam::aws:policy/Nothing"), None);
    }
}
