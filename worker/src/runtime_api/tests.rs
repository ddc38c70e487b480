//! Runtime API conformance.
