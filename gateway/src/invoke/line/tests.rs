//! The waiting line with workers that are tables only: no stream, no runtime beyond oneshot channels.

use super::*;
use crate::invoke::tables::Report;
use hearth_core::ids::{Incarnation, Version};
use hearth_core::versions::Pools;

const NOW: MonotonicMs = MonotonicMs(1_000);
const LATER: MonotonicMs = MonotonicMs(31_000);

fn terms() -> Terms {
    Terms {
        pools: Arc::new(Pools {
            provisioned: None,
            on_demand: PoolKey {
                account: "000000000000".parse().unwrap(),
                function: None,
                provisioned: None,
            },
        }),
        memory_mib: 128,
        quota: Arc::default(),
        scale_out: Arc::default(),
    }
}

fn line() -> Arc<Line> {
    Arc::new(Line::new(VersionKey {
        account: "000000000000".parse().unwrap(),
        function: "f".parse().unwrap(),
        version: Version::Latest,
        generation: 1,
    }))
}

fn worker(id: u64, permits: u32, memory: u64) -> Arc<Worker> {
    let worker = Arc::new(Worker::new(NodeId(id), Incarnation(1), String::new()));
    worker.tables.set_connected(true);
    worker.tables.on_report(Report {
        free_memory_mib: memory,
        idle_memory_mib: 0,
        start_budget: 8,
        draining: false,
        pools: vec![(terms().pools.on_demand.clone(), permits, 0)],
        complete: true,
    });
    worker
}

type Receiver = oneshot::Receiver<Result<Slot, InvokeError>>;

fn free(idle: u32, received: u64) -> Free {
    Free { idle, received }
}

fn wait(line: &Arc<Line>) -> (Ticket, Receiver) {
    match line.grab(&terms(), false, LATER, NOW, [0, 0]) {
        Grab::Waiting { ticket, slot, .. } => (ticket, slot),
        other => panic!("{other:?}"),
    }
}

fn bound(receiver: &mut Receiver) -> Option<Result<u64, InvokeError>> {
    receiver.try_recv().ok().map(|result| {
        result.map(|slot| {
            let id = slot.worker.id.0;
            slot.used();
            id
        })
    })
}

#[test]
fn requests_bind_late_to_the_first_sandbox_in_order() {
    let (line, a) = (line(), worker(1, 10, 4_096));
    let (_, mut first) = wait(&line);
    let (gone, second) = wait(&line);
    let (_, mut third) = wait(&line);
    line.leave(gone);
    drop(second);
    line.on_report(&a, free(1, 0), [0, 0], NOW);
    assert_eq!(bound(&mut first), Some(Ok(1)));
    assert_eq!(bound(&mut third), None, "one sandbox, one invocation");
    line.on_ended(&a, free(1, 1), NOW);
    assert_eq!(bound(&mut third), Some(Ok(1)));
    line.on_ended(&a, free(1, 2), NOW);
    let grab = line.grab(&terms(), false, LATER, NOW, [0, 0]);
    assert!(
        matches!(grab, Grab::Slot(slot) if slot.worker.id.0 == 1),
        "nobody before it"
    );
}

#[test]
fn sandboxes_are_asked_for_once_where_permits_and_memory_are() {
    let (line, a, b) = (line(), worker(1, 0, 8_192), worker(2, 10, 1_024));
    let _waiting = [wait(&line), wait(&line)];
    let workers = [a, b];
    let plan = line.plan(&workers, &workers, NOW).unwrap();
    let starts: Vec<_> = plan.starts.iter().map(|(w, n)| (w.id.0, *n)).collect();
    assert_eq!(starts, [(2, 2)]);
    assert_eq!(plan.need, None);
    let again = line.plan(&workers, &workers, NOW.plus(100)).unwrap();
    assert!(again.starts.is_empty(), "they are on their way");
    let lost = line
        .plan(&workers, &workers, NOW.plus(START_ASK_TTL_MS))
        .unwrap();
    assert_eq!(lost.starts.len(), 1, "nothing was reported: asked again");
}

#[test]
fn permits_are_asked_for_when_none_is_left() {
    let (line, a) = (line(), worker(1, 0, 8_192));
    let mut waiting = wait(&line);
    let plan = line
        .plan(std::slice::from_ref(&a), std::slice::from_ref(&a), NOW)
        .unwrap();
    assert!(plan.starts.is_empty());
    let need = plan.need.unwrap();
    assert_eq!((need.wanted, need.refused_by), (1, Vec::new()));
    line.throttle(std::slice::from_ref(&a), "Reason", NOW);
    assert_eq!(
        bound(&mut waiting.1),
        Some(Err(InvokeError::Throttled {
            reason: "Reason".into()
        }))
    );
    assert!(
        line.plan(&[], std::slice::from_ref(&a), NOW).is_none(),
        "nobody waits"
    );
    assert!(line.is_unused());
}

#[test]
fn a_throttle_keeps_those_for_whom_a_permit_is_free() {
    let (line, a) = (line(), worker(1, 1, 8_192));
    let mut first = wait(&line);
    let mut second = wait(&line);
    line.throttle(&[a], "Reason", NOW);
    assert_eq!(bound(&mut first.1), None);
    assert!(matches!(
        bound(&mut second.1),
        Some(Err(InvokeError::Throttled { .. }))
    ));
}

#[test]
fn refused_starts_go_elsewhere_and_an_unrunnable_version_is_said() {
    let (line, a, b) = (line(), worker(1, 9, 8_192), worker(2, 9, 1_024));
    let mut waiting = wait(&line);
    let workers = [Arc::clone(&a), Arc::clone(&b)];
    let first = line.plan(&workers, &workers, NOW).unwrap();
    assert_eq!(first.starts[0].0.id.0, 1);
    line.on_start_refused(&a, StartRefusal::NotRunnable("install it".into()), NOW);
    let second = line.plan(&workers, &workers, NOW).unwrap();
    assert_eq!(second.starts[0].0.id.0, 2);
    line.on_start_refused(&b, StartRefusal::NotRunnable("install it".into()), NOW);
    assert!(line.plan(&workers, &workers, NOW).is_none());
    let refused = Some(Err(InvokeError::NotRunnable("install it".into())));
    assert_eq!(bound(&mut waiting.1), refused);
}

#[test]
fn waiting_has_an_end_and_a_limit() {
    let line = line();
    let mut first = wait(&line);
    assert!(line.plan(&[], &[], LATER).is_none());
    assert_eq!(bound(&mut first.1), Some(Err(InvokeError::WaitedTooLong)));
    let _waiting: Vec<_> = (0..QUEUE_PER_FUNCTION).map(|_| wait(&line)).collect();
    let grab = line.grab(&terms(), false, LATER, NOW, [0, 0]);
    assert!(matches!(grab, Grab::Refused(InvokeError::Limited { .. })));
}

#[test]
fn a_lost_worker_is_not_chosen() {
    let (line, a) = (line(), worker(1, 9, 8_192));
    line.on_report(&a, free(3, 0), [0, 0], NOW);
    a.tables.set_connected(false);
    line.forget(a.id);
    assert!(matches!(
        line.grab(&terms(), false, LATER, NOW, [0, 0]),
        Grab::Waiting { .. }
    ));
}

/// A worker's report may be a moment older than its last reply: with its one permit in use by the tables, a free
/// sandbox is tried once, and no more after the worker itself refused.
#[test]
fn tables_that_lag_do_not_throttle_and_the_workers_word_does() {
    let (line, a) = (line(), worker(1, 1, 8_192));
    let pool = a.tables.pool(&terms().pools.on_demand).unwrap();
    pool.on_sent();
    line.on_report(&a, free(1, 0), [0, 0], NOW);
    let grab = || line.grab(&terms(), false, LATER, NOW, [0, 0]);
    let Grab::Slot(slot) = grab() else {
        panic!("tried once")
    };
    slot.used();
    pool.on_exhausted();
    line.on_ended(&a, free(1, 1), NOW);
    let waiting = grab();
    assert!(matches!(waiting, Grab::Waiting { .. }));
    let need = line
        .plan(std::slice::from_ref(&a), std::slice::from_ref(&a), NOW)
        .unwrap()
        .need
        .unwrap();
    assert_eq!(need.refused_by, [NodeId(1)]);
}

/// Reports that do not know of invokes still on their way must not promise a sandbox twice.
#[test]
fn sandboxes_that_invokes_are_on_their_way_to_are_not_promised_again() {
    let (line, a) = (line(), worker(1, 9, 8_192));
    line.on_report(&a, free(2, 0), [0, 0], NOW);
    let grab = || line.grab(&terms(), false, LATER, NOW, [0, 0]);
    let used = |grab: Grab| match grab {
        Grab::Slot(slot) => slot.used(),
        other => panic!("{other:?}"),
    };
    used(grab());
    used(grab());
    // Counted before either came: both are still free there.
    line.on_report(&a, free(2, 0), [0, 0], NOW);
    let mut waiting = wait(&line);
    assert_eq!(bound(&mut waiting.1), None);
    // The first came and ended, the second has not come yet.
    line.on_ended(&a, free(2, 1), NOW);
    assert_eq!(bound(&mut waiting.1), Some(Ok(1)));
    // Older than the last: ignored.
    line.on_report(&a, free(9, 0), [0, 0], NOW);
    assert!(matches!(grab(), Grab::Waiting { .. }));
}

#[test]
fn a_promise_that_is_not_used_is_taken_back() {
    let (line, a) = (line(), worker(1, 9, 8_192));
    line.on_report(&a, free(1, 0), [0, 0], NOW);
    drop(line.grab(&terms(), false, LATER, NOW, [0, 0]));
    assert!(matches!(
        line.grab(&terms(), false, LATER, NOW, [0, 0]),
        Grab::Slot(_)
    ));
}

/// One that was refused has waited longer than those in line, whatever their number.
#[test]
fn one_that_waits_again_is_served_first() {
    let (line, a) = (line(), worker(1, 10, 4_096));
    let (_, mut patient) = wait(&line);
    let Grab::Waiting { mut slot, .. } = line.grab(&terms(), true, LATER, NOW, [0, 0]) else {
        panic!("nothing is free");
    };
    line.on_report(&a, free(1, 0), [0, 0], NOW);
    assert_eq!(bound(&mut slot), Some(Ok(1)));
    assert_eq!(bound(&mut patient), None);
    line.on_ended(&a, free(1, 1), NOW);
    assert_eq!(bound(&mut patient), Some(Ok(1)));
}

/// Idle sandboxes of other versions fill the worker: they give way, so it is asked all the same.
#[test]
fn a_worker_full_of_idle_sandboxes_is_asked_to_start() {
    let (line, a) = (line(), worker(1, 10, 0));
    let _waiting = wait(&line);
    let workers = [Arc::clone(&a)];
    assert!(
        line.plan(&workers, &workers, NOW)
            .unwrap()
            .starts
            .is_empty()
    );
    a.tables.on_report(Report {
        free_memory_mib: 0,
        idle_memory_mib: 128,
        start_budget: 8,
        draining: false,
        pools: vec![(terms().pools.on_demand.clone(), 10, 0)],
        complete: true,
    });
    assert_eq!(line.plan(&workers, &workers, NOW).unwrap().starts.len(), 1);
}

#[test]
fn after_the_leaders_word_nobody_waits_for_a_moment() {
    let (line, a, terms) = (line(), worker(1, 1, 8_192), terms());
    let grab = |now| line.grab(&terms, false, LATER, now, [0, 0]);
    let first = grab(NOW);
    line.plan(std::slice::from_ref(&a), std::slice::from_ref(&a), NOW);
    line.throttle(std::slice::from_ref(&a), "Reason", NOW);
    assert!(
        matches!(
            grab(NOW),
            Grab::Refused(InvokeError::Throttled { reason }) if reason == "ConcurrentInvocationLimitExceeded"
        ),
        "the one permit is for the first: {first:?}"
    );
    assert!(matches!(grab(NOW.plus(1_000)), Grab::Waiting { .. }));
}

#[test]
fn only_so_many_wait_for_memory_that_is_at_work() {
    let (line, a, terms) = (line(), worker(1, 1_000, 256), terms());
    let workers = [Arc::clone(&a)];
    let grab = |now| line.grab(&terms, false, LATER, now, [0, 0]);
    let waiting: Vec<_> = (0..10).map(|_| grab(NOW)).collect();
    assert_eq!(line.plan(&workers, &workers, NOW).unwrap().starts[0].1, 2);
    line.on_report(&a, free(0, 0), [0, 2], NOW);
    line.plan(&workers, &workers, NOW);
    assert_eq!(line.waiting(), 10, "it may be for a moment only");
    let later = NOW.plus(600);
    line.plan(&workers, &workers, later);
    assert_eq!(line.waiting(), 2, "one behind each sandbox");
    assert!(matches!(
        grab(later),
        Grab::Refused(InvokeError::Limited {
            retry_after_s: 1,
            ..
        })
    ));
    // Served at 100 a second and more: a second's worth may wait.
    for n in 0..100 {
        line.on_report(&a, free(1, n), [0, 2], later);
        let _ = line.grab_other(&[], later, [0, 0]).map(Slot::used);
    }
    assert!(matches!(grab(later), Grab::Waiting { .. }));
    drop(waiting);
}

#[test]
fn no_more_sandboxes_are_asked_for_than_a_function_may_add() {
    let (line, a, terms) = (line(), worker(1, 10_000, 1 << 30), terms());
    a.tables.on_report(Report {
        free_memory_mib: 1 << 30,
        idle_memory_mib: 0,
        start_budget: 5_000,
        draining: false,
        pools: Vec::new(),
        complete: false,
    });
    terms.scale_out.on_others(700, NOW);
    let _waiting: Vec<_> = (0..400)
        .map(|_| line.grab(&terms, false, LATER, NOW, [0, 0]))
        .collect();
    let plan = line
        .plan(&[Arc::clone(&a)], &[Arc::clone(&a)], NOW)
        .unwrap();
    assert_eq!(
        plan.starts[0].1, 300,
        "1,000 in 10 s, less what others asked for"
    );
    assert_eq!(line.waiting(), 300, "the rest is told at once");
    // A tenth of a second later there is room for ten more, and what the worker begins for others counts.
    line.on_begun(&a, 0, NOW);
    line.on_begun(&a, 305, NOW);
    let later = NOW.plus(100);
    let _more: Vec<_> = (0..50)
        .map(|_| line.grab(&terms, false, LATER, later, [0, 0]))
        .collect();
    let plan = line.plan(&[], std::slice::from_ref(&a), later).unwrap();
    assert_eq!(plan.starts[0].1, 5);
}

#[test]
fn sandboxes_between_two_invocations_are_no_room_for_more_of_the_same() {
    let (line, a) = (line(), worker(1, 1_000, 0));
    let _waiting = (wait(&line), wait(&line), wait(&line));
    // Both sandboxes there is memory for have just ended and are reported idle; two who wait are bound to them.
    a.tables.on_report(Report {
        free_memory_mib: 0,
        idle_memory_mib: 256,
        start_budget: 8,
        draining: false,
        pools: Vec::new(),
        complete: false,
    });
    line.on_report(&a, free(2, 0), [0, 0], NOW);
    assert_eq!(line.waiting(), 1);
    assert!(
        line.plan(&[Arc::clone(&a)], &[Arc::clone(&a)], NOW)
            .unwrap()
            .starts
            .is_empty()
    );
    a.tables.on_report(Report {
        free_memory_mib: 0,
        idle_memory_mib: 384,
        start_budget: 8,
        draining: false,
        pools: Vec::new(),
        complete: false,
    });
    let plan = line.plan(&[], std::slice::from_ref(&a), NOW).unwrap();
    assert_eq!(plan.starts[0].1, 1, "another version's gives way");
}

/// The task that looks after a line of a version that was replaced refuses all who wait until the line is empty; a place
/// without anybody in it kept it at that, without a pause, until the place's deadline. Found by the simulation.
#[test]
fn a_caller_that_left_without_a_word_leaves_no_place_behind() {
    let line = line();
    let (_, receiver) = wait(&line);
    assert!(line.plan(&[], &[], NOW).is_some());
    drop(receiver);
    assert!(line.plan(&[], &[], NOW).is_none());
    assert_eq!(line.waiting(), 0);
}

/// What a line knows of workers that have nothing of it costs memory for each version there is.
#[test]
fn rows_that_say_nothing_are_dropped_and_those_with_sandboxes_stay() {
    let line = line();
    let many: Vec<_> = (1..=200).map(|id| worker(id, 0, 8_192)).collect();
    let (ticket, _receiver) = wait(&line);
    line.plan(&many, &many[..80], NOW).unwrap();
    assert_eq!(line.state().rows.len(), 80);
    line.plan(&many, &many[80..], NOW).unwrap();
    assert_eq!(line.state().rows.len(), 0, "beyond what is kept");
    line.on_report(&many[7], free(0, 0), [1, 0], NOW);
    line.on_start_refused(&many[8], StartRefusal::NoMemory, NOW);
    line.plan(&many, &many[..80], NOW).unwrap();
    line.leave(ticket);
    assert!(line.plan(&many, &many[..80], NOW).is_none());
    let left: Vec<u64> = line.state().rows.keys().map(|id| id.0).collect();
    assert_eq!(left, [8, 9]);
}
