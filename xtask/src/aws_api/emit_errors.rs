//! Writes the error table: every exception of the model and the common errors, with their status.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, ensure};

use super::common_errors::COMMON_ERRORS;
use super::model::{Model, Shape};
use super::names::snake;

struct Row {
    status: u16,
    message_member: String,
    error_type: Option<&'static str>,
    has_reason: bool,
    in_model: bool,
}

pub(crate) fn emit(model: &Model) -> anyhow::Result<String> {
    let rows = rows(model)?;
    let mut out = String::from(
        "//! Error codes with their HTTP status and wire form: the one place where they are written.\n\n\
         use crate::error::{ApiError, ErrorShape};\n\n\
         /// Every error Lambda answers, alphabetically.\n\
         #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]\n\
         pub enum ErrorCode {\n",
    );
    for code in rows.keys() {
        writeln!(out, "{code},")?;
    }
    let count = rows.len();
    write!(
        out,
        "}}\n\nimpl ErrorCode {{\n\
         /// All codes, in the order of the enum.\n\
         pub const ALL: [Self; {count}] = ["
    )?;
    for code in rows.keys() {
        write!(out, "Self::{code}, ")?;
    }
    write!(
        out,
        "];\n\n/// Status and wire form of the code.\n\
         pub const fn shape(self) -> &'static ErrorShape {{ &ERRORS[self as usize] }}\n}}\n\n\
         static ERRORS: [ErrorShape; {count}] = [\n"
    )?;
    for (code, row) in &rows {
        writeln!(
            out,
            "ErrorShape {{ code: \"{code}\", status: {}, message_member: \"{}\", error_type: {:?}, \
             has_reason: {}, in_model: {} }},",
            row.status, row.message_member, row.error_type, row.has_reason, row.in_model
        )?;
    }
    out.push_str("];\n\nimpl ApiError {\n");
    for code in rows.keys() {
        let name = snake(code.strip_suffix("Exception").unwrap_or(code));
        writeln!(
            out,
            "pub fn {name}(message: impl Into<String>) -> Self {{ Self::new(ErrorCode::{code}, message) }}"
        )?;
    }
    out.push_str("}\n");
    Ok(out)
}

fn rows(model: &Model) -> anyhow::Result<BTreeMap<String, Row>> {
    let mut rows = BTreeMap::new();
    for (name, shape) in model.shapes.iter().filter(|(_, shape)| shape.exception) {
        rows.insert(name.clone(), row(shape).with_context(|| name.clone())?);
    }
    for error in COMMON_ERRORS {
        let row = Row {
            status: error.status,
            message_member: error.message_member.to_owned(),
            error_type: None,
            has_reason: false,
            in_model: false,
        };
        let listed = rows.insert(error.code.to_owned(), row).is_some();
        ensure!(!listed, "the model now lists {}", error.code);
    }
    Ok(rows)
}

fn row(shape: &Shape) -> anyhow::Result<Row> {
    let error = shape.error.as_ref().context("an exception has a status")?;
    let has = |member: &str| shape.members.0.iter().any(|(name, _)| name == member);
    let (message, _) = shape
        .members
        .0
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("message"))
        .context("an exception has a message")?;
    let fault = if error.sender_fault {
        "User"
    } else {
        "Service"
    };
    Ok(Row {
        status: error.http_status_code,
        message_member: message.clone(),
        error_type: has("Type").then_some(fault),
        has_reason: has("Reason"),
        in_model: true,
    })
}
