//! Segments that are appended to: one for each group at most, and of those only some with an open file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use hearth_core::logs::StreamName;

use crate::files;
use crate::record::{HEADER_BYTES, Header, Record, event_bytes, stream_bytes};
use crate::table::{Row, Table};

/// An event that has its number.
#[derive(Clone, Debug)]
pub(crate) struct Numbered {
    pub(crate) timestamp_ms: u64,
    pub(crate) ingested: u64,
    pub(crate) stream: StreamName,
    pub(crate) message: Bytes,
}

/// See the module. What is put is in memory until it is flushed.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) seq: u64,
    pub(crate) header: Header,
    path: PathBuf,
    file: Option<File>,
    /// Where what is written ends.
    end: u64,
    /// With what is put and not flushed.
    table: Table,
    pending: BytesMut,
    /// What is new of streams since the last flush.
    rows: Vec<(StreamName, Row)>,
    /// Written and not yet durable.
    pub(crate) is_dirty: bool,
    /// When it was used last, by a count of uses.
    pub(crate) used: u64,
}

impl Active {
    /// Makes a segment with its header alone.
    pub(crate) fn create(path: PathBuf, seq: u64, header: Header) -> io::Result<Self> {
        let file = files::create(&path)?;
        let mut out = BytesMut::new();
        header.put(&mut out);
        if let Err(error) = file.write_all_at(&out, 0) {
            // A full disk must not stay fuller for the attempt.
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        Ok(Self {
            seq,
            header,
            path,
            file: Some(file),
            end: HEADER_BYTES,
            table: Table::default(),
            pending: BytesMut::new(),
            rows: Vec::new(),
            is_dirty: true,
            used: 0,
        })
    }

    pub(crate) fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// Where everything that was put will end.
    pub(crate) fn put_end(&self) -> u64 {
        self.end + self.pending.len() as u64
    }

    /// What was put and is not written.
    pub(crate) fn pending_bytes(&self) -> u64 {
        self.pending.len() as u64
    }

    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    /// Length of what putting an event adds.
    pub(crate) fn bytes_of(&self, event: &Numbered) -> u64 {
        let (_, is_new) = self.table.number_of(&event.stream);
        let stream = if is_new {
            stream_bytes(event.stream.as_str())
        } else {
            0
        };
        stream + event_bytes(event.message.len())
    }

    /// Adds an event to what is flushed next.
    pub(crate) fn put(&mut self, event: &Numbered) {
        let (number, is_new) = self.table.number_of(&event.stream);
        if is_new {
            let name = event.stream.as_str();
            Record::Stream { number, name }.put(self.header.salt, &mut self.pending);
        }
        let record = Record::Event {
            timestamp_ms: event.timestamp_ms,
            ingested: event.ingested,
            stream: number,
            message: &event.message,
        };
        record.put(self.header.salt, &mut self.pending);
        let length = event.message.len();
        let row = Row::of_event(number, event.timestamp_ms, event.ingested, length);
        self.table.add(&event.stream, &row);
        match self.rows.last_mut() {
            Some((last, known)) if *last == event.stream => known.add(&row),
            _ => self.rows.push((event.stream.clone(), row)),
        }
    }

    fn file(&mut self) -> io::Result<&File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => files::reopen(&self.path)?,
        };
        Ok(self.file.insert(file))
    }

    /// Writes what was put. Says where the segment ends now, and what is new of its streams.
    pub(crate) fn flush(&mut self) -> io::Result<(u64, Vec<(StreamName, Row)>)> {
        let (pending, end) = (std::mem::take(&mut self.pending), self.end);
        self.file()?.write_all_at(&pending, end)?;
        self.end += pending.len() as u64;
        self.is_dirty = true;
        Ok((self.end, std::mem::take(&mut self.rows)))
    }

    /// After a flush that failed: what was put is forgotten, and the table is as what is written has it. The next flush writes
    /// over what there may be behind the end.
    pub(crate) fn roll_back(&mut self, table: Table) {
        self.pending.clear();
        self.rows.clear();
        self.table = table;
    }

    /// Makes what was written durable.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if self.is_dirty {
            self.file()?.sync_data()?;
            self.is_dirty = false;
        }
        Ok(())
    }

    /// Closes the file, not the segment.
    pub(crate) fn drop_file(&mut self) {
        self.file = None;
    }

    /// Writes the footer; nothing is appended afterwards.
    pub(crate) fn seal(mut self) -> io::Result<()> {
        let (salt, end) = (self.header.salt, self.end);
        let path = self.path.clone();
        self.file()?;
        let file = self.file.as_ref().expect("it was opened");
        files::seal(file, &path, salt, end, &self.table)
    }
}
