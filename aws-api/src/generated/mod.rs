//! Code generated from botocore's service models, one folder per service.

pub(crate) mod iam;
pub(crate) mod json_errors;
pub(crate) mod lambda;
pub(crate) mod logs;
pub(crate) mod query_errors;
pub(crate) mod sts;
