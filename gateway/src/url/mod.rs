//! Rules of requests at URLs of functions; nothing here does IO. `address` says which URL a request is for, `access` who may
//! call, `cors` what browsers are told, `event` what the function gets, `reply` what its answer means, `prelude` the same of an
//! answer that is streamed. `http/url.rs` asks them in their order.

pub(crate) mod access;
pub(crate) mod address;
pub(crate) mod cors;
pub(crate) mod event;
pub(crate) mod prelude;
pub(crate) mod reply;
