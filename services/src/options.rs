//! What an operator says of the services: where each is, and with what key requests to it are signed.

use hearth_node::config::{HumanDuration, Secret};
use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::service::Service;

/// See `endpoints_sample!` for the same as a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServicesOptions {
    /// Queues: destinations and dead-letter queues.
    pub sqs: EndpointOptions,
    /// Topics: destinations and dead-letter topics.
    pub sns: EndpointOptions,
    /// Buckets: destinations of failures.
    pub s3: EndpointOptions,
    /// Event buses (EventBridge): destinations.
    pub events: EndpointOptions,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EndpointOptions {
    /// Where it is, `http://host:port` or `https://host`. Default none: nothing is sent to it.
    pub url: String,
    /// Region that signatures are for. Default the cluster's.
    pub region: String,
    /// Key that requests are signed with. Default none: they are not signed.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: Secret,
    /// Longest time for one attempt of a call, of which there are up to three. Default 5s.
    pub timeout: HumanDuration,
}

impl Default for EndpointOptions {
    fn default() -> Self {
        Self {
            url: String::new(),
            region: String::new(),
            access_key_id: String::new(),
            secret_access_key: Secret::default(),
            timeout: HumanDuration::from_secs(5),
        }
    }
}

/// The tables as text, for the gateways' sample file; in it they are below `endpoints`.
#[macro_export]
macro_rules! endpoints_sample {
    () => {
        r#"# Services that are told of the end of event invocations, as destinations and dead-letter queues: AWS's, or servers that speak as they do.
# Each is asked at its url alone, whatever region an ARN names. Queues:
[endpoints.sqs]
# http://host:port or https://host. Default "": nothing is sent to the service.
url = ""
# Region that signatures are for. Default "": the cluster's.
region = ""
# Key that requests are signed with, and its secret. Default "": they are not signed.
access_key_id = ""
secret_access_key = ""
# Longest time for one attempt of a call, of which there are up to three. Default 5s.
timeout = "5s"

# Topics.
[endpoints.sns]
url = ""
region = ""
access_key_id = ""
secret_access_key = ""
timeout = "5s"

# Buckets, whose names are part of the path: http://host:port/bucket/key.
[endpoints.s3]
url = ""
region = ""
access_key_id = ""
secret_access_key = ""
timeout = "5s"

# Event buses of EventBridge.
[endpoints.events]
url = ""
region = ""
access_key_id = ""
secret_access_key = ""
timeout = "5s"
"#
    };
}

/// What does not fit together; never a value, which may be a secret in the wrong place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("endpoints.{}: {problem}", service.id())]
pub struct ServicesOptionsError {
    service: Service,
    problem: &'static str,
}

impl ServicesOptions {
    /// Checks once, at start.
    ///
    /// # Errors
    /// The first endpoint that cannot be used.
    pub fn validate(&self) -> Result<(), ServicesOptionsError> {
        for service in [
            Service::Sqs,
            Service::Sns,
            Service::S3,
            Service::EventBridge,
        ] {
            self.of(service).address(service)?;
        }
        Ok(())
    }

    /// The service's table.
    pub(crate) fn of(&self, service: Service) -> &EndpointOptions {
        match service {
            Service::EventBridge => &self.events,
            Service::S3 => &self.s3,
            Service::Sns => &self.sns,
            Service::Sqs => &self.sqs,
        }
    }
}

impl EndpointOptions {
    /// Where the service is, if anywhere, once all the rest fits.
    pub(crate) fn address(&self, service: Service) -> Result<Option<Url>, ServicesOptionsError> {
        let refused = |problem| ServicesOptionsError { service, problem };
        let has_key = !self.access_key_id.is_empty();
        let has_secret = !self.secret_access_key.0.is_empty();
        if has_key && !has_secret {
            return Err(refused("access_key_id needs a secret_access_key"));
        }
        if has_secret && !has_key {
            return Err(refused("secret_access_key needs an access_key_id"));
        }
        if self.timeout.0.is_zero() {
            return Err(refused("timeout leaves no time for an answer"));
        }
        if self.url.is_empty() {
            // Whoever names a key or a region means a service somewhere.
            if has_key || !self.region.is_empty() {
                return Err(refused("url is missing"));
            }
            return Ok(None);
        }
        let problem = "url is not an absolute http or https URL without user, query and fragment";
        let url: Url = self.url.parse().map_err(|_| refused(problem))?;
        let is_plain = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if is_plain {
            Ok(Some(url))
        } else {
            Err(refused(problem))
        }
    }
}

#[cfg(test)]
mod tests {
    use hearth_node::config::{DocumentedOptions, assert_documented};

    use super::*;

    #[derive(Debug, Default, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Gateway {
        endpoints: ServicesOptions,
    }

    impl DocumentedOptions for Gateway {
        const SAMPLE: &'static str = endpoints_sample!();
    }

    #[test]
    fn the_sample_is_the_default() {
        assert_documented::<Gateway>();
        ServicesOptions::default().validate().unwrap();
    }

    fn refusal(change: impl FnOnce(&mut EndpointOptions)) -> Option<String> {
        let mut options = ServicesOptions::default();
        options.events.url = "http://127.0.0.1:1".to_owned();
        change(&mut options.events);
        options.validate().err().map(|error| error.to_string())
    }

    #[test]
    fn urls_are_absolute_and_nothing_but_an_address() {
        for url in [
            "http://127.0.0.1:4566",
            "https://sqs.eu-west-1.amazonaws.com/",
            "http://[::1]:80/below",
            "",
        ] {
            assert_eq!(refusal(|o| o.url = url.to_owned()), None, "{url}");
        }
        for url in [
            "127.0.0.1:4566",
            "/sqs",
            "http://",
            "ftp://h",
            "http://h/?a",
            "http://h/#a",
            "http://me:hush@h",
            "http://me@h",
        ] {
            assert_eq!(
                refusal(|o| o.url = url.to_owned()).as_deref(),
                Some(
                    "endpoints.events: url is not an absolute http or https URL without user, query and fragment"
                ),
                "{url}"
            );
        }
    }

    #[test]
    fn keys_and_secrets_come_together_and_with_a_url() {
        let key = |o: &mut EndpointOptions| o.access_key_id = "AKID".to_owned();
        let secret = |o: &mut EndpointOptions| o.secret_access_key = Secret("hush".to_owned());
        let text = |problem: &str| Some(format!("endpoints.events: {problem}"));
        assert_eq!(
            refusal(key),
            text("access_key_id needs a secret_access_key")
        );
        assert_eq!(
            refusal(secret),
            text("secret_access_key needs an access_key_id")
        );
        let both = |o: &mut EndpointOptions| {
            key(o);
            secret(o);
        };
        assert_eq!(refusal(both), None);
        let nowhere = |o: &mut EndpointOptions| {
            both(o);
            o.url.clear();
        };
        assert_eq!(refusal(nowhere), text("url is missing"));
        assert_eq!(
            refusal(|o| o.timeout = HumanDuration::from_secs(0)),
            text("timeout leaves no time for an answer")
        );
        let mut options = EndpointOptions::default();
        both(&mut options);
        assert!(!format!("{options:?}").contains("hush"));
    }
}
