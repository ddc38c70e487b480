//! When a controller takes its leader for lost. All times follow from how long a flush of the log takes, measured when the
//! controller starts and ever after: short where disks are quick, longer where they are not, never longer than a user waits.
//!
//! ```text
//! last word of the leader          lease over          votes asked for            votes in, first entry durable
//!         |------- lease_ms --------|--- vote_ms ..lease_ms ---|--- ~4 flushes ---|
//!         |-------------------- patience_ms at least ----------|
//! ```
//!
//! A vote takes two flushes (the candidate's and the voter's) and has [`Timing::vote_ms`] for it. A controller that is held up
//! (by a flush, by other work of its machine) misses heartbeats of a leader that is well: the longest pause between two of them
//! is measured too, and one that hears nothing for less than three times that does not ask for votes.
//!
//! What is measured at the start sets lease and draws, since Raft cannot change them while it runs; what is measured later sets patience.
//! On a machine that keeps up, votes are asked for 850 to 1,200 ms after the last heartbeat; on the slowest, after 1,350 to 1,700 ms.
//!
//! Shorter times were tried (leases of 400 and 500 ms, 150 ms for a vote): where ten processes wait for each processor, answers took
//! longer than that, leaders lost their leases and votes were not counted; such a cluster elected for 20 s at a time.

use crate::ids::MonotonicMs;

/// How often a leader shows that it is alive. Its own deadline for the answer, so not less than a slow answer takes.
pub const HEARTBEAT_MS: u64 = 100;
/// What a vote takes besides two flushes: the way there and back on a busy machine.
const VOTE_WAY_MS: u64 = 100;
/// Bounds of [`Timing::vote_ms`].
const VOTE_MIN_MS: u64 = 250;
const VOTE_MAX_MS: u64 = 500;
/// The lease is longer than a vote by so much: draws differ by up to as much, so that one candidate is usually first.
const SPREAD_MS: u64 = 350;
/// What followers heard last of a leader that lost its majority may be as late as the end of its lease; then they wait for the
/// lease, for their draw, and perhaps for a second one. Heartbeats before that would begin all of it anew.
const PROBE_LEASES: u64 = 3;
/// A controller that measured the worst asks for votes after so long all the same.
const PATIENCE_MAX_MS: u64 = 1_200;
/// What is measured counts for so long at least, and at most for twice that.
const WINDOW_MS: u64 = 10_000;

/// Times of elections, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Shortest random wait after the lease; also the time a vote may take.
    pub vote_ms: u64,
    /// A follower that heard its leader refuses votes for so long, and a leader that hears no majority takes no writes after
    /// it. Also the longest random wait after the lease.
    pub lease_ms: u64,
    /// A leader without a majority is silent for so long, so that a better connected one is elected; then it tries again.
    pub probe_ms: u64,
}

/// The times of a controller whose flushes take up to `flush_ms`.
pub fn timing(flush_ms: u64) -> Timing {
    let vote_ms = flush_ms
        .saturating_mul(2)
        .saturating_add(VOTE_WAY_MS)
        .clamp(VOTE_MIN_MS, VOTE_MAX_MS);
    let lease_ms = vote_ms + SPREAD_MS;
    Timing {
        vote_ms,
        lease_ms,
        probe_ms: PROBE_LEASES * lease_ms,
    }
}

/// What a controller measured lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// Longest flush of its log, milliseconds.
    pub flush_ms: u64,
    /// Longest pause between two heartbeats of one leader, milliseconds.
    pub gap_ms: u64,
}

/// A controller that has just started asks for votes after so long at the earliest: the others are about to elect somebody, or
/// have a leader who is about to find it. A term that begins while it does not know would be ended by its own.
pub const START_PATIENCE_MS: u64 = 1_000;

/// How long a follower must have heard nothing before it asks for votes, whatever its random wait says.
pub fn patience_ms(measured: Measured) -> u64 {
    let gaps = measured.gap_ms.saturating_mul(3);
    let flushes = measured.flush_ms.saturating_mul(2);
    gaps.saturating_add(flushes).min(PATIENCE_MAX_MS)
}

/// How long a controller that gave its vote, to itself or another, asks for no other: the elected one has to hear of it, write that
/// down, and say so. Each term that begins in between makes all of them write again.
pub fn after_vote_ms(measured: Measured) -> u64 {
    let flushes = measured.flush_ms.saturating_mul(3);
    flushes
        .saturating_add(2 * VOTE_WAY_MS)
        .clamp(VOTE_MIN_MS, PATIENCE_MAX_MS)
}

/// The largest of what was measured lately. What happened once is forgotten after a while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Worst {
    since: MonotonicMs,
    current: u64,
    previous: u64,
}

impl Worst {
    /// One more measurement.
    pub fn add(&mut self, value: u64, now: MonotonicMs) {
        self.turn(now);
        self.current = self.current.max(value);
    }

    /// The largest of the last window and the one before.
    pub fn get(&mut self, now: MonotonicMs) -> u64 {
        self.turn(now);
        self.current.max(self.previous)
    }

    fn turn(&mut self, now: MonotonicMs) {
        let age = now.since(self.since);
        if age < WINDOW_MS {
            return;
        }
        self.previous = if age < 2 * WINDOW_MS { self.current } else { 0 };
        self.current = 0;
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_follow_the_disk_between_floor_and_ceiling() {
        let table = [
            (0, 250, 600),
            (75, 250, 600),
            (76, 252, 602),
            (150, 400, 750),
        ];
        for (flush, vote_ms, lease_ms) in table {
            let probe_ms = PROBE_LEASES * lease_ms;
            let expected = Timing {
                vote_ms,
                lease_ms,
                probe_ms,
            };
            assert_eq!(timing(flush), expected, "{flush}");
        }
        assert_eq!(timing(200), timing(u64::MAX));
    }

    /// What openraft refuses to start with, and what a user waits at most.
    #[test]
    fn all_times_fit_each_other() {
        for flush in 0..1_000 {
            let times = timing(flush);
            assert!(HEARTBEAT_MS < times.vote_ms && times.vote_ms < times.lease_ms);
            assert!(times.probe_ms >= 2 * times.lease_ms);
            // Five answers to heartbeats may be lost before a leader doubts itself.
            assert!(times.lease_ms >= 6 * HEARTBEAT_MS);
            assert!(times.lease_ms + times.lease_ms <= 1_700);
        }
    }

    #[test]
    fn a_machine_that_keeps_up_waits_no_longer_than_its_draw() {
        let measured = |flush_ms, gap_ms| Measured { flush_ms, gap_ms };
        let soonest = timing(10).lease_ms + timing(10).vote_ms;
        assert!(patience_ms(measured(10, 125)) < soonest);
        assert_eq!(patience_ms(measured(20, 250)), 790);
        assert_eq!(patience_ms(measured(0, 20_000)), PATIENCE_MAX_MS);
        assert_eq!(patience_ms(measured(u64::MAX, u64::MAX)), PATIENCE_MAX_MS);
        assert_eq!(patience_ms(Measured::default()), 0);
        assert_eq!(after_vote_ms(measured(5, 100)), VOTE_MIN_MS);
        assert_eq!(after_vote_ms(measured(200, 100)), 800);
        assert_eq!(after_vote_ms(measured(9_000, 0)), PATIENCE_MAX_MS);
    }

    #[test]
    fn the_worst_is_kept_for_a_while() {
        let mut worst = Worst::default();
        let at = MonotonicMs;
        worst.add(7, at(5));
        worst.add(3, at(6));
        assert_eq!(worst.get(at(WINDOW_MS - 1)), 7);
        worst.add(2, at(WINDOW_MS));
        assert_eq!(worst.get(at(2 * WINDOW_MS - 1)), 7);
        assert_eq!(worst.get(at(2 * WINDOW_MS)), 2);
        assert_eq!(worst.get(at(9 * WINDOW_MS)), 0);
    }
}
