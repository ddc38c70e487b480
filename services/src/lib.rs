//! Clients of the AWS services around a cluster, at endpoints an operator configures: AWS's own, or servers that speak as they do.
//! Each can do what the end of an event takes: a message to a queue (SQS) or a topic (SNS), an object in a bucket (S3), an event
//! on a bus (EventBridge). What is sent is `hearth_core::events`' to say; who is told, and when, is the gateway's.
//!
//! A service is named by an ARN, and asked at its configured endpoint whatever region that ARN has: no other host is ever dialled.
//! A call is tried up to three times, each within the endpoint's timeout, as long as its error may pass. What was tried may
//! have been done though nobody answered, so a receiver can be told twice.
//!
//! ```no_run
//! # async fn tell() -> Result<(), Box<dyn std::error::Error>> {
//! use hearth_node::Seams;
//! use hearth_services::{Services, ServicesOptions};
//!
//! let mut options = ServicesOptions::default();
//! options.sqs.url = "http://127.0.0.1:9324".to_owned();
//! let services = Services::new(&options, "eu-west-1", &Seams::system())?;
//! let queue = "arn:aws:sqs:eu-west-1:123456789012:ended";
//! services.send_to_queue(queue, "{}", &[]).await?;
//! # Ok(())
//! # }
//! ```

mod arn;
mod client;
mod error;
mod events;
mod options;
mod refusal;
mod retry;
mod s3;
mod service;
mod services;
mod sns;
mod sqs;
#[cfg(test)]
mod tests;

pub use error::ServiceError;
pub use events::BusEvent;
pub use options::{EndpointOptions, ServicesOptions, ServicesOptionsError};
pub use service::Service;
pub use services::Services;
