//! Which events of a subscriber are sent together, and which are lost when it is slower than they come.

use std::collections::VecDeque;
use std::sync::Arc;

use super::subscription::Buffering;

/// Batches that may wait while one is being sent.
const WAITING_BATCHES: usize = 2;

/// One event, as it is sent.
pub type Rendered = Arc<[u8]>;

/// What was lost, for `platform.logsDropped`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Events.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The queue of one subscriber. Bounded: a few batches.
#[derive(Clone, Debug)]
pub struct Batcher {
    buffering: Buffering,
    events: VecDeque<Rendered>,
    bytes: usize,
    /// When the oldest event came, milliseconds.
    since_ms: u64,
    is_flushed: bool,
    dropped: Dropped,
}

impl Batcher {
    /// Nothing waits.
    pub fn new(buffering: Buffering) -> Self {
        Self {
            buffering,
            events: VecDeque::new(),
            bytes: 0,
            since_ms: 0,
            is_flushed: false,
            dropped: Dropped::default(),
        }
    }

    /// One more event. The newest are those that get lost: what is in the queue is older and nearer to being sent.
    pub fn push(&mut self, event: Rendered, now_ms: u64) {
        let is_full = self.events.len() >= self.buffering.max_items * WAITING_BATCHES
            || self.bytes + event.len() > self.buffering.max_bytes * WAITING_BATCHES;
        if is_full {
            return self.lose(std::slice::from_ref(&event));
        }
        self.push_notice(event, now_ms);
    }

    /// What says that events were lost finds room always. There is at most one for each batch that was taken.
    pub fn push_notice(&mut self, event: Rendered, now_ms: u64) {
        if self.events.is_empty() {
            self.since_ms = now_ms;
        }
        self.bytes += event.len();
        self.events.push_back(event);
    }

    /// These did not arrive.
    pub fn lose(&mut self, events: &[Rendered]) {
        let lengths = events.iter().map(|event| event.len() as u64);
        self.dropped.records += events.len() as u64;
        self.dropped.bytes += lengths.sum::<u64>();
    }

    /// What was lost since this was asked last.
    pub fn take_dropped(&mut self) -> Option<Dropped> {
        let dropped = std::mem::take(&mut self.dropped);
        (dropped != Dropped::default()).then_some(dropped)
    }

    /// All there is now is due, whatever its age.
    pub fn flush(&mut self) {
        self.is_flushed = !self.events.is_empty();
    }

    /// When the next batch is due, milliseconds; at once if that is over. `None`: nothing waits.
    pub fn due_ms(&self) -> Option<u64> {
        let is_large =
            self.events.len() >= self.buffering.max_items || self.bytes >= self.buffering.max_bytes;
        if self.events.is_empty() {
            None
        } else if is_large || self.is_flushed {
            Some(0)
        } else {
            Some(self.since_ms.saturating_add(self.buffering.timeout_ms))
        }
    }

    /// The next batch, if it is due.
    pub fn take(&mut self, now_ms: u64) -> Option<Vec<Rendered>> {
        if self.due_ms().is_none_or(|due_ms| due_ms > now_ms) {
            return None;
        }
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < self.buffering.max_items && bytes < self.buffering.max_bytes {
            let Some(event) = self.events.pop_front() else {
                break;
            };
            bytes += event.len();
            batch.push(event);
        }
        self.bytes -= bytes;
        self.since_ms = now_ms;
        self.is_flushed &= !self.events.is_empty();
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batcher() -> Batcher {
        Batcher::new(Buffering {
            max_items: 3,
            max_bytes: 100,
            timeout_ms: 25,
        })
    }

    fn event(length: usize) -> Rendered {
        vec![b'x'; length].into()
    }

    #[test]
    fn a_batch_is_due_by_age_number_or_size() {
        let mut old = batcher();
        assert_eq!(old.due_ms(), None);
        old.push(event(1), 100);
        old.push(event(1), 120);
        assert_eq!((old.due_ms(), old.take(124)), (Some(125), None));
        assert_eq!(old.take(125).unwrap().len(), 2);
        let mut many = batcher();
        (0..4).for_each(|_| many.push(event(1), 100));
        assert_eq!(many.take(100).unwrap().len(), 3);
        assert_eq!(many.due_ms(), Some(125), "the rest waits anew");
        let mut large = batcher();
        large.push(event(60), 100);
        assert!(large.take(100).is_none());
        large.push(event(60), 100);
        assert_eq!(large.take(100).unwrap().len(), 2);
    }

    #[test]
    fn a_flush_is_for_what_is_there() {
        let mut flushed = batcher();
        flushed.flush();
        flushed.push(event(1), 0);
        assert!(flushed.take(0).is_none(), "there was nothing to flush");
        flushed.flush();
        assert_eq!(flushed.take(0).unwrap().len(), 1);
        flushed.push(event(1), 0);
        assert!(flushed.take(0).is_none());
    }

    #[test]
    fn the_word_that_events_were_lost_is_not_lost_itself() {
        let mut slow = batcher();
        (0..7).for_each(|_| slow.push(event(1), 0));
        let dropped = slow.take_dropped().unwrap();
        assert_eq!(dropped.records, 1);
        slow.push_notice(event(5), 0);
        assert_eq!(slow.take_dropped(), None);
        let sent = [30, 30, 60].map(|now_ms| slow.take(now_ms).unwrap());
        assert_eq!(sent[2][0].len(), 5, "behind what came before");
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let mut slow = batcher();
        (0..8).for_each(|_| slow.push(event(10), 0));
        assert_eq!(
            slow.take_dropped(),
            Some(Dropped {
                records: 2,
                bytes: 20
            })
        );
        assert_eq!(slow.take_dropped(), None, "said once");
        let batch = slow.take(0).unwrap();
        slow.lose(&batch);
        assert_eq!(
            slow.take_dropped(),
            Some(Dropped {
                records: 3,
                bytes: 30
            })
        );
        slow.push(event(200), 0);
        assert_eq!(
            slow.take_dropped().unwrap().bytes,
            200,
            "larger than the queue"
        );
    }
}
