//! Our tables and decoding against botocore itself: `vectors/record_requests.py` serialised an input
//! of every operation and added up the model's constraints without our generator.

use std::collections::BTreeMap;

use http::Request;
use serde::Deserialize;

use super::*;
use crate::generated::lambda::shapes;
use crate::shape::Kind;

#[derive(Deserialize)]
struct Recorded {
    totals: BTreeMap<String, f64>,
    requests: Vec<RecordedRequest>,
}

#[derive(Deserialize)]
struct RecordedRequest {
    operation: String,
    method: String,
    url: String,
    headers: BTreeMap<String, String>,
    body: String,
    members: Value,
}

fn recorded() -> Recorded {
    serde_json::from_str(include_str!("../../../vectors/requests.json")).unwrap()
}

#[test]
fn every_request_of_botocore_is_routed_and_has_all_its_members() {
    let requests = recorded().requests;
    assert_eq!(requests.len(), Operation::ALL.len());
    for recorded in requests {
        let mut builder = Request::builder()
            .method(recorded.method.as_str())
            .uri(&recorded.url);
        for (name, value) in &recorded.headers {
            builder = builder.header(name, value);
        }
        let (parts, ()) = builder.body(()).unwrap().into_parts();
        let route = route(&parts.method, &parts.uri).unwrap();
        assert_eq!(route.operation.name(), recorded.operation);
        let body = Bytes::from(hex::decode(recorded.body).unwrap());
        let shape = route.operation.spec().input.unwrap();
        let (members, raw) = rest_json::assemble(shape, &route.labels, &parts, &body).unwrap();
        assert_eq!(members, recorded.members, "{}", recorded.operation);
        assert_eq!(raw.is_some(), shape.raw_payload().is_some());
    }
}

#[test]
fn constraint_tables_add_up_to_the_model() {
    let mut totals: BTreeMap<String, f64> = BTreeMap::new();
    let mut add = |name: &str, amount: f64| *totals.entry(name.to_owned()).or_default() += amount;
    for shape in shapes::ALL {
        add("shapes", 1.0);
        add("sensitive", f64::from(u8::from(shape.sensitive)));
        for member in shape.members() {
            add("required", f64::from(u8::from(member.required)));
        }
        let bound = |bound: Option<i64>| f64::from(i32::try_from(bound.unwrap_or(0)).unwrap());
        let (min, max) = match shape.kind {
            Kind::String {
                min,
                max,
                pattern,
                values,
            } => {
                add("patterns", f64::from(u8::from(pattern.is_some())));
                add(
                    "enum_values",
                    f64::from(u32::try_from(values.len()).unwrap()),
                );
                (bound(min), bound(max))
            }
            Kind::List { min, max, .. }
            | Kind::Map { min, max, .. }
            | Kind::Integer { min, max }
            | Kind::Long { min, max }
            | Kind::Blob { min, max } => (bound(min), bound(max)),
            Kind::Double { min, max } => (min.unwrap_or(0.0), max.unwrap_or(0.0)),
            Kind::Structure { .. } | Kind::Boolean | Kind::Timestamp => continue,
        };
        add("sum_of_min", min);
        add("sum_of_max", max);
    }
    assert_eq!(totals, recorded().totals);
}
