//! A node's data directory: one process at a time, one cluster and one node for life; files written whole or not at all.
//!
//! Not here: what the stores keep inside it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

const LOCK_FILE: &str = "lock";
const IDENTITY_FILE: &str = "identity.json";
const IDENTITY_MODE: u32 = 0o600;

/// Who a data directory belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The cluster's id, fixed at its first start.
    pub cluster_id: String,
    /// `controller`, `worker` or `gateway`.
    pub role: String,
    /// The node's id.
    pub node: String,
}

/// Why a data directory cannot be used; Display is one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process holds it.
    #[error("data directory {} is in use by pid {pid}", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// As its holder wrote it, `unknown` when it could not be read.
        pid: String,
    },
    /// It was made by another cluster, role or node.
    #[error("data directory {} belongs to {field} `{found}`, not `{wanted}`; choose another with --data-dir", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// `cluster`, `role` or `node`.
        field: &'static str,
        /// What the directory says.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// The identity file is not readable as one.
    #[error("identity file {} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The file system refused.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

fn io_error<'a>(
    operation: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> DataDirError + use<'a> {
    move |source| DataDirError::Io {
        operation,
        path: path.to_owned(),
        source,
    }
}

/// A locked data directory; the lock falls with this value or the process.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes the directory if it is missing (mode 0700) and locks it.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(io_error("create data directory", path))?;
        let lock = lock(path)?;
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who the directory belongs to; none when it is new.
    pub fn identity(&self) -> Result<Option<Identity>, DataDirError> {
        let path = self.path.join(IDENTITY_FILE);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| DataDirError::Damaged { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }

    /// Claims a new directory for `wanted`, or checks that it is `wanted`'s already.
    pub fn claim(&self, wanted: &Identity) -> Result<(), DataDirError> {
        let Some(found) = self.identity()? else {
            let bytes = serde_json::to_vec_pretty(wanted).expect("three strings serialise");
            let path = self.path.join(IDENTITY_FILE);
            return write_atomic(&path, &bytes, IDENTITY_MODE).map_err(io_error("write", &path));
        };
        let fields = [
            ("cluster", &found.cluster_id, &wanted.cluster_id),
            ("role", &found.role, &wanted.role),
            ("node", &found.node, &wanted.node),
        ];
        match fields
            .into_iter()
            .find(|(_, found, wanted)| found != wanted)
        {
            None => Ok(()),
            Some((field, found, wanted)) => Err(DataDirError::Foreign {
                path: self.path.clone(),
                field,
                found: found.clone(),
                wanted: wanted.clone(),
            }),
        }
    }
}

fn lock(dir: &Path) -> Result<File, DataDirError> {
    let path = dir.join(LOCK_FILE);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(io_error("open lock file", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            let pid = match pid.trim() {
                "" => "unknown".to_owned(),
                pid => pid.to_owned(),
            };
            let path = dir.to_owned();
            return Err(DataDirError::InUse { path, pid });
        }
        Err(TryLockError::Error(error)) => return Err(io_error("lock", &path)(error)),
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(io_error("write lock file", &path))?;
    Ok(file)
}

/// Replaces a file so that a crash leaves the old or the new content, durable when this returns.
/// `mode` are the file's permissions whatever the umask says: 0o600 for secrets.
/// Blocking. Concurrent writers of one path must be kept apart by the caller.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let written = write_synced(&temporary, bytes, mode).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // A full disk must not stay fuller for the attempt.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    File::open(dir)?.sync_all()
}

fn write_synced(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)?;
    // One left by a crash keeps its old mode otherwise; nothing secret is in it yet.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(cluster_id: &str, role: &str) -> Identity {
        Identity {
            cluster_id: cluster_id.to_owned(),
            role: role.to_owned(),
            node: "n1".to_owned(),
        }
    }

    #[test]
    fn a_second_opener_is_told_the_pid() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("new/dir");
        let first = DataDir::open(&path).unwrap();
        let error = DataDir::open(&path).expect_err("locked").to_string();
        let pid = std::process::id();
        assert_eq!(
            error,
            format!("data directory {} is in use by pid {pid}", path.display())
        );
        drop(first);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn a_directory_serves_one_cluster_and_role() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = DataDir::open(temporary.path()).unwrap();
        assert_eq!(dir.identity().unwrap(), None);
        dir.claim(&identity("c1", "worker")).unwrap();
        dir.claim(&identity("c1", "worker")).unwrap();
        let other_cluster = dir.claim(&identity("c2", "worker")).expect_err("foreign");
        assert!(
            other_cluster
                .to_string()
                .contains("belongs to cluster `c1`, not `c2`")
        );
        let other_role = dir.claim(&identity("c1", "gateway")).expect_err("foreign");
        assert!(matches!(
            other_role,
            DataDirError::Foreign { field: "role", .. }
        ));
    }

    /// As the first release wrote it.
    #[test]
    fn an_identity_of_the_first_release_stays_readable() {
        let golden = "{\n  \"cluster_id\": \"c1\",\n  \"role\": \"worker\",\n  \"node\": \"n1\"\n}";
        let temporary = tempfile::tempdir().unwrap();
        let dir = DataDir::open(temporary.path()).unwrap();
        fs::write(temporary.path().join("identity.json"), golden).unwrap();
        dir.claim(&identity("c1", "worker")).unwrap();
        fs::remove_file(temporary.path().join("identity.json")).unwrap();
        dir.claim(&identity("c1", "worker")).unwrap();
        let now = fs::read_to_string(temporary.path().join("identity.json")).unwrap();
        assert_eq!(now, golden);
    }

    #[test]
    fn a_damaged_identity_is_not_overwritten() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = DataDir::open(temporary.path()).unwrap();
        fs::write(temporary.path().join(IDENTITY_FILE), "{").unwrap();
        let error = dir.claim(&identity("c1", "worker")).expect_err("damaged");
        assert!(matches!(error, DataDirError::Damaged { .. }));
    }

    #[test]
    fn an_atomic_write_replaces_and_leaves_nothing_behind() {
        use std::os::unix::fs::PermissionsExt;
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("a");
        write_atomic(&path, b"one", 0o644).unwrap();
        write_atomic(&path, b"two", 0o600).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 1);
        // A rename onto a directory fails; the temporary file goes.
        let taken = temporary.path().join("d");
        fs::create_dir(&taken).unwrap();
        write_atomic(&taken, b"x", 0o600).expect_err("a directory is there");
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 2);
    }
}
