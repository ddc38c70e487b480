//! IAM's and STS's API: one file per family of operations. Here: what a handler is given, what it asks of the controllers, and how
//! it answers. Forms, XML and statuses are `hearth_aws_api`'s, what changes make of entities `hearth_core::iam`'s.

pub(crate) mod authority;
pub(crate) mod directory;
mod dispatch;
mod entities;
mod errors;
mod groups;
mod keys;
mod page;
mod policies;
mod resource;
mod rights;
mod roles;
mod serve;
pub(crate) mod session;
mod show;
mod sts;
mod tags;
mod users;

use std::sync::Arc;

use bytes::Bytes;
use hearth_aws_api::operation::{Input, Output, QueryService, QuerySpec};
use hearth_aws_api::protocol::query::{self, Form, QueryError, QueryErrorCode};
use hearth_core::ids::AccountId;
use hearth_node::credentials::Vault;
use http::Response;
use serde_json::{Map, Value};

use crate::caller::Caller;
use directory::Directory;

pub(crate) use serve::{Claim, Served, claim, serve};

/// What a gateway knows and holds for IAM.
#[derive(Debug)]
pub(crate) struct Iam {
    pub(crate) directory: Arc<Directory>,
    /// Of secrets of access keys.
    pub(crate) vault: Vault,
    /// Of session tokens.
    pub(crate) sessions: Vault,
}

/// What the secret of an access key is sealed for.
pub(crate) fn access_key_purpose(account: &AccountId, id: &str) -> String {
    format!("access key\n{}\n{id}", account.as_str())
}

/// One request, its signature checked and its form read.
#[derive(Debug)]
struct Call {
    caller: Caller,
    request_id: String,
    service: &'static QueryService,
    spec: &'static QuerySpec,
    form: Form,
}

type Answer = Result<Response<Bytes>, QueryError>;

impl Call {
    /// The typed input, checked against the model.
    fn input<T: Input>(&self) -> Result<T, QueryError> {
        self.form.input(self.spec)
    }

    /// The input's members by their names, checked as well: for what operations on several kinds share.
    fn members(&self) -> Result<Members, QueryError> {
        self.form.members(self.spec).map(Members)
    }

    /// The answer with the output.
    fn output<T: Output>(&self, output: &T) -> Answer {
        Ok(query::encode_output(
            self.service,
            self.spec,
            output,
            &self.request_id,
        ))
    }

    /// As above, of members by their names.
    fn output_members(&self, members: &Value) -> Answer {
        Ok(query::encode_members(
            self.service,
            self.spec,
            members,
            &self.request_id,
        ))
    }

    /// The answer of an operation without output.
    fn empty(&self) -> Answer {
        Ok(query::encode_empty(
            self.service,
            self.spec,
            &self.request_id,
        ))
    }
}

/// Members of an input by their names.
struct Members(Map<String, Value>);

impl Members {
    fn text(&self, name: &str) -> String {
        self.optional(name).unwrap_or_default()
    }

    fn optional(&self, name: &str) -> Option<String> {
        let value = self.0.get(name).and_then(Value::as_str);
        value.map(str::to_owned)
    }

    fn number(&self, name: &str) -> Option<i32> {
        let value = self.0.get(name).and_then(Value::as_i64);
        value.and_then(|n| i32::try_from(n).ok())
    }

    fn list(&self, name: &str) -> impl Iterator<Item = &Value> {
        let list = self.0.get(name).and_then(Value::as_array);
        list.into_iter().flatten()
    }
}

/// A number of the model as one of ours; negative ones were refused by the model.
fn unsigned(value: i32) -> u32 {
    u32::try_from(value).unwrap_or_default()
}

fn no_such_entity(text: impl Into<String>) -> QueryError {
    QueryError::new(QueryErrorCode::NoSuchEntity, text)
}
