//! The settings of openraft, and why each is what it is.

use std::sync::Arc;
use std::time::Duration;

use hearth_core::election::{HEARTBEAT_MS, Timing};
use hearth_core::planted::{self, Bug};
use openraft::{Config, SnapshotPolicy};

use super::options::Options;

/// Deadline of one snapshot transfer, installation included.
pub(super) const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(60);
/// Entries in one append request; bytes are limited in [`super::network`].
const MAX_PAYLOAD_ENTRIES: u64 = 512;
/// Entries purged at once, at least.
const PURGE_BATCH: u64 = 256;
/// Bounds the memory that waiting requests hold: 1,024 commands of 64 KiB are 64 MiB.
const API_QUEUE: u64 = 1_024;

pub(super) fn raft_config(
    options: &Options,
    timing: Timing,
) -> Result<Arc<Config>, openraft::ConfigError> {
    let config = Config {
        cluster_name: options.cluster_id.clone(),
        heartbeat_interval: HEARTBEAT_MS,
        // openraft takes the upper one for the leader's lease too, and the lower one for the deadline of a vote.
        election_timeout_min: timing.vote_ms,
        election_timeout_max: timing.lease_ms,
        // A node that comes back from a partition must not depose a healthy leader by a higher term.
        enable_pre_vote: Some(true),
        // openraft's default lets a leader that was killed and restarted go on under its old vote. Because
        // entries are replicated while they are still being flushed, its log may by then be shorter than
        // what the followers committed: committed entries would be overwritten.
        enable_leader_restore: Some(planted::is(Bug::LeaderRestoreOn)),
        // A log that went backwards is a lost disk; such a node rejoins under a new id.
        allow_log_reversion: Some(false),
        // So that a better-connected node can be elected (openraft #2080).
        quorum_loss_probe_interval: Some(timing.probe_ms),
        max_payload_entries: MAX_PAYLOAD_ENTRIES,
        api_channel_size: Some(API_QUEUE),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(options.snapshot_every),
        max_in_snapshot_log_to_keep: options.keep_applied,
        // A follower this far behind gets a snapshot; more than one snapshot interval, so that the
        // snapshot does bring it within reach of the log.
        replication_lag_threshold: options.snapshot_every.saturating_mul(2),
        purge_batch_size: PURGE_BATCH.min(options.snapshot_every),
        install_snapshot_timeout: u64::try_from(SNAPSHOT_TIMEOUT.as_millis()).unwrap_or(u64::MAX),
        // Retries of an unreachable peer: quick at first, then once in a while.
        backoff: "20ms 50ms 100ms 200ms ..500ms".to_owned(),
        ..Config::default()
    };
    config.validate().map(Arc::new)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Losing either setting loses data or liveness without any other test failing at once.
    #[test]
    fn pre_vote_is_on_and_leader_restore_is_off() {
        let options = Options::new(1, "test", "/nowhere", BTreeMap::new());
        let timing = hearth_core::election::timing(1);
        let config = raft_config(&options, timing).unwrap();
        assert_eq!(config.enable_pre_vote, Some(true));
        assert_eq!(config.enable_leader_restore, Some(false));
        assert_eq!(config.allow_log_reversion, Some(false));
    }

    #[test]
    fn openraft_takes_the_times_of_every_disk() {
        let options = Options::new(1, "test", "/nowhere", BTreeMap::new());
        for flush_ms in [0, 30, 100, 10_000] {
            let timing = hearth_core::election::timing(flush_ms);
            raft_config(&options, timing).unwrap();
        }
    }
}
