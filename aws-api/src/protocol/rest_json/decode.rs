//! Request to members: collects what path, query, headers and body say about an input into one JSON
//! object by member name, and checks that each value has the type of its shape.

use bytes::Bytes;
use http::request::Parts;
use serde_json::{Map, Value};

use super::{jackson, types};
use crate::error::ApiError;
use crate::router::{Label, query_pairs};
use crate::shape::{Kind, Location, Member, Shape};

/// The members of an input, and its raw payload if the body is one.
pub(crate) fn assemble(
    shape: &'static Shape,
    labels: &[Label],
    parts: &Parts,
    body: &Bytes,
) -> Result<(Value, Option<Bytes>), ApiError> {
    let mut members = Map::new();
    let mut raw = None;
    if shape.raw_payload().is_some() {
        raw = Some(body.clone()).filter(|body| !body.is_empty());
    } else if let Some(member) = structured_payload(shape) {
        if let Some(value) = parse(body)? {
            types::check(member.shape, &value)?;
            members.insert(member.name.to_owned(), value);
        }
    } else {
        members = body_members(shape, body)?;
    }
    let query: Vec<(String, String)> = query_pairs(parts.uri.query().unwrap_or_default()).collect();
    for member in shape.members() {
        if let Some(value) = bound(member, labels, &query, parts)? {
            members.insert(member.name.to_owned(), value);
        }
    }
    Ok((Value::Object(members), raw))
}

fn structured_payload(shape: &'static Shape) -> Option<&'static Member> {
    let mut members = shape.members().iter();
    members.find(|member| member.location == Location::Payload)
}

/// The body's members that the model knows; a body of an input without body members is ignored.
fn body_members(shape: &'static Shape, body: &Bytes) -> Result<Map<String, Value>, ApiError> {
    let in_body = |member: &&Member| member.location == Location::Body;
    if !shape.members().iter().any(|member| in_body(&member)) {
        return Ok(Map::new());
    }
    let mut given = match parse(body)? {
        None | Some(Value::Null) => return Ok(Map::new()),
        Some(Value::Object(members)) => members,
        Some(_) => return Err(types::unexpected_collection()),
    };
    let mut members = Map::new();
    for member in shape.members().iter().filter(in_body) {
        if let Some(value) = given.remove(member.name) {
            types::check(member.shape, &value)?;
            members.insert(member.name.to_owned(), value);
        }
    }
    Ok(members)
}

fn parse(body: &Bytes) -> Result<Option<Value>, ApiError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    serde_json::from_slice(body).map(Some).map_err(|error| {
        ApiError::invalid_request_content(format!(
            "Could not parse request body into json: {}",
            jackson::describe(body, &error, jackson::Quote::Nothing)
        ))
        .with_source(error)
    })
}

/// The value of a member that is bound to path, query or a header.
fn bound(
    member: &'static Member,
    labels: &[Label],
    query: &[(String, String)],
    parts: &Parts,
) -> Result<Option<Value>, ApiError> {
    let texts: Vec<&str> = match member.location {
        Location::Uri(wire) => labels
            .iter()
            .filter(|(name, _)| *name == wire)
            .map(|(_, value)| value.as_str())
            .collect(),
        Location::Query(wire) => query
            .iter()
            .filter(|(name, _)| name == wire)
            .map(|(_, value)| value.as_str())
            .collect(),
        Location::Header(wire) => parts
            .headers
            .get_all(wire)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect(),
        Location::Body | Location::Payload | Location::StatusCode => return Ok(None),
    };
    let Some(first) = texts.first() else {
        return Ok(None);
    };
    if let Kind::List {
        member: element, ..
    } = member.shape.kind
    {
        let values = texts.iter().map(|text| types::from_text(element, text));
        return values.collect::<Result<_, _>>().map(Value::Array).map(Some);
    }
    types::from_text(member.shape, first).map(Some)
}
