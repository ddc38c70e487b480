//! Messages to topics: SNS's query protocol, forms in and XML out.

use hearth_core::events::document::MessageAttribute;
use percent_encoding::utf8_percent_encode;

use crate::arn;
use crate::client::{Call, ESCAPED};
use crate::error::ServiceError;
use crate::refusal::between;
use crate::service::Service;
use crate::services::Services;

const CONTENT_TYPE: &str = "application/x-www-form-urlencoded; charset=utf-8";

impl Services {
    /// Publishes a message to a topic.
    ///
    /// # Errors
    /// See [`ServiceError`].
    pub async fn publish(
        &self,
        topic_arn: &str,
        message: &str,
        attributes: &[MessageAttribute],
    ) -> Result<(), ServiceError> {
        arn::parse(topic_arn, Service::Sns)?;
        let endpoint = self.endpoint(Service::Sns)?;
        let call = Call::post(CONTENT_TYPE, form(topic_arn, message, attributes));
        let understand = |answer: &[u8]| {
            let answer = String::from_utf8_lossy(answer);
            match between(&answer, "MessageId") {
                Some(_) => Ok(()),
                None => Err(endpoint.protocol("it tells no MessageId")),
            }
        };
        self.client.call(endpoint, &call, understand).await
    }
}

fn form(topic_arn: &str, message: &str, attributes: &[MessageAttribute]) -> String {
    let mut form = String::from("Action=Publish&Version=2010-03-31");
    let mut field = |name: &str, value: &str| {
        form.push('&');
        form.push_str(name);
        form.push('=');
        form.extend(utf8_percent_encode(value, ESCAPED));
    };
    field("TopicArn", topic_arn);
    field("Message", message);
    for (number, attribute) in (1..).zip(attributes) {
        let entry = format!("MessageAttributes.entry.{number}");
        field(&format!("{entry}.Name"), attribute.name);
        field(&format!("{entry}.Value.DataType"), attribute.data_type);
        field(&format!("{entry}.Value.StringValue"), &attribute.value);
    }
    form
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_has_every_attribute_and_nothing_of_a_value_unescaped() {
        let attributes = [
            MessageAttribute {
                name: "ErrorCode",
                data_type: "Number",
                value: "200".to_owned(),
            },
            MessageAttribute {
                name: "ErrorMessage",
                data_type: "String",
                value: "a+b&c=\u{e9}\n".to_owned(),
            },
        ];
        assert_eq!(
            form("arn:aws:sns:r:1:t", "{\"a\": 1}", &attributes),
            "Action=Publish&Version=2010-03-31&TopicArn=arn%3Aaws%3Asns%3Ar%3A1%3At&Message=%7B%22a%22%3A%201%7D\
             &MessageAttributes.entry.1.Name=ErrorCode&MessageAttributes.entry.1.Value.DataType=Number\
             &MessageAttributes.entry.1.Value.StringValue=200\
             &MessageAttributes.entry.2.Name=ErrorMessage&MessageAttributes.entry.2.Value.DataType=String\
             &MessageAttributes.entry.2.Value.StringValue=a%2Bb%26c%3D%C3%A9%0A"
        );
        assert!(form("t", "", &[]).ends_with("&TopicArn=t&Message="));
    }
}
