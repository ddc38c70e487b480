//! Writes what the query protocol needs of a service: its operations, and one table of errors for all such services.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, ensure};

use super::common_errors::COMMON_QUERY_ERRORS;
use super::model::{Model, Reference};
use super::names::constant;
use super::service::Service;

pub(crate) fn operations(model: &Model, service: &Service) -> anyhow::Result<String> {
    let title = service.title;
    let namespace = model.metadata.xml_namespace.as_deref();
    let namespace = namespace.context("a query service has a namespace")?;
    let mut out = format!(
        "//! The operations of {title} that Hearth has, alphabetically.\n\n\
         use super::shapes;\nuse crate::operation::{{QueryService, QuerySpec}};\n\n\
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
         pub const fn spec(self) -> &'static QuerySpec {{ &SERVICE.operations[self as usize] }}\n\n\
         /// The operation's name in the model.\n\
         pub const fn name(self) -> &'static str {{ self.spec().name }}\n}}\n\n\
         /// The service.\n\
         pub static SERVICE: QueryService = QueryService {{ name: \"{}\", version: \"{}\", \
         namespace: \"{namespace}\", operations: &SPECS }};\n\n\
         static SPECS: [QuerySpec; {count}] = [\n",
        service.name, model.metadata.api_version
    )?;
    for (name, operation) in &model.operations {
        let wrapper = operation
            .output
            .as_ref()
            .and_then(|o| o.result_wrapper.as_deref());
        let is_usual = wrapper.is_none_or(|wrapper| wrapper == format!("{name}Result"));
        ensure!(is_usual, "{name} wraps its result in {wrapper:?}");
        let shape = |reference: &Option<Reference>| match reference {
            Some(reference) => format!("Some(&shapes::{})", constant(&reference.shape)),
            None => "None".to_owned(),
        };
        writeln!(
            out,
            "QuerySpec {{ name: \"{name}\", input: {}, output: {} }},",
            shape(&operation.input),
            shape(&operation.output)
        )?;
    }
    out.push_str("];\n");
    Ok(out)
}

/// Code, then status and whether the sender is at fault.
type Rows = BTreeMap<String, (u16, bool)>;

pub(crate) fn errors(models: &[Model]) -> anyhow::Result<String> {
    let rows = rows(models)?;
    let mut out = String::from(
        "//! Errors of the query protocol with their HTTP status: the one place where they are written.\n\n\
         use crate::protocol::query::QueryErrorShape;\n\n\
         /// Every error a query service answers, alphabetically.\n\
         #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]\n\
         pub enum QueryErrorCode {\n",
    );
    for code in rows.keys() {
        writeln!(out, "{},", variant(code))?;
    }
    let count = rows.len();
    write!(
        out,
        "}}\n\nimpl QueryErrorCode {{\n\
         /// All codes, in the order of the enum.\npub const ALL: [Self; {count}] = ["
    )?;
    for code in rows.keys() {
        write!(out, "Self::{}, ", variant(code))?;
    }
    write!(
        out,
        "];\n\n/// Status and wire form of the code.\n\
         pub const fn shape(self) -> &'static QueryErrorShape {{ &ERRORS[self as usize] }}\n}}\n\n\
         static ERRORS: [QueryErrorShape; {count}] = [\n"
    )?;
    for (code, (status, is_sender)) in &rows {
        writeln!(
            out,
            "QueryErrorShape {{ code: \"{code}\", status: {status}, is_sender: {is_sender} }},"
        )?;
    }
    out.push_str("];\n");
    Ok(out)
}

/// Two codes of STS end as the names of shapes do.
fn variant(code: &str) -> &str {
    code.strip_suffix("Exception").unwrap_or(code)
}

fn rows(models: &[Model]) -> anyhow::Result<Rows> {
    let mut rows = Rows::new();
    for model in models {
        let listed = model.operations.values().flat_map(|o| &o.errors);
        for name in listed.map(|error| &error.shape) {
            let error = model.shape(name)?.error.as_ref();
            let error = error.with_context(|| format!("{name} has no status"))?;
            let code = error.code.as_deref().unwrap_or(name);
            let row = (error.http_status_code, error.sender_fault);
            let other = rows.insert(code.to_owned(), row);
            ensure!(other.is_none_or(|other| other == row), "{code} is two");
        }
    }
    for (code, status, is_sender) in COMMON_QUERY_ERRORS {
        let is_new = rows.insert(code.to_owned(), (status, is_sender)).is_none();
        ensure!(is_new, "a model now lists {code}");
    }
    // What STS calls by the name of its shape is the same to a client as the common error.
    rows.retain(|code, _| code != "ExpiredTokenException" && code != "RegionDisabledException");
    Ok(rows)
}
