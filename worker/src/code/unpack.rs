//! Unpacks a deployment package from an untrusted archive. Where archives come from and how long trees are kept is
//! not here.
//!
//! Rules: nothing is written outside the target, no symbolic link is followed or leads out, the work is bounded by
//! bytes really written and by entries, and the tree ends up readable by the function's user and owned by the worker.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use hearth_core::limits::{UNZIPPED_MAX_BYTES, ZIP_ENTRIES_MAX};
use zip::ZipArchive;
use zip::result::ZipError;

/// Longest target of a symbolic link, bytes; Linux' PATH_MAX.
const LINK_TARGET_MAX: u64 = 4_096;

/// Longest path of an entry, bytes: with the cache's own path before it, it stays below PATH_MAX.
const PATH_MAX_BYTES: usize = 2_048;

/// Longest part of a path, bytes; every Linux file system's NAME_MAX.
const NAME_MAX_BYTES: usize = 255;

/// Most directories above an entry. Ours: trees are walked by recursion, with a descriptor for each level.
const DEPTH_MAX: usize = 128;

/// Bounds of one archive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnpackLimits {
    /// Bytes of all files together.
    pub(crate) bytes: u64,
    /// Entries of all kinds; as many directories again may be made for the entries' paths.
    pub(crate) entries: usize,
}

impl Default for UnpackLimits {
    fn default() -> Self {
        Self {
            bytes: UNZIPPED_MAX_BYTES,
            entries: ZIP_ENTRIES_MAX,
        }
    }
}

/// Why an archive was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It is not a zip archive, or a damaged one.
    #[error("the deployment package cannot be read as a zip archive: {0}")]
    Archive(String),
    /// An entry may not be what it is.
    #[error("entry {name:?} of the deployment package {rule}")]
    Entry {
        /// Its name.
        name: String,
        /// What is wrong with it.
        rule: &'static str,
    },
    /// Too much of it.
    #[error("Unzipped size must be smaller than {0} bytes")]
    TooLarge(u64),
    /// Too many entries.
    #[error("the deployment package has more than {0} entries")]
    TooManyEntries(usize),
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

impl UnpackError {
    /// Whether the archive is at fault (and will be at every other worker).
    pub(crate) fn is_archive_fault(&self) -> bool {
        !matches!(self, Self::Disk { .. })
    }
}

struct Unpacker<'a> {
    root: &'a Path,
    limits: UnpackLimits,
    written: u64,
    /// Directories under the root known to be real ones.
    directories: HashSet<PathBuf>,
    /// Made last, so that no file is ever written through one.
    links: Vec<(PathBuf, PathBuf)>,
}

/// Unpacks `archive` into the existing, empty directory `root`; returns the bytes written.
pub(crate) fn unpack<R: Read + Seek>(
    archive: R,
    root: &Path,
    limits: UnpackLimits,
) -> Result<u64, UnpackError> {
    let mut archive = ZipArchive::new(archive).map_err(archive_error)?;
    if archive.len() > limits.entries {
        return Err(UnpackError::TooManyEntries(limits.entries));
    }
    let mut unpacker = Unpacker {
        root,
        limits,
        written: 0,
        directories: HashSet::new(),
        links: Vec::new(),
    };
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(archive_error)?;
        let name = entry
            .name()
            .map_or_else(|_| format!("number {index}"), |name| name.into_owned());
        let path = clean_path(&name)?;
        if entry.is_dir() {
            unpacker.directory(&path)?;
        } else if entry.is_symlink() {
            unpacker.link(&name, path, &mut entry)?;
        } else {
            let executable = entry.unix_mode().is_some_and(|mode| mode & 0o111 != 0);
            unpacker.file(&name, &path, executable, &mut entry)?;
        }
    }
    unpacker.make_links()?;
    Ok(unpacker.written)
}

fn archive_error(error: ZipError) -> UnpackError {
    UnpackError::Archive(error.to_string())
}

/// The entry's path below the root: no absolute path, no `..`, no NUL, not empty unless the root itself.
fn clean_path(name: &str) -> Result<PathBuf, UnpackError> {
    let refuse = |rule| UnpackError::Entry {
        name: name.to_owned(),
        rule,
    };
    if name.contains('\0') {
        return Err(refuse("has a NUL byte in its name"));
    }
    if name.len() > PATH_MAX_BYTES {
        let name = format!("{}...", name.chars().take(64).collect::<String>());
        let rule = "has too long a path";
        return Err(UnpackError::Entry { name, rule });
    }
    let mut path = PathBuf::new();
    for component in Path::new(name).components() {
        match component {
            Component::Normal(part) if part.len() > NAME_MAX_BYTES => {
                return Err(refuse("has too long a name in its path"));
            }
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => {
                return Err(refuse("has an absolute path"));
            }
            Component::ParentDir => return Err(refuse("leads out of the package")),
        }
    }
    if path.components().count() > DEPTH_MAX {
        return Err(refuse("lies too deep"));
    }
    Ok(path)
}

/// Whether a link at `path` to `target` stays inside, read as text.
fn stays_inside(path: &Path, target: &Path) -> bool {
    let mut depth = path.components().count().saturating_sub(1);
    for component in target.components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

impl Unpacker<'_> {
    fn disk(&self, path: &Path) -> impl FnOnce(io::Error) -> UnpackError {
        let path = self.root.join(path);
        move |source| UnpackError::Disk { path, source }
    }

    /// Makes the directory and its parents; every one of them is a real directory afterwards.
    fn directory(&mut self, path: &Path) -> Result<(), UnpackError> {
        if path.as_os_str().is_empty() || self.directories.contains(path) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.directory(parent)?;
        }
        if self.directories.len() >= self.limits.entries {
            return Err(UnpackError::TooManyEntries(self.limits.entries));
        }
        let full = self.root.join(path);
        match fs::create_dir(&full) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                return Err(UnpackError::Entry {
                    name: path.display().to_string(),
                    rule: "is a directory and something else at once",
                });
            }
            Err(e) => return Err(self.disk(path)(e)),
        }
        fs::set_permissions(&full, fs::Permissions::from_mode(0o755)).map_err(self.disk(path))?;
        self.directories.insert(path.to_owned());
        Ok(())
    }

    fn parent_of(&mut self, path: &Path) -> Result<(), UnpackError> {
        path.parent()
            .map_or(Ok(()), |parent| self.directory(parent))
    }

    fn file(
        &mut self,
        name: &str,
        path: &Path,
        executable: bool,
        content: &mut impl Read,
    ) -> Result<(), UnpackError> {
        self.parent_of(path)?;
        // Set-user-id bits are dropped; everybody may read, as the function's user is not the owner.
        let mode = if executable { 0o755 } else { 0o644 };
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .custom_flags(libc::O_NOFOLLOW)
            .open(self.root.join(path))
            .map_err(|e| match e.raw_os_error() {
                Some(libc::EISDIR | libc::ELOOP) => UnpackError::Entry {
                    name: name.to_owned(),
                    rule: "is a file and something else at once",
                },
                _ => self.disk(path)(e),
            })?;
        file.set_permissions(fs::Permissions::from_mode(mode))
            .map_err(self.disk(path))?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let n = content
                .read(&mut buffer)
                .map_err(|e| UnpackError::Archive(e.to_string()))?;
            if n == 0 {
                return Ok(());
            }
            self.written += n as u64;
            if self.written > self.limits.bytes {
                return Err(UnpackError::TooLarge(self.limits.bytes));
            }
            file.write_all(&buffer[..n]).map_err(self.disk(path))?;
        }
    }

    fn link(
        &mut self,
        name: &str,
        path: PathBuf,
        content: &mut impl Read,
    ) -> Result<(), UnpackError> {
        let refuse = |rule| UnpackError::Entry {
            name: name.to_owned(),
            rule,
        };
        let mut target = String::new();
        content
            .take(LINK_TARGET_MAX + 1)
            .read_to_string(&mut target)
            .map_err(|e| UnpackError::Archive(e.to_string()))?;
        if target.is_empty() || target.contains('\0') || target.len() as u64 > LINK_TARGET_MAX {
            return Err(refuse("is a symbolic link without a usable target"));
        }
        let target = PathBuf::from(target);
        if !stays_inside(&path, &target) {
            return Err(refuse("is a symbolic link out of the package"));
        }
        self.links.push((path, target));
        Ok(())
    }

    fn make_links(&mut self) -> Result<(), UnpackError> {
        for (path, target) in std::mem::take(&mut self.links) {
            // `directory` refuses a parent that is a link made a moment ago.
            self.parent_of(&path)?;
            symlink(&target, self.root.join(&path)).map_err(|e| match e.kind() {
                io::ErrorKind::AlreadyExists => UnpackError::Entry {
                    name: path.display().to_string(),
                    rule: "is a symbolic link and something else at once",
                },
                _ => self.disk(&path)(e),
            })?;
        }
        Ok(())
    }
}

/// Makes what was unpacked durable; a tree that is renamed into the cache must not be empty after a power loss.
pub(crate) fn sync_tree(root: &Path) -> io::Result<()> {
    nix::unistd::syncfs(File::open(root)?).map_err(io::Error::from)
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
