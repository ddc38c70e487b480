//! The services as a whole: where each is. What each can do is in its own file.

use hearth_node::Seams;

use crate::client::{Client, Endpoint};
use crate::error::ServiceError;
use crate::options::{ServicesOptions, ServicesOptionsError};
use crate::service::Service;
use crate::sqs::QueueUrls;

/// Clients of all services. One for each node.
#[derive(Debug)]
pub struct Services {
    pub(crate) client: Client,
    pub(crate) queue_urls: QueueUrls,
    events: Option<Endpoint>,
    s3: Option<Endpoint>,
    sns: Option<Endpoint>,
    sqs: Option<Endpoint>,
}

impl Services {
    /// Clients with these options. `region` is the cluster's, for endpoints that name none.
    ///
    /// # Errors
    /// As [`ServicesOptions::validate`].
    pub fn new(
        options: &ServicesOptions,
        region: &str,
        seams: &Seams,
    ) -> Result<Self, ServicesOptionsError> {
        let endpoint = |service| Endpoint::new(service, options.of(service), region);
        Ok(Self {
            client: Client::new(seams),
            queue_urls: QueueUrls::default(),
            events: endpoint(Service::EventBridge)?,
            s3: endpoint(Service::S3)?,
            sns: endpoint(Service::Sns)?,
            sqs: endpoint(Service::Sqs)?,
        })
    }

    /// Where a service is.
    pub(crate) fn endpoint(&self, service: Service) -> Result<&Endpoint, ServiceError> {
        let configured = match service {
            Service::EventBridge => &self.events,
            Service::S3 => &self.s3,
            Service::Sns => &self.sns,
            Service::Sqs => &self.sqs,
        };
        configured
            .as_ref()
            .ok_or(ServiceError::NotConfigured { service })
    }
}
