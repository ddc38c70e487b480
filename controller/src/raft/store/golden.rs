//! What lies in sled, byte for byte. `log-1.txt` was written by the first release with this layout and is never written again:
//! a log on somebody's disk looks like it. A line is a tree, a key and a value, the last two hexadecimal.

use std::collections::{BTreeMap, BTreeSet};

use openraft::EntryPayload;
use openraft::storage::{RaftLogReader as _, RaftLogStorage as _};

use super::*;
use crate::raft::storage::MachineStorage;
use crate::raft::store::disk::KEY_DISK;
use crate::raft::types::{Command, LeaderId, Member, Membership};

const GOLDEN: &str = include_str!("../golden/log-1.txt");

fn log_id(index: u64) -> LogId {
    LogId {
        leader_id: LeaderId {
            term: 3,
            node_id: 2,
        },
        index,
    }
}

fn vote() -> Vote {
    Vote::new_committed(4, 2)
}

/// One of each kind, and one that is cut into two values.
fn entries() -> Vec<Entry> {
    let nodes: BTreeMap<u64, Member> = (1..=4)
        .map(|id| (id, Member::at(format!("host-{id}:7400"))))
        .collect();
    let voters = vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3, 4])];
    let payloads = [
        EntryPayload::Blank,
        EntryPayload::Normal(Command(vec![b'x'; 5_000].into())),
        EntryPayload::Membership(Membership::new(voters, nodes).unwrap()),
        EntryPayload::Normal(Command(br#"{"BeginTerm":{"term":3}}"#.as_slice().into())),
    ];
    let entry = |(index, payload)| Entry {
        log_id: log_id(index),
        payload,
    };
    (6..).zip(payloads).map(entry).collect()
}

fn open(dir: &Path) -> LogStore {
    let storage: Arc<dyn Storage> = Arc::new(MachineStorage);
    let pulse = crate::raft::pulse::Pulse::new(hearth_node::clock::SystemClock::shared());
    let owner = Owner {
        node_id: 2,
        cluster_id: "golden".to_owned(),
        new_disk: "d".to_owned(),
    };
    LogStore::open(&storage, dir, &owner, None, &pulse).unwrap()
}

/// sled lets go of its lock when the last of its own threads is done, which nobody is told of.
fn reopen(dir: &Path) -> sled::Db {
    for _ in 0..1_000 {
        match sled::open(dir) {
            Ok(db) => return db,
            Err(_) => std::thread::park_timeout(std::time::Duration::from_millis(10)),
        }
    }
    sled::open(dir).unwrap()
}

fn lines(dir: &Path) -> String {
    let db = reopen(dir);
    let mut lines = String::new();
    for tree in ["log", "meta"] {
        for item in &db.open_tree(tree).unwrap() {
            let (key, value) = item.unwrap();
            // The first release gave disks no id; later ones give them one when they open the log.
            if key == KEY_DISK {
                continue;
            }
            lines += &format!("{tree} {} {}\n", hex::encode(key), hex::encode(value));
        }
    }
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_format_1_stays_readable() {
    let dir = tempfile::tempdir().unwrap();
    let db = sled::open(dir.path()).unwrap();
    for line in GOLDEN.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let bytes = |text| hex::decode(text).unwrap();
        let tree = db.open_tree(words[0]).unwrap();
        tree.insert(bytes(words[1]), bytes(words[2])).unwrap();
    }
    db.flush().unwrap();
    drop(db);
    let mut log = open(dir.path());
    assert_eq!(log.read_vote().await.unwrap(), Some(vote()));
    assert_eq!(log.read_committed().await.unwrap(), Some(log_id(8)));
    let state = log.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(log_id(5)));
    assert_eq!(log.try_get_log_entries(..).await.unwrap(), entries());
    log.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_now_is_what_the_golden_log_holds() {
    use openraft::storage::RaftLogStorageExt as _;
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    log.save_vote(&vote()).await.unwrap();
    let before = (0..6).map(|index| Entry {
        log_id: log_id(index),
        payload: EntryPayload::Blank,
    });
    log.blocking_append(before.chain(entries())).await.unwrap();
    log.save_committed(Some(log_id(8))).await.unwrap();
    log.purge(log_id(5)).await.unwrap();
    log.close().await.unwrap();
    drop(log);
    let now = lines(dir.path());
    assert!(now == GOLDEN, "{now}");
}
