//! Resource policies in IAM's language, as far as Lambda uses it: statements as `AddPermission` writes them, whole documents,
//! and what a request is allowed by them. Identity policies are not here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorCode, Result};
use crate::limits::POLICY_MAX_BYTES;

/// "The language's current version."
const LANGUAGE: &str = "2012-10-17";
/// Id of the policies that Lambda writes itself.
const DEFAULT_ID: &str = "default";

/// One value, or several of which any may match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Values {
    /// As `"v"`.
    One(String),
    /// As `["v", "w"]`.
    Many(Vec<String>),
}

impl Values {
    fn any(&self, holds: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::One(value) => holds(value),
            Self::Many(values) => values.iter().any(|value| holds(value)),
        }
    }
}

/// Whom a statement is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Principal {
    /// `"*"`: everybody.
    Everybody(String),
    /// By kind: `AWS`, `Service`, `Federated`, `CanonicalUser`.
    Named(BTreeMap<String, Values>),
}

/// What a statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// Gives what nothing denies.
    Allow,
    /// Outweighs every `Allow`.
    Deny,
}

/// Operator, then key, then the values it is compared with.
pub type Conditions = BTreeMap<String, BTreeMap<String, Values>>;

/// One statement; the members stand in AWS's order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Statement {
    /// Its id, unique in the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// What it does.
    pub effect: Effect,
    /// Whom it is about.
    pub principal: Principal,
    /// Operations, with wildcards.
    pub action: Values,
    /// ARNs, with wildcards.
    pub resource: Values,
    /// All of which must hold.
    #[serde(default, skip_serializing_if = "Conditions::is_empty")]
    pub condition: Conditions,
}

/// A policy of one function, version or alias.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Policy {
    /// Of the language.
    #[serde(default = "language")]
    pub version: String,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// In the order in which they came.
    #[serde(deserialize_with = "one_or_many")]
    pub statement: Vec<Statement>,
}

fn language() -> String {
    LANGUAGE.to_owned()
}

/// "The Statement element can contain a single statement or an array of individual statements."
fn one_or_many<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<Statement>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Statements {
        One(Box<Statement>),
        Many(Vec<Statement>),
    }
    Ok(match Statements::deserialize(from)? {
        Statements::One(statement) => vec![*statement],
        Statements::Many(statements) => statements,
    })
}

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
            effect: Effect::Allow,
            principal,
            action: Values::One(self.action),
            resource: Values::One(resource),
            condition,
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

/// A request, as a policy looks at it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Who calls: ARN of an account's root, a user or a role.
    pub caller: &'a str,
    /// `lambda:InvokeFunction`.
    pub action: &'a str,
    /// What it is asked for, with its qualifier.
    pub resource: &'a str,
    /// Condition keys and what they are in this request; names in lower case.
    pub context: &'a [(&'a str, &'a str)],
}

impl Policy {
    /// A policy of one statement, as Lambda makes it.
    pub fn of(statement: Statement) -> Self {
        Self {
            version: language(),
            id: Some(DEFAULT_ID.to_owned()),
            statement: vec![statement],
        }
    }

    /// A document that a user wrote, about the function, version or alias of this ARN.
    pub fn parse(text: &str, resource: &str) -> Result<Self> {
        let invalid = |why: String| Error::new(ErrorCode::InvalidParameterValue, why);
        let policy: Self = serde_json::from_str(text)
            .map_err(|error| invalid(format!("The policy document is invalid: {error}")))?;
        let mut known = std::collections::BTreeSet::new();
        for statement in &policy.statement {
            if let Some(sid) = &statement.sid
                && !known.insert(sid)
            {
                return Err(invalid(format!(
                    "The policy has two statements with the Sid {sid}"
                )));
            }
            if !statement.resource.any(|of| is_like(of, resource)) {
                return Err(invalid(format!(
                    "The Resource of every statement must be the resource that the policy is for: {resource}"
                )));
            }
            let unknown = statement
                .condition
                .keys()
                .find(|o| Operator::of(o).is_none());
            if let Some(unknown) = unknown {
                return Err(invalid(format!(
                    "The condition operator {unknown} is not supported"
                )));
            }
        }
        policy.check_size()?;
        Ok(policy)
    }

    /// "20 KB": the limit of "Lambda quotas" on the size of a function's policy.
    pub fn check_size(&self) -> Result<()> {
        let bytes = self.text().len();
        if bytes > POLICY_MAX_BYTES {
            return Err(Error::new(
                ErrorCode::PolicyTooLong,
                format!(
                    "The final policy size ({bytes}) is bigger than the limit ({POLICY_MAX_BYTES})."
                ),
            ));
        }
        Ok(())
    }

    /// The document.
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("maps with text as keys can be written")
    }

    /// Whether a statement has this id.
    pub fn has(&self, sid: &str) -> bool {
        self.statement.iter().any(|s| s.sid.as_deref() == Some(sid))
    }

    /// Whether the request is allowed: some statement allows it, and none denies it.
    pub fn allows(&self, request: &Request<'_>) -> bool {
        let said = |effect| {
            let mut of_effect = self.statement.iter().filter(|s| s.effect == effect);
            of_effect.any(|statement| statement.applies_to(request))
        };
        said(Effect::Allow) && !said(Effect::Deny)
    }
}

impl Statement {
    fn applies_to(&self, request: &Request<'_>) -> bool {
        let is_asked = self.action.any(|action| {
            is_like(
                &action.to_ascii_lowercase(),
                &request.action.to_ascii_lowercase(),
            )
        });
        is_asked
            && self
                .resource
                .any(|resource| is_like(resource, request.resource))
            && self.principal.is(request.caller)
            && self.condition.iter().all(|(operator, keys)| {
                let operator = Operator::of(operator);
                operator.is_some_and(|o| keys.iter().all(|(key, of)| o.holds(key, of, request)))
            })
    }
}

impl Principal {
    fn is(&self, caller: &str) -> bool {
        match self {
            Self::Everybody(text) => text == "*",
            Self::Named(kinds) => kinds.get("AWS").is_some_and(|named| {
                let account = caller.split(':').nth(4).unwrap_or_default();
                named.any(|one| {
                    // An account, or its root, stands for everybody in it.
                    let is_account =
                        one == account || one == format!("arn:aws:iam::{account}:root");
                    one == "*" || one == caller || is_account
                })
            }),
        }
    }
}

/// How a condition compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Operator {
    /// With `*` and `?`.
    is_like: bool,
    /// Holds unless it matches.
    is_negated: bool,
    /// `...IfExists`: holds when the request has no such key.
    if_exists: bool,
}

impl Operator {
    fn of(name: &str) -> Option<Self> {
        let (name, if_exists) = match name.strip_suffix("IfExists") {
            Some(name) => (name, true),
            None => (name, false),
        };
        let (is_like, is_negated) = match name {
            "StringEquals" | "Bool" => (false, false),
            "StringNotEquals" => (false, true),
            "StringLike" | "ArnLike" | "ArnEquals" => (true, false),
            "StringNotLike" | "ArnNotLike" | "ArnNotEquals" => (true, true),
            _ => return None,
        };
        Some(Self {
            is_like,
            is_negated,
            if_exists,
        })
    }

    fn holds(self, key: &str, of: &Values, request: &Request<'_>) -> bool {
        let key = key.to_ascii_lowercase();
        let found = request.context.iter().find(|(name, _)| *name == key);
        match found {
            None => self.if_exists || self.is_negated,
            Some((_, value)) => {
                let matches = of.any(|wanted| {
                    if self.is_like {
                        is_like(wanted, value)
                    } else {
                        wanted == *value
                    }
                });
                matches != self.is_negated
            }
        }
    }
}

/// Whether `text` matches `pattern`, in which `*` stands for anything and `?` for one character.
fn is_like(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where the last star was, and how much of the text it has taken.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if p < pattern.len() && pattern[p] == b'*' {
            star = Some((p, t));
            p += 1;
        } else if p < pattern.len() && (pattern[p] == b'?' || pattern[p] == text[t]) {
            p += 1;
            t += 1;
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            p = at + 1;
            t = taken + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
