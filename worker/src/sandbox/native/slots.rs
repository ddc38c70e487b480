//! Slots number the running sandboxes; a slot's number gives the sandbox its range of host uids.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// All slots of a driver.
#[derive(Debug, Clone)]
pub(in crate::sandbox) struct Slots(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    limit: u32,
    /// Numbers never used so far begin here.
    fresh: u32,
    /// Given back, below `fresh`.
    free: BTreeSet<u32>,
}

/// One slot; given back on drop, so drop it only once no process of the sandbox is left.
#[derive(Debug)]
pub(in crate::sandbox) struct Slot {
    pub(in crate::sandbox) number: u32,
    slots: Slots,
}

impl Slots {
    pub(in crate::sandbox) fn new(limit: u32) -> Self {
        Self(Arc::new(Mutex::new(State {
            limit,
            fresh: 0,
            free: BTreeSet::new(),
        })))
    }

    /// How many there are.
    pub(in crate::sandbox) fn limit(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).limit as usize
    }

    /// `None` when all are in use.
    pub(in crate::sandbox) fn take(&self) -> Option<Slot> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = match state.free.pop_first() {
            Some(number) => number,
            None if state.fresh < state.limit => {
                state.fresh += 1;
                state.fresh - 1
            }
            None => return None,
        };
        Some(Slot {
            number,
            slots: self.clone(),
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .free
            .insert(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_unique_bounded_and_recycled() {
        let slots = Slots::new(2);
        let (one, two) = (slots.take().unwrap(), slots.take().unwrap());
        assert_eq!((one.number, two.number), (0, 1));
        assert!(slots.take().is_none());
        drop(one);
        assert_eq!(slots.take().unwrap().number, 0);
    }
}
