//! Code generated from botocore's service models, one folder per service.

pub(crate) mod lambda;
