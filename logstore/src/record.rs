//! The format of a segment's file. Numbers are big endian.
//!
//! ```text
//! segment = header record* [footer trailer]
//! header  = "HLOGSEG1" opened_ms:u64 salt:u64 crc:u32             crc of what is before it
//! record  = length:u32 crc:u32 body                               of the body's bytes; crc of salt and body
//! body    = 1 timestamp_ms:u64 ingested:u64 stream:u32 message    an event
//!         | 2 stream:u32 name                                     before the first event of a stream in this segment
//! footer  = record with the body 3 table                          of a closed segment; the table is `table.rs`'s
//! trailer = footer's offset:u64 "HLOGEND1"
//! ```
//!
//! All crcs are CRC-32 (IEEE). The salt is drawn for each segment and told to nobody: what a function prints may look like a
//! record or a footer, but cannot have the crc of one, so that a torn file is never misread.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use bytes::{BufMut, BytesMut};

use crate::event::MESSAGE_MAX_BYTES;

const MAGIC: &[u8; 8] = b"HLOGSEG1";
const END: &[u8; 8] = b"HLOGEND1";
const HEADER_LENGTH: usize = 28;
const TRAILER_LENGTH: usize = 16;
const FRAME_LENGTH: usize = 8;
/// Length of a header.
pub(crate) const HEADER_BYTES: u64 = HEADER_LENGTH as u64;
/// Length of a trailer.
pub(crate) const TRAILER_BYTES: u64 = TRAILER_LENGTH as u64;
/// Length of a record without its body.
pub(crate) const FRAME_BYTES: u64 = FRAME_LENGTH as u64;
/// Length of an event's body without the message.
const EVENT_BYTES: u64 = 21;
/// Length of a stream's body without the name.
const STREAM_BYTES: u64 = 5;
/// A body is no longer: that of an event with the longest message, and more than twice as much as a table may have.
const BODY_MAX_BYTES: u64 = 4 << 20;
const _: () = assert!(MESSAGE_MAX_BYTES as u64 + EVENT_BYTES < BODY_MAX_BYTES);

const EVENT: u8 = 1;
const STREAM: u8 = 2;
const FOOTER: u8 = 3;

/// What a file begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// When it was made.
    pub(crate) opened_ms: u64,
    /// What crcs begin with.
    pub(crate) salt: u64,
}

impl Header {
    pub(crate) fn put(self, out: &mut BytesMut) {
        let start = out.len();
        out.put_slice(MAGIC);
        out.put_u64(self.opened_ms);
        out.put_u64(self.salt);
        out.put_u32(crc32fast::hash(&out[start..]));
    }

    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (before, crc) = bytes.split_at_checked(24)?;
        let is_ours = before.starts_with(MAGIC) && crc == crc32fast::hash(before).to_be_bytes();
        is_ours.then(|| Self {
            opened_ms: number(&before[8..16]),
            salt: number(&before[16..24]),
        })
    }
}

/// A big-endian number of up to eight bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

/// Takes a number of so many bytes off the front.
pub(crate) fn take(bytes: &mut &[u8], length: usize) -> Option<u64> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(number(taken))
}

/// What is in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    Event {
        timestamp_ms: u64,
        ingested: u64,
        stream: u32,
        message: &'a [u8],
    },
    Stream {
        number: u32,
        name: &'a str,
    },
    Footer(&'a [u8]),
}

impl<'a> Record<'a> {
    fn read(body: &'a [u8]) -> Option<Self> {
        let (kind, mut rest) = body.split_first()?;
        let bytes = &mut rest;
        match *kind {
            EVENT => Some(Self::Event {
                timestamp_ms: take(bytes, 8)?,
                ingested: take(bytes, 8)?,
                stream: u32::try_from(take(bytes, 4)?).ok()?,
                message: bytes,
            }),
            STREAM => Some(Self::Stream {
                number: u32::try_from(take(bytes, 4)?).ok()?,
                name: str::from_utf8(bytes).ok()?,
            }),
            FOOTER => Some(Self::Footer(bytes)),
            _ => None,
        }
    }

    fn put_body(self, out: &mut BytesMut) {
        match self {
            Self::Event {
                timestamp_ms,
                ingested,
                stream,
                message,
            } => {
                out.put_u8(EVENT);
                out.put_u64(timestamp_ms);
                out.put_u64(ingested);
                out.put_u32(stream);
                out.put_slice(message);
            }
            Self::Stream { number, name } => {
                out.put_u8(STREAM);
                out.put_u32(number);
                out.put_slice(name.as_bytes());
            }
            Self::Footer(table) => {
                out.put_u8(FOOTER);
                out.put_slice(table);
            }
        }
    }

    /// Appends the record of a segment with this salt.
    pub(crate) fn put(self, salt: u64, out: &mut BytesMut) {
        let start = out.len();
        out.put_u64(0);
        self.put_body(out);
        let body = &out[start + 8..];
        let length = u32::try_from(body.len()).expect("messages, names and tables are limited");
        let crc = crc(salt, body);
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
        out[start + 4..start + 8].copy_from_slice(&crc.to_be_bytes());
    }
}

fn crc(salt: u64, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_be_bytes());
    hasher.update(body);
    hasher.finalize()
}

/// Length of an event's record.
pub(crate) fn event_bytes(message: usize) -> u64 {
    FRAME_BYTES + EVENT_BYTES + message as u64
}

/// Length of a stream's record.
pub(crate) fn stream_bytes(name: &str) -> u64 {
    FRAME_BYTES + STREAM_BYTES + name.len() as u64
}

/// Appends what says where the footer is.
pub(crate) fn put_trailer(footer: u64, out: &mut BytesMut) {
    out.put_u64(footer);
    out.put_slice(END);
}

/// Reads records one after another, from a file of which others may write what is behind `end`.
pub(crate) struct Scanner<R = BufReader<File>> {
    input: R,
    header: Header,
    offset: u64,
    end: u64,
    body: Vec<u8>,
}

impl<R: Read + Seek> Scanner<R> {
    /// At the first record, or `None`: this is no segment.
    pub(crate) fn new(mut input: R, end: u64) -> io::Result<Option<Self>> {
        let mut bytes = [0; HEADER_LENGTH];
        if end < HEADER_BYTES {
            return Ok(None);
        }
        input.seek(SeekFrom::Start(0))?;
        input.read_exact(&mut bytes)?;
        Ok(Header::read(&bytes).map(|header| Self {
            input,
            header,
            offset: HEADER_BYTES,
            end,
            body: Vec::new(),
        }))
    }

    pub(crate) fn header(&self) -> Header {
        self.header
    }

    /// Behind the last record that was read.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next record. `None`: the end, or what is there is no whole record.
    pub(crate) fn next(&mut self) -> io::Result<Option<Record<'_>>> {
        let left = self.end.saturating_sub(self.offset);
        if left < FRAME_BYTES {
            return Ok(None);
        }
        let mut frame = [0; FRAME_LENGTH];
        self.input.read_exact(&mut frame)?;
        let length = number(&frame[..4]);
        if length > BODY_MAX_BYTES.min(left - FRAME_BYTES) {
            return Ok(None);
        }
        self.body.resize(usize::try_from(length).unwrap_or(0), 0);
        self.input.read_exact(&mut self.body)?;
        if u64::from(crc(self.header.salt, &self.body)) != number(&frame[4..]) {
            return Ok(None);
        }
        let record = Record::read(&self.body);
        if record.is_some() {
            self.offset += FRAME_BYTES + length;
        }
        Ok(record)
    }

    /// Whether all that was to be read was read.
    pub(crate) fn is_at_end(&self) -> bool {
        self.offset == self.end
    }

    /// The table of a closed segment and where its records end; back at the first record if it is none.
    pub(crate) fn footer(&mut self) -> io::Result<Option<(u64, &[u8])>> {
        let found = self.find_footer()?;
        if found.is_none() {
            self.offset = HEADER_BYTES;
            self.input.seek(SeekFrom::Start(HEADER_BYTES))?;
        }
        // The body's first byte is its kind.
        Ok(found.map(|offset| (offset, &self.body[1..])))
    }

    fn find_footer(&mut self) -> io::Result<Option<u64>> {
        let Some(trailer_at) = self.end.checked_sub(TRAILER_BYTES) else {
            return Ok(None);
        };
        let mut trailer = [0; TRAILER_LENGTH];
        self.input.seek(SeekFrom::Start(trailer_at))?;
        self.input.read_exact(&mut trailer)?;
        let footer = number(&trailer[..8]);
        if &trailer[8..] != END || !(HEADER_BYTES..trailer_at).contains(&footer) {
            return Ok(None);
        }
        self.input.seek(SeekFrom::Start(footer))?;
        self.offset = footer;
        let is_footer = matches!(self.next()?, Some(Record::Footer(_)));
        Ok((is_footer && self.offset == trailer_at).then_some(footer))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    const HEADER: Header = Header {
        opened_ms: 7,
        salt: 0x1234_5678_9abc_def0,
    };

    fn segment(records: &[Record<'_>]) -> BytesMut {
        let mut out = BytesMut::new();
        HEADER.put(&mut out);
        records
            .iter()
            .for_each(|record| record.put(HEADER.salt, &mut out));
        out
    }

    fn event(message: &[u8]) -> Record<'_> {
        Record::Event {
            timestamp_ms: 1,
            ingested: 2,
            stream: 3,
            message,
        }
    }

    fn scanner(bytes: &[u8]) -> Scanner<Cursor<&[u8]>> {
        Scanner::new(Cursor::new(bytes), bytes.len() as u64)
            .unwrap()
            .unwrap()
    }

    #[test]
    fn records_are_read_as_written() {
        let records = [
            Record::Stream {
                number: 3,
                name: "é",
            },
            event(b"hello"),
            event(b""),
        ];
        let bytes = segment(&records);
        let mut scanner = scanner(&bytes);
        assert_eq!(scanner.header(), HEADER);
        for record in records {
            assert_eq!(scanner.next().unwrap(), Some(record));
        }
        assert!(scanner.next().unwrap().is_none() && scanner.is_at_end());
        let lengths = stream_bytes("é") + event_bytes(5) + event_bytes(0);
        assert_eq!(bytes.len() as u64, HEADER_BYTES + lengths);
    }

    #[test]
    fn the_format_is_as_it_was() {
        let bytes = segment(&[event(b"m")]);
        assert_eq!(
            bytes
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>(),
            GOLDEN
        );
    }

    /// As the first release wrote it.
    const GOLDEN: &str = concat!(
        "484c4f47534547310000000000000007123456789abcdef09c16bc28",
        "0000001670288e740100000000000000010000000000000002000000036d",
    );

    #[test]
    fn one_other_byte_is_no_record() {
        let bytes = segment(&[event(b"hello")]);
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            let scanner = Scanner::new(Cursor::new(&bytes[..]), bytes.len() as u64).unwrap();
            assert!(
                scanner.is_none_or(|mut s| s.next().unwrap().is_none()),
                "{at}"
            );
        }
    }

    #[test]
    fn a_footer_is_found_and_one_that_was_printed_is_not() {
        let mut bytes = segment(&[event(b"a")]);
        let footer = bytes.len() as u64;
        Record::Footer(b"table").put(HEADER.salt, &mut bytes);
        put_trailer(footer, &mut bytes);
        let found = scanner(&bytes)
            .footer()
            .unwrap()
            .map(|(at, table)| (at, table.to_vec()));
        assert_eq!(found, Some((footer, b"table".to_vec())));
        // Who prints does not know the salt; the offset can be guessed.
        let mut printed = BytesMut::new();
        let offset = HEADER_BYTES + event_bytes(0);
        Record::Footer(b"forged").put(0, &mut printed);
        put_trailer(offset, &mut printed);
        let bytes = segment(&[event(&printed)]);
        let mut scanner = scanner(&bytes);
        assert!(scanner.footer().unwrap().is_none());
        assert_eq!(scanner.next().unwrap(), Some(event(&printed)));
    }
}
