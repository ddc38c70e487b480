//! Checks whether a history of calls is linearizable: whether the calls, each taking effect at one moment between its
//! sending and its answer, can be put in one order in which every answer is right (Wing and Gong 1993, with Lowe's
//! memory of what was tried, 2017). Calls without an answer may have taken effect at any later time, or never.

use std::collections::BTreeSet;

/// What calls do to a state.
pub trait Model {
    /// The state.
    type State: Clone + Ord;
    /// A call and its answer.
    type Call;

    /// Before any call.
    fn initial(&self) -> Self::State;

    /// The states in which the call may leave this one, having had its answer. None: the answer is wrong here.
    fn step(&self, state: &Self::State, call: &Self::Call) -> Vec<Self::State>;

    /// Whether the call, having had its answer, changes no state.
    fn only_reads(&self, call: &Self::Call) -> bool;
}

/// A call with its times, on one clock.
#[derive(Clone, Debug)]
pub struct Timed<C> {
    /// When it was sent.
    pub began: u64,
    /// When its answer came; `None`: there was none.
    pub ended: Option<u64>,
    /// What it was and what was answered.
    pub call: C,
}

/// Configurations looked at before the check gives up.
const LIMIT: usize = 400_000;

/// What the check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order.
    Linearizable,
    /// There is none; the longest order found has so many of the answered calls, and then these (by index) fit nowhere.
    Violated {
        /// Answered calls that were put in order.
        ordered: usize,
        /// Answered calls that could have come next and whose answers were all wrong.
        stuck: Vec<usize>,
    },
    /// The search was given up.
    Undecided,
}

/// Which calls are in the order, and the state after them.
type Configuration<S> = (Vec<u64>, S);

fn contains(set: &[u64], index: usize) -> bool {
    set[index / 64] & (1 << (index % 64)) != 0
}

/// Looks for an order.
pub fn check<M: Model>(model: &M, history: &[Timed<M::Call>]) -> Verdict {
    let words = history.len().div_ceil(64);
    let answered = history.iter().filter(|c| c.ended.is_some()).count();
    let mut tried: BTreeSet<Configuration<M::State>> = BTreeSet::new();
    let mut stack = vec![(vec![0_u64; words], model.initial(), 0_usize)];
    let (mut furthest, mut stuck) = (0, Vec::new());
    while let Some((set, state, done)) = stack.pop() {
        if done == answered {
            return Verdict::Linearizable;
        }
        if tried.len() >= LIMIT {
            return Verdict::Undecided;
        }
        let left = |i: &usize| !contains(&set, *i);
        // Nothing comes before a call that was answered before it was sent.
        let first_answer = (0..history.len())
            .filter(left)
            .filter_map(|i| history[i].ended)
            .min()
            .unwrap_or(u64::MAX);
        let candidates: Vec<usize> = (0..history.len())
            .filter(left)
            .filter(|i| history[*i].began <= first_answer)
            .collect();
        if done > furthest || stuck.is_empty() {
            furthest = done;
            let known = candidates.iter().filter(|i| history[**i].ended.is_some());
            stuck = known.copied().collect();
        }
        // A read that is right here may as well come now: whatever order has it later is as good with it here.
        let is_free = |i: &&usize| {
            let call = &history[**i].call;
            model.only_reads(call) && model.step(&state, call) == [state.clone()]
        };
        let free = candidates.iter().find(is_free).map(std::slice::from_ref);
        // The stack is popped from its end: answered calls, the earliest first, are the likeliest.
        for index in free.unwrap_or(&candidates).iter().rev() {
            let is_answered = history[*index].ended.is_some();
            for next in model.step(&state, &history[*index].call) {
                if !is_answered && next == state {
                    // Never carried out is the same.
                    continue;
                }
                let mut with = set.clone();
                with[index / 64] |= 1 << (index % 64);
                let done = done + usize::from(is_answered);
                if tried.insert((with.clone(), next.clone())) {
                    stack.push((with, next, done));
                }
            }
        }
    }
    Verdict::Violated {
        ordered: furthest,
        stuck,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A register: reads and writes of numbers.
    struct Register;

    #[derive(Clone, Copy, Debug)]
    enum Call {
        Write(u8),
        Read(u8),
    }

    impl Model for Register {
        type State = u8;
        type Call = Call;

        fn initial(&self) -> u8 {
            0
        }

        fn step(&self, state: &u8, call: &Call) -> Vec<u8> {
            match call {
                Call::Write(value) => vec![*value],
                Call::Read(value) if value == state => vec![*state],
                Call::Read(_) => Vec::new(),
            }
        }

        fn only_reads(&self, call: &Call) -> bool {
            matches!(call, Call::Read(_))
        }
    }

    fn verdict(calls: &[(u64, Option<u64>, Call)]) -> Verdict {
        let history: Vec<_> = calls
            .iter()
            .map(|(began, ended, call)| Timed {
                began: *began,
                ended: *ended,
                call: *call,
            })
            .collect();
        check(&Register, &history)
    }

    #[test]
    fn one_call_after_the_other_must_agree() {
        use Call::{Read, Write};
        let good = [(0, Some(1), Write(1)), (2, Some(3), Read(1))];
        assert_eq!(verdict(&good), Verdict::Linearizable);
        let stale = [(0, Some(1), Write(1)), (2, Some(3), Read(0))];
        let stuck = Verdict::Violated {
            ordered: 1,
            stuck: vec![1],
        };
        assert_eq!(verdict(&stale), stuck);
    }

    #[test]
    fn a_call_takes_effect_at_any_moment_of_its_time() {
        use Call::{Read, Write};
        for seen in [0, 1] {
            let calls = [(0, Some(10), Write(1)), (2, Some(3), Read(seen))];
            assert_eq!(verdict(&calls), Verdict::Linearizable);
        }
    }

    #[test]
    fn reads_never_go_back() {
        use Call::{Read, Write};
        let calls = [
            (0, Some(10), Write(1)),
            (2, Some(3), Read(1)),
            (4, Some(5), Read(0)),
        ];
        assert!(matches!(verdict(&calls), Verdict::Violated { .. }));
    }

    #[test]
    fn a_call_without_answer_may_take_effect_late_or_never_but_once() {
        use Call::{Read, Write};
        let never = [(0, None, Write(1)), (9, Some(10), Read(0))];
        assert_eq!(verdict(&never), Verdict::Linearizable);
        let late = [
            (0, None, Write(1)),
            (9, Some(10), Read(0)),
            (11, Some(12), Read(1)),
        ];
        assert_eq!(verdict(&late), Verdict::Linearizable);
        let twice = [
            (0, None, Write(1)),
            (1, Some(2), Read(1)),
            (3, Some(4), Write(2)),
            (5, Some(6), Read(2)),
            (7, Some(8), Read(1)),
        ];
        assert!(matches!(verdict(&twice), Verdict::Violated { .. }));
    }

    /// Writing what is there already changes nothing where it stands, and may be needed later.
    #[test]
    fn a_write_of_what_is_there_is_no_read() {
        use Call::{Read, Write};
        let calls = [
            (0, Some(1), Write(3)),
            (2, Some(9), Write(3)),
            (2, Some(9), Write(1)),
            (10, Some(11), Read(3)),
        ];
        assert_eq!(verdict(&calls), Verdict::Linearizable);
    }

    /// Answers that are all right and a last one that is not: whatever else could have happened has to be ruled out.
    #[test]
    fn reads_beside_writes_of_unknown_outcome_are_decided() {
        use Call::{Read, Write};
        let mut calls: Vec<_> = (1..9).map(|i| (0, None, Write(i))).collect();
        for i in 0..200 {
            let value = u8::try_from(i / 25).unwrap();
            calls.push((10 * i + 1, Some(10 * i + 30), Read(value)));
        }
        assert_eq!(verdict(&calls), Verdict::Linearizable);
        calls.push((9_000, Some(9_001), Read(77)));
        assert!(matches!(verdict(&calls), Verdict::Violated { .. }));
    }

    #[test]
    fn many_concurrent_calls_are_decided() {
        use Call::{Read, Write};
        let mut calls: Vec<_> = (0..12)
            .map(|i| (0, if i % 2 == 0 { None } else { Some(100) }, Write(i)))
            .collect();
        calls.extend([(101, Some(102), Read(3)), (103, Some(104), Read(3))]);
        assert_eq!(verdict(&calls), Verdict::Linearizable);
        calls.push((105, Some(106), Read(77)));
        assert!(matches!(verdict(&calls), Verdict::Violated { .. }));
    }
}
