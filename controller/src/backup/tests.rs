//! A backup is written through the stream and read back from a file, whole, damaged, and of an earlier release.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use tempfile::TempDir;

use super::*;
use crate::blobs::{BlobStore, LocalBlobs};
use crate::machine::{self, ReplicatedState};
use crate::raft::{self, Consensus, Machine as _};
use crate::state::command::Command;

const SMALL: [&[u8]; 2] = [b"", b"a zip"];
const CODES: [&[u8]; 3] = [b"", b"a zip", &[7; 300_000]];

/// As the first release wrote it.
const METADATA_OF_FORMAT_1: &[u8] = include_bytes!("../state/golden/format-1.json");

fn machine() -> ReplicatedState {
    let mut machine = ReplicatedState::default();
    machine.restore(METADATA_OF_FORMAT_1).unwrap();
    machine
}

fn taken(blobs: BTreeMap<Digest, u64>) -> Taken {
    Taken {
        cluster_id: "old".to_owned(),
        region: "us-east-1".to_owned(),
        applied_index: machine().applied(),
        term: 3,
        taken_at_ms: 1_700_000_000_000,
        written_by: "0.1.0".to_owned(),
        functions: machine().state().functions.iter().count() as u64,
        metadata: METADATA_OF_FORMAT_1.into(),
        blobs,
    }
}

async fn store(dir: &Path, codes: &[&'static [u8]]) -> (Arc<dyn BlobStore>, BTreeMap<Digest, u64>) {
    let store = LocalBlobs::open(dir).unwrap();
    let mut blobs = BTreeMap::new();
    for code in codes.iter().copied() {
        let digest = Digest::of(code);
        store.put(digest, code.into()).await.unwrap();
        blobs.insert(digest, code.len() as u64);
    }
    (Arc::new(store), blobs)
}

async fn collected(taken: Taken, store: Arc<dyn BlobStore>) -> Result<Vec<u8>, BackupError> {
    let (length, pieces) = file(taken, store);
    let pieces: Vec<bytes::Bytes> = pieces.try_collect().await?;
    let bytes = pieces.concat();
    assert_eq!(bytes.len() as u64, length);
    Ok(bytes)
}

/// A directory with a backup in it.
async fn backup(codes: &[&'static [u8]]) -> (TempDir, PathBuf, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let (store, blobs) = store(&dir.path().join("blobs"), codes).await;
    let bytes = collected(taken(blobs), store).await.unwrap();
    let path = dir.path().join("backup");
    fs::write(&path, &bytes).unwrap();
    (dir, path, bytes)
}

fn checked(path: &Path, bytes: &[u8]) -> Result<Manifest, VerifyError> {
    fs::write(path, bytes).unwrap();
    verify(path, &mut |_, _| {})
}

fn new_cluster(data_dir: PathBuf) -> NewCluster {
    NewCluster {
        data_dir,
        cluster_id: Some("new".to_owned()),
        node_id: 1,
        addr: "127.0.0.1:7400".to_owned(),
    }
}

#[tokio::test]
async fn a_backup_comes_back_whole_and_is_a_tar() {
    let (_dir, path, bytes) = backup(&CODES).await;
    let manifest = verify(&path, &mut |done, total| assert!(done <= total)).unwrap();
    assert_eq!((manifest.blobs(), manifest.cluster_id.as_str()), (3, "old"));
    let mut archive = tar::Archive::new(bytes.as_slice());
    let entries = archive.entries().unwrap();
    let paths: Vec<String> = entries
        .map(|e| e.unwrap().path().unwrap().display().to_string())
        .collect();
    let members = manifest.members.iter().map(|m| m.path.clone());
    let expected: Vec<String> = std::iter::once(MANIFEST.to_owned())
        .chain(members)
        .chain([DIGEST.to_owned()])
        .collect();
    assert_eq!(paths, expected);
}

#[tokio::test]
async fn a_flipped_bit_anywhere_and_a_truncation_are_noticed() {
    let (_dir, path, good) = backup(&SMALL).await;
    for offset in (0..good.len()).step_by(5) {
        let mut bad = good.clone();
        bad[offset] ^= 1 << (offset % 8);
        assert!(checked(&path, &bad).is_err(), "byte {offset}");
    }
    for length in (0..good.len()).step_by(97).chain([good.len() - 1]) {
        assert!(checked(&path, &good[..length]).is_err(), "length {length}");
    }
    let mut longer = good.clone();
    longer.push(0);
    assert!(checked(&path, &longer).is_err());
    assert!(checked(&path, &good).is_ok());
}

/// Its digest is right, and it must still be refused.
fn signed(mut content: Vec<u8>) -> Vec<u8> {
    content.truncate(content.len() - TAIL_BYTES);
    let tail = tail(Sha256::new_with_prefix(&content));
    content.extend(tail);
    content
}

#[tokio::test]
async fn a_later_format_and_members_that_are_not_as_told_are_refused() {
    let (_dir, path, good) = backup(&CODES).await;
    let text = br#""format_version": 1"#;
    let at = good.windows(text.len()).position(|w| w == text).unwrap();
    let mut later = good.clone();
    later[at + text.len() - 1] = b'2';
    let error = checked(&path, &signed(later)).unwrap_err();
    assert!(matches!(error, VerifyError::Format(2)), "{error}");

    let mut other = good.clone();
    let blob = good.windows(5).rposition(|w| w == b"a zip").unwrap();
    other[blob] = b'A';
    let error = checked(&path, &signed(other)).unwrap_err();
    assert!(matches!(error, VerifyError::Inconsistent(_)), "{error}");

    for garbage in [&b""[..], b"hello", &[0; 4_096]] {
        let error = checked(&path, garbage).unwrap_err();
        assert!(matches!(error, VerifyError::NoBackup), "{error}");
    }
}

#[tokio::test]
async fn a_blob_that_is_gone_or_of_another_size_breaks_the_backup_off() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut blobs) = store(dir.path(), &CODES).await;
    for (digest, bytes) in [(Digest::of(b"never put"), 9), (Digest::of(CODES[1]), 4)] {
        let known = blobs.insert(digest, bytes);
        let outcome = collected(taken(blobs.clone()), Arc::clone(&store)).await;
        assert!(outcome.is_err());
        match known {
            Some(known) => blobs.insert(digest, known),
            None => blobs.remove(&digest),
        };
    }
    assert!(collected(taken(blobs), store).await.is_ok());
}

/// The directory is opened by real consensus: the node leads at once, has the functions and limits and no workers, and
/// goes on after the gap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_directory_is_a_cluster_of_one_that_goes_on() {
    let (dir, path, _) = backup(&CODES).await;
    let new = new_cluster(dir.path().join("data"));
    let restored = restore(&path, &new, &mut |_, _| {}).await.unwrap();
    assert_eq!(restored.cluster_id, "new");
    let blobs = LocalBlobs::open(new.data_dir.join("blobs")).unwrap();
    for code in CODES {
        assert_eq!(blobs.get(Digest::of(code)).await.unwrap(), code);
    }
    let peers = BTreeMap::from([(1, new.addr.clone())]);
    let raft_dir = new.data_dir.join("raft");
    let open = || {
        let options = raft::Options::new(1, "new", raft_dir.clone(), peers.clone());
        Consensus::start(options, ReplicatedState::default())
    };
    let before = machine();
    for proposal in 0..2 {
        let node = open().await.unwrap();
        assert!(!node.initialize(&peers).await.unwrap(), "it exists already");
        let mut leadership = node.watch_leadership();
        let leads = leadership.wait_for(|l| l.is_leader);
        let leads = tokio::time::timeout(Duration::from_secs(10), leads).await;
        let term = leads.unwrap().unwrap().term;
        assert!(term > 3 + proposal, "terms only grow: {term}");
        let command = machine::encode(&Command::BeginTerm { term });
        let proposed = node.propose(command).await.unwrap();
        assert!(proposed.index > before.applied() + (1 << 40));
        node.read(|machine| {
            let (now, then) = (machine.state(), before.state());
            assert_eq!(now.functions, then.functions);
            assert_eq!((now.limits, &now.region), (then.limits, &then.region));
            assert_eq!(now.nodes.workers().count(), 0);
            let table = now.grants.table();
            for (pool, limit) in then.grants.table().pools() {
                assert_eq!(
                    (table.limit(pool), table.granted_sum(pool)),
                    (Some(limit), 0)
                );
            }
            assert_eq!(now.leader_term, term);
        });
        assert_eq!(node.members().voters, peers);
        node.shutdown().await;
    }
}

#[tokio::test]
async fn what_cannot_be_restored_leaves_nothing_behind() {
    let (dir, path, good) = backup(&CODES).await;
    let full = new_cluster(dir.path().join("full"));
    fs::create_dir(&full.data_dir).unwrap();
    fs::write(full.data_dir.join("precious"), "x").unwrap();
    let error = restore(&path, &full, &mut |_, _| {}).await.unwrap_err();
    assert!(matches!(error, RestoreError::NotEmpty(_)), "{error}");
    assert_eq!(fs::read(full.data_dir.join("precious")).unwrap(), b"x");

    fs::write(&path, &good[..good.len() - 1]).unwrap();
    let new = new_cluster(dir.path().join("new"));
    let error = restore(&path, &new, &mut |_, _| {}).await.unwrap_err();
    assert!(matches!(error, RestoreError::Verify(_)), "{error}");
    assert!(!new.data_dir.exists());
}

/// The file was written by the first release with this format and is never written again.
#[tokio::test]
async fn backups_of_format_1_stay_readable() {
    let golden = include_bytes!("golden/format-1.tar");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("backup");
    fs::write(&path, golden).unwrap();
    let new = new_cluster(dir.path().join("data"));
    let restored = restore(&path, &new, &mut |_, _| {}).await.unwrap();
    assert_eq!(restored.manifest.format_version, 1);
    assert_eq!(restored.manifest.blobs(), 2);
    assert_eq!(restored.manifest.applied_index, machine().applied());
}

#[tokio::test]
async fn what_is_written_now_is_what_the_golden_file_holds() {
    let (_dir, _, now) = backup(&SMALL).await;
    let golden = include_bytes!("golden/format-1.tar");
    assert!(now == golden, "the format has changed");
}
