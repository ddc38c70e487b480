//! Unpacks one layer from an untrusted archive, as it is: whiteouts stay files until layers are put together.
//!
//! Rules: nothing is written outside the target and no link is followed; links may point anywhere, since only the sandbox will
//! follow them; set-user-id bits, owners, extended attributes and device files are dropped; the work is bounded by bytes really
//! read and written and by entries; what was read is what the image's configuration names by its digest.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use flate2::read::MultiGzDecoder;
use hearth_core::ids::Digest;
use hearth_core::image::ReferenceError;
use hearth_core::limits::{IMAGE_ENTRIES_MAX, IMAGE_MAX_BYTES};
use sha2::{Digest as _, Sha256};
use tar::{Archive, Entry, EntryType, PaxExtensions};

use super::overlay::{Meaning, meaning};

/// Longest path of an entry, bytes: with the cache's own path before it, it stays below PATH_MAX.
const PATH_MAX_BYTES: usize = 2_048;
/// Longest part of a path, bytes; every Linux file system's NAME_MAX.
const NAME_MAX_BYTES: usize = 255;
/// Most directories above an entry. Ours: trees are walked by recursion, with a descriptor for each level.
const DEPTH_MAX: usize = 128;
/// Longest target of a symbolic link, bytes; Linux' PATH_MAX.
const LINK_TARGET_MAX: usize = 4_096;
/// Longest header that speaks of the entry after it, bytes. Ours: room for extended attributes.
const NOTE_MAX_BYTES: u64 = 1 << 20;
/// Bytes of a plain tar that are read at most: files, and headers of as many bytes again.
const STREAM_MAX_BYTES: u64 = 2 * IMAGE_MAX_BYTES;

/// Why a layer, and with it the image, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The function's reference is none.
    #[error("the image's name is not one: {0}")]
    Reference(#[source] ReferenceError),
    /// It is not a tar archive, or a damaged one.
    #[error("a layer of the image cannot be read as an archive: {0}. Push the image again")]
    Archive(String),
    /// Its content is not what the configuration says.
    #[error(
        "a layer of the image has other content than its configuration says. Push the image again"
    )]
    DiffId,
    /// An entry may not be what it is.
    #[error("entry {name:?} of a layer of the image {rule}")]
    Entry {
        /// Its name, shortened.
        name: String,
        /// What is wrong with it.
        rule: &'static str,
    },
    /// Too many bytes.
    #[error("the image has more than {IMAGE_MAX_BYTES} bytes unpacked. Make it smaller")]
    TooLarge,
    /// Too many entries.
    #[error("the image has more than {IMAGE_ENTRIES_MAX} files. Make it smaller")]
    TooManyEntries,
    /// The host's disk.
    #[error("cannot write {path}")]
    Disk {
        /// What was written.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl LayerError {
    /// Whether the image is at fault, and will be at every other worker.
    pub(crate) fn is_image_fault(&self) -> bool {
        !matches!(self, Self::Disk { .. })
    }
}

/// What the layers of one image that are being unpacked have used, together.
#[derive(Debug, Default)]
pub(super) struct Budget {
    bytes: AtomicU64,
    entries: AtomicU64,
}

impl Budget {
    fn take_bytes(&self, bytes: u64) -> Result<(), LayerError> {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > IMAGE_MAX_BYTES {
            return Err(LayerError::TooLarge);
        }
        Ok(())
    }

    fn take_entry(&self) -> Result<(), LayerError> {
        if self.entries.fetch_add(1, Ordering::Relaxed) >= IMAGE_ENTRIES_MAX {
            return Err(LayerError::TooManyEntries);
        }
        Ok(())
    }
}

/// Unpacks a layer into the existing, empty directory `root`; returns the bytes written.
pub(super) fn unpack(
    blob: impl Read,
    is_gzip: bool,
    diff_id: Digest,
    root: &Path,
    budget: &Budget,
) -> Result<u64, LayerError> {
    let blob = io::BufReader::new(blob);
    let plain: Box<dyn Read + '_> = if is_gzip {
        Box::new(MultiGzDecoder::new(blob))
    } else {
        Box::new(blob)
    };
    let mut plain = Hashed {
        inner: plain,
        hash: Sha256::new(),
        left: STREAM_MAX_BYTES,
    };
    let mut unpacker = Unpacker {
        root,
        budget,
        written: 0,
        directories: HashSet::new(),
    };
    unpacker.unpack(&mut plain)?;
    // What follows the end of the archive belongs to its digest.
    io::copy(&mut plain, &mut io::sink()).map_err(archive)?;
    if Digest(plain.hash.finalize().into()) != diff_id {
        return Err(LayerError::DiffId);
    }
    Ok(unpacker.written)
}

fn archive(error: impl std::fmt::Display) -> LayerError {
    LayerError::Archive(error.to_string())
}

/// Hashes what is read, and ends when too much is.
struct Hashed<R> {
    inner: R,
    hash: Sha256,
    left: u64,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.left = self
            .left
            .checked_sub(n as u64)
            .ok_or_else(|| io::Error::other("it does not end"))?;
        self.hash.update(&buffer[..n]);
        Ok(n)
    }
}

/// What entries say of the one after them.
#[derive(Default)]
struct Notes {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl Notes {
    fn gnu(entry: &mut impl Read) -> Result<Vec<u8>, LayerError> {
        let mut text = read_note(entry)?;
        while text.last() == Some(&0) {
            text.pop();
        }
        Ok(text)
    }

    fn take_pax(&mut self, entry: &mut impl Read, name: &str) -> Result<(), LayerError> {
        let text = read_note(entry)?;
        for record in PaxExtensions::new(&text) {
            let record = record.map_err(archive)?;
            match record.key_bytes() {
                b"path" => self.path = Some(record.value_bytes().to_vec()),
                b"linkpath" => self.link = Some(record.value_bytes().to_vec()),
                // Of files beyond 8 GiB, which no image has room for, and of files with holes.
                key if key == b"size" || key.starts_with(b"GNU.sparse") => {
                    return Err(refuse(name, "has a size that is not supported"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn read_note(entry: &mut impl Read) -> Result<Vec<u8>, LayerError> {
    let mut text = Vec::new();
    entry
        .take(NOTE_MAX_BYTES + 1)
        .read_to_end(&mut text)
        .map_err(archive)?;
    if text.len() as u64 > NOTE_MAX_BYTES {
        return Err(archive("a header is too long"));
    }
    Ok(text)
}

fn refuse(name: &str, rule: &'static str) -> LayerError {
    let name = name.chars().take(128).collect();
    LayerError::Entry { name, rule }
}

/// The path below the root. A leading `/` is the root; `..` is refused, although it might stay inside.
fn clean_path(bytes: &[u8]) -> Result<PathBuf, LayerError> {
    let name = String::from_utf8_lossy(bytes);
    if bytes.contains(&0) {
        return Err(refuse(&name, "has a NUL byte in its name"));
    }
    if bytes.len() > PATH_MAX_BYTES {
        return Err(refuse(&name, "has too long a path"));
    }
    let mut path = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(bytes)).components() {
        match component {
            Component::Normal(part) if part.len() > NAME_MAX_BYTES => {
                return Err(refuse(&name, "has too long a name in its path"));
            }
            Component::Normal(part) => path.push(part),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
            Component::ParentDir => return Err(refuse(&name, "leads out of the image")),
        }
    }
    if path.components().count() > DEPTH_MAX {
        return Err(refuse(&name, "lies too deep"));
    }
    Ok(path)
}

struct Unpacker<'a> {
    root: &'a Path,
    budget: &'a Budget,
    written: u64,
    /// Directories under the root known to be real ones. None ever becomes something else.
    directories: HashSet<PathBuf>,
}

impl Unpacker<'_> {
    fn unpack(&mut self, plain: &mut impl Read) -> Result<(), LayerError> {
        let mut tar = Archive::new(plain);
        let mut notes = Notes::default();
        // Raw: the library would read long names whole, however long they claim to be.
        for entry in tar.entries().map_err(archive)?.raw(true) {
            let mut entry = entry.map_err(archive)?;
            self.budget.take_entry()?;
            let name = String::from_utf8_lossy(&entry.header().path_bytes()).into_owned();
            match entry.header().entry_type() {
                EntryType::GNULongName => notes.path = Some(Notes::gnu(&mut entry)?),
                EntryType::GNULongLink => notes.link = Some(Notes::gnu(&mut entry)?),
                EntryType::XHeader => notes.take_pax(&mut entry, &name)?,
                EntryType::XGlobalHeader => {}
                _ => self.entry(&mut entry, std::mem::take(&mut notes))?,
            }
        }
        Ok(())
    }

    fn entry<R: Read>(&mut self, entry: &mut Entry<'_, R>, notes: Notes) -> Result<(), LayerError> {
        let header = entry.header();
        let bytes = match notes.path {
            Some(path) => path,
            None => header.path_bytes().into_owned(),
        };
        let (name, path) = (
            String::from_utf8_lossy(&bytes).into_owned(),
            clean_path(&bytes)?,
        );
        let Some(last) = path.file_name() else {
            return Ok(());
        };
        let mode = header.mode().map_err(archive)? & 0o777;
        let kind = header.entry_type();
        match meaning(last) {
            Meaning::Plain => {}
            Meaning::Ignored => return Ok(()),
            Meaning::Bad => return Err(refuse(&name, "takes away what it may not")),
            Meaning::Opaque | Meaning::Whiteout(_) => {
                return self.create(&name, &path, 0o600).map(drop);
            }
        }
        let link = || match notes.link {
            Some(link) => link,
            None => header.link_name_bytes().unwrap_or_default().into_owned(),
        };
        match kind {
            EntryType::Directory => self.directory(&name, &path, Some(mode)),
            EntryType::Regular | EntryType::Continuous => {
                let modified = header.mtime().map_err(archive)?;
                self.file(&name, &path, mode, modified, entry)
            }
            EntryType::Symlink => self.symlink(&name, &path, &link()),
            EntryType::Link => self.hard_link(&name, &path, &link()),
            // A function may have none: the sandbox's own are in /dev.
            EntryType::Char | EntryType::Block | EntryType::Fifo => Ok(()),
            _ => Err(refuse(&name, "is of a kind that is not supported")),
        }
    }

    fn disk(&self, path: &Path) -> impl FnOnce(io::Error) -> LayerError {
        let path = self.root.join(path);
        move |source| LayerError::Disk { path, source }
    }

    /// Makes the directory and its parents; every one of them is a real directory afterwards.
    fn directory(&mut self, name: &str, path: &Path, mode: Option<u32>) -> Result<(), LayerError> {
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        if !self.directories.contains(path) {
            self.parent_of(name, path)?;
            self.budget.take_entry()?;
            match fs::create_dir(self.root.join(path)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(refuse(
                        name,
                        "needs a directory where there is something else",
                    ));
                }
                Err(error) => return Err(self.disk(path)(error)),
            }
            self.directories.insert(path.to_owned());
            self.set_mode(path, 0o755)?;
        }
        mode.map_or(Ok(()), |mode| self.set_mode(path, mode))
    }

    fn set_mode(&self, path: &Path, mode: u32) -> Result<(), LayerError> {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(self.root.join(path), permissions).map_err(self.disk(path))
    }

    fn parent_of(&mut self, name: &str, path: &Path) -> Result<(), LayerError> {
        path.parent()
            .map_or(Ok(()), |parent| self.directory(name, parent, None))
    }

    /// Makes room for something that is no directory: the last entry of a name is the one that counts.
    fn make_room(&mut self, name: &str, path: &Path) -> Result<PathBuf, LayerError> {
        self.parent_of(name, path)?;
        if self.directories.contains(path) {
            return Err(refuse(name, "is a directory and something else at once"));
        }
        let full = self.root.join(path);
        match fs::remove_file(&full) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.disk(path)(error)),
            Ok(()) | Err(_) => Ok(full),
        }
    }

    fn create(&mut self, name: &str, path: &Path, mode: u32) -> Result<File, LayerError> {
        let full = self.make_room(name, path)?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(mode);
        let file = options.open(full).map_err(self.disk(path))?;
        file.set_permissions(fs::Permissions::from_mode(mode))
            .map_err(self.disk(path))?;
        Ok(file)
    }

    fn file(
        &mut self,
        name: &str,
        path: &Path,
        mode: u32,
        modified_s: u64,
        content: &mut impl Read,
    ) -> Result<(), LayerError> {
        let mut file = self.create(name, path, mode)?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let n = content.read(&mut buffer).map_err(archive)?;
            if n == 0 {
                break;
            }
            self.budget.take_bytes(n as u64)?;
            self.written += n as u64;
            file.write_all(&buffer[..n]).map_err(self.disk(path))?;
        }
        // Compiled Python is thrown away when its source seems to have changed.
        if let Some(modified) = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(modified_s))
        {
            // One that the file system cannot hold is no reason to refuse the image.
            let _ = file.set_times(FileTimes::new().set_modified(modified));
        }
        Ok(())
    }

    fn symlink(&mut self, name: &str, path: &Path, target: &[u8]) -> Result<(), LayerError> {
        if target.is_empty() || target.contains(&0) || target.len() >= LINK_TARGET_MAX {
            return Err(refuse(name, "is a symbolic link without a usable target"));
        }
        let full = self.make_room(name, path)?;
        symlink(OsStr::from_bytes(target), full).map_err(self.disk(path))
    }

    fn hard_link(&mut self, name: &str, path: &Path, target: &[u8]) -> Result<(), LayerError> {
        let target = clean_path(target)?;
        let is_real =
            |parent: &Path| parent.as_os_str().is_empty() || self.directories.contains(parent);
        let from = self.root.join(&target);
        let is_file = || fs::symlink_metadata(&from).is_ok_and(|meta| !meta.is_dir());
        if target == path || !target.parent().is_some_and(is_real) || !is_file() {
            return Err(refuse(name, "is a hard link to what is not in its layer"));
        }
        let full = self.make_room(name, path)?;
        fs::hard_link(&from, full).map_err(self.disk(path))
    }
}

#[cfg(test)]
#[path = "layer_tests.rs"]
mod tests;
