//! Writes what the JSON protocol needs of a service: its operations, and one table of errors for all such services.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, ensure};

use super::common_errors::COMMON_JSON_ERRORS;
use super::model::{Model, Operation, Reference, Shape};
use super::names::constant;
use super::service::Service;

const SENDER_FAULT: u16 = 400;
const SERVICE_FAULT: u16 = 500;

/// `invalid` is the error of an input that breaks a constraint.
pub(crate) fn operations(
    model: &Model,
    service: &Service,
    invalid: &str,
) -> anyhow::Result<String> {
    let title = service.title;
    let prefix = model.metadata.target_prefix.as_deref();
    let prefix = prefix.context("a JSON service has a prefix of its targets")?;
    let version = model.metadata.json_version.as_deref();
    ensure!(version == Some("1.1"), "{title} speaks JSON {version:?}");
    let mut out = format!(
        "//! The operations of {title}, alphabetically. Those without an input are here by name alone: Hearth\n\
         //! does not have them.\n\n\
         use super::shapes;\nuse crate::operation::{{JsonService, JsonSpec}};\n\
         use crate::protocol::json::JsonErrorCode;\n\n\
         /// An operation of the {title} API.\n\
         #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]\npub enum Operation {{\n"
    );
    for name in model.operations.keys() {
        writeln!(out, "{name},")?;
    }
    let count = model.operations.len();
    write!(
        out,
        "}}\n\nimpl Operation {{\n\
         /// All operations, in the order of the enum.\npub const ALL: [Self; {count}] = ["
    )?;
    for name in model.operations.keys() {
        write!(out, "Self::{name}, ")?;
    }
    write!(
        out,
        "];\n\n/// The operation's row of the table.\n\
         pub const fn spec(self) -> &'static JsonSpec {{ &SERVICE.operations[self as usize] }}\n\n\
         /// The operation's name in the model.\n\
         pub const fn name(self) -> &'static str {{ self.spec().name }}\n}}\n\n\
         /// The service.\n\
         pub static SERVICE: JsonService = JsonService {{ name: \"{}\", target_prefix: \"{prefix}\", \
         invalid: JsonErrorCode::{invalid}, operations: &SPECS }};\n\n\
         static SPECS: [JsonSpec; {count}] = [\n",
        service.name
    )?;
    for (name, operation) in &model.operations {
        emit_spec(&mut out, name, operation)?;
    }
    out.push_str("];\n");
    Ok(out)
}

fn emit_spec(out: &mut String, name: &str, operation: &Operation) -> anyhow::Result<()> {
    let http = (
        operation.http.method.as_str(),
        operation.http.request_uri.as_str(),
    );
    ensure!(http == ("POST", "/"), "{name} is found at {http:?}");
    let shape = |reference: &Option<Reference>| match reference {
        Some(reference) => format!("Some(&shapes::{})", constant(&reference.shape)),
        None => "None".to_owned(),
    };
    write!(
        out,
        "JsonSpec {{ name: \"{name}\", input: {}, output: {}, errors: &[",
        shape(&operation.input),
        shape(&operation.output)
    )?;
    for error in &operation.errors {
        write!(out, "JsonErrorCode::{}, ", error.shape)?;
    }
    out.push_str("] },\n");
    Ok(())
}

pub(crate) fn errors(models: &[Model]) -> anyhow::Result<String> {
    let rows = rows(models)?;
    let mut out = String::from(
        "//! Errors of the JSON protocol with their HTTP status: the one place where they are written.\n\n\
         use crate::protocol::json::JsonErrorShape;\n\n\
         /// Every error a JSON service answers, alphabetically.\n\
         #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]\n\
         pub enum JsonErrorCode {\n",
    );
    for code in rows.keys() {
        writeln!(out, "{code},")?;
    }
    let count = rows.len();
    write!(
        out,
        "}}\n\nimpl JsonErrorCode {{\n\
         /// All codes, in the order of the enum.\npub const ALL: [Self; {count}] = ["
    )?;
    for code in rows.keys() {
        write!(out, "Self::{code}, ")?;
    }
    write!(
        out,
        "];\n\n/// Status and wire form of the code.\n\
         pub const fn shape(self) -> &'static JsonErrorShape {{ &ERRORS[self as usize] }}\n}}\n\n\
         static ERRORS: [JsonErrorShape; {count}] = [\n"
    )?;
    for (code, status) in &rows {
        writeln!(
            out,
            "JsonErrorShape {{ code: \"{code}\", status: {status} }},"
        )?;
    }
    out.push_str("];\n");
    Ok(out)
}

fn rows(models: &[Model]) -> anyhow::Result<BTreeMap<String, u16>> {
    let mut rows = BTreeMap::new();
    for model in models {
        let listed = model.operations.values().flat_map(|o| &o.errors);
        for name in listed.map(|error| &error.shape) {
            let row = status(model.shape(name)?);
            let other = rows.insert(name.clone(), row);
            ensure!(other.is_none_or(|other| other == row), "{name} is two");
        }
    }
    for (code, status) in COMMON_JSON_ERRORS {
        let is_new = rows.insert(code.to_owned(), status).is_none();
        ensure!(is_new, "a model now lists {code}");
    }
    Ok(rows)
}

/// Models of this protocol say whose fault an error is, and seldom a status.
fn status(shape: &Shape) -> u16 {
    let default = if shape.fault {
        SERVICE_FAULT
    } else {
        SENDER_FAULT
    };
    let named = shape.error.as_ref().map(|error| error.http_status_code);
    named.unwrap_or(default)
}
