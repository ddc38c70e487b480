//! Which documents are taken: of a resource, of an identity, and whom a role trusts.

use std::collections::BTreeSet;

use super::{Effect, Pattern, Policy, Request, Statement, Values};
use crate::error::{Error, ErrorCode, Result};
use crate::policy::condition::Operator;

/// Versions of the language.
const LANGUAGES: [&str; 2] = ["2008-10-17", "2012-10-17"];

fn malformed(text: impl Into<String>) -> Error {
    Error::new(ErrorCode::MalformedPolicy, text)
}

impl Policy {
    /// A document that a user wrote, about the function, version or alias of this ARN.
    pub fn parse(text: &str, resource: &str) -> Result<Self> {
        let invalid = |why: String| Error::new(ErrorCode::InvalidParameterValue, why);
        let policy: Self = serde_json::from_str(text)
            .map_err(|error| invalid(format!("The policy document is invalid: {error}")))?;
        if let Some(sid) = policy.repeated_sid() {
            return Err(invalid(format!(
                "The policy has two statements with the Sid {sid}"
            )));
        }
        for statement in &policy.statement {
            let is_whole = statement.names_principal() && statement.names_action();
            if !is_whole {
                return Err(invalid(
                    "The policy document is invalid: a statement needs Principal and Action".into(),
                ));
            }
            let is_of = |of: &Values| {
                of.any(|of| {
                    Pattern::new(of, &Request::NONE, false).is_some_and(|p| p.matches(resource))
                })
            };
            if statement.not_resource.is_some() || !statement.resource.as_ref().is_some_and(is_of) {
                return Err(invalid(format!(
                    "The Resource of every statement must be the resource that the policy is for: {resource}"
                )));
            }
            if let Some(unknown) = statement.unknown_operator() {
                return Err(invalid(format!(
                    "The condition operator {unknown} is not supported"
                )));
            }
        }
        policy.check_size()?;
        Ok(policy)
    }

    /// A document of an identity, a boundary or a session.
    pub fn of_identity(text: &str) -> Result<Self> {
        let policy = Self::read(text)?;
        for statement in &policy.statement {
            if statement.principal.is_some() || statement.not_principal.is_some() {
                return Err(malformed("Policy document should not specify a principal."));
            }
            let (wanted, others) = (&statement.resource, &statement.not_resource);
            let mut resources = wanted
                .iter()
                .chain(others)
                .flat_map(Values::iter)
                .peekable();
            if resources.peek().is_none() || (wanted.is_some() && others.is_some()) {
                return Err(malformed("Policy statement must contain resources."));
            }
            let is_arn = |of: &&str| *of == "*" || of.starts_with("arn:");
            if let Some(other) = resources.find(|of| !is_arn(of)) {
                return Err(malformed(format!(
                    "Resource {other} must be in ARN format or \"*\"."
                )));
            }
        }
        Ok(policy)
    }

    /// Whom a role trusts.
    pub fn of_trust(text: &str) -> Result<Self> {
        let policy = Self::read(text)?;
        for statement in &policy.statement {
            if statement.resource.is_some() || statement.not_resource.is_some() {
                return Err(malformed("Has prohibited field Resource"));
            }
            if !statement.names_principal() {
                return Err(malformed("Missing required field Principal"));
            }
            if statement.not_principal.is_some() && statement.effect == Effect::Allow {
                return Err(malformed("Allow with NotPrincipal is not allowed."));
            }
            let mut actions = statement.action.iter().flat_map(Values::iter);
            if actions.any(|action| !action.starts_with("sts:") && action != "*") {
                return Err(malformed(
                    "AssumeRole policy may only specify STS AssumeRole actions.",
                ));
            }
        }
        Ok(policy)
    }

    /// What documents of all kinds have to be.
    fn read(text: &str) -> Result<Self> {
        let value: serde_json::Value = serde_json::from_str(text)
            .map_err(|_| malformed("This policy contains invalid Json"))?;
        let policy: Self =
            serde_json::from_value(value).map_err(|_| malformed("Syntax errors in policy."))?;
        if !LANGUAGES.contains(&policy.version.as_str()) || policy.statement.is_empty() {
            return Err(malformed("Syntax errors in policy."));
        }
        if policy.repeated_sid().is_some() {
            return Err(malformed(
                "Statement IDs (SID) in a single policy must be unique.",
            ));
        }
        for statement in &policy.statement {
            if !statement.names_action() {
                return Err(malformed("Policy statement must contain actions."));
            }
            let (wanted, others) = (&statement.action, &statement.not_action);
            let mut actions = wanted.iter().chain(others).flat_map(Values::iter);
            if actions.any(|action| action != "*" && !action.contains(':')) {
                return Err(malformed(
                    "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.",
                ));
            }
            if let Some(unknown) = statement.unknown_operator() {
                return Err(malformed(format!("Invalid Condition type : {unknown}.")));
            }
        }
        Ok(policy)
    }

    fn repeated_sid(&self) -> Option<&str> {
        let mut known = BTreeSet::new();
        let mut sids = self.statement.iter().filter_map(|s| s.sid.as_deref());
        sids.find(|sid| !known.insert(*sid))
    }
}

impl Statement {
    fn names_principal(&self) -> bool {
        self.principal.is_some() != self.not_principal.is_some()
    }

    fn names_action(&self) -> bool {
        let values = |of: &Values| of.iter().next().is_some();
        let (wanted, others) = (&self.action, &self.not_action);
        wanted.is_some() != others.is_some() && wanted.iter().chain(others).all(values)
    }

    fn unknown_operator(&self) -> Option<&str> {
        let mut operators = self.condition.keys();
        let unknown = operators.find(|name| Operator::of(name).is_none());
        unknown.map(String::as_str)
    }
}
