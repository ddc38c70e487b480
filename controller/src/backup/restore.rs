//! A backup becomes the data directory of a single controller. Functions, quotas and tags are kept; workers, what
//! they held, and the other controllers are not: they were of the cluster that is gone.

use std::fs;
use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};

use futures::{StreamExt, stream};
use hearth_core::ids::AccountId;
use hearth_node::data_dir::{DataDir, DataDirError, Identity};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::read::{self, Contents, VerifyError};
use super::{Manifest, Member};
use crate::blobs::{BlobError, BlobStore as _, BlobStream, CHUNK_BYTES, Digest, LocalBlobs};
use crate::machine::ReplicatedState;
use crate::raft::{self, Machine as _, SeedError};

/// Indexes left free after the backup's. What nodes of the cluster remember of changes made after the backup has
/// indexes in there, so that no number of the restored cluster means two things.
const INDEX_GAP: u64 = 1 << 40;
/// Terms left free, for the same reason.
const TERM_GAP: u64 = 1 << 32;

/// The cluster to make of a backup: one controller.
#[derive(Clone, Debug)]
pub struct NewCluster {
    /// Its data directory, which must not exist or be empty.
    pub data_dir: PathBuf,
    /// The cluster's id; the backup's own if none is given.
    pub cluster_id: Option<String>,
    /// The controller's id.
    pub node_id: u64,
    /// Where controllers that join later reach it, `host:port`.
    pub addr: String,
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The backup.
    pub manifest: Manifest,
    /// The cluster's id now.
    pub cluster_id: String,
    /// Accounts that have functions.
    pub accounts: Vec<AccountId>,
}

/// Why nothing was restored; Display is one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is something in the directory.
    #[error("{} is not empty: restore makes a new data directory", .0.display())]
    NotEmpty(PathBuf),
    /// The file is no whole backup.
    #[error(transparent)]
    Verify(VerifyError),
    /// This release does not understand the metadata.
    #[error("the metadata of the backup cannot be read")]
    Metadata(#[source] raft::RestoreError),
    /// The directory cannot be written.
    #[error("cannot write {}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The directory cannot be claimed.
    #[error("the data directory cannot be made")]
    DataDir(#[source] DataDirError),
    /// The blobs cannot be written.
    #[error("the code cannot be written")]
    Blobs(#[source] BlobError),
    /// The log and the snapshot cannot be written.
    #[error("the state cannot be written")]
    Seed(#[source] SeedError),
}

/// Checks the whole of `file` and makes the data directory of a controller of it; `progress` is told bytes done and
/// bytes in all, first for the check, then for the blobs. On error nothing is left in the directory.
pub async fn restore(
    file: &Path,
    new: &NewCluster,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<Restored, RestoreError> {
    if !is_vacant(&new.data_dir).map_err(failed(&new.data_dir))? {
        return Err(RestoreError::NotEmpty(new.data_dir.clone()));
    }
    let contents = read::contents(file, progress).map_err(RestoreError::Verify)?;
    let metadata = metadata(file, &contents).await?;
    let mut machine = ReplicatedState::default();
    machine.restore(&metadata).map_err(RestoreError::Metadata)?;
    let term = contents.manifest.term.max(machine.state().leader_term) + TERM_GAP;
    let index = contents.manifest.applied_index + INDEX_GAP;
    machine.detach(index, term);

    let cluster_id = new.cluster_id.as_ref();
    let restored = Restored {
        cluster_id: cluster_id.unwrap_or(&contents.manifest.cluster_id).clone(),
        accounts: machine.state().functions.accounts().cloned().collect(),
        manifest: contents.manifest.clone(),
    };
    let state = raft::Seed {
        node_id: new.node_id,
        cluster_id: restored.cluster_id.clone(),
        addr: new.addr.clone(),
        term,
        index,
        state: machine.snapshot().into(),
    };
    let existed = new.data_dir.exists();
    let written = write(file, &contents, new, &state, progress).await;
    if let Err(error) = written {
        clear(&new.data_dir, existed);
        return Err(error);
    }
    Ok(restored)
}

/// The identity comes last, but for what a crash leaves, the directory is not empty and must be removed by hand.
async fn write(
    file: &Path,
    contents: &Contents,
    new: &NewCluster,
    state: &raft::Seed,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<(), RestoreError> {
    let dir = DataDir::open(&new.data_dir).map_err(RestoreError::DataDir)?;
    let blobs = LocalBlobs::open(new.data_dir.join("blobs")).map_err(RestoreError::Blobs)?;
    let members = contents.manifest.members.iter().zip(&contents.offsets);
    let members = members.filter_map(|(m, offset)| Some((m.digest()?, m, *offset)));
    let total: u64 = contents.manifest.members.iter().map(|m| m.bytes).sum();
    let mut done = 0;
    for (digest, member, offset) in members {
        let content = content(file, digest, member, offset).await?;
        let put = blobs.put_stream(digest, content).await;
        put.map_err(RestoreError::Blobs)?;
        done += member.bytes;
        progress(done, total);
    }
    raft::seed(&new.data_dir.join("raft"), state).map_err(RestoreError::Seed)?;
    dir.claim(&Identity {
        cluster_id: state.cluster_id.clone(),
        role: "controller".to_owned(),
        node: new.node_id.to_string(),
    })
    .map_err(RestoreError::DataDir)
}

async fn metadata(file: &Path, contents: &Contents) -> Result<Vec<u8>, RestoreError> {
    let (Some(member), Some(offset)) =
        (contents.manifest.members.first(), contents.offsets.first())
    else {
        let none = VerifyError::Inconsistent("it has no metadata".to_owned());
        return Err(RestoreError::Verify(none));
    };
    let mut file = open_at(file, *offset).await?.take(member.bytes);
    let mut bytes = Vec::new();
    let read = file.read_to_end(&mut bytes).await;
    read.map_err(|error| RestoreError::Verify(VerifyError::Io(error)))?;
    Ok(bytes)
}

async fn open_at(path: &Path, offset: u64) -> Result<tokio::fs::File, RestoreError> {
    let opened = async {
        let mut file = tokio::fs::File::open(path).await?;
        file.seek(SeekFrom::Start(offset)).await?;
        Ok(file)
    };
    opened
        .await
        .map_err(|error| RestoreError::Verify(VerifyError::Io(error)))
}

/// A blob out of the file. The store checks its digest once more.
async fn content(
    file: &Path,
    digest: Digest,
    member: &Member,
    offset: u64,
) -> Result<BlobStream, RestoreError> {
    let file = open_at(file, offset).await?.take(member.bytes);
    Ok(stream::try_unfold(file, move |mut file| async move {
        let mut piece = bytes::BytesMut::with_capacity(CHUNK_BYTES);
        let read = file.read_buf(&mut piece).await;
        let read = read.map_err(|error| BlobError::Io {
            action: "read",
            digest,
            source: error.into(),
        })?;
        Ok((read > 0).then(|| (piece.freeze(), file)))
    })
    .boxed())
}

fn is_vacant(dir: &Path) -> io::Result<bool> {
    match fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// The directory was empty before, so everything in it is ours.
fn clear(dir: &Path, existed: bool) {
    let removed = fs::remove_dir_all(dir).and_then(|()| match existed {
        true => fs::create_dir(dir),
        false => Ok(()),
    });
    if let Err(error) = removed {
        tracing::warn!(dir = %dir.display(), %error, "what a failed restore wrote is still there");
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> RestoreError {
    let path = path.to_owned();
    move |source| RestoreError::Io { path, source }
}
