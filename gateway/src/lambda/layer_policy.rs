//! Who else may use a layer version: AddLayerVersionPermission, GetLayerVersionPolicy, RemoveLayerVersionPermission.

use hearth_aws_api::ApiError;
use hearth_aws_api::lambda::{
    AddLayerVersionPermissionRequest, AddLayerVersionPermissionResponse,
    GetLayerVersionPolicyRequest, GetLayerVersionPolicyResponse,
    RemoveLayerVersionPermissionRequest,
};
use hearth_core::layer::{LayerChange, LayerStatement};
use serde_json::{Value, json};

use super::layers::{change, own_layer, read, version_number};
use super::{Answer, Call};
use crate::app::App;

pub(super) async fn add(app: &App, call: &Call) -> Answer {
    let input: AddLayerVersionPermissionRequest = call.input()?;
    let layer = own_layer(app, call, input.layer_name.as_deref())?;
    let version = version_number(input.version_number)?;
    let id = input.statement_id.unwrap_or_default();
    let added = LayerChange::Permit {
        version,
        id: id.clone(),
        statement: LayerStatement {
            principal: input.principal.unwrap_or_default(),
            organization: input.organization_id,
        },
        revision_id: input.revision_id,
    };
    let changed = change(app, layer, added).await?;
    let changed = changed.ok_or_else(|| ApiError::service("The layer version is not told."))?;
    let arn = changed.arn(&app.catalog.region).to_string();
    let statement = changed.policy.statements.get(&id);
    call.output(&AddLayerVersionPermissionResponse {
        statement: statement.map(|statement| document(&id, statement, &arn).to_string()),
        revision_id: Some(changed.policy.revision_id),
    })
}

pub(super) async fn get(app: &App, call: &Call) -> Answer {
    let input: GetLayerVersionPolicyRequest = call.input()?;
    let layer = own_layer(app, call, input.layer_name.as_deref())?;
    let version = version_number(input.version_number)?;
    let found = read(app, call, &layer, version).await?;
    if found.policy.is_empty() {
        return Err(ApiError::resource_not_found(
            "No policy is associated with the given resource.",
        ));
    }
    let arn = found.arn(&app.catalog.region).to_string();
    let all = found.policy.statements.iter();
    let statements: Vec<Value> = all.map(|(id, said)| document(id, said, &arn)).collect();
    let policy = json!({"Version": "2012-10-17", "Id": "default", "Statement": statements});
    call.output(&GetLayerVersionPolicyResponse {
        policy: Some(policy.to_string()),
        revision_id: Some(found.policy.revision_id),
    })
}

pub(super) async fn remove(app: &App, call: &Call) -> Answer {
    let input: RemoveLayerVersionPermissionRequest = call.input()?;
    let layer = own_layer(app, call, input.layer_name.as_deref())?;
    let removed = LayerChange::Revoke {
        version: version_number(input.version_number)?,
        id: input.statement_id.unwrap_or_default(),
        revision_id: input.revision_id,
    };
    change(app, layer, removed).await?;
    call.empty()
}

/// A statement as IAM writes it.
fn document(id: &str, statement: &LayerStatement, arn: &str) -> Value {
    let principal = match statement.principal.as_str() {
        "*" => json!("*"),
        account if account.bytes().all(|b| b.is_ascii_digit()) => {
            json!({"AWS": format!("arn:aws:iam::{account}:root")})
        }
        arn => json!({"AWS": arn}),
    };
    let mut document = json!({
        "Sid": id, "Effect": "Allow", "Principal": principal, "Action": "lambda:GetLayerVersion", "Resource": arn,
    });
    if let Some(organization) = &statement.organization {
        document["Condition"] = json!({"StringEquals": {"aws:PrincipalOrgID": organization}});
    }
    document
}
