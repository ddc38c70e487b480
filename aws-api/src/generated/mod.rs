//! Code generated from botocore's service models, one folder per service.

pub(crate) mod iam;
pub(crate) mod lambda;
pub(crate) mod query_errors;
pub(crate) mod sts;
