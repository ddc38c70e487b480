//! What a store finds when it is opened. Of a closed segment only the footer is read. One that is not closed is read whole, what
//! is no whole record at its end is cut off, and it is closed.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use hearth_core::ids::AccountId;
use hearth_core::logs::{GroupName, StreamName};
use tracing::warn;

use crate::error::StoreError;
use crate::event::GroupKey;
use crate::files;
use crate::index::{Index, Segment};
use crate::path::{CONTINUED, name_of, seq_of};
use crate::record::{HEADER_BYTES, Record, Scanner};
use crate::table::{Row, Table};

/// Deeper folders are none of ours: a group's longest encoded name has 1,536 bytes, 200 to a folder.
const DEPTH_MAX: usize = 9;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) index: Index,
    /// The largest number of a segment, whether it could be read or not.
    pub(crate) last_seq: u64,
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io {
        operation,
        path,
        source,
    }
}

/// Entries of a folder by name; what has no name in UTF-8 is none of ours.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf, bool)>, StoreError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed("list", folder))? {
        let entry = entry.map_err(failed("list", folder))?;
        let kind = entry
            .file_type()
            .map_err(failed("look at", &entry.path()))?;
        if let Ok(name) = entry.file_name().into_string() {
            found.push((name, entry.path(), kind.is_dir()));
        }
    }
    found.sort();
    Ok(found)
}

/// Looks through the directory.
pub(crate) fn recover(root: &Path) -> Result<Found, StoreError> {
    files::make_folder(root).map_err(failed("make", root))?;
    let mut found = Found::default();
    for (name, path, is_folder) in entries(root)? {
        match name.parse::<AccountId>() {
            Ok(account) if is_folder => {
                for (group, folder) in groups(&path)? {
                    let account = account.clone();
                    read_group(&GroupKey { account, group }, &folder, &mut found)?;
                }
            }
            _ => warn!(path = %path.display(), "not the log store's: left alone"),
        }
    }
    Ok(found)
}

/// Groups below an account's folder with where they are.
fn groups(account: &Path) -> Result<Vec<(GroupName, PathBuf)>, StoreError> {
    let mut found = Vec::new();
    let mut open = vec![(Vec::new(), account.to_owned())];
    while let Some((folders, path)) = open.pop() {
        for (name, path, is_folder) in entries(&path)? {
            let is_continued = name.ends_with(CONTINUED);
            let mut folders = folders.clone();
            folders.push(name);
            if is_folder && is_continued && folders.len() < DEPTH_MAX {
                open.push((folders, path));
            } else if let Some(group) = name_of(&folders).filter(|_| is_folder) {
                found.push((group, path));
            } else {
                warn!(path = %path.display(), "not the log store's: left alone");
            }
        }
    }
    Ok(found)
}

fn read_group(key: &GroupKey, folder: &Path, found: &mut Found) -> Result<(), StoreError> {
    for (name, path, is_folder) in entries(folder)? {
        let Some(seq) = seq_of(&name).filter(|_| !is_folder) else {
            warn!(path = %path.display(), "not the log store's: left alone");
            continue;
        };
        found.last_seq = found.last_seq.max(seq);
        match read_segment(&path) {
            Ok(Some(segment)) => found.index.insert(key, seq, segment),
            Ok(None) => {}
            // One bad file is no reason to have no logs.
            Err(error) => {
                warn!(path = %path.display(), %error, "segment of logs cannot be read: left alone");
            }
        }
    }
    Ok(())
}

/// What a segment has; `None`: nothing.
fn read_segment(path: &Path) -> io::Result<Option<Segment>> {
    let file = files::reopen(path)?;
    let length = file.metadata()?.len();
    let Some(mut scanner) = Scanner::new(BufReader::new(file.try_clone()?), length)? else {
        return without_header(path, length);
    };
    let opened_ms = scanner.header().opened_ms;
    if let Some((end, table)) = scanner.footer()?
        && let Some(table) = Table::decode(table)
    {
        return Ok(Some(Segment {
            end,
            opened_ms,
            is_active: false,
            table,
        }));
    }
    let (end, table) = scan(&mut scanner)?;
    close(path, &file, scanner.header().salt, (end, length), table).map(|table| {
        table.map(|table| Segment {
            end,
            opened_ms,
            is_active: false,
            table,
        })
    })
}

/// A file whose header was never whole goes; one with another header may be a later release's.
fn without_header(path: &Path, length: u64) -> io::Result<Option<Segment>> {
    if length < HEADER_BYTES {
        fs::remove_file(path)?;
    } else {
        warn!(path = %path.display(), "not a segment of logs: left alone");
    }
    Ok(None)
}

/// Closes what a crash left open.
fn close(
    path: &Path,
    file: &File,
    salt: u64,
    (end, length): (u64, u64),
    table: Table,
) -> io::Result<Option<Table>> {
    if table.total().events == 0 {
        fs::remove_file(path)?;
        return Ok(None);
    }
    if end < length {
        warn!(path = %path.display(), cut = length - end, "end of a segment of logs is cut off: it was not written whole");
    }
    files::seal(file, path, salt, end, &table)?;
    Ok(Some(table))
}

/// Reads all whole records: where they end, and what they have.
fn scan(scanner: &mut Scanner<BufReader<File>>) -> io::Result<(u64, Table)> {
    let mut table = Table::default();
    let mut names: Vec<StreamName> = Vec::new();
    let mut end = scanner.offset();
    while let Some(record) = scanner.next()? {
        match record {
            Record::Stream { number, name } => {
                let is_next = usize::try_from(number).is_ok_and(|number| number == names.len());
                match name.parse() {
                    Ok(name) if is_next => names.push(name),
                    _ => break,
                }
            }
            Record::Event {
                timestamp_ms,
                ingested,
                stream,
                message,
            } => {
                let Some(name) = usize::try_from(stream).ok().and_then(|n| names.get(n)) else {
                    break;
                };
                let row = Row::of_event(stream, timestamp_ms, ingested, message.len());
                table.add(name, &row);
            }
            // Of a trailer that was torn off.
            Record::Footer(_) => break,
        }
        end = scanner.offset();
    }
    Ok((end, table))
}
