//! openraft's own suite on the sled store, and what it does not cover: restarts, identity, damage.

use openraft::storage::{RaftLogReader as _, RaftLogStorage as _, RaftLogStorageExt as _};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{EntryPayload, StorageError};
use tempfile::TempDir;

use super::*;
use crate::raft::machine::{Machine, MachineCell, RestoreError};
use crate::raft::snapshot::Snapshots;
use crate::raft::state_machine::StateMachine;
use crate::raft::storage::MachineStorage;
use crate::raft::types::{Command, LeaderId};

#[derive(Debug, Default)]
struct Last(Vec<u8>);

impl Machine for Last {
    fn apply(&mut self, _index: u64, command: &[u8]) -> Vec<u8> {
        std::mem::replace(&mut self.0, command.to_vec())
    }
    fn snapshot(&self) -> Vec<u8> {
        self.0.clone()
    }
    fn restore(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        self.0 = bytes.to_vec();
        Ok(())
    }
}

fn storage() -> Arc<dyn Storage> {
    Arc::new(MachineStorage)
}

fn owner(node_id: u64, cluster_id: &str) -> Owner {
    Owner {
        node_id,
        cluster_id: cluster_id.to_owned(),
        new_disk: "d".to_owned(),
    }
}

fn pulse() -> Arc<Pulse> {
    Pulse::new(hearth_node::clock::SystemClock::shared())
}

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine<Last>, TempDir> for Builder {
    async fn build(
        &self,
    ) -> Result<(TempDir, LogStore, StateMachine<Last>), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let log = LogStore::open(
            &storage(),
            &dir.path().join("log"),
            &owner(1, "suite"),
            None,
            &pulse(),
        )
        .unwrap();
        let snapshots = Snapshots::open(storage().files(), &dir.path().join("snapshots")).unwrap();
        let machine =
            StateMachine::load(MachineCell::new(Last::default()), snapshots, None).unwrap();
        Ok((dir, log, machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openraft_suite_passes() {
    Suite::<TypeConfig, LogStore, StateMachine<Last>, Builder, TempDir>::test_all(Builder)
        .await
        .unwrap();
}

fn log_id(term: u64, index: u64) -> LogId {
    LogId {
        leader_id: LeaderId { term, node_id: 1 },
        index,
    }
}

fn entry(term: u64, index: u64, size: usize) -> Entry {
    Entry {
        log_id: log_id(term, index),
        payload: EntryPayload::Normal(Command(vec![7; size].into())),
    }
}

fn open(dir: &TempDir) -> LogStore {
    LogStore::open(&storage(), dir.path(), &owner(1, "c"), None, &pulse()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_log_vote_and_marks() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(&dir);
    let vote = Vote::new_committed(3, 1);
    log.save_vote(&vote).await.unwrap();
    // Entries of one value and of many.
    log.blocking_append((0..40).map(|i| entry(3, i, 1_000 * usize::try_from(i).unwrap())))
        .await
        .unwrap();
    log.save_committed(Some(log_id(3, 30))).await.unwrap();
    log.truncate_after(Some(log_id(3, 35))).await.unwrap();
    log.purge(log_id(3, 9)).await.unwrap();
    log.close().await.unwrap();
    drop(log);

    let mut log = open(&dir);
    assert_eq!(log.read_vote().await.unwrap(), Some(vote));
    assert_eq!(log.read_committed().await.unwrap(), Some(log_id(3, 30)));
    let state = log.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(log_id(3, 9)));
    assert_eq!(state.last_log_id, Some(log_id(3, 35)));
    let entries = log.try_get_log_entries(..).await.unwrap();
    let expected: Vec<Entry> = (10..=35)
        .map(|i| entry(3, i, 1_000 * usize::try_from(i).unwrap()))
        .collect();
    assert_eq!(entries, expected);
    log.close().await.unwrap();
}

/// A disk that was replaced is another one, whatever the node calls itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_keeps_the_id_it_was_made_with() {
    let dir = tempfile::tempdir().unwrap();
    let open = |new: &str| {
        let owner = Owner {
            new_disk: new.to_owned(),
            ..owner(1, "c")
        };
        LogStore::open(&storage(), dir.path(), &owner, None, &pulse()).unwrap()
    };
    for new in ["first", "second"] {
        let log = open(new);
        assert_eq!(log.disk_id(), "first");
        log.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_another_node_or_cluster_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    open(&dir).close().await.unwrap();
    for (node, cluster) in [(2, "c"), (1, "other")] {
        let error = LogStore::open(
            &storage(),
            dir.path(),
            &owner(node, cluster),
            None,
            &pulse(),
        )
        .unwrap_err();
        assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
        assert!(error.to_string().contains("node 1 of cluster c"), "{error}");
    }
}

/// A crash between the purge mark and the deletion of entries leaves entries below the mark.
#[tokio::test(flavor = "multi_thread")]
async fn entries_below_the_purge_mark_are_deleted_on_open() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(&dir);
    log.blocking_append((0..2_000).map(|i| entry(1, i, 10)))
        .await
        .unwrap();
    let disk = log.shared.disk().unwrap();
    let mark = disk::encode_log_id(&log_id(1, 1_500));
    let marks: [(&[u8], Option<&[u8]>); 1] = [(disk::KEY_PURGED, Some(&mark))];
    disk.engine.set_marks(&marks).unwrap();
    drop(disk);
    log.close().await.unwrap();
    drop(log);

    let log = open(&dir);
    let disk = log.shared.disk().unwrap();
    let left = disk.engine.range(record::key(0, 0)..record::key(9_999, 0));
    assert_eq!(left.count(), 499);
    assert_eq!(log.purged(), Some(log_id(1, 1_500)));
    drop(disk);
    log.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hole_or_a_flipped_bit_is_refused_with_advice() {
    for damage in ["hole", "bit"] {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(&dir);
        log.blocking_append((0..10).map(|i| entry(1, i, 10)))
            .await
            .unwrap();
        let disk = log.shared.disk().unwrap();
        let key = record::key(5, 0);
        let found = disk.engine.range(key..record::key(5, 1)).next();
        let (_, mut value) = found.unwrap().unwrap();
        disk.engine.write(vec![(key, None)]).unwrap();
        if damage == "bit" {
            *value.last_mut().unwrap() ^= 1;
            disk.engine.write(vec![(key, Some(value))]).unwrap();
        }
        drop(disk);
        log.close().await.unwrap();
        drop(log);
        let error =
            LogStore::open(&storage(), dir.path(), &owner(1, "c"), None, &pulse()).unwrap_err();
        assert!(error.to_string().contains("new node id"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_not_purged_past_the_durable_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let durable = watch::Sender::new(Some(4));
    let snapshot = Some(durable.subscribe());
    let mut log =
        LogStore::open(&storage(), dir.path(), &owner(1, "c"), snapshot, &pulse()).unwrap();
    log.blocking_append((0..10).map(|i| entry(1, i, 10)))
        .await
        .unwrap();
    log.purge(log_id(1, 4)).await.unwrap();
    {
        let mut purge = std::pin::pin!(log.purge(log_id(1, 5)));
        assert!(futures::poll!(purge.as_mut()).is_pending());
        durable.send_replace(Some(5));
        purge.await.unwrap();
    }
    assert_eq!(log.purged(), Some(log_id(1, 5)));
    drop(durable);
    // The snapshots are gone: nothing more may be forgotten.
    assert!(log.purge(log_id(1, 6)).await.is_err());
    assert_eq!(log.purged(), Some(log_id(1, 5)));
    log.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn replication_reads_are_limited_by_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(&dir);
    log.blocking_append((0..100).map(|i| entry(1, i, 60_000)))
        .await
        .unwrap();
    let some = log.limited_get_log_entries(3, 90).await.unwrap();
    assert_eq!(some.first().map(|e| e.log_id.index), Some(3));
    assert!((15..=20).contains(&some.len()), "{}", some.len());
    // Entries that left the cache come from the disk.
    log.shared.state().cache.purge(49);
    let all = log.try_get_log_entries(40..60).await.unwrap();
    let indexes: Vec<u64> = all.iter().map(|e| e.log_id.index).collect();
    assert_eq!(indexes, (40..60).collect::<Vec<_>>());
    log.close().await.unwrap();
}
