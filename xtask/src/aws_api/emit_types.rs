//! Writes the typed structures of inputs and outputs. Inputs derive Deserialize, outputs Serialize,
//! nothing derives what it does not need: compile time is what these types cost.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context as _, bail};

use super::model::{Member, Model, Shape};
use super::names::{Case, constant, field};
use super::service::Service;

pub(crate) fn emit(model: &Model, service: &Service) -> anyhow::Result<String> {
    let body = structures(model, service.case)?;
    Ok(header(service.title, &body) + &body)
}

/// The module's text and the imports that its body needs.
fn header(title: &str, body: &str) -> String {
    let mut out = format!(
        "//! The structures of {title}'s inputs and outputs. Every member is optional: what is required\n\
         //! is the validator's knowledge (`shapes`). Enums are strings, so that an unknown value reaches\n\
         //! the validator. Debug does not show sensitive members.\n\n"
    );
    let of_std = [
        ("BTreeMap<", "use std::collections::BTreeMap;\n"),
        ("fmt::", "use std::fmt;\n"),
    ];
    let of_std = of_std.iter().filter(|(word, _)| body.contains(word));
    let of_std: String = of_std.map(|(_, import)| *import).collect();
    if !of_std.is_empty() {
        out += &of_std;
        out += "\n";
    }
    if body.contains("Bytes") {
        out += "use bytes::Bytes;\n";
    }
    let scalars = ["Blob", "Shown", "Timestamp"].into_iter();
    let scalars: Vec<&str> = scalars.filter(|name| body.contains(name)).collect();
    out.push_str(
        "use serde::{Deserialize, Serialize};\n\n\
         use super::shapes;\nuse crate::operation::{Input, Output};\nuse crate::shape::Shape;\n",
    );
    if !scalars.is_empty() {
        out += &format!("use crate::types::{{{}}};\n", scalars.join(", "));
    }
    out + "\n"
}

/// In which direction a structure travels, and how its members are spelled.
#[derive(Clone, Copy)]
struct Wire {
    case: Case,
    input: bool,
    output: bool,
}

fn structures(model: &Model, case: Case) -> anyhow::Result<String> {
    let inputs = model.input_shapes();
    let outputs = model.output_shapes(true);
    let mut out = String::new();
    for (name, shape) in &model.shapes {
        if shape.kind != "structure" || shape.exception || shape.eventstream {
            continue;
        }
        let wire = Wire {
            case,
            input: inputs.contains(name),
            output: outputs.contains(name),
        };
        if wire.input || wire.output {
            emit_structure(&mut out, model, name, wire).with_context(|| name.clone())?;
        }
    }
    let names = |direction: fn(&super::model::Operation) -> Option<&super::model::Reference>| {
        let shapes = model.operations.values().filter_map(direction);
        shapes.map(|r| r.shape.clone()).collect::<BTreeSet<_>>()
    };
    for name in names(|operation| operation.input.as_ref()) {
        emit_input(&mut out, model, &name)?;
    }
    for name in names(|operation| operation.output.as_ref()) {
        emit_output(&mut out, model, &name)?;
    }
    Ok(out)
}

/// The members that exist in Rust: event streams are framed by hand, outside these types.
fn members<'a>(model: &'a Model, shape: &'a Shape) -> Vec<(&'a str, &'a Member, &'a Shape)> {
    let members = shape.members.0.iter();
    members
        .filter_map(|(name, member)| {
            let target = model.shapes.get(&member.shape)?;
            (!target.eventstream).then_some((name.as_str(), member, target))
        })
        .collect()
}

/// The member that is the raw body, if the structure has one.
fn blob_payload<'a>(model: &Model, shape: &'a Shape) -> Option<&'a str> {
    let payload = shape.payload.as_deref()?;
    let (_, member) = shape.members.0.iter().find(|(name, _)| name == payload)?;
    (model.shapes.get(&member.shape)?.kind == "blob").then_some(payload)
}

fn emit_structure(out: &mut String, model: &Model, name: &str, wire: Wire) -> anyhow::Result<()> {
    let shape = model.shape(name)?;
    let members = members(model, shape);
    let sensitive = members.iter().any(|(_, _, target)| target.sensitive);
    let mut derives = vec!["Clone", "Default", "PartialEq"];
    if !sensitive {
        derives.push("Debug");
    }
    if wire.input {
        derives.push("Deserialize");
    }
    if wire.output {
        derives.push("Serialize");
    }
    write!(
        out,
        "#[derive({})]\n#[serde(rename_all = \"{}\")]\npub struct {name} {{\n",
        derives.join(", "),
        wire.case.rule()
    )?;
    let payload = blob_payload(model, shape);
    for (member_name, member, _) in &members {
        let field = field(member_name);
        let mut attributes = Vec::new();
        if payload == Some(*member_name) {
            writeln!(out, "#[serde(skip)]\npub {field}: Option<Bytes>,")?;
            continue;
        }
        if wire.case.of(&field) != *member_name {
            attributes.push(format!("rename = \"{member_name}\""));
        }
        if wire.output {
            attributes.push("skip_serializing_if = \"Option::is_none\"".to_owned());
        }
        if !attributes.is_empty() {
            writeln!(out, "#[serde({})]", attributes.join(", "))?;
        }
        let rust = rust_type(model, &member.shape)?;
        writeln!(out, "pub {field}: Option<{rust}>,")?;
    }
    out.push_str("}\n\n");
    if sensitive {
        emit_debug(out, name, &members)?;
    }
    Ok(())
}

fn emit_debug(
    out: &mut String,
    name: &str,
    members: &[(&str, &Member, &Shape)],
) -> anyhow::Result<()> {
    write!(
        out,
        "impl fmt::Debug for {name} {{\n\
         fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {{\n\
         formatter.debug_struct(\"{name}\")"
    )?;
    for (member_name, _, target) in members {
        let field = field(member_name);
        if target.sensitive {
            write!(out, ".field(\"{field}\", &Shown(self.{field}.is_some()))")?;
        } else {
            write!(out, ".field(\"{field}\", &self.{field})")?;
        }
    }
    out.push_str(".finish()\n}\n}\n\n");
    Ok(())
}

fn emit_input(out: &mut String, model: &Model, name: &str) -> anyhow::Result<()> {
    write!(
        out,
        "impl Input for {name} {{ const SHAPE: &'static Shape = &shapes::{};",
        constant(name)
    )?;
    if let Some(payload) = blob_payload(model, model.shape(name)?) {
        write!(
            out,
            "fn set_payload(&mut self, payload: Bytes) {{ self.{} = Some(payload); }}",
            field(payload)
        )?;
    }
    out.push_str("}\n");
    Ok(())
}

fn emit_output(out: &mut String, model: &Model, name: &str) -> anyhow::Result<()> {
    write!(
        out,
        "impl Output for {name} {{ const SHAPE: &'static Shape = &shapes::{};",
        constant(name)
    )?;
    if let Some(payload) = blob_payload(model, model.shape(name)?) {
        write!(
            out,
            "fn payload(&self) -> Option<Bytes> {{ self.{}.clone() }}",
            field(payload)
        )?;
    }
    out.push_str("}\n");
    Ok(())
}

fn rust_type(model: &Model, name: &str) -> anyhow::Result<String> {
    let shape = model.shape(name)?;
    let element = |reference: &Option<super::model::Reference>| {
        let reference = reference.as_ref().context("a collection has an element")?;
        rust_type(model, &reference.shape)
    };
    Ok(match shape.kind.as_str() {
        "structure" => name.to_owned(),
        "list" => format!("Vec<{}>", element(&shape.member)?),
        "map" => format!("BTreeMap<String, {}>", element(&shape.value)?),
        "string" => "String".to_owned(),
        "integer" => "i32".to_owned(),
        "long" => "i64".to_owned(),
        "double" => "f64".to_owned(),
        "boolean" => "bool".to_owned(),
        "blob" => "Blob".to_owned(),
        "timestamp" => "Timestamp".to_owned(),
        other => bail!("unknown kind of shape: {other}"),
    })
}
