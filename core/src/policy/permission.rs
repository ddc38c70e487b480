//! Statements as Lambda's `AddPermission` writes them.

use std::collections::BTreeMap;

use super::{Conditions, Effect, Principal, Statement, Values};
use crate::error::{Error, ErrorCode, Result};

/// What `AddPermission` says, of which a statement is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permission {
    /// Id of the statement.
    pub statement_id: String,
    /// `lambda:InvokeFunction`.
    pub action: String,
    /// A service, an account, an ARN or `*`.
    pub principal: String,
    /// ARN of what calls on behalf of the principal.
    pub source_arn: Option<String>,
    /// Account of what calls on behalf of the principal.
    pub source_account: Option<String>,
    /// Organization of the caller.
    pub principal_org_id: Option<String>,
    /// Token of the caller's.
    pub event_source_token: Option<String>,
    /// `NONE` or `AWS_IAM`, of calls through a function's URL.
    pub url_auth_type: Option<String>,
    /// Whether calls come through a function's URL.
    pub invoked_via_url: Option<bool>,
}

impl Permission {
    /// The statement for the function, version or alias of this ARN.
    pub fn statement(self, resource: String) -> Result<Statement> {
        let principal = principal(self.principal)?;
        let mut condition = Conditions::new();
        let mut demand = |operator: &str, key: &str, value: Option<String>| {
            if let Some(value) = value {
                let of = condition.entry(operator.to_owned()).or_default();
                of.insert(key.to_owned(), Values::One(value));
            }
        };
        let (equals, via_url) = ("StringEquals", self.invoked_via_url);
        demand(equals, "lambda:FunctionUrlAuthType", self.url_auth_type);
        demand(equals, "aws:PrincipalOrgID", self.principal_org_id);
        demand(equals, "AWS:SourceAccount", self.source_account);
        demand(equals, "lambda:EventSourceToken", self.event_source_token);
        demand("ArnLike", "AWS:SourceArn", self.source_arn);
        let via_url = via_url.map(|is| is.to_string());
        demand("Bool", "lambda:InvokedViaFunctionUrl", via_url);
        Ok(Statement {
            sid: Some(self.statement_id),
            principal: Some(principal),
            action: Some(Values::One(self.action)),
            resource: Some(Values::One(resource)),
            condition,
            ..Statement::new(Effect::Allow)
        })
    }
}

fn principal(text: String) -> Result<Principal> {
    let named = |kind: &str, value: String| {
        Principal::Named(BTreeMap::from([(kind.to_owned(), Values::One(value))]))
    };
    let is_account = text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit());
    let mut parts = text.split(':');
    let is_arn = parts.next() == Some("arn")
        && parts
            .next()
            .is_some_and(|partition| partition.starts_with("aws"))
        && matches!(parts.next(), Some("iam" | "sts"));
    if text == "*" {
        Ok(Principal::Everybody(text))
    } else if is_account {
        Ok(named("AWS", format!("arn:aws:iam::{text}:root")))
    } else if is_arn {
        Ok(named("AWS", text))
    } else if text.ends_with(".amazonaws.com") || text.ends_with(".amazon.com") {
        Ok(named("Service", text))
    } else {
        Err(Error::new(
            ErrorCode::InvalidParameterValue,
            "The provided principal was invalid. Please check the principal and try again.",
        ))
    }
}
