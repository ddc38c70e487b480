//! Policies in IAM's language: of resources, of identities, of sessions, and whom a role trusts. Here: documents, and what one of
//! them says of a request. Which documents are taken is in `grammar`, how conditions compare in `condition`, text with wildcards and
//! variables in `pattern`, what several policies together come to in `decide`.

mod condition;
mod decide;
mod grammar;
mod pattern;
mod permission;

pub use decide::{Decision, Policies, Refusal, Source};
pub use permission::Permission;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, ErrorCode, Result};
use crate::limits::POLICY_MAX_BYTES;
use condition::Operator;
use pattern::Pattern;

/// "The language's current version."
const LANGUAGE: &str = "2012-10-17";
/// Id of the policies that Lambda writes itself.
const DEFAULT_ID: &str = "default";

/// One value, or several of which any may match. Numbers and booleans are taken as the text that they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Values {
    /// As `"v"`.
    One(String),
    /// As `["v", "w"]`.
    Many(Vec<String>),
}

impl Values {
    fn any(&self, holds: impl FnMut(&str) -> bool) -> bool {
        self.iter().any(holds)
    }

    /// In their order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let all = match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        };
        all.iter().map(String::as_str)
    }
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        fn scalar<E: serde::de::Error>(value: &Value) -> Result<String, E> {
            match value {
                Value::String(text) => Ok(text.clone()),
                Value::Bool(is) => Ok(is.to_string()),
                Value::Number(number) => Ok(number.to_string()),
                Value::Null | Value::Array(_) | Value::Object(_) => {
                    Err(E::custom("a value must be text, a number or a boolean"))
                }
            }
        }
        match Value::deserialize(from)? {
            Value::Array(all) => all
                .iter()
                .map(scalar)
                .collect::<Result<_, _>>()
                .map(Self::Many),
            one => scalar(&one).map(Self::One),
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
    /// Whom it is about. Policies of identities and sessions have none: they are about whoever has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<Principal>,
    /// In its place: it is about everybody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_principal: Option<Principal>,
    /// Operations, with wildcards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Values>,
    /// In its place: all other operations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_action: Option<Values>,
    /// ARNs, with wildcards and variables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<Values>,
    /// In its place: all other resources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_resource: Option<Values>,
    /// All of which must hold.
    #[serde(default, skip_serializing_if = "Conditions::is_empty")]
    pub condition: Conditions,
}

/// A policy.
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

/// A request, as a policy looks at it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// ARNs of who calls: its own, then that of the role whose session it is. Of a service its name.
    pub callers: &'a [&'a str],
    /// `lambda:InvokeFunction`.
    pub action: &'a str,
    /// What it is asked for, with its qualifier.
    pub resource: &'a str,
    /// Condition keys and what they are in this request; names in lower case. A key with several values is there several times.
    pub context: &'a [(&'a str, &'a str)],
}

impl<'a> Request<'a> {
    /// Nobody's, for nothing.
    const NONE: Self = Self {
        callers: &[],
        action: "",
        resource: "",
        context: &[],
    };

    /// The values of a condition key.
    fn values(self, key: &str) -> impl Iterator<Item = &'a str> {
        let key = key.to_ascii_lowercase();
        let all = self.context.iter();
        all.filter(move |(name, _)| *name == key)
            .map(|(_, value)| *value)
    }

    /// A policy variable.
    fn variable(self, name: &str) -> Option<&'a str> {
        self.values(name).next()
    }
}

/// What one policy says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Said {
    /// No statement applies.
    Nothing,
    /// Allowed to the account, which may let its identities have it.
    ToAccount,
    /// Allowed to the role whose session calls.
    ToRole,
    /// Allowed.
    Allow,
    /// Denied.
    Deny,
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

    /// What it says of a request.
    pub fn said(&self, request: &Request<'_>) -> Said {
        let has_variables = self.version == LANGUAGE;
        let said = self.statement.iter().map(|statement| {
            let reach = statement.reach(request, has_variables);
            if statement.effect == Effect::Deny && reach > Said::Nothing {
                Said::Deny
            } else {
                reach
            }
        });
        said.max().unwrap_or(Said::Nothing)
    }

    /// Whether the request is allowed: some statement allows it, and none denies it.
    pub fn allows(&self, request: &Request<'_>) -> bool {
        !matches!(self.said(request), Said::Nothing | Said::Deny)
    }

    /// Whether a service may assume the role that this is the trust policy of.
    pub fn trusts_service(&self, service: &str, role_arn: &str) -> bool {
        self.allows(&Request {
            callers: &[service],
            action: "sts:AssumeRole",
            resource: role_arn,
            context: &[],
        })
    }
}

impl Statement {
    /// One that says nothing yet.
    pub fn new(effect: Effect) -> Self {
        Self {
            sid: None,
            effect,
            principal: None,
            not_principal: None,
            action: None,
            not_action: None,
            resource: None,
            not_resource: None,
            condition: Conditions::new(),
        }
    }

    /// Whether it applies, and to whom of those the caller stands for.
    fn reach(&self, request: &Request<'_>, has_variables: bool) -> Said {
        let reach = match (&self.principal, &self.not_principal) {
            (Some(principal), _) => principal.reach(request.callers),
            (None, Some(others)) if others.reach(request.callers) > Said::Nothing => Said::Nothing,
            (None, _) => Said::Allow,
        };
        let applies = reach > Said::Nothing
            && is_of(self.action.as_ref(), self.not_action.as_ref(), |action| {
                Pattern::of_action(action).matches(&request.action.to_ascii_lowercase())
            })
            && is_of(self.resource.as_ref(), self.not_resource.as_ref(), |of| {
                let pattern = Pattern::new(of, request, has_variables);
                pattern.is_some_and(|pattern| pattern.matches(request.resource))
            })
            && self.condition.iter().all(|(operator, keys)| {
                Operator::of(operator).is_some_and(|o| {
                    keys.iter()
                        .all(|(key, of)| o.holds(key, of, request, has_variables))
                })
            });
        if applies { reach } else { Said::Nothing }
    }
}

/// Whether one of the values matches, or none of those that are excepted does. A trust policy names no resource: it is its role's.
fn is_of(
    wanted: Option<&Values>,
    others: Option<&Values>,
    matches: impl FnMut(&str) -> bool,
) -> bool {
    match (wanted, others) {
        (Some(wanted), _) => wanted.any(matches),
        (None, Some(others)) => !others.any(matches),
        (None, None) => true,
    }
}

impl Principal {
    fn reach(&self, callers: &[&str]) -> Said {
        match self {
            Self::Everybody(text) if text == "*" => Said::Allow,
            Self::Everybody(_) => Said::Nothing,
            Self::Named(kinds) => {
                let of_kind = |kind: &str| kinds.get(kind).into_iter().flat_map(Values::iter);
                let said = of_kind("AWS").map(|one| aws_reach(one, callers)).chain(
                    of_kind("Service").map(|one| {
                        if callers.first().is_some_and(|caller| *caller == one) {
                            Said::Allow
                        } else {
                            Said::Nothing
                        }
                    }),
                );
                said.max().unwrap_or(Said::Nothing)
            }
        }
    }
}

/// How a principal of the kind `AWS` names the caller. An account, or its root, stands for everybody in it.
fn aws_reach(named: &str, callers: &[&str]) -> Said {
    let own = callers.first().copied().unwrap_or_default();
    let account = own.split(':').nth(4).unwrap_or_default();
    if !own.starts_with("arn:") {
        Said::Nothing
    } else if named == "*" || named == own {
        Said::Allow
    } else if callers.contains(&named) {
        Said::ToRole
    } else if named == account || named == format!("arn:aws:iam::{account}:root") {
        Said::ToAccount
    } else {
        Said::Nothing
    }
}

#[cfg(test)]
mod tests;
