//! Changes of grants on their way into the log: collected while one entry is being committed, so that the
//! rate of entries follows the disk and not the demand. What to change is decided by `hearth_core::permits`.

use std::collections::{BTreeSet, VecDeque};

use hearth_core::permits::GrantChange;

/// Changes in one entry: a change is at most about 300 bytes of JSON, an entry at most 64 KiB.
const BATCH_MAX: usize = 128;
/// Changes that wait. Beyond it the newest are refused; the tick repeats what matters.
const QUEUE_MAX: usize = 65_536;

/// The queue before the log.
#[derive(Debug, Default)]
pub(crate) struct Commits {
    queue: VecDeque<GrantChange>,
    in_flight: bool,
}

impl Commits {
    /// Adds a change; `false` when the queue is full.
    pub(crate) fn push(&mut self, change: GrantChange) -> bool {
        if self.queue.len() >= QUEUE_MAX {
            return false;
        }
        self.queue.push_back(change);
        true
    }

    /// The next entry, when there is one and none is under way. "A batch names a (worker, pool) at most
    /// once"; a second change of a share waits for the next entry.
    pub(crate) fn next_batch(&mut self) -> Option<Vec<GrantChange>> {
        if self.in_flight || self.queue.is_empty() {
            return None;
        }
        let mut seen = BTreeSet::new();
        let mut batch = Vec::new();
        let mut later = VecDeque::new();
        while let Some(change) = self.queue.pop_front() {
            if batch.len() == BATCH_MAX {
                later.push_back(change);
                break;
            }
            let (worker, pool) = change.key();
            if seen.insert((worker, pool.clone())) {
                batch.push(change);
            } else {
                later.push_back(change);
            }
        }
        later.append(&mut self.queue);
        self.queue = later;
        self.in_flight = true;
        Some(batch)
    }

    /// The entry under way is done, one way or the other.
    pub(crate) fn on_done(&mut self) {
        self.in_flight = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_core::ids::{GrantSequence, NodeId, PoolKey};

    fn shrink(worker: u64, n: u32) -> GrantChange {
        GrantChange::Shrink {
            worker: NodeId(worker),
            pool: PoolKey {
                account: "123456789012".parse().unwrap(),
                function: None,
                provisioned: None,
            },
            n,
            base: GrantSequence(1),
        }
    }

    #[test]
    fn a_share_occurs_once_in_a_batch_and_order_is_kept() {
        let mut commits = Commits::default();
        for change in [shrink(1, 5), shrink(2, 5), shrink(1, 4)] {
            assert!(commits.push(change));
        }
        assert_eq!(commits.next_batch(), Some(vec![shrink(1, 5), shrink(2, 5)]));
        assert_eq!(commits.next_batch(), None, "one entry at a time");
        commits.on_done();
        assert_eq!(commits.next_batch(), Some(vec![shrink(1, 4)]));
        commits.on_done();
        assert_eq!(commits.next_batch(), None);
    }

    #[test]
    fn a_batch_fits_an_entry() {
        let mut commits = Commits::default();
        let pool = PoolKey {
            account: "123456789012".parse().unwrap(),
            function: Some("f".repeat(64).parse().unwrap()),
            provisioned: None,
        };
        for worker in 0..1_000 {
            commits.push(GrantChange::Shrink {
                worker: NodeId(u64::MAX - worker),
                pool: pool.clone(),
                n: u32::MAX,
                base: GrantSequence(u64::MAX),
            });
        }
        let batch = commits.next_batch().unwrap();
        assert_eq!(batch.len(), BATCH_MAX);
        let command = crate::state::command::Command::ChangeGrants {
            term: u64::MAX,
            changes: batch,
        };
        let bytes = crate::machine::encode(&command).len();
        assert!(bytes < hearth_core::limits::COMMAND_MAX_BYTES, "{bytes}");
    }
}
