//! Writes the operation enum, the table that the router reads, and the ties between operations and
//! their typed input and output.

use std::fmt::Write as _;

use anyhow::ensure;

use super::model::{Model, Operation, Reference};
use super::names::constant;

pub(crate) fn emit(model: &Model) -> anyhow::Result<String> {
    let mut out = String::from(
        "//! The operations of Lambda and where each of them is found.\n\n\
         use super::errors::ErrorCode;\nuse super::shapes;\n\
         use crate::operation::{OperationSpec, Segment};\n\n\
         /// An operation of the Lambda API.\n\
         #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]\n\
         pub enum Operation {\n",
    );
    for name in model.operations.keys() {
        writeln!(out, "{name},")?;
    }
    let count = model.operations.len();
    write!(
        out,
        "}}\n\nimpl Operation {{\n\
         /// All operations, in the order of the enum.\n\
         pub const ALL: [Self; {count}] = ["
    )?;
    for name in model.operations.keys() {
        write!(out, "Self::{name}, ")?;
    }
    write!(
        out,
        "];\n\n/// The operation's row of the table.\n\
         pub const fn spec(self) -> &'static OperationSpec {{ &SPECS[self as usize] }}\n\n\
         /// The operation's name in the model.\n\
         pub const fn name(self) -> &'static str {{ self.spec().name }}\n}}\n\n\
         pub(crate) static SPECS: [OperationSpec; {count}] = [\n"
    )?;
    for (name, operation) in &model.operations {
        emit_spec(&mut out, name, operation)?;
    }
    out.push_str("];\n\n");
    emit_visitor(&mut out, model)?;
    Ok(out)
}

fn emit_spec(out: &mut String, name: &str, operation: &Operation) -> anyhow::Result<()> {
    let http = &operation.http;
    let (path, query) = http
        .request_uri
        .split_once('?')
        .unwrap_or((&http.request_uri, ""));
    write!(
        out,
        "OperationSpec {{ name: \"{name}\", method: \"{}\", uri: \"{}\", segments: &[",
        http.method, http.request_uri
    )?;
    for segment in path.trim_start_matches('/').split('/') {
        match segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) {
            Some(label) => match label.strip_suffix('+') {
                Some(label) => write!(out, "Segment::Greedy(\"{label}\"), ")?,
                None => write!(out, "Segment::Label(\"{label}\"), ")?,
            },
            None => {
                ensure!(!segment.contains('{'), "{name}: label inside a segment");
                write!(out, "Segment::Literal(\"{segment}\"), ")?;
            }
        }
    }
    out.push_str("], query: &[");
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        write!(out, "(\"{key}\", \"{value}\"), ")?;
    }
    let shape = |reference: &Option<Reference>| match reference {
        Some(reference) => format!("Some(&shapes::{})", constant(&reference.shape)),
        None => "None".to_owned(),
    };
    write!(
        out,
        "], success: {}, input: {}, output: {}, errors: &[",
        http.response_code,
        shape(&operation.input),
        shape(&operation.output)
    )?;
    for error in &operation.errors {
        write!(out, "ErrorCode::{}, ", error.shape)?;
    }
    out.push_str("] },\n");
    Ok(())
}

/// A macro over all operations with an input, so that tests can name every input type.
fn emit_visitor(out: &mut String, model: &Model) -> anyhow::Result<()> {
    out.push_str(
        "/// Calls `$visit!(Operation, InputType)` for each operation.\n\
         #[cfg(test)]\nmacro_rules! for_each_input { ($visit:ident) => {\n",
    );
    for (name, operation) in &model.operations {
        if let Some(input) = &operation.input {
            writeln!(out, "$visit!({name}, {});", input.shape)?;
        }
    }
    out.push_str("}; }\n#[cfg(test)]\npub(crate) use for_each_input;\n");
    Ok(())
}
