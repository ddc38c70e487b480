//! Writes the constraint tables: one static per shape, walked by one validator.

use std::fmt::Write as _;

use anyhow::{Context as _, bail};
use serde_json::Number;

use super::model::{Member, Model, Reference, Shape};
use super::names::{check_distinct, constant};
use super::patterns;

pub(crate) fn emit(model: &Model) -> anyhow::Result<String> {
    let mut used = model.input_shapes();
    used.extend(model.output_shapes(false));
    check_distinct(used.iter().map(String::as_str))?;
    let mut out = String::from(
        "//! What the model demands of each shape: bindings, required members, ranges, enums, patterns.\n\n\
         use crate::shape::{Kind, Location, Member, Pattern, Shape};\n\n",
    );
    for name in &used {
        emit_shape(&mut out, model, name).with_context(|| name.clone())?;
    }
    writeln!(out, "/// Every shape, for tests over the whole table.")?;
    write!(
        out,
        "#[cfg(test)]\npub(crate) static ALL: [&Shape; {}] = [",
        used.len()
    )?;
    for name in &used {
        write!(out, "&{}, ", constant(name))?;
    }
    out.push_str("];\n");
    Ok(out)
}

fn emit_shape(out: &mut String, model: &Model, name: &str) -> anyhow::Result<()> {
    let shape = model.shape(name)?;
    let kind = kind(model, shape)?;
    writeln!(
        out,
        "pub(crate) static {}: Shape = Shape {{ name: \"{name}\", sensitive: {}, kind: {kind} }};",
        constant(name),
        shape.sensitive
    )?;
    Ok(())
}

fn kind(model: &Model, shape: &Shape) -> anyhow::Result<String> {
    let length = || format!("min: {}, max: {}", integer(&shape.min), integer(&shape.max));
    Ok(match shape.kind.as_str() {
        "structure" => structure(model, shape)?,
        "list" => format!(
            "Kind::List {{ member: {}, {} }}",
            reference(&shape.member)?,
            length()
        ),
        "map" => format!(
            "Kind::Map {{ key: {}, value: {}, {} }}",
            reference(&shape.key)?,
            reference(&shape.value)?,
            length()
        ),
        "string" => format!(
            "Kind::String {{ {}, pattern: {}, values: &{:?} }}",
            length(),
            pattern(&shape.pattern)?,
            shape.values
        ),
        "integer" => format!("Kind::Integer {{ {} }}", length()),
        "long" => format!("Kind::Long {{ {} }}", length()),
        "double" => format!(
            "Kind::Double {{ min: {}, max: {} }}",
            double(&shape.min),
            double(&shape.max)
        ),
        "boolean" => "Kind::Boolean".to_owned(),
        "blob" => format!("Kind::Blob {{ {} }}", length()),
        "timestamp" => "Kind::Timestamp".to_owned(),
        other => bail!("unknown kind of shape: {other}"),
    })
}

fn structure(model: &Model, shape: &Shape) -> anyhow::Result<String> {
    let mut out = String::from("Kind::Structure { members: &[");
    for (name, member) in &shape.members.0 {
        if model.shape(&member.shape)?.eventstream {
            continue;
        }
        let location = location(name, member, shape.payload.as_deref())?;
        write!(
            out,
            "Member::new(\"{name}\", &{}, {}, {location}), ",
            constant(&member.shape),
            shape.required.contains(name)
        )?;
    }
    out.push_str("] }");
    Ok(out)
}

fn location(name: &str, member: &Member, payload: Option<&str>) -> anyhow::Result<String> {
    let wire = member.location_name.as_deref().unwrap_or(name);
    Ok(match member.location.as_deref() {
        None if payload == Some(name) => "Location::Payload".to_owned(),
        None => {
            anyhow::ensure!(wire == name, "{name} has another name in the body");
            "Location::Body".to_owned()
        }
        Some("uri") => format!("Location::Uri(\"{wire}\")"),
        Some("querystring") => format!("Location::Query(\"{wire}\")"),
        Some("header") => format!("Location::Header(\"{}\")", wire.to_ascii_lowercase()),
        Some("statusCode") => "Location::StatusCode".to_owned(),
        Some(other) => bail!("unknown location {other}"),
    })
}

fn reference(reference: &Option<Reference>) -> anyhow::Result<String> {
    let reference = reference.as_ref().context("a collection has an element")?;
    Ok(format!("&{}", constant(&reference.shape)))
}

fn pattern(java: &Option<String>) -> anyhow::Result<String> {
    let Some(java) = java else {
        return Ok("None".to_owned());
    };
    let matcher = patterns::matcher(java)?;
    Ok(format!(
        "Some({{ static PATTERN: Pattern = Pattern::new({java:?}, {:?}, {:?}); &PATTERN }})",
        matcher.regex, matcher.unless
    ))
}

fn integer(bound: &Option<Number>) -> String {
    format!("{:?}", bound.as_ref().and_then(Number::as_i64))
}

fn double(bound: &Option<Number>) -> String {
    format!("{:?}", bound.as_ref().and_then(Number::as_f64))
}
