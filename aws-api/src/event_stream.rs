//! Event streams: the framing of an answer that comes in several messages (`application/vnd.amazon.eventstream`). Each
//! message is a prelude (total length, length of the headers, CRC32 of both), headers, a payload and a CRC32 of all of
//! it; numbers are big-endian.

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::Serialize;

/// The content type of an answer in this form.
pub const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";

/// The content type of a message whose payload is a document.
const JSON: &str = "application/json";
/// The type of a header whose value is a string.
const STRING: u8 = 7;
/// Length and CRC fields besides headers and payload.
const PRELUDE_BYTES: usize = 12;
const FRAMING_BYTES: usize = PRELUDE_BYTES + 4;

/// A message whose payload is a member bound to it as bytes.
#[must_use]
pub fn bytes_event(event_type: &str, payload: &[u8]) -> Bytes {
    event(event_type, "application/octet-stream", payload)
}

/// A message whose payload is a document.
#[must_use]
pub fn json_event<T: Serialize>(event_type: &str, document: &T) -> Bytes {
    // The shapes of the model cannot fail to be written.
    let payload = serde_json::to_vec(document).unwrap_or_default();
    event(event_type, JSON, &payload)
}

/// The message that an answer of an RPC protocol begins with: the members of the output besides the stream, of which there are none.
#[must_use]
pub fn initial_response() -> Bytes {
    event("initial-response", JSON, b"{}")
}

/// The message that ends an answer with an exception of the model.
#[must_use]
pub fn exception<T: Serialize>(exception_type: &str, document: &T) -> Bytes {
    // The shapes of the model cannot fail to be written.
    let payload = serde_json::to_vec(document).unwrap_or_default();
    message(
        &[
            (":exception-type", exception_type),
            (":content-type", JSON),
            (":message-type", "exception"),
        ],
        &payload,
    )
}

fn event(event_type: &str, content_type: &str, payload: &[u8]) -> Bytes {
    message(
        &[
            (":event-type", event_type),
            (":content-type", content_type),
            (":message-type", "event"),
        ],
        payload,
    )
}

/// Header names are at most 255 bytes, values at most 32 KiB: here both are literals of this crate or names of the model.
fn message(headers: &[(&str, &str)], payload: &[u8]) -> Bytes {
    let headers_len: usize = headers
        .iter()
        .map(|(name, value)| name.len() + value.len() + 4)
        .sum();
    let total = FRAMING_BYTES + headers_len + payload.len();
    let mut out = BytesMut::with_capacity(total);
    out.put_u32(length(total));
    out.put_u32(length(headers_len));
    out.put_u32(crc32fast::hash(&out));
    for (name, value) in headers {
        out.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
        out.put_slice(name.as_bytes());
        out.put_u8(STRING);
        out.put_u16(u16::try_from(value.len()).unwrap_or(u16::MAX));
        out.put_slice(value.as_bytes());
    }
    out.put_slice(payload);
    out.put_u32(crc32fast::hash(&out));
    out.freeze()
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As botocore's parser reads it (`botocore.eventstream.EventStreamMessage`).
    #[test]
    fn a_message_is_framed_as_the_clients_read_it() {
        let message = bytes_event("PayloadChunk", b"hi");
        let number = |at: usize| u32::from_be_bytes(message[at..at + 4].try_into().unwrap());
        let end = message.len() - 4;
        assert_eq!(number(0) as usize, message.len());
        assert_eq!(number(8), crc32fast::hash(&message[..8]));
        assert_eq!(number(end), crc32fast::hash(&message[..end]));
        let headers = &message[PRELUDE_BYTES..PRELUDE_BYTES + number(4) as usize];
        assert!(headers.starts_with(b"\x0b:event-type\x07\x00\x0cPayloadChunk"));
        assert!(headers.ends_with(b"\x0d:message-type\x07\x00\x05event"));
        assert_eq!(&message[PRELUDE_BYTES + headers.len()..end], b"hi");
    }

    #[test]
    fn a_document_is_written_without_absent_members() {
        let document = crate::lambda::InvokeWithResponseStreamCompleteEvent::default();
        let message = json_event("InvokeComplete", &document);
        let end = message.len() - 4;
        assert!(message[..end].ends_with(b"{}"));
    }
}
