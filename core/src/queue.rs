//! A gateway's waiting line of one function version: bounded, first come first served, bound late to the
//! first free slot, warm or new. It holds tickets only; the caller keeps what they stand for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::ids::MonotonicMs;

/// A place in the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// The line is full; nothing was queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{capacity} invocations wait already")]
pub struct QueueFull {
    /// How many may wait.
    pub capacity: usize,
}

/// See the module's text.
#[derive(Clone, Debug)]
pub struct WaitQueue {
    capacity: usize,
    next: u64,
    /// In order of arrival, with those that left since still in it; `waiting` tells.
    order: VecDeque<Ticket>,
    /// With the deadline of each.
    waiting: BTreeMap<Ticket, MonotonicMs>,
    /// By deadline, those waiting only.
    deadlines: BTreeSet<(MonotonicMs, Ticket)>,
}

impl WaitQueue {
    /// An empty line for at most `capacity`.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            next: 0,
            order: VecDeque::new(),
            waiting: BTreeMap::new(),
            deadlines: BTreeSet::new(),
        }
    }

    /// Takes a place at the end, to be given up at `deadline`.
    pub fn enqueue(&mut self, deadline: MonotonicMs) -> Result<Ticket, QueueFull> {
        if self.waiting.len() >= self.capacity {
            let capacity = self.capacity;
            return Err(QueueFull { capacity });
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        self.order.push_back(ticket);
        self.waiting.insert(ticket, deadline);
        self.deadlines.insert((deadline, ticket));
        Ok(ticket)
    }

    /// Takes a place at the head, beyond capacity if need be: for one that was in line before and whose slot was none.
    pub fn enqueue_first(&mut self, deadline: MonotonicMs) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.put_back(ticket, deadline);
        ticket
    }

    /// A slot is free: who gets it. Nobody whose deadline has come; those [`Self::expire`] will name.
    pub fn bind(&mut self, now: MonotonicMs) -> Option<Ticket> {
        let ticket = *self
            .order
            .iter()
            .find(|t| self.waiting.get(t).is_some_and(|deadline| now < *deadline))?;
        self.leave(ticket);
        Some(ticket)
    }

    /// The slot turned out not to be one: the ticket is the first in line again, beyond capacity if need be.
    pub fn put_back(&mut self, ticket: Ticket, deadline: MonotonicMs) {
        self.order.push_front(ticket);
        self.waiting.insert(ticket, deadline);
        self.deadlines.insert((deadline, ticket));
    }

    /// The client went away. Returns whether it was waiting.
    pub fn cancel(&mut self, ticket: Ticket) -> bool {
        self.leave(ticket)
    }

    /// Everyone whose deadline has come, earliest deadline first.
    pub fn expire(&mut self, now: MonotonicMs) -> Vec<Ticket> {
        let mut expired = Vec::new();
        while let Some((deadline, ticket)) = self.deadlines.first().copied()
            && deadline <= now
        {
            self.leave(ticket);
            expired.push(ticket);
        }
        expired
    }

    fn leave(&mut self, ticket: Ticket) -> bool {
        let Some(deadline) = self.waiting.remove(&ticket) else {
            return false;
        };
        self.deadlines.remove(&(deadline, ticket));
        // Those that left inside the line go when they come to its head, or when they outnumber the rest.
        while self
            .order
            .front()
            .is_some_and(|t| !self.waiting.contains_key(t))
        {
            self.order.pop_front();
        }
        if self.order.len() > 2 * self.waiting.len() {
            let waiting = &self.waiting;
            self.order.retain(|t| waiting.contains_key(t));
        }
        true
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The next moment at which [`Self::expire`] has something to do.
    pub fn next_deadline(&self) -> Option<MonotonicMs> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }
}

/// Counts that decide on new sandboxes of one function version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Invocations waiting.
    pub queued: u32,
    /// Sandboxes being made.
    pub starting: u32,
    /// Sandboxes at work.
    pub busy: u32,
    /// Sandboxes the function may have at work at once, as far as known.
    pub limit: u32,
}

impl Demand {
    /// Sandboxes to start now: one for each that waits and has none on its way, as AWS does, and never more
    /// than could work at once. Those at work are not waited for: nobody knows when they end.
    pub fn starts_wanted(&self) -> u32 {
        let under_way = self.busy.saturating_add(self.starting);
        let room = self.limit.saturating_sub(under_way);
        self.queued.saturating_sub(self.starting).min(room)
    }
}

/// A line in which somebody waits is looked at this often, milliseconds, as long as few are.
const LOOK_AGAIN_MS: u64 = 20;
/// And at least this often.
const LOOK_AGAIN_MAX_MS: u64 = 200;
/// Lines looked at in a second, altogether: a look costs some 30 us where many workers are. What a line waits for mostly wakes it.
const LOOKS_PER_S: u64 = 2_000;

/// When a line is looked at again without being woken, milliseconds, while so many are waited in.
pub fn look_again_ms(lines: usize) -> u64 {
    let lines = u64::try_from(lines).unwrap_or(u64::MAX);
    let wished = lines.saturating_mul(1_000) / LOOKS_PER_S;
    wished.clamp(LOOK_AGAIN_MS, LOOK_AGAIN_MAX_MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn many_lines_are_looked_at_more_seldom() {
        for (lines, wanted) in [(0, 20), (40, 20), (100, 50), (400, 200), (9_000, 200)] {
            assert_eq!(look_again_ms(lines), wanted, "{lines}");
        }
    }

    #[test]
    fn starts_wanted_table() {
        let demand = |queued, starting, busy, limit| Demand {
            queued,
            starting,
            busy,
            limit,
        };
        let table = [
            (demand(0, 0, 0, 10), 0),
            (demand(1, 0, 0, 10), 1),
            (demand(1, 1, 0, 10), 0),
            (demand(5, 2, 3, 10), 3),
            (demand(5, 2, 7, 10), 1),
            (demand(5, 0, 10, 10), 0),
            (demand(5, 0, 12, 10), 0),
            (demand(2, 9, 0, 10), 0),
            (demand(5, 0, u32::MAX, u32::MAX), 0),
        ];
        for (demand, expected) in table {
            assert_eq!(demand.starts_wanted(), expected, "{demand:?}");
        }
    }

    #[test]
    fn first_come_first_served_within_the_deadline() {
        let mut queue = WaitQueue::new(3);
        let early = queue.enqueue(MonotonicMs(10)).unwrap();
        let a = queue.enqueue(MonotonicMs(100)).unwrap();
        let b = queue.enqueue(MonotonicMs(50)).unwrap();
        assert_eq!(
            queue.enqueue(MonotonicMs(50)),
            Err(QueueFull { capacity: 3 })
        );
        assert_eq!(queue.next_deadline(), Some(MonotonicMs(10)));
        assert_eq!(
            queue.bind(MonotonicMs(10)),
            Some(a),
            "{early:?} is too late"
        );
        assert_eq!(queue.expire(MonotonicMs(10)), [early]);
        queue.put_back(a, MonotonicMs(100));
        assert_eq!(queue.bind(MonotonicMs(20)), Some(a));
        assert!(queue.cancel(b) && !queue.cancel(b));
        assert_eq!(queue.bind(MonotonicMs(20)), None);
        assert!(queue.is_empty());
    }

    #[derive(Clone, Debug)]
    enum Op {
        Enqueue(u64),
        Bind,
        Cancel(usize),
        Expire,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            3 => (1_u64..30).prop_map(Op::Enqueue),
            2 => Just(Op::Bind),
            1 => (0_usize..10).prop_map(Op::Cancel),
            1 => Just(Op::Expire),
        ]
    }

    proptest! {
        /// Against a plain list: same answers, and every ticket leaves exactly once.
        #[test]
        fn behaves_like_a_plain_list(ops in prop::collection::vec(op(), 0..120)) {
            let mut queue = WaitQueue::new(8);
            let mut model: Vec<(Ticket, u64)> = Vec::new();
            for (now, op) in (0_u64..).zip(ops) {
                let at = MonotonicMs(now);
                match op {
                    Op::Enqueue(wait) => {
                        let result = queue.enqueue(MonotonicMs(now + wait));
                        prop_assert_eq!(result.is_ok(), model.len() < 8);
                        model.extend(result.map(|t| (t, now + wait)));
                    }
                    Op::Bind => {
                        let position = model.iter().position(|(_, d)| *d > now);
                        let expected = position.map(|p| model.remove(p).0);
                        prop_assert_eq!(queue.bind(at), expected);
                    }
                    Op::Cancel(n) => {
                        if n < model.len() {
                            prop_assert!(queue.cancel(model.remove(n).0));
                        }
                    }
                    Op::Expire => {
                        let mut gone: Vec<_> = model.iter().filter(|(_, d)| *d <= now).copied().collect();
                        gone.sort_by_key(|(t, d)| (*d, *t));
                        let gone: Vec<Ticket> = gone.into_iter().map(|(t, _)| t).collect();
                        model.retain(|(_, d)| *d > now);
                        prop_assert_eq!(queue.expire(at), gone);
                    }
                }
                prop_assert_eq!(queue.len(), model.len());
                prop_assert!(queue.order.len() <= 2 * queue.waiting.len());
            }
        }
    }
}
