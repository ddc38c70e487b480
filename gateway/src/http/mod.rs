//! The one public port: HTTP/1.1 and HTTP/2, AWS's REST API and gRPC. `server` accepts, `service` is what a request
//! goes through, top to bottom, `url` the same of one at a URL of a function, `body` reads bodies within their limits, `patience` cuts off slow clients.

mod audit;
mod body;
mod patience;
mod query;
pub(crate) mod server;
mod service;
mod trace;
mod url;
