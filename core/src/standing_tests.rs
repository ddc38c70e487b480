//! Judgements as tables, and a worker's way out and back.

use proptest::prelude::*;

use super::*;

fn cases(lags: &[u64]) -> Vec<Case> {
    (1..)
        .zip(lags)
        .map(|(id, lag_ms)| Case {
            worker: NodeId(id),
            record: Record::default(),
            lag_ms: *lag_ms,
        })
        .collect()
}

/// Ids of the ejected after one judgement.
fn ejected(lags: &[u64]) -> Vec<u64> {
    let mut cases = cases(lags);
    judge(&mut cases, MonotonicMs(0));
    let mut ids: Vec<u64> = cases
        .iter()
        .filter(|case| case.record.standing == Standing::Ejected)
        .map(|case| case.worker.0)
        .collect();
    ids.sort_unstable();
    ids
}

#[test]
fn table_of_judgements() {
    let table: [(&str, &[u64], &[u64]); 9] = [
        ("nobody", &[], &[]),
        ("the only one stays", &[9_000], &[]),
        ("all are well", &[0, 3, 20, 40], &[]),
        ("one is stopped", &[0, 400], &[2]),
        ("one lags far behind the others", &[4, 60, 5], &[2]),
        ("all are loaded alike", &[80, 100, 120], &[]),
        ("both are stopped: the worse goes", &[300, 900], &[2]),
        (
            "three of four are stopped: half go",
            &[600, 0, 900, 700],
            &[3, 4],
        ),
        ("noise is not lag", &[0, 49], &[]),
    ];
    for (name, lags, wanted) in table {
        assert_eq!(ejected(lags), wanted, "{name}");
    }
}

/// Two workers of which the second lags as told, judged every 50 ms.
struct Two {
    cases: Vec<Case>,
    now: MonotonicMs,
}

impl Two {
    fn new() -> Self {
        Self {
            cases: cases(&[0, 0]),
            now: MonotonicMs(0),
        }
    }

    fn second(&mut self) -> &mut Case {
        let second = self.cases.iter_mut().find(|case| case.worker.0 == 2);
        second.expect("there are two")
    }

    /// Milliseconds until the second has the standing.
    fn until(&mut self, standing: Standing, lag_ms: u64) -> u64 {
        let begun = self.now;
        for _ in 0..1_000 {
            self.second().lag_ms = lag_ms;
            judge(&mut self.cases, self.now);
            if self.second().record.standing == standing {
                return self.now.since(begun);
            }
            self.now = self.now.plus(50);
        }
        panic!("never {standing:?}");
    }
}

#[test]
fn a_worker_that_is_well_again_is_probed_and_then_trusted() {
    let mut two = Two::new();
    assert_eq!(two.until(Standing::Ejected, 300), 0);
    assert_eq!(two.until(Standing::Probing, 0), REST_MS);
    assert_eq!(two.until(Standing::Well, 0), PROBE_MS);
}

#[test]
fn every_relapse_doubles_the_rest_up_to_a_limit_and_good_conduct_is_rewarded() {
    let mut two = Two::new();
    let mut rests = Vec::new();
    for _ in 0..8 {
        two.until(Standing::Ejected, 300);
        rests.push(two.until(Standing::Probing, 0));
    }
    assert_eq!(rests, [250, 500, 1_000, 2_000, 4_000, 8_000, 8_000, 8_000]);
    two.until(Standing::Well, 0);
    let later = two.now.plus(FORGIVEN_AFTER_MS);
    while two.now < later {
        judge(&mut two.cases, two.now);
        two.now = two.now.plus(50);
    }
    two.until(Standing::Ejected, 300);
    assert_eq!(two.until(Standing::Probing, 0), REST_MS);
}

#[test]
fn a_stopped_worker_lags_within_a_moment_and_one_without_pulses_never() {
    let mut answers = Answers::new(MonotonicMs(0));
    assert_eq!(answers.lag_ms(9_000, MonotonicMs(9_000)), 0);
    answers.on_pulse(Pace::default(), MonotonicMs(1_000));
    answers.on_heard(MonotonicMs(1_000));
    assert_eq!(answers.lag_ms(0, MonotonicMs(1_100)), 0);
    assert_eq!(answers.lag_ms(0, MonotonicMs(1_350)), SLOW_MS);
    assert_eq!(answers.lag_ms(260, MonotonicMs(1_010)), 260);
}

/// A worker whose cores are stolen answers late, though it answers.
#[test]
fn late_answers_show_in_the_averages_and_fade() {
    let mut answers = Answers::new(MonotonicMs(0));
    let mut now = MonotonicMs(0);
    for _ in 0..20 {
        now = now.plus(PULSE_MS + 80);
        answers.on_heard(now);
        answers.on_pulse(Pace::default(), now);
        answers.on_taken(120);
    }
    assert!((100..=120).contains(&answers.lag_ms(0, now)), "{answers:?}");
    for _ in 0..20 {
        now = now.plus(PULSE_MS);
        answers.on_heard(now);
        answers.on_pulse(Pace::default(), now);
    }
    assert!(answers.lag_ms(0, now) < 5, "{answers:?}");
}

proptest! {
    #[test]
    fn at_most_half_are_ejected_whatever_happens(
        rounds in prop::collection::vec(prop::collection::vec(0_u64..1_000, 1..9), 1..20),
    ) {
        let mut known = cases(&[0; 8]);
        for (round, lags) in (0_u64..).zip(&rounds) {
            let mut now: Vec<Case> = known.iter().take(lags.len()).copied().collect();
            for (case, lag) in now.iter_mut().zip(lags) {
                case.lag_ms = *lag;
            }
            judge(&mut now, MonotonicMs(round * 50));
            let out = now.iter().filter(|c| c.record.standing == Standing::Ejected).count();
            prop_assert!(out <= now.len() / 2);
            for case in now {
                let kept = known.iter_mut().find(|k| k.worker == case.worker);
                *kept.expect("known") = case;
            }
        }
    }

    /// The heart of it: whatever delays pulses, answers and frames, and whatever paces are wished, an invocation is not both given
    /// away and begun later. Real time is the gateway's clock; the worker's runs with an offset.
    #[test]
    fn what_is_given_away_is_never_begun_afterwards(
        offset in 0_u64..1_000_000,
        pulses in prop::collection::vec((0_u64..3_000, 0_u64..2_000, 0_u64..2_000, 0_usize..2_000), 1..4),
        given_away_at in 0_u64..9_000,
        read_after in 0_u64..10_000,
    ) {
        let given_away = MonotonicMs(given_away_at);
        let read = MonotonicMs(given_away_at + read_after);
        let (mut answers, mut lease) = (Answers::new(MonotonicMs(0)), Lease::default());
        let (mut sent, mut came) = (0, 0);
        for (gap, delay, answer_delay, workers) in pulses {
            sent += gap;
            // In order, as a stream has them.
            came = came.max(sent + delay);
            if came > given_away_at {
                break;
            }
            let pace = Pace::of_workers(workers);
            answers.on_pulse(pace, MonotonicMs(came));
            if came + answer_delay <= read.0 {
                lease.on_answer(MonotonicMs(sent + offset), Pace::told(pace.pulse_ms));
            }
        }
        if answers.is_pulsing() && answers.is_lease_over(given_away) {
            prop_assert!(!lease.holds(read.plus(offset)));
        }
    }
}

#[test]
fn nothing_is_begun_before_a_pulse_was_answered() {
    let mut lease = Lease::default();
    assert!(!lease.holds(MonotonicMs(0)));
    lease.on_answer(MonotonicMs(5), Pace::default());
    assert!(lease.holds(MonotonicMs(4 + LEASE_MS)));
    assert!(!lease.holds(MonotonicMs(5 + LEASE_MS)));
}

#[test]
fn table_of_paces() {
    let pace = |pulse_ms| Pace {
        pulse_ms,
        lease_ms: 4 * pulse_ms,
    };
    for (workers, wanted) in [
        (0, 100),
        (1, 100),
        (200, 100),
        (600, 300),
        (1_000, 500),
        (9_000, 500),
    ] {
        assert_eq!(Pace::of_workers(workers), pace(wanted), "{workers}");
    }
    for (told, wanted) in [(0, 100), (100, 100), (300, 300), (u64::MAX, 500)] {
        assert_eq!(Pace::told(told), pace(wanted), "{told}");
    }
}

/// A slower pace is neither lateness nor silence, and a worker that is stopped is found out within the two seconds all the same.
#[test]
fn what_is_late_depends_on_the_pace() {
    let slow = Pace::of_workers(1_000);
    let mut answers = Answers::new(MonotonicMs(0));
    let mut now = MonotonicMs(0);
    for _ in 0..10 {
        answers.on_heard(now);
        answers.on_pulse(slow, now);
        now = now.plus(slow.pulse_ms);
        assert_eq!(answers.lag_ms(0, now), 0);
    }
    assert!(answers.lag_ms(0, now.plus(SLOW_MS)) >= SLOW_MS);
}
