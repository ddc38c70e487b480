//! What a gateway does when an attempt to run an invocation did not give a response. Synchronous path only;
//! the retries of queued events follow other rules.
//!
//! The line is the moment the function takes the event: before it, nothing of the user's has run, and the
//! attempt may be repeated elsewhere; after it, the outcome belongs to the client, since a function that
//! ran twice for one request is a wrong answer.

/// Other workers tried after the first, before the leader is asked.
/// Source: architecture, "Admission": "the next candidate (two at most), then NeedCapacity".
pub const OTHER_CANDIDATES_MAX: u32 = 2;

/// Times the leader is asked for one invocation, so that two full tables cannot chase each other.
pub const NEED_CAPACITY_MAX: u32 = 3;

/// Times one invocation goes back in line because its sandbox was gone when it came. The queue's deadline ends the
/// waiting of an honest one; this only ends a loop.
pub const WAITS_MAX: u32 = 100;

/// How an attempt ended without a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptFailure {
    /// The worker's ceiling for the pool is reached.
    NoPermit,
    /// The worker has permits and no idle sandbox, and cannot start one now.
    NoSandbox,
    /// The worker is cut off from the controllers and this pool is exact.
    Fenced,
    /// The worker finishes and takes no more.
    Draining,
    /// The worker could not be reached, or the sandbox died, and the event was surely not taken.
    LostBeforeTaken,
    /// The connection or the sandbox was lost when the event was, or may have been, taken.
    LostAfterTaken,
    /// The init phase failed; the error is the function's own answer.
    InitFailed,
}

/// What the invocation has been through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Workers tried since the leader was last asked.
    pub workers_tried: u32,
    /// Times the leader was asked.
    pub leader_asked: u32,
    /// Times it went back in line.
    pub waits: u32,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Another worker, not one already tried.
    NextCandidate,
    /// Back in line for the next free sandbox: nothing is lacking but luck.
    WaitAgain,
    /// Tell the leader `NeedCapacity`, wait for its word, then begin again.
    NeedCapacity,
    /// Every way is used up and nothing has run: 429 if the failure is a matter of permits, else 503.
    GiveUp {
        /// Whether it is a throttle.
        throttled: bool,
    },
    /// The function has, or may have, run: report the failure.
    Report,
}

/// Decides after a failed attempt. `attempts` counts the failed one; `others_left` says whether a
/// candidate is known that was not tried.
pub fn after_failure(failure: AttemptFailure, attempts: Attempts, others_left: bool) -> Decision {
    let (throttled, lacks_permit) = match failure {
        AttemptFailure::LostAfterTaken | AttemptFailure::InitFailed => return Decision::Report,
        AttemptFailure::NoPermit => (true, true),
        AttemptFailure::Fenced => (false, true),
        AttemptFailure::NoSandbox | AttemptFailure::Draining | AttemptFailure::LostBeforeTaken => {
            (false, false)
        }
    };
    if others_left && attempts.workers_tried <= OTHER_CANDIDATES_MAX {
        Decision::NextCandidate
    } else if !lacks_permit && attempts.waits < WAITS_MAX {
        Decision::WaitAgain
    } else if lacks_permit && attempts.leader_asked < NEED_CAPACITY_MAX {
        Decision::NeedCapacity
    } else {
        Decision::GiveUp { throttled }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [AttemptFailure; 7] = [
        AttemptFailure::NoPermit,
        AttemptFailure::NoSandbox,
        AttemptFailure::Fenced,
        AttemptFailure::Draining,
        AttemptFailure::LostBeforeTaken,
        AttemptFailure::LostAfterTaken,
        AttemptFailure::InitFailed,
    ];

    fn attempts(workers_tried: u32, leader_asked: u32) -> Attempts {
        Attempts {
            workers_tried,
            leader_asked,
            waits: 0,
        }
    }

    #[test]
    fn an_event_that_may_have_been_taken_is_never_sent_again() {
        for tried in 0..5 {
            for failure in [AttemptFailure::LostAfterTaken, AttemptFailure::InitFailed] {
                assert_eq!(
                    after_failure(failure, attempts(tried, 0), true),
                    Decision::Report
                );
            }
        }
    }

    #[test]
    fn two_other_workers_then_the_leader_then_the_end() {
        use Decision::{GiveUp, NeedCapacity, NextCandidate};
        let no_permit = |a, left| after_failure(AttemptFailure::NoPermit, a, left);
        assert_eq!(no_permit(attempts(1, 0), true), NextCandidate);
        assert_eq!(no_permit(attempts(2, 0), true), NextCandidate);
        assert_eq!(no_permit(attempts(3, 0), true), NeedCapacity);
        assert_eq!(no_permit(attempts(1, 0), false), NeedCapacity);
        let end = attempts(1, NEED_CAPACITY_MAX);
        assert_eq!(no_permit(end, false), GiveUp { throttled: true });
        assert_eq!(
            after_failure(AttemptFailure::Fenced, end, false),
            GiveUp { throttled: false }
        );
    }

    /// A stale count of free sandboxes must not end an invocation that still has time.
    #[test]
    fn an_invocation_whose_sandbox_was_gone_waits_again() {
        for failure in [
            AttemptFailure::NoSandbox,
            AttemptFailure::Draining,
            AttemptFailure::LostBeforeTaken,
        ] {
            let mut a = attempts(1, NEED_CAPACITY_MAX);
            assert_eq!(after_failure(failure, a, false), Decision::WaitAgain);
            a.waits = WAITS_MAX;
            assert_eq!(
                after_failure(failure, a, false),
                Decision::GiveUp { throttled: false }
            );
        }
    }

    #[test]
    fn every_failure_comes_to_an_end() {
        for failure in ALL {
            let mut a = attempts(0, 0);
            let end = (0..1_000).find(|_| {
                a.workers_tried += 1;
                match after_failure(failure, a, true) {
                    Decision::NextCandidate => false,
                    Decision::WaitAgain => {
                        a = Attempts {
                            workers_tried: 0,
                            waits: a.waits + 1,
                            ..a
                        };
                        false
                    }
                    Decision::NeedCapacity => {
                        a = Attempts {
                            workers_tried: 0,
                            leader_asked: a.leader_asked + 1,
                            ..a
                        };
                        false
                    }
                    Decision::GiveUp { .. } | Decision::Report => true,
                }
            });
            assert!(end.is_some(), "{failure:?}");
        }
    }
}
