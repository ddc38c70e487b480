//! A form to members: `Action`, `Version`, and members by their path: `Tags.member.1.Key`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{QueryError, QueryErrorCode};
use crate::operation::{Input, QueryService, QuerySpec};
use crate::protocol::rest_json::from_text;
use crate::router::query_pairs;
use crate::shape::{Kind, Shape};
use crate::validate;

/// Fields of a form at most: more than any request of a client has.
const FIELDS_MAX: usize = 4_096;

/// A request's fields.
#[derive(Debug)]
pub struct Form(BTreeMap<String, String>);

impl Form {
    /// Reads a body. Of a field that is there twice the last one counts.
    pub fn parse(body: &[u8]) -> Result<Self, QueryError> {
        let malformed = |text: &str| QueryError::new(QueryErrorCode::MalformedQueryString, text);
        let text =
            std::str::from_utf8(body).map_err(|_| malformed("The body is not a form in UTF-8."))?;
        if text.split('&').count() > FIELDS_MAX {
            return Err(malformed("The form has too many fields."));
        }
        Ok(Self(query_pairs(text.trim()).collect()))
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Of which version of an API the request is.
    pub fn version(&self) -> Option<&str> {
        self.field("Version")
    }

    /// The index of the operation that is asked for.
    pub fn operation(&self, service: &QueryService) -> Result<usize, QueryError> {
        let action = self.field("Action").ok_or_else(|| {
            let text = "The request must contain the parameter Action.";
            QueryError::new(QueryErrorCode::InvalidAction, text)
        })?;
        let found = service
            .operations
            .binary_search_by_key(&action, |spec| spec.name);
        found.map_err(|_| {
            let version = service.version;
            let text = format!("Could not find operation {action} for version {version}");
            QueryError::new(QueryErrorCode::InvalidAction, text)
        })
    }

    /// The typed input, all constraints of the model checked. `T` must be the input of the operation.
    pub fn input<T: Input>(&self, spec: &QuerySpec) -> Result<T, QueryError> {
        let internal = |text: String| QueryError::new(QueryErrorCode::InternalFailure, text);
        if spec.input.is_none_or(|input| input.name != T::SHAPE.name) {
            let text = format!("{} is not the input of {}", T::SHAPE.name, spec.name);
            return Err(internal(text));
        }
        let members = Value::Object(self.members(spec)?);
        serde_json::from_value(members).map_err(|error| internal(error.to_string()))
    }

    /// The members of an input by their names, all constraints of the model checked: for what several operations share.
    pub fn members(&self, spec: &QuerySpec) -> Result<Map<String, Value>, QueryError> {
        let Some(shape) = spec.input else {
            return Ok(Map::new());
        };
        let members = Value::Object(self.structure(shape, "")?);
        validate::refuse(&validate::violations(shape, &members, None))?;
        match members {
            Value::Object(members) => Ok(members),
            _ => Ok(Map::new()),
        }
    }

    fn structure(
        &self,
        shape: &'static Shape,
        path: &str,
    ) -> Result<Map<String, Value>, QueryError> {
        let mut members = Map::new();
        for member in shape.members() {
            let path = match path {
                "" => member.name.to_owned(),
                path => format!("{path}.{}", member.name),
            };
            if let Some(value) = self.value(member.shape, &path)? {
                members.insert(member.name.to_owned(), value);
            }
        }
        Ok(members)
    }

    fn value(&self, shape: &'static Shape, path: &str) -> Result<Option<Value>, QueryError> {
        match shape.kind {
            Kind::Structure { .. } => {
                let begin = format!("{path}.");
                if !self.has(&begin) {
                    return Ok(None);
                }
                Ok(Some(Value::Object(self.structure(shape, path)?)))
            }
            Kind::List { member, .. } => self.list(member, path),
            Kind::Map { .. }
            | Kind::String { .. }
            | Kind::Integer { .. }
            | Kind::Long { .. }
            | Kind::Double { .. }
            | Kind::Boolean
            | Kind::Blob { .. }
            | Kind::Timestamp => {
                let text = self.field(path);
                Ok(text.map(|text| from_text(shape, text)).transpose()?)
            }
        }
    }

    /// Elements are counted from 1 without gaps. A list without elements comes as an empty field of its own name.
    fn list(&self, member: &'static Shape, path: &str) -> Result<Option<Value>, QueryError> {
        let mut elements = Vec::new();
        while let Some(value) =
            self.value(member, &format!("{path}.member.{}", elements.len() + 1))?
        {
            elements.push(value);
        }
        let is_there = !elements.is_empty() || self.field(path).is_some();
        Ok(is_there.then_some(Value::Array(elements)))
    }

    fn has(&self, begin: &str) -> bool {
        let mut from = self.0.range(begin.to_owned()..);
        from.next().is_some_and(|(name, _)| name.starts_with(begin))
    }
}
