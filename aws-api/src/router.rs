//! From method and path to a row of an operation table. Pure; knows nothing of a service.

use percent_encoding::percent_decode_str;

use crate::operation::{OperationSpec, Segment};

/// Longest path that is looked at, in segments: the longest template has 6, and a label that is an
/// ARN with unescaped slashes adds a few.
const MAX_SEGMENTS: usize = 32;

/// A path label and its percent-decoded value.
pub type Label = (&'static str, String);

/// Finds the operation, as index into `table`, and its labels. The template with most literal
/// segments wins, then the one that demands most query parameters.
pub fn find(
    table: &'static [OperationSpec],
    method: &str,
    path: &str,
    query: Option<&str>,
) -> Option<(usize, Vec<Label>)> {
    let path = path.strip_prefix('/')?;
    // Older SDKs write collection paths with a slash at the end.
    let path = path.strip_suffix('/').unwrap_or(path);
    let segments: Vec<&str> = path.split('/').collect();
    if segments.len() > MAX_SEGMENTS {
        return None;
    }
    // Labels are one segment; only when nothing fits, an ARN may spread over several, for clients
    // and proxies which do not escape its slashes.
    best(table, method, &segments, query, false)
        .or_else(|| best(table, method, &segments, query, true))
}

fn best(
    table: &'static [OperationSpec],
    method: &str,
    path: &[&str],
    query: Option<&str>,
    spread: bool,
) -> Option<(usize, Vec<Label>)> {
    let mut best: Option<((usize, usize), usize, Vec<Label>)> = None;
    for (index, spec) in table.iter().enumerate() {
        if spec.method != method
            || !has_same_literals(spec.segments, path, spread)
            || !has_query(spec, query)
        {
            continue;
        }
        let rank = (literals(spec), spec.query.len());
        if best.as_ref().is_some_and(|(other, ..)| *other >= rank) {
            continue;
        }
        let mut labels = Vec::new();
        if matches(spec.segments, path, spread, &mut labels) {
            best = Some((rank, index, labels));
        }
    }
    best.map(|(_, index, labels)| (index, labels))
}

/// Whether the template may match at all: most do not, and this is the cheap half of the look at one. A label that takes
/// several segments moves what comes after it, so where there may be one only what is before it is compared.
fn has_same_literals(template: &[Segment], path: &[&str], spread: bool) -> bool {
    let is_wide = |segment: &Segment| match segment {
        Segment::Literal(_) => false,
        Segment::Label(_) => spread,
        Segment::Greedy(_) => true,
    };
    let fixed = template.iter().take_while(|segment| !is_wide(segment));
    let is_fixed_all = !template.iter().any(is_wide);
    (!is_fixed_all || template.len() == path.len())
        && fixed.zip(path).all(|(segment, part)| match segment {
            Segment::Literal(literal) => literal == part,
            Segment::Label(_) | Segment::Greedy(_) => true,
        })
}

fn literals(spec: &OperationSpec) -> usize {
    let is_literal = |segment: &&Segment| matches!(segment, Segment::Literal(_));
    spec.segments.iter().filter(is_literal).count()
}

fn has_query(spec: &OperationSpec, query: Option<&str>) -> bool {
    spec.query.iter().all(|&(name, value)| {
        query_pairs(query.unwrap_or_default()).any(|(n, v)| n == name && v == value)
    })
}

fn matches(
    template: &'static [Segment],
    path: &[&str],
    spread: bool,
    labels: &mut Vec<Label>,
) -> bool {
    let Some((first, template)) = template.split_first() else {
        return path.is_empty();
    };
    let Some(&segment) = path.first() else {
        return false;
    };
    let (name, most) = match *first {
        Segment::Literal(literal) => {
            return segment == literal && matches(template, &path[1..], spread, labels);
        }
        Segment::Label(name) if spread && is_arn(segment) => (name, path.len()),
        Segment::Label(name) => (name, 1),
        Segment::Greedy(name) => (name, path.len()),
    };
    if segment.is_empty() {
        return false;
    }
    for taken in (1..=most).rev() {
        let before = labels.len();
        let Some(value) = decode(&path[..taken].join("/")) else {
            continue;
        };
        labels.push((name, value));
        if matches(template, &path[taken..], spread, labels) {
            return true;
        }
        labels.truncate(before);
    }
    false
}

fn is_arn(segment: &str) -> bool {
    decode(segment).is_some_and(|text| text.starts_with("arn:"))
}

fn decode(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(Into::into)
}

/// The decoded pairs of a query string; pairs that are not UTF-8 are left out.
pub(crate) fn query_pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            // A plus sign is a space in a query: form encoding, which SDKs of AWS never write
            // but browsers do.
            let value = value.replace('+', " ");
            Some((decode(name)?, decode(&value)?))
        })
}
