//! What is done to segments' files. Everything here blocks.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use bytes::BytesMut;

use crate::record::{Record, put_trailer};
use crate::table::Table;

/// For owners alone: functions print what is nobody else's business.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// Makes a file that is not there, and the folders above it.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        make_folder(folder)?;
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    options.mode(FILE_MODE).open(path)
}

pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(FOLDER_MODE).create(path)
}

/// Opens a file to write on.
pub(crate) fn reopen(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// Ends a segment: footer and trailer behind the records, everything durable, and its name too.
pub(crate) fn seal(file: &File, path: &Path, salt: u64, end: u64, table: &Table) -> io::Result<()> {
    let mut out = BytesMut::new();
    Record::Footer(&table.encode()).put(salt, &mut out);
    put_trailer(end, &mut out);
    file.write_all_at(&out, end)?;
    file.set_len(end + out.len() as u64)?;
    file.sync_all()?;
    path.parent()
        .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Deletes a segment, and the folders that are empty without it. The account's stays.
pub(crate) fn delete(root: &Path, path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let folders = path.ancestors().skip(1);
    let below = folders.take_while(|folder| folder.parent().is_some_and(|up| up != root));
    for folder in below {
        if !folder.starts_with(root) || fs::remove_dir(folder).is_err() {
            // It is not empty.
            break;
        }
    }
    Ok(())
}
