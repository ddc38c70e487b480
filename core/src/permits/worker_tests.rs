//! The worker's half, rule by rule. How it stands up to a bad network is in `tests/permits_simulation.rs`.

use super::*;
use proptest::prelude::*;

const TTL_MS: u64 = 1_000;
const LIFE: Incarnation = Incarnation(5);

fn pool(name: &str) -> PoolKey {
    PoolKey {
        account: "123456789012".parse().unwrap(),
        function: name.parse().ok(),
        provisioned: None,
    }
}

fn ms(at: u64) -> MonotonicMs {
    MonotonicMs(at)
}

fn grant(name: &str, n: u32, sequence: u64, session: u64) -> Grant {
    Grant {
        pool: pool(name),
        n,
        sequence: GrantSequence(sequence),
        incarnation: LIFE,
        session,
    }
}

fn shrink(name: &str, n: u32, base: u64, session: u64) -> Shrink {
    Shrink {
        pool: pool(name),
        n,
        base: GrantSequence(base),
        incarnation: LIFE,
        session,
    }
}

fn renewed(session: u64, sent_at: u64) -> RenewalReply {
    RenewalReply::Renewed {
        session,
        sent_at: ms(sent_at),
    }
}

/// Registered at 0, renewed at 0, with 2 permits of `f` and of the unreserved pool as of index 10.
fn worker() -> WorkerPermits {
    let mut worker = WorkerPermits::new(NodeId(1), LIFE, TTL_MS, ms(0));
    worker.on_reply(&renewed(1, 0), ms(1));
    assert!(worker.on_grant(&grant("f", 2, 10, 1), ms(1)));
    assert!(worker.on_grant(&grant("", 2, 10, 1), ms(1)));
    worker
}

fn acquire(worker: &mut WorkerPermits, name: &str, at: u64) -> Option<Permit> {
    match worker.try_acquire(&pool(name), ms(at)) {
        Acquire::Permit(permit) => Some(permit),
        Acquire::NoPermit | Acquire::Fenced => None,
    }
}

#[test]
fn accepts_up_to_the_ceiling_and_again_after_a_release() {
    let mut worker = worker();
    let first = acquire(&mut worker, "f", 2).unwrap();
    let _second = acquire(&mut worker, "f", 2).unwrap();
    assert_eq!(worker.try_acquire(&pool("f"), ms(2)), Acquire::NoPermit);
    assert_eq!(
        worker.try_acquire(&pool("unknown"), ms(2)),
        Acquire::NoPermit
    );
    worker.release(&pool("f"), first);
    assert!(acquire(&mut worker, "f", 2).is_some());
}

#[test]
fn grant_is_taken_only_if_newer_of_this_life_and_of_this_session() {
    let other_life = Grant {
        incarnation: Incarnation(4),
        ..grant("f", 9, 11, 1)
    };
    for (message, taken) in [
        (grant("f", 9, 11, 1), true),
        (grant("f", 0, 11, 1), true),
        (grant("f", 9, 10, 1), false),
        (grant("f", 9, 9, 1), false),
        (grant("f", 9, 11, 2), false),
        (other_life, false),
    ] {
        let mut worker = worker();
        assert_eq!(worker.on_grant(&message, ms(2)), taken, "{message:?}");
        let ceiling = worker.report(&pool("f"), ms(2)).ceiling;
        assert_eq!(ceiling, if taken { message.n } else { 2 });
    }
}

#[test]
fn shrink_lowers_at_once_and_answers_with_what_runs() {
    let mut worker = worker();
    let permits = [acquire(&mut worker, "f", 2), acquire(&mut worker, "f", 2)];
    let answer = worker.on_shrink(&shrink("f", 1, 10, 1), ms(3)).unwrap();
    assert_eq!((answer.n, answer.base), (2, GrantSequence(10)));
    for permit in permits.into_iter().flatten() {
        worker.release(&pool("f"), permit);
    }
    assert_eq!(worker.report(&pool("f"), ms(3)).ceiling, 1);
    let answer = worker.on_shrink(&shrink("f", 1, 10, 1), ms(3)).unwrap();
    assert_eq!(answer.n, 1);
}

#[test]
fn shrink_about_an_older_grant_is_ignored_and_one_about_a_newer_grant_outruns_it() {
    let mut worker = worker();
    assert_eq!(worker.on_shrink(&shrink("f", 0, 9, 1), ms(2)), None);
    assert_eq!(worker.report(&pool("f"), ms(2)).ceiling, 2);
    assert!(worker.on_shrink(&shrink("f", 1, 12, 1), ms(2)).is_some());
    assert!(
        !worker.on_grant(&grant("f", 5, 12, 1), ms(2)),
        "the grant the shrink was about"
    );
    assert_eq!(worker.report(&pool("f"), ms(2)).ceiling, 1);
}

#[test]
fn silence_fences_reserved_pools_for_good_and_leaves_the_unreserved_one_open() {
    let mut worker = worker();
    assert!(acquire(&mut worker, "f", TTL_MS - 1).is_some());
    assert_eq!(worker.try_acquire(&pool("f"), ms(TTL_MS)), Acquire::Fenced);
    assert!(acquire(&mut worker, "", 100 * TTL_MS).is_some());
    // An answer to the old session, or to the new one, does not bring the old ceiling back.
    let session = worker.renewal(ms(101_000)).session;
    worker.on_reply(&renewed(1, 101_000), ms(101_001));
    worker.on_reply(&renewed(session, 101_000), ms(101_001));
    assert_eq!(worker.try_acquire(&pool("f"), ms(101_002)), Acquire::Fenced);
    assert_eq!(worker.report(&pool("f"), ms(101_002)).ceiling, 0);
    assert!(
        !worker.on_grant(&grant("f", 2, 11, 1), ms(101_002)),
        "sent before the silence"
    );
    assert!(worker.on_grant(&grant("f", 2, 12, session), ms(101_002)));
    assert!(acquire(&mut worker, "f", 101_002).is_some());
}

#[test]
fn time_counts_from_the_sending_of_the_renewal() {
    let mut worker = worker();
    worker.on_reply(&renewed(1, 500), ms(990));
    assert!(acquire(&mut worker, "f", 1_499).is_some());
    assert_eq!(worker.try_acquire(&pool("f"), ms(1_500)), Acquire::Fenced);
}

#[test]
fn session_that_was_never_answered_ends_too_and_its_grants_with_it() {
    let mut worker = WorkerPermits::new(NodeId(1), LIFE, TTL_MS, ms(0));
    assert!(worker.on_grant(&grant("f", 2, 10, 1), ms(1)));
    assert_eq!(
        worker.try_acquire(&pool("f"), ms(2)),
        Acquire::Fenced,
        "not answered yet"
    );
    assert_eq!(worker.report(&pool("f"), ms(2)).ceiling, 2);
    assert_eq!(worker.renewal(ms(TTL_MS)).session, 2);
    worker.on_reply(&renewed(2, TTL_MS), ms(TTL_MS + 1));
    assert_eq!(
        worker.try_acquire(&pool("f"), ms(TTL_MS + 2)),
        Acquire::Fenced
    );
}

#[test]
fn superseded_worker_accepts_nothing_ever() {
    let mut worker = worker();
    worker.on_reply(&RenewalReply::Superseded, ms(2));
    for name in ["f", "", "unknown"] {
        assert_eq!(
            worker.try_acquire(&pool(name), ms(3)),
            Acquire::Fenced,
            "{name:?}"
        );
    }
    assert!(!worker.on_grant(&grant("f", 5, 50, 1), ms(3)));
}

#[test]
fn gate_made_again_does_not_take_an_old_grant_for_news() {
    let mut worker = worker();
    assert!(worker.on_grant(&grant("f", 0, 11, 1), ms(2)));
    worker.forget_closed();
    assert!(!worker.on_grant(&grant("f", 2, 10, 1), ms(3)));
    assert!(worker.on_grant(&grant("f", 2, 12, 1), ms(3)));
}

/// A worker forgets gates that are closed and calm; a share that the leader still counts there must come back all the
/// same. Found by the simulation: the question was older than the floor of the new gate and never answered.
#[test]
fn a_share_of_which_the_gate_was_forgotten_can_be_taken_back() {
    let mut worker = worker();
    let permit = acquire(&mut worker, "f", 2).unwrap();
    assert_eq!(
        worker.on_shrink(&shrink("f", 0, 10, 1), ms(3)).unwrap().n,
        1
    );
    worker.release(&pool("f"), permit);
    assert!(worker.on_grant(&grant("g", 1, 20, 1), ms(4)));
    assert_eq!(
        worker.on_shrink(&shrink("g", 0, 20, 1), ms(4)).unwrap().n,
        0
    );
    worker.forget_closed();
    for _ in 0..2 {
        let answer = worker.on_shrink(&shrink("f", 0, 10, 1), ms(5)).unwrap();
        assert_eq!((answer.n, answer.base), (0, GrantSequence(10)));
    }
    assert!(!worker.on_grant(&grant("f", 2, 10, 1), ms(6)), "old news");
    assert!(worker.on_grant(&grant("f", 2, 21, 1), ms(7)));
    assert!(worker.on_shrink(&shrink("f", 0, 10, 1), ms(8)).is_none());
}

proptest! {
    /// I3: repeating and reordering grants of one session ends where the newest one says.
    #[test]
    fn newest_grant_wins_in_any_order(
        sent in prop::collection::vec((0_u32..9, 11_u64..40), 1..20).prop_shuffle(),
    ) {
        let mut worker = worker();
        // One index has one value.
        let value = |sequence: u64| u32::try_from(sequence % 7).unwrap();
        for (_, sequence) in sent.iter().chain(&sent) {
            worker.on_grant(&grant("f", value(*sequence), *sequence, 1), ms(2));
        }
        let newest = sent.iter().map(|(_, s)| *s).max().unwrap();
        prop_assert_eq!(worker.report(&pool("f"), ms(2)).ceiling, value(newest));
    }
}
