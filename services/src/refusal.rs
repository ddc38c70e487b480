//! What a refused request is told, in any of the protocols: a code and a text out of a document that may be JSON, XML, cut off, or
//! none of the service's at all. Tolerant, since an operator needs whatever can be had.

use std::borrow::Cow;

use serde_json::Value;

use crate::error::ServiceError;
use crate::service::Service;

/// Longest code or text kept, bytes: they go to logs.
const KEPT_MAX_BYTES: usize = 1_024;

/// The refusal that a body tells of.
pub(crate) fn read(service: Service, status: u16, body: &[u8]) -> ServiceError {
    let text = String::from_utf8_lossy(body);
    let (code, message) = of_json(&text).unwrap_or_else(|| of_xml(&text));
    refused(service, status, &code, &message)
}

/// A refusal with no more text than is kept.
pub(crate) fn refused(service: Service, status: u16, code: &str, message: &str) -> ServiceError {
    let cut = |text: &str| text[..text.floor_char_boundary(KEPT_MAX_BYTES)].to_owned();
    ServiceError::Refused {
        service,
        status,
        code: cut(code),
        message: cut(message),
    }
}

/// "If a : character is present, then take only the contents before the first : character in the value. If a # character is present,
/// then take only the contents after the first # character in the value."
/// <https://smithy.io/2.0/aws/protocols/aws-json-1_0-protocol.html>
fn shape(kind: &str) -> &str {
    let kind = kind.split_once(':').map_or(kind, |(before, _)| before);
    kind.split_once('#').map_or(kind, |(_, after)| after)
}

fn of_json(text: &str) -> Option<(String, String)> {
    let document: Value = serde_json::from_str(text).ok()?;
    let members = document.as_object()?;
    let first = |names: &[&str]| {
        let found = names.iter().find_map(|name| members.get(*name)?.as_str());
        found.unwrap_or_default().to_owned()
    };
    let code = shape(&first(&["__type", "code"])).to_owned();
    Some((code, first(&["message", "Message"])))
}

/// The first of each element: `<Error><Code>..</Code><Message>..</Message></Error>`, with or without more around it.
fn of_xml(text: &str) -> (String, String) {
    let element = |name: &str| between(text, name).map_or_else(String::new, unescape);
    (element("Code"), element("Message"))
}

/// The content of the first element of a name that has no attributes, if it has an end.
pub(crate) fn between<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0.trim())
}

/// The five entities that XML has of itself.
fn unescape(text: &str) -> String {
    let entities = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&apos;", "'"),
        // Last, so that what it makes is not taken for another one.
        ("&amp;", "&"),
    ];
    let plain = entities
        .iter()
        .fold(Cow::Borrowed(text), |text, (from, to)| {
            if text.contains(from) {
                Cow::Owned(text.replace(from, to))
            } else {
                text
            }
        });
    plain.into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(body: &str) -> (String, String) {
        match read(Service::Sqs, 400, body.as_bytes()) {
            ServiceError::Refused { code, message, .. } => (code, message),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn codes_and_texts_are_found_in_all_documents() {
        let table = [
            (
                r#"{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"The specified queue does not exist."}"#,
                "QueueDoesNotExist",
                "The specified queue does not exist.",
            ),
            (
                r#"{"__type":"ResourceNotFoundException","Message":"Event bus b does not exist."}"#,
                "ResourceNotFoundException",
                "Event bus b does not exist.",
            ),
            (
                r#"{"__type":"aws#Denied:http://internal.amazon.com/"}"#,
                "Denied",
                "",
            ),
            (r#"{"message":7,"code":"Odd"}"#, "Odd", ""),
            (
                "<ErrorResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><Error><Type>Sender</Type><Code>NotFound</Code>\
                 <Message>Topic does not exist</Message></Error><RequestId>r</RequestId></ErrorResponse>",
                "NotFound",
                "Topic does not exist",
            ),
            (
                "<?xml version=\"1.0\"?>\n<Error>\n <Code>NoSuchBucket</Code>\n <Message>&lt;b&gt; &amp;amp; &quot;c&quot; isn&apos;t</Message></Error>",
                "NoSuchBucket",
                "<b> &amp; \"c\" isn't",
            ),
            // Cut off.
            (
                "<Error><Code>SlowDown</Code><Message>Reduce",
                "SlowDown",
                "",
            ),
            ("<Error><Code>Slow", "", ""),
            ("{\"__type\":\"Slow", "", ""),
            // Somebody else's.
            ("<html><h1>502 Bad Gateway</h1></html>", "", ""),
            ("[1]", "", ""),
            ("", "", ""),
        ];
        for (body, code, message) in table {
            assert_eq!(told(body), (code.into(), message.into()), "{body}");
        }
    }

    #[test]
    fn what_is_kept_is_short() {
        let (code, message) = told(&format!(
            "<Code>{}</Code><Message>{}</Message>",
            "c".repeat(5_000),
            "\u{20ac}".repeat(5_000)
        ));
        assert_eq!((code.len(), message.len()), (1_024, 1_023));
    }
}
