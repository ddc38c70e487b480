//! What is wrong with malformed JSON, in the words of Jackson, which AWS's answers quote.

/// Characters of the document that Jackson shows.
const SHOWN_CHARS: usize = 500;
const EXPECTED: &str = "JSON String, Number, Array, Object or token 'null', 'true' or 'false'";

/// Whether the answer quotes the document. Only an event is quoted: a request body may hold an
/// environment's secrets, and messages end in logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quote {
    Document,
    Nothing,
}

/// Jackson's sentence about a document that `error` refused.
pub(crate) fn describe(document: &[u8], error: &serde_json::Error, quote: Quote) -> String {
    let text = String::from_utf8_lossy(document);
    let (line, column) = (error.line(), error.column());
    let at = text
        .split('\n')
        .nth(line.saturating_sub(1))
        .map_or("", |line| rest_from(line, column));
    let what = match at.chars().next() {
        Some(c) if c.is_alphabetic() => {
            let token: String = at.chars().take_while(|c| c.is_alphanumeric()).collect();
            format!("Unrecognized token '{token}': was expecting ({EXPECTED})")
        }
        Some(c) if !error.is_eof() => format!(
            "Unexpected character ('{c}' (code {})): expected a valid value ({EXPECTED})",
            u32::from(c)
        ),
        Some(_) | None => "Unexpected end-of-input".to_owned(),
    };
    let source = match quote {
        Quote::Document => {
            let shown: String = text.chars().take(SHOWN_CHARS).collect();
            format!("(byte[])\"{shown}\"")
        }
        Quote::Nothing => "(byte[])".to_owned(),
    };
    format!("{what}\n at [Source: {source}; line: {line}, column: {column}]")
}

/// The line from its `column`th byte, counted from 1. A column may lie inside a character that was
/// replaced, or behind the end.
fn rest_from(line: &str, column: usize) -> &str {
    let from = column.saturating_sub(1);
    let start = (from..=line.len()).find(|&i| line.is_char_boundary(i));
    start.map_or("", |start| &line[start..])
}

#[cfg(test)]
mod tests {
    use serde::de::IgnoredAny;

    use super::*;

    #[test]
    fn malformed_documents_are_described_as_jackson_does() {
        let cases = [
            ("{", "Unexpected end-of-input", "line: 1, column: 1]"),
            ("x y", "Unrecognized token 'x': was", "line: 1, column: 1]"),
            (
                "{\n 'a'}",
                "Unexpected character (''' (code 39))",
                "line: 2, column: 2]",
            ),
            (
                "[1,]",
                "Unexpected character (']' (code 93))",
                "line: 1, column: 4]",
            ),
        ];
        for (document, start, end) in cases {
            let error = serde_json::from_str::<IgnoredAny>(document).unwrap_err();
            let text = describe(document.as_bytes(), &error, Quote::Document);
            assert!(text.starts_with(start) && text.ends_with(end), "{text}");
        }
    }

    #[test]
    fn any_bytes_can_be_described() {
        let documents: [&[u8]; 4] = [
            b"\xff\xfe",
            b"\"\xe9",
            b"{\"\xc3\xa9\":\xc3\xa9}",
            b"\n\n\xff",
        ];
        for document in documents {
            let error = serde_json::from_slice::<IgnoredAny>(document).unwrap_err();
            assert!(!describe(document, &error, Quote::Document).is_empty());
        }
    }
}
