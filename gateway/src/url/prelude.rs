//! What a function that streams says of its response before the body: a JSON document, then eight zero bytes. It comes in parts
//! that are cut anywhere.

use bytes::{Bytes, BytesMut};

use super::reply::{Head, Malformed, Said};

/// The type of responses that begin so.
const CONTENT_TYPE: &str = "application/vnd.awslambda.http-integration-response";
/// What is assumed of a body whose function names no type.
pub(crate) const UNNAMED: &str = "application/octet-stream";

const END: [u8; 8] = [0; 8];
/// Largest document, bytes. Ours: more than any client takes as the head of a response.
const PRELUDE_MAX_BYTES: usize = 64 << 10;

/// Whether a response of this type begins with a prelude.
pub(crate) fn is_announced(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case(CONTENT_TYPE)
}

/// What has come of it so far.
#[derive(Debug, Default)]
pub(crate) struct Prelude {
    read: BytesMut,
}

impl Prelude {
    /// A part came. The head and the begin of the body once the head is complete; nothing may be pushed then.
    pub(crate) fn push(&mut self, part: &[u8]) -> Result<Option<(Head, Bytes)>, Malformed> {
        // The end may be cut anywhere.
        let from = self.read.len().saturating_sub(END.len() - 1);
        let room = (PRELUDE_MAX_BYTES + END.len()).saturating_sub(self.read.len());
        let (looked_at, rest) = part.split_at(part.len().min(room));
        self.read.extend_from_slice(looked_at);
        let found = self.read[from..]
            .windows(END.len())
            .position(|bytes| bytes == END);
        let Some(at) = found.map(|at| from + at) else {
            return if rest.is_empty() {
                Ok(None)
            } else {
                Err(Malformed)
            };
        };
        let mut body = self.read.split_off(at + END.len());
        let said: Said<'_> = serde_json::from_slice(&self.read[..at]).map_err(|_| Malformed)?;
        let head = Head::said(said, UNNAMED)?;
        body.extend_from_slice(rest);
        Ok(Some((head, body.freeze())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    fn whole(document: &str, body: &[u8]) -> Vec<u8> {
        [document.as_bytes(), &END, body].concat()
    }

    #[test]
    fn a_prelude_may_be_cut_anywhere() {
        let document = r#"{"statusCode":201,"headers":{"Content-Type":"text/html","x-n":5},"cookies":["a=1","b=2"]}"#;
        let bytes = whole(document, b"be\0gun");
        for cut in 0..bytes.len() {
            let mut prelude = Prelude::default();
            let (first, second) = bytes.split_at(cut);
            let found = match prelude.push(first).unwrap() {
                Some((head, body)) => (head, [&body[..], second].concat()),
                None => {
                    let (head, body) = prelude.push(second).unwrap().unwrap();
                    (head, body.to_vec())
                }
            };
            assert_eq!(
                (found.0.status, &found.1[..]),
                (StatusCode::CREATED, &b"be\0gun"[..])
            );
            assert_eq!(found.0.headers["content-type"], "text/html");
            assert_eq!(found.0.headers["x-n"], "5");
            assert_eq!(found.0.headers.get_all("set-cookie").iter().count(), 2);
        }
    }

    #[test]
    fn what_is_not_said_is_assumed() {
        let (head, body) = Prelude::default().push(&whole("{}", b"")).unwrap().unwrap();
        assert_eq!((head.status, body.len()), (StatusCode::OK, 0));
        assert_eq!(head.headers["content-type"], UNNAMED);
    }

    #[test]
    fn what_is_no_prelude_is_refused() {
        for document in [
            "",
            "[]",
            "x",
            r#"{"statusCode":99}"#,
            r#"{"headers":{"a b":"c"}}"#,
            "\u{fffd}",
        ] {
            let pushed = Prelude::default().push(&whole(document, b"body"));
            assert_eq!(pushed, Err(Malformed), "{document}");
        }
        assert_eq!(
            Prelude::default().push(&whole("\u{0}", b"")),
            Err(Malformed)
        );
    }

    #[test]
    fn a_giant_prelude_is_not_kept() {
        let mut prelude = Prelude::default();
        let part = vec![b' '; 1 << 20];
        assert_eq!(prelude.push(&part), Err(Malformed));
        assert!(prelude.read.len() <= PRELUDE_MAX_BYTES + END.len());
        let mut prelude = Prelude::default();
        let mut pushed = Ok(None);
        for _ in 0..100 {
            pushed = prelude.push(&part[..1_000]);
            if pushed.is_err() {
                break;
            }
        }
        assert_eq!(pushed, Err(Malformed));
    }

    #[test]
    fn a_long_body_after_a_short_prelude_is_whole() {
        let bytes = whole("{}", &vec![7; 300_000]);
        let (_, body) = Prelude::default().push(&bytes).unwrap().unwrap();
        assert_eq!((body.len(), body.iter().all(|b| *b == 7)), (300_000, true));
    }
}
