//! Messages to queues: SQS's JSON protocol.
//!
//! A queue is named by an ARN, but a message is sent to its URL, which SQS tells. That URL is only said back, in a request to the
//! configured endpoint: its host is what the server calls itself, and need not be reachable from here.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use hearth_core::events::document::MessageAttribute;
use http::HeaderValue;
use serde::{Deserialize, Serialize};

use crate::arn::{self, Target};
use crate::client::{Call, Endpoint};
use crate::error::ServiceError;
use crate::service::Service;
use crate::services::Services;

const CONTENT_TYPE: &str = "application/x-amz-json-1.0";
/// URLs that are remembered, some 200 bytes each.
const QUEUE_URLS_MAX: usize = 1_000;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct GetQueueUrl<'a> {
    queue_name: &'a str,
    #[serde(rename = "QueueOwnerAWSAccountId")]
    account: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct QueueUrl {
    queue_url: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SendMessage<'a> {
    queue_url: &'a str,
    message_body: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    message_attributes: BTreeMap<&'a str, AttributeValue<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct AttributeValue<'a> {
    data_type: &'a str,
    string_value: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Sent {
    #[serde(rename = "MessageId")]
    _message_id: String,
}

impl Services {
    /// Sends a message to a queue.
    ///
    /// # Errors
    /// See [`ServiceError`].
    pub async fn send_to_queue(
        &self,
        queue_arn: &str,
        body: &str,
        attributes: &[MessageAttribute],
    ) -> Result<(), ServiceError> {
        let queue = arn::parse(queue_arn, Service::Sqs)?;
        let endpoint = self.endpoint(Service::Sqs)?;
        if let Some(url) = self.queue_urls.known(queue_arn) {
            match self.send_message(endpoint, &url, body, attributes).await {
                // It may have been made anew since, with another URL.
                Err(error) if is_of_no_queue(&error) => self.queue_urls.forget(queue_arn),
                answer => return answer,
            }
        }
        let url = self.queue_url(endpoint, queue).await?;
        self.send_message(endpoint, &url, body, attributes).await?;
        self.queue_urls.learn(queue_arn, url);
        Ok(())
    }

    async fn queue_url(
        &self,
        endpoint: &Endpoint,
        queue: Target<'_>,
    ) -> Result<String, ServiceError> {
        let question = GetQueueUrl {
            queue_name: queue.name,
            account: queue.account,
        };
        let call = call("AmazonSQS.GetQueueUrl", &question);
        let understand = |answer: &[u8]| {
            let answer: QueueUrl = serde_json::from_slice(answer)
                .map_err(|_| endpoint.protocol("it tells no QueueUrl"))?;
            Ok(answer.queue_url)
        };
        self.client.call(endpoint, &call, understand).await
    }

    async fn send_message(
        &self,
        endpoint: &Endpoint,
        queue_url: &str,
        body: &str,
        attributes: &[MessageAttribute],
    ) -> Result<(), ServiceError> {
        let attributes = attributes.iter().map(|attribute| {
            let value = AttributeValue {
                data_type: attribute.data_type,
                string_value: &attribute.value,
            };
            (attribute.name, value)
        });
        let message = SendMessage {
            queue_url,
            message_body: body,
            message_attributes: attributes.collect(),
        };
        let call = call("AmazonSQS.SendMessage", &message);
        let understand = |answer: &[u8]| match serde_json::from_slice::<Sent>(answer) {
            Ok(_) => Ok(()),
            Err(_) => Err(endpoint.protocol("it tells no MessageId")),
        };
        self.client.call(endpoint, &call, understand).await
    }
}

fn call(operation: &'static str, input: &impl Serialize) -> Call {
    let body = serde_json::to_vec(input).expect("texts can be written as JSON");
    Call::post(CONTENT_TYPE, body).with("x-amz-target", HeaderValue::from_static(operation))
}

/// In the JSON protocol, or as servers say that came from the older one.
fn is_of_no_queue(error: &ServiceError) -> bool {
    matches!(error, ServiceError::Refused { code, .. }
        if code == "QueueDoesNotExist" || code.ends_with("NonExistentQueue"))
}

/// URLs of queues by their ARNs. When there are too many all are forgotten, which costs each queue one question.
#[derive(Debug, Default)]
pub(crate) struct QueueUrls(Mutex<BTreeMap<String, String>>);

impl QueueUrls {
    fn known(&self, queue_arn: &str) -> Option<String> {
        self.locked(|urls| urls.get(queue_arn).cloned())
    }

    fn learn(&self, queue_arn: &str, url: String) {
        self.locked(|urls| {
            if urls.len() >= QUEUE_URLS_MAX {
                urls.clear();
            }
            urls.insert(queue_arn.to_owned(), url);
        });
    }

    fn forget(&self, queue_arn: &str) {
        self.locked(|urls| urls.remove(queue_arn));
    }

    fn locked<T>(&self, look: impl FnOnce(&mut BTreeMap<String, String>) -> T) -> T {
        // A poisoned lock guards whole entries only; they stay valid.
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_forgotten_when_told_and_when_there_are_too_many() {
        let urls = QueueUrls::default();
        urls.learn("a", "http://a".to_owned());
        assert_eq!(urls.known("a").as_deref(), Some("http://a"));
        urls.forget("a");
        assert_eq!(urls.known("a"), None);
        for n in 0..3 * QUEUE_URLS_MAX {
            urls.learn(&n.to_string(), String::new());
            assert!(urls.locked(|urls| urls.len()) <= QUEUE_URLS_MAX);
            assert!(urls.known(&n.to_string()).is_some());
        }
    }

    #[test]
    fn a_queue_that_is_not_there_is_told_from_other_refusals() {
        for (code, wanted) in [
            ("QueueDoesNotExist", true),
            ("AWS.SimpleQueueService.NonExistentQueue", true),
            ("AccessDenied", false),
        ] {
            let error = crate::refusal::refused(Service::Sqs, 400, code, "");
            assert_eq!(is_of_no_queue(&error), wanted, "{code}");
        }
    }
}
