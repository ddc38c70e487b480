//! Blobs as files on this controller: `<dir>/ab/cdef…` by the hexadecimal digest. A file appears whole or not
//! at all, and is put aside when it no longer has its digest.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use super::read::{Check, checked};
use super::{BlobError, BlobInfo, BlobStore, BlobStream, CHUNK_BYTES, Digest};

/// Where unfinished files lie; emptied on open.
const TEMPORARY: &str = "tmp";
/// Where corrupted files lie until an operator looks at them.
const QUARANTINE: &str = "quarantine";

/// A directory of blobs. Clones share it.
#[derive(Debug, Clone)]
pub struct LocalBlobs {
    dir: Arc<PathBuf>,
    /// Makes names of unfinished files unique within this process; the directory has one owner.
    next: Arc<AtomicU64>,
    /// Held while a file gets its name, becomes young again, or is deleted for being old.
    naming: Arc<Mutex<()>>,
}

impl LocalBlobs {
    /// Opens or makes the directory and removes what interrupted writes left. Blocks.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, BlobError> {
        let dir = dir.into();
        let prepare = || {
            let temporary = dir.join(TEMPORARY);
            fs::create_dir_all(&temporary)?;
            fs::create_dir_all(dir.join(QUARANTINE))?;
            for item in fs::read_dir(&temporary)? {
                fs::remove_file(item?.path())?;
            }
            sync_dir(&dir)
        };
        prepare().map_err(store_failed("open"))?;
        Ok(Self {
            dir: Arc::new(dir),
            next: Arc::default(),
            naming: Arc::default(),
        })
    }

    fn path(&self, digest: Digest) -> PathBuf {
        let hex = digest.to_hex();
        self.dir.join(&hex[..2]).join(&hex[2..])
    }

    fn temporary(&self, digest: Digest) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.dir.join(TEMPORARY).join(format!("{digest}.{number}"))
    }

    /// Writes, checks and syncs a new file, then gives it its name.
    async fn write(&self, expected: Digest, mut content: BlobStream) -> Result<(), BlobError> {
        let path = self.temporary(expected);
        let mut unfinished = Unfinished::create(path, expected).await?;
        let mut check = Check::default();
        while let Some(chunk) = content.try_next().await? {
            check.add(&chunk)?;
            unfinished.write(chunk).await?;
        }
        let actual = check.digest();
        if actual != expected {
            return Err(BlobError::Mismatch { expected, actual });
        }
        let naming = Arc::clone(&self.naming);
        unfinished.finish(self.path(expected), naming).await
    }

    fn quarantine(&self, digest: Digest) {
        let aside = self.dir.join(QUARANTINE).join(digest.to_hex());
        tracing::error!(%digest, "blob is corrupted, putting it aside");
        if let Err(error) = fs::rename(self.path(digest), aside) {
            tracing::error!(%digest, %error, "corrupted blob cannot be put aside");
        }
    }

    fn list_blocking(&self) -> io::Result<Vec<BlobInfo>> {
        let mut found = Vec::new();
        for item in fs::read_dir(&*self.dir)? {
            let item = item?;
            let prefix = item.file_name().to_string_lossy().into_owned();
            if prefix.len() != 2 || !item.file_type()?.is_dir() {
                continue;
            }
            for item in fs::read_dir(item.path())? {
                let item = item?;
                let name = format!("{prefix}{}", item.file_name().to_string_lossy());
                // Deleted since: not there.
                let Ok(meta) = item.metadata() else { continue };
                if let Some(digest) = Digest::from_hex(&name) {
                    found.push(BlobInfo {
                        digest,
                        length: meta.len(),
                        modified: meta.modified()?,
                    });
                }
            }
        }
        found.sort_unstable_by_key(|info| info.digest);
        Ok(found)
    }
}

/// A file that is removed unless it is finished.
struct Unfinished {
    file: Option<File>,
    path: PathBuf,
    digest: Digest,
}

impl Unfinished {
    async fn create(path: PathBuf, digest: Digest) -> Result<Self, BlobError> {
        blocking(digest, "create", move || {
            let file = File::create_new(&path)?;
            Ok(Self {
                file: Some(file),
                path,
                digest,
            })
        })
        .await
    }

    async fn write(&mut self, chunk: Bytes) -> Result<(), BlobError> {
        let Some(mut file) = self.file.take() else {
            let gone = io::Error::other("an earlier write failed");
            return Err(io_failed(self.digest, "write")(gone));
        };
        let written = blocking(self.digest, "write", move || {
            file.write_all(&chunk)?;
            Ok(file)
        });
        self.file = Some(written.await?);
        Ok(())
    }

    async fn finish(mut self, path: PathBuf, naming: Arc<Mutex<()>>) -> Result<(), BlobError> {
        let Some(file) = self.file.take() else {
            let gone = io::Error::other("an earlier write failed");
            return Err(io_failed(self.digest, "write")(gone));
        };
        let digest = self.digest;
        blocking(digest, "write", move || {
            file.sync_all()?;
            let parent = path.parent().unwrap_or_else(|| Path::new("."));
            if !parent.is_dir() {
                fs::create_dir_all(parent)?;
                sync_dir(parent.parent().unwrap_or_else(|| Path::new(".")))?;
            }
            let _naming = lock(&naming);
            fs::rename(&self.path, &path)?;
            sync_dir(parent)
        })
        .await
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Gone already if it was finished.
        drop(fs::remove_file(&self.path));
    }
}

fn lock(naming: &Mutex<()>) -> MutexGuard<'_, ()> {
    naming.lock().unwrap_or_else(PoisonError::into_inner)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn store_failed(action: &'static str) -> impl FnOnce(io::Error) -> BlobError {
    move |source| BlobError::Store {
        action,
        source: source.into(),
    }
}

pub(super) fn io_failed(
    digest: Digest,
    action: &'static str,
) -> impl FnOnce(io::Error) -> BlobError {
    move |source| match source.kind() {
        io::ErrorKind::NotFound => BlobError::NotFound(digest),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => BlobError::Full(digest),
        _ => BlobError::Io {
            action,
            digest,
            source: source.into(),
        },
    }
}

async fn blocking<T: Send + 'static>(
    digest: Digest,
    action: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, BlobError> {
    let done = hearth_node::blocking::run(work).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error)))
        .map_err(io_failed(digest, action))
}

#[async_trait]
impl BlobStore for LocalBlobs {
    async fn put_stream(&self, expected: Digest, content: BlobStream) -> Result<(), BlobError> {
        if self.exists(expected).await? {
            // Rewritten rather than trusted, if it is corrupted; renewed for the garbage collection's grace
            // otherwise.
            let mut known = self.get_stream(expected).await?;
            while let Some(chunk) = known.next().await {
                if chunk.is_err() {
                    return self.write(expected, content).await;
                }
            }
            let (path, naming) = (self.path(expected), Arc::clone(&self.naming));
            let touched = blocking(expected, "touch", move || {
                let _naming = lock(&naming);
                touch(&path)
            });
            match touched.await {
                Err(BlobError::NotFound(_)) => {}
                other => return other,
            }
        }
        self.write(expected, content).await
    }

    async fn get_stream(&self, digest: Digest) -> Result<BlobStream, BlobError> {
        let path = self.path(digest);
        let file = blocking(digest, "open", move || File::open(path)).await?;
        let chunks = stream::try_unfold(file, move |mut file| {
            blocking(digest, "read", move || {
                let mut chunk = Vec::with_capacity(CHUNK_BYTES);
                let piece = u64::try_from(CHUNK_BYTES).unwrap_or(u64::MAX);
                let read = Read::take(&mut file, piece).read_to_end(&mut chunk)?;
                Ok((read > 0).then(|| (Bytes::from(chunk), file)))
            })
        });
        let store = self.clone();
        Ok(checked(digest, chunks, move || store.quarantine(digest)))
    }

    async fn exists(&self, digest: Digest) -> Result<bool, BlobError> {
        let path = self.path(digest);
        blocking(digest, "find", move || path.try_exists()).await
    }

    async fn delete(&self, digest: Digest) -> Result<(), BlobError> {
        let path = self.path(digest);
        let deleted = blocking(digest, "delete", move || fs::remove_file(path)).await;
        match deleted {
            Ok(()) | Err(BlobError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn delete_unchanged(&self, info: &BlobInfo) -> Result<bool, BlobError> {
        let (path, naming, listed) = (
            self.path(info.digest),
            Arc::clone(&self.naming),
            info.modified,
        );
        let deleted = blocking(info.digest, "delete", move || {
            let _naming = lock(&naming);
            if fs::metadata(&path)?.modified()? > listed {
                return Ok(false);
            }
            fs::remove_file(path).map(|()| true)
        });
        match deleted.await {
            Err(BlobError::NotFound(_)) => Ok(true),
            other => other,
        }
    }

    async fn list(&self) -> Result<Vec<BlobInfo>, BlobError> {
        let store = self.clone();
        let listed = hearth_node::blocking::run(move || store.list_blocking()).await;
        listed
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(store_failed("list"))
    }
}

/// Makes a file look new. Its content is as it was.
fn touch(path: &Path) -> io::Result<()> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a file's time is the system's, as for a file just written"
    )]
    let now = std::time::SystemTime::now();
    File::open(path)?.set_modified(now)
}
