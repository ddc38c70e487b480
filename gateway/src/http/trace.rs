//! The identifiers of a request: its own id, and the trace it belongs to.

use hearth_node::Seams;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

pub(super) const TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");

/// Puts a trace id where the client sent none, in AWS's form: `Root=1-<seconds, hex>-<96 bits, hex>`.
pub(super) fn ensure_trace_id(headers: &mut HeaderMap, seams: &Seams) {
    if headers.contains_key(&TRACE_ID) {
        return;
    }
    let seconds = seams.clock.unix_ms() / 1_000;
    let (a, b) = (seams.random.u64(), seams.random.u64() >> 32);
    let text = format!("Root=1-{seconds:08x}-{a:016x}{b:08x};Sampled=0");
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.insert(TRACE_ID, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_id_is_made_only_where_there_is_none() {
        let seams = Seams::system();
        let mut headers = HeaderMap::new();
        ensure_trace_id(&mut headers, &seams);
        let made = headers[&TRACE_ID].to_str().unwrap().to_owned();
        assert_eq!(
            made.len(),
            "Root=1-12345678-123456789012345678901234;Sampled=0".len()
        );
        ensure_trace_id(&mut headers, &seams);
        assert_eq!(headers[&TRACE_ID], made);
    }
}
